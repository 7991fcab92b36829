"""TGA-ZSR: adversarial fine-tuning guided by text-guided attention."""
