"""Anti-adversary: a step towards the model's own first answer."""
