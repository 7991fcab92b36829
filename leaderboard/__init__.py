"""Statistics, tables and the static site made from outcomes."""
