"""The header of a ``.safetensors`` file: which tensors are in it, and which of its bytes they are.

::

    8 bytes          n, little endian
    n bytes          JSON: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, …, "__metadata__": {…}}
    all the rest     the tensors, in C order, one after the other without gaps, counted from here

The format's own rules are held: a header of at most 100 MB, no key twice, every tensor exactly as long as its dtype and
shape say, no gap, no overlap, nothing behind the last. Nothing but the header is read, so a model of any size is known
in the time that a few kilobytes take. The package ``safetensors`` is not needed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import Any, Final

from zdl.errors import CannotPack
from zdl.refs import DIMENSIONS_MAX, ITEM_BYTES_MAX

# The limit of the format's reference implementation (safetensors/src/tensor.rs, MAX_HEADER_SIZE).
HEADER_BYTES_MAX: Final = 100_000_000
LENGTH_BYTES: Final = 8
METADATA: Final = "__metadata__"
# The format's names, ours, and the bytes of one element. What has less than a byte per element has no place in numpy.
DTYPES: Final[Mapping[str, tuple[str, int]]] = MappingProxyType({
    "BOOL": ("|b1", 1), "U8": ("|u1", 1), "I8": ("|i1", 1), "U16": ("<u2", 2), "I16": ("<i2", 2), "U32": ("<u4", 4),
    "I32": ("<i4", 4), "U64": ("<u8", 8), "I64": ("<i8", 8), "F16": ("<f2", 2), "F32": ("<f4", 4), "F64": ("<f8", 8),
    "C64": ("<c8", 8), "BF16": ("bfloat16", 2), "F8_E4M3": ("float8_e4m3fn", 1), "F8_E5M2": ("float8_e5m2", 1),
    "F8_E4M3FNUZ": ("float8_e4m3fnuz", 1), "F8_E5M2FNUZ": ("float8_e5m2fnuz", 1), "F8_E8M0": ("float8_e8m0fnu", 1),
})
_FIELDS: Final = frozenset(("dtype", "shape", "data_offsets"))

# Reads so many bytes from a place of the file.
Read = Callable[[int, int], bytes]


@dataclass(frozen=True, slots=True)
class Member:
    """One item of a file of tensors.

    Attributes:
        name: as the file has it.
        kind: ``array``, or ``bytes`` for what a ``.npz`` holds beside its arrays.
        dtype: the wire's name of the element type; empty for bytes.
        shape: lengths of the dimensions.
        offset: where its bytes begin, from the beginning of the file.
        length: how many they are.
    """

    name: str
    kind: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int


def read_header(read: Read, size: int, label: str) -> tuple[list[Member], dict[str, str]]:
    """The tensors of a file, in the order of their bytes, and the metadata of its header.

    Args:
        read: gives the bytes of a range of the file.
        size: of the file.
        label: how errors name the file.

    Raises:
        CannotPack: it is no such file, or its header claims what is not so.
    """
    length = int.from_bytes(read(0, min(LENGTH_BYTES, size)), "little")
    if size < LENGTH_BYTES or length > min(HEADER_BYTES_MAX, size - LENGTH_BYTES):
        raise CannotPack(path=label, reason=f"a header of {length} bytes in a file of {size}; at most "
                                            f"HEADER_BYTES_MAX={HEADER_BYTES_MAX} are read")
    try:
        header = json.loads(read(LENGTH_BYTES, length), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise CannotPack(path=label, reason=f"its header is no JSON object: {str(error)[:200]}") from error
    if not isinstance(header, dict):
        raise CannotPack(path=label, reason=f"its header is a JSON {type(header).__name__}, no object")
    metadata = _metadata(header.pop(METADATA, {}), label)
    members = sorted((_member(name, entry, f"{label}[{name!r:.80}]") for name, entry in header.items()),
                     key=lambda each: (each.offset, each.length))
    begin = LENGTH_BYTES + length
    end = 0
    for each in members:
        if each.offset != end:
            raise CannotPack(path=f"{label}[{each.name!r:.80}]",
                             reason=f"it begins at byte {each.offset} of the data, the one before it ends at {end}")
        end += each.length
    if begin + end != size:
        raise CannotPack(path=label, reason=f"its tensors have {end} bytes, there are {size - begin}")
    return [Member(each.name, "array", each.dtype, each.shape, begin + each.offset, each.length) for each in members], metadata


def _member(name: str, entry: Any, path: str) -> Member:
    """One entry of the header; its offset counts from the beginning of the data."""
    if not isinstance(entry, dict) or set(entry) != _FIELDS:
        raise CannotPack(path=path, reason=f"its entry is no object of {', '.join(sorted(_FIELDS))}")
    if entry["dtype"] not in DTYPES if isinstance(entry["dtype"], str) else True:
        raise CannotPack(path=path, reason=f"its dtype {entry['dtype']!r:.40} is none of {', '.join(DTYPES)}")
    dtype, itemsize = DTYPES[entry["dtype"]]
    shape, offsets = _numbers(entry["shape"], path), _numbers(entry["data_offsets"], path)
    if len(shape) > DIMENSIONS_MAX:
        raise CannotPack(path=path, reason=f"it has {len(shape)} dimensions; at most {DIMENSIONS_MAX} travel")
    length = prod(shape) * itemsize
    if prod(side or 1 for side in shape) * itemsize > ITEM_BYTES_MAX:
        raise CannotPack(path=path, reason=f"its shape has more than {ITEM_BYTES_MAX} bytes")
    if len(offsets) != 2 or offsets[1] - offsets[0] != length:
        raise CannotPack(path=path, reason=f"{entry['dtype']}{list(shape)} has {length} bytes, its offsets are {list(offsets)}")
    if not _is_text(name):
        raise CannotPack(path=path, reason="its name has a lone surrogate, which UTF-8 cannot say")
    return Member(name, "array", dtype, shape, offsets[0], length)


def _numbers(value: Any, path: str) -> tuple[int, ...]:
    """A list of whole numbers that are not negative."""
    if not isinstance(value, list) or not all(type(each) is int and 0 <= each <= ITEM_BYTES_MAX for each in value):
        raise CannotPack(path=path, reason=f"{value!r:.80} is no list of whole numbers within 0…{ITEM_BYTES_MAX}")
    return tuple(value)


def _metadata(value: Any, label: str) -> dict[str, str]:
    """What the header says beside the tensors: texts only."""
    if not isinstance(value, dict) or not all(isinstance(each, str) and _is_text(key + each) for key, each in value.items()):
        raise CannotPack(path=f"{label}[{METADATA!r}]", reason="it is no object of texts")
    return value


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON without a key that stands twice in it."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands in it twice")
    return found


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON")
