"""Many arrays as one stream of bytes, cut into pieces that both ends agree on.

Large arrays come first, each a **run** of its own; all smaller ones follow as one more run. A receiver that keeps
each run in contiguous memory lands any piece with one read, and a sender copies only where a piece spans several
small arrays.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate

from zdl_bench.state import DTYPE, Array, Shapes, bytes_of

# numpy asks for huge pages for single arrays from here on (`zdl_bench.destination` measures it); smaller ones share an arena.
LARGE_BYTES = 4 * 1024 * 1024


def described(state: Mapping[str, Array]) -> Shapes:
    """Names and shapes in the order of the stream: large arrays, then small ones, each as they came."""
    ordered = sorted(state.items(), key=lambda entry: entry[1].nbytes < LARGE_BYTES)
    return [(name, array.shape) for name, array in ordered]


def array_bytes(shape: tuple[int, ...]) -> int:
    """Size of a float32 array of this shape."""
    length = DTYPE.itemsize
    for extent in shape:
        length *= extent
    return length


def runs(shapes: Shapes) -> list[int]:
    """Lengths in bytes of the runs of a stream whose arrays are these, in its order."""
    sizes = [array_bytes(shape) for _, shape in shapes]
    large = [size for size in sizes if size >= LARGE_BYTES]
    small = sum(sizes) - sum(large)
    return large + [small] if small else large


def pieces(run_lengths: list[int], *, piece_bytes: int) -> list[tuple[int, int]]:
    """(offset in the stream, length) of every piece; none crosses from one run into the next."""
    found: list[tuple[int, int]] = []
    start = 0
    for length in run_lengths:
        found.extend((start + offset, min(piece_bytes, length - offset)) for offset in range(0, length, piece_bytes))
        start += length
    return found


class Stream:
    """Arrays read as one stream of bytes.

    Attributes:
        shapes: names and shapes, in the order of the stream.
        runs: lengths of the runs, see `runs`.
        views: the bytes of each array, in the order of the stream.

    Lifetime: holds views of the arrays, which must not change meanwhile.
    """

    def __init__(self, state: Mapping[str, Array]) -> None:
        self.shapes = described(state)
        self.runs = runs(self.shapes)
        self.views = [bytes_of(state[name]) for name, _ in self.shapes]
        self._starts = [0, *accumulate(view.nbytes for view in self.views)]

    def read(self, offset: int, length: int) -> memoryview | bytes:
        """The bytes there: a view where one array has them all, else gathered by a copy."""
        index = bisect_right(self._starts, offset) - 1
        begin = offset - self._starts[index]
        if begin + length <= self.views[index].nbytes:
            return self.views[index][begin:begin + length]
        parts: list[memoryview] = []
        while length > 0:
            part = self.views[index][begin:begin + length]
            parts.append(part)
            length -= part.nbytes
            index, begin = index + 1, 0
        return b"".join(parts)
