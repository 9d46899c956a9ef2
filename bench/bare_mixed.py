"""Bare pyzmq answers small requests while it is pulled from: over one socket, or over one for each."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import cycle
from typing import Any

import msgpack
import zmq

from zdl_bench import bare_zmq
from zdl_bench.bare_zmq import RANGE, Socket, opened
from zdl_bench.destination import Destination
from zdl_bench.exchange import PAYLOAD, paced

Origin = bare_zmq.Origin
# A range that is echoed would be one; so requests are answered with the first bytes of the stream, which are as many.
REQUEST = RANGE.pack(0, len(PAYLOAD))


class Leaf:
    """Asks for small ranges one by one, and for whole chunks meanwhile if it is busy."""

    def __init__(self) -> None:
        self._context: zmq.Context[Socket] = zmq.Context()
        self._small: Socket | None = None
        self._bulk: Bulk | None = None
        self._is_shared = False

    def start(self, *, address: str, is_busy: bool, is_shared: bool, chunk_bytes: int, window_bytes: int) -> None:
        """Connects once, or twice."""
        self._small = opened(self._context, zmq.DEALER)
        self._small.connect(address)
        self._is_shared = is_shared
        if is_busy:
            dealer = self._small
            if not is_shared:
                dealer = opened(self._context, zmq.DEALER)
                dealer.connect(address)
            self._bulk = Bulk(dealer, chunk_bytes=chunk_bytes, window=max(1, window_bytes // chunk_bytes))

    def requests(self, *, count: int) -> dict[str, float]:
        """``p50_us``, ``p99_us`` and ``max_us`` of single requests, and ``bulk_gib_per_s`` of what was pulled meanwhile."""
        small, bulk = self._small, self._bulk
        assert small is not None

        def alone() -> None:
            small.send(REQUEST)
            small.recv()

        if bulk is None:
            return paced(alone, count=count)
        if self._is_shared:
            return bulk.shared(count=count)
        return bulk.beside(alone, count=count)

    def stop(self) -> None:
        """Closes the connections."""
        if self._bulk is not None:
            self._bulk.close()
        if self._small is not None:
            self._small.close()
        self._context.term()


class Bulk:
    """Chunks that come again and again, as many in flight as the window holds.

    Threads: `shared` uses the socket on the calling thread, `beside` on one of its own meanwhile.
    """

    def __init__(self, dealer: Socket, *, chunk_bytes: int, window: int) -> None:
        self._dealer = dealer
        self._window = window
        dealer.send(b"")
        destination = Destination(msgpack.unpackb(dealer.recv(), use_list=False))
        slices = destination.slices(piece_bytes=chunk_bytes)
        self._views: Iterator[memoryview] = cycle([view for _, view in slices])
        self._wanted: Iterator[bytes] = cycle([RANGE.pack(offset, view.nbytes) for offset, view in slices])

    def shared(self, *, count: int) -> dict[str, Any]:
        """Requests and chunks over the same socket."""
        came = [0]
        began_at = time.perf_counter()
        self._ask(self._window)

        def exchange() -> None:
            self._dealer.send(REQUEST)
            while (length := self._took()) != len(PAYLOAD):
                came[0] += length

        def meanwhile(until_at: float) -> None:
            while (left_s := until_at - time.perf_counter()) > 0:
                if self._dealer.poll(int(left_s * 1000)):
                    came[0] += self._took()

        seen = paced(exchange, count=count, meanwhile=meanwhile)
        took_s = time.perf_counter() - began_at
        for _ in range(self._window):
            self._dealer.recv()
        return {**seen, "bulk_gib_per_s": came[0] / (1 << 30) / took_s}

    def beside(self, exchange: Any, *, count: int) -> dict[str, Any]:
        """Requests over another socket."""
        came, is_over = [0], threading.Event()

        def pull() -> None:
            self._ask(self._window)
            while not is_over.is_set():
                came[0] += self._took()
            for _ in range(self._window):
                self._dealer.recv()

        thread = threading.Thread(target=pull, name="bulk")
        began_at = time.perf_counter()
        thread.start()
        seen = paced(exchange, count=count)
        took_s = time.perf_counter() - began_at
        is_over.set()
        thread.join()
        return {**seen, "bulk_gib_per_s": came[0] / (1 << 30) / took_s}

    def close(self) -> None:
        """Closes the socket."""
        with suppress(zmq.ZMQError):
            self._dealer.close()

    def _ask(self, count: int) -> None:
        for _ in range(count):
            self._dealer.send(next(self._wanted))

    def _took(self) -> int:
        """Takes what comes next; a chunk is followed by the request for another one. Returns its length."""
        view = next(self._views)
        length = self._dealer.recv_into(view)
        if length != len(PAYLOAD):
            self._ask(1)
        return length
