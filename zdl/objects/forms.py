"""Forms: the plain form that a dataclass, an enum or a named tuple has by itself.

* A **dataclass** is a dict of its fields. What comes in is built by its constructor, so ``__init__`` and
  ``__post_init__`` see it as they see any other. A field that did not come has its default; one that is unknown is refused:
  so a later version of a class may add fields that have defaults.
* An **enum** is the name of its member; a flag, whose values may be joined, is its number.
* A **named tuple** is a dict of its fields, as a dataclass.

Types of fields are not checked, as Python does not: the constructor may.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
from collections.abc import Callable
from typing import Any, Final

from zdl.errors import OptionError

# Parameters that a constructor can be given by name.
_NAMED: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
Form = tuple[Callable[[Any], object], Callable[[Any], object]]


def has_form(cls: type) -> bool:
    """Whether a class is a dataclass, an enum or a named tuple."""
    return dataclasses.is_dataclass(cls) or issubclass(cls, enum.Enum) or issubclass(cls, tuple) and hasattr(cls, "_fields")


def form_of(cls: type) -> Form:
    """The two functions of a class that has a form by itself.

    Raises:
        OptionError: it has none.
    """
    if issubclass(cls, enum.Flag):
        return _number, cls
    if issubclass(cls, enum.Enum):
        return _name, _member(cls)
    if dataclasses.is_dataclass(cls):
        return _dataclass_form(cls)
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return _named_tuple_form(cls)
    raise OptionError(name="cls", value=cls.__qualname__,
                      allowed="a dataclass, an enum or a named tuple; for any other give to_plain and from_plain")


def _number(flag: Any) -> object:
    return flag.value


def _name(member: Any) -> object:
    return member.name


def _member(cls: Any) -> Callable[[Any], object]:
    def from_plain(name: object) -> object:
        if name not in cls.__members__:
            raise ValueError(f"{name!r:.80} is not a member of {cls.__name__}")
        return cls[name]
    return from_plain


def _dataclass_form(cls: Any) -> Form:
    names = tuple(each.name for each in dataclasses.fields(cls))
    later = frozenset(each.name for each in dataclasses.fields(cls) if not each.init)
    for each in inspect.signature(cls).parameters.values():
        if each.name not in names and each.kind in _NAMED and each.default is each.empty:
            raise OptionError(name="cls", value=cls.__qualname__, allowed=(
                f"a dataclass whose fields are all that it is made of, and {each.name!r} is none; or give to_plain and from_plain"))

    def to_plain(value: Any) -> object:
        return {name: getattr(value, name) for name in names}

    def from_plain(plain: Any) -> object:
        _check(plain, names)
        made = cls(**{name: each for name, each in plain.items() if name not in later})
        for name in later & plain.keys():
            object.__setattr__(made, name, plain[name])
        return made

    return to_plain, from_plain


def _named_tuple_form(cls: Any) -> Form:
    names: tuple[str, ...] = cls._fields

    def to_plain(value: Any) -> object:
        return dict(zip(names, value))

    def from_plain(plain: Any) -> object:
        _check(plain, names)
        return cls(**plain)

    return to_plain, from_plain


def _check(plain: object, names: tuple[str, ...]) -> None:
    """Whether a plain form is a dict of these fields, or of some of them."""
    if not isinstance(plain, dict):
        raise TypeError(f"its fields came as a {type(plain).__name__}")
    unknown = [key for key in plain if key not in names]
    if unknown:
        raise ValueError(f"it has no field {unknown[0]!r:.80}")
