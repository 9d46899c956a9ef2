"""Many arrays as one stream, and the memory it lands in."""

from __future__ import annotations

import numpy as np
import pytest

from zdl_bench.destination import HUGE_PAGE_BYTES, KINDS, Destination, advised
from zdl_bench.layout import LARGE_BYTES, Stream, described, pieces, runs
from zdl_bench.state import Load, State, checksum, make

LARGE = (LARGE_BYTES // 4 + 5,)


def mixed() -> State:
    """Small arrays around two large ones."""
    small = make(Load("equal", 3 * 1200, items=3))
    return {"first": small["item.0"], "large": np.arange(LARGE[0], dtype=np.float32),
            "second": small["item.1"], "larger": np.ones((2, *LARGE), np.float32), "third": small["item.2"]}


def test_large_arrays_come_first_each_as_a_run_and_small_ones_are_one_more() -> None:
    shapes = described(mixed())
    assert [name for name, _ in shapes] == ["large", "larger", "first", "second", "third"]
    assert runs(shapes) == [4 * LARGE[0], 8 * LARGE[0], 3 * 1200]


def test_pieces_cover_the_stream_and_never_cross_runs() -> None:
    assert pieces([10, 3], piece_bytes=4) == [(0, 4), (4, 4), (8, 2), (10, 3)]


def test_a_range_inside_one_array_is_a_view_and_one_across_arrays_a_copy() -> None:
    stream = Stream(make(Load("equal", 24, items=3)))
    assert isinstance(stream.read(8, 8), memoryview)
    crossing = stream.read(4, 16)
    assert isinstance(crossing, bytes)
    assert crossing == b"".join(bytes(view) for view in stream.views)[4:20]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("piece_bytes", [1000, 65_536, 1 << 30])
def test_what_is_read_in_pieces_lands_as_the_same_arrays(kind: str, piece_bytes: int) -> None:
    arrays = mixed()
    stream = Stream(arrays)
    destination = Destination(stream.shapes, kind=kind)
    for offset, view in destination.slices(piece_bytes=piece_bytes):
        view[:] = stream.read(offset, view.nbytes)
    assert destination.arrays["larger"].shape == (2, *LARGE)
    assert checksum(destination.arrays) == checksum(arrays)


@pytest.mark.parametrize("length", [1, HUGE_PAGE_BYTES, HUGE_PAGE_BYTES + 1, 3 * HUGE_PAGE_BYTES - 1])
def test_advised_memory_is_writable_to_its_end_and_begins_on_a_huge_page(length: int) -> None:
    memory = advised(length)
    memory[length - 1] = 1
    assert memory.nbytes == length
    assert np.frombuffer(memory, np.uint8).ctypes.data % HUGE_PAGE_BYTES == 0
