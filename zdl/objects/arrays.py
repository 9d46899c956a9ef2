"""numpy arrays <-> a name of the element type, a shape, and flat bytes in C order.

The element types that may travel are those of `zdl.objects.dtypes`. Sizes are computed in Python's ints and compared
with the bytes that are there before anything is allocated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from zdl.errors import CannotPack, CannotUnpack
from zdl.objects.dtypes import dtype_of, itemsize_of, name_of
from zdl.refs import DIMENSIONS_MAX, ITEM_BYTES_MAX, Ref

# The bytes of a leaf, in C order. numpy's arrays are nothing that Python's collector looks at, which memoryviews are.
Flat = memoryview | NDArray[np.uint8]
_BYTE: Final = np.dtype(np.uint8)


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


def flat(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Its bytes in C order; uncopied when the array is C-contiguous. They are read-only when the array is."""
    whole = np.ascontiguousarray(array)
    # Made of its memory: a third of the time of two views, which a message with thousands of arrays is worth.
    return np.ndarray(whole.nbytes, _BYTE, whole)


def flatten(array: NDArray[Any]) -> memoryview:
    """The same as a view of format ``B`` and one dimension."""
    return flat(array).data


def view_of(flat: Flat) -> memoryview:
    """A view of format ``B`` and one dimension, of either."""
    return flat if isinstance(flat, memoryview) else flat.data


def nbytes_of(dtype: str, shape: Sequence[int]) -> int:
    """The bytes that an array has, by what the wire says about it.

    Raises:
        CannotUnpack: the element type is not in the table, or the shape is no shape.
    """
    bound = itemsize_of(dtype)
    if len(shape) > DIMENSIONS_MAX:
        raise CannotUnpack(path="", reason=f"{len(shape)} dimensions are more than {DIMENSIONS_MAX}")
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
    return np.empty(tuple(shape), dtype_of(dtype))


def strided(ref: Ref, buffer: bytes | memoryview) -> NDArray[Any]:
    """The array that a ref names, as a view of the bytes from its offset on, `Ref.length` of them.

    numpy itself refuses strides that lead out of the buffer.
    """
    dtype = dtype_of(ref.dtype)
    size = dtype.itemsize
    head = sum((side - 1) * -stride for side, stride in zip(ref.shape, ref.strides) if stride < 0)
    strides = [stride * size for stride in ref.strides] if ref.strides else None
    return np.ndarray(ref.shape, dtype, buffer, head * size, strides)


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
    view: NDArray[Any] = np.ndarray(tuple(shape), dtype_of(dtype), buffer)
    return view.copy() if copy else view
