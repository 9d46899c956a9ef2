"""Files: lent as they are, read chunk by chunk, never as a mixture of two versions."""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from zdl.errors import OptionError, SourceChanged
from zdl.protocol.digests import Readable
from zdl.refs import MODE_MAX, STAMP_BYTES_MAX

# How coarse the clock is that Linux stamps files with: one tick at 100 Hz, the slowest that kernels are built with.
TICK_NS = 10_000_000


@dataclass(frozen=True, slots=True)
class Stamp:
    """By what a change of a file is known.

    The kernel sets the time of the last change (ctime) at every write, truncation, renaming and change of the rights, and
    nobody can set it back, as can be done with the time of modification. Together with device and inode it names one
    state of one file.
    """

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, facts: os.stat_result) -> Stamp:
        """From what the system says about a file."""
        return cls(facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)

    @property
    def digest(self) -> bytes:
        """The same bytes for the same state of the same file, whoever lends it, and after a restart too."""
        fields = (self.device, self.inode, self.size, self.modified_ns, self.changed_ns)
        return blake3(" ".join(map(str, fields)).encode()).digest(STAMP_BYTES_MAX)

    def why_not(self, other: Stamp) -> str:
        """What has happened, when it is this one now and not `other`; empty when nothing has."""
        if self == other:
            return ""
        if (self.device, self.inode) != (other.device, other.inode):
            return "another file has its name"
        if self.size != other.size:
            return f"it had {other.size} bytes and has {self.size}"
        return "it was written to" if self.modified_ns != other.modified_ns else "it was written to, replaced or renamed"


class FileSource(Readable):
    """One file as a byte stream.

    Its stamp is compared with every chunk, after reading: a file that shrinks, grows, is rewritten, replaced or removed
    while it is lent ends the pulls with `SourceChanged`.

    Threads: `read` from any thread; it blocks on the disk.

    Attributes:
        bytes_total: its size.
        mode: its permissions.
        stamp: by which a change is known.

    Args:
        path: the file; it is opened now.
        fqcn: the cell that lends it, for errors.

    Raises:
        OptionError: it is missing, unreadable or no regular file.
    """

    def __init__(self, path: Path, fqcn: str) -> None:
        self._path = path
        self._fqcn = fqcn
        try:
            # Without waiting: the opening of a pipe would last until somebody writes to it.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, ValueError) as error:
            raise OptionError(name="path", value=str(path), allowed=f"a file that can be read: {_why(error)}") from error
        self._descriptor = descriptor
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise OptionError(name="path", value=str(path), allowed="a regular file")
        settle(facts.st_ctime_ns)
        facts = os.fstat(descriptor)
        self.bytes_total = facts.st_size
        self.mode = facts.st_mode & MODE_MAX
        self.stamp = Stamp.of(facts)

    def __del__(self) -> None:
        descriptor = self.__dict__.pop("_descriptor", None)
        if descriptor is not None:
            os.close(descriptor)

    @property
    def may_block(self) -> bool:
        """Disks do."""
        return True

    def opened(self, offset: int, length: int) -> tuple[int, int]:
        """The descriptor, which is open as long as it is lent, and where in the file these bytes begin."""
        return self._descriptor, offset

    def read(self, offset: int, length: int) -> list[bytes | memoryview]:
        """The byte range.

        Raises:
            SourceChanged: the file is not what it was when it was lent.
        """
        data = os.pread(self._descriptor, length, offset)
        why = Stamp.of(os.fstat(self._descriptor)).why_not(self.stamp)
        if why or len(data) != length:
            raise SourceChanged(ref=self._path.name, origin=self._fqcn, why=why or "it was cut off")
        return [data]


def settle(changed_ns: int) -> None:
    """Wait until a change from now on would get another time than this one: a tick at most.

    What is written within one tick of the kernel's clock has one time. A file that was changed in this very tick, and is
    changed again after it was lent, would not show it.

    Args:
        changed_ns: when a file was changed last; a time that is not just past is not waited for.
    """
    since = time.time_ns() - changed_ns
    if 0 <= since <= TICK_NS:
        time.sleep((TICK_NS - since + 1) / 1e9)


def _why(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
