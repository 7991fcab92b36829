"""ΔCLIP: a CLIP pre-trained from scratch on adversarial images (Double Visual Defense)."""
