"""What a run costs before it runs: passes, hours, schedules, and what fits into a budget."""
