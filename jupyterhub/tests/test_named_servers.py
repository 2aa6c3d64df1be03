"""The fixture `named_servers` under the name by which suites import it; there is no test in here."""

from .conftest import named_servers

__all__ = ["named_servers"]
