"""TAPT: test-time adversarial prompt tuning."""
