"""zdl itself, and cp: a file of an origin comes to a disk, within a limit of memory."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from zdl import DiskFile, DiskOptions, Options, Ref
from zdl.assembly import Cell
from zdl_bench.endpoints import listening
from zdl_bench.meter import Meter

ORIGIN, LEAF, NAME = "server", "leaf", "file"
WAYS = ("file", "disk", "cp", "cp_synced")
# What is written at once into the file that is lent.
_PIECE_BYTES = 1 << 20


class Origin:
    """A cell that lends one file."""

    def __init__(self) -> None:
        self._open = ExitStack()

    def start(self, *, scheme: str, folder: str, path: str) -> dict[str, Any]:
        """Lends it and listens; returns where."""
        cell = self._open.enter_context(Cell(ORIGIN, listen=(listening(scheme, folder=folder),)))
        cell.downloads.publish(NAME, cell.downloads.lend_file(path, receivers=0).body)
        return {"address": cell.addresses[0]}

    def stop(self) -> None:
        """Closes the cell."""
        self._open.close()


class Leaf:
    """Gets the file to a place on a disk, in one of the `WAYS`."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._ref: Ref | None = None
        self._cell: Cell | None = None
        self._place = Path()

    def start(self, *, address: str, place: str, memory_bytes: int) -> None:
        """Connects; from then on there may be so many bytes more, of memory or even of mere addresses."""
        self._place = Path(place)
        options = Options(disk=DiskOptions(spool_folder=str(self._place.parent)))
        self._cell = self._open.enter_context(Cell(LEAF, parent=address, options=options))
        self._cell.wait_ready()
        found = self._cell.downloads.find(ORIGIN, NAME)
        assert isinstance(found, Ref)
        self._ref = found
        limit = _addresses_bytes() + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    def get(self, *, way: str, path: str) -> dict[str, Any]:
        """Once: ``elapsed_s``, and what the process used; what came is compared with what was lent, and removed."""
        self._place.unlink(missing_ok=True)
        os.sync()  # what was written before shall not be written now
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

    def stop(self) -> None:
        """Closes the cell."""
        self._open.close()

    def _got(self, way: str, path: str) -> DiskFile | None:
        assert self._cell is not None and self._ref is not None
        if way == "file":
            self._cell.downloads.pull_file(self._ref, self._place)
        elif way == "disk":
            found = self._cell.downloads.resolve(self._ref, to="disk")
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
    """A file of random bytes."""
    with path.open("wb") as file:
        for at in range(0, size, _PIECE_BYTES):
            file.write(os.urandom(min(_PIECE_BYTES, size - at)))


def _addresses_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[0]) * resource.getpagesize()
