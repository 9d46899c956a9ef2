"""Sizes: about how many bytes an object has on the wire, without packing it."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from enum import Enum

import numpy as np

from zdl.download.tensors import is_tensor
from zdl.objects.values import CONTAINERS
from zdl.refs import Ref

# What a value without bytes of its own has at most, with its mark.
VALUE_BYTES = 9
# A ref with its name, shape and its share of the table of sources.
REF_BYTES = 128


def bytes_of(obj: object) -> int:
    """The bytes of all leaves inside, each place counted; containers that stand in several places count in each.

    Of an object of a class of the user's, its fields or attributes count, each object once.

    Raises:
        RecursionError: a container contains itself.
    """
    return _bytes_of(obj, set())


def _bytes_of(obj: object, seen: set[int]) -> int:
    if isinstance(obj, (bytes, bytearray, str)):
        return len(obj)
    if isinstance(obj, (np.ndarray, np.generic, memoryview)) or is_tensor(type(obj)):
        return int(obj.nbytes)  # type: ignore[attr-defined]
    if isinstance(obj, dict):
        return sum(_bytes_of(key, seen) + _bytes_of(value, seen) for key, value in obj.items())
    if isinstance(obj, CONTAINERS):
        return sum(_bytes_of(each, seen) for each in obj)
    return REF_BYTES if isinstance(obj, Ref) else VALUE_BYTES + _bytes_inside(obj, seen)


def _bytes_inside(obj: object, seen: set[int]) -> int:
    """What an object of a user's class holds; objects may hold one another, so each is looked into once."""
    if id(obj) in seen or isinstance(obj, (type, Enum)):
        return 0
    if is_dataclass(obj):
        inside = [getattr(obj, each.name, None) for each in fields(obj)]
    else:
        inside = list(getattr(obj, "__dict__", {}).values())
    if inside:
        seen.add(id(obj))
    return sum(_bytes_of(each, seen) for each in inside)
