"""A link with a round trip and a rate, on one machine and for every user: TCP connections that pass through here.

::

    who dials ──127.0.0.2:PORT──▶ ShapedLink ──127.0.0.1:PORT──▶ who listens

The bytes of all connections of one direction share its rate, in the order in which they came, and each takes half of the
round trip. As with a real link there are two bounds: a connection has no more than `pipe_bytes` on the way until they are
acknowledged, which is what its kernels' buffers would hold; and so many wait for the rate as its buffer holds, `queue_bytes`,
then nothing is read any more. The port is the same at both addresses: who listens at 127.0.0.1 and advertises
``127.0.0.2`` is dialled through the link, on all lanes.

There is no loss and no slow start, and TCP ends here: what congestion control does needs a real link.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

HOST = "127.0.0.2"
# Of Linux by default (4 MiB to send, 6 to receive) about so many are in flight; over a link of 1 Gbit/s with 50 ms one connection
# was measured to take 0.39 of the line.
PIPE_BYTES = 2 << 20
# What a router may hold; a modem of a slow line holds more.
QUEUE_BYTES = 256 << 10
# A piece is on the line for 5 ms, so that connections take turns as packets do.
PIECE_S = 0.005
PIECE_BYTES_MIN, PIECE_BYTES_MAX = 4 << 10, 64 << 10
LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class Shape:
    """What a link does to what passes.

    Attributes:
        rtt_s: both ways.
        bytes_per_s: of one direction, all connections together.
        pipe_bytes: of one connection, on the way and not acknowledged.
        queue_bytes: waiting for the rate, all connections of a direction.
    """

    rtt_s: float
    bytes_per_s: float
    pipe_bytes: int = PIPE_BYTES
    queue_bytes: int = QUEUE_BYTES

    def __post_init__(self) -> None:
        for name in ("bytes_per_s", "pipe_bytes", "queue_bytes"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        if self.rtt_s < 0:
            raise ValueError(f"rtt_s must not be below 0, but is {self.rtt_s}")


class _Half:
    """One direction of one connection.

    Attributes:
        due: pieces on the way, with the time at which they are there.
        acks: lengths on the way or there, with the time at which who sent them knows.
        held: their sum.
    """

    def __init__(self, source: socket.socket, sink: socket.socket, direction: int) -> None:
        self.source, self.sink, self.direction = source, sink, direction
        self.due: deque[tuple[float, bytes]] = deque()
        self.acks: deque[tuple[float, int]] = deque()
        self.held = 0
        self.is_read = False


class ShapedLink:
    """The link; a context manager.

    Threads: `open` and `reshape` from any; one of its own moves the bytes.
    Lifetime: what passes through breaks when it is closed.

    Args:
        shape: what it does, until `reshape`.
        host: where it listens: another address of loopback than those behind it.
    """

    def __init__(self, shape: Shape, *, host: str = HOST) -> None:
        self._shape = shape
        self._host = host
        self._lock = threading.Lock()  # guards the listeners
        self._listeners: dict[socket.socket, tuple[str, int]] = {}
        self._halves: list[_Half] = []
        self._free_at = [0.0, 0.0]
        self._wakes, self._wake = socket.socketpair()
        self._is_open = True
        self.passed = [0, 0]
        self._thread = threading.Thread(target=self._run, name="shaped", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ShapedLink {self._shape}, {len(self._halves) // 2} connections>"

    def open(self, address: str) -> str:
        """Have what listens there be reached through the link. Returns the address to dial."""
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        listener = socket.create_server((self._host, int(port)))
        listener.setblocking(False)
        with self._lock:
            self._listeners[listener] = host, int(port)
        self._wake.send(b"w")
        return f"tcp://{self._host}:{port}"

    def reshape(self, shape: Shape) -> None:
        """From now on it does this."""
        self._shape = shape
        self._wake.send(b"w")

    def close(self) -> None:
        """End it; idempotent."""
        if self._is_open:
            self._is_open = False
            self._wake.send(b"w")
            self._thread.join()
            for each in (self._wake, self._wakes):
                each.close()

    # --- on the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        while self._is_open:
            now = time.monotonic()
            timeout_s = LOOK_S
            reads: list[socket.socket] = [self._wakes, *self._listeners]
            writes: list[socket.socket] = []
            by_source: dict[socket.socket, _Half] = {}
            by_sink: dict[socket.socket, _Half] = {}
            for half in self._halves:
                wait_s = self._may_read(half, now)
                if wait_s == 0.0 and not half.is_read:
                    by_source[half.source] = half
                elif not half.is_read:
                    timeout_s = min(timeout_s, wait_s)
                if half.due and half.due[0][0] <= now:
                    by_sink[half.sink] = half
                elif half.due:
                    timeout_s = min(timeout_s, half.due[0][0] - now)
            reads += by_source
            writes += by_sink
            readable, writable, _ = select.select(reads, writes, [], timeout_s)
            for sink in writable:
                self._write(by_sink[sink])
            for source in readable:
                if source is self._wakes:
                    source.recv(64)
                elif source in by_source:
                    self._read(by_source[source])
                else:
                    self._accept(source)
            self._bury()
        for each in (*self._listeners, *(half.source for half in self._halves)):
            each.close()

    def _may_read(self, half: _Half, now: float) -> float:
        """How long it takes until more may be read, 0 for now; what is not known yet is looked at again."""
        while half.acks and half.acks[0][0] <= now:
            half.held -= half.acks.popleft()[1]
        if half.held >= self._shape.pipe_bytes:
            return max(1e-4, half.acks[0][0] - now) if half.acks else LOOK_S
        full_s = self._shape.queue_bytes / self._shape.bytes_per_s
        return max(0.0, self._free_at[half.direction] - now - full_s)

    def _accept(self, listener: socket.socket) -> None:
        upstream = self._listeners[listener]
        with suppress(BlockingIOError):
            dialler, _ = listener.accept()
            try:
                behind = socket.create_connection(upstream)
            except OSError:
                dialler.close()
                return
            for each in (dialler, behind):
                each.setblocking(False)
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._halves += [_Half(dialler, behind, 0), _Half(behind, dialler, 1)]

    def _read(self, half: _Half) -> None:
        shape, now = self._shape, time.monotonic()
        size = int(min(max(shape.bytes_per_s * PIECE_S, PIECE_BYTES_MIN), PIECE_BYTES_MAX))
        try:
            data = half.source.recv(size)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        on_line_at = max(self._free_at[half.direction], now) + len(data) / shape.bytes_per_s
        self._free_at[half.direction] = on_line_at
        half.due.append((on_line_at + shape.rtt_s / 2, data))
        half.acks.append((on_line_at + shape.rtt_s, len(data)))
        half.held += len(data)
        half.is_read = not data

    def _write(self, half: _Half) -> None:
        now = time.monotonic()
        while half.due and half.due[0][0] <= now:
            at, data = half.due[0]
            try:
                if not data:
                    half.sink.shutdown(socket.SHUT_WR)
                sent = half.sink.send(data) if data else 0
            except BlockingIOError:
                return
            except OSError:  # who listened is gone: so is who sends
                half.due.clear()
                half.is_read = True
                with suppress(OSError):
                    half.source.shutdown(socket.SHUT_RDWR)
                return
            self.passed[half.direction] += sent
            if sent < len(data):
                half.due[0] = at, data[sent:]
                return
            half.due.popleft()

    def _bury(self) -> None:
        """Connections of which both directions have ended."""
        over = {half.source for half in self._halves if half.is_read and not half.due}
        dead = [half for half in self._halves if half.source in over and half.sink in over]
        for half in dead:
            self._halves.remove(half)
            half.source.close()


class Shaper:
    """The link in a process of its own, as a role; see `zdl_bench.processes`."""

    def __init__(self) -> None:
        self._link: ShapedLink | None = None

    def start(self, *, rtt_ms: float, bytes_per_s: float, **bounds: int) -> dict[str, Any]:
        """Makes it; returns the ``host`` that those behind it advertise."""
        self._link = ShapedLink(Shape(rtt_ms / 1000, bytes_per_s, **bounds))
        return {"host": HOST}

    def open(self, *, address: str) -> dict[str, Any]:
        """See `ShapedLink.open`; returns ``address``."""
        assert self._link is not None
        return {"address": self._link.open(address)}

    def stop(self) -> None:
        """Closes it."""
        if self._link is not None:
            self._link.close()
