"""MAC: two views of an image attack themselves back, as far as a weak view moves their feature."""
