"""Both ends of a way through a relay, in one process: what one sends the other receives, and no clock is carried over.

They are bare sockets, so that what is measured is the relay.
"""

from __future__ import annotations

import os

import zmq

from zdl.protocol.bundle import is_bundle, unbundled
from zdl.protocol.encode import encode
from zdl.protocol.frames import WIRE_VERSION
from zdl.protocol.messages import Hello, Notice, Role
from zdl_bench.bare_zmq import Socket, opened
from zdl_bench.exchange import PAYLOAD, counted, timed

# Nobody ends a link of theirs for being silent while a run lasts.
HEARTBEAT_S = 600.0
SENDER, TAKER = "site-a", "site-b"


class Leaf:
    """Two ends that are linked by one relay.

    Subclasses say what one sends and how both greet.
    """

    def __init__(self) -> None:
        self._context: zmq.Context[Socket] = zmq.Context()
        self._sender: Socket | None = None
        self._taker: Socket | None = None
        self._frames: list[bytes] = []

    def start(self, *, address: str) -> None:
        """Connects both to the relay."""
        self._sender = self._linked(address, SENDER)
        self._taker = self._linked(address, TAKER)
        self._frames = self.message()

    def message(self) -> list[bytes]:
        """The frames of one message from one end to the other."""
        raise NotImplementedError

    def greet(self, end: Socket, name: str) -> None:
        """Makes the end known to the relay."""
        raise NotImplementedError

    def latency(self, *, count: int) -> dict[str, float]:
        """``p50_us`` and ``p99_us`` of one way through the relay."""
        def exchange() -> None:
            self._send()
            self._take()

        return timed(exchange, count=count)

    def throughput(self, *, count: int, in_flight: int) -> dict[str, float]:
        """``requests_per_s``: messages passed on."""
        return counted(self._send, self._take, count=count, in_flight=in_flight)

    def stop(self) -> None:
        """Closes both."""
        for each in (self._sender, self._taker):
            if each is not None:
                each.close()
        self._context.term()

    def _linked(self, address: str, name: str) -> Socket:
        end = opened(self._context, zmq.DEALER)
        end.setsockopt(zmq.ROUTING_ID, name.encode())
        end.connect(address)
        self.greet(end, name)
        return end

    def _send(self) -> None:
        assert self._sender is not None
        for frame in self._frames[:-1]:
            self._sender.send(frame, zmq.SNDMORE)
        self._sender.send(self._frames[-1])

    def messages_in(self, frame: bytes) -> int:
        """How many messages of the other end this frame holds, or ends; what the relay says for itself is shorter."""
        return int(len(frame) >= len(PAYLOAD))

    def _take(self) -> int:
        assert self._taker is not None
        while not (count := self.messages_in(self._taker.recv())):
            continue
        return count


class BareLeaf(Leaf):
    """Ends of a ROUTER that forwards by the first frame."""

    def message(self) -> list[bytes]:
        """The name of the target, and the payload."""
        return [TAKER.encode(), PAYLOAD]

    def greet(self, end: Socket, name: str) -> None:
        """Sends itself something: when that comes back, the ROUTER knows both the name and the way."""
        end.send(name.encode(), zmq.SNDMORE)
        end.send(PAYLOAD)
        end.recv()


class ZdlLeaf(Leaf):
    """Ends that speak the protocol of zdl as far as a relay sees it."""

    def message(self) -> list[bytes]:
        """A notice."""
        return [bytes(frame) for frame in encode(Notice(SENDER, TAKER, 1, "bench", "relay", {}, (PAYLOAD,)))]

    def messages_in(self, frame: bytes) -> int:
        """A relay sends what comes together as one frame."""
        headers = unbundled(frame, ()) if is_bundle(frame) else [frame]
        return sum(super(ZdlLeaf, self).messages_in(header) for header in headers)

    def greet(self, end: Socket, name: str) -> None:
        """Says HELLO and waits for the WELCOME."""
        (header,) = encode(Hello(name, os.urandom(16), Role.CHILD, HEARTBEAT_S, (), WIRE_VERSION))
        end.send(header)
        end.recv()
