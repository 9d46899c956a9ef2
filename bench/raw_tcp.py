"""Plain sockets: `sendall` of the arrays' bytes in pieces, `recv_into` the destination: every socket's ceiling.

Small pieces stay in the cache between the kernel's two copies. The best setting also names the congestion control:
where the system's default is BBR, its pacing holds a loopback connection to 3.4 GiB/s that reaches 8.5 with Reno or
CUBIC, into memory that was touched before (5.4 against 3.0 into fresh memory).
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from typing import Any

import msgpack

from zdl_bench import state
from zdl_bench.destination import Destination
from zdl_bench.endpoints import raw_address, raw_dialled, raw_listener
from zdl_bench.layout import Stream, pieces
from zdl_bench.meter import Meter

# Answers to a request of this one byte: length of the description, the description, the stream.
_WANTED = b"?"
_LENGTH = struct.Struct("!Q")
_PIECE = struct.Struct("!Q")


class Origin:
    """Lends one state to whoever connects.

    Threads: one accepts and serves, one connection after the other.
    """

    def __init__(self) -> None:
        self._listener: socket.socket | None = None

    def start(self, *, load: dict[str, Any], scheme: str, folder: str, congestion: str = "",
              send_bytes: int = 0) -> dict[str, Any]:
        """Makes the state and listens; returns where, and what will come.

        Args:
            load: what to make, see `zdl_bench.state.Load`.
            scheme: of the socket.
            folder: for a unix socket.
            congestion: control of the sending side by the kernel's name for it; empty leaves the system's.
            send_bytes: of the kernel's buffer; 0 lets it tune its own.
        """
        arrays = state.make(state.Load(**load))
        self._listener = raw_listener(scheme, folder=folder)
        # Accepted connections inherit both.
        if congestion and self._listener.family != socket.AF_UNIX:
            self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion.encode())
        if send_bytes:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_bytes)
        threading.Thread(target=_accept, args=(self._listener, Stream(arrays)), name="origin", daemon=True).start()
        return {"address": raw_address(self._listener), "checksum": state.checksum(arrays)}

    def stop(self) -> None:
        """Closes the listener; the thread ends with the process."""
        if self._listener is not None:
            self._listener.close()


class Leaf:
    """Pulls the state into fresh memory and times that."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._piece_bytes = 0
        self._kind = ""

    def start(self, *, address: str, piece_bytes: int, destination: str) -> None:
        """Connects; pieces of so many bytes."""
        self._socket = raw_dialled(address)
        self._piece_bytes = piece_bytes
        self._kind = destination

    def pull(self) -> dict[str, Any]:
        """Once: ``elapsed_s`` from the asking to the arrays, what the process used, ``checksum`` of what came."""
        assert self._socket is not None
        meter = Meter()
        meter.start()
        began = time.perf_counter()
        arrays = self._pulled(self._socket)
        elapsed_s = time.perf_counter() - began
        return {"elapsed_s": elapsed_s, **meter.read(), "checksum": state.checksum(arrays)}

    def stop(self) -> None:
        """Closes the connection."""
        if self._socket is not None:
            self._socket.close()

    def _pulled(self, connection: socket.socket) -> state.State:
        connection.sendall(_WANTED + _PIECE.pack(self._piece_bytes))
        length, = _LENGTH.unpack(read(connection, _LENGTH.size))
        destination = Destination(msgpack.unpackb(read(connection, length), use_list=False), kind=self._kind)
        for _, view in destination.slices(piece_bytes=self._piece_bytes):
            fill(connection, view)
        return destination.arrays


def fill(connection: socket.socket, view: memoryview) -> None:
    """Receives until the view is full.

    Raises:
        ConnectionError: the other end closed before that.
    """
    filled, length = 0, view.nbytes
    while filled < length:
        count = connection.recv_into(view[filled:])
        if not count:
            raise ConnectionError(f"the origin closed after {filled} of {length} bytes")
        filled += count


def read(connection: socket.socket, length: int) -> bytearray:
    """So many bytes, however they were cut on the way."""
    data = bytearray(length)
    fill(connection, memoryview(data))
    return data


def _accept(listener: socket.socket, stream: Stream) -> None:
    """Serves until the listener is closed."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            _serve(connection, stream)


def _serve(connection: socket.socket, stream: Stream) -> None:
    """Sends the stream as often as it is asked for."""
    description = msgpack.packb(stream.shapes)
    while connection.recv(len(_WANTED)):
        piece_bytes, = _PIECE.unpack(read(connection, _PIECE.size))
        connection.sendall(_LENGTH.pack(len(description)) + description)
        for offset, length in pieces(stream.runs, piece_bytes=piece_bytes):
            connection.sendall(stream.read(offset, length))
