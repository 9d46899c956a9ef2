"""Arrays: lent objects in memory as one byte stream."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from zdl.download.born import Home
from zdl.objects.manifest import PADDING, Manifest, Range, cut
from zdl.protocol.digests import Readable

# Pieces of at least this size go out as views of the object; smaller ones are gathered: a frame costs
# 2.5 us, a copy of 64 KiB about 3 us.
GATHER_BELOW_BYTES = 64 * 1024
# What is copied, or compared, at once: it stays in the cache. It is what one who wants all of it asks for as one chunk.
BLOCK_BYTES = 1 << 20
NO_HOMES: Mapping[int, Home] = MappingProxyType({})


class Grid:
    """Where blocks begin in a stream, and how long they are; between two there may be a gap.

    Args:
        blocks: in order.
    """

    __slots__ = ("_starts", "_lengths")

    def __init__(self, blocks: Iterable[Range]) -> None:
        self._starts: list[int] = []
        self._lengths: list[int] = []
        for start, length in blocks:
            self._starts.append(start)
            self._lengths.append(length)

    def __iter__(self) -> Iterator[Range]:
        return zip(self._starts, self._lengths)

    def touched(self, offset: int, length: int) -> Iterator[Range]:
        """The blocks of which some byte lies in this range, in order."""
        end = offset + length
        for number in range(max(0, bisect_right(self._starts, offset) - 1), len(self._starts)):
            start, size = self._starts[number], self._lengths[number]
            if start >= end:
                return
            if start + size > offset:
                yield start, size


class Buffers(Readable):
    """Flat buffers, in the order and at the offsets of a manifest.

    Threads: `read` from any thread.

    Args:
        manifest: where each buffer begins.
        buffers: flat views of bytes; they keep the objects alive.

    Attributes:
        homes: which of them lie in segments; see `zdl.download.born`.
    """

    def __init__(self, manifest: Manifest, buffers: Sequence[memoryview]) -> None:
        self._manifest = manifest
        self._buffers = tuple(buffers)
        self._grid: Grid | None = None
        self.homes: Mapping[int, Home] = NO_HOMES

    def placed(self, offset: int, length: int) -> Iterator[tuple[int, int, Home | None, int]]:
        """The byte range in pieces: offset, length, the segment that it lies in already, and where there.

        A segment has room for what lies between its item and the next one.
        """
        begin = offset
        last: tuple[Home, int] | None = None
        for item, start, stop in self._manifest.pieces(offset, length):
            home = self.homes.get(item)
            at = offset
            offset += stop - start
            if last is not None and item == PADDING:
                continue
            if last is not None or home is not None:
                if at > begin:
                    yield begin, at - begin, last[0] if last else None, last[1] if last else 0
                begin = at
            last = None if home is None else (home, start)
        if offset > begin:
            yield begin, offset - begin, last[0] if last else None, last[1] if last else 0

    @property
    def nbytes(self) -> int:
        """The length of the stream."""
        return self._manifest.bytes_total

    @property
    def may_block(self) -> bool:
        """Memory does not."""
        return False

    def read(self, offset: int, length: int) -> list[bytes | memoryview]:
        """The byte range: views of large pieces, runs of small ones gathered."""
        return self.as_is(offset, length)

    def as_is(self, offset: int, length: int) -> list[bytes | memoryview]:
        """The same."""
        parts: list[bytes | memoryview] = []
        run: list[bytes | memoryview] = []
        for item, start, stop in self._manifest.pieces(offset, length):
            piece = bytes(stop - start) if item == PADDING else self._buffers[item][start:stop]
            if stop - start >= GATHER_BELOW_BYTES:
                if run:
                    parts.append(b"".join(run))
                    run = []
                parts.append(piece)
            else:
                run.append(piece)
        if run:
            parts.append(b"".join(run))
        return parts

    @property
    def grid(self) -> Grid:
        """The blocks of the stream. They are kept where there are several: ten thousand small streams may be lent."""
        if self._grid is not None:
            return self._grid
        grid = Grid(cut(self._manifest.runs(), BLOCK_BYTES))
        if self.nbytes > BLOCK_BYTES:
            self._grid = grid
        return grid

    def blocks(self, offset: int, length: int) -> Iterator[Range]:
        """The byte range in pieces to be copied one after the other, each with the gap behind it."""
        end = offset + length
        for start, _ in self.grid.touched(offset + 1, max(0, length - 1)):
            if start > offset:
                yield offset, start - offset
                offset = start
        if end > offset:
            yield offset, end - offset

    def copy_into(self, offset: int, view: memoryview) -> None:
        """The byte range that has the size of the view, copied into it."""
        at = 0
        for item, start, stop in self._manifest.pieces(offset, view.nbytes):
            place = view[at:at + stop - start]
            at += stop - start
            if item == PADDING:
                place[:] = bytes(stop - start)
            elif stop - start < GATHER_BELOW_BYTES:
                place[:] = self._buffers[item][start:stop]
            else:  # numpy lets other threads run meanwhile
                np.copyto(np.frombuffer(place, np.uint8), np.frombuffer(self._buffers[item][start:stop], np.uint8))
