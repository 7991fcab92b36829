"""HPT-GPD: an image tower that learns from another plain CLIP what its own adversarial images show."""
