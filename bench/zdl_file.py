"""zdl itself, and cp: a file of an origin comes to a disk, within a limit of memory."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from pathlib import Path
from typing import Any

from zdl import DiskFile, DiskOptions, Options, PullOptions, Ref
from zdl.assembly import Cell
from zdl_bench.endpoints import listening
from zdl_bench.meter import Meter
from zdl_bench.role import CellRole

ORIGIN, LEAF, NAME = "server", "leaf", "file"
WAYS = ("file", "disk", "sent_file", "sent_disk", "cp", "cp_synced")
LIMITS = ("addresses", "cgroup")
# With a digest that is asked for, a file comes over the wire, though it lies on this host.
_SENT = PullOptions(verify="blake3")
# What is written at once into the file that is lent.
_PIECE_BYTES = 1 << 20


class Origin(CellRole):
    """A cell that lends one file."""

    def start(self, *, scheme: str, folder: str, path: str) -> dict[str, Any]:
        """Lends it and listens; returns where."""
        cell = self._open.enter_context(Cell(ORIGIN, listen=(listening(scheme, folder=folder),)))
        cell.downloads.publish(NAME, cell.downloads.lend_file(path, receivers=0).body)
        return {"address": cell.addresses[0]}


class Leaf(CellRole):
    """Gets the file to a place on a disk, in one of the `WAYS`."""

    def __init__(self) -> None:
        super().__init__()
        self._ref: Ref | None = None
        self._cells: dict[bool, Cell] = {}  # by whether it has files sent
        self._place = Path()

    def start(self, *, address: str, place: str, memory_bytes: int, limit: str) -> None:
        """Connects; from then on there may be so many bytes more: of mere addresses, or of what a control group counts."""
        self._place = Path(place)
        disk = DiskOptions(spool_folder=str(self._place.parent))
        for is_sent, pulls in ((False, PullOptions()), (True, _SENT)):
            cell = Cell(f"{LEAF}-{int(is_sent)}", parent=address, options=Options(disk=disk, pulls=pulls))
            self._cells[is_sent] = self._open.enter_context(cell)
            cell.wait_ready()
        found = self._cells[False].downloads.find(ORIGIN, NAME)
        assert isinstance(found, Ref)
        self._ref = found
        if limit == "cgroup":
            self._open.callback(_left, _entered(memory_bytes))
        else:
            most = _addresses_bytes() + memory_bytes
            resource.setrlimit(resource.RLIMIT_AS, (most, most))

    def warm(self, *, size_bytes: int) -> None:
        """Has the memory warm that the page cache will need for such a file."""
        self._place.unlink(missing_ok=True)
        _use(self._place, size_bytes)

    def get(self, *, way: str, path: str) -> dict[str, Any]:
        """Once: ``elapsed_s``, and what the process used; what came is compared with what was lent, and removed."""
        meter = Meter()
        meter.start()
        began = time.perf_counter()
        found = self._got(way, path)
        elapsed_s = time.perf_counter() - began
        used = meter.read()
        came = self._place if found is None else found.path
        subprocess.run(["cmp", str(came), path], check=True, pass_fds=() if found is None else [int(came.name)])
        self._place.unlink(missing_ok=True)
        return {"elapsed_s": elapsed_s, **used}

    def _got(self, way: str, path: str) -> DiskFile | None:
        assert self._ref is not None
        downloads = self._cells[way.startswith("sent")].downloads
        if way.endswith("file"):
            downloads.pull_file(self._ref, self._place)
        elif way.endswith("disk"):
            found = downloads.resolve(self._ref, to="disk")
            assert isinstance(found, DiskFile)
            return found
        else:
            subprocess.run(["cp", "--reflink=never", path, str(self._place)], check=True)
            if way == "cp_synced":
                for name in (self._place, self._place.parent):
                    descriptor = os.open(name, os.O_RDONLY)
                    os.fsync(descriptor)
                    os.close(descriptor)
        return None


def written(path: Path, size: int) -> None:
    """A file of random bytes, no two pieces of which are alike."""
    piece = bytearray(os.urandom(_PIECE_BYTES))
    with path.open("wb") as file:
        for at in range(0, size, _PIECE_BYTES):
            piece[:8] = at.to_bytes(8)
            file.write(memoryview(piece)[:size - at])


def _use(place: Path, size: int) -> None:
    """Uses, and gives back, memory of the page cache: the host of a virtual machine takes away what is not used for a second or
    two, and gives it again at up to 6 us a page, which is ten times what a copy takes."""
    piece = bytes(_PIECE_BYTES)
    with place.open("wb") as file:
        for _ in range(0, size, _PIECE_BYTES):
            file.write(piece)
    place.unlink()


def _entered(memory_bytes: int) -> Path:
    """Has this process, and whoever it starts, in a control group of its own that may take so much."""
    top = Path("/sys/fs/cgroup/memory")
    is_first = top.is_dir()  # version 1
    group = (top if is_first else top.parent) / f"zdl-bench-{os.getpid()}"
    group.mkdir()
    (group / ("memory.limit_in_bytes" if is_first else "memory.max")).write_text(str(memory_bytes), encoding="ascii")
    (group / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
    return group


def _left(group: Path) -> None:
    (group.parent / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
    group.rmdir()


def _addresses_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[0]) * resource.getpagesize()
