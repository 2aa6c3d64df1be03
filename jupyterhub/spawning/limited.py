"""Enforced limits of local servers: the part of `LocalProcessSpawner` that gives each server a group of its own."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from traitlets import CaselessStrEnum, Integer, TraitType

from ..traitlets import TopicTraits
from .hooks import accepts_positional
from .limits import Choice, Group, LimitError, LimitMechanism, Limits, Usage, choose, mechanism_of, unenforced_in
from .limits.mechanism import KINDS, MEMORY, SETTINGS

__all__ = ["LimitedServer", "limit_notes"]

HELP = "docs/how-to/limit-resources.md tells how to get them enforced"


DYING_SECONDS = 5.0
"""How long a killed process may take to be gone."""


class LimitedServer(TopicTraits):
    """Makes, finds again and removes the group of a server; knows whether its memory limit ended it."""

    process_limit = Integer(
        None,
        allow_none=True,
        min=1,
        help="""Processes and threads that the server may have at the same time, with all that it starts; None for no
        limit. JupyterLab takes some fifteen, each kernel as many, and libraries for numbers one more for each core.""",
    ).tag(config=True)

    enforce_limits = CaselessStrEnum(
        ["auto", "required", "off"],
        default_value="auto",
        help="""What is done about mem_limit, cpu_limit and process_limit.

        - 'auto': they are enforced where this machine can do that; where it cannot, servers start all the same, and
          the Hub's log, the user's page and the API say so.
        - 'required': a server with a limit that cannot be enforced is not started.
        - 'off': servers are only told of their limits, by MEM_LIMIT and CPU_LIMIT.
        """,
    ).tag(config=True)

    exit_reason = ""
    """Why the last run of the server ended, if that is known: ``killed: memory limit 2 GiB``."""

    log: Any
    pid: int
    mem_limit: Any
    cpu_limit: Any
    _record: Any
    _log_name: str
    _is_managed: bool
    _runtime_directory: Callable[[], Path]

    _group: Group | None = None
    _unenforced: tuple[str, ...] = ()
    _memory_kills = 0
    _kill_seen_at = float("-inf")

    _choose_mechanism: Callable[[Limits], Choice] = staticmethod(choose)
    _mechanism_of: Callable[[str], LimitMechanism | None] = staticmethod(mechanism_of)

    # -- what is stored --

    def _limits_state(self) -> dict[str, Any]:
        state = self._group.to_dict() if self._group is not None else {}
        if self._memory_kills:
            state["memory_kills"] = self._memory_kills
        if self._unenforced:
            state["unenforced"] = list(self._unenforced)
        return state

    def _load_limits_state(self, state: Any) -> None:
        stored = state if isinstance(state, Mapping) else {}
        self._group = Group.from_dict(stored)
        self._memory_kills = int(stored.get("memory_kills") or 0)
        self._unenforced = tuple(str(text) for text in stored.get("unenforced") or ())

    @property
    def _group_file(self) -> Path | None:
        """Holds the group from before it is made until it is gone, whatever happens to the Hub in between."""
        return self._runtime_directory() / f"{self._record.id}.limits.json" if self._is_managed else None

    def _find_group(self) -> None:
        """Look for a group that a killed Hub had made and not yet stored."""
        path = self._group_file
        if self._group is None and path is not None:
            with contextlib.suppress(OSError, ValueError):
                self._group = Group.from_dict(json.loads(path.read_text()))

    # -- making one --

    def _limits(self) -> Limits:
        """What this server may use, as its settings say; nothing is limited where limits are not enforced."""
        self.exit_reason = ""
        if self.enforce_limits == "off":
            return Limits()
        return Limits.of(*(self._limit_setting(SETTINGS[kind]) for kind in KINDS))

    def _make_group(self, limits: Limits) -> Callable[[int], None] | None:
        """Make the group for a start; returns what puts a process into it, None where nothing is enforced. Blocks.

        Raises LimitError when a limit is required and cannot be enforced.
        """
        self._remove_group_now()
        self._load_limits_state(None)
        if not limits.kinds:
            return None
        self._create_group(limits)
        for sentence in self._unenforced:
            self.log.warning("%s: %s", self._log_name, sentence)
        group = self._group
        if group is None:
            return None
        mechanism = self._mechanism_of(group.mechanism)
        assert mechanism is not None
        return lambda pid: mechanism.place(group, pid)

    def _limit_setting(self, name: str) -> Any:
        """A setting as this server has it; subclasses may declare it as a function."""
        value = getattr(self, name, None)
        if callable(value):
            return value(self) if accepts_positional(value, 1) else value()
        return value

    def _create_group(self, limits: Limits) -> None:
        choice = self._choose_mechanism(limits)
        reasons = dict(choice.reasons)
        enforced = limits.without(reasons)
        if choice.mechanism is not None and enforced.kinds and not (reasons and self.enforce_limits == "required"):
            try:
                planned = choice.mechanism.plan(self._group_name(), enforced)
                path = self._group_file
                if path is not None:
                    path.write_text(json.dumps(planned.to_dict()))
                self._group = choice.mechanism.create(planned)
            except (LimitError, OSError) as error:
                reasons.update(dict.fromkeys(enforced.kinds, str(error)))
        self._unenforced = tuple(unenforced_in(limits, reasons))
        if reasons and self.enforce_limits == "required":
            said = " ".join(self._unenforced)
            problem = LimitError(said)
            problem.jupyterhub_message = f"{said} The administrator has required it."  # type: ignore[attr-defined]
            raise problem

    def _group_name(self) -> str:
        if not self._is_managed:
            return f"jupyterhub-{os.getpid()}-{id(self):x}"
        # Two Hubs of one machine have servers with the same numbers.
        place = hashlib.sha256(os.fsencode(self._runtime_directory())).hexdigest()[:8]
        return f"jupyterhub-{place}-{self._record.id}"

    # -- watching it --

    def _usage(self) -> Usage | None:
        group = self._group
        mechanism = self._mechanism_of(group.mechanism) if group is not None else None
        return mechanism.usage(group) if mechanism is not None and group is not None else None

    def _watch_limits(self) -> None:
        """Notice when a process of the living server was killed for its memory."""
        usage = self._usage()
        if usage is None or usage.memory_kills <= self._memory_kills or self._group is None:
            return
        self._memory_kills, self._kill_seen_at = usage.memory_kills, time.monotonic()
        words = self._group.limits.describe(MEMORY)
        self.log.warning("A process of the server of %s was killed: %s", self._log_name, words)
        if self._is_managed:
            self._record.state_changed = True

    async def _end_group(self, status: int | None) -> int:
        """Find out whether a limit ended the server, and remove its group with all that is left in it.

        `status` is that of the process, None if it is not known. Returned is what is known now, 0 if nothing is.
        """
        group, usage = self._group, self._usage()
        # It may have been seen alive after it was killed, while its memory was being given back.
        just_seen = self._memory_kills > 0 and time.monotonic() - self._kill_seen_at < DYING_SECONDS
        killed = usage is not None and (usage.memory_kills > self._memory_kills or just_seen)
        # A shell that runs the server says it with a number above 128.
        if group is not None and killed and status in (None, -signal.SIGKILL, 128 + signal.SIGKILL):
            self.exit_reason = f"killed: {group.limits.describe(MEMORY)}"
            status = -signal.SIGKILL if status is None else status
        await self._remove_group()
        return 0 if status is None else status

    async def _remove_group(self) -> None:
        self._find_group()
        if self._group is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._remove_group_now)

    def _remove_group_now(self) -> None:
        """Remove the group, or what a dead Hub left of it. A failure is logged; the next start tries again. Blocks."""
        self._find_group()
        group, path = self._group, self._group_file
        if group is None:
            return
        mechanism = self._mechanism_of(group.mechanism)
        try:
            if mechanism is None:
                raise LimitError(f"{group.mechanism} is not known here")
            mechanism.remove(group)
        except LimitError as error:
            self.log.error("The group that limits the server of %s is still there: %s", self._log_name, error)
            return
        self._group = None
        if path is not None:
            path.unlink(missing_ok=True)


# -- at the start of the Hub --


def limit_notes(spawner_class: type, config: Any, find: Callable[[Limits], Choice] = choose) -> list[tuple[bool, str]]:
    """Return what the log should say of configured limits when the Hub starts: whether it is a warning, and a text."""
    if not issubclass(spawner_class, LimitedServer):
        return []
    settings = {SETTINGS[kind]: kind for kind in KINDS}
    wanted = {kind for setting, kind in settings.items() if _configured(spawner_class, config, setting)}
    for setting in ("profiles", "group_overrides"):
        wanted |= {settings[name] for name in _names_in(_configured(spawner_class, config, setting), set(settings))}
    mode = _configured(spawner_class, config, "enforce_limits")
    if not wanted:
        return []
    named = ", ".join(SETTINGS[kind] for kind in KINDS if kind in wanted)
    if mode == "off":
        return [(True, f"{named}: not enforced, because {spawner_class.__name__}.enforce_limits is 'off'")]
    # Only which kinds are limited matters here, not to what.
    choice = find(Limits(**dict.fromkeys(wanted, 1)))  # type: ignore[arg-type]
    notes = []
    enforced = [SETTINGS[kind] for kind in KINDS if kind in wanted and kind not in choice.reasons]
    if enforced and choice.mechanism is not None:
        notes.append((False, f"{', '.join(enforced)}: enforced by {choice.mechanism.name}"))
    what = "servers that have it do not start" if mode == "required" else "servers start without"
    for kind, reason in sorted(choice.reasons.items()):
        notes.append((True, f"{SETTINGS[kind]} CANNOT BE ENFORCED here, {what}: {reason}. {HELP}"))
    return notes


def _configured(spawner_class: type, config: Any, setting: str) -> Any:
    for each in spawner_class.__mro__:
        section = config.get(each.__name__) if config else None
        if section and setting in section:
            return section[setting]
    found = getattr(spawner_class, setting, None)
    return found.default_value if isinstance(found, TraitType) else found


def _names_in(value: Any, names: set[str]) -> Iterator[str]:
    """Yield those of the names that are keys anywhere in a value made of dictionaries and lists, and have a value."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key in names and inner:
                yield key
            yield from _names_in(inner, names)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _names_in(inner, names)
