"""Chaos: a TCP connection that lies, stalls and breaks, between one who dials and one who listens.

::

    dialler ──towards──▶ Chaos ──▶ listener
            ◀───back────       ◀──

Each direction counts the bytes that have passed, over all connections, and can do two things at a certain
byte: turn one bit over, or hold everything from there on until it is released.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType
from typing import Self

READ_BYTES = 65536
# l_onoff, l_linger: with a linger of 0 closing sends a reset.
RESET = struct.pack("ii", 1, 0)


class Stream:
    """One direction.

    Attributes:
        passed: bytes that have passed so far.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()  # guards all below
        self.passed = 0
        self._flips: frozenset[int] = frozenset()
        self._hold_at: int | None = None

    def flip(self, offsets: Iterable[int]) -> None:
        """Turn over a bit of the bytes at these offsets."""
        with self._changed:
            self._flips = frozenset(offsets)

    def hold(self, at: int) -> None:
        """Let so many bytes pass, and no more."""
        with self._changed:
            self._hold_at = at

    def release(self) -> None:
        """Let everything pass again."""
        with self._changed:
            self._hold_at = None
            self._changed.notify_all()

    @property
    def is_holding(self) -> bool:
        """Whether bytes wait."""
        with self._changed:
            return self._hold_at is not None and self.passed > self._hold_at

    def take(self, data: bytes) -> bytes:
        """For the pump: the bytes as they go on; waits while they are held."""
        with self._changed:
            start = self.passed
            self.passed += len(data)
            changed = bytearray(data)
            for offset in self._flips:
                if start <= offset < start + len(data):
                    changed[offset - start] ^= 1
            while self._hold_at is not None and self.passed > self._hold_at:
                self._changed.wait()
            return bytes(changed)


class Chaos:
    """A proxy in front of one tcp address; a context manager."""

    def __init__(self, upstream: str) -> None:
        self._upstream = _host_and_port(upstream)
        self.towards = Stream()
        self.back = Stream()
        self._lock = threading.Lock()  # guards the two below
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.refuse()
        self.reset()
        self.towards.release()
        self.back.release()
        for thread in list(self._threads):
            thread.join(10)

    @property
    def connections_count(self) -> int:
        """Connections made through it so far."""
        with self._lock:
            return len(self._pairs)

    def refuse(self) -> None:
        """Accept no further connection; those that stand go on."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def reset(self) -> None:
        """Break all connections at once, as a crash or a firewall does."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            for each in pair:
                with suppress(OSError):
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    each.shutdown(socket.SHUT_RD)  # wakes the pump, and says nothing to the other end
                each.close()

    # --- inside ---------------------------------------------------------------------------------

    def _start(self, function: object, *arguments: object) -> None:
        thread = threading.Thread(target=function, args=arguments, name="chaos", daemon=True)  # type: ignore[arg-type]
        with self._lock:
            self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                dialler, _ = self._listener.accept()
            except OSError:
                return
            try:
                listener = socket.create_connection(self._upstream)
            except OSError:
                dialler.close()
                continue
            for each in (dialler, listener):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pairs.append((dialler, listener))
            self._start(self._pump, dialler, listener, self.towards)
            self._start(self._pump, listener, dialler, self.back)

    def _pump(self, source: socket.socket, sink: socket.socket, stream: Stream) -> None:
        with suppress(OSError):
            while data := source.recv(READ_BYTES):
                sink.sendall(stream.take(data))
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    return host, int(port)
