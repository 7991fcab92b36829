"""CLIPure-Diff: purification of the image embedding by the likelihood of a diffusion prior."""
