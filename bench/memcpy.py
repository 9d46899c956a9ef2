"""One process copies the arrays in memory: what a machine could do at best, and what fresh pages cost."""

from __future__ import annotations

from typing import Any

import numpy as np

from zdl_bench import state
from zdl_bench.destination import Destination
from zdl_bench.layout import described
from zdl_bench.pulling import Pulling


class Leaf(Pulling):
    """Copies a state of its own into fresh memory, or into memory that was touched before."""

    def __init__(self) -> None:
        super().__init__()
        self._source: state.State = {}
        self._touched: Destination | None = None
        self._kind = ""

    def start(self, *, load: dict[str, Any], fresh: bool, destination: str) -> dict[str, Any]:
        """Makes the state, and the destination unless each run shall have a fresh one."""
        self._source = state.make(state.Load(**load))
        self._kind = destination
        self._touched = None if fresh else Destination(described(self._source), kind=destination)
        if self._touched is not None:
            self._copied(self._touched)
        return {"checksum": state.checksum(self._source)}

    def arrived(self) -> state.State:
        """Allocates, if fresh, and copies."""
        destination = self._touched or Destination(described(self._source), kind=self._kind)
        self._copied(destination)
        return destination.arrays

    def stop(self) -> None:
        """Nothing to close."""

    def _copied(self, destination: Destination) -> None:
        done = 0
        for name, array in self._source.items():
            np.copyto(destination.arrays[name], array)
            done += array.nbytes
            self.note(done)
