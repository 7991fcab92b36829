"""APT: adversarial prompt tuning of the text context."""
