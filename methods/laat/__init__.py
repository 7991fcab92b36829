"""LAAT: adversarial training towards expanded text anchors."""
