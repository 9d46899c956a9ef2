"""zdl itself: a request whose reply carries refs, resolved by the leaf straight from the origin."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any, cast

from zdl import Options, PullOptions
from zdl.assembly import Cell
from zdl.cell.messages import Request
from zdl_bench import state
from zdl_bench.endpoints import listening
from zdl_bench.meter import Meter

CHANNEL = "bench"
ORIGIN = "server"
LEAF = "leaf"
# A run of many GiB on a slow machine.
TIMEOUT_S = 100.0


class Origin:
    """A cell that lends one state to whoever asks."""

    def __init__(self) -> None:
        self._open = ExitStack()

    def start(self, *, load: dict[str, Any], scheme: str, folder: str) -> dict[str, Any]:
        """Makes the state and listens; returns where, and what will come."""
        arrays = state.make(state.Load(**load))
        cell = self._open.enter_context(Cell(ORIGIN, listen=(listening(scheme, folder=folder),)))

        @cell.handler(CHANNEL, "state")
        def lend(request: Request) -> state.State:
            return arrays

        return {"address": cell.addresses[0], "checksum": state.checksum(arrays)}

    def stop(self) -> None:
        """Closes the cell."""
        self._open.close()


class Leaf:
    """A cell that asks for the state, resolves it and times that."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._cell: Cell | None = None

    def start(self, *, address: str, chunk_bytes: int, window_bytes: int | None, verify: str) -> None:
        """Connects; without a window zdl finds its own."""
        defaults = PullOptions()
        pulls = PullOptions(chunk_bytes=chunk_bytes, verify=verify,
                            window_bytes_min=window_bytes or defaults.window_bytes_min,
                            window_bytes_max=window_bytes or defaults.window_bytes_max)
        self._cell = self._open.enter_context(Cell(LEAF, parent=address, options=Options(pulls=pulls)))

    def pull(self) -> dict[str, Any]:
        """Once: ``elapsed_s`` from the asking to the arrays, what the process used, ``checksum`` of what came."""
        assert self._cell is not None
        meter = Meter()
        meter.start()
        began = time.perf_counter()
        reply = self._cell.request(ORIGIN, CHANNEL, "state", None, timeout_s=TIMEOUT_S, resolve=False)
        arrays = self._cell.downloads.resolve(reply.body)
        elapsed_s = time.perf_counter() - began
        return {"elapsed_s": elapsed_s, **meter.read(), "checksum": state.checksum(cast(state.State, arrays))}

    def stop(self) -> None:
        """Closes the cell."""
        self._open.close()
