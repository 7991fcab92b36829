"""C-AVP: a frame around the picture for each class."""
