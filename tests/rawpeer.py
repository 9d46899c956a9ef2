"""RawPeer: somebody who speaks the wire by hand: a bare DEALER socket, honest or not."""

from __future__ import annotations

import os
from collections import deque
from types import TracebackType
from typing import Self

import zmq

from zdl.protocol.bundle import is_bundle, unbundled
from zdl.protocol.decode import decode
from zdl.protocol.encode import encode
from zdl.protocol.frames import WIRE_VERSION
from zdl.protocol.messages import Heartbeat, Hello, LinkMessage, Message, Role, Routed, Transit, Welcome

from waiting import PATIENCE_S

# Nothing is sent to a link that is open and has nothing to say but heartbeats, and those are far apart.
HEARTBEAT_S = 5.0


class RawPeer:
    """A connection to a cell, below the library; a context manager.

    Args:
        address: of the cell.
        fqcn: whom it claims to be.
    """

    def __init__(self, address: str, fqcn: str) -> None:
        self.fqcn = fqcn
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(address)
        self._opened: deque[bytes] = deque()  # of a bundle

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Gone, without a word."""
        self._socket.close()
        self._context.term()

    def send_frames(self, *frames: bytes) -> None:
        """Any frames at all."""
        self._socket.send_multipart(frames)

    def send(self, message: LinkMessage | Routed | Transit) -> None:
        """A message as the library would write it."""
        self._socket.send_multipart(encode(message))

    def receive(self, timeout_s: float = PATIENCE_S) -> Message | Transit:
        """The next message that is no heartbeat."""
        while True:
            body: list[bytes] = []
            if self._opened:
                header = self._opened.popleft()
            else:
                assert self._socket.poll(int(timeout_s * 1000)), f"{self.fqcn} heard nothing for {timeout_s} s"
                header, *body = self._socket.recv_multipart()
            if is_bundle(header):
                self._opened.extend(unbundled(header, body))
                continue
            message = decode(header, tuple(body), me=self.fqcn)
            if not isinstance(message, Heartbeat):
                return message

    def greet(self, *, version: int = WIRE_VERSION, role: Role = Role.CHILD, incarnation: bytes = b"") -> Message | Transit:
        """Says HELLO and returns what comes: a `Welcome`, or a `Reject`."""
        self.send(Hello(self.fqcn, incarnation or os.urandom(16), role, HEARTBEAT_S, (), version))
        return self.receive()

    def join(self) -> Welcome:
        """Says HELLO, and must be welcome."""
        answer = self.greet()
        assert isinstance(answer, Welcome), answer
        return answer
