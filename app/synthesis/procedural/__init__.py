"""The anatomy of phantoms, laid down by hand: one file a region."""
