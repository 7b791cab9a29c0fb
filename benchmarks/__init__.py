"""Measurements against what users would pick instead. Run from the repository: `python -m benchmarks.peers`."""
