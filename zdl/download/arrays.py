"""Arrays: lent objects in memory as one byte stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from zdl.download.born import Home
from zdl.objects.manifest import PADDING, Manifest, Range

# Pieces of at least this size go out as views of the object; smaller ones are gathered: a frame costs
# 2.5 us, a copy of 64 KiB about 3 us.
GATHER_BELOW_BYTES = 64 * 1024
# What is copied, or compared, at once: it stays in the cache. A chunk of the default size that begins where an item does is one.
BLOCK_BYTES = 1 << 20
NO_HOMES: Mapping[int, Home] = MappingProxyType({})


class Buffers:
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

    def blocks(self, offset: int, length: int) -> Iterator[Range]:
        """The byte range in pieces to be copied one after the other: blocks of large items, and small ones together."""
        begin = end = offset
        for item, start, stop in self._manifest.pieces(offset, length):
            if end > begin and (end - begin >= BLOCK_BYTES or stop - start >= BLOCK_BYTES):
                yield begin, end - begin
                begin = end
            while item != PADDING and stop - start >= BLOCK_BYTES:
                step = BLOCK_BYTES - start % BLOCK_BYTES
                yield begin, step
                start, begin, end = start + step, begin + step, begin + step
            end += stop - start
        if end > begin:
            yield begin, end - begin

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
