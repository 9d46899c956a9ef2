"""Element types of arrays by their names on the wire: a table and a small grammar, and numpy's dtype for each.

::

    type      = number | extended | span | text | struct
    number    = a name of the table `DTYPES`: numpy's own with its byte order, ``<f4``
    extended  = a name of the table `EXTENDED`: ``bfloat16``, ``float8_e4m3fn``, …; the package ml_dtypes has them
    span      = ("<" | ">") ("M8" | "m8") [ "[" [count] unit "]" ]      datetime64, timedelta64
    text      = "|S" bytes | "|V" bytes | ("<" | ">") "U" characters    each at least 1
    struct    = "{" itemsize { ";" offset "=" length ":" name type [ "(" side { "," side } ")" ] } "}"

``length`` counts the characters of the field's name, which may be any text. A field lies within its struct and on no
other field. Structs nest up to `DEPTH_MAX` deep, and a name has up to `NAME_CHARS_MAX` characters.

A name from the wire is looked up or taken apart here and never given to numpy: ``numpy.dtype("O8")`` is an object
pointer, and numpy would believe it. What a name says of sizes is computed in Python's ints.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from zdl.errors import CannotPack, CannotUnpack
from zdl.refs import DIMENSIONS_MAX

NAME_CHARS_MAX: Final = 16_384
FIELDS_MAX: Final = 1024
DEPTH_MAX: Final = 8
# numpy keeps the size of an element in an int of 32 bits on some platforms.
ITEMSIZE_MAX: Final = (1 << 31) - 1

_PLAIN_NAMES: Final = (
    "|b1", "|i1", "|u1",
    "<i2", "<i4", "<i8", "<u2", "<u4", "<u8", "<f2", "<f4", "<f8", "<c8", "<c16",
    ">i2", ">i4", ">i8", ">u2", ">u4", ">u8", ">f2", ">f4", ">f8", ">c8", ">c16",
)
# The x87 format has 63 bits after the point (IEEE 754, table 3.7, "extended"). Other machines keep other
# formats under the same name, ``<f16``, and would read it as another number: there it does not travel.
_LONGDOUBLE_BITS: Final = 63
# Bytes of each element type of ml_dtypes 0.6; those of less than a byte are kept one to a byte.
EXTENDED: Final[Mapping[str, int]] = MappingProxyType({
    "bfloat16": 2, "float8_e3m4": 1, "float8_e4m3": 1, "float8_e4m3b11fnuz": 1, "float8_e4m3fn": 1, "float8_e4m3fnuz": 1,
    "float8_e5m2": 1, "float8_e5m2fnuz": 1, "float8_e8m0fnu": 1, "float6_e2m3fn": 1, "float6_e3m2fn": 1,
    "float4_e2m1fn": 1, "complex32": 4, "bcomplex32": 4,
    "int1": 1, "int2": 1, "int4": 1, "uint1": 1, "uint2": 1, "uint4": 1,
})
_SPAN: Final = re.compile(r"([<>])([Mm])8(?:\[([1-9][0-9]{0,8})?(Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?", re.ASCII)
_TEXT: Final = re.compile(r"(\|[SV]|[<>]U)([1-9][0-9]{0,9})", re.ASCII)
_SPAN_BYTES: Final = 8
_CHARACTER_BYTES: Final = 4  # numpy keeps text as UTF-32
# The pieces of a struct.
_HEAD: Final = re.compile(r"\{([1-9][0-9]{0,9})(?=[;}])", re.ASCII)
_FIELD: Final = re.compile(r";(0|[1-9][0-9]{0,9})=([1-9][0-9]{0,4}):", re.ASCII)
_SIDES: Final = re.compile(r"\(([1-9][0-9]{0,9}(?:,[1-9][0-9]{0,9})*)\)", re.ASCII)
_FLAT: Final = re.compile(r"[<>|]?[A-Za-z][A-Za-z0-9_]*(?:\[[0-9]*[A-Za-z]+\])?", re.ASCII)


def _names() -> tuple[str, ...]:
    """The names of all plain numbers that may travel on this machine."""
    if np.finfo(np.longdouble).nmant != _LONGDOUBLE_BITS:
        return _PLAIN_NAMES
    real, pair = np.dtype(np.longdouble).itemsize, np.dtype(np.clongdouble).itemsize
    return (*_PLAIN_NAMES, f"<f{real}", f">f{real}", f"<c{pair}", f">c{pair}")


DTYPES: Final[Mapping[str, np.dtype[Any]]] = MappingProxyType({name: np.dtype(name) for name in _names()})
_NAME_OF: Final[Mapping[np.dtype[Any], str]] = MappingProxyType({dtype: name for name, dtype in DTYPES.items()})


# --- numpy to the wire --------------------------------------------------------------------------


def name_of(dtype: np.dtype[Any]) -> str:
    """The wire's name of an element type.

    Raises:
        CannotPack: it may not travel; the path is left empty.
    """
    name = _NAME_OF.get(dtype)
    if name is None:
        name = _composed(dtype, depth=0)
        if len(name) > NAME_CHARS_MAX:
            raise CannotPack(path="", reason=f"its dtype takes {len(name)} characters to say; at most {NAME_CHARS_MAX} travel")
    return name


def _composed(dtype: np.dtype[Any], *, depth: int) -> str:
    """The name of any element type."""
    name = _NAME_OF.get(dtype)
    if name is not None:
        return name
    if dtype.names is not None:
        return _struct_name(dtype, depth=depth)
    if dtype.name in EXTENDED and dtype.type.__module__ == "ml_dtypes" and dtype.isnative:
        return dtype.name
    if dtype.kind in "SUV" and not dtype.itemsize:
        raise CannotPack(path="", reason=f"its dtype is {dtype}: its elements have no bytes")
    if dtype.subdtype is None and dtype.type in (np.datetime64, np.timedelta64, np.bytes_, np.str_, np.void):
        return dtype.str
    advice = "send a list, or an array for each element" if dtype.hasobject else "convert it to a numeric dtype"
    raise CannotPack(path="", reason=f"its dtype is {str(dtype)[:80]}; {advice}")


def _struct_name(dtype: np.dtype[Any], *, depth: int) -> str:
    """The name of an element type with fields."""
    reason = ""
    if depth >= DEPTH_MAX:
        reason = f"structs are nested deeper than {DEPTH_MAX}"
    elif not dtype.itemsize or not dtype.names:
        reason = "its elements have no bytes, or no fields"
    elif len(dtype.names or ()) > FIELDS_MAX:
        reason = f"a struct has more than {FIELDS_MAX} fields"
    elif any(len(field) > 2 for field in dict(dtype.fields or {}).values()):
        reason = "its fields have titles; make it without"
    if reason:
        raise CannotPack(path="", reason=f"its dtype is {str(dtype)[:80]}: {reason}")
    assert dtype.fields is not None
    words = [f"{{{dtype.itemsize}"]
    ranges: list[tuple[int, int]] = []
    for name, (kind, offset, *_) in dtype.fields.items():
        inner, sides = kind.subdtype or (kind, ())
        try:
            name.encode()
            words.append(f";{offset}={len(name)}:{name}{_composed(inner, depth=depth + 1)}")
        except UnicodeEncodeError as error:
            raise CannotPack(path="", reason="the name of a field of its dtype has a lone surrogate") from error
        except CannotPack as error:
            raise CannotPack(path="", reason=f"its field {name!r:.40}: {error.reason}") from error
        if sides:
            words.append(f"({','.join(map(str, sides))})")
        ranges.append((offset, offset + kind.itemsize))
        if not kind.itemsize:
            raise CannotPack(path="", reason=f"its field {name!r:.40} has no bytes")
    if _overlap(ranges):
        raise CannotPack(path="", reason=f"its dtype is {str(dtype)[:80]}: fields share bytes")
    return "".join((*words, "}"))


# --- the wire to numpy --------------------------------------------------------------------------


def itemsize_of(name: str) -> int:
    """The bytes of one element, whether or not this process can make such an array.

    Raises:
        CannotUnpack: the name is not one.
    """
    known = DTYPES.get(name)
    return known.itemsize if known is not None else _parsed(name).itemsize


def dtype_of(name: str) -> np.dtype[Any]:
    """numpy's element type.

    Raises:
        CannotUnpack: the name is not one, or is one of ml_dtypes, which is not installed.
    """
    return DTYPES.get(name) or _parsed(name).dtype()


@dataclass(frozen=True, slots=True)
class _Field:
    """A field of a struct."""

    name: str
    offset: int
    type: _Type
    sides: tuple[int, ...]

    @property
    def end(self) -> int:
        """Behind its last byte."""
        return self.offset + self.type.itemsize * prod(self.sides)


@dataclass(frozen=True, slots=True)
class _Type:
    """An element type, taken apart.

    Attributes:
        itemsize: bytes of an element.
        flat: what numpy calls it, made of known pieces; empty for a struct.
        fields: of a struct.
    """

    itemsize: int
    flat: str = ""
    fields: tuple[_Field, ...] = ()

    def dtype(self) -> np.dtype[Any]:
        """As numpy has it."""
        if self.fields:
            return np.dtype({"names": [field.name for field in self.fields], "offsets": [field.offset for field in self.fields],
                             "formats": [(field.type.dtype(), field.sides) if field.sides else field.type.dtype()
                                         for field in self.fields], "itemsize": self.itemsize})
        return _extended(self.flat) if self.flat in EXTENDED else np.dtype(self.flat)


def _extended(name: str) -> np.dtype[Any]:
    """An element type of ml_dtypes, which is imported where it is needed and may be absent."""
    try:
        import ml_dtypes
    except ImportError as error:
        raise CannotUnpack(path="", reason=f"dtype {name} needs the package ml_dtypes: pip install 'zdl[ml_dtypes]'") from error
    found = getattr(ml_dtypes, name, None)
    if found is None:
        raise CannotUnpack(path="", reason=f"dtype {name} is unknown to ml_dtypes {ml_dtypes.__version__}; install a later one")
    made: np.dtype[Any] = np.dtype(found)
    return made


def _parsed(name: str) -> _Type:
    """The type that a name says."""
    if len(name) <= NAME_CHARS_MAX:
        found, end = _type_at(name, 0, depth=0)
        if found is not None and end == len(name):
            return found
    raise CannotUnpack(path="", reason=f"dtype {name!r:.40} is not allowed")


def _type_at(name: str, at: int, *, depth: int) -> tuple[_Type | None, int]:
    """The type that begins there, and where it ends; None where there is none."""
    if name.startswith("{", at):
        return _struct_at(name, at, depth=depth)
    word = _FLAT.match(name, at)
    return (None, at) if word is None else (_flat(word[0]), word.end())


def _flat(word: str) -> _Type | None:
    """A type without fields."""
    if word in DTYPES:
        return _Type(DTYPES[word].itemsize, word)
    if word in EXTENDED:
        return _Type(EXTENDED[word], word)
    span = _SPAN.fullmatch(word)
    if span is not None:
        order, letter, count, unit = span.groups()
        return _Type(_SPAN_BYTES, f"{order}{letter}8" + (f"[{count or ''}{unit}]" if unit else ""))
    text = _TEXT.fullmatch(word)
    if text is None:
        return None
    itemsize = int(text[2]) * (_CHARACTER_BYTES if text[1][1] == "U" else 1)
    return _Type(itemsize, f"{text[1]}{int(text[2])}") if itemsize <= ITEMSIZE_MAX else None


def _struct_at(name: str, at: int, *, depth: int) -> tuple[_Type | None, int]:
    """The struct that begins there."""
    head = _HEAD.match(name, at)
    if head is None or depth >= DEPTH_MAX or int(head[1]) > ITEMSIZE_MAX:
        return None, at
    itemsize, at = int(head[1]), head.end()
    fields: list[_Field] = []
    while (field := _FIELD.match(name, at)) is not None:
        begin = field.end()
        at = begin + int(field[2])
        kind, at = _type_at(name, at, depth=depth + 1)
        if kind is None or len(fields) == FIELDS_MAX:
            return None, at
        sides = _SIDES.match(name, at)
        at = at if sides is None else sides.end()
        shape = () if sides is None else tuple(map(int, sides[1].split(",")))
        if len(shape) > DIMENSIONS_MAX:
            return None, at
        fields.append(_Field(name[begin:begin + int(field[2])], int(field[1]), kind, shape))
        if fields[-1].end > itemsize:
            return None, at
    is_good = (fields and name.startswith("}", at) and len({field.name for field in fields}) == len(fields)
               and not _overlap([(field.offset, field.end) for field in fields]))
    return (_Type(itemsize, fields=tuple(fields)), at + 1) if is_good else (None, at)


def _overlap(ranges: list[tuple[int, int]]) -> bool:
    """Whether two of these ranges of bytes, none of them empty, share one."""
    return any(one[1] > other[0] for one, other in pairwise(sorted(ranges)))
