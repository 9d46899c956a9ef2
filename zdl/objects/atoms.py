"""Atoms: small values of the standard library that hold no other object, and travel as a few plain fields.

Each has a number on the wire, its place in `ATOMS`. What comes out is equal to what went in, and the same instant,
number or name; two things are not kept: of a time zone only its offset (its rules are files on the receiver's machine,
which decoding must not read), and that a path was one of this machine (`pathlib.PurePath` comes out: to open a file
whose name came from elsewhere is a decision).

Nothing here reads a clock: the types of `datetime` are values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal, InvalidOperation
from pathlib import PurePath
from types import MappingProxyType, NoneType
from typing import Any, Final
from uuid import UUID

from zdl.errors import CannotPack, CannotUnpack

_MICROSECOND: Final = timedelta(microseconds=1)
_TEXT: Final = (str,)
_INT: Final = (int,)
_FLOAT: Final = (float,)
_INT64: Final = range(-(1 << 63), 1 << 63)


@dataclass(frozen=True, slots=True)
class Atom:
    """One type.

    Attributes:
        cls: values of exactly this class, or of any below it if `takes_subclasses`.
        fields: of a value.
        types: which each field may have.
        build: the value of these fields.
        takes_subclasses: whether a subclass stands for nothing of its own.
    """

    cls: type
    fields: Callable[[Any], list[object]]
    types: tuple[tuple[type, ...], ...]
    build: Callable[..., object]
    takes_subclasses: bool = False


def _moment_fields(value: datetime | time) -> list[object]:
    """Of a datetime or a time: its text without a zone, which of two equal hours it is, its offset in microseconds.

    The offset stands apart: Python 3.11 reads one of less than a second, in text, as none.
    """
    offset = value.utcoffset()
    return [value.replace(tzinfo=None).isoformat(), value.fold, None if offset is None else offset // _MICROSECOND]


def _moment(cls: type[datetime] | type[time]) -> Callable[[str, int, int | None], object]:
    """How a datetime or a time is built."""
    def build(text: str, fold: int, offset: int | None) -> object:
        zone = None if offset is None else timezone(offset * _MICROSECOND)
        return cls.fromisoformat(text).replace(fold=fold, tzinfo=zone)
    return build


ATOMS: Final = (
    Atom(complex, lambda value: [value.real, value.imag], (_FLOAT, _FLOAT), complex),
    Atom(datetime, _moment_fields, (_TEXT, _INT, (int, NoneType)), _moment(datetime)),
    Atom(date, lambda value: [value.isoformat()], (_TEXT,), date.fromisoformat),
    Atom(time, _moment_fields, (_TEXT, _INT, (int, NoneType)), _moment(time)),
    Atom(timedelta, lambda value: [value.days, value.seconds, value.microseconds], (_INT, _INT, _INT), timedelta),
    Atom(Decimal, lambda value: [str(value)], (_TEXT,), Decimal),
    Atom(UUID, lambda value: [value.bytes], ((bytes,),), lambda raw: UUID(bytes=raw)),
    Atom(PurePath, lambda value: [value.as_posix()], (_TEXT,), PurePath, takes_subclasses=True),
    Atom(range, lambda value: [value.start, value.stop, value.step], (_INT, _INT, _INT), range),
)
_NUMBER_OF: Final[Mapping[type, int]] = MappingProxyType({atom.cls: number for number, atom in enumerate(ATOMS)})


def number_of(cls: type) -> int | None:
    """The number of the atom that values of this class are, or None."""
    number = _NUMBER_OF.get(cls)
    if number is not None:
        return number
    return next((number for number, atom in enumerate(ATOMS) if atom.takes_subclasses and issubclass(cls, atom.cls)), None)


def fields_of(value: object) -> list[object]:
    """The number and the fields of an atom.

    Raises:
        CannotPack: it has no plain fields; the path is left empty.
    """
    number = number_of(type(value))
    assert number is not None, f"{type(value)} is no atom"
    try:
        fields = ATOMS[number].fields(value)
    except (ValueError, TypeError, OverflowError, NotImplementedError) as error:  # a time zone that does not work
        raise CannotPack(path="", reason=f"{type(error).__name__}: {error}") from error
    if any(type(field) is int and field not in _INT64 for field in fields):
        raise CannotPack(path="", reason=f"a {type(value).__name__} beyond 64 bits cannot travel")
    return [number, *fields]


def atom_of(fields: object) -> object:
    """The atom of a number and fields.

    Raises:
        CannotUnpack: there is none.
    """
    if type(fields) is not list or not fields or type(fields[0]) is not int or not 0 <= fields[0] < len(ATOMS):
        raise CannotUnpack(path="", reason="an atom without a number that is known")
    atom, rest = ATOMS[fields[0]], fields[1:]
    if len(rest) != len(atom.types) or not all(type(field) in types for field, types in zip(rest, atom.types)):
        words = ", ".join(" or ".join(each.__name__ for each in types) for types in atom.types)
        raise CannotUnpack(path="", reason=f"the fields of a {atom.cls.__name__} are not ({words})")
    try:
        return atom.build(*rest)
    except (ValueError, TypeError, OverflowError, InvalidOperation) as error:
        raise CannotUnpack(path="", reason=f"no {atom.cls.__name__}: {error}"[:200]) from error
