"""The table of servers that this process works with: the only writer of a server's state."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from ..core import lifecycle
from ..core.errors import LeaseLost, ServerNotFound
from ..core.lifecycle import Event, State
from ..store import runs
from .handles import Handle
from .launch import ALL_STEPS, Launch

if TYPE_CHECKING:
    from ..user import User
    from .context import HubContext

#: States in which a start is under way.
STARTING = frozenset({State.STARTING, State.CONNECTING, State.ROUTING})


class ServerTable:
    """Every server in motion or running, how many there are in which state, and their legal moves."""

    def __init__(self, context: HubContext) -> None:
        self._context = context
        self._handles: dict[int, Handle] = {}
        self._counts: Counter[State] = Counter()

    # Looking

    def count_pending_starts(self) -> int:
        return sum(self._counts[state] for state in STARTING)

    def count_active(self) -> int:
        return sum(number for state, number in self._counts.items() if lifecycle.is_active(state))

    def active_handles(self) -> list[Handle]:
        return [handle for handle in self._handles.values() if lifecycle.is_active(handle.state)]

    def every_handle(self) -> list[Handle]:
        return list(self._handles.values())

    def find(self, user: User, server_name: str) -> Handle | None:
        """Return the handle of a server, or None when nothing has been done with it since it was last stopped."""
        record = user.records.get(server_name)
        return self._handles.get(record.id) if record else None

    def handle(self, user: User, server_name: str) -> Handle:
        """Return the handle of a server, made if there is none. Raises ServerNotFound."""
        record = user.records.get(server_name)
        if record is None:
            raise ServerNotFound(user.name, server_name)
        handle = self._handles.get(record.id)
        if handle is None or handle.record is not record:
            handle = self._handles[record.id] = Handle(user, server_name, record)
            self._counts[record.lifecycle] += 1
        return handle

    def forget(self, handle: Handle) -> None:
        """Drop the handle of a server that is stopped; its facts are in the record and in the database."""
        if self._handles.get(handle.record.id) is handle:
            del self._handles[handle.record.id]
            self._counts[handle.state] -= 1

    # Moving

    def set_state(self, handle: Handle, state: State) -> None:
        """Say in which state a server is: at once, in memory; whoever claims a server writes it down later."""
        self._counts[handle.state] -= 1
        self._counts[state] += 1
        handle.record.lifecycle = state

    async def move(self, handle: Handle, event: Event | str, *, stored: bool = True, **changes: Any) -> None:
        """One legal move: first the row, under our fence, then what this process believes.

        With `stored` false the row follows with the next move. Raises IllegalMove, or LeaseLost when another Hub owns
        the server by now.
        """
        state = lifecycle.move(handle.state, Event(event))
        assert handle.launch is not None
        if not stored:
            self.set_state(handle, state)
            return
        await self._context.database.run(
            runs.move,
            handle.record.id,
            handle.launch.fence,
            state=state.value,
            phases=[phase.to_dict() for phase in handle.launch.phases],
            **changes,
        )
        self.set_state(handle, state)
        if "spawner_state" in changes:
            handle.record.state = changes["spawner_state"]

    async def move_or_go_on(self, handle: Handle, event: Event, **changes: Any) -> None:
        """As `move`, but what cannot be stored is logged and moves in memory only. Raises LeaseLost."""
        try:
            await self.move(handle, event, **changes)
        except LeaseLost:
            raise
        except Exception as error:
            # Taking back must go on even when the database is away; the end of the run is written with patience.
            self._context.log.error("The move '%s' of %s is not stored: %s", event.value, handle.log_name, error)
            self.set_state(handle, lifecycle.move(handle.state, event))

    # Runs

    def bind(self, handle: Handle, launch: Launch) -> Launch:
        """Make a run the present one of a server; its steps move the server through this table."""
        launch.move = lambda event, **changes: self.move(handle, event, **changes)
        handle.launch = launch
        return launch

    def launch_of(self, handle: Handle) -> Launch:
        """Return the present run; of a server that an earlier Hub process started: everything begun, nothing remembered."""
        if handle.launch is not None:
            return handle.launch
        launch = Launch(
            self._context,
            handle.user,
            handle.spawner,
            handle.record.id,
            handle.record.fence,
            self._context.bulletin.board(handle.record.id) or self._context.bulletin.open(handle.record.id),
            begun=list(ALL_STEPS),
        )
        return self.bind(handle, launch)
