"""Training cases: where patches come from and how they are varied."""
