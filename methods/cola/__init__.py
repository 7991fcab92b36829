"""COLA: optimal transport between image views and class descriptions, in the span of the text."""
