"""CLIPure-Cos: purification of the image embedding towards a null prompt."""
