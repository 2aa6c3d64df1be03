"""From a form, a query or a request's body to options, and from options to settings (config §9.5, §9.6)."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tornado import web
from traitlets import TraitError

from ..aio import maybe_future
from ..core.errors import HubError, InvalidRequest
from ..core.overrides import check_group_overrides, group_overrides_for, merged, plan_user_options
from . import profiles
from .hooks import accepts_positional, call_hook

if TYPE_CHECKING:
    from ..spawner import Spawner

__all__ = [
    "FORM_CONVERSIONS",
    "SpawnException",
    "apply_user_options",
    "convert_form",
    "override",
    "overrides_by_entry",
    "passthrough",
    "simple",
]


class SpawnException(web.HTTPError):
    """A start that is refused for a reason the user should read.

    `message` (text) and `message_html` are shown to the user; `reason` is the label in the metrics; `log_message`
    is for the log only; `status_code` answers the request. It is not counted as a failure of the Hub.
    """

    spawn_refused = True

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        log_message: str = "",
        message_html: str = "",
        status_code: int = 400,
    ) -> None:
        super().__init__(status_code, log_message or message, reason=reason)
        self.jupyterhub_message = message
        if message_html:
            self.jupyterhub_html_message = message_html


class OptionRefused(web.HTTPError):
    """A chosen option does not fit; the person reads the message."""

    def __init__(self, message: str) -> None:
        super().__init__(400, "%s", message)
        self.jupyterhub_message = message


def simple(form: Mapping[str, Any]) -> dict[str, Any]:
    """Lists of one text become that text, and "on" (a ticked box) becomes True."""
    options: dict[str, Any] = {}
    for name, values in form.items():
        if isinstance(values, list) and len(values) == 1:
            (values,) = values
            if values == "on":
                values = True
        options[name] = values
    return options


def passthrough(form: Mapping[str, Any], spawner: Spawner | None = None) -> dict[str, Any]:
    """The data as they are; the chosen profile's options, if a spawner with profiles is given."""
    return profiles.options_from_form(form) if spawner is not None and spawner.profiles else dict(form)


# What the names stand for. Reading the setting gives the function, because plugins call what they read.
FORM_CONVERSIONS: Mapping[str, Any] = {"passthrough": passthrough, "simple": simple}


def convert_form(spawner: Spawner, form: Mapping[str, Any]) -> Any:
    """What the form's data become; awaitable if the deployment's own function is async.

    Raises ValueError for a setting that is neither a function nor one of the two known names.
    """
    how: Any = spawner.options_from_form
    if isinstance(how, str):
        # A class attribute of a plugin's, which is no setting's value, is still the name.
        how = FORM_CONVERSIONS.get(how, how)
    if callable(how):
        try:
            wants_spawner = "spawner" in inspect.signature(how).parameters
        except ValueError:
            wants_spawner = False
        return how(form, spawner=spawner) if wants_spawner else how(form)
    raise ValueError(
        f"{type(spawner).__name__}.options_from_form is {how!r}; "
        "it may be 'passthrough', 'simple' or a function of the form's data"
    )


async def apply_user_options(spawner: Spawner, options: Mapping[str, Any]) -> None:
    """Let the chosen options take effect, before each start.

    First `load_user_options`, then the setting `apply_user_options`. Raises an HTTPError with status 400, with the
    reason for the user to read, unless it already is an HTTPError or one of our own refusals.
    """
    try:
        handled = False
        loader = spawner.load_user_options
        overridden = getattr(loader, "__func__", loader) is not _base(spawner).load_user_options
        # kubespawner defines it without argument and calls it by itself.
        if (overridden or spawner.profiles) and accepts_positional(loader, 1):
            handled = True
            await maybe_future(loader(dict(options)))
        setting: Any = spawner.apply_user_options
        if setting is None:
            if options and not handled:
                spawner.log.warning(
                    "%s: nothing is set up to apply the chosen options: %s",
                    spawner._log_name,
                    ", ".join(sorted(map(str, options))),
                )
        elif callable(setting):
            await maybe_future(call_hook(spawner, "apply_user_options", dict(options)))
        else:
            _assign(spawner, options, setting)
    except InvalidRequest as error:
        raise OptionRefused(str(error)) from error
    except (web.HTTPError, HubError):
        raise
    except Exception as error:
        spawner.log.exception("%s: the chosen options cannot be applied", spawner._log_name)
        raise OptionRefused(f"The chosen options cannot be applied: {str(error) or type(error).__name__}") from error


def _base(spawner: Spawner) -> Any:
    from ..spawner import Spawner

    return Spawner


def _assign(spawner: Spawner, options: Mapping[str, Any], mapping: Mapping[str, str]) -> None:
    settings = [name for name in set(mapping.values()) if hasattr(spawner, name)]
    plan = plan_user_options(options, mapping, settings)
    for setting, (option, value) in plan.assign.items():
        try:
            setattr(spawner, setting, value)
        except TraitError:
            trait = spawner.traits().get(setting)
            if not isinstance(value, str) or trait is None:
                raise
            # Forms know only text; the setting knows how to read its own kind from that.
            setattr(spawner, setting, trait.from_string(value))
        spawner.log.debug("%s: option %s sets %s", spawner._log_name, option, setting)
    if plan.unmapped:
        spawner.log.warning(
            "%s: no setting is named for the options %s",
            spawner._log_name,
            ", ".join(map(str, plan.unmapped)),
        )
    for setting in plan.missing:
        spawner.log.error("%s has no setting %s, which apply_user_options names", type(spawner).__name__, setting)


async def overrides_by_entry(spawner: Spawner, groups: list[str]) -> list[dict[str, Any]]:
    """The overrides that apply to a member of `groups`, one dictionary per entry, in order.

    Raises InvalidDefinition when `group_overrides` does not have its form.
    """
    overrides: Any = spawner.group_overrides
    if callable(overrides):
        overrides = await maybe_future(call_hook(spawner, "group_overrides"))
    if not overrides:
        return []
    check_group_overrides(overrides)
    entries: dict[str, dict[str, Any]] = {}
    for key, setting, value in group_overrides_for(groups, overrides):
        entries.setdefault(key, {})[setting] = value
    return list(entries.values())


def override(spawner: Spawner, overrides: Mapping[str, Any]) -> None:
    """Assign each setting; dictionaries are merged into those that are there, functions called with the spawner.

    Raises TraitError, which names the setting, for a value that does not fit.
    """
    for setting, value in overrides.items():
        if callable(value):
            value = value(spawner)
        setattr(spawner, setting, merged(getattr(spawner, setting, None), value))
