"""From configuration to rows: roles, users, groups, services, tokens and memberships, in one transaction (rbac §6).

Proportional to what the configuration names and to what has to change, never to the number of registered users.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, func, insert, literal, select, update
from sqlalchemy.orm import Session

from .. import orm
from ..core import secrets
from ..core.errors import InvalidDefinition
from ..core.names import check_user_name
from ..core.roles import RolePlan, StoredRole, membership_change, plan_roles
from ..orm.base import naive_now
from .changes import note_change

_MAPS = {"users": orm.user_role_map, "groups": orm.group_role_map, "services": orm.service_role_map}
_MODELS: Mapping[str, Any] = {"users": orm.User, "groups": orm.Group, "services": orm.Service}
_COLUMN = {"users": "user_id", "groups": "group_id", "services": "service_id"}

#: Columns of a service that its definition may give.
_SERVICE_COLUMNS = (
    "admin",
    "url",
    "oauth_client_allowed_scopes",
    "info",
    "display",
    "oauth_no_confirm",
    "command",
    "cwd",
    "environment",
    "user",
    "timeout",
)


@dataclass(frozen=True)
class ServiceDefinition:
    """A checked entry of `JupyterHub.services`. `fields` holds the keys that were given and have a column."""

    name: str
    fields: Mapping[str, Any]
    api_token: str = ""
    token_note: str = "from config"
    managed: bool = False
    client_id: str = ""
    redirect_uri: str = ""
    client_scopes: tuple[str, ...] = ()
    oauth_available: bool = False
    #: (proto, ip, port, base_url) of a service with a URL.
    address: tuple[str, str, int, str] | None = None


@dataclass(frozen=True)
class Provisioning:
    """What the configuration asks for. Names of users are normalised already."""

    roles: Sequence[Mapping[str, Any]] = ()
    extra_user_scopes: Collection[str] = ()
    managed_roles: Sequence[Mapping[str, Any]] = ()
    reset_managed_roles: bool = False
    admin_users: Collection[str] = ()
    allowed_users: Collection[str] = ()
    blocked_users: Collection[str] = ()
    groups: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    services: Sequence[ServiceDefinition] = ()
    #: token text → user name, and token text → service name.
    user_tokens: Mapping[str, str] = field(default_factory=dict)
    service_tokens: Mapping[str, str] = field(default_factory=dict)
    trust_provided_tokens: bool = False
    #: False for commands beside a Hub that runs: services it has are left as they are, their tokens above all.
    change_services: bool = True


@dataclass
class Provisioned:
    """What came of it: sentences for the log, and the names of users that were created."""

    warnings: list[str] = field(default_factory=list)
    created_users: list[str] = field(default_factory=list)
    user_count: int = 0


def provision(session: Session, wanted: Provisioning) -> Provisioned:
    """Bring roles, users, groups, services, tokens and memberships to what is configured.

    Raises InvalidDefinition, InvalidName, ScopeNotFound or KeyError, naming what is wrong; nothing is changed then.
    """
    done = Provisioned()
    first_roles = session.scalar(select(func.count()).select_from(orm.Role)) == 0
    _ensure_hub_client(session)
    plan = _store_roles(session, wanted, done)
    if first_roles:
        _give_everybody_default_roles(session)
    _store_users(session, wanted, done)
    _store_groups(session, wanted, done)
    if wanted.change_services:
        for service in wanted.services:
            _store_service(session, service, done)
        listed = {service.name for service in wanted.services} | set(wanted.service_tokens.values())
        _drop_unlisted_services(session, listed)
        session.flush()
        _store_tokens(session, wanted, done)
    else:
        _make_missing_services(session, wanted.services)
    _store_memberships(session, plan, wanted, done)
    _reconcile_admins(session, plan, wanted)
    _strip_blocked(session, wanted.blocked_users)
    session.execute(
        update(orm.User)
        .where(orm.User.created.is_(None))
        .values(created=func.coalesce(orm.User.last_activity, naive_now()))
    )
    session.flush()
    done.user_count = session.scalar(select(func.count()).select_from(orm.User)) or 0
    return done


def _ensure_hub_client(session: Session) -> None:
    """Tokens issued by the Hub itself belong to this client (database §3)."""
    found = session.scalar(select(orm.OAuthClient.id).where(orm.OAuthClient.identifier == "jupyterhub"))
    if found is None:
        session.add(orm.OAuthClient(identifier="jupyterhub", description="The Hub", secret="", redirect_uri=""))
        session.flush()


# Roles


def _store_roles(session: Session, wanted: Provisioning, done: Provisioned) -> RolePlan:
    rows = {row.name: row for row in session.scalars(select(orm.Role))}
    stored = [
        StoredRole(row.name, row.description or "", tuple(row.scopes or ()), bool(row.managed_by_auth))
        for row in rows.values()
    ]
    plan = plan_roles(wanted.roles, stored, wanted.extra_user_scopes)
    done.warnings += plan.warnings
    for role in plan.create:
        session.add(orm.Role(name=role.name, description=role.description, scopes=sorted(role.scopes)))
    for role in plan.update:
        row = rows[role.name]
        row.description, row.scopes = role.description, sorted(role.scopes)
    for name in plan.delete:
        done.warnings.append(f"Role {name!r} is no longer configured and is deleted")
        session.delete(rows[name])
    session.flush()
    if wanted.managed_roles or wanted.reset_managed_roles:
        _store_managed_roles(session, wanted, done)
    return plan


def _store_managed_roles(session: Session, wanted: Provisioning, done: Provisioned) -> None:
    """Roles that the authenticator brings at start-up (rbac §7)."""
    from ..core.roles import check_role

    definitions = [check_role(each) for each in wanted.managed_roles]
    if wanted.reset_managed_roles:
        names = {definition.name for definition in definitions}
        for row in session.scalars(select(orm.Role).where(orm.Role.managed_by_auth.is_(True))).all():
            if row.name not in names:
                session.delete(row)
        for table in _MAPS.values():
            session.execute(delete(table).where(table.c.managed_by_auth.is_(True)))
        session.flush()
    for definition in definitions:
        found = session.scalars(select(orm.Role).where(orm.Role.name == definition.name)).first()
        if found is None:
            found = orm.Role(name=definition.name, managed_by_auth=True, scopes=[])
            session.add(found)
        row = found
        if definition.description:
            row.description = definition.description
        if definition.scopes:
            row.scopes = sorted(definition.scopes)
        session.flush()
        for kind in _MAPS:
            names_given = definition.members(kind)
            if names_given is not None:
                _set_members(session, row, kind, names_given, done, managed=True)


def _give_everybody_default_roles(session: Session) -> None:
    """The first start after a version without roles (rbac §6.2, step 9)."""
    role_id = session.scalar(select(orm.Role.id).where(orm.Role.name == "user"))
    session.execute(
        insert(orm.user_role_map).from_select(
            ["user_id", "role_id", "managed_by_auth"],
            select(orm.User.id, literal(role_id), literal(False)),
        )
    )


# Users and groups


def _user(session: Session, name: str, done: Provisioned, *, admin: bool = False, roles: bool = True) -> orm.User:
    row = orm.User.find(session, name)
    if row is None:
        check_user_name(name)
        row = orm.User(name=name, admin=admin)
        session.add(row)
        session.flush()
        done.created_users.append(name)
        if roles:
            _grant(session, "users", row.id, "user")
    return row


def _grant(session: Session, kind: str, entity_id: int, role_name: str, *, managed: bool = False) -> None:
    table, column = _MAPS[kind], _COLUMN[kind]
    role_id = session.scalar(select(orm.Role.id).where(orm.Role.name == role_name))
    present = session.execute(
        select(table.c.role_id).where(table.c[column] == entity_id, table.c.role_id == role_id)
    ).first()
    if present is None and role_id is not None:
        session.execute(insert(table).values({column: entity_id, "role_id": role_id, "managed_by_auth": managed}))
        note_change(session, _MODELS[kind], entity_id)


def _strip(session: Session, kind: str, entity_id: int, role_name: str) -> None:
    table, column = _MAPS[kind], _COLUMN[kind]
    role_id = session.scalar(select(orm.Role.id).where(orm.Role.name == role_name))
    session.execute(delete(table).where(table.c[column] == entity_id, table.c.role_id == role_id))
    note_change(session, _MODELS[kind], entity_id)


def _store_users(session: Session, wanted: Provisioning, done: Provisioned) -> None:
    for name in wanted.admin_users:
        row = _user(session, name, done, admin=True)
        row.admin = True
        _grant(session, "users", row.id, "user")
        _grant(session, "users", row.id, "admin")
    for name in wanted.allowed_users:
        row = _user(session, name, done)
        _grant(session, "users", row.id, "user")


def _store_groups(session: Session, wanted: Provisioning, done: Provisioned) -> None:
    """Members are added, never removed; properties replace what is there; other groups stay (rbac §6.3)."""
    for name, definition in wanted.groups.items():
        row = orm.Group.find(session, name)
        if row is None:
            row = orm.Group(name=name)
            session.add(row)
            session.flush()
        if "properties" in definition:
            row.properties = dict(definition["properties"] or {})
        for user_name in definition.get("users") or ():
            user = _user(session, user_name, done)
            table = orm.user_group_map
            there = session.execute(
                select(table.c.user_id).where(table.c.user_id == user.id, table.c.group_id == row.id)
            ).first()
            if there is None:
                session.execute(insert(table).values(user_id=user.id, group_id=row.id))


# Services


def _store_service(session: Session, service: ServiceDefinition, done: Provisioned) -> None:
    row = orm.Service.find(session, service.name)
    if row is not None and row.from_config is False:
        done.warnings.append(
            f"Service {service.name!r} was made through the API; the entry of that name in the configuration is ignored"
        )
        return
    if row is None:
        row = orm.Service(name=service.name, from_config=True)
        session.add(row)
        session.flush()
        if service.fields.get("admin"):
            _grant(session, "services", row.id, "admin")
    for column in _SERVICE_COLUMNS:
        if column in service.fields:
            setattr(row, column, service.fields[column])
    row.from_config = True
    store_service_address(session, row, service)
    store_service_client(session, row, service)


def store_service_address(session: Session, row: orm.Service, service: ServiceDefinition) -> None:
    """A service with a URL has an address row, a new one at every definition."""
    row.server = None
    session.flush()
    if service.address is not None:
        proto, ip, port, base_url = service.address
        row.server = orm.Server(proto=proto, ip=ip, port=port, base_url=base_url, cookie_name=service.client_id)
        session.flush()


def store_service_client(session: Session, row: orm.Service, service: ServiceDefinition) -> None:
    """A service that people log in to has an OAuth client whose secret is its token (services-and-proxy A2)."""
    identifier = service.client_id
    client = session.scalars(select(orm.OAuthClient).where(orm.OAuthClient.identifier == identifier)).first()
    if not service.oauth_available:
        row.oauth_client = None
        return
    if client is None:
        client = orm.OAuthClient(identifier=identifier)
        session.add(client)
    client.description = service.name
    client.redirect_uri = service.redirect_uri
    rounds = secrets.GENERATED_ROUNDS if service.token_note != "from config" else secrets.USER_PROVIDED_ROUNDS
    # Hashing a chosen secret costs milliseconds on purpose; it is not done again while the stored hash matches.
    if not service.api_token:
        client.secret = ""
    elif not (client.secret and secrets.compare_token(client.secret, service.api_token)):
        client.secret = secrets.hash_token(service.api_token, rounds=rounds)
    client.allowed_scopes = sorted({*service.client_scopes, f"access:services!service={service.name}"})
    session.flush()
    row.oauth_client = client
    session.flush()


def _make_missing_services(session: Session, services: Iterable[ServiceDefinition]) -> None:
    """Give services their rows, so that roles can name them; the Hub's next start does the rest."""
    for service in services:
        if orm.Service.find(session, service.name) is None:
            session.add(orm.Service(name=service.name, from_config=True))
    session.flush()


def _drop_unlisted_services(session: Session, names: Collection[str]) -> None:
    for row in session.scalars(select(orm.Service).where(orm.Service.from_config.is_not(False))).all():
        if row.name not in names:
            session.delete(row)


# Tokens


def _store_tokens(session: Session, wanted: Provisioning, done: Provisioned) -> None:
    for service in wanted.services:
        if service.api_token:
            row = orm.Service.find(session, service.name)
            if row is not None and row.from_config is not False:
                _token(session, service.api_token, service_id=row.id, note=service.token_note, wanted=wanted)
    for token, name in wanted.service_tokens.items():
        row = orm.Service.find(session, name)
        if row is None:
            done.warnings.append(f"service_tokens names the service {name!r}, which is not configured; it is created")
            row = orm.Service(name=name, from_config=True)
            session.add(row)
            session.flush()
        _token(session, token, service_id=row.id, note="from config", wanted=wanted)
    for token, name in wanted.user_tokens.items():
        user = _user(session, name, done, roles=False)
        _token(session, token, user_id=user.id, note="from config", wanted=wanted)


def _token(
    session: Session,
    token: str,
    *,
    note: str,
    wanted: Provisioning,
    user_id: int | None = None,
    service_id: int | None = None,
) -> None:
    secrets.check_token_text(token)
    found = orm.APIToken.find(session, token)
    if found is not None:
        if found.user_id == user_id and found.service_id == service_id:
            return
        session.delete(found)
        session.flush()
    chosen = note == "from config" and not wanted.trust_provided_tokens
    session.add(
        orm.APIToken(
            user_id=user_id,
            service_id=service_id,
            client_id="jupyterhub",
            note=note,
            scopes=["inherit"],
            prefix=secrets.token_prefix(token),
            hashed=secrets.hash_token(
                token, rounds=secrets.USER_PROVIDED_ROUNDS if chosen else secrets.GENERATED_ROUNDS
            ),
        )
    )
    session.flush()


# Memberships


def _member_names(session: Session, row: orm.Role, kind: str) -> set[str]:
    table, model = _MAPS[kind], _MODELS[kind]
    return set(
        session.scalars(
            select(model.name).join(table, table.c[_COLUMN[kind]] == model.id).where(table.c.role_id == row.id)
        )
    )


def _set_members(
    session: Session, row: orm.Role, kind: str, names: Iterable[str], done: Provisioned, *, managed: bool = False
) -> None:
    wanted, present = set(names), _member_names(session, row, kind)
    for name in present - wanted:
        entity = session.scalar(select(_MODELS[kind].id).where(_MODELS[kind].name == name))
        if entity is not None:
            _strip(session, kind, entity, row.name)
    _add_members(session, row.name, kind, [name for name in names if name not in present], done, managed=managed)


def _add_members(
    session: Session, role_name: str, kind: str, names: Iterable[str], done: Provisioned, *, managed: bool = False
) -> None:
    for name in names:
        if kind == "users":
            entity: Any = _user(session, name, done)
        elif kind == "groups":
            entity = orm.Group.find(session, name)
            if entity is None:
                entity = orm.Group(name=name)
                session.add(entity)
                session.flush()
        else:
            entity = orm.Service.find(session, name)
            if entity is None:
                raise InvalidDefinition(
                    f"Role {role_name!r} names the service {name!r}, which is not in JupyterHub.services"
                )
        _grant(session, kind, entity.id, role_name, managed=managed)


def _store_memberships(session: Session, plan: RolePlan, wanted: Provisioning, done: Provisioned) -> None:
    for definition in plan.configured:
        row = session.scalars(select(orm.Role).where(orm.Role.name == definition.name)).one()
        for kind in _MAPS:
            if kind == "users" and definition.name == "user" and definition.users is None:
                continue
            if kind == "users" and definition.name == "admin" and definition.users is not None:
                names = tuple(dict.fromkeys([*definition.users, *wanted.admin_users]))
                _set_members(session, row, kind, names, done)
                continue
            if definition.name == "admin" and definition.members(kind) is None:
                # An omitted kind does not demote whoever has the flag (rbac §6.2, step 8).
                continue
            change = membership_change(
                definition, kind, _member_names(session, row, kind), managed=bool(row.managed_by_auth)
            )
            for name in change.remove:
                entity = session.scalar(select(_MODELS[kind].id).where(_MODELS[kind].name == name))
                if entity is not None:
                    _strip(session, kind, entity, definition.name)
            _add_members(session, definition.name, kind, change.add, done)


def _reconcile_admins(session: Session, plan: RolePlan, wanted: Provisioning) -> None:
    """The flag and the role `admin` say the same afterwards (rbac §6.2, step 8)."""
    admin = next((definition for definition in plan.configured if definition.name == "admin"), None)
    role = session.scalars(select(orm.Role).where(orm.Role.name == "admin")).one()
    for kind in ("users", "services"):
        table, model, column = _MAPS[kind], _MODELS[kind], _COLUMN[kind]
        members = select(table.c[column]).where(table.c.role_id == role.id)
        for entity in session.scalars(select(model).where(model.id.in_(members), model.admin.is_not(True))).all():
            entity.admin = True
        outside = session.scalars(select(model).where(model.admin.is_(True), model.id.not_in(members))).all()
        listed = admin is not None and admin.members(kind) is not None
        for entity in outside:
            if listed:
                entity.admin = False
            else:
                _grant(session, kind, entity.id, "admin")


def _strip_blocked(session: Session, names: Collection[str]) -> None:
    for name in names:
        row = orm.User.find(session, name)
        if row is None:
            continue
        row.admin = False
        session.execute(delete(orm.user_role_map).where(orm.user_role_map.c.user_id == row.id))
        session.execute(delete(orm.user_group_map).where(orm.user_group_map.c.user_id == row.id))
        note_change(session, orm.User, row.id)


def drop_stale_clients(session: Session, keep: Collection[str]) -> int:
    """Delete OAuth clients that belong to nothing any more: no server that runs, no service, not the Hub itself."""
    running = select(orm.Spawner.oauth_client_id).where(orm.Spawner.server_id.is_not(None))
    used = {name for name in session.scalars(running) if name} | set(keep) | {"jupyterhub"}
    stale = [
        row
        for row in session.scalars(select(orm.OAuthClient)).all()
        if row.identifier not in used and row.service is None
    ]
    for row in stale:
        session.delete(row)
    return len(stale)
