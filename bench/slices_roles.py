"""An origin that lends one array, and a leaf that pulls an eighth of it and knows what came over its connections."""

from __future__ import annotations

import os
import socket
import struct
import time
from typing import Any

import numpy as np

from zdl import Options, PullOptions, Ref
from zdl.assembly import Cell
from zdl_bench.endpoints import listening
from zdl_bench.role import CellRole

ORIGIN, LEAF, NAME = "server", "leaf", "array"
EIGHTH = 8
# ``rows`` lie in one piece; ``columns`` are gathered by the origin.
PARTS = ("rows", "columns")
# Where `struct tcp_info` (linux/tcp.h) has ``tcpi_bytes_received``: behind 8 bytes, 24 numbers of 4 and 3 of 8.
_RECEIVED_AT = 8 + 24 * 4 + 3 * 8


class Origin(CellRole):
    """Lends a square of numbers, no two of which are alike."""

    def start(self, *, scheme: str, folder: str, side: int) -> dict[str, Any]:
        """Lends it and listens; returns where."""
        cell = self._open.enter_context(Cell(ORIGIN, listen=(listening(scheme, folder=folder),)))
        lent = cell.downloads.lend({NAME: _square(side)}, receivers=0).body
        cell.downloads.publish(NAME, lent)
        return {"address": cell.addresses[0]}


class Leaf(CellRole):
    """Pulls parts of it."""

    def __init__(self) -> None:
        super().__init__()
        self._ref: Ref | None = None
        self._expected: dict[str, np.ndarray[Any, Any]] = {}

    def start(self, *, address: str, side: int) -> None:
        """Connects."""
        options = Options(pulls=PullOptions(same_host=False))
        cell = self._open.enter_context(Cell(LEAF, parent=address, options=options))
        cell.wait_ready()
        found: Any = cell.downloads.find(ORIGIN, NAME)
        self._ref = found[NAME]
        self._expected = {part: _part(_square(side), part).copy() for part in PARTS}

    def pull(self, *, part: str) -> dict[str, float]:
        """``elapsed_s``, ``part_bytes`` and ``wire_bytes``: what came over the sockets of this process meanwhile.

        Raises:
            ValueError: other numbers came than were lent.
        """
        assert self._ref is not None
        before = _received_bytes()
        began_at = time.perf_counter()
        found: Any = _part(self._ref, part).pull()
        elapsed_s = time.perf_counter() - began_at
        wire_bytes = _received_bytes() - before
        if not np.array_equal(found, self._expected[part]):
            raise ValueError(f"other {part} came than were lent")
        return {"elapsed_s": elapsed_s, "part_bytes": found.nbytes, "wire_bytes": wire_bytes}


def _square(side: int) -> np.ndarray[Any, Any]:
    return np.arange(side * side, dtype=np.uint32).reshape(side, side)


def _part(whole: Any, part: str) -> Any:
    """The second eighth, of an array or of a ref."""
    each = whole.shape[0] // EIGHTH
    return whole[each:2 * each] if part == "rows" else whole[:, each:2 * each]


def _received_bytes() -> int:
    """What has come over all open TCP sockets of this process, framing and all (Linux)."""
    total = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(name))) as each:
                if each.family in (socket.AF_INET, socket.AF_INET6) and each.type == socket.SOCK_STREAM:
                    facts = each.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
                    total += struct.unpack_from("=Q", facts, _RECEIVED_AT)[0]
        except OSError:  # closed meanwhile, or one that has no such facts
            continue
    return int(total)
