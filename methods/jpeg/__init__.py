"""JPEG: the image written as JPEG and read again before it is classified."""
