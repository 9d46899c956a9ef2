"""What every leaf of a pull does, whoever moves the bytes: times it, notes how it went, and checks what came afterwards.

The check is asked for by itself: where several leaves pull at once, none may be busy with it while others still receive.
"""

from __future__ import annotations

import time
from typing import Any

from zdl_bench import state
from zdl_bench.meter import Meter

# What is kept of how far a pull was when: enough for a drawing.
POINTS_MAX = 100


class Pulling:
    """A leaf; subclasses say how arrays come, in `arrived`.

    Lifetime: `start`, then `pull` and `checked` as often as wanted, then `stop`.
    """

    def __init__(self) -> None:
        self._arrays: state.State = {}
        self._began_at = 0.0
        self._noted: list[tuple[float, int]] = []

    def arrived(self) -> state.State:
        """Pulls once, into memory that is allocated meanwhile, and tells `note` how far it is."""
        raise NotImplementedError

    def note(self, done_bytes: int, _: int = 0) -> None:
        """So many bytes are here; cheap enough for every chunk."""
        self._noted.append((time.perf_counter(), done_bytes))

    def pull(self) -> dict[str, Any]:
        """Once: ``began_at`` and ``ended_at`` on the clock that all processes of a machine share, from the asking to the
        arrays; what the process used; and the ``curve``: seconds and bytes."""
        self._noted = []
        meter = Meter()
        meter.start()
        began_at = time.perf_counter()
        self._arrays = self.arrived()
        ended_at = time.perf_counter()
        used = meter.read()
        every = len(self._noted) // POINTS_MAX + 1
        curve = [(at - began_at, done) for at, done in self._noted[::every]]
        return {"began_at": began_at, "ended_at": ended_at, **used, "curve": curve}

    def checked(self) -> dict[str, Any]:
        """The ``checksum`` of what the last pull brought, which is let go."""
        found = state.checksum(self._arrays)
        self._arrays = {}
        return {"checksum": found}
