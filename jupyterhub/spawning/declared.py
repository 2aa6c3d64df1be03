"""Settings that a spawner class declares as plain attributes (spawner-system S5, S6).

Two conversions, made in the metaclass before the class exists, because a trait put on a finished class breaks the
bookkeeping of traitlets:

- an *annotated* attribute with a plain default becomes a configurable trait of its own, whatever was inherited;
- a plain attribute *without* annotation that overrides an inherited trait becomes that trait's default, if it fits.
"""

from __future__ import annotations

import copy
import re
import sys
import threading
import types
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Union, get_args, get_origin

from traitlets import Any as AnyTrait
from traitlets import Bool, Container, Dict, Float, Instance, Integer, TraitError, TraitType, Unicode, default
from traitlets.traitlets import MetaHasTraits

__all__ = ["DeclaredTrait", "SpawnerMeta", "annotated_traits", "overriding_defaults"]

_setup = threading.local()


def _asked_by_traitlets() -> bool:
    # Assignments go through `getattr(type(object), name)` inside traitlets, which must find the trait there.
    caller: str = sys._getframe(2).f_globals.get("__name__", "")
    return caller == "traitlets" or caller.startswith("traitlets.")


class DeclaredTrait:
    """What the traits made from annotated attributes share.

    A value of another kind is refused only while configuration is loaded: an assignment in code was always
    possible. The class attribute still reads as the plain default.
    """

    default_value: Any
    allow_none = True

    def __get__(self, obj: Any, cls: Any = None) -> Any:
        if obj is None and not getattr(_setup, "depth", 0) and not _asked_by_traitlets():
            return self.default_value
        return super().__get__(obj, cls)  # type: ignore[misc]

    def validate(self, obj: Any, value: Any) -> Any:
        check = getattr(super(), "validate", None)
        return value if check is None or not getattr(obj, "_loading_config", False) else check(obj, value)


class _DeclaredUnicode(DeclaredTrait, Unicode):  # type: ignore[type-arg]
    pass


class _DeclaredBool(DeclaredTrait, Bool):  # type: ignore[type-arg]
    pass


class _DeclaredInteger(DeclaredTrait, Integer):  # type: ignore[type-arg]
    pass


class _DeclaredFloat(DeclaredTrait, Float):  # type: ignore[type-arg]
    pass


class _DeclaredAny(DeclaredTrait, AnyTrait):
    pass


class _DeclaredContainer(DeclaredTrait, AnyTrait):
    """A list, dictionary or set: each instance gets its own copy of the default."""

    def make_dynamic_default(self) -> Any:
        return copy.deepcopy(self.default_value)

    def default(self, obj: Any = None) -> Any:
        return copy.deepcopy(self.default_value)


# `bool` first: it is a kind of `int`.
_KINDS: tuple[tuple[type, type], ...] = (
    (bool, _DeclaredBool),
    (int, _DeclaredInteger),
    (float, _DeclaredFloat),
    (str, _DeclaredUnicode),
    (list, _DeclaredContainer),
    (dict, _DeclaredContainer),
    (set, _DeclaredContainer),
)


def _kind(annotation: Any, value: Any) -> type:
    """The trait class for a value; where the annotation says more than the value shows, anything goes."""
    words = _words(annotation)
    if words is not None and words - {"None", type(value).__name__}:
        return _DeclaredFloat if type(value) is int and words <= {"float", "int", "None"} else _DeclaredAny
    if type(value) is int and annotation in (float, "float"):
        return _DeclaredFloat
    for kind, trait in _KINDS:
        if isinstance(value, kind):
            return trait
    return _DeclaredAny


def _words(annotation: Any) -> set[str] | None:
    """The names in a union, or None if the annotation is none; annotations may be text."""
    if isinstance(annotation, str):
        if not re.search(r"\||\b(Union|Optional)\b", annotation):
            return None
        return set(re.findall(r"\w+", annotation)) - {"Union", "Optional", "typing", "t"}
    if get_origin(annotation) in (Union, types.UnionType):
        return {"None" if part is type(None) else getattr(part, "__name__", str(part)) for part in get_args(annotation)}
    return None


def _is_plain(value: Any) -> bool:
    return not (
        isinstance(value, type)
        or hasattr(value, "__get__")
        or hasattr(type(value), "__set__")
        or isinstance(value, (types.ModuleType, TraitType))
    )


def _is_constant(annotation: Any) -> bool:
    """ClassVar and Final, as objects or as text."""
    if isinstance(annotation, str):
        return re.match(r"(\w+\.)*(ClassVar|Final)\b", annotation) is not None
    origin = get_origin(annotation) or annotation
    return origin is ClassVar or getattr(origin, "_name", None) == "Final"


def annotated_traits(namespace: Mapping[str, Any], annotations: Mapping[str, Any]) -> dict[str, TraitType[Any, Any]]:
    """The traits for a class body: annotated names that have a plain default."""
    found: dict[str, TraitType[Any, Any]] = {}
    for name, annotation in annotations.items():
        if name.startswith("_") or name not in namespace or _is_constant(annotation):
            continue
        value = namespace[name]
        if _is_plain(value):
            trait: Any = _kind(annotation, value)(value, allow_none=True)
            found[name] = trait.tag(config=True)
    return found


def overriding_defaults(
    namespace: Mapping[str, Any], inherited: Callable[[str], TraitType[Any, Any] | None]
) -> dict[str, Any]:
    """What takes the place of plain attributes that override inherited traits: the trait with a new default.

    A value that does not fit the trait is left alone: the attribute then hides the trait.
    """
    replaced: dict[str, Any] = {}
    for name, value in namespace.items():
        if name.startswith("__") or not _is_plain(value):
            continue
        trait = inherited(name)
        if trait is None:
            continue
        if isinstance(trait, DeclaredTrait):
            fits, fitting = True, value
        else:
            fits, fitting = _fit(trait, value)
        if not fits:
            continue
        clone = copy.copy(trait)
        clone.metadata = dict(trait.metadata)
        clone.default_value = fitting
        replaced[name] = clone
        if isinstance(clone, (Container, Dict, Instance)):
            clone.default_args = None if fitting is None else (fitting,)
        if isinstance(fitting, (list, dict, set)):
            # A default given once must not be shared by all instances.
            replaced[f"_declared_default_of_{name}"] = default(name)(_copier(fitting))
    return replaced


def _fit(trait: TraitType[Any, Any], value: Any) -> tuple[bool, Any]:
    if value is None:
        return bool(trait.allow_none), None
    try:
        return True, trait._validate(_Nobody(), value)
    except TraitError:
        return False, None
    except Exception:
        # A third party's trait may need a real object to validate; then nothing is known about the value.
        return False, None


class _Nobody:
    """Stands for the object while a value is tried."""

    _trait_validators: ClassVar[dict[str, Any]] = {}
    _cross_validation_lock = True

    @property
    def cross_validation_lock(self) -> Any:
        from contextlib import nullcontext

        return nullcontext()


def _copier(value: Any) -> Callable[[Any], Any]:
    def make_default(self: Any) -> Any:
        return copy.deepcopy(value)

    return make_default


class SpawnerMeta(MetaHasTraits):
    """The metaclass of `Spawner`: converts the plain attributes of its subclasses, and of nothing else."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **kwargs: Any) -> Any:
        if any(isinstance(base, SpawnerMeta) for base in bases):
            namespace = mcs._convert(bases, dict(namespace))
        return super().__new__(mcs, name, bases, namespace, **kwargs)

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **kwargs: Any) -> None:
        # What the body became, not what it was: traitlets goes by this dictionary.
        super().__init__(name, bases, dict(cls.__dict__), **kwargs)

    def setup_class(cls, classdict: dict[str, Any]) -> None:
        """Register the traits; only here do declared traits show themselves on the class."""
        _setup.depth = getattr(_setup, "depth", 0) + 1
        try:
            super().setup_class(classdict)
        finally:
            _setup.depth -= 1

    @staticmethod
    def _convert(bases: tuple[type, ...], namespace: dict[str, Any]) -> dict[str, Any]:
        annotations = namespace.get("__annotations__") or {}
        if not annotations and sys.version_info >= (3, 14):
            from annotationlib import Format, call_annotate_function, get_annotate_from_class_namespace

            annotate = get_annotate_from_class_namespace(namespace)
            if annotate is not None:
                annotations = call_annotate_function(annotate, Format.FORWARDREF)

        def inherited(name: str) -> TraitType[Any, Any] | None:
            for base in bases:
                for cls in base.__mro__:
                    if name in cls.__dict__:
                        found = cls.__dict__[name]
                        return found if isinstance(found, TraitType) else None
            return None

        declared = annotated_traits(namespace, annotations)
        rest = {name: value for name, value in namespace.items() if name not in declared}
        return {**rest, **overriding_defaults(rest, inherited), **declared}
