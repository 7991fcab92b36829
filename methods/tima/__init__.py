"""TIMA: image tower and class texts tuned with each other in view."""
