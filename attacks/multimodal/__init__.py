"""Attacks on images and sentences together, where each side is attacked with an eye on the other."""
