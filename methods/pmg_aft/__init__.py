"""PMG-AFT: adversarial fine-tuning guided by the frozen original."""
