"""Given: bytes land in memory that the user has already, see `zdl.objects.places`.

A large array lands in place. Small ones that are neighbours in the stream are asked for together, land in one piece
of memory per chunk, and are copied from there: a question for each would cost more than the copy.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate

from zdl.objects.manifest import merge_ranges
from zdl.refs import Ref

# Items of at least this size land in place, with chunks of their own; see `zdl.download.arrays.GATHER_BELOW_BYTES`.
IN_PLACE_BYTES = 64 * 1024


class GivenSink:
    """Memory of the user's for items of one offer.

    Threads: `view` and `keep` from the data lane. When the pull fails, what is in the memory is undefined.

    Args:
        places: the items, and memory of exactly their size. Items may overlap.
    """

    def __init__(self, places: Mapping[Ref, memoryview]) -> None:
        ordered = sorted(((ref.offset, memory) for ref, memory in places.items() if memory.nbytes), key=lambda each: each[0])
        direct, pieces = _parted(ordered)
        self._offsets = [offset for offset, _ in pieces]
        self._memories = [memory for _, memory in pieces]
        # What ends before a byte ends before every later one: a piece in a larger one must not hide that.
        self._ends = list(accumulate((offset + memory.nbytes for offset, memory in pieces), max))
        joined = merge_ranges((offset, memory.nbytes) for offset, memory in pieces)
        runs: list[tuple[int, int, memoryview | None]] = [(offset, memory.nbytes, memory) for offset, memory in direct]
        runs += [(offset, length, None) for offset, length in joined]
        runs.sort(key=lambda run: run[0])
        self._starts = [offset for offset, _, _ in runs]
        self._runs = [memory for _, _, memory in runs]
        self.ranges: list[tuple[int, int]] = [(offset, length) for offset, length, _ in runs]

    @property
    def have(self) -> Sequence[tuple[int, int]]:
        """Nothing is there yet."""
        return ()

    @property
    def may_block(self) -> bool:
        """Memory does not."""
        return False

    def view(self, offset: int, length: int) -> memoryview:
        """The place of a chunk."""
        run = bisect_right(self._starts, offset) - 1
        memory = self._runs[run]
        if memory is None:
            return memoryview(bytearray(length))
        at = offset - self._starts[run]
        return memory[at:at + length]

    def finish(self) -> None:
        """Memory keeps what is in it."""

    def keep(self, offset: int, view: memoryview) -> None:
        """Copies to each item what it has of a chunk, unless that landed in place."""
        if self._runs[bisect_right(self._starts, offset) - 1] is not None:
            return
        end = offset + view.nbytes
        for number in range(bisect_right(self._ends, offset), len(self._offsets)):
            begin, memory = self._offsets[number], self._memories[number]
            if begin >= end:
                break
            start, stop = max(begin, offset), min(begin + memory.nbytes, end)
            if start < stop:
                memory[start - begin:stop - begin] = view[start - offset:stop - offset]


Place = tuple[int, memoryview]


def _parted(ordered: list[Place]) -> tuple[list[Place], list[Place]]:
    """Those that land in place, and those that are copied to their place: small ones, and those that overlap others."""
    direct: list[Place] = []
    pieces: list[Place] = []
    end = 0
    for number, (offset, memory) in enumerate(ordered):
        stop = offset + memory.nbytes
        is_alone = offset >= end and (number + 1 == len(ordered) or ordered[number + 1][0] >= stop)
        (direct if is_alone and memory.nbytes >= IN_PLACE_BYTES else pieces).append((offset, memory))
        end = max(end, stop)
    return direct, pieces
