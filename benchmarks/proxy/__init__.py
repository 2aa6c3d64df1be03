"""Measure the data plane beside nginx and configurable-http-proxy: `python -m benchmarks.proxy`."""
