"""Links: the connections of one lane as numbers, so that the brain need not know sockets.

One ROUTER takes all that dial us; each cell that we dial has a DEALER of its own. A link that we dialled
is odd (the brain numbers it), one that we accepted is even (numbered here, when its first frame comes).
libzmq tells of connections that end through monitors; for an accepted one the descriptor that its
frames came from says which link it was. Within a process (``inproc``) there is nothing to monitor: cells
say goodbye.

How it sleeps. libzmq's own poll uses the sockets while it sleeps, so that nobody else may; instead the
loop sleeps on their descriptors, and holds no socket meanwhile. A socket's descriptor tells only that
something may have changed since its state was last read, so every socket that was used is asked
(`pending`) before the loop sleeps again.

Threads: one at a time, whoever holds the loop's lock.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from socket import AF_UNIX, socket as connection_of

import zmq
from zmq.utils.monitor import parse_monitor_message

from zdl.errors import Busy, NoRoute, ZdlError
from zdl.transport.poller import make_poller
from zdl.transport.sockets import (
    CONTROL_MESSAGES_MAX,
    DATA_MESSAGES_MAX,
    LINGER_MS,
    bind,
    check_listen,
    forget_ipc,
    make_dealer,
    make_router,
    speak_ipv6,
)

Part = bytes | memoryview
Socket = zmq.Socket[bytes]
# `send(copy=False)` costs 2.5 us for a hook into the garbage collector: below this a copy is cheaper.
COPY_BELOW_BYTES = 64 * 1024
# A piece of a chunk that is copied and hashed before the next one. Measured for 1 MiB, copy and BLAKE3: in one piece 185–215 us, in
# pieces of 512 KiB 165–185, of 256 KiB 164–179, of 128 KiB 165–176: the second pass finds it in the core's own cache.
TOLD_BYTES = 256 * 1024
# Messages taken from one socket before the others are looked at.
AT_ONCE = 32
# Messages taken from a socket before a connection of it is given up: as many as one holds.
LAST_WORDS_MAX = max(CONTROL_MESSAGES_MAX, DATA_MESSAGES_MAX)
# zmq's names are enums, and an `|` of enums costs 1 us: more than what it is used for.
_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
_LAST = int(zmq.NOBLOCK)
_NOW = int(zmq.NOBLOCK)
_POLLIN = int(zmq.POLLIN)
_EVENTS = int(zmq.EVENTS)
# `Socket.send` is a Python function that looks for options of other kinds of sockets before it calls this one.
_send_frame: Callable[[Socket, Part, int, bool], object] = zmq.backend.Socket.send  # type: ignore[assignment]
_ENDED = zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL \
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_CONNECT_RETRIED
# libzmq says that it will try again after each of the others, too, so it counts where nothing else was said before: then
# there was no connection to begin with.
_WHY = ((zmq.EVENT_DISCONNECTED, "the connection was closed"), (zmq.EVENT_CLOSED, "nobody answers at {address}"),
        (zmq.EVENT_CONNECT_RETRIED, "{address} cannot be dialled: does its name resolve?"))


class Incoming:
    """A message whose first frame has been read; the rest is taken by whoever it is for."""

    __slots__ = ("link", "header", "_socket", "_has_more")

    def __init__(self, link: int, header: bytes, socket: zmq.Socket[bytes], has_more: bool) -> None:
        self.link = link
        self.header = header
        self._socket = socket
        self._has_more = has_more

    def rest(self) -> tuple[Part, ...]:
        """The frames that are left, as buffers that libzmq received into."""
        if not self._has_more:
            return ()
        parts: list[Part] = []
        while self._has_more:
            frame = self._socket.recv(copy=False)
            parts.append(frame.buffer if len(frame) >= COPY_BELOW_BYTES else frame.bytes)
            self._has_more = frame.more
        return tuple(parts)

    def into(self, view: memoryview, update: Callable[[memoryview], object] | None = None) -> bool:
        """The frames that are left, received into place. False when they are not exactly as long.

        Args:
            view: the place.
            update: is told each piece right after it was put there, while it is in the nearest cache: a digest.
        """
        at = 0
        while self._has_more:
            if update is not None:
                came = self._frame_into(view[at:], update)
            else:
                room = view[at:]
                came = self._socket.recv_into(room) if room.nbytes else len(self._socket.recv())
                self._has_more = bool(self._socket.getsockopt(zmq.RCVMORE))
            at += came
            if at > view.nbytes:
                self.discard()
                return False
        return at == view.nbytes

    def _frame_into(self, room: memoryview, update: Callable[[memoryview], object]) -> int:
        """One frame, piece by piece; nothing of it when it is longer than the room. Returns its length."""
        frame = self._socket.recv(copy=False)
        self._has_more = frame.more
        source = frame.buffer
        size = source.nbytes
        if size <= room.nbytes:
            for start in range(0, size, TOLD_BYTES):
                piece = room[start:min(start + TOLD_BYTES, size)]
                piece[:] = source[start:start + TOLD_BYTES]
                update(piece)
        return size

    def discard(self) -> None:
        """Drops the frames that are left."""
        while self._has_more:
            self._socket.recv_into(bytearray())
            self._has_more = bool(self._socket.getsockopt(zmq.RCVMORE))


@dataclass(frozen=True, slots=True)
class Broken:
    """A connection has ended."""

    link: int
    why: str


@dataclass(slots=True)
class _Dealer:
    """A link that we dialled."""

    link: int
    address: str
    socket: zmq.Socket[bytes]
    monitor: zmq.Socket[bytes] | None
    has_ended: bool = False


class Links:
    """The sockets of one lane.

    Args:
        context: where they are made.
        fqcn: the cell, for errors.
        is_data: which lane.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], fqcn: str, *, is_data: bool) -> None:
        self._context = context
        self._fqcn = fqcn
        self._is_data = is_data
        self._router: zmq.Socket[bytes] | None = None
        self._router_monitor: zmq.Socket[bytes] | None = None
        self._bound: list[str] = []
        self._dealers: dict[int, _Dealer] = {}
        self._by_socket: dict[int, int] = {}
        self._routing: dict[int, bytes] = {}
        self._by_routing: dict[bytes, int] = {}
        self._by_descriptor: dict[int, int] = {}
        self._descriptors: dict[int, int] = {}  # of accepted links
        self._next_accepted = 2
        self.poller = make_poller()
        self._by_fd: dict[int, zmq.Socket[bytes]] = {}
        self._unsure: dict[int, zmq.Socket[bytes]] = {}
        self._fd_of: dict[int, int] = {}
        self.has_grown = False  # a sleeper does not sleep on sockets that were made since
        self._monitors: set[zmq.Socket[bytes]] = set()

    def __repr__(self) -> str:
        return f"<Links of {self._fqcn}: {len(self._dealers)} dialled, {len(self._routing)} accepted, bound {self._bound}>"

    # --- opening and closing --------------------------------------------------------------------

    def bind(self, address: str, *, is_insecure: bool) -> str:
        """Listen there as well. Returns the address with its real port."""
        check_listen(address, is_insecure=is_insecure)
        if self._router is None:
            self._router = make_router(self._context, is_data=self._is_data)
            self._router_monitor = self._router.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            self._watch(self._router_monitor, is_monitor=True)
            self._watch(self._router)
        actual = bind(self._router, address)
        self._bound.append(actual)
        return actual

    def dial(self, link: int, address: str) -> Broken | None:
        """Begin a connection. Returns what is wrong with an address that cannot be dialled at all."""
        socket = make_dealer(self._context, is_data=self._is_data)
        monitor = None
        if not address.startswith("inproc://"):
            monitor = socket.get_monitor_socket(_ENDED)
            self._watch(monitor, is_monitor=True)
        self._dealers[link] = _Dealer(link, address, socket, monitor)
        self._by_socket[id(socket)] = link
        self._watch(socket)
        speak_ipv6(socket, address)
        try:
            socket.connect(address)
        except zmq.ZMQError as error:
            return Broken(link, f"{address} cannot be dialled: {error.strerror.lower()}")
        return None

    def hang(self, link: int) -> None:
        """End a connection after what was sent on it; one that we accepted is only forgotten."""
        dealer = self._dealers.pop(link, None)
        if dealer is not None:
            del self._by_socket[id(dealer.socket)]
            self._unwatch(dealer.socket)
            if dealer.monitor is not None:
                self._unwatch(dealer.monitor)
                dealer.socket.disable_monitor()
                dealer.monitor.close(0)
            dealer.socket.close(LINGER_MS)
            return
        routing = self._routing.pop(link, None)
        if routing is not None:
            del self._by_routing[routing]
            descriptor = self._descriptors.pop(link, -1)
            if self._by_descriptor.get(descriptor) == link:  # else a new connection has it
                del self._by_descriptor[descriptor]

    def close(self) -> None:
        """Close all sockets, and remove the files of ipc addresses."""
        for link in list(self._dealers):
            self.hang(link)
        if self._router is not None:
            self._unwatch(self._router)
            self._router.disable_monitor()
            if self._router_monitor is not None:
                self._unwatch(self._router_monitor)
                self._router_monitor.close(0)
            for address in self._bound:
                if address.startswith("inproc://"):  # else a thread of libzmq frees the name, some time later
                    self._router.unbind(address)
            self._router.close(LINGER_MS)
            self._router = None
        self.poller.close()
        for address in self._bound:
            forget_ipc(address)
        self._bound.clear()

    # --- waiting, sending, receiving ------------------------------------------------------------

    def wake_by(self, descriptor: int) -> None:
        """Sleep on this descriptor too."""
        self.poller.register(descriptor)

    def drained(self, socket: zmq.Socket[bytes]) -> bool:
        """Whether the socket has no further message; until it is used or woken again it need not be asked."""
        if self.has_more(socket):
            return False
        if not socket.closed:
            self._unsure.pop(self._fd_of[id(socket)], None)
        return True

    def pending(self, descriptors: Sequence[int] = ()) -> tuple[list[Broken], list[zmq.Socket[bytes]]]:
        """What broke, and which sockets have messages, of those used or woken since they were last asked.

        What came over a connection that broke may still wait in its socket, which is among them for that.

        Args:
            descriptors: that were readable; their sockets are not asked, for mostly they have a message.
        """
        broken: list[Broken] = []
        readable: list[zmq.Socket[bytes]] = []
        if not self._unsure and len(descriptors) == 1:  # most often it is one socket, and it has messages
            socket_or_none = self._by_fd.get(descriptors[0])
            if socket_or_none is not None and socket_or_none not in self._monitors:
                self._unsure[descriptors[0]] = socket_or_none
                readable.append(socket_or_none)
                return broken, readable
        for descriptor, socket in list(self._unsure.items()):
            if descriptor not in descriptors and not self.has_more(socket):
                del self._unsure[descriptor]
            elif socket in self._monitors:
                # Before the messages: the descriptor of a connection may be used again by a new one.
                broken += self._read_monitor(socket)
            else:
                readable.append(socket)
        for descriptor in descriptors:
            woken = self._by_fd.get(descriptor)
            if woken is None or descriptor in self._unsure:
                continue
            self._unsure[descriptor] = woken
            if woken in self._monitors:
                broken += self._read_monitor(woken)
            else:
                readable.append(woken)
        for each in broken:
            readable += [socket for socket in self.sockets_of(each.link) if socket not in readable]
        return broken, readable

    def is_pending(self) -> bool:
        """Whether `pending` would find something, among the sockets used since it was asked."""
        for socket in self._unsure.values():
            if self.has_more(socket):
                return True
        return False

    def receive(self, socket: zmq.Socket[bytes]) -> Incoming | None:
        """The next message of a socket, its first frame read; None when it has none after all, or is closed."""
        if socket.closed:
            return None
        try:
            if socket is not self._router:
                frame = socket.recv(_NOW, copy=False)
                return Incoming(self._by_socket[id(socket)], frame.bytes, socket, frame.more)
            routing = socket.recv(_NOW)
        except zmq.Again:
            return None
        frame = socket.recv(copy=False)
        link = self._by_routing.get(routing)
        if link is not None:
            return Incoming(link, frame.bytes, socket, frame.more)
        link = self._next_accepted
        self._next_accepted += 2
        self._routing[link] = routing
        self._by_routing[routing] = link
        descriptor = _descriptor_of(frame)
        if descriptor >= 0:
            self._by_descriptor[descriptor] = link
            self._descriptors[link] = descriptor
        return Incoming(link, frame.bytes, socket, frame.more)

    def has_more(self, socket: zmq.Socket[bytes]) -> bool:
        """Whether another message is here."""
        return not socket.closed and bool(int(socket.getsockopt(_EVENTS)) & _POLLIN)

    def send(self, link: int, parts: Sequence[Part]) -> ZdlError | None:
        """Hand a message over, or say why it cannot be. A message is handed over whole or not at all."""
        dealer = self._dealers.get(link)
        try:
            if dealer is not None:
                self._used(dealer.socket)
                _send(dealer.socket, parts)
            elif (routing := self._routing.get(link)) is not None and self._router is not None:
                self._used(self._router)
                _send_frame(self._router, routing, _MORE, True)
                _send(self._router, parts)
            else:
                return NoRoute(target="", at=self._fqcn, why="the link is closed")
        except zmq.Again:
            limit = DATA_MESSAGES_MAX if self._is_data else CONTROL_MESSAGES_MAX
            name = "DATA_MESSAGES_MAX" if self._is_data else "CONTROL_MESSAGES_MAX"
            return Busy(limit=name, value=limit, at=self._fqcn)
        except zmq.ZMQError as error:
            return NoRoute(target="", at=self._fqcn, why=f"the link is gone: {error.strerror.lower()}")
        return None

    # --- inside ---------------------------------------------------------------------------------

    def _watch(self, socket: zmq.Socket[bytes], *, is_monitor: bool = False) -> None:
        if is_monitor:
            self._monitors.add(socket)
        descriptor = int(socket.getsockopt(zmq.FD))
        self._by_fd[descriptor] = self._unsure[descriptor] = socket
        self._fd_of[id(socket)] = descriptor
        self.has_grown = self.poller.register(descriptor) or self.has_grown

    def _unwatch(self, socket: zmq.Socket[bytes]) -> None:
        descriptor = self._fd_of.pop(id(socket))
        self._monitors.discard(socket)
        self._by_fd.pop(descriptor, None)
        self._unsure.pop(descriptor, None)
        self.poller.unregister(descriptor)

    def _used(self, socket: zmq.Socket[bytes]) -> None:
        self._unsure[self._fd_of[id(socket)]] = socket

    def sockets_of(self, link: int) -> list[Socket]:
        """Where messages of a link may still wait."""
        dealer = self._dealers.get(link)
        if dealer is not None:
            return [dealer.socket]
        return [self._router] if self._router is not None and link in self._routing else []

    def _read_monitor(self, monitor: zmq.Socket[bytes]) -> list[Broken]:
        broken = []
        while self.has_more(monitor):
            event = parse_monitor_message(monitor.recv_multipart(zmq.NOBLOCK))
            if monitor is self._router_monitor:
                link = self._by_descriptor.pop(int(event["value"]), None)
                if link is not None:
                    broken.append(Broken(link, "the connection was closed"))
                continue
            dealer = next((each for each in self._dealers.values() if each.monitor is monitor), None)
            if dealer is not None and not dealer.has_ended:
                dealer.has_ended = True
                why = next((text for kind, text in _WHY if event["event"] == kind), "the greeting failed")
                broken.append(Broken(dealer.link, why.format(address=dealer.address)))
        return broken


def scheme_of(links: Links, link: int) -> str:
    """How a link's peer is connected: ``inproc``, ``ipc`` or ``tcp``; empty for a link that is gone."""
    dealer = links._dealers.get(link)
    if dealer is not None:
        return dealer.address.partition("://")[0]
    if link not in links._routing:
        return ""
    descriptor = links._descriptors.get(link, -1)
    if links._by_descriptor.get(descriptor) != link:  # within a process there is none
        return "inproc"
    with suppress(OSError), connection_of(fileno=os.dup(descriptor)) as connection:  # it may have ended just now
        return "ipc" if connection.family == AF_UNIX else "tcp"
    return ""


def _descriptor_of(frame: zmq.Frame) -> int:
    """The descriptor of the connection that a frame came over; -1 within a process, where there is none."""
    try:
        return int(frame.get(zmq.SRCFD))
    except zmq.ZMQError:
        return -1


def _send(socket: zmq.Socket[bytes], parts: Sequence[Part]) -> None:
    last = len(parts) - 1
    for index, part in enumerate(parts):
        size = len(part) if type(part) is bytes else memoryview(part).nbytes
        _send_frame(socket, part, _LAST if index == last else _MORE, size < COPY_BELOW_BYTES)
