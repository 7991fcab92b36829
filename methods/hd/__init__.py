"""HD: hedge defence, away from every class at once."""
