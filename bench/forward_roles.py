"""A forwarder of one large message, and both ends of its way in one process: no clock is carried over, and what is measured is
the forwarder, as its ends are bare sockets.

The message lends a state of many leaves: it is `zdl_bench.pack`'s, and beside it stands to whom it shall go on.
"""

from __future__ import annotations

import statistics
import time

import zmq

from zdl.assembly import Cell, Request
from zdl.cell.messages import REFS_HEADER
from zdl.protocol.decode import decode
from zdl.protocol.encode import encode
from zdl.protocol.messages import Reply as ReplyMessage, Request as RequestMessage
from zdl_bench.bare_router import BareRouter
from zdl_bench.bare_zmq import Socket
from zdl_bench.endpoints import listening
from zdl_bench.ends import SENDER, TAKER, BareLeaf, Leaf, ZdlLeaf
from zdl_bench.lending import lending_message
from zdl_bench.role import CellRole

SERVER = "server"
CHANNEL = "bench"
_TIMEOUT_S = 60.0
_NIL = b"\x92\x90\xc0"


class Forwarder(CellRole):
    """A cell that passes on what it is sent."""

    def start(self, *, scheme: str, folder: str, way: str) -> dict[str, str]:
        """Listens; returns where.

        Args:
            scheme: of the socket.
            folder: for a unix socket.
            way: ``addressed`` (it knows to whom, and does not look at the body), ``looked`` (the body says to whom), ``opened``
                (it takes the body apart, ref by ref, and sends a new one).
        """
        cell = self._open.enter_context(Cell(SERVER, listen=(listening(scheme, folder=folder),)))

        def forward(request: Request) -> object:
            """As the way is."""
            if way == "addressed":
                return request.forward(TAKER)
            body = request.body
            assert isinstance(body, dict)
            if way == "looked":
                return request.forward(body["to"])
            return request.request(body["to"], CHANNEL, "forward", {**body, "model": dict(body["model"])}).body

        cell.handler(CHANNEL, "forward", resolve=False)(forward)
        return {"address": cell.addresses[0]}


def _pass_on(router: Socket) -> None:
    while True:
        router.recv()
        frame = router.recv(copy=False)
        while frame.more:
            router.send(frame, zmq.SNDMORE, copy=False)
            frame = router.recv(copy=False)
        router.send(frame, copy=False)


class BareForwarder(BareRouter):
    """A ROUTER of bare pyzmq that passes on the same buffers by the first frame."""

    def __init__(self) -> None:
        super().__init__(_pass_on)

    def start(self, *, scheme: str, folder: str, way: str) -> dict[str, str]:
        """Listens; returns where."""
        return super().start(scheme=scheme, folder=folder)


class Ends(Leaf):
    """Both ends, with a large message instead of small ones."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: tuple[bytes, ...] = ()
        self._number = 0  # of the latest message

    def state(self, *, leaves_count: int) -> dict[str, int]:
        """Makes the message; returns how large it is."""
        self._parts = lending_message(leaves_count, TAKER)
        return {"message_bytes": sum(map(len, self._parts))}

    def forwarded(self, *, count: int, is_small: bool = False) -> dict[str, float]:
        """Sends it so often, one after the other, and checks what comes.

        Returns:
            ``elapsed_us``: the median of the time until all of it has come to the other end.
        """
        parts = lending_message(1, TAKER) if is_small else self._parts
        took = []
        for _ in range(count):
            self._number += 1
            began_at = time.perf_counter()
            self.say(self._number, parts)
            came = self.heard()
            took.append(time.perf_counter() - began_at)
            if came != b"".join(parts):
                raise ValueError(f"message {self._number} came as other {len(came)} bytes")
            self.answer(self._number)
        return {"elapsed_us": statistics.median(took) * 1e6}

    def say(self, number: int, parts: tuple[bytes, ...]) -> None:
        """Sends one message."""
        raise NotImplementedError

    def heard(self) -> bytes:
        """Takes it in."""
        raise NotImplementedError

    def answer(self, number: int) -> None:
        """Has both ends done with it."""

    def _received(self, end: Socket | None) -> list[zmq.Frame]:
        assert end is not None
        return end.recv_multipart(copy=False)


class BareEnds(BareLeaf, Ends):
    """Ends of the ROUTER."""

    def say(self, number: int, parts: tuple[bytes, ...]) -> None:
        """The name of the target, and the parts."""
        assert self._sender is not None
        self._sender.send_multipart([TAKER.encode(), *parts], copy=False)

    def heard(self) -> bytes:
        """The parts."""
        return b"".join(frame.buffer for frame in self._received(self._taker))


class ZdlEnds(ZdlLeaf, Ends):
    """Ends that speak the protocol of zdl as far as a request needs it."""

    def __init__(self) -> None:
        super().__init__()
        self._asked = 0

    def say(self, number: int, parts: tuple[bytes, ...]) -> None:
        """A request to the forwarder."""
        assert self._sender is not None
        request = RequestMessage(SENDER, SERVER, number, CHANNEL, "forward", _TIMEOUT_S, {REFS_HEADER: True}, parts)
        self._sender.send_multipart(encode(request), copy=False)

    def heard(self) -> bytes:
        """The body of the request that comes of it."""
        while True:
            header, *rest = self._received(self._taker)
            message = decode(header.bytes, tuple(frame.buffer for frame in rest), me=TAKER)
            if isinstance(message, RequestMessage):
                self._asked = message.id
                return b"".join(message.body)

    def answer(self, number: int) -> None:
        """The reply, there and back."""
        assert self._taker is not None
        self._taker.send_multipart(encode(ReplyMessage(TAKER, SERVER, self._asked, "", {}, {}, (_NIL,))))
        while True:
            header, *rest = self._received(self._sender)
            message = decode(header.bytes, tuple(frame.buffer for frame in rest), me=SENDER)
            if isinstance(message, ReplyMessage):
                if message.code or message.id != number:
                    raise ValueError(f"request {number} was answered with {message.code or message.id!r}: {message.facts}")
                return
