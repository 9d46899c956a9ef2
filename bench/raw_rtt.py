"""Echo over a plain socket: one thread at each end, nothing but the kernel between them."""

from __future__ import annotations

import socket
import threading

from zdl_bench.endpoints import raw_address, raw_dialled, raw_listener
from zdl_bench.exchange import PAYLOAD, counted, timed
from zdl_bench.raw_tcp import fill

_READ_BYTES_MAX = 64 * 1024


class Origin:
    """Sends back whatever comes.

    Threads: one accepts and echoes, one connection after the other.
    """

    def __init__(self) -> None:
        self._listener: socket.socket | None = None

    def start(self, *, scheme: str, folder: str) -> dict[str, str]:
        """Listens; returns where."""
        self._listener = raw_listener(scheme, folder=folder)
        threading.Thread(target=_accept, args=(self._listener,), name="origin", daemon=True).start()
        return {"address": raw_address(self._listener)}

    def stop(self) -> None:
        """Closes the listener; the thread ends with the process."""
        if self._listener is not None:
            self._listener.close()


class Leaf:
    """Sends 64 bytes and waits for them, one after the other or many in flight."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None

    def start(self, *, address: str) -> None:
        """Connects."""
        self._socket = raw_dialled(address)

    def latency(self, *, count: int) -> dict[str, float]:
        """``p50_us`` and ``p99_us`` of single exchanges."""
        connection = self._socket
        assert connection is not None
        place = memoryview(bytearray(len(PAYLOAD)))

        def exchange() -> None:
            connection.sendall(PAYLOAD)
            fill(connection, place)

        return timed(exchange, count=count)

    def throughput(self, *, count: int, in_flight: int) -> dict[str, float]:
        """``requests_per_s``; the kernel joins requests that wait together, so this is a bound, not a rival."""
        connection = self._socket
        assert connection is not None
        cut = 0

        def receive() -> int:
            nonlocal cut
            data = connection.recv(_READ_BYTES_MAX)
            if not data:
                raise ConnectionError("the origin closed before all replies had come")
            whole, cut = divmod(cut + len(data), len(PAYLOAD))
            return whole

        return counted(lambda: connection.sendall(PAYLOAD), receive, count=count, in_flight=in_flight)

    def callers(self, *, count: int, in_flight: int) -> dict[str, float]:
        """The same: one thread with as many in flight does at least what so many threads could."""
        return self.throughput(count=count, in_flight=in_flight)

    def stop(self) -> None:
        """Closes the connection."""
        if self._socket is not None:
            self._socket.close()


def _accept(listener: socket.socket) -> None:
    """Serves until the listener is closed."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            while data := connection.recv(_READ_BYTES_MAX):
                connection.sendall(data)
