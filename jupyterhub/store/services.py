"""Services made through the API; those of the configuration are in `provisioning` (services-and-proxy A5)."""

from __future__ import annotations

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from .. import orm
from ..core import secrets
from ..core.errors import ServiceExists, ServiceNotFound
from . import tokens
from .changes import note_change
from .provisioning import ServiceDefinition, store_service_address, store_service_client
from .values import ServiceRecord


def record_of(row: orm.Service) -> ServiceRecord:
    """Return the value of a row."""
    return ServiceRecord(
        id=row.id,
        name=row.name,
        admin=bool(row.admin),
        url=row.url,
        oauth_client_allowed_scopes=_texts(row.oauth_client_allowed_scopes),
        info=row.info,
        display=row.display,
        oauth_no_confirm=row.oauth_no_confirm,
        command=_texts(row.command),
        cwd=row.cwd,
        environment=row.environment,
        user=row.user,
        timeout=row.timeout,
        from_config=row.from_config is not False,
        oauth_client_id=row.oauth_client_id,
        redirect_uri=row.oauth_client.redirect_uri if row.oauth_client is not None else None,
        roles=tuple(sorted(role.name for role in row.roles)),
    )


def _texts(value: list[str] | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(value)


def create(session: Session, service: ServiceDefinition) -> ServiceRecord:
    """Store a new service with its address, client and token. Raises ServiceExists, InvalidRequest or TokenExists."""
    if orm.Service.find(session, service.name) is not None:
        raise ServiceExists(service.name)
    row = orm.Service(name=service.name, from_config=False)
    for column, value in service.fields.items():
        if column in orm.Service.__table__.columns and column not in ("id", "name", "oauth_client_id"):
            setattr(row, column, value)
    session.add(row)
    session.flush()
    if service.fields.get("admin"):
        role_id = session.scalar(select(orm.Role.id).where(orm.Role.name == "admin"))
        session.execute(
            insert(orm.service_role_map).values(service_id=row.id, role_id=role_id, managed_by_auth=False)
        )
        note_change(session, orm.Service, row.id)
    store_service_address(session, row, service)
    store_service_client(session, row, service)
    if service.api_token:
        tokens.issue(
            session, service_id=row.id, scopes=["inherit"], note=service.token_note, token=service.api_token,
            rounds=secrets.USER_PROVIDED_ROUNDS,
        )
    session.refresh(row)
    return record_of(row)


def delete(session: Session, name: str) -> None:
    """Delete a service with its tokens, its address and its client. Raises ServiceNotFound."""
    row = orm.Service.find(session, name)
    if row is None:
        raise ServiceNotFound(name)
    session.delete(row)


def made_through_api(session: Session) -> list[ServiceRecord]:
    """Return the services that are not from the configuration."""
    rows = session.scalars(select(orm.Service).where(orm.Service.from_config.is_(False)).order_by(orm.Service.id))
    return [record_of(row) for row in rows]


def find(session: Session, name: str) -> ServiceRecord | None:
    """Return the service of this name, or None."""
    row = orm.Service.find(session, name)
    return None if row is None else record_of(row)


def roles_of_services(session: Session) -> dict[str, list[str]]:
    """Return the names of the roles of every service that has any."""
    found: dict[str, list[str]] = {}
    table = orm.service_role_map
    rows = session.execute(
        select(orm.Service.name, orm.Role.name)
        .join(table, table.c.service_id == orm.Service.id)
        .join(orm.Role, orm.Role.id == table.c.role_id)
        .order_by(orm.Role.name)
    )
    for service, role in rows:
        found.setdefault(service, []).append(role)
    return found
