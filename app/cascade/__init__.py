"""The runtime: two networks on a CPU within a memory cap. Start at ``pipeline.py``."""
