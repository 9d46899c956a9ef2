"""Plain sockets: `sendall` of the arrays' bytes in pieces, `recv_into` the destination: every socket's ceiling.

Small pieces stay in the cache between the kernel's two copies. The best setting also names the congestion control:
where the system's default is BBR, its pacing holds a loopback connection to 3.4 GiB/s that reaches 8.5 with Reno or
CUBIC, into memory that was touched before (5.4 against 3.0 into fresh memory).
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgpack

from zdl_bench import state
from zdl_bench.destination import Destination
from zdl_bench.endpoints import raw_address, raw_dialled, raw_listener
from zdl_bench.layout import Stream, pieces
from zdl_bench.pulling import Pulling

# Answers to a request (length of a piece; which connection this is of how many, that share the pieces): length of the
# description, the description, the pieces of this connection.
_WANTED = struct.Struct("!QII")
_LENGTH = struct.Struct("!Q")


class Origin:
    """Lends one state to whoever connects.

    Threads: one accepts, and one serves each connection.
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


class Leaf(Pulling):
    """Pulls the state over one connection, or over several that share its pieces."""

    def __init__(self) -> None:
        super().__init__()
        self._open: list[socket.socket] = []
        self._piece_bytes = 0
        self._kind = ""

    def start(self, *, address: str, piece_bytes: int, destination: str, connections: int = 1) -> None:
        """Connects; pieces of so many bytes."""
        self._open = [raw_dialled(address) for _ in range(connections)]
        self._piece_bytes = piece_bytes
        self._kind = destination

    def arrived(self) -> state.State:
        """Each connection by a thread, if there are several."""
        shapes: list[object] = []
        for number, connection in enumerate(self._open):
            connection.sendall(_WANTED.pack(self._piece_bytes, number, len(self._open)))
        for connection in self._open:
            length, = _LENGTH.unpack(read(connection, _LENGTH.size))
            shapes = msgpack.unpackb(read(connection, length), use_list=False)
        destination = Destination(shapes, kind=self._kind)
        slices = destination.slices(piece_bytes=self._piece_bytes)
        if len(self._open) == 1:
            for offset, view in slices:
                fill(self._open[0], view)
                self.note(offset + view.nbytes)
            return destination.arrays
        with ThreadPoolExecutor(len(self._open)) as pool:
            for done in [pool.submit(_filled, connection, slices[number::len(self._open)])
                         for number, connection in enumerate(self._open)]:
                done.result()
        return destination.arrays

    def stop(self) -> None:
        """Closes the connections."""
        for connection in self._open:
            connection.close()


def _filled(connection: socket.socket, slices: Sequence[tuple[int, memoryview]]) -> None:
    for _, view in slices:
        fill(connection, view)


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
        threading.Thread(target=_serve, args=(connection, stream), name="serve", daemon=True).start()


def _serve(connection: socket.socket, stream: Stream) -> None:
    """Sends its part of the stream as often as it is asked for."""
    description = msgpack.packb(stream.shapes)
    with connection:
        while first := connection.recv(1):
            piece_bytes, number, count = _WANTED.unpack(first + read(connection, _WANTED.size - 1))
            connection.sendall(_LENGTH.pack(len(description)) + description)
            for offset, length in pieces(stream.runs, piece_bytes=piece_bytes)[number::count]:
                connection.sendall(stream.read(offset, length))
