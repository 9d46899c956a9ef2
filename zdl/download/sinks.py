"""Sinks: where the bytes of a pull land.

Memory is the real cost of a pull: writing into fresh small pages runs at 2 GiB/s where the wire could do
4. So memory comes as **arenas**: mappings aligned to 2 MiB for which huge pages are asked (measured for 512
MiB in 37 arrays: 258 page faults and 33 ms to touch, 19,000 and 55 ms from numpy's own allocator, which
does not begin arrays on a huge page). An array of 4 MiB or more has an arena of its own; all smaller items
of a batch share one. Its layout is the byte stream itself, so one chunk lands in one piece however many
items it holds. It lives as long as any array in it: who keeps one small array of a large batch should copy it.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import shutil
import threading
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from zdl.errors import DiskFull, OptionError, TooLarge, ZdlError
from zdl.objects.arrays import flatten, restore
from zdl.objects.manifest import ALIGN_BYTES, aligned, merge_ranges
from zdl.refs import Ref

OWN_MEMORY_BYTES = 4 << 20
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
        for ref in dict.fromkeys(refs):
            if ref.kind == "array" and ref.length >= OWN_MEMORY_BYTES:
                runs.append((ref.offset, _arena(ref.length)))
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
        ref: what it will hold.
        is_overwriting: whether a file of that name may be replaced.

    Raises:
        OptionError: the name is taken, or the folder cannot be written.
        DiskFull: there is no room; nothing was pulled.
    """

    def __init__(self, path: Path, ref: Ref, *, is_overwriting: bool) -> None:
        self._path = path
        self._ref = ref
        self._is_overwriting = is_overwriting
        self._part = path.with_name(f".{path.name}.zdl-part")
        self._lock = threading.Lock()  # guards the descriptor: nothing is written to it after it was closed
        self.ranges: list[tuple[int, int]] = [(ref.offset, ref.length)] if ref.length else []
        self._check_name()
        try:
            free = shutil.disk_usage(path.parent).free
            if free < ref.length:
                raise self._full(free)
            self._descriptor: int | None = self._open()
        except OSError as error:
            raise self._failed(error) from error

    @property
    def may_block(self) -> bool:
        """Disks do."""
        return True

    def view(self, offset: int, length: int) -> memoryview:
        """Memory for one chunk on its way to the disk."""
        return memoryview(bytearray(length))

    def keep(self, offset: int, view: memoryview) -> None:
        """Write a verified chunk; nothing when the pull has been given up meanwhile."""
        at = offset - self._ref.offset
        with self._lock:
            if self._descriptor is None:
                return
            try:
                while view:
                    written = os.pwrite(self._descriptor, view, at)
                    view, at = view[written:], at + written
            except OSError as error:
                raise self._failed(error) from error

    def finish(self) -> None:
        """All is verified: give it its name, and have the disk keep both before the origin is told.

        Raises:
            OptionError, DiskFull: it cannot be had; nothing is left.
        """
        with self._lock:
            descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:  # nobody waits for it any more
            return
        is_done = False
        try:
            os.fsync(descriptor)
            self._check_name()
            os.replace(self._part, self._path)
            is_done = True
            sync_folder(self._path.parent)
        except OSError as error:
            raise self._failed(error) from error
        finally:
            if not is_done:
                self._part.unlink(missing_ok=True)
            os.close(descriptor)  # last: until then nobody else begins to write under this name

    def abandon(self) -> None:
        """Remove what came."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            self._part.unlink(missing_ok=True)
            os.close(descriptor)

    def _open(self) -> int:
        """The part file, empty, and this pull's alone."""
        descriptor = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(descriptor), os.stat(self._part)):
                raise BlockingIOError(errno.EAGAIN, "its name was just given to another one")
            os.ftruncate(descriptor, 0)  # what a process that was killed has left
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def _check_name(self) -> None:
        if self._path.exists() and not self._is_overwriting:
            raise OptionError(name="path", value=str(self._path), allowed="a name that is free; or allow overwriting")

    def _failed(self, error: OSError) -> ZdlError:
        """What the disk says, as an error of ours."""
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            with suppress(OSError):
                return self._full(shutil.disk_usage(self._path.parent).free)
        if isinstance(error, BlockingIOError):
            return OptionError(name="path", value=str(self._path), allowed="a name that no other pull is writing")
        return OptionError(name="path", value=str(self._path), allowed=f"it cannot be written: {error.strerror}")

    def _full(self, free: int) -> DiskFull:
        return DiskFull(ref=self._ref.source.label, origin=self._ref.origin, path=str(self._path), need=self._ref.length,
                        free=free)


def sync_folder(folder: Path) -> None:
    """Have the disk keep the names in a folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def taken(sink: MemorySink, refs: Sequence[Ref]) -> Mapping[Ref, object]:
    """All items of a pull; the same ref is the same object."""
    return {ref: sink.take(ref) for ref in dict.fromkeys(refs)}


def _arena(size: int) -> memoryview:
    """Fresh memory of this size, on huge pages where it is worth it and the system grants them."""
    if size < HUGE_PAGE_BYTES:
        small = np.empty(size + ALIGN_BYTES, np.uint8)
        skip = -small.ctypes.data % ALIGN_BYTES
        return flatten(small[skip:skip + size])
    try:
        mapping = mmap.mmap(-1, size + HUGE_PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError) as error:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        raise TooLarge(what="the object", size=size, limit="free memory", value=free) from error
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without huge pages: small ones do
            mapping.madvise(mmap.MADV_HUGEPAGE)
    whole = np.frombuffer(mapping, np.uint8)
    skip = -whole.ctypes.data % HUGE_PAGE_BYTES
    return memoryview(mapping)[skip:skip + size]
