"""Sinks: where the bytes of a pull land.

Memory is the real cost of a pull: writing into fresh small pages runs at 2 GiB/s where the wire could do
4. So memory comes as **arenas**: mappings aligned to 2 MiB for which huge pages are asked (measured for 512
MiB in 37 arrays: 258 page faults and 33 ms to touch, 19,000 and 55 ms from numpy's own allocator, which
does not begin arrays on a huge page). An array of 4 MiB or more has an arena of its own; all smaller items
of a batch share one. Its layout is the byte stream itself, so one chunk lands in one piece however many
items it holds. It lives as long as any array in it: who keeps one small array of a large batch should copy it.

Bytes of 1 MiB or more land in what will be the ``bytes``: `io.BytesIO` lends its memory for writing, and gives it away as
it is when nobody writes there any more. To copy them out of an arena is memory twice.
"""

from __future__ import annotations

import io
import mmap
import os
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Protocol

import numpy as np

from zdl.errors import TooLarge
from zdl.objects.arrays import flatten, restore
from zdl.objects.manifest import ALIGN_BYTES, ALONE_BYTES, aligned, merge_ranges
from zdl.refs import Ref

# A chunk has as much, so that these need no more chunks than they would together; see `zdl.options.PullOptions.chunk_bytes`.
OWN_BYTES_MIN = 1 << 20
HUGE_PAGE_BYTES = 2 << 20


class MemorySink:
    """Fresh memory for items of one offer.

    Threads: `view` and `keep` from the data lane; `take` after the pull has settled.

    Args:
        refs: the items; the same one may stand there twice.

    Raises:
        TooLarge: the system has not so much memory.
    """

    def __init__(self, refs: Sequence[Ref]) -> None:
        runs: list[tuple[int, memoryview]] = []
        small: list[Ref] = []
        self._shared = overlapping(refs)
        self._bytes: dict[Ref, io.BytesIO] = {}
        for ref in dict.fromkeys(refs):
            is_array, is_alone = ref.kind == "array", ref not in self._shared
            if is_array and ref.length >= ALONE_BYTES and is_alone:
                runs.append((ref.offset, _arena(ref.length)))
            elif not is_array and ref.length >= OWN_BYTES_MIN and is_alone:
                self._bytes[ref] = made = _blank(ref.length)
                runs.append((ref.offset, made.getbuffer()))
            elif ref.length:
                small.append(ref)
        joined = merge_ranges((ref.offset, ref.length) for ref in small)
        arena = _arena(sum(aligned(length) for _, length in joined))
        at = 0
        for offset, length in joined:
            runs.append((offset, arena[at:at + length]))
            at += aligned(length)  # so that arrays begin in the arena where items begin in the stream
        runs.sort(key=lambda run: run[0])
        self._starts = [offset for offset, _ in runs]
        self._views = [view for _, view in runs]
        self.ranges: list[tuple[int, int]] = [(offset, view.nbytes) for offset, view in runs]

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
        at = offset - self._starts[run]
        return self._views[run][at:at + length]

    def keep(self, offset: int, view: memoryview) -> None:
        """The bytes are where they belong already."""

    def finish(self) -> None:
        """Memory lasts as long as it does."""

    def take(self, ref: Ref) -> object:
        """The item, after the pull: a writable array, or bytes."""
        made = self._bytes.get(ref)
        if made is not None:
            self._views[bisect_right(self._starts, ref.offset) - 1].release()  # as long as it is lent, what is given is a copy
            return made.getvalue()
        view = self.view(ref.offset, ref.length) if ref.length else memoryview(b"")
        if ref.kind == "array":
            return restore(ref.dtype, ref.shape, view, copy=not ref.length or bool(self._shared) and ref in self._shared)
        return bytes(view)


def overlapping(refs: Sequence[Ref]) -> set[Ref]:
    """Those that have bytes in common with another one: what they stand for must not share memory."""
    end = 0
    for ref in refs:  # mostly they stand in the order of the stream, one behind the other
        if ref.offset < end and ref.length:
            break
        end = max(end, ref.offset + ref.length)
    else:
        return set()
    found: set[Ref] = set()
    last: Ref | None = None
    for ref in sorted({ref for ref in refs if ref.length}, key=lambda each: each.offset):
        if last is not None and ref.offset < last.offset + last.length:
            found |= {ref, last}
        if last is None or ref.offset + ref.length > last.offset + last.length:
            last = ref
    return found


class Taking(Protocol):
    """A sink that holds what came."""

    def take(self, ref: Ref) -> object:
        """The item, after the pull."""


def taken(sink: Taking, refs: Sequence[Ref]) -> Mapping[Ref, object]:
    """All items of a pull; the same ref is the same object."""
    items = dict.fromkeys(refs)
    return dict(zip(items, map(sink.take, items)))


def _arena(size: int) -> memoryview:
    """Fresh memory of this size, on huge pages where it is worth it and the system grants them."""
    if size < HUGE_PAGE_BYTES:
        small = np.empty(size + ALIGN_BYTES, np.uint8)
        skip = -small.ctypes.data % ALIGN_BYTES
        return flatten(small[skip:skip + size])
    try:
        mapping = mmap.mmap(-1, size + HUGE_PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError) as error:
        raise _too_large(size) from error
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without huge pages: small ones do
            mapping.madvise(mmap.MADV_HUGEPAGE)
    whole = np.frombuffer(mapping, np.uint8)
    skip = -whole.ctypes.data % HUGE_PAGE_BYTES
    return memoryview(mapping)[skip:skip + size]


def _blank(size: int) -> io.BytesIO:
    """What holds fresh memory of this size, and nothing else does: so it is lent, and given away, without a copy."""
    try:
        return io.BytesIO(bytes(size))
    except (MemoryError, OverflowError) as error:
        raise _too_large(size) from error


def _too_large(size: int) -> TooLarge:
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return TooLarge(what="the object", size=size, limit="free memory", value=free)
