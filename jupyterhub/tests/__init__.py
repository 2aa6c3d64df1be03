"""Fixtures and helpers that test suites of plugins import (plugins §13).

They need pytest, pytest-asyncio in its automatic mode, and requests. There is no test in here.
"""
