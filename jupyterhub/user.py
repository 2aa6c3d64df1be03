"""`User` and `UserDict`: what plugins and handlers hold (plugins §8.1).

A wrapper carries values (`record`, `records`) that the runtime keeps current. The rows that plugins know
(`orm_user` and everything reached through it) are loaded into the plugins' own session when somebody asks for one,
so a site whose plugins never look has no such session. Nothing of ours reads them.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from . import orm
from .core import lifecycle
from .core.clock import utcnow
from .core.errors import ServerNotFound
from .core.names import server_client_id
from .core.urls import server_path, subdomain_hook_idna, url_escape_path, url_path_join
from .spawning.record import SpawnerRecord
from .spawning.standin import stand_in
from .store import loading, runs
from .store import users as user_store

if TYPE_CHECKING:
    from .runtime.context import HubContext
    from .spawner import Spawner
    from .store.values import ServerRecord, UserRecord

#: Wrappers kept in memory beside those with an active server.
IDLE_USERS_KEPT = 2000

_OWN_ATTRIBUTES = frozenset(
    {"settings", "record", "records", "spawners", "_orm_user", "_auth_refreshed", "spawner", "_context", "db"}
)


class SpawnerDict(MutableMapping[str, Any]):
    """Server name → spawner. A spawner is built on first access if the server is known (plugins §8.1).

    Its keys are the spawners that exist and every active server, whether or not anybody has asked for its spawner:
    whoever walks over them, as a proxy's check of its routes does, must not miss a server that runs.
    """

    def __init__(self, user: User) -> None:
        self._user = user
        self._spawners: dict[str, Spawner] = {}

    def __getitem__(self, name: str) -> Spawner:
        spawner = self._spawners.get(name)
        if spawner is None:
            spawner = self._spawners[name] = self._user._new_spawner(name)
        return spawner

    def __setitem__(self, name: str, spawner: Spawner) -> None:
        self._spawners[name] = spawner

    def __delitem__(self, name: str) -> None:
        del self._spawners[name]

    def __contains__(self, name: object) -> bool:
        if name in self._spawners:
            return True
        record = self._user.records.get(name) if isinstance(name, str) else None
        return record is not None and record.active

    def __iter__(self) -> Iterator[str]:
        unasked = [name for name in self._user.active_names() if name not in self._spawners]
        return iter([*self._spawners, *unasked])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def live(self, name: str) -> Spawner | None:
        """Return the spawner that exists already, or None; unlike `get`, which builds one."""
        return self._spawners.get(name)

    def discard(self, name: str) -> Spawner | None:
        return self._spawners.pop(name, None)


class User:
    """One user of the Hub.

    Made from an `orm.User` row (as plugins' tests do) or from a `UserRecord` with its servers (as the runtime does).
    Attributes not found here are those of the row.
    """

    #: Monotonic time of the last successful refresh of the log-in; None until the first.
    _auth_refreshed: float | None = None

    def __init__(
        self,
        orm_user: orm.User | UserRecord,
        settings: Mapping[str, Any] | None = None,
        db: Any = None,
        *,
        servers: list[ServerRecord] | None = None,
    ) -> None:
        self.settings: Mapping[str, Any] = settings if settings is not None else {}
        self._orm_user: orm.User | None = None
        self.records: dict[str, SpawnerRecord] = {}
        if isinstance(orm_user, orm.User):
            self._orm_user = orm_user
            self.record: UserRecord | None = None
        else:
            self.record = orm_user
            for server in servers or ():
                self.records[server.name] = SpawnerRecord.from_server(server)
        self.spawners = SpawnerDict(self)

    # The row, for plugins

    @property
    def orm_user(self) -> orm.User:
        """The row in the plugins' session; loaded on first use."""
        if self._orm_user is None:
            assert self.record is not None
            row = self.context.database.plugin_session.get(orm.User, self.record.id)
            if row is None:
                raise KeyError(f"User {self.record.name!r} is no longer in the database")
            self._orm_user = row
        return self._orm_user

    @property
    def db(self) -> Any:
        """The session of the row, for plugins."""
        from sqlalchemy.orm import object_session

        return object_session(self.orm_user)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in _OWN_ATTRIBUTES:
            raise AttributeError(name)
        return getattr(self.orm_user, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OWN_ATTRIBUTES or name in type(self).__dict__ or not hasattr(orm.User, name):
            object.__setattr__(self, name, value)
        else:
            setattr(self.orm_user, name, value)

    def __repr__(self) -> str:
        return f"<User({self.name!r} {len(self.spawners)} spawners)>"

    # Values

    @property
    def context(self) -> HubContext:
        context: HubContext = self.settings["context"]
        return context

    @property
    def id(self) -> int:
        return int(self.record.id if self.record is not None else self.orm_user.id)

    @property
    def name(self) -> str:
        return str(self.record.name if self.record is not None else self.orm_user.name)

    @name.setter
    def name(self, value: str) -> None:
        self.orm_user.name = value

    @property
    def admin(self) -> bool:
        return bool(self.record.admin if self.record is not None else self.orm_user.admin)

    @admin.setter
    def admin(self, value: bool) -> None:
        self.orm_user.admin = value

    @property
    def cookie_id(self) -> str:
        return str(self.record.cookie_id if self.record is not None else self.orm_user.cookie_id)

    @property
    def group_names(self) -> tuple[str, ...]:
        """Names of the user's groups, from the record: no database is asked."""
        if self.record is not None:
            return self.record.groups
        return tuple(group.name for group in self.orm_user.groups)

    @property
    def log(self) -> Any:
        from traitlets.log import get_logger

        return self.settings.get("log") or get_logger()

    @property
    def authenticator(self) -> Any:
        return self.settings.get("authenticator")

    @property
    def spawner_class(self) -> Any:
        return self.settings.get("spawner_class")

    @property
    def allow_named_servers(self) -> bool:
        return bool(self.settings.get("allow_named_servers", False))

    # Names and addresses

    @property
    def escaped_name(self) -> str:
        """The name as one path segment (config §12)."""
        return url_escape_path(self.name)

    @property
    def json_escaped_name(self) -> str:
        """The name inside a JSON text that stands in an HTML attribute."""
        return json.dumps(self.name)[1:-1]

    @property
    def dns_safe_name(self) -> str:
        """The name as a label of a host name (config §12)."""
        return subdomain_hook_idna(self.name, "x", "user").removesuffix(".x")

    @property
    def domain(self) -> str:
        """Host name of this user's servers, when each user has a domain of their own."""
        hook = self.settings.get("subdomain_hook")
        domain = str(self.settings.get("domain", ""))
        return str((hook if callable(hook) else subdomain_hook_idna)(self.name, domain, "user"))

    @property
    def host(self) -> str:
        """`scheme://host[:port]` of this user's servers under subdomains, else empty."""
        subdomain_host = str(self.settings.get("subdomain_host", ""))
        if not subdomain_host:
            return ""
        from urllib.parse import urlparse

        parsed = urlparse(subdomain_host)
        port = f":{parsed.port}" if parsed.port else ""
        return f"{parsed.scheme}://{self.domain}{port}"

    @property
    def base_url(self) -> str:
        """Path of the user's servers: `{base}user/{name}/`."""
        return url_path_join(str(self.settings.get("base_url", "/")), "user", self.escaped_name) + "/"

    @property
    def prefix(self) -> str:
        return self.base_url

    @property
    def proxy_spec(self) -> str:
        """Route specification of the default server."""
        if self.settings.get("subdomain_host"):
            return url_path_join(self.domain, self.base_url)
        return self.base_url

    @property
    def url(self) -> str:
        """Where a browser finds the default server: a path, or with a host under subdomains."""
        if self.settings.get("subdomain_host"):
            return url_path_join(self.host, self.base_url)
        return self.base_url

    def server_path(self, server_name: str = "") -> str:
        """Path of one server, with slashes on both ends."""
        return server_path(str(self.settings.get("base_url", "/")), self.name, server_name)

    def server_url(self, server_name: str = "") -> str:
        """Where a browser finds one server."""
        return url_path_join(self.url, url_escape_path(server_name), "/") if server_name else self.url

    def public_url(self, server_name: str = "") -> str:
        """Absolute address of one server, or an empty text when the Hub does not know its own."""
        public = self.settings.get("public_url")
        if self.host:
            return url_path_join(self.host, self.server_path(server_name))
        if not public:
            return ""
        host = public if isinstance(public, str) else f"{public.scheme}://{public.netloc}"
        return url_path_join(host, self.server_path(server_name))

    def progress_url(self, server_name: str = "") -> str:
        """Path of the event stream of one server's start."""
        parts = [self.settings["hub"].base_url, "api/users", self.escaped_name]
        parts += ["servers", url_escape_path(server_name), "progress"] if server_name else ["server/progress"]
        return url_path_join(*parts)

    # Servers

    @property
    def spawner(self) -> Spawner:
        """The default server's spawner."""
        return self.spawners[""]

    @spawner.setter
    def spawner(self, spawner: Spawner) -> None:
        self.spawners[""] = spawner

    @property
    def server(self) -> Any:
        return self.spawner.server

    @property
    def running(self) -> bool:
        """Whether the default server is ready."""
        record = self.records.get("")
        if record is not None:
            return lifecycle.is_ready(record.lifecycle)
        return "" in self.spawners and bool(self.spawner.ready)

    @property
    def active(self) -> bool:
        """Whether any server is running or in motion."""
        if any(lifecycle.is_active(record.lifecycle) for record in self.records.values()):
            return True
        return any(spawner.active for spawner in self.spawners.values())

    def active_names(self) -> list[str]:
        return [name for name, record in self.records.items() if lifecycle.is_active(record.lifecycle)]

    async def ensure_server(self, server_name: str = "", display_name: str = "") -> SpawnerRecord:
        """Make sure that the server has a row, and that its display name is the one given, if any."""
        record = self.records.get(server_name)
        if record is not None and (not display_name or record.display_name == display_name):
            return record
        row = await self.context.database.run(runs.ensure, self.id, server_name, display_name)
        if record is None:
            record = self.records[server_name] = SpawnerRecord.from_server(row)
        else:
            record.display_name = row.display_name
        return record

    def renew_spawner(self, server_name: str) -> Spawner:
        """Return the spawner for a new start; one whose last start failed is thrown away first."""
        spawner = self.spawners.live(server_name)
        if spawner is not None and getattr(spawner, "_failed", False):
            self.drop_spawner(server_name)
        record = self.records.get(server_name)
        if record is not None:
            record.failure = None
        return self.spawners[server_name]

    def drop_spawner(self, server_name: str, *, keep: bool = False) -> None:
        """Forget the spawner object of a stopped server; `keep` leaves one that explains its failure."""
        if not keep:
            self.spawners.discard(server_name)

    def note_renamed(self, old: str, new: str) -> None:
        """The server's row has another name now."""
        self.spawners.discard(old)
        record = self.records.pop(old, None)
        if record is not None:
            if record.display_name in (old, None):
                record.display_name = new
            record.name = new
            self.records[new] = record

    def note_removed(self, server_name: str) -> None:
        """The server's row is gone."""
        self.spawners.discard(server_name)
        self.records.pop(server_name, None)

    def _new_spawner(self, server_name: str, spawner_class: Any = None, **kwargs: Any) -> Spawner:
        """Construct a spawner with everything the Hub gives to one (plugins §3.1).

        Raises ServerNotFound (also a ValueError) when there is no such server.
        """
        settings = self.settings
        spawner_class = spawner_class or self.spawner_class
        arguments: dict[str, Any] = {
            "user": self,
            "hub": settings.get("hub"),
            "authenticator": self.authenticator,
            "config": settings.get("config"),
            "proxy_spec": url_path_join(self.proxy_spec, url_escape_path(server_name), "/"),
            "oauth_client_id": server_client_id(self.name, server_name),
            "cookie_options": settings.get("cookie_options") or {},
            "cookie_host_prefix_enabled": bool(settings.get("cookie_host_prefix_enabled", False)),
            "trusted_alt_names": settings.get("trusted_alt_names") or [],
            "public_url": self.public_url(server_name),
        }
        record = self.records.get(server_name)
        if record is not None:
            arguments["_record"] = record
            arguments["user_options"] = dict(record.user_options or {})
            state = record.state
        else:
            row = self._find_or_make_row(server_name)
            arguments["orm_spawner"] = row
            arguments["user_options"] = dict(row.user_options or {})
            arguments["_deprecated_db_session"] = self.db
            state = row.state
        public_hub_url = self._public_hub_url()
        if public_hub_url:
            arguments["public_hub_url"] = public_hub_url
        if settings.get("internal_ssl"):
            arguments.update(
                internal_ssl=True,
                internal_trust_bundles=settings.get("internal_trust_bundles"),
                internal_certs_location=settings.get("internal_certs_location"),
            )
        arguments.update(kwargs)

        def make() -> Spawner:
            spawner: Spawner = spawner_class(**arguments)
            spawner.load_state(dict(state or {}))
            return spawner

        try:
            return make()
        except Exception as error:
            if record is None:
                raise
            return stand_in(spawner_class, arguments, state or {}, make, error)

    def _public_hub_url(self) -> str:
        public = self.settings.get("public_url")
        hub = self.settings.get("hub")
        if not public or hub is None:
            return ""
        host = public if isinstance(public, str) else f"{public.scheme}://{public.netloc}"
        return url_path_join(host, hub.base_url)

    def _find_or_make_row(self, server_name: str) -> orm.Spawner:
        """For wrappers made by hand from a row, as plugins' tests do."""
        if self.record is not None:
            raise ServerNotFound(self.name, server_name)
        row = self.orm_user.orm_spawners.get(server_name)
        if row is None:
            if server_name:
                raise ServerNotFound(self.name, server_name)
            row = orm.Spawner(name=server_name, display_name=server_name)
            self.orm_user._orm_spawners.append(row)
            self.db.add(row)
            self.db.commit()
        return row

    def _open_plugin_session(self) -> Any:
        """Return the session for old plugins' code about one of this user's servers."""
        return self.context.database.plugin_session

    def _load_orm_spawner(self, record: SpawnerRecord) -> Any:
        """Return a server's row in that session."""
        return self.context.database.plugin_session.get(orm.Spawner, record.id)

    def get_spawner(self, server_name: str = "", replace_failed: bool = False) -> Spawner:
        """Return a server's spawner; `replace_failed` gives a new one after a failed start."""
        if replace_failed and server_name in self.spawners and getattr(self.spawners[server_name], "_failed", False):
            self.drop_spawner(server_name)
        return self.spawners[server_name]

    def get_or_create_spawner(
        self, server_name: str = "", display_name: str = "", replace_failed: bool = False
    ) -> Spawner:
        """Like `get_spawner`, for callers outside the runtime; a missing named server is made in the database."""
        if server_name not in self.records and self.record is not None:
            row = self.context.database.run_sync(runs.ensure, self.id, server_name, display_name)
            self.records[server_name] = SpawnerRecord.from_server(row)
        return self.get_spawner(server_name, replace_failed=replace_failed)

    def _delete_spawner(self, name_or_spawner: Any) -> None:
        name = name_or_spawner if isinstance(name_or_spawner, str) else name_or_spawner.name
        self.spawners.discard(name)

    async def delete_spawners(self) -> None:
        """Let every server's spawner clean up for good; called before the user is deleted."""
        for name in list(self.records):
            await self.context.servers.clean_up_forever(self, name)

    def all_spawners(self, include_default: bool = True) -> Iterator[Any]:
        """Yield something with the attributes of a spawner for each server: the live one, or its record."""
        if self.record is None:
            for name, row in sorted(self.orm_user.orm_spawners.items()):
                if name or include_default:
                    yield self.spawners.live(name) or row
            return
        for name in sorted(self.records):
            if name or include_default:
                yield self.spawners.live(name) or self.records[name]

    async def spawn(
        self, server_name: str = "", display_name: str = "", options: dict[str, Any] | None = None, handler: Any = None
    ) -> str:
        """Start a server and wait until it is ready or has failed. Returns its address.

        Raises what the start raises.
        """
        start = await self.context.servers.start(
            self, server_name, display_name=display_name, options=options, handler=handler
        )
        await start.done
        return self.server_url(server_name)

    async def stop(self, server_name: str = "") -> None:
        """Stop a server and wait until it is gone. A stopped one is left alone."""
        from .core.errors import ServerNotRunning

        try:
            stop = await self.context.servers.stop(self, server_name)
        except ServerNotRunning:
            return
        await stop.done

    # Authentication state, groups, roles

    async def get_auth_state(self) -> dict[str, Any] | None:
        """Return the decrypted authentication state, or None if there is none or it cannot be read (config §8.5)."""
        return await self.context.logins.get_auth_state(self)

    async def save_auth_state(self, auth_state: dict[str, Any] | None) -> None:
        """Encrypt and store the authentication state; None deletes it."""
        await self.context.logins.save_auth_state(self, auth_state)

    async def refresh_auth(self, handler: Any) -> Any:
        return await self.context.logins.refresh(self, handler)

    def sync_groups(self, group_names: list[str]) -> None:
        """Make the user's groups exactly these, for callers outside the runtime."""
        self.context.database.run_sync(user_store.sync_groups, self.id, list(group_names))

    def sync_roles(self, roles: list[dict[str, Any]]) -> None:
        """Make the user's direct roles exactly these, for callers outside the runtime."""
        self.context.database.run_sync(user_store.sync_roles, self.id, list(roles))

    def new_api_token(self, token: str | None = None, **kwargs: Any) -> str:
        """Issue a token for this user through the row, for plugins."""
        return str(self.orm_user.new_api_token(token=token, **kwargs))

    async def remember_activity(self) -> None:
        """Note that the user did something just now."""
        self.context.activity.note_user(self.id, utcnow())


class UserDict(MutableMapping[Any, User]):
    """The cache behind `app.users`: look-up by wrapper, row, name or id; misses are loaded for plugins' sake.

    Wrappers with an active server stay; of the others the most recently used `IDLE_USERS_KEPT`.
    """

    def __init__(self, db_factory: Any = None, settings: MutableMapping[str, Any] | None = None) -> None:
        self._db_factory = db_factory
        self.settings: MutableMapping[str, Any] = settings if settings is not None else {}
        self._by_id: OrderedDict[int, User] = OrderedDict()
        self._ids: dict[str, int] = {}

    @property
    def db(self) -> Any:
        return self._db_factory() if callable(self._db_factory) else self._db_factory

    @property
    def context(self) -> HubContext:
        context: HubContext = self.settings["context"]
        return context

    # The cache, for the runtime

    def cached(self, key: str | int) -> User | None:
        """Return the wrapper in memory with this name or id, or None. No database is asked."""
        user_id = self._ids.get(key) if isinstance(key, str) else key
        if user_id is None:
            return None
        user = self._by_id.get(user_id)
        if user is not None:
            self._by_id.move_to_end(user_id)
        return user

    def keep(self, user: User) -> User:
        """Put a wrapper in the cache, or return the one that is there for the same user."""
        present = self._by_id.get(user.id)
        if present is not None:
            return present
        self._by_id[user.id] = user
        self._ids[user.name] = user.id
        self._shrink()
        return user

    def _shrink(self) -> None:
        excess = len(self._by_id) - IDLE_USERS_KEPT
        if excess <= 0:
            return
        # Active users are moved to the young end while looking, so that each is met once per pass at most.
        for user_id in list(self._by_id)[: excess * 2]:
            user = self._by_id[user_id]
            if user.active:
                self._by_id.move_to_end(user_id)
            elif excess > 0:
                self.forget(user)
                excess -= 1

    def forget(self, user: User) -> None:
        """Drop a wrapper."""
        self._by_id.pop(user.id, None)
        for name in (
            [name for name, user_id in self._ids.items() if user_id == user.id]
            if (self._ids.get(user.name) != user.id)
            else [user.name]
        ):
            del self._ids[name]

    def renamed(self, user: User, old_name: str) -> None:
        if self._ids.get(old_name) == user.id:
            del self._ids[old_name]
        self._ids[user.name] = user.id

    def count_active_users(self) -> dict[str, int]:
        """Count users by what their servers are doing, as metrics and plugins ask."""
        counts = {"total": 0, "active": 0, "pending": 0, "ready": 0}
        for user in self._by_id.values():
            for record in user.records.values():
                if not lifecycle.is_active(record.lifecycle):
                    continue
                counts["active"] += 1
                counts["ready" if lifecycle.is_ready(record.lifecycle) else "pending"] += 1
        counts["total"] = len(self._by_id)
        return counts

    # The mapping that plugins know

    def from_orm(self, orm_user: orm.User) -> User:
        """Return the wrapper for a row, from the cache or freshly loaded."""
        user = self.cached(int(orm_user.id))
        if user is None:
            loaded = self.context.database.run_sync(loading.load_user, int(orm_user.id))
            if loaded is None:
                raise KeyError(orm_user.name)
            record, servers = loaded
            user = self.keep(User(record, self.settings, servers=servers))
        user._orm_user = orm_user
        return user

    def _find(self, key: Any) -> User | None:
        if isinstance(key, User):
            key = key.id
        elif isinstance(key, orm.User):
            return self.from_orm(key)
        user = self.cached(key)
        if user is not None:
            return user
        loaded = self.context.database.run_sync(loading.load_user, key)
        if loaded is None:
            return None
        record, servers = loaded
        return self.keep(User(record, self.settings, servers=servers))

    def __getitem__(self, key: Any) -> User:
        user = self._find(key)
        if user is None:
            raise KeyError(key)
        return user

    def get(self, key: Any, default: Any = None) -> Any:
        return self._find(key) or default

    def __contains__(self, key: object) -> bool:
        if isinstance(key, (User, orm.User)):
            key = key.id
        return isinstance(key, (str, int)) and self.cached(key) is not None

    def __setitem__(self, key: Any, user: User) -> None:
        self.keep(user)

    def __delitem__(self, key: Any) -> None:
        user = self[key]
        self.forget(user)

    def __iter__(self) -> Iterator[int]:
        return iter(list(self._by_id))

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, orm_user: orm.User) -> User:
        return self.from_orm(orm_user)

    def delete(self, key: Any) -> None:
        """Delete a user's row and forget the wrapper, for callers outside the runtime."""
        user = self[key]
        self.context.database.run_sync(user_store.delete, user.id)
        self.forget(user)
