"""Bit-depth reduction: fewer levels of each colour before the image is classified."""
