"""Services while the Hub runs: registered and deleted through the API, and taken over at the next start."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from traitlets import TraitError

from ..core.errors import InvalidRequest, ServiceExists, ServiceNotFound
from ..core.scopes.expand import OwnerRef, check_requestable
from ..services.service import Service
from ..store import services as service_store
from .services import ServiceKeeper

if TYPE_CHECKING:
    from ..store.values import ServiceRecord
    from .access import Caller
    from .context import HubContext

#: Members of a stored service that make up its definition, where they are set.
_STORED = ("admin", "url", "info", "display", "oauth_no_confirm", "cwd", "environment", "user", "timeout")


def new_service(app: Any, definition: dict[str, Any]) -> Service:
    """Return a service made of a definition, at its place under the application's addresses.

    Raises TraitError or InvalidName for what is not possible.
    """
    service = Service(parent=app, app=app, base_url=app.base_url, hub=app.hub, log=app.log)
    if app.subdomain_host:
        parts = urlsplit(app.subdomain_host)
        service.domain = app.subdomain_hook(definition["name"], app.domain, "service")
        port = f":{parts.port}" if parts.port else ""
        service.host = f"{parts.scheme}://{service.domain}{port}"
    service.given_keys = set(definition)
    # The name first: other defaults are made of it.
    service.name = definition["name"]
    for name, value in definition.items():
        if name != "name":
            setattr(service, name, value)
    return service


def registry(context: HubContext) -> MutableMapping[str, Service]:
    """Return the one dictionary of services that everybody looks into."""
    services: MutableMapping[str, Service] = context.settings.setdefault("services", {})
    return services


async def register_service(context: HubContext, definition: dict[str, Any], requested_by: Caller) -> Service:
    """Register an unmanaged service and store it. Does not wait for its URL to answer.

    Raises ServiceExists, or InvalidRequest for a definition that is not possible or gives away what the requester does
    not hold. Nothing is stored then.
    """
    name = definition["name"]
    services = registry(context)
    if name in services or await context.database.read(service_store.find, name) is not None:
        raise ServiceExists(name)
    if definition.get("command"):
        raise InvalidRequest("A service with a command has to be in the configuration: the Hub runs it from the start")
    scopes = list(definition.get("oauth_client_allowed_scopes") or ())
    given_away = list(scopes)
    if definition.get("admin"):
        given_away += await context.directory.role_scopes("admin")
    groups = requested_by.groups
    check_requestable(
        given_away, requested_by.scopes, OwnerRef(requested_by.kind, requested_by.name),
        groups_of=lambda user: groups if user == requested_by.name else (),
    )
    try:
        service = new_service(context.app, definition)
    except TraitError as error:
        raise InvalidRequest(str(error)) from error
    if service.oauth_available and not service.oauth_redirect_uri:
        raise InvalidRequest("A service that people log in to needs a url or an oauth_redirect_uri")
    service.from_config = False
    stored = ServiceKeeper.definition(service, scopes)
    record = await context.database.run(service_store.create, stored)
    service.id = record.id
    _announce(context, service)
    return service


async def delete_service(context: HubContext, name: str) -> None:
    """Delete a service that was made through the API, with its tokens and its client. Raises ServiceNotFound."""
    service = registry(context).get(name)
    if service is None:
        raise ServiceNotFound(name)
    await context.database.run(service_store.delete, name)
    registry(context).pop(name, None)
    _no_confirm(context).discard(service.oauth_client_id)
    context.access.forget_all()


def take_over_services(app: Any, context: HubContext) -> None:
    """Put the stored services that were made through the API beside those of the configuration. Blocks."""
    for record in context.database.run_sync(service_store.made_through_api):
        definition = _definition_of(record)
        try:
            service = new_service(app, definition)
        except (TraitError, InvalidRequest) as error:
            app.log.error("Service %r, made through the API, is not possible any more: %s", record.name, error)
            continue
        service.from_config, service.id = False, record.id
        app._service_map[record.name] = service


def _definition_of(record: ServiceRecord) -> dict[str, Any]:
    definition: dict[str, Any] = {"name": record.name}
    for name in _STORED:
        value = getattr(record, name)
        if value is not None:
            definition[name] = value
    if record.oauth_client_allowed_scopes is not None:
        definition["oauth_client_allowed_scopes"] = list(record.oauth_client_allowed_scopes)
    if record.oauth_client_id:
        definition["oauth_client_id"] = record.oauth_client_id
        if record.redirect_uri:
            definition["oauth_redirect_uri"] = record.redirect_uri
    return definition


def _announce(context: HubContext, service: Service) -> None:
    registry(context)[service.name] = service
    if service.oauth_no_confirm:
        _no_confirm(context).add(service.oauth_client_id)
    context.access.forget_all()


def _no_confirm(context: HubContext) -> set[str]:
    clients = context.settings.get("oauth_no_confirm_list")
    if not isinstance(clients, set):
        clients = context.settings["oauth_no_confirm_list"] = set(clients or ())
    return clients
