"""zdl itself: a request whose reply carries refs, resolved by the leaf straight from the origin, or by way of its relays."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, cast

from zdl import Options, PullOptions
from zdl.assembly import Cell
from zdl.cell.messages import Request
from zdl.options import LinkOptions, PackOptions
from zdl_bench import state
from zdl_bench.endpoints import listening
from zdl_bench.pulling import Pulling
from zdl_bench.role import CellRole

CHANNEL = "bench"
ORIGIN = "server"
LEAF = "leaf"
# A run of many GiB on a slow machine, or over a slow link.
TIMEOUT_S = 100.0


class Origin(CellRole):
    """A cell that lends one state to whoever asks."""

    def start(self, *, load: dict[str, Any], scheme: str, folder: str, advertise: str | None = None,
              guard: str = "check", digest: str = "xxh3", lend: str = "each") -> dict[str, Any]:
        """Makes the state and listens; returns where, and what will come, and what it takes to lend it if that is done once."""
        arrays = state.make(state.Load(**load))
        options = Options(packing=PackOptions(guard=guard, digest=digest))
        cell = self._open.enter_context(Cell(ORIGIN, listen=(listening(scheme, folder=folder),), advertise=advertise,
                                             options=options))

        began_at = time.perf_counter()
        given: object = cell.downloads.lend(arrays, receivers=0).body if lend == "once" else arrays
        lend_s = {"lend_s": time.perf_counter() - began_at} if lend == "once" else {}

        @cell.handler(CHANNEL, "state")
        def state_of(request: Request) -> object:
            return given

        return {"address": cell.addresses[0], "data_addresses": list(cell.data_addresses), "checksum": state.checksum(arrays),
                **lend_s}


class Relay(CellRole):
    """A cell between an origin and a leaf."""

    def start(self, *, address: str, scheme: str, folder: str, name: str) -> dict[str, str]:
        """Connects and listens; returns where."""
        cell = self._open.enter_context(Cell(name, parent=address, listen=(listening(scheme, folder=folder),)))
        cell.wait_ready()
        return {"address": cell.addresses[0]}


class Leaf(Pulling):
    """A cell that asks for the state and resolves it."""

    def __init__(self) -> None:
        super().__init__()
        self._open = ExitStack()
        self._cell: Cell | None = None

    def start(self, *, address: str, name: str = LEAF, direct: bool = True, pulls: dict[str, Any]) -> None:
        """Connects.

        Args:
            address: of the parent.
            name: its own.
            direct: whether the origin is dialled; otherwise all goes along the tree.
            pulls: fields of `zdl.PullOptions`.
        """
        options = Options(pulls=replace(PullOptions(), direct=direct, **pulls), links=replace(LinkOptions(), direct=direct))
        self._cell = self._open.enter_context(Cell(name, parent=address, options=options))
        self._cell.wait_ready()

    def arrived(self) -> state.State:
        """One request, and what its reply refers to."""
        assert self._cell is not None
        reply = self._cell.request(ORIGIN, CHANNEL, "state", None, timeout_s=TIMEOUT_S, resolve=False)
        return cast(state.State, self._cell.downloads.resolve(reply.body, progress=self.note))

    def stop(self) -> None:
        """Closes the cell."""
        self._open.close()
