"""The spawner classes, under the names that plugins and configuration know (plugins §3)."""

from .spawning.base import Spawner
from .spawning.local import LocalProcessSpawner, SimpleLocalProcessSpawner
from .spawning.localprocess import _quote_safe, set_user_setuid
from .spawning.options import SpawnException

__all__ = [
    "LocalProcessSpawner",
    "SimpleLocalProcessSpawner",
    "SpawnException",
    "Spawner",
    "_quote_safe",
    "set_user_setuid",
]

# Messages and help name them by the path under which everybody imports them.
for _public in (Spawner, LocalProcessSpawner, SimpleLocalProcessSpawner):
    _public.__module__ = __name__
