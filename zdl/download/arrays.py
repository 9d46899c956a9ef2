"""Arrays: lent objects in memory as one byte stream."""

from __future__ import annotations

from collections.abc import Sequence

from zdl.objects.manifest import PADDING, Manifest

# Pieces of at least this size go out as views of the object; smaller ones are gathered: a frame costs
# 2.5 us, a copy of 64 KiB about 3 us.
GATHER_BELOW_BYTES = 64 * 1024


class Buffers:
    """Flat buffers, in the order and at the offsets of a manifest.

    Threads: `read` from any thread.

    Args:
        manifest: where each buffer begins.
        buffers: flat views of bytes; they keep the objects alive.
    """

    def __init__(self, manifest: Manifest, buffers: Sequence[memoryview]) -> None:
        self._manifest = manifest
        self._buffers = tuple(buffers)

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
