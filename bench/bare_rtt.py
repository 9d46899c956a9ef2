"""Echo over bare pyzmq: DEALER to ROUTER, one thread at each end (and libzmq's own)."""

from __future__ import annotations

from functools import partial

import zmq

from zdl_bench.bare_router import BareRouter
from zdl_bench.bare_zmq import Socket, opened
from zdl_bench.exchange import PAYLOAD, counted, timed


class Leaf:
    """Sends 64 bytes and waits for them, one after the other or many in flight."""

    def __init__(self) -> None:
        self._context: zmq.Context[Socket] = zmq.Context()
        self._dealer: Socket | None = None

    def start(self, *, address: str) -> None:
        """Connects."""
        self._dealer = opened(self._context, zmq.DEALER)
        self._dealer.connect(address)

    def latency(self, *, count: int) -> dict[str, float]:
        """``p50_us`` and ``p99_us`` of single exchanges."""
        dealer = self._dealer
        assert dealer is not None

        def exchange() -> None:
            dealer.send(PAYLOAD)
            dealer.recv()

        return timed(exchange, count=count)

    def throughput(self, *, count: int, in_flight: int) -> dict[str, float]:
        """``requests_per_s``."""
        dealer = self._dealer
        assert dealer is not None

        def receive() -> int:
            dealer.recv()
            return 1

        return counted(lambda: dealer.send(PAYLOAD), receive, count=count, in_flight=in_flight)

    def callers(self, *, count: int, in_flight: int) -> dict[str, float]:
        """The same: one thread with as many in flight does at least what so many threads could."""
        return self.throughput(count=count, in_flight=in_flight)

    def stop(self) -> None:
        """Closes the connection."""
        if self._dealer is not None:
            self._dealer.close()
        self._context.term()


def _echo(router: Socket) -> None:
    while True:
        part = router.recv()
        while router.getsockopt(zmq.RCVMORE):  # the name of each socket that it came through, then the payload
            router.send(part, zmq.SNDMORE)
            part = router.recv()
        router.send(part)


Origin = partial(BareRouter, _echo)
