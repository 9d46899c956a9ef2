"""Sizes: about how many bytes an object has on the wire, without packing it."""

from __future__ import annotations

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

    Raises:
        RecursionError: it contains itself.
    """
    if isinstance(obj, (bytes, bytearray, str)):
        return len(obj)
    if isinstance(obj, (np.ndarray, np.generic, memoryview)) or is_tensor(type(obj)):
        return int(obj.nbytes)  # type: ignore[attr-defined]
    if isinstance(obj, dict):
        return sum(bytes_of(key) + bytes_of(value) for key, value in obj.items())
    if isinstance(obj, CONTAINERS):
        return sum(map(bytes_of, obj))
    return REF_BYTES if isinstance(obj, Ref) else VALUE_BYTES
