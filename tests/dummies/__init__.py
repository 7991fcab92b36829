"""Defences that cheat, hide or mask, each with what is behind it: `tests/suites/test_dummies.py` runs them."""
