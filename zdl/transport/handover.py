"""Handover: how descriptors of memory get from the process that has made it to one that may have it.

::

    receiver                                      origin
       │ the request for an offer (any way) ───────▶ │  may it have that? then a ticket: good once, and not for long
       │ ◀──────────────── where, and the ticket     │
       │                                             │
       │ connects to a unix socket, says the ticket ▶│
       │ ◀──── what proves it is the origin, and the descriptors

Why so, and not through ``/proc/<pid>/fd``: that asks for the rights of a debugger over the origin's process, for the same user,
and for the same process namespace. A unix socket asks for nothing but to be reached. Its name is abstract, which is known
in the network namespace alone, as loopback addresses are; it is no file, so nothing is left of it when its process is killed.

Anybody in that namespace can connect; a ticket says who may have something, and the answer to it is keyed with the secret
of the offer: who has taken the name of an origin that is gone cannot hand over memory of his own.

One thread per cell serves all this, and looks after the segments whenever their owner wants it to. It is started when
something is to be handed over or looked after, and not before.
"""

from __future__ import annotations

import hmac
import os
import select
import socket
import threading
import time
from array import array
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b

from zdl.errors import Busy, Closed

TICKET_BYTES = 16
PROOF_BYTES = 32
# A ticket is used at once: the receiver waits for nothing in between.
TICKET_S = 10.0
TICKETS_MAX = 4096
# Linux takes no more in one message (SCM_MAX_FD is 253).
DESCRIPTORS_MAX = 250
# Connections that have said nothing yet, and how long each may be silent.
CALLERS_MAX = 64
SILENT_S = 5.0


@dataclass(frozen=True, slots=True)
class _Ticket:
    """What somebody may fetch once."""

    give: Callable[[], list[int]]
    proof: bytes
    until: float


class Handover:
    """The thread that hands memory over, and looks after it.

    Threads: all methods from any thread.
    Lifetime: the thread runs from the first `promise` or `wake` to `close`.

    Args:
        fqcn: the cell.
        look: called by the thread, with the time; returns when it wants to be called again, or None. It must not raise.
    """

    def __init__(self, fqcn: str, look: Callable[[float], float | None]) -> None:
        self._fqcn = fqcn
        self._look = look
        self._lock = threading.Lock()  # guards all below
        self._tickets: dict[bytes, _Ticket] = {}
        self._thread: threading.Thread | None = None
        self._listener: socket.socket | None = None
        self._waker = -1
        self._is_closed = False

    def promise(self, give: Callable[[], list[int]], secret: bytes) -> tuple[str, bytes]:
        """Have descriptors handed to whoever shows a ticket. Returns the name of the socket, and the ticket.

        Args:
            give: opens them; none: they may not be had any more. Called by the thread, once at most.
            secret: what the receiver knows too; it is not said.

        Raises:
            Busy: too many tickets are out.
            Closed: the cell is.
            OSError: the system has no socket for it.
        """
        ticket = os.urandom(TICKET_BYTES)
        now = time.monotonic()
        with self._lock:
            self._begin()
            while self._tickets and next(iter(self._tickets.values())).until <= now:  # they stand in the order of their ends
                del self._tickets[next(iter(self._tickets))]
            if len(self._tickets) >= TICKETS_MAX:
                raise Busy(limit="TICKETS_MAX", value=TICKETS_MAX, at=self._fqcn)
            self._tickets[ticket] = _Ticket(give, _proof(ticket, secret), now + TICKET_S)
            assert self._listener is not None
            return self._listener.getsockname()[1:].decode(), ticket

    def wake(self) -> None:
        """Have the segments looked after soon.

        Raises:
            OSError: the system has no socket for it.
        """
        with self._lock:
            if not self._is_closed:
                self._begin()
                os.eventfd_write(self._waker, 1)

    def close(self, timeout_s: float) -> bool:
        """End the thread; nothing is handed over any more. Returns whether it ended in time."""
        with self._lock:
            self._is_closed = True
            self._tickets.clear()
            thread = self._thread
            if self._waker >= 0:
                os.eventfd_write(self._waker, 1)
        if thread is None:
            return True
        thread.join(timeout_s)
        return not thread.is_alive()

    # --- inside ---------------------------------------------------------------------------------

    def _begin(self) -> None:
        """With the lock: the socket and the thread, unless they are there."""
        if self._is_closed:
            raise Closed(fqcn=self._fqcn)
        if self._thread is not None:
            return
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        is_ready = False
        try:
            listener.bind(b"\0zdl-" + os.urandom(16).hex().encode())
            listener.listen(CALLERS_MAX)
            self._waker = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._listener = listener
            self._thread = threading.Thread(target=self._run, args=(listener, self._waker), name=f"zdl-segments-{self._fqcn}",
                                            daemon=True)
            self._thread.start()
            is_ready = True
        finally:
            if not is_ready:
                listener.close()

    def _run(self, listener: socket.socket, waker: int) -> None:
        callers: dict[int, tuple[socket.socket, float]] = {}
        poller = select.poll()
        poller.register(listener, select.POLLIN)
        poller.register(waker, select.POLLIN)
        try:
            while not self._is_closed:
                now = time.monotonic()
                due = [each for each in (self._look(now), *(until for _, until in callers.values())) if each is not None]
                wait_ms = None if not due else max(0.0, min(due) - now) * 1000 + 1
                for descriptor, _ in poller.poll(wait_ms):
                    if descriptor == waker:
                        os.eventfd_read(waker)
                    elif descriptor == listener.fileno():
                        self._accept(listener, callers, poller)
                    else:
                        self._answer(callers[descriptor][0])
                        _drop(callers, poller, descriptor)
                now = time.monotonic()
                for descriptor in [each for each, (_, until) in callers.items() if until <= now]:
                    _drop(callers, poller, descriptor)
        finally:
            for descriptor in list(callers):
                _drop(callers, poller, descriptor)
            listener.close()
            with self._lock:
                self._waker = -1
                os.close(waker)

    def _accept(self, listener: socket.socket, callers: dict[int, tuple[socket.socket, float]], poller: select.poll) -> None:
        with suppress(OSError):  # it has gone again; or this process has too many descriptors: the receiver uses sockets
            caller, _ = listener.accept()
            caller.setblocking(False)
            if len(callers) >= CALLERS_MAX:  # the one that has been silent for longest gives way
                _drop(callers, poller, next(iter(callers)))
            callers[caller.fileno()] = caller, time.monotonic() + SILENT_S
            poller.register(caller, select.POLLIN)

    def _answer(self, caller: socket.socket) -> None:
        """A ticket has come, or the end. Whoever has none is told nothing."""
        with suppress(OSError):  # he has gone, or is not read: then he fetches the bytes another way
            ticket = caller.recv(TICKET_BYTES + 1)
            with self._lock:
                known = self._tickets.pop(ticket, None)
            if known is None or known.until <= time.monotonic():
                return
            descriptors = known.give()
            try:
                for at in range(0, len(descriptors), DESCRIPTORS_MAX):
                    socket.send_fds(caller, [known.proof], descriptors[at:at + DESCRIPTORS_MAX])
            finally:
                for each in descriptors:
                    os.close(each)


def taken(address: str, ticket: bytes, secret: bytes, *, count: int, timeout_s: float) -> list[int]:
    """What a ticket is good for: descriptors, which the caller closes.

    Args:
        address: the name of the socket, as the origin has told it.
        ticket: as it has told it.
        secret: of the offer.
        count: how many descriptors there shall be.
        timeout_s: how long it may take.

    Raises:
        OSError: nobody is there, or he does not give them; who is there is not the origin.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as caller:
        caller.settimeout(timeout_s)
        caller.connect(b"\0" + address.encode())
        caller.sendall(ticket)
        room = socket.CMSG_SPACE(DESCRIPTORS_MAX * array("i").itemsize)
        found = array("i")
        is_whole = False
        try:
            proof = wanted = _proof(ticket, secret)
            while len(found) < count and proof == wanted:
                proof, more, _, _ = caller.recvmsg(PROOF_BYTES + 1, room, socket.MSG_CMSG_CLOEXEC)
                for level, kind, data in more:
                    if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                        found.frombytes(data[:len(data) - len(data) % found.itemsize])
            is_whole = hmac.compare_digest(proof, wanted) and len(found) == count
            if is_whole:
                return list(found)
        finally:
            for each in () if is_whole else found:
                os.close(each)
    raise ConnectionRefusedError("its origin has not handed it over" if not proof else "who answers is not its origin")


def _proof(ticket: bytes, secret: bytes) -> bytes:
    """What only who knows the secret can say to this ticket."""
    return blake2b(ticket, key=secret, digest_size=PROOF_BYTES).digest()


def _drop(callers: dict[int, tuple[socket.socket, float]], poller: select.poll, descriptor: int) -> None:
    caller, _ = callers.pop(descriptor)
    poller.unregister(caller)
    caller.close()
