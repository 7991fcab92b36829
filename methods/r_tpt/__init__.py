"""R-TPT: robust test-time prompt tuning."""
