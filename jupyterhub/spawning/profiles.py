"""Profiles: ready-made settings to choose from, with a form that needs no HTML (spawner-system S7).

The vocabulary is that of kubespawner's profile_list. In a form, and in options, a profile is named by its `slug` if
it has one, else by its display name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from html import escape
from typing import Any

from ..core.errors import InvalidDefinition, InvalidRequest
from ..core.slugs import safe_slug

__all__ = ["check", "find", "form", "key_of", "options_from_form", "options_from_link", "settings_for", "visible"]

_FIELD = re.compile(r"profile-option-(?P<profile>.*?)--(?P<option>.*?)(?P<unlisted>--unlisted-choice)?$")
UNLISTED = "unlisted_choice"
_OWN_VALUE = "__other__"


def key_of(profile: Mapping[str, Any]) -> str:
    """What a form submits for a profile."""
    return str(profile.get("slug") or profile["display_name"])


def _keys(profile: Mapping[str, Any]) -> set[str]:
    """Everything by which a profile may be asked for."""
    name = str(profile["display_name"])
    return {key_of(profile), name, safe_slug(name), re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")}


def check(profiles: Any) -> list[dict[str, Any]]:
    """The profiles as a list. Raises InvalidDefinition, naming the profile, when one does not have its form."""
    if not isinstance(profiles, Sequence) or isinstance(profiles, str):
        raise InvalidDefinition(f"profiles must be a list of dictionaries, not {type(profiles).__name__}")
    for number, profile in enumerate(profiles):
        if not isinstance(profile, Mapping) or not profile.get("display_name"):
            raise InvalidDefinition(f"profiles[{number}] must be a dictionary with a 'display_name'")
    return [dict(profile) for profile in profiles]


def visible(profiles: Sequence[Mapping[str, Any]], groups: Collection[str]) -> list[dict[str, Any]]:
    """The profiles that a member of `groups` may choose."""
    member_of = set(groups)
    found = []
    for profile in profiles:
        for_groups = profile.get("groups", profile.get("allowed_groups"))
        if for_groups is None or member_of & set(for_groups):
            found.append(dict(profile))
    return found


def default_of(profiles: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The profile that is chosen at first: the one marked, else the first."""
    return next((profile for profile in profiles if profile.get("default")), profiles[0])


def find(profiles: Sequence[Mapping[str, Any]], wanted: Any) -> Mapping[str, Any]:
    """The profile asked for, the default one for nothing. Raises InvalidRequest that names the field."""
    if not profiles:
        raise InvalidRequest("profile: there is none that you may choose")
    if wanted in (None, ""):
        return default_of(profiles)
    for profile in profiles:
        if str(wanted) == key_of(profile):
            return profile
    for profile in profiles:
        if str(wanted) in _keys(profile):
            return profile
    offered = ", ".join(key_of(profile) for profile in profiles)
    raise InvalidRequest(f"profile: {wanted!r} is not offered; choose one of {offered}")


def options_from_form(data: Mapping[str, Any]) -> dict[str, Any]:
    """Options from the submitted form: the profile and, of its further choices, those that belong to it."""
    options: dict[str, Any] = {"profile": _one(data.get("profile"))}
    typed: dict[str, str] = {}
    for field, values in data.items():
        match = _FIELD.match(field)
        if match is None:
            if field not in ("profile", "_xsrf"):
                options[field] = values
        elif options["profile"] and match["profile"] == safe_slug(str(options["profile"])):
            (typed if match["unlisted"] else options)[match["option"]] = _one(values) or ""
    for option, text in typed.items():
        if options.get(option) in (None, _OWN_VALUE):
            # What was typed counts only where "something else" was chosen.
            options[option] = {UNLISTED: text}
    return options


def options_from_link(data: Mapping[str, Any]) -> dict[str, Any]:
    """Options from the parameters of an address, where each further choice of a profile goes by its own name."""
    return {
        name: values[0] if isinstance(values, list) and len(values) == 1 else values
        for name, values in options_from_form(data).items()
    }


def _one(values: Any) -> str | None:
    if isinstance(values, list):
        return str(values[0]) if values else None
    return None if values is None else str(values)


def _overrides(definition: Mapping[str, Any]) -> Mapping[str, Any]:
    found = definition.get("overrides", definition.get("kubespawner_override")) or {}
    if not isinstance(found, Mapping):
        raise InvalidDefinition("the overrides of a profile must be a dictionary from setting to value")
    return found


def settings_for(profile: Mapping[str, Any], options: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The settings of a profile and its further choices, in order; later ones win.

    Raises InvalidRequest that names the field when a choice is not offered.
    """
    found = list(_overrides(profile).items())
    for name, option in (profile.get("profile_options") or {}).items():
        choices: Mapping[str, Any] = option.get("choices") or {}
        unlisted: Mapping[str, Any] = option.get("unlisted_choice") or {}
        wanted = options.get(name)
        if wanted is None:
            choice = next((c for c in choices.values() if c.get("default")), next(iter(choices.values()), None))
            found += _overrides(choice or {}).items()
        elif isinstance(wanted, str) and wanted in choices:
            found += _overrides(choices[wanted]).items()
        else:
            found += _typed_settings(name, unlisted, wanted, choices)
    return found


def _typed_settings(
    name: str, unlisted: Mapping[str, Any], wanted: Any, choices: Mapping[str, Any]
) -> list[tuple[str, Any]]:
    text = wanted.get(UNLISTED) if isinstance(wanted, Mapping) else wanted
    if not unlisted.get("enabled") or not isinstance(text, str):
        offered = ", ".join(choices)
        raise InvalidRequest(f"{name}: {wanted!r} is not offered; choose one of {offered}")
    pattern = unlisted.get("validation_regex")
    if pattern and not re.search(pattern, text):
        why = unlisted.get("validation_message") or f"{text!r} does not match {pattern}"
        raise InvalidRequest(f"{name}: {why}")
    return [(setting, _fill_in(value, text)) for setting, value in _overrides(unlisted).items()]


def _fill_in(value: Any, text: str) -> Any:
    """Replace {value}, and nothing else, however deep: what users type is never a format string."""
    if isinstance(value, str):
        return value.replace("{value}", text)
    if isinstance(value, Mapping):
        return {key: _fill_in(item, text) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill_in(item, text) for item in value]
    return value


# -- the form ------------------------------------------------------------------------------------------------


def form(profiles: Sequence[Mapping[str, Any]], chosen: Mapping[str, Any]) -> str:
    """The HTML that asks for a profile; `chosen` are the options of the last start."""
    if not profiles:
        return ""
    try:
        selected = find(profiles, chosen.get("profile"))
    except InvalidRequest:
        selected = default_of(profiles)
    items = "".join(_profile_html(profile, profile is selected, chosen) for profile in profiles)
    return f'<fieldset class="profiles" id="profiles-list"><legend>Choose a profile</legend>{items}</fieldset>'


def _profile_html(profile: Mapping[str, Any], checked: bool, chosen: Mapping[str, Any]) -> str:
    key = key_of(profile)
    slug = safe_slug(key)
    mark = " checked" if checked else ""
    description = profile.get("description") or ""
    about = f'<span class="profile-description">{escape(str(description))}</span>' if description else ""
    options = "".join(
        _option_html(slug, name, option, chosen if checked else {})
        for name, option in (profile.get("profile_options") or {}).items()
    )
    return (
        f'<div class="profile"><input type="radio" name="profile" id="profile-item-{escape(slug)}" '
        f'value="{escape(key)}" required{mark}>'
        f'<label for="profile-item-{escape(slug)}">'
        f'<strong class="profile-name">{escape(str(profile["display_name"]))}</strong>{about}</label>'
        f"{options}</div>"
    )


def _option_html(slug: str, name: str, option: Mapping[str, Any], chosen: Mapping[str, Any]) -> str:
    field = escape(f"profile-option-{slug}--{name}")
    label = escape(str(option.get("display_name") or name))
    choices: Mapping[str, Any] = option.get("choices") or {}
    unlisted: Mapping[str, Any] = option.get("unlisted_choice") or {}
    before = chosen.get(name)
    rows = []
    for key, choice in choices.items():
        selected = before == key if before is not None else bool(choice.get("default"))
        mark = " selected" if selected else ""
        shown = escape(str(choice.get("display_name") or key))
        rows.append(f'<option value="{escape(str(key))}"{mark}>{shown}</option>')
    text_input = ""
    if unlisted.get("enabled"):
        typed = str(before.get(UNLISTED, "")) if isinstance(before, Mapping) else ""
        asked = escape(str(unlisted.get("display_name") or "Other"))
        pattern = unlisted.get("validation_regex")
        limit = f' pattern="{escape(str(pattern))}"' if pattern else ""
        hint = unlisted.get("validation_message")
        title = f' title="{escape(str(hint))}"' if hint else ""
        if rows:
            rows.append(f'<option value="{_OWN_VALUE}"{" selected" if typed else ""}>{asked}</option>')
        text_input = (
            f'<div class="profile-option-other"><label for="{field}--unlisted-choice">{asked}</label>'
            f'<input class="form-control" id="{field}--unlisted-choice" name="{field}--unlisted-choice" '
            f'value="{escape(typed)}"{limit}{title}></div>'
        )
    select = (
        f'<label for="{field}">{label}</label>'
        f'<select class="form-control" id="{field}" name="{field}">{"".join(rows)}</select>'
        if rows
        else ""
    )
    return f'<div class="profile-option">{select}{text_input}</div>'
