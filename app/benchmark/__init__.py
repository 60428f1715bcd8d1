"""Time and memory of the whole system, measured from outside on phantom scans."""
