"""TeCoA: text-guided adversarial fine-tuning."""
