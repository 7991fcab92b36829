"""RN: random noise on the image."""
