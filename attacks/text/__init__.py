"""Attacks on the text side: one word of a sentence for another, where the text tower feels it most."""
