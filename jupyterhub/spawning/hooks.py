"""Hooks as settings or as methods, each once per start, and what the base class notes about `start` (S9, S10)."""

from __future__ import annotations

import concurrent.futures
import functools
import inspect
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from traitlets import TraitType

from ..core.errors import PluginMistake
from ..core.lifecycle import State
from .results import interpret_start_result

if TYPE_CHECKING:
    from ..spawner import Spawner

__all__ = ["HOOKS", "StartGuard", "accepts_positional", "call_hook", "is_setting", "wrap_class"]

HOOKS = ("pre_spawn_hook", "post_spawn_hook", "spawn_error_hook")
"""Hooks that a class's own `start` may call; the Hub calls those that it did not."""


@dataclass(slots=True)
class StartGuard:
    """What has happened in the start under way: how deep in `start` methods we are, which hooks have run."""

    depth: int = 0
    prepared: bool = False
    done: tuple[str, ...] = ()
    running: tuple[str, ...] = ()

    def prepare(self) -> None:
        """The Hub begins a start, before it calls `start`."""
        self.prepared = True
        self.done = ()

    def enter(self) -> None:
        """A `start` method begins."""
        if self.depth == 0:
            if not self.prepared:
                # Started by the plugin itself: a start of its own.
                self.done = ()
            self.prepared = False
        self.depth += 1

    def leave(self) -> None:
        """A `start` method has ended."""
        self.depth -= 1

    def first_time(self, hook: str) -> bool:
        """Whether the hook has not run in this start; from now on it has."""
        if hook in self.done:
            return False
        self.done += (hook,)
        return True

    def ended(self, hook: str) -> None:
        """A hook that ran inside of `start` is over."""
        self.running = tuple(each for each in self.running if each != hook)


class _RanAlready:
    """What a hook gives that ran already: nothing, for those who await it and those who do not."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield  # makes this a generator

    def __bool__(self) -> bool:
        return False


def is_setting(spawner: Any, hook: str) -> bool:
    """Whether a hook is a value that was configured or assigned, and not a method of the class."""
    if hook in vars(spawner):
        return True
    found = inspect.getattr_static(type(spawner), hook, None)
    return found is None or isinstance(found, TraitType) or not callable(found)


def accepts_positional(function: Callable[..., Any], number: int) -> bool:
    """Whether `function` can be called with so many positional arguments; unknown signatures count as yes."""
    try:
        inspect.signature(function).bind(*[None] * number)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def call_hook(spawner: Spawner, name: str, *arguments: Any) -> Any:
    """Call a hook the way it is written, and return what it returns; None when there is no such hook.

    A setting gets the spawner first. A method has it as `self`, but may ask for it once more, as methods had to
    in JupyterHub 6.
    """
    hook = getattr(spawner, name, None)
    if hook is None or (is_setting(spawner, name) and not hook):
        return None
    if is_setting(spawner, name) or accepts_positional(hook, len(arguments) + 1):
        return hook(spawner, *arguments)
    return hook(*arguments)


def _wrap_hook(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def hook(self: Any, *args: Any, **kwargs: Any) -> Any:
        guard: StartGuard = self._start_guard
        # Only calls from inside `start` can be repetitions. A hook that calls its parent's is one call.
        if not guard.depth or name in guard.running:
            return function(self, *args, **kwargs)
        if not guard.first_time(name):
            return _RanAlready()
        guard.running += (name,)
        try:
            result = function(self, *args, **kwargs)
        except BaseException:
            guard.ended(name)
            raise
        if inspect.isawaitable(result):
            return _finish(guard, name, result)
        guard.ended(name)
        return result

    hook._runs_once = True  # type: ignore[attr-defined]
    return hook


async def _finish(guard: StartGuard, name: str, result: Awaitable[Any]) -> Any:
    try:
        return await result
    finally:
        guard.ended(name)


def note_start_result(spawner: Spawner, result: Any) -> None:
    """Remember the address that `start` returned, whoever called it.

    Nonsense is not judged here: who asked for the start does that, and names the plugin.
    """
    record = spawner._record
    server = spawner._address
    if server is None or result is None:
        return
    try:
        proto, ip, port = interpret_start_result(result, spawner)
    except PluginMistake:
        return
    changed = (server.proto, server.ip, server.port) != (proto, ip, port)
    if changed:
        server.proto, server.ip, server.port = proto, ip, port
    record.address_known = True
    if record.lifecycle in (State.READY, State.CHECKING):
        # Started anew by the plugin itself; even at the same address the new process has a new state to be kept.
        record.address_changed = True
        spawner._restarted = True
        if changed:
            spawner.log.info(
                "%s started server %s anew, now at %s", type(spawner).__name__, spawner._log_name, server.url
            )


def _wrap_start(function: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def start(self: Any, *args: Any, **kwargs: Any) -> Any:
            guard: StartGuard = self._start_guard
            guard.enter()
            try:
                result = await function(self, *args, **kwargs)
                note_start_result(self, result)
            finally:
                guard.leave()
            return result

    else:

        @functools.wraps(function)
        def start(self: Any, *args: Any, **kwargs: Any) -> Any:
            guard: StartGuard = self._start_guard
            guard.enter()
            try:
                result = function(self, *args, **kwargs)
            except BaseException:
                guard.leave()
                raise
            if inspect.isawaitable(result):
                return _finish_start(self, result)
            guard.leave()
            if not isinstance(result, concurrent.futures.Future):
                note_start_result(self, result)
            return result

    start._notes_address = True  # type: ignore[attr-defined]
    return start


async def _finish_start(spawner: Any, result: Awaitable[Any]) -> Any:
    try:
        value = await result
        note_start_result(spawner, value)
        return value
    finally:
        spawner._start_guard.leave()


def wrap_class(cls: type) -> None:
    """Wrap the `start` and the hook methods of a finished class, its own and those of mixins, each once."""
    wrappers: dict[str, tuple[str, Callable[[Callable[..., Any]], Callable[..., Any]]]] = {
        "start": ("_notes_address", _wrap_start),
        **{hook: ("_runs_once", functools.partial(_wrap_hook, hook)) for hook in HOOKS},
    }
    for name, (mark, wrap) in wrappers.items():
        found = inspect.getattr_static(cls, name, None)
        if inspect.isfunction(found) and not hasattr(found, mark):
            setattr(cls, name, wrap(found))
