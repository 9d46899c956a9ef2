"""Sinks: where the bytes of a pull land.

Memory is the real cost of a pull: writing into fresh small pages runs at 2 GiB/s where the wire could do
4. So memory comes as **arenas**: mappings aligned to 2 MiB for which huge pages are asked (measured for 512
MiB in 37 arrays: 258 page faults and 33 ms to touch, 19,000 and 55 ms from numpy's own allocator, which
does not begin arrays on a huge page). An array of 4 MiB or more has an arena of its own; all smaller items
of a batch share one. Its layout is the byte stream itself, so one chunk lands in one piece however many
items it holds. It lives as long as any array in it: who keeps one small array of a large batch should copy it.
"""

from __future__ import annotations

import mmap
import os
import shutil
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from zdl.errors import DiskFull, DownloadError, OptionError
from zdl.objects.arrays import flatten, restore
from zdl.objects.manifest import merge_ranges
from zdl.refs import Ref

OWN_MEMORY_BYTES = 4 << 20
HUGE_PAGE_BYTES = 2 << 20


class MemorySink:
    """Fresh memory for items of one offer.

    Threads: `view` and `keep` from the data lane; `take` after the pull has settled.

    Args:
        refs: the items; the same one may stand there twice.
    """

    def __init__(self, refs: Sequence[Ref]) -> None:
        runs: list[tuple[int, memoryview]] = []
        small: list[Ref] = []
        for ref in dict.fromkeys(refs):
            if ref.kind == "array" and ref.length >= OWN_MEMORY_BYTES:
                runs.append((ref.offset, _arena(ref.length)))
            elif ref.length:
                small.append(ref)
        joined = merge_ranges((ref.offset, ref.length) for ref in small)
        arena = _arena(sum(_spaced(length) for _, length in joined))
        at = 0
        for offset, length in joined:
            runs.append((offset, arena[at:at + length]))
            at += _spaced(length)
        runs.sort(key=lambda run: run[0])
        self._starts = [offset for offset, _ in runs]
        self._views = [view for _, view in runs]
        self.ranges: list[tuple[int, int]] = [(offset, view.nbytes) for offset, view in runs]

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

    def take(self, ref: Ref) -> object:
        """The item, after the pull: a writable array, or bytes."""
        view = self.view(ref.offset, ref.length) if ref.length else memoryview(b"")
        if ref.kind == "array":
            return restore(ref.dtype, ref.shape, view, copy=not ref.length)
        return bytes(view)


class FileSink:
    """A file that appears under its name only when all of it is there and verified.

    Until then its bytes are in ``.<name>.zdl-part`` beside it. Chunks are written by the broker's threads,
    in any order.

    Args:
        path: where the file shall be.
        size: its bytes.
        is_overwriting: whether a file of that name may be replaced.

    Raises:
        OptionError: the name is taken, or the folder cannot be written.
        DiskFull: there is no room; nothing was pulled.
    """

    def __init__(self, path: Path, ref: Ref, *, is_overwriting: bool) -> None:
        self._path = path
        self._ref = ref
        self._part = path.with_name(f".{path.name}.zdl-part")
        if path.exists() and not is_overwriting:
            raise OptionError(name="path", value=str(path), allowed="a name that is free; or allow overwriting")
        self.ranges: list[tuple[int, int]] = [(ref.offset, ref.length)] if ref.length else []
        try:
            free = shutil.disk_usage(path.parent).free
            if free < ref.length:
                raise self._full(free)
            flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            self._descriptor = os.open(self._part, flags, 0o600)
        except OSError as error:
            raise OptionError(name="path", value=str(path), allowed=f"it cannot be written: {error.strerror}") from error

    @property
    def may_block(self) -> bool:
        """Disks do."""
        return True

    def view(self, offset: int, length: int) -> memoryview:
        """Memory for one chunk on its way to the disk."""
        return memoryview(bytearray(length))

    def keep(self, offset: int, view: memoryview) -> None:
        """Write a verified chunk."""
        at = offset - self._ref.offset
        try:
            while view:
                written = os.pwrite(self._descriptor, view, at)
                view, at = view[written:], at + written
        except OSError as error:
            with suppress(OSError):
                raise self._full(shutil.disk_usage(self._path.parent).free) from error
            raise DownloadError(ref=self._ref.source.label, origin=self._ref.origin) from error

    def finish(self) -> Path:
        """All is verified: give it its name."""
        os.fsync(self._descriptor)
        os.close(self._descriptor)
        os.replace(self._part, self._path)
        return self._path

    def abandon(self) -> None:
        """Remove what came."""
        os.close(self._descriptor)
        self._part.unlink(missing_ok=True)

    def _full(self, free: int) -> DiskFull:
        return DiskFull(ref=self._ref.source.label, origin=self._ref.origin, path=str(self._path), need=self._ref.length,
                        free=free)


def taken(sink: MemorySink, refs: Sequence[Ref]) -> Mapping[Ref, object]:
    """All items of a pull; the same ref is the same object."""
    return {ref: sink.take(ref) for ref in dict.fromkeys(refs)}


def _spaced(length: int) -> int:
    """Runs begin at multiples of 64 in the arena too, so that arrays in it are aligned."""
    return (length + 63) & ~63


def _arena(size: int) -> memoryview:
    """Fresh memory of this size, on huge pages where it is worth it and the system grants them."""
    if size < HUGE_PAGE_BYTES:
        return flatten(np.empty(size, np.uint8))
    mapping = mmap.mmap(-1, size + HUGE_PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without huge pages: small ones do
            mapping.madvise(mmap.MADV_HUGEPAGE)
    whole = np.frombuffer(mapping, np.uint8)
    skip = -whole.ctypes.data % HUGE_PAGE_BYTES
    return memoryview(mapping)[skip:skip + size]
