"""Pure functions on volumes: reading, orientation, resampling, intensity, components."""
