"""numpy arrays <-> a name of the element type, a shape, and flat bytes in C order.

The element types that may travel are a table. A name from the wire is looked up in it and never given to
numpy: ``numpy.dtype("O8")`` is an object pointer, and numpy would believe it. Sizes are computed in Python's
ints and compared with the bytes that are there before anything is allocated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from zdl.errors import CannotPack, CannotUnpack
from zdl.refs import DIMENSIONS_MAX, ITEM_BYTES_MAX

_PLAIN_NAMES: Final = (
    "|b1", "|i1", "|u1",
    "<i2", "<i4", "<i8", "<u2", "<u4", "<u8", "<f2", "<f4", "<f8", "<c8", "<c16",
    ">i2", ">i4", ">i8", ">u2", ">u4", ">u8", ">f2", ">f4", ">f8", ">c8", ">c16",
)
# The x87 format has 63 bits after the point (IEEE 754, table 3.7, "extended"). Other machines keep other
# formats under the same name, ``<f16``, and would read it as another number: there it does not travel.
_LONGDOUBLE_BITS: Final = 63


def _names() -> tuple[str, ...]:
    """The names of all element types that may travel on this machine."""
    if np.finfo(np.longdouble).nmant != _LONGDOUBLE_BITS:
        return _PLAIN_NAMES
    real, pair = np.dtype(np.longdouble).itemsize, np.dtype(np.clongdouble).itemsize
    return (*_PLAIN_NAMES, f"<f{real}", f">f{real}", f"<c{pair}", f">c{pair}")


DTYPES: Final[Mapping[str, np.dtype[Any]]] = MappingProxyType({name: np.dtype(name) for name in _names()})
# What torch has and numpy has not: bytes of one element. Such arrays can be passed on, and become tensors.
_NOT_IN_NUMPY: Final[Mapping[str, int]] = MappingProxyType({
    "bfloat16": 2, "float8_e4m3fn": 1, "float8_e4m3fnuz": 1, "float8_e5m2": 1, "float8_e5m2fnuz": 1, "float8_e8m0fnu": 1})
_NAME_OF: Final[Mapping[np.dtype[Any], str]] = MappingProxyType({dtype: name for name, dtype in DTYPES.items()})


def name_of(dtype: np.dtype[Any]) -> str:
    """The wire's name of an element type.

    Raises:
        CannotPack: it may not travel.
    """
    name = _NAME_OF.get(dtype)
    if name is None:
        raise CannotPack(path="", reason=f"its dtype is {str(dtype)[:80]}; convert it to a numeric dtype")
    return name


def describe(array: NDArray[Any]) -> tuple[str, tuple[int, ...]]:
    """The wire's name of the element type, and the shape.

    Raises:
        CannotPack: its element type, its number of dimensions or its size may not travel.
    """
    name, shape = name_of(array.dtype), array.shape
    if len(shape) > DIMENSIONS_MAX:
        raise CannotPack(path="", reason=f"it has {len(shape)} dimensions; at most {DIMENSIONS_MAX} travel")
    # An array without elements may claim a side that no receiver would believe.
    if array.size == 0 and max(shape) > 1:
        try:
            nbytes_of(name, shape)
        except CannotUnpack as error:
            raise CannotPack(path="", reason=error.reason) from error
    return name, shape


def flatten(array: NDArray[Any]) -> memoryview:
    """Its bytes in C order, flat; uncopied when the array is C-contiguous.

    Returns:
        A view of format ``B`` and one dimension. It is read-only when the array is.
    """
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def nbytes_of(dtype: str, shape: Sequence[int]) -> int:
    """The bytes that an array has, by what the wire says about it.

    Raises:
        CannotUnpack: the element type is not in the table, or the shape is no shape.
    """
    known = DTYPES.get(dtype)
    if known is None and dtype not in _NOT_IN_NUMPY:
        raise CannotUnpack(path="", reason=f"dtype {dtype!r:.40} is not allowed")
    if len(shape) > DIMENSIONS_MAX:
        raise CannotUnpack(path="", reason=f"{len(shape)} dimensions are more than {DIMENSIONS_MAX}")
    bound = _NOT_IN_NUMPY[dtype] if known is None else known.itemsize
    for side in shape:
        if type(side) is not int or not 0 <= side <= ITEM_BYTES_MAX:
            raise CannotUnpack(path="", reason=f"a side of the shape is not within 0…{ITEM_BYTES_MAX}")
        # A side of 0 does not excuse the others: numpy computes its strides from them all the same.
        bound *= side or 1
        if bound > ITEM_BYTES_MAX:
            raise CannotUnpack(path="", reason=f"its shape has more than {ITEM_BYTES_MAX} bytes")
    return 0 if 0 in shape else bound


def empty(dtype: str, shape: Sequence[int]) -> NDArray[Any]:
    """A fresh array with undefined content.

    Raises:
        CannotUnpack: the element type is not in the table, or the shape is no shape.
    """
    nbytes_of(dtype, shape)
    return np.empty(tuple(shape), _dtype(dtype))


def restore(dtype: str, shape: Sequence[int], buffer: bytes | memoryview, *, copy: bool) -> NDArray[Any]:
    """The array that these bytes are.

    Args:
        dtype: name of the element type.
        shape: lengths of the dimensions.
        buffer: its bytes in C order, contiguous.
        copy: True gives a fresh, writable array; False a view of the buffer, writable if the buffer is.

    Raises:
        CannotUnpack: dtype and shape are not allowed, or say another number of bytes.
    """
    need = nbytes_of(dtype, shape)
    have = buffer.nbytes if isinstance(buffer, memoryview) else len(buffer)
    if need != have:
        raise CannotUnpack(path="", reason=f"{dtype}{list(shape)} has {need} bytes, there are {have}")
    view: NDArray[Any] = np.ndarray(tuple(shape), _dtype(dtype), buffer)
    return view.copy() if copy else view


def _dtype(name: str) -> np.dtype[Any]:
    """numpy's element type, of a name that is allowed."""
    found = DTYPES.get(name)
    if found is None:
        raise CannotUnpack(path="", reason=f"numpy has no elements like {name}; ask for a tensor: ref.as_torch()")
    return found
