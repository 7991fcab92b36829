"""MMCoA: adversarial fine-tuning of both encoders on attacked images and attacked texts."""
