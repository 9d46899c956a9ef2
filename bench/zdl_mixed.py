"""zdl answers small requests while it is pulled from."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any

from zdl.assembly import Cell
from zdl.cell.messages import Request
from zdl.cell.signal import Signal
from zdl.errors import Cancelled
from zdl_bench import state
from zdl_bench.endpoints import listening
from zdl_bench.exchange import PAYLOAD, paced
from zdl_bench.role import SENT, CellRole
from zdl_bench.zdl_pull import CHANNEL, LEAF, ORIGIN, TIMEOUT_S


class Origin(CellRole):
    """A cell that lends a state, and echoes."""

    def start(self, *, load: dict[str, Any], scheme: str, folder: str, advertise: str | None = None) -> dict[str, Any]:
        """Makes the state and listens; returns where."""
        arrays = state.make(state.Load(**load))
        cell = self._open.enter_context(Cell(ORIGIN, listen=(listening(scheme, folder=folder),), advertise=advertise))
        cell.handler(CHANNEL, "state")(lambda request: arrays)

        @cell.handler(CHANNEL, "echo")
        def echo(request: Request) -> object:
            return request.body

        return {"address": cell.addresses[0], "data_addresses": list(cell.data_addresses)}


class Leaf(CellRole):
    """A cell that asks small things, and pulls meanwhile if it is busy."""

    def __init__(self) -> None:
        super().__init__()
        self._cell: Cell | None = None
        self._is_busy = False

    def start(self, *, address: str, is_busy: bool) -> None:
        """Connects."""
        self._cell = self._open.enter_context(Cell(LEAF, parent=address, options=SENT))
        self._cell.wait_ready()
        self._is_busy = is_busy

    def requests(self, *, count: int) -> dict[str, float]:
        """``p50_us``, ``p99_us`` and ``max_us`` of single requests, and ``bulk_gib_per_s`` of what was pulled meanwhile."""
        cell = self._cell
        assert cell is not None
        pulling = Pulled(cell)
        if self._is_busy:
            pulling.start()
        seen = paced(lambda: cell.request(ORIGIN, CHANNEL, "echo", PAYLOAD, timeout_s=TIMEOUT_S), count=count)
        return {**seen, **pulling.stop()} if self._is_busy else seen


class Pulled:
    """Pulls the same state again and again into the same memory, on a thread of its own, until it is told to stop."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._abort = Signal()
        self._moving = threading.Event()
        self._done_bytes = 0
        self._of_this_bytes = 0
        self._began_at = 0.0
        self._into: object = None
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="bulk", daemon=True)

    def start(self) -> None:
        """Returns when bytes are coming."""
        self._thread.start()
        if not self._moving.wait(TIMEOUT_S):
            raise TimeoutError("no byte came")
        self._began_at = time.perf_counter()
        self._done_bytes = -self._of_this_bytes

    def stop(self) -> dict[str, float]:
        """Returns ``bulk_gib_per_s``."""
        took_s = time.perf_counter() - self._began_at
        done_bytes = self._done_bytes + self._of_this_bytes
        self._abort.trigger()
        self._thread.join()
        if self._failed is not None:
            raise self._failed
        return {"bulk_gib_per_s": done_bytes / (1 << 30) / took_s}

    def _run(self) -> None:
        try:
            with suppress(Cancelled):
                while not self._abort.is_triggered:
                    self._once()
        except Exception as error:  # told where it is waited for
            self._failed = error
            self._moving.set()

    def _once(self) -> None:
        reply = self._cell.request(ORIGIN, CHANNEL, "state", None, timeout_s=TIMEOUT_S, resolve=False)
        self._into = self._cell.downloads.pull(reply.body, self._into, abort=self._abort, progress=self._note)
        self._done_bytes, self._of_this_bytes = self._done_bytes + self._of_this_bytes, 0

    def _note(self, done_bytes: int, _: int) -> None:
        self._of_this_bytes = done_bytes
        self._moving.set()
