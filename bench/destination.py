"""Fresh memory for arrays that arrive.

Fresh small pages take in at most 2–3 GiB/s, huge ones twice that: see ``memcpy_fresh`` of the question ``pull``. Small
arrays are views into one advised arena, which lives as long as any of them. Arrays of 4 MiB and more are, by choice,

* ``numpy``: made by `np.empty`, which advises huge pages too. But malloc does not begin them on a huge page, so that
  each has up to 511 small pages at its ends; and once malloc has seen a few large blocks freed (after two pulls, or
  seven, or none) it takes them from its heap, where they lie side by side and may not be fresh at all. Measured,
  512 MiB in 37 arrays: 19,140, 2,729 or 21 faults; touched in 55 or 33 ms. Two figures may differ by that alone.
* ``aligned``: each a mapping of its own that begins on a huge page: 258 faults, 33 ms, always fresh.
"""

from __future__ import annotations

import mmap
import os
from itertools import accumulate

import numpy as np

from zdl_bench.layout import LARGE_BYTES, array_bytes, pieces, runs
from zdl_bench.state import DTYPE, Array, Shapes, State, bytes_of

KINDS = ("numpy", "aligned")
HUGE_PAGE_BYTES = 2 * 1024 * 1024


class Destination:
    """Arrays of the given shapes, not yet touched, and the contiguous runs that fill them."""

    def __init__(self, shapes: Shapes, *, kind: str = "aligned") -> None:
        self.arrays: State = {}
        self._views: list[memoryview] = []
        small: Shapes = []
        for name, shape in shapes:
            if array_bytes(shape) < LARGE_BYTES:
                small.append((name, shape))
                continue
            self.arrays[name] = np.empty(shape, DTYPE) if kind == "numpy" else _aligned(shape)
            self._views.append(bytes_of(self.arrays[name]))
        if small:
            self._views.append(self._placed(small))
        self._runs = runs(shapes)

    def slices(self, *, piece_bytes: int) -> list[tuple[int, memoryview]]:
        """(offset in the stream, where it belongs) for every piece, in order."""
        ends = list(accumulate(self._runs))
        found: list[tuple[int, memoryview]] = []
        index = 0
        for offset, length in pieces(self._runs, piece_bytes=piece_bytes):
            while offset >= ends[index]:
                index += 1
            begin = offset - ends[index] + self._runs[index]
            found.append((offset, self._views[index][begin:begin + length]))
        return found

    def _placed(self, small: Shapes) -> memoryview:
        """One arena; makes the arrays views into it, in order, without gaps."""
        ends = list(accumulate(array_bytes(shape) for _, shape in small))
        arena = advised(ends[-1])
        for (name, shape), end in zip(small, ends):
            part = arena[end - array_bytes(shape):end]
            self.arrays[name] = np.frombuffer(part, DTYPE).reshape(shape)
        return arena


def _aligned(shape: tuple[int, ...]) -> Array:
    return np.frombuffer(advised(array_bytes(shape)), DTYPE).reshape(shape)


def malloc_primed() -> None:
    """Has malloc keep blocks of up to 62 MiB instead of handing them back after each use.

    libzmq receives each chunk of 1 MiB into a block of malloc's. At first glibc maps such blocks one by one, then takes
    them from a heap that it trims at twice the largest mapped block that was ever freed (mallopt(3), dynamic mmap
    threshold; 32 MiB at most). To free one such block moves both limits up for good: without it a pull of 512 MiB
    has up to 40,000 more page faults and runs at 0.65 of the speed.
    """
    nothing = os.open(os.devnull, os.O_RDONLY)
    try:
        os.read(nothing, 31 << 20)  # its buffer is a block that is never touched
    finally:
        os.close(nothing)


def advised(length: int) -> memoryview:
    """Private anonymous memory that begins on a huge page and asks for huge pages; at its end only where at least half
    of one is used, so that no more than half of one is wasted.

    A mapping of Python's is shared unless told otherwise, and shared memory gets no huge pages by default.
    """
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return memoryview(bytearray(length))
    mapping = mmap.mmap(-1, length + HUGE_PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address = np.frombuffer(mapping, np.uint8).ctypes.data
    start = -address % HUGE_PAGE_BYTES
    huge_pages = (length + HUGE_PAGE_BYTES // 2) // HUGE_PAGE_BYTES
    if huge_pages:
        mapping.madvise(mmap.MADV_HUGEPAGE, start, huge_pages * HUGE_PAGE_BYTES)
    return memoryview(mapping)[start:start + length]


def plain(length: int) -> memoryview:
    """Private anonymous memory as the system gives it, mostly on small pages: as ``malloc`` has it for large objects."""
    return memoryview(mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
