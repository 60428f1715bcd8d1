"""CT scans made from label maps: anatomy, tissue intensities, scanner."""
