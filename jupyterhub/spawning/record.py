"""What a spawner knows of its server: plain values that the runtime keeps current.

The runtime gives every spawner a `SpawnerRecord`. A spawner that a plugin's test makes from a database row gets a
`RowRecord`, which reads and writes that row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..core import lifecycle
from ..core.clock import aware
from ..core.lifecycle import Failure, State
from ..objects import Address, Server

if TYPE_CHECKING:
    from ..store.values import ServerRecord

__all__ = ["RowRecord", "SpawnerRecord"]


@dataclass(slots=True)
class SpawnerRecord:
    """One server of one user. `lifecycle` is written by the server manager and by nobody else.

    `id` and `fence` are 0 where there is no row; times are aware.
    """

    id: int = 0
    user_id: int = 0
    name: str = ""
    display_name: str | None = None
    state: dict[str, Any] = field(default_factory=dict)
    user_options: dict[str, Any] | None = None
    started: datetime | None = None
    last_activity: datetime | None = None
    oauth_client_id: str | None = None
    lifecycle: State = State.STOPPED
    failure: Failure | None = None
    fence: int = 0
    #: The Hub process that has the run, by its row's number.
    owner: int | None = None
    output_tail: list[str] = field(default_factory=list)
    #: Restarts of this run nobody asked for, oldest first: ``{"at": ISO time, "reason": text}``.
    restarts: list[dict[str, str]] = field(default_factory=list)
    #: Since when the server fails its health checks.
    unhealthy_since: datetime | None = None
    #: Where the server listens, or will: a `Server` once somebody has asked for that.
    address: Address | Server | None = None
    #: `address` is where the server listens, and not a placeholder.
    address_known: bool = False
    #: A plugin started its server anew by itself; the manager stores and routes the new address.
    address_changed: bool = False
    #: What the spawner wants to keep has changed while its server runs; the manager stores it.
    state_changed: bool = False
    #: Called without arguments after each poll that the spawner makes by itself; may be a coroutine function.
    on_polled: Callable[[], Any] | None = None

    @classmethod
    def from_server(cls, row: ServerRecord) -> SpawnerRecord:
        """Make one from a stored value."""
        record = cls(id=row.id, user_id=row.user_id, name=row.name)
        record.take(row)
        return record

    def take(self, row: ServerRecord) -> None:
        """Take over what the database says."""
        self.display_name = row.display_name
        self.state = dict(row.state or {})
        self.user_options = dict(row.user_options or {})
        self.started = row.started
        self.last_activity = row.last_activity
        self.oauth_client_id = row.oauth_client_id
        address = row.address
        self.address, self.address_known, self.address_changed = None, False, False
        if address is not None:
            self.address = Address(
                address.proto, address.ip, address.port, address.base_url, address.cookie_name or ""
            )
            self.address_known = bool(address.ip)
        run = row.run
        if run is None:
            self.lifecycle, self.failure, self.fence, self.output_tail = State.STOPPED, None, 0, []
            self.owner, self.restarts = None, []
            return
        self.lifecycle = State(run.state)
        self.failure = Failure.from_dict(run.failure) if run.failure else None
        self.fence, self.owner = run.fence, run.owner
        self.output_tail = list(run.output_tail)
        self.restarts = list(run.data.get("restarts", ()))

    @property
    def server(self) -> Server | None:
        """The address as the object that plugins know. What they assign to it counts."""
        address = self.address
        if isinstance(address, Address):
            values = asdict(address)
            if not address.port:
                # An old spawner may listen on the port that it finds here: a free one.
                del values["port"]
            address = self.address = Server(**values)
        return address

    @server.setter
    def server(self, value: Server | None) -> None:
        self.address = value

    # What templates and lists ask of something that stands for a server.

    @property
    def orm_spawner(self) -> SpawnerRecord:
        """Itself: it has the attributes of the row."""
        return self

    @property
    def active(self) -> bool:
        """Whether the server runs or is in the middle of something."""
        return lifecycle.is_active(self.lifecycle)

    @property
    def ready(self) -> bool:
        """Whether the server runs and is routed."""
        return lifecycle.is_ready(self.lifecycle)

    @property
    def pending(self) -> str | None:
        """What the server is in the middle of."""
        return lifecycle.pending(self.lifecycle)


class RowRecord:
    """The same attributes over an `orm.Spawner` row, for spawners made by hand."""

    def __init__(self, row: Any) -> None:
        self.row = row
        self.failure: Failure | None = None
        self.fence = 0
        self.output_tail: list[str] = []
        self.restarts: list[dict[str, str]] = []
        self.unhealthy_since: datetime | None = None
        self.address_changed = False
        self.address_known = False
        self.on_polled: Callable[[], Any] | None = None
        self._server: Server | None = None

    @property
    def lifecycle(self) -> State:
        """Ready with an address, else stopped: nobody manages this server."""
        return State.READY if self.server is not None else State.STOPPED

    @property
    def id(self) -> int:
        """Of the row; 0 before it is stored."""
        return int(self.row.id or 0)

    @property
    def user_id(self) -> int:
        """Of the owner's row."""
        return int(self.row.user_id or 0)

    @property
    def name(self) -> str:
        """The server's name, empty for the default server."""
        return str(self.row.name or "")

    @property
    def display_name(self) -> str | None:
        """The label shown."""
        value: str | None = self.row.display_name
        return value

    @property
    def oauth_client_id(self) -> str | None:
        """Identifier of the server's OAuth client, if it has one."""
        client = getattr(self.row, "oauth_client", None)
        return None if client is None else str(client.identifier)

    @property
    def state(self) -> dict[str, Any]:
        """What the spawner keeps over restarts."""
        return dict(self.row.state or {})

    @state.setter
    def state(self, value: dict[str, Any]) -> None:
        self.row.state = dict(value)

    @property
    def user_options(self) -> dict[str, Any] | None:
        """The options of the last start."""
        value: dict[str, Any] | None = self.row.user_options
        return value

    @user_options.setter
    def user_options(self, value: dict[str, Any] | None) -> None:
        self.row.user_options = value

    @property
    def started(self) -> datetime | None:
        """When the present run began."""
        return aware(self.row.started) if self.row.started else None

    @started.setter
    def started(self, value: datetime | None) -> None:
        self.row.started = aware(value).replace(tzinfo=None) if value else None

    @property
    def last_activity(self) -> datetime | None:
        """When the server was last used."""
        return aware(self.row.last_activity) if self.row.last_activity else None

    @last_activity.setter
    def last_activity(self, value: datetime | None) -> None:
        self.row.last_activity = aware(value).replace(tzinfo=None) if value else None

    @property
    def server(self) -> Server | None:
        """The address in the row, read anew when the row has another one by now."""
        row = getattr(self.row, "server", None)
        if row is None:
            if self._server is not None and self._server.orm_server is not None:
                self._server = None
        elif self._server is None or self._server.orm_server is not row:
            self._server = Server(orm_server=row)
        if self._server is not None and self._server.ip:
            self.address_known = True
        return self._server

    @server.setter
    def server(self, value: Server | None) -> None:
        former = getattr(self.row, "server", None)
        self._server = value
        new = value.orm_server if value is not None else None
        if former is not None and former is not new:
            from sqlalchemy import inspect

            session = inspect(former).session
            if session is not None:
                session.delete(former)
        self.row.server = new
        self.address_known = value is not None

    @property
    def address(self) -> Server | None:
        """The same as `server`."""
        return self.server
