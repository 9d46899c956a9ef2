"""Spool: files without names, for objects that were fetched to a disk instead of to memory.

A spool file is made without a name (``O_TMPFILE``), or loses it at once where the file system cannot do that. So there is
nothing to clean up: the kernel frees its room when the last descriptor and the last mapping of it are gone, which is
when its last user lets go of it, or dies, by whatever signal.
"""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import tempfile
import threading
import weakref
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

from zdl.download.diskerrors import disk_error, disk_full
from zdl.download.places import PRIVATE_MODE, write_all
from zdl.download.spare import Spare
from zdl.errors import TooLarge
from zdl.objects.manifest import ALIGN_BYTES, aligned, merge_ranges
from zdl.options import DiskOptions
from zdl.refs import Ref

_NO_UNNAMED = frozenset((errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT))


class Spool:
    """The spool files of one cell, and the room that they may take.

    Threads: all methods from any thread.
    Lifetime: the files live as long as their users, also beyond the cell.

    Args:
        options: the folder and the limit.
    """

    def __init__(self, options: DiskOptions) -> None:
        self._options = options
        self._lock = threading.Lock()  # guards the next
        self._bytes_used = 0

    @property
    def bytes_used(self) -> int:
        """Room that is taken, or promised to pulls that are under way."""
        with self._lock:
            return self._bytes_used

    def file(self, size: int, ref: Ref) -> SpoolFile:
        """A file for `size` bytes.

        Args:
            size: how many.
            ref: for errors.

        Raises:
            TooLarge: this and what is there are more than ``disk.spool_bytes_max``.
            DiskFull: the disk has not so much.
            OptionError, DiskFailed: the folder cannot be written.
        """
        folder = Path(self._options.spool_folder)
        with self._lock:
            if self._bytes_used + size > self._options.spool_bytes_max:
                raise TooLarge(what=f"{ref.source.label}, on the disk beside {self._bytes_used} bytes,", size=size,
                               limit="disk.spool_bytes_max", value=self._options.spool_bytes_max)
            self._bytes_used += size
        descriptor = None
        try:
            if shutil.disk_usage(folder).free < size:
                raise disk_full(ref, folder / "spool", need=size)
            descriptor = _unnamed(folder)
        except OSError as error:
            raise disk_error(error, ref, folder) from error
        finally:
            if descriptor is None:
                self._give_back(size)
        return SpoolFile(descriptor, size, folder, self._give_back)

    def _give_back(self, size: int) -> None:
        with self._lock:
            self._bytes_used -= size


class SpoolFile:
    """A file without a name.

    Lifetime: its room is free when this, and all that was mapped of it, is gone.

    Attributes:
        size: the room that was promised.
        folder: where it is, for errors.
    """

    __slots__ = ("_descriptor", "_lock", "size", "folder", "__weakref__")

    def __init__(self, descriptor: int, size: int, folder: Path, given_back: object) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()  # one writer at a time: see `zdl.download.places`
        self.size = size
        self.folder = folder
        weakref.finalize(self, _close, descriptor, size, given_back).atexit = False

    def fileno(self) -> int:
        """The descriptor; it is closed with this."""
        return self._descriptor

    def write(self, at: int, view: memoryview) -> None:
        """Write bytes to a place."""
        with self._lock:
            write_all(self._descriptor, at, view)

    def read(self, at: int, length: int) -> bytes:
        """Bytes, copied into memory."""
        parts = []
        while length > 0 and (part := os.pread(self._descriptor, length, at)):
            parts.append(part)
            at, length = at + len(part), length - len(part)
        return b"".join(parts)

    def map(self, at: int, length: int) -> memoryview:
        """Bytes as memory that the system loads when it is touched, and may drop again.

        What is written to it goes to the file, and is there when it is mapped again.

        Raises:
            TooLarge: the process has no addresses left for it.
        """
        begin = at // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        try:
            mapping = _Mapping(self._descriptor, at - begin + length, offset=begin)
        except (OSError, OverflowError) as error:
            free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
            raise TooLarge(what="what is to be mapped", size=length, limit="free memory", value=free) from error
        mapping.file = self
        return memoryview(mapping)[at - begin:]


class _Mapping(mmap.mmap):
    """A mapping that keeps its file: its room counts as long as it is mapped."""

    file: SpoolFile


class SpoolSink:
    """Takes items of one offer to a spool file.

    Threads: `view` from the data lane, `keep` from the broker's threads.

    Attributes:
        ref: the first of the items.
        file: where they are.

    Args:
        spool: makes the file.
        refs: the items; each lies in one piece.

    Raises:
        TooLarge, DiskFull, DiskFailed, OptionError: there is no room for them.
    """

    def __init__(self, spool: Spool, refs: Sequence[Ref]) -> None:
        self.ref = refs[0]
        self._spare = Spare()
        self.ranges: list[tuple[int, int]] = list(merge_ranges((ref.offset, ref.length) for ref in refs))
        self._starts = [offset for offset, _ in self.ranges]
        self._places: list[int] = []
        end = 0
        for offset, length in self.ranges:
            begin = end + (offset - end) % ALIGN_BYTES  # so that what is aligned in the stream is aligned in the file
            self._places.append(begin)
            end = aligned(begin + length)
        self.file = spool.file(end, self.ref)

    @property
    def have(self) -> Sequence[tuple[int, int]]:
        """Nothing is there yet."""
        return ()

    @property
    def may_block(self) -> bool:
        """Disks do."""
        return True

    def place_of(self, offset: int) -> int:
        """Where in the file a byte of the stream is."""
        run = bisect_right(self._starts, offset) - 1
        return self._places[run] + offset - self._starts[run]

    def view(self, offset: int, length: int) -> memoryview:
        """Memory for one chunk on its way to the disk."""
        return self._spare.take(length)

    def keep(self, offset: int, view: memoryview) -> None:
        """Write a verified chunk."""
        try:
            self.file.write(self.place_of(offset), view)
        except OSError as error:
            raise disk_error(error, self.ref, self.file.folder) from error
        self._spare.give_back(view)

    def finish(self) -> None:
        """It has to last no longer than its users: nothing is forced to the disk."""


def _unnamed(folder: Path) -> int:
    """A new file without a name."""
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, PRIVATE_MODE)
    except OSError as error:
        if error.errno not in _NO_UNNAMED or not folder.is_dir():
            raise
    descriptor, name = tempfile.mkstemp(prefix=".zdl-spool-", dir=folder)
    os.unlink(name)
    return descriptor


def _close(descriptor: int, size: int, given_back: object) -> None:
    os.close(descriptor)
    assert callable(given_back)
    given_back(size)
