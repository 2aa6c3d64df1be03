"""How a plugin's class body becomes settings and hooks (spawner system S5, S6, S10).

It has to happen in the metaclass, before the class exists: a trait that is put on a finished class ends in an
assertion error in traitlets.
"""

from __future__ import annotations

import copy
import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

from traitlets import Any as AnyTrait
from traitlets import Bool, Float, HasTraits, Integer, TraitError, TraitType, Unicode, default
from traitlets.traitlets import BaseDescriptor, MetaHasTraits

#: Hooks that may be settings or methods; a method runs once per start, whoever calls it.
HOOKS = ("pre_spawn_hook", "post_spawn_hook", "spawn_error_hook")

_NOT_PLAIN = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    classmethod,
    staticmethod,
    property,
    type,
    functools.cached_property,
    functools.partialmethod,
)


class _PlainOnClass:
    """The class gives the plain value, an object the setting's value."""

    plain_value: Any = None

    def __get__(self, obj: Any, cls: Any = None) -> Any:
        if obj is None and cls is not None and "_declarations_done" in cls.__dict__:
            return self.plain_value
        return super().__get__(obj, cls)  # type: ignore[misc]


class _Declared(_PlainOnClass):
    """A setting that is strict with configuration and takes anything from code."""

    def validate(self, obj: Any, value: Any) -> Any:
        if not getattr(obj, "_loading_configuration", False):
            return value
        return super().validate(obj, value)  # type: ignore[misc]


class DeclaredUnicode(_Declared, Unicode):  # type: ignore[type-arg]
    """A text declared by annotation."""


class DeclaredBool(_Declared, Bool):  # type: ignore[type-arg]
    """A yes or no declared by annotation."""


class DeclaredInteger(_Declared, Integer):  # type: ignore[type-arg]
    """A whole number declared by annotation."""


class DeclaredFloat(_Declared, Float):  # type: ignore[type-arg]
    """A number declared by annotation."""


class DeclaredAny(_Declared, AnyTrait):
    """Anything else declared by annotation."""


def _kind(value: Any) -> type[Any]:
    if isinstance(value, bool):
        return DeclaredBool
    if isinstance(value, int):
        return DeclaredInteger
    if isinstance(value, float):
        return DeclaredFloat
    if isinstance(value, str):
        return DeclaredUnicode
    return DeclaredAny


def is_plain(value: Any) -> bool:
    """Whether a value in a class body is data, not a descriptor, function or class."""
    if isinstance(value, (*_NOT_PLAIN, BaseDescriptor)):
        return False
    return not hasattr(type(value), "__get__")


def _is_setting_annotation(annotation: Any) -> bool:
    text = (
        annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "") or str(annotation)
    )
    return not any(word in text for word in ("ClassVar", "Final"))


def declare(name: str, value: Any) -> TraitType[Any, Any]:
    """Return the setting for an annotated class attribute with a plain default."""
    trait: TraitType[Any, Any] = _kind(value)(
        copy.copy(value), allow_none=True, help=f"Declared as {name}."
    ).tag(config=True)
    trait.plain_value = value  # type: ignore[attr-defined]
    return trait


def new_default(inherited: TraitType[Any, Any], value: Any) -> TraitType[Any, Any] | None:
    """Return the inherited setting with another default, or None when the value does not fit it."""
    try:
        checked = value if value is None and inherited.allow_none else inherited.validate(None, value)  # type: ignore[arg-type]
    except TraitError:
        return None
    except Exception:
        # Some kinds can only check with an object at hand; the value is checked when it is used.
        checked = value
    trait = copy.copy(inherited)
    kind = type(inherited)
    trait.__class__ = type(kind.__name__, (_PlainOnClass, kind), {"__module__": kind.__module__})
    trait.plain_value = value  # type: ignore[attr-defined]
    trait.checked_default = checked  # type: ignore[attr-defined]
    return trait


def _default_generator(name: str, value: Any) -> Any:
    return default(name)(lambda self: copy.deepcopy(value))


def once_per_start(method: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a hook so that this very function runs once per start."""
    key = f"{method.__module__}.{method.__qualname__}"

    if inspect.iscoroutinefunction(method):

        @functools.wraps(method)
        async def hook(self: Any, *args: Any, **kwargs: Any) -> Any:
            if key in self._hooks_run:
                return None
            self._hooks_run.add(key)
            return await method(self, *args, **kwargs)

        return hook

    @functools.wraps(method)
    def plain_hook(self: Any, *args: Any, **kwargs: Any) -> Any:
        if key in self._hooks_run:
            return None
        self._hooks_run.add(key)
        return method(self, *args, **kwargs)

    return plain_hook


def notes_address(method: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `start` so that the address it returns is noted, whoever called it (spawner system S9)."""

    @functools.wraps(method)
    def start(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = method(self, *args, **kwargs)
        if inspect.isawaitable(result):
            return _note_later(self, result)
        self._note_address(result)
        return result

    return start


async def _note_later(spawner: Any, result: Any) -> Any:
    value = await result
    spawner._note_address(value)
    return value


class SpawnerMeta(MetaHasTraits):
    """Turns a subclass's plain attributes into settings and defaults, and wraps its hooks and its `start`."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **kwargs: Any) -> Any:
        if any(isinstance(base, SpawnerMeta) for base in bases):
            mcs._convert(bases, namespace)
        return super().__new__(mcs, name, bases, namespace, **kwargs)

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(name, bases, namespace, **kwargs)
        cls._declarations_done = True

    @staticmethod
    def _convert(bases: tuple[type, ...], namespace: dict[str, Any]) -> None:
        annotations = namespace.get("__annotations__") or {}
        for name in list(namespace):
            value = namespace[name]
            if name.startswith("_"):
                continue
            if isinstance(value, types.FunctionType):
                if name in HOOKS:
                    namespace[name] = once_per_start(value)
                elif name == "start":
                    namespace[name] = notes_address(value)
                continue
            if not is_plain(value):
                continue
            if name in annotations:
                if _is_setting_annotation(annotations[name]):
                    namespace[name] = declare(name, value)
                continue
            inherited = _inherited_trait(bases, name)
            if inherited is None:
                continue
            trait = new_default(inherited, value)
            if trait is not None:
                namespace[name] = trait
                namespace[f"_default_of_{name}"] = _default_generator(name, trait.checked_default)  # type: ignore[attr-defined]


def _inherited_trait(bases: tuple[type, ...], name: str) -> TraitType[Any, Any] | None:
    for base in bases:
        for cls in base.__mro__:
            if name in cls.__dict__:
                found = cls.__dict__[name]
                return found if isinstance(found, TraitType) and issubclass(cls, HasTraits) else None
    return None
