"""What stands for a spawner that cannot be made at the moment, as when its constructor asks an engine that is away.

Without it nobody could see their page, and a Hub that is started meanwhile would not come up at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..aio import maybe_future
from .base import Spawner

__all__ = ["StandIn", "stand_in"]


class StandIn(Spawner):
    """Starts nothing, and says why. A server that runs goes on, and is asked for as soon as the real one can be made.

    It counts as failed, so the next start tries to make the real one before anything else.
    """

    _make: Callable[[], Spawner]
    _why: Exception
    _state: Mapping[str, Any]
    _real: Spawner | None = None

    def _found(self) -> Spawner:
        if self._real is None:
            self._real = self._make()
        return self._real

    async def start(self) -> Any:
        """Raise what the constructor raised."""
        raise self._why

    async def poll(self) -> int | None:
        """Ask the real one. Raises what its constructor raises as long as it cannot be made."""
        status: int | None = await maybe_future(self._found().poll())
        return status

    async def stop(self, now: bool = False) -> None:
        """Let the real one stop the server. Raises what its constructor raises as long as it cannot be made."""
        await maybe_future(self._found().stop(now=now))

    def get_state(self) -> dict[str, Any]:
        """What was stored, as long as nobody knows better."""
        return dict(self._state) if self._real is None else self._real.get_state()

    def clear_state(self) -> None:
        """Forget what was stored."""
        super().clear_state()
        self._state = {}
        if self._real is not None:
            self._real.clear_state()

    async def run_post_stop_hook(self) -> None:
        """Run that of the real one."""
        if self._real is None:
            await super().run_post_stop_hook()
        else:
            await self._real.run_post_stop_hook()

    async def delete_forever(self) -> None:
        """Let the real one delete what it keeps. Raises what its constructor raises as long as it cannot be made."""
        await maybe_future(self._found().delete_forever())

    @property
    def _failed(self) -> bool:
        return True

    @_failed.setter
    def _failed(self, value: bool) -> None:
        pass


def stand_in(
    spawner_class: type[Spawner],
    arguments: Mapping[str, Any],
    state: Mapping[str, Any],
    make: Callable[[], Spawner],
    why: Exception,
) -> StandIn:
    """Return what stands for a spawner of the class until `make` gives one; `why` is what it raised."""
    # Of the same name, by which configuration and messages know it.
    kind = type(spawner_class.__name__, (StandIn,), {"__module__": spawner_class.__module__})
    spawner: StandIn = kind(**arguments)
    spawner._make, spawner._why, spawner._state = make, why, dict(state)
    spawner.log.error("The %s of %s cannot be made", spawner_class.__name__, spawner._log_name, exc_info=why)
    return spawner
