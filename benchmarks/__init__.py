"""Measurements, not tests: `python -m benchmarks`, or `make bench`."""
