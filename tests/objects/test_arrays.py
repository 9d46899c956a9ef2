"""Arrays as names, shapes and flat bytes; nothing that the wire says is believed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.typing import NDArray

from zdl.errors import CannotPack, CannotUnpack
from zdl.objects.arrays import describe, empty, flatten, nbytes_of, restore
from zdl.objects.dtypes import DTYPES

shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)


def filled(dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """An array whose elements differ."""
    count = int(np.prod(shape, dtype=int))
    return (np.arange(count) % 2 if dtype == "|b1" else np.arange(count)).astype(DTYPES[dtype]).reshape(shape)


@given(st.sampled_from(sorted(DTYPES)), shapes, st.booleans())
def test_every_array_comes_back_the_same(dtype: str, shape: tuple[int, ...], copy: bool) -> None:
    array = filled(dtype, shape)
    assert describe(array) == (dtype, shape)
    flat = flatten(array)
    assert (flat.format, flat.ndim, flat.nbytes, flat.c_contiguous) == ("B", 1, array.nbytes, True)
    back = restore(dtype, shape, flat, copy=copy)
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert np.array_equal(back, array)
    assert back.flags.writeable
    if array.size:
        assert np.shares_memory(back, array) is not copy


def test_contiguous_arrays_are_not_copied() -> None:
    array = np.arange(12.0).reshape(3, 4)
    flat = flatten(array)
    flat[:8] = np.float64(7.0).tobytes()
    assert array[0, 0] == 7.0


@pytest.mark.parametrize("array", [
    np.arange(12.0).reshape(3, 4).T, np.arange(12, dtype="i1")[::2], np.arange(5)[::-1],
    np.broadcast_to(np.int16(3), (2, 5)), np.asfortranarray(np.arange(6).reshape(2, 3)),
    np.arange(24).reshape(2, 3, 4)[:, 1],
])
def test_other_layouts_come_in_c_order(array: NDArray[Any]) -> None:
    assert bytes(flatten(array)) == array.tobytes(order="C")


def test_a_read_only_array_gives_a_read_only_view() -> None:
    array = np.arange(3)
    array.flags.writeable = False
    assert flatten(array).readonly


def test_a_view_of_bytes_is_read_only_and_a_copy_is_not() -> None:
    raw = np.arange(3).tobytes()
    assert not restore("<i8", (3,), raw, copy=False).flags.writeable
    assert restore("<i8", (3,), raw, copy=True).flags.writeable


@pytest.mark.parametrize("dtype", ["O8", "|O", "f4", "float32", "", "V8", "<f4,<f4", "(2,)<f4"])
def test_a_name_that_is_not_in_the_table_is_refused(dtype: str) -> None:
    with pytest.raises(CannotUnpack, match="is not allowed"):
        restore(dtype, (1,), bytes(8), copy=True)


@pytest.mark.parametrize("shape", [
    (-1,), (1 << 60,), (1 << 30, 1 << 30), (0, 1 << 57), (0, 1 << 40, 1 << 40), (True,), (1.0,), ("1",), (None,),
    (1,) * 33, (1 << 200,), ((1,),),
])
def test_a_shape_that_cannot_be_is_refused_before_anything_is_allocated(shape: Any) -> None:
    with pytest.raises(CannotUnpack):
        nbytes_of("<f4", shape)
    with pytest.raises(CannotUnpack):
        empty("<f4", shape)
    with pytest.raises(CannotUnpack):
        restore("<f4", shape, bytes(4), copy=True)


@given(shapes, st.integers(0, 300))
def test_bytes_that_are_not_as_many_as_the_shape_says_are_refused(shape: tuple[int, ...], have: int) -> None:
    need = nbytes_of("<i2", shape)
    if need == have:
        assert restore("<i2", shape, bytes(have), copy=False).nbytes == have
    else:
        with pytest.raises(CannotUnpack, match=f"has {need} bytes, there are {have}"):
            restore("<i2", shape, bytes(have), copy=False)


def test_an_array_without_elements_keeps_its_shape() -> None:
    assert restore("<f4", (0, 3), b"", copy=True).shape == (0, 3)
    assert nbytes_of("<f4", (3, 0, 5)) == 0


def test_an_array_that_no_receiver_would_take_is_refused_by_the_sender() -> None:
    with pytest.raises(CannotPack, match="33 dimensions"):
        describe(np.zeros((1,) * 33))
    with pytest.raises(CannotPack, match="more than"):
        describe(np.zeros((0, 1 << 54)))


def test_empty_gives_the_asked_array() -> None:
    array = empty(">f4", (2, 3))
    assert (array.dtype.str, array.shape, array.flags.writeable) == (">f4", (2, 3), True)
