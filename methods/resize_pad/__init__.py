"""Resize and pad: the image at a random size, in a random place on black."""
