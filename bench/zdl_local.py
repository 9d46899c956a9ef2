"""zdl on one machine: a model is pulled over tcp, copied out of shared memory, or used in it; by one process or by several."""

from __future__ import annotations

import gc
import time
from typing import Any, cast

import numpy as np

from zdl import Options, PullOptions
from zdl.assembly import Cell
from zdl_bench import state
from zdl_bench.destination import Destination
from zdl_bench.layout import described
from zdl_bench.role import CellRole

ORIGIN = "server"
NAME = "state"


class Origin(CellRole):
    """A cell that lends one state."""

    def __init__(self) -> None:
        super().__init__()
        self._arrays: state.State = {}

    def start(self, *, load: dict[str, Any], is_born: bool) -> dict[str, Any]:
        """Makes the state, in shared memory from the beginning or not; returns where it is, and what will come."""
        made = state.make(state.Load(**load))
        self._cell = self._open.enter_context(Cell(ORIGIN, listen="tcp://127.0.0.1:0"))
        self._arrays = made
        if is_born:
            self._arrays = {name: self._cell.downloads.empty(array.shape, array.dtype) for name, array in made.items()}
            for name, array in made.items():
                np.copyto(self._arrays[name], array)
        self._lent: Any = None
        self.lend()
        return {"address": self._cell.addresses[0], "checksum": state.checksum(made)}

    def lend(self) -> dict[str, Any]:
        """Lends it once more, and no more what was lent before."""
        if self._lent is not None:
            self._lent.delete()
        self._lent = self._cell.downloads.lend(self._arrays, receivers=0)
        self._cell.downloads.publish(NAME, self._lent.body)
        return {}


class Leaf(CellRole):
    """A cell that pulls it."""

    def __init__(self) -> None:
        super().__init__()
        self._found: state.State = {}

    def start(self, *, address: str, name: str, load: dict[str, Any], same_host: bool, is_copied: bool) -> None:
        """Connects; makes and touches the memory that is copied into."""
        self._is_copied = is_copied
        self._into = Destination(described(state.make(state.Load(**load))), kind="aligned").arrays if is_copied else None
        for array in (self._into or {}).values():
            array.reshape(-1).view(np.uint8)[:] = 1
        options = Options(pulls=PullOptions(same_host=same_host))
        self._cell = self._open.enter_context(Cell(name, parent=address, options=options))
        self._cell.wait_ready()

    def pull(self) -> dict[str, Any]:
        """Once; from the refs to the arrays."""
        self._found = {}
        gc.collect()
        body = self._cell.downloads.find(ORIGIN, NAME)
        began_at = time.perf_counter()
        self._found = cast(state.State, self._cell.downloads.pull(body, self._into))
        elapsed_s = time.perf_counter() - began_at
        last = self._cell.downloads.transfers[-1]
        return {"elapsed_s": elapsed_s, "way": last.way, "why": last.why_not_shared}

    def checked(self) -> dict[str, Any]:
        """The ``checksum`` of what came."""
        return {"checksum": state.checksum(self._found)}
