"""What runs many cells: one after the other in this process, or on machines that Ray holds."""
