"""FARE: unsupervised adversarial fine-tuning of the image embedding."""
