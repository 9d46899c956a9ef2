"""The arrays that are moved: their size, their mix, and that they are the same every time."""

from __future__ import annotations

import numpy as np
import pytest

from zdl_bench.layout import LARGE_BYTES, array_bytes
from zdl_bench.state import Load, bytes_of, checksum, make, shapes, size_bytes

MIB = 1 << 20


@pytest.mark.parametrize("size", [4, 3072, 3076, 1 * MIB, 7 * MIB + 4, 100 * MIB, 512 * MIB, 3 << 30])
def test_mixed_arrays_have_exactly_the_size_asked_for(size: int) -> None:
    found = shapes(Load("mixed", size))
    assert sum(array_bytes(shape) for _, shape in found) == size
    assert len({name for name, _ in found}) == len(found)


def test_the_mix_has_a_few_large_matrices_and_many_vectors() -> None:
    sizes = [array_bytes(shape) for _, shape in shapes(Load("mixed", 512 * MIB))]
    assert sum(size >= 10 * MIB for size in sizes) >= 20
    assert sum(1 * MIB <= size < LARGE_BYTES for size in sizes) >= 10
    assert sum(768 * 4 <= size <= 3072 * 4 for size in sizes) >= 90
    assert sum(size for size in sizes if size >= LARGE_BYTES) > 450 * MIB


def test_a_small_state_is_a_mix_too() -> None:
    found = shapes(Load("mixed", 1 * MIB))
    assert {len(shape) for _, shape in found} == {1, 2}


def test_equal_items_share_the_size() -> None:
    found = shapes(Load("equal", 5000 * 4096, items=5000))
    assert len(found) == 5000
    assert {shape for _, shape in found} == {(1024,)}


def test_the_same_load_makes_the_same_arrays() -> None:
    first, second = make(Load("mixed", 1 * MIB)), make(Load("mixed", 1 * MIB))
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert size_bytes(first) == 1 * MIB
    assert {array.dtype for array in first.values()} == {np.dtype(np.float32)}


def test_the_checksum_follows_the_bytes_and_not_the_order() -> None:
    arrays = make(Load("equal", 4096, items=4))
    before = checksum(arrays)
    assert checksum(dict(reversed(arrays.items()))) == before
    bytes_of(arrays["item.3"])[7] ^= 1
    assert checksum(arrays) != before


@pytest.mark.parametrize("wrong", [
    {"kind": "odd", "size_bytes": 4}, {"kind": "mixed", "size_bytes": 0}, {"kind": "mixed", "size_bytes": 6},
    {"kind": "equal", "size_bytes": 4096}, {"kind": "equal", "size_bytes": 4096, "items": 3}])
def test_a_load_that_cannot_be_made_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be|cannot be"):
        Load(**wrong)
