"""What a spawner shows of its server's record: names, address, state, by their old names too (plugins §3.2)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from traitlets import Any as AnyTrait
from traitlets import Bunch, HasTraits, default, observe

from ..core import lifecycle
from ..core.clock import aware, utcnow
from ..core.lifecycle import State
from ..objects import Address, Server
from .record import RowRecord, SpawnerRecord

__all__ = ["ServerView"]


class _PluginSession(AnyTrait):
    """The session that was passed, else what `_open_session` gives or the user, asked each time that somebody reads."""

    def get(self, obj: Any, cls: Any = None) -> Any:
        if self.name not in obj._trait_values:
            open_session = obj._open_session or obj._from_user("_open_plugin_session")
            if open_session is not None:
                return open_session()
        return super().get(obj, cls)


class _Flag:
    """An old name for what follows from the server's state.

    Assignments never raise. They count where no Hub manages the server (in plugins' tests) and are ignored elsewhere.
    """

    def __init__(self, *states: State) -> None:
        self.states = states

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, spawner: Any, owner: Any = None) -> Any:
        if spawner is None:
            return self
        return spawner._flags.get(self.name, spawner._record.lifecycle in self.states)

    def __set__(self, spawner: Any, value: Any) -> None:
        if spawner._is_managed:
            spawner.log.debug("%s follows from the server's state; an assignment is ignored", self.name)
        else:
            spawner._flags[self.name] = bool(value)


class ServerView(HasTraits):
    """The part of `Spawner` that reads the record. Nothing here asks a database unless a plugin asks for a row."""

    user = AnyTrait()
    orm_spawner = AnyTrait()
    db = AnyTrait()
    _deprecated_db_session = _PluginSession()
    _record = AnyTrait()
    _load_orm_spawner = AnyTrait()

    log: Any
    oauth_access_scopes: Any
    _flags: dict[str, bool]
    _open_session: Callable[[], Any] | None = None

    @default("_record")
    def _record_default(self) -> SpawnerRecord | RowRecord:
        row = self.orm_spawner
        return SpawnerRecord() if row is None else RowRecord(row)

    @observe("orm_spawner")
    def _another_row(self, change: Bunch) -> None:
        if not self._is_managed:
            self._record = SpawnerRecord() if change.new is None else RowRecord(change.new)

    @default("orm_spawner")
    def _orm_spawner_default(self) -> Any:
        if self._load_orm_spawner is not None:
            return self._load_orm_spawner()
        load = self._from_user("_load_orm_spawner")
        return None if load is None else load(self._record)

    @default("db")
    def _db_default(self) -> Any:
        self.log.warning(
            "%s reads Spawner.db, which is deprecated: whatever it asks there, the whole Hub waits for",
            type(self).__name__,
        )
        return self._deprecated_db_session

    def _from_user(self, method: str) -> Any:
        """Return what the user of a managed server can do for it: a function for each of thousands costs more."""
        return getattr(self.user, method, None) if self._is_managed else None

    @property
    def _is_managed(self) -> bool:
        """Whether a Hub writes the record."""
        record = self._trait_values.get("_record")
        return isinstance(record, SpawnerRecord) and record.id > 0

    @property
    def name(self) -> str:
        """The server's name, empty for the default server."""
        return str(self._record.name or "")

    @property
    def display_name(self) -> str:
        """What people call the server."""
        return str(self._record.display_name or self.name)

    @property
    def _log_name(self) -> str:
        user = getattr(self.user, "name", "?")
        return f"{user}:{self.name}" if self.name else str(user)

    @property
    def _progress_url(self) -> str:
        return str(self.user.progress_url(self.name))

    @property
    def server(self) -> Server | None:
        """Where the server listens, or will; None while it is stopped."""
        server: Server | None = self._record.server
        return server

    @server.setter
    def server(self, server: Server | None) -> None:
        self._record.server = server
        self._record.address_known = server is not None

    @property
    def _address(self) -> Address | Server | None:
        """The same for the Hub's own use: whoever only reads makes no object of it."""
        address: Address | Server | None = self._record.address
        return address

    @property
    def _server(self) -> Server | None:
        return self.server

    @_server.setter
    def _server(self, server: Server | None) -> None:
        self.server = server

    @property
    def url(self) -> str:
        """Full URL of the running server, without a slash at the end; empty while there is no address."""
        address = self._address
        return address.url.rstrip("/") if address is not None and self._record.address_known else ""

    @property
    def last_activity(self) -> datetime | None:
        """When the server was last used, aware; never None while it is active. May be assigned."""
        moment: datetime | None = self._record.last_activity
        if moment is None and self.active:
            return self._record.started or utcnow()
        return moment

    @last_activity.setter
    def last_activity(self, moment: datetime | None) -> None:
        self._record.last_activity = None if moment is None else aware(moment)

    _start_pending = _Flag(State.STARTING)
    _waiting_for_response = _Flag(State.CONNECTING)
    _proxy_pending = _Flag(State.ROUTING)
    _spawn_pending = _Flag(State.STARTING, State.CONNECTING, State.ROUTING)
    _stop_pending = _Flag(State.UNDOING, State.STOPPING)
    _check_pending = _Flag(State.CHECKING)
    _rename_pending = _Flag(State.RENAMING)

    @property
    def _failed(self) -> bool:
        failure = self._record.failure
        return self._flags.get("_failed", failure is not None and failure.cause != "cancelled")

    @_failed.setter
    def _failed(self, value: bool) -> None:
        self._flags["_failed"] = bool(value)

    @property
    def pending(self) -> str | None:
        """What the server is in the middle of: ``"spawn"``, ``"stop"``, ``"check"``, ``"rename"``, or None."""
        for what in ("spawn", "stop", "check", "rename"):
            if self._flags.get(f"_{what}_pending"):
                return what
        return lifecycle.pending(self._record.lifecycle)

    @property
    def ready(self) -> bool:
        """Whether the server runs and nothing is pending."""
        if self._is_managed:
            return lifecycle.is_ready(self._record.lifecycle)
        return self.pending is None and self.server is not None

    @property
    def active(self) -> bool:
        """Whether the server runs or something is pending."""
        return bool(self.pending or self.ready)

    @property
    def oauth_scopes(self) -> list[str]:
        """Old name of `oauth_access_scopes`."""
        self.log.warning("Spawner.oauth_scopes is deprecated; use oauth_access_scopes")
        return list(self.oauth_access_scopes)
