"""TTE: test-time transformation ensembling."""
