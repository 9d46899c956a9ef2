"""Shm: memory that processes of one machine share: made, sealed, opened for others, mapped, and never leaked.

A **segment** is a memfd: memory without a name, which is gone with the last process that has it open or mapped. So whoever
is killed leaves nothing behind, and nobody has anything to clear away.

::

    made ──write()──▶ filled ──seal()──▶ SEALED ──opened()──▶ a descriptor for somebody else, for reading only
                                           │ ▲
                                           └─┘ memory: its maker alone can still write, where it was mapped before

The seals keep everybody else from writing, for good, and everybody from changing its size: who has mapped it cannot be hurt by
its end being cut off. Others map it **copy-on-write**: what they write stays theirs.

A segment is written again only when **nobody else has it open or mapped**, of which the kernel itself is asked: it grants a
write lease on a file only while there is no other reader of it. Each descriptor that is given away is an open file of its
own, so that it counts there until it is closed, and every mapping of it is gone.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

# Since Linux 5.1; Python 3.11 has no name for it. Mappings that were made before stay writable.
F_SEAL_FUTURE_WRITE = 0x10
# What a segment must have before another process believes that it stays as it is.
SEALS = F_SEAL_FUTURE_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
ID_BYTES = 16
# Linux takes 249 bytes; names of cells are ASCII.
LABEL_MAX = 200
# What one call of the system takes.
PARTS_MAX = 1024
# Of what the system has left, what one segment may take: its last bytes are needed by those who are here already.
ROOM_SHARE = 0.75
_CGROUPS = Path("/sys/fs/cgroup")
_PROC = Path("/proc")


class Segment:
    """One piece of memory that others can map; see `made`.

    Threads: any, one at a time until it is sealed; `opened` and `is_free` from any.

    Attributes:
        id: 16 random bytes, for those who map it to know it again.
        size: in bytes.
        memory: all of it, for its maker to write.
    """

    def __init__(self, size: int, mapping: mmap.mmap, descriptor: int) -> None:
        self.id = os.urandom(ID_BYTES)
        self.size = size
        self.memory = memoryview(mapping)
        self.is_sealed = False
        self._descriptor = descriptor

    def __repr__(self) -> str:
        return f"<Segment of {self.size} bytes{', sealed' if self.is_sealed else ''}>"

    def __del__(self) -> None:
        self.close()

    @classmethod
    def made(cls, size: int, label: str = "") -> Segment:
        """A fresh segment, which takes no memory yet.

        Args:
            size: in bytes.
            label: what people see of it, as ``memfd:zdl-<label>`` in ``/proc/<pid>/maps``.

        Raises:
            OSError: the system has no such memory, or not so much, or no descriptor.
        """
        descriptor = os.memfd_create(f"zdl-{label}"[:LABEL_MAX], os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        is_made = False
        try:
            os.ftruncate(descriptor, size)
            segment = cls(size, mmap.mmap(descriptor, size), descriptor)
            is_made = True
            return segment
        finally:
            if not is_made:
                os.close(descriptor)

    def reserve(self) -> None:
        """Take all of its memory now: who writes to it later need not fear that there is none.

        Raises:
            OSError: there is not so much.
        """
        os.posix_fallocate(self._descriptor, 0, self.size)

    def write(self, offset: int, parts: Sequence[bytes | memoryview]) -> None:
        """Fill a part of it, before it is sealed. Unlike a write to `memory`, it says so when there is no memory left.

        Raises:
            OSError: there is none.
        """
        todo = [memoryview(part).cast("B") for part in parts if len(part)]
        while todo:
            written = os.pwritev(self._descriptor, todo[:PARTS_MAX], offset)
            offset += written
            while todo and written >= todo[0].nbytes:
                written -= todo.pop(0).nbytes
            if written:
                todo[0] = todo[0][written:]

    def seal(self) -> None:
        """From now on nobody can change it but its maker, through `memory`.

        Raises:
            OSError: this system cannot promise that.
        """
        fcntl.fcntl(self._descriptor, fcntl.F_ADD_SEALS, SEALS | fcntl.F_SEAL_SEAL)
        os.fchmod(self._descriptor, 0o400)
        read_only = self._reopened()
        os.close(self._descriptor)
        self._descriptor, self.is_sealed = read_only, True
        # Somebody who opens it in the moment in which its lease is asked for has us sent a signal: one that is ignored.
        fcntl.fcntl(read_only, fcntl.F_SETSIG, signal.SIGURG)

    def opened(self) -> int:
        """A descriptor to give away: an open file of its own, for reading only.

        Raises:
            OSError: this process has too many already.
        """
        return self._reopened()

    def is_free(self) -> bool:
        """Whether nobody else has it open or mapped, as the kernel sees it; False where it cannot tell."""
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError:
            return False
        fcntl.fcntl(self._descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return True

    def close(self) -> None:
        """Let go of it. Its memory is given back when nobody has a view of it any more, here or elsewhere."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            self.memory = memoryview(b"")

    def _reopened(self) -> int:
        return os.open(f"/proc/self/fd/{self._descriptor}", os.O_RDONLY | os.O_CLOEXEC)


def check_sealed(descriptor: int, size: int) -> None:
    """Whether what somebody has given us can be trusted to stay as large as it is, and as it is.

    Raises:
        OSError: it is no memory, not sealed, or smaller than it should be.
    """
    seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    if seals & SEALS != SEALS:
        raise OSError(errno.EPERM, "it is not sealed: who has made it could take it back")
    found = os.fstat(descriptor).st_size
    if found < size:
        raise OSError(errno.EINVAL, f"it has {found} bytes instead of {size}")


def mapped_private(descriptor: int, size: int) -> memoryview:
    """A segment of somebody else as memory of our own: what is written here, nobody else sees.

    Raises:
        OSError: this process may not have so much memory.
    """
    return memoryview(mmap.mmap(descriptor, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE))


def mapped_shared(descriptor: int, size: int) -> memoryview:
    """A segment of somebody else, to be read: what its maker writes is seen here.

    Raises:
        OSError: this process may not have so much memory.
    """
    return memoryview(mmap.mmap(descriptor, size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ))


def room_bytes(*, cgroups: Path = _CGROUPS, proc: Path = _PROC) -> int:
    """How much memory one segment may take now: a share of what the machine, and each control group around us, has left."""
    left = [_available(proc)]
    with suppress(OSError, ValueError):  # there may be none, or one that we cannot see: then the machine's counts
        for line in (proc / "self/cgroup").read_text(encoding="ascii").splitlines():
            number, controllers, path = line.split(":", 2)
            if number == "0":
                left += _left_in_groups(cgroups, path, "memory.max", "memory.current")
            elif "memory" in controllers.split(","):
                left += _left_in_groups(cgroups / "memory", path, "memory.limit_in_bytes", "memory.usage_in_bytes")
    return int(max(0, min(left)) * ROOM_SHARE)


def _available(proc: Path) -> int:
    with open(proc / "meminfo", encoding="ascii") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def _left_in_groups(root: Path, path: str, limit_name: str, used_name: str) -> list[int]:
    """What is left in a control group and in those around it; files that the system would drop count as left."""
    found = []
    inner = root / path.lstrip("/")
    for group in (inner, *inner.parents):
        with suppress(OSError, ValueError):  # no limit here (``max``), or a group that this process does not see
            limit = int((group / limit_name).read_text(encoding="ascii"))
            used = int((group / used_name).read_text(encoding="ascii"))
            stat = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
            found.append(limit - used + int(stat.get("inactive_file", "0")))
        if group == root:
            break
    return found
