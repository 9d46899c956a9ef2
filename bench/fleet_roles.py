"""A server, and many cells below it: the roles of the question `zdl_bench.fleet`."""

from __future__ import annotations

import threading
import time

import psutil

from zdl.assembly import Cell
from zdl.options import LinkOptions, Options
from zdl_bench.exchange import PAYLOAD
from zdl_bench.role import CellRole

CHANNEL, TOPIC = "bench", "echo"
READY_S = 120.0
ANSWER_S = 120.0
CLOSED_S = 60.0


class Server(CellRole):
    """The root, which answers what it is asked.

    Lifetime: may be killed at any time; its port is given, so that another one can take its place.
    """

    def __init__(self) -> None:
        super().__init__()
        self._cell: Cell | None = None
        self._empty_bytes = 0
        self._began = 0.0

    def start(self, *, address: str, heartbeat_s: float = LinkOptions().heartbeat_s) -> dict[str, str]:
        """Listens; returns where."""
        options = Options(links=LinkOptions(heartbeat_s=heartbeat_s))
        self._cell = self._open.enter_context(Cell("server", listen=address, options=options))
        self._cell.handler(CHANNEL, TOPIC)(lambda request: request.body)
        self._empty_bytes = psutil.Process().memory_info().rss
        self._began = time.perf_counter()
        return {"address": self._cell.addresses[0]}

    def gather(self, *, count: int) -> dict[str, float]:
        """Waits until so many cells are linked: ``elapsed_s`` since the start, and the ``bytes_per_peer`` that they cost."""
        cell = self._cell
        assert cell is not None
        all_here = threading.Event()

        def look(event: object) -> None:
            if cell.tree.below_count >= count:
                all_here.set()

        stop = cell.tree.on_peer(look)
        look(None)
        if not all_here.wait(READY_S):
            raise TimeoutError(f"{cell.tree.below_count} of {count} cells are here after {READY_S} s")
        elapsed_s = time.perf_counter() - self._began
        stop()
        grown = psutil.Process().memory_info().rss - self._empty_bytes
        return {"elapsed_s": elapsed_s, "bytes_per_peer": grown / count}

    def close(self) -> dict[str, float]:
        """Ends while all its peers are linked: ``elapsed_s``.

        Raises:
            RuntimeError: something of it did not end in a minute.
        """
        cell = self._cell
        assert cell is not None
        began = time.perf_counter()
        left = cell.close(CLOSED_S)
        if left:
            raise RuntimeError(f"after {time.perf_counter() - began:.1f} s: {', '.join(left)}")
        return {"elapsed_s": time.perf_counter() - began}


class Cells:
    """Many cells in one process."""

    def __init__(self) -> None:
        self._cells: list[Cell] = []

    def start(self, *, address: str, first: int, count: int, heartbeat_s: float = LinkOptions().heartbeat_s) -> None:
        """Opens cells and waits until all are connected."""
        options = Options(links=LinkOptions(heartbeat_s=heartbeat_s))
        self._cells = [Cell(f"site-{number}", parent=address, options=options) for number in range(first, first + count)]
        for cell in self._cells:
            cell.start()
        self.ready()

    def ready(self) -> None:
        """Waits until all are connected, again."""
        for cell in self._cells:
            cell.wait_ready(READY_S)

    def ask(self, *, count: int) -> dict[str, float]:
        """So many requests at once, spread over the cells; returns how many were ``answered``."""
        futures = [self._cells[number % len(self._cells)].request_future("server", CHANNEL, TOPIC, PAYLOAD, timeout_s=ANSWER_S)
                   for number in range(count)]
        return {"answered": sum(future.result(ANSWER_S).body == PAYLOAD for future in futures)}

    def stop(self) -> None:
        """Closes them all."""
        for cell in self._cells:
            cell.close()
