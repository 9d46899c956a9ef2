"""One process copies the arrays in memory: what a machine could do at best, and what fresh pages cost."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from zdl_bench import state
from zdl_bench.destination import Destination
from zdl_bench.layout import described
from zdl_bench.meter import Meter


class Leaf:
    """Copies a state of its own into fresh memory, or into memory that was touched before."""

    def __init__(self) -> None:
        self._arrays: state.State = {}
        self._touched: Destination | None = None
        self._kind = ""

    def start(self, *, load: dict[str, Any], fresh: bool, destination: str) -> dict[str, Any]:
        """Makes the state, and the destination unless each run shall have a fresh one."""
        self._arrays = state.make(state.Load(**load))
        self._kind = destination
        self._touched = None if fresh else Destination(described(self._arrays), kind=destination)
        if self._touched is not None:
            self._copied(self._touched)
        return {"checksum": state.checksum(self._arrays)}

    def pull(self) -> dict[str, Any]:
        """Once: ``elapsed_s`` of allocating, if fresh, and copying; what the process used; ``checksum`` of the copy."""
        meter = Meter()
        meter.start()
        began = time.perf_counter()
        destination = self._touched or Destination(described(self._arrays), kind=self._kind)
        self._copied(destination)
        elapsed_s = time.perf_counter() - began
        return {"elapsed_s": elapsed_s, **meter.read(), "checksum": state.checksum(destination.arrays)}

    def stop(self) -> None:
        """Nothing to close."""

    def _copied(self, destination: Destination) -> None:
        for name, array in self._arrays.items():
            np.copyto(destination.arrays[name], array)
