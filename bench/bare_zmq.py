"""Bare pyzmq: a DEALER asks for byte ranges, a ROUTER answers each with one frame. What zdl can at best be.

The arrays are sent without a copy, `recv_into` puts each chunk in its place, and as many chunks as the window holds
are asked for before they are here.
"""

from __future__ import annotations

import socket
import struct
import threading
from itertools import islice
from typing import Any

import msgpack
import zmq

from zdl_bench import state
from zdl_bench.destination import Destination, malloc_primed
from zdl_bench.endpoints import listening, raw_address, raw_listener
from zdl_bench.layout import Stream
from zdl_bench.pulling import Pulling

RANGE = struct.Struct("!QQ")
# A send without a copy costs 2.5 us more than one with: a hook of the garbage collector. Copying 64 KiB costs as much.
_COPY_BYTES_MAX = 64 * 1024

Socket = zmq.Socket[bytes]


class Origin:
    """Lends one state to whoever connects.

    Threads: one owns the socket as soon as it is bound, and closes it.
    """

    def __init__(self) -> None:
        self._context: zmq.Context[Socket] | None = None

    def start(self, *, load: dict[str, Any], scheme: str, folder: str, congestion: str = "") -> dict[str, Any]:
        """Makes the state and listens; returns where, and what will come.

        Args:
            load: what to make, see `zdl_bench.state.Load`.
            scheme: of the socket.
            folder: for a unix socket.
            congestion: control of the sending side by the kernel's name for it; empty leaves the system's.
        """
        arrays = state.make(state.Load(**load))
        self._context = zmq.Context()
        router = opened(self._context, zmq.ROUTER)
        if congestion and scheme == "tcp":
            address = _bound_to(router, congestion=congestion)
        else:
            router.bind(listening(scheme, folder=folder))
            address = router.getsockopt_string(zmq.LAST_ENDPOINT)
        threading.Thread(target=_serve, args=(router, Stream(arrays)), name="origin", daemon=True).start()
        return {"address": address, "checksum": state.checksum(arrays)}

    def stop(self) -> None:
        """Ends the serving thread by ending its context."""
        if self._context is not None:
            self._context.term()


class Leaf(Pulling):
    """Pulls the state over one connection."""

    def __init__(self) -> None:
        super().__init__()
        self._context: zmq.Context[Socket] = zmq.Context()
        self._dealer: Socket | None = None
        self._chunk_bytes = 0
        self._window = 0
        self._kind = ""

    def start(self, *, address: str, chunk_bytes: int, window_bytes: int, destination: str,
              is_primed: bool = False) -> None:
        """Connects.

        Args:
            address: of the origin.
            chunk_bytes: one frame.
            window_bytes: asked for and not here; at least one chunk is always in flight.
            destination: see `zdl_bench.destination`.
            is_primed: whether malloc is told to keep libzmq's buffers, see `malloc_primed`.
        """
        if is_primed:
            malloc_primed()
        self._dealer = opened(self._context, zmq.DEALER)
        self._dealer.connect(address)
        self._chunk_bytes = chunk_bytes
        self._window = max(1, window_bytes // chunk_bytes)
        self._kind = destination

    def stop(self) -> None:
        """Closes the connection."""
        if self._dealer is not None:
            self._dealer.close()
        self._context.term()

    def arrived(self) -> state.State:
        """Asks for as many chunks as the window holds, then for one more with each that comes."""
        dealer = self._dealer
        assert dealer is not None
        dealer.send(b"")
        destination = Destination(msgpack.unpackb(dealer.recv(), use_list=False), kind=self._kind)
        wanted = destination.slices(piece_bytes=self._chunk_bytes)
        requests = iter([RANGE.pack(offset, view.nbytes) for offset, view in wanted])
        for request in islice(requests, self._window):
            dealer.send(request)
        for offset, view in wanted:
            came = dealer.recv_into(view)
            if came != view.nbytes:
                raise ValueError(f"a chunk of {came} bytes came where {view.nbytes} were asked for")
            for request in islice(requests, 1):
                dealer.send(request)
            self.note(offset + came)
        return destination.arrays


def opened(context: zmq.Context[Socket], kind: int) -> Socket:
    """A socket without limits of its own (windows limit what is in flight) that never delays the end."""
    made = context.socket(kind)
    made.setsockopt(zmq.SNDHWM, 0)
    made.setsockopt(zmq.RCVHWM, 0)
    made.setsockopt(zmq.LINGER, 0)
    return made


def _bound_to(router: Socket, *, congestion: str) -> str:
    """Gives the router a listening socket whose connections inherit this congestion control; returns its URL."""
    listener = raw_listener("tcp", folder="")
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion.encode())
    url = f"tcp://{raw_address(listener)}"
    router.setsockopt(zmq.USE_FD, listener.detach())
    router.bind(url)
    return url


def _serve(router: Socket, stream: Stream) -> None:
    """Answers an empty request with the description, any other with its range, until the context ends.

    What stands before a request is its way back: one name of each socket that it came through.
    """
    description = msgpack.packb(stream.shapes)
    try:
        while True:
            way = [router.recv()]
            request = router.recv()
            while router.getsockopt(zmq.RCVMORE):
                way.append(request)
                request = router.recv()
            for name in way:
                router.send(name, zmq.SNDMORE)
            if not request:
                router.send(description)
                continue
            chunk = stream.read(*RANGE.unpack(request))
            router.send(chunk, 0, len(chunk) < _COPY_BYTES_MAX)
    except zmq.ContextTerminated:
        router.close()
