"""T-VSS: the features of an image's views are steered together, inside the subspace in which they differ."""
