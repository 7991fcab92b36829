"""What papers state of how attacks and defences work, each as one number that is measured here."""
