"""Fixtures and helpers that test suites of plugins import (plugins §13)."""
