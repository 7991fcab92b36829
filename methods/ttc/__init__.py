"""TTC: test-time counterattacks."""
