"""TPT: test-time prompt tuning."""
