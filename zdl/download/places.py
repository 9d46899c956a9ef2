"""Places: where on a disk the bytes of a pull are put together, and how they get their name when all of them are there."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from zdl.download.diskerrors import check_replaceable
from zdl.download.names import PART, hidden
from zdl.refs import MODE_MAX, Ref

# A part file that is being swept away is held for a moment by who sweeps: it is tried so often, with such pauses.
LOCK_TRIES = 5
LOCK_PAUSE_S = 0.01
PRIVATE_MODE = 0o600
# After so many bytes the disk is told to begin with them. Measured for copies of 1 GiB on ext4 that are kept in the end, in turns
# with cp, which keeps nothing (0.22 to 0.43 GiB/s): 1.38 and 1.76 GiB/s in steps of 8 MiB, 1.05 and 1.13 in steps of 64, and 0.79
# and 1.36 where all is left to the end, a third of which is waiting for the disk then.
EARLY_BYTES = 8 << 20


class Place(Protocol):
    """Where the bytes of one pull are put together.

    Threads: `write` from any thread, several at a time; the others from one at a time, when nothing is written.
    """

    def write(self, offset: int, view: memoryview) -> None:
        """Put these bytes where they belong; the offset is that of the offer's stream."""

    def read(self, offset: int, length: int) -> bytes:
        """What is there now; fewer bytes where nothing is."""

    def clear(self) -> None:
        """Begin with nothing."""

    def settle(self) -> None:
        """All is there: have the disk keep it, under its final name."""

    def remove(self) -> None:
        """Let nothing of it be left."""

    def close(self) -> None:
        """Nothing is read or written any more; what is there stays."""


class FilePlace:
    """A file that is put together under a hidden name beside its own, ``.<name>.zdl-part``.

    Args:
        path: its final name.
        ref: what it will hold.
        is_overwriting: whether a file of that name may be replaced.

    Raises:
        OptionError: the name is taken.
        OSError: it cannot be made.
    """

    def __init__(self, path: Path, ref: Ref, *, is_overwriting: bool) -> None:
        self._path = path
        self._ref = ref
        self._is_overwriting = is_overwriting
        self._part = hidden(path, PART)
        # One writer at a time: the system has one per file anyway, and those that wait for it spin. Measured for 1 GiB on two
        # cores and ext4: four threads at once were 5 to 10 s in pwrite together, one after the other 2 to 4.
        self._lock = threading.Lock()  # guards what is early, too
        self._early = Early()
        check_replaceable(path, is_overwriting=is_overwriting)
        self._descriptor = locked_file(self._part)

    def write(self, offset: int, view: memoryview) -> None:
        """Put these bytes where they belong."""
        at = offset - self._ref.offset
        with self._lock:
            write_all(self._descriptor, at, view)
            self._early.written(self._descriptor, at, view.nbytes)

    def read(self, offset: int, length: int) -> bytes:
        """What is there now."""
        return os.pread(self._descriptor, length, offset - self._ref.offset)

    def clear(self) -> None:
        """Begin with an empty file."""
        os.ftruncate(self._descriptor, 0)

    def settle(self) -> None:
        """Have the disk keep the bytes, then the name."""
        os.ftruncate(self._descriptor, self._ref.length)  # something longer may have been there before
        os.fchmod(self._descriptor, granted(self._ref.mode))
        os.fsync(self._descriptor)
        named(self._part, self._path, is_overwriting=self._is_overwriting)
        sync_folder(self._path.parent)

    def remove(self) -> None:
        """Remove what came."""
        self._part.unlink(missing_ok=True)

    def close(self) -> None:
        """From now on others may write under this name."""
        os.close(self._descriptor)


class Early:
    """Has the disk begin with what is written to one file, instead of waiting for all of it in the end.

    Threads: one at a time.
    """

    __slots__ = ("_begin", "_end", "_count")

    def __init__(self) -> None:
        self._begin = self._end = self._count = 0

    def written(self, descriptor: int, at: int, count: int) -> None:
        """So many bytes more have been written there."""
        is_first = not self._count
        self._begin = at if is_first else min(self._begin, at)
        self._end = at + count if is_first else max(self._end, at + count)
        self._count += count
        if self._count < EARLY_BYTES:
            return
        self._count = 0
        if hasattr(os, "posix_fadvise"):  # not on macOS
            # What is not needed any more, Linux begins to write, and does not wait for; what is being written stays in memory.
            with suppress(OSError):  # it is advice: who settles the file has the disk keep it, or learns why not
                os.posix_fadvise(descriptor, self._begin, self._end - self._begin, os.POSIX_FADV_DONTNEED)


def locked_file(part: Path) -> int:
    """Open a part file, this pull's alone.

    Raises:
        BlockingIOError: another pull is writing it.
        OSError: it cannot be opened.
    """
    for attempt in range(LOCK_TRIES):
        if attempt:
            time.sleep(LOCK_PAUSE_S)
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, PRIVATE_MODE)
        is_ours = False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            facts = os.fstat(descriptor)
            is_ours = stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1 and os.path.samestat(facts, os.lstat(part))
            if is_ours:
                return descriptor
            # It has lost this name meanwhile; or it has a second one, which a process that was killed had just given it.
            part.unlink(missing_ok=True)
        except (BlockingIOError, FileNotFoundError):
            continue
        finally:
            if not is_ours:
                os.close(descriptor)
    raise BlockingIOError(errno.EAGAIN, "another pull is writing it")


def granted(mode: int) -> int:
    """The permissions that a file of a lender gets here: what this process gives to its own files, and no more.

    Args:
        mode: what its lender says; 0: nothing, then it is private.
    """
    return (mode or PRIVATE_MODE) & MODE_MAX & ~_umask()


def _umask() -> int:
    """The mask of this process, read without changing it: other threads may be making files now."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        return next(int(line.split()[1], 8) for line in status if line.startswith("Umask:"))


def write_all(descriptor: int, at: int, view: memoryview) -> None:
    """Write all of it, however many calls that takes."""
    while view:
        written = os.pwrite(descriptor, view, at)
        view, at = view[written:], at + written


def named(part: Path, path: Path, *, is_overwriting: bool) -> None:
    """Give a file its final name.

    Raises:
        FileExistsError: something has it, and may not be replaced.
    """
    if is_overwriting:
        check_replaceable(path, is_overwriting=True)
        os.replace(part, path)
        return
    try:
        os.link(part, path, follow_symlinks=False)  # unlike a rename, it never replaces anything
    except FileExistsError:
        raise
    except OSError:  # a file system without second names
        check_replaceable(path, is_overwriting=False)
        os.rename(part, path)
        return
    part.unlink()


def sync_folder(folder: Path) -> None:
    """Have the disk keep the names in a folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
