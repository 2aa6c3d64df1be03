"""Proxies: the contract, and the classes that control one."""

from .base import Proxy, ProxyFailedToStart
from .builtin import BuiltinProxy
from .chp import ConfigurableHTTPProxy
from .memory import InMemoryProxy

__all__ = ["BuiltinProxy", "ConfigurableHTTPProxy", "InMemoryProxy", "Proxy", "ProxyFailedToStart"]
