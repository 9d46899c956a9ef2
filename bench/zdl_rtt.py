"""Echo over zdl: a handler on the pool, and one that runs inline on the loop."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import replace

from zdl import Options
from zdl.assembly import Cell
from zdl.cell.messages import Reply, Request
from zdl.options import LinkOptions
from zdl_bench.endpoints import listening
from zdl_bench.exchange import PAYLOAD, counted, timed
from zdl_bench.role import CellRole

CHANNEL = "bench"
ORIGIN = "server"
LEAF = "leaf"
TIMEOUT_S = 30.0


class Origin(CellRole):
    """A cell with one handler of each kind; both send back the body that came."""

    def start(self, *, scheme: str, folder: str) -> dict[str, str]:
        """Listens; returns where."""
        cell = self._open.enter_context(Cell(ORIGIN, listen=(listening(scheme, folder=folder),)))

        @cell.handler(CHANNEL, "pool")
        def on_pool(request: Request) -> object:
            return request.body

        @cell.handler(CHANNEL, "inline", inline=True)
        def on_loop(request: Request) -> object:
            return request.body

        return {"address": cell.addresses[0]}


class Leaf(CellRole):
    """Sends 64 bytes and waits for them, one after the other or as many futures."""

    def __init__(self) -> None:
        super().__init__()
        self._cell: Cell | None = None
        self._topic = ""

    def start(self, *, address: str, topic: str, name: str = LEAF, direct: bool = True) -> None:
        """Connects; the topic names the kind of handler. Without direct links all goes by way of the relays."""
        options = Options(links=replace(LinkOptions(), direct=direct))
        self._cell = self._open.enter_context(Cell(name, parent=address, options=options))
        self._cell.wait_ready()
        self._topic = topic

    def latency(self, *, count: int) -> dict[str, float]:
        """``p50_us`` and ``p99_us`` of single requests."""
        cell = self._cell
        assert cell is not None

        def exchange() -> None:
            cell.request(ORIGIN, CHANNEL, self._topic, PAYLOAD, timeout_s=TIMEOUT_S)

        return timed(exchange, count=count)

    def throughput(self, *, count: int, in_flight: int) -> dict[str, float]:
        """``requests_per_s``, waiting for the oldest future first."""
        cell = self._cell
        assert cell is not None
        waiting: deque[Future[Reply]] = deque()

        def send() -> None:
            waiting.append(cell.request_future(ORIGIN, CHANNEL, self._topic, PAYLOAD, timeout_s=TIMEOUT_S))

        def receive() -> int:
            waiting.popleft().result(TIMEOUT_S)
            return 1

        return counted(send, receive, count=count, in_flight=in_flight)

    def callers(self, *, count: int, in_flight: int) -> dict[str, float]:
        """``requests_per_s`` of so many threads, each of which waits for its reply before it asks again."""
        cell = self._cell
        assert cell is not None
        each_count = count // in_flight
        ready = threading.Barrier(in_flight + 1)

        def ask() -> None:
            ready.wait()
            for _ in range(each_count):
                cell.request(ORIGIN, CHANNEL, self._topic, PAYLOAD, timeout_s=TIMEOUT_S)

        threads = [threading.Thread(target=ask) for _ in range(in_flight)]
        for thread in threads:
            thread.start()
        ready.wait()
        began = time.perf_counter()
        for thread in threads:
            thread.join()
        return {"requests_per_s": each_count * in_flight / (time.perf_counter() - began)}
