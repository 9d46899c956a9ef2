"""Loop: the shell around the brain: poll, decode, feed, act, sleep until the next deadline.

One lane's sockets and machines belong to one loop, and are touched by one thread at a time: whoever holds
the loop's lock. Mostly that is the loop's own thread. A thread that has something to say and finds the
lock free says it there and then, which saves a hand-over between threads (18–24 us); if it finds the lock
taken it leaves its work in the mailbox, and whoever holds the lock does it before letting go.

::

    other threads ──submit()──▶ ┐  (the lock is free: here and now; else: Mailbox)
    sockets ──decode──────────▶ ├─▶ a machine ──▶ effects ──▶ sockets, or the desk
    deadline() ───────────────▶ ┘

The **desk** is what differs between lanes: it feeds the machines that stand behind the switch, and
performs the effects that are not about links. No user code runs here, and nothing blocks but the poll,
which is done without the lock.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from zdl.errors import Closed, DecodeError, NoRoute, TooLarge
from zdl.protocol.decode import decode
from zdl.protocol.effects import SELF, Dial, Effect, Hang, Post, Send
from zdl.protocol.encode import encode
from zdl.protocol.frames import FRAMES_MAX
from zdl.protocol.messages import Transit
from zdl.protocol.switch import Switch
from zdl.transport.links import AT_ONCE, LAST_WORDS_MAX, Broken, Incoming, Links, Socket
from zdl.transport.mailbox import Mailbox, Work

_LOG = logging.getLogger("zdl.transport")
# Peers that are gone and whose traffic is still told.
ENDED_MAX = 4096
Value = TypeVar("Value")


class Desk(Protocol):
    """What stands behind the switch of one lane."""

    def takes(self, header: bytes) -> bool:
        """Whether the desk wants to receive the body of this message into place itself."""

    def incoming(self, message: Incoming | None) -> None:
        """The message that is being received, for as long as its effects are performed."""

    def perform(self, effect: Effect, now: float) -> Iterable[Effect]:
        """An effect that is not about links."""

    def tick(self, now: float) -> Iterable[Effect]:
        """Time passed."""

    def deadline(self) -> float | None:
        """When `tick` is wanted next."""


@dataclass(slots=True)
class Traffic:
    """What has moved over one link, in bytes of bodies and in messages; read by reports at any time."""

    fqcn: str
    bytes_in: int = 0
    bytes_out: int = 0
    messages_in: int = 0
    messages_out: int = 0


class Loop:
    """One lane's thread.

    Args:
        name: of the thread.
        switch: the brain of its links.
        links: its sockets.
        mailbox: its door.
    """

    def __init__(self, name: str, switch: Switch, links: Links, mailbox: Mailbox) -> None:
        self.switch = switch
        self.links = links
        self.mailbox = mailbox
        self._traffic_by_link: dict[int, Traffic] = {}
        self._traffic_ended: dict[str, Traffic] = {}
        self.undecoded = 0
        self._desk: Desk | None = None
        self._is_running = False
        self._is_stopping = False
        self._lock = threading.Lock()  # guards the sockets and the machines
        self._owner = 0
        self._wakes_at = 0.0
        self._afterwards: list[Work] = []
        self._me = switch.fqcn
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __repr__(self) -> str:
        return f"<Loop {self._thread.name}: {'running' if self._thread.is_alive() else 'stopped'}, {self.links!r}>"

    # --- from any thread ------------------------------------------------------------------------

    def start(self, desk: Desk) -> None:
        """Start the thread."""
        self._desk = desk
        self.links.wake_by(self.mailbox.descriptor)
        self._is_running = True
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Say goodbye, close the sockets, end the thread. Returns whether it has ended in time."""
        if self._thread.is_alive():
            self.mailbox.put(self._stop)
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def submit(self, function: Callable[..., None], *arguments: object) -> None:
        """Call the function while nobody else touches this loop: now, or soon.

        Raises:
            Busy: the mailbox is full.
            Closed: the loop has ended.
        """
        if not self._is_running or not self._lock.acquire(blocking=False):
            self.mailbox.put(function, *arguments)
            return
        try:
            self._owner = threading.get_ident()
            if not self._is_running:
                raise Closed(fqcn=self._me)
            self._guard(function, *arguments)
            self._work()
            deadline = self._deadline()
            is_early = deadline is not None and deadline < self._wakes_at
            is_wanted = is_early or self.links.has_grown or self.links.is_pending()
            afterwards, self._afterwards = self._afterwards, []
        finally:
            self._owner = 0
            self._lock.release()
        if is_wanted or self.mailbox.has_work():
            self.mailbox.wake()
        self._tell(afterwards)

    def ask(self, question: Callable[[], Value]) -> Value:
        """The answer to a question put to the machines, while nobody else touches them; it may set a time for them.

        Raises:
            Closed: the loop has ended.
        """
        if self._owner == threading.get_ident():
            return question()
        with self._lock:
            if not self._is_running:
                raise Closed(fqcn=self._me)
            answer = question()
            deadline = self._deadline()
            is_wanted = deadline is not None and deadline < self._wakes_at
        if is_wanted:
            self.mailbox.wake()
        return answer

    def traffic(self) -> list[Traffic]:
        """What has moved so far, per peer."""
        found = dict(self._traffic_ended)
        for each in list(self._traffic_by_link.values()):
            found[each.fqcn] = _sum(each, found.get(each.fqcn, Traffic(each.fqcn)))
        return [found[name] for name in sorted(found)]

    # --- on the loop ----------------------------------------------------------------------------

    def afterwards(self, function: Callable[..., None], *arguments: object) -> None:
        """Call the function when the lock is free again: for what wakes another thread.

        A thread that is woken while this one holds the interpreter goes back to sleep at once, and is woken a
        second time; so others are woken last, right before this thread sleeps itself.
        """
        self._afterwards.append((function, arguments))

    def act(self, effects: Iterable[Effect], now: float) -> None:
        """Perform effects in order."""
        assert self._desk is not None
        for effect in effects:
            match effect:
                case Send():
                    self._send(effect, now)
                case Post(message=message):
                    self.act(self.switch.send(message, now), now)
                case Dial(link=link, address=address):
                    problem = self.links.dial(link, address)
                    if problem is not None:
                        self.mailbox.put(self._broken, problem)
                case Hang(link=link):
                    self.links.hang(link)
                    self._fold(link)
                case _:
                    self.act(self._desk.perform(effect, now), now)

    def do(self, function: Callable[[float], Iterable[Effect]]) -> None:
        """Call a machine and perform what it asks for."""
        now = time.monotonic()
        self.act(function(now), now)

    def _run(self) -> None:
        _LOG.debug("= %s started", self._thread.name)
        descriptors: list[int] = []
        try:
            while not self._is_stopping:
                with self._lock:
                    self._owner = self._thread.ident or 0
                    timeout_s = self._turn(descriptors)
                    afterwards, self._afterwards = self._afterwards, []
                    self._owner = 0
                self._tell(afterwards)
                descriptors = self.links.sleep(timeout_s)
                self.mailbox.awake(was_woken=self.mailbox.descriptor in descriptors)
        finally:
            with self._lock:
                self._is_running = False
                self.links.close()
                left = self.mailbox.close()
            for function, _ in left:
                _LOG.debug("! %s left undone: %s", self._thread.name, getattr(function, "__name__", function))
            _LOG.debug("= %s stopped", self._thread.name)

    def _turn(self, descriptors: list[int]) -> float | None:
        """All that there is to do now. Returns how long to sleep: 0 when there is more already."""
        broken, readable = self.links.pending(descriptors)
        # What came over a connection is heard before its end: the last words are often the ones that count.
        messages_max = LAST_WORDS_MAX if broken else AT_ONCE
        for socket in readable:
            self._read(socket, messages_max)
        for each in broken:
            self._guard(self._broken, each)
        self._work()
        deadline, now = self._deadline(), time.monotonic()
        if deadline is not None and deadline <= now:
            self._guard(self._tick)
            deadline = self._deadline()
        if self._is_stopping or self.links.is_pending() or not self.mailbox.may_sleep():
            return 0.0
        self._wakes_at = float("inf") if deadline is None else deadline
        return None if deadline is None else max(0.0, deadline - now)

    def _read(self, socket: Socket, messages_max: int) -> None:
        """Messages of one socket, which an earlier message may have closed."""
        for _ in range(messages_max):
            incoming = self.links.receive(socket)
            if incoming is not None:
                self._guard(self._receive, incoming)
            if self.links.drained(socket):
                return

    def _work(self) -> None:
        """What other threads have left."""
        for function, arguments in self.mailbox.work():
            self._guard(function, *arguments)

    def _tell(self, afterwards: list[Work]) -> None:
        for function, arguments in afterwards:
            self._guard(function, *arguments)

    def _guard(self, function: Callable[..., None], *arguments: object) -> None:
        """One piece of work; an error in it is a bug of ours, is logged whole, and ends nothing else."""
        try:
            function(*arguments)
        except Exception:
            _LOG.exception("! %s: a piece of work failed", self._thread.name)

    def _deadline(self) -> float | None:
        assert self._desk is not None
        one, other = self.switch.deadline(), self._desk.deadline()
        return other if one is None else one if other is None else min(one, other)

    def _tick(self) -> None:
        assert self._desk is not None
        now = time.monotonic()
        self.act(self.switch.tick(now), now)
        self.act(self._desk.tick(now), now)

    def _broken(self, broken: Broken) -> None:
        now = time.monotonic()
        self.act(self.switch.broken(broken.link, broken.why, now), now)
        self.links.hang(broken.link)  # the switch never knew a link on which nobody said HELLO
        self._fold(broken.link)

    def _receive(self, incoming: Incoming) -> None:
        assert self._desk is not None
        now = time.monotonic()
        is_taken = self._desk.takes(incoming.header)
        body = () if is_taken else incoming.rest()
        try:
            if len(body) >= FRAMES_MAX:
                raise DecodeError(what=f"{len(body)} frames are over FRAMES_MAX={FRAMES_MAX}")
            message = decode(incoming.header, body, me=self._me)
        except DecodeError as error:
            self.undecoded += 1
            incoming.discard()
            _LOG.warning("! undecodable message link=%d why=%s", incoming.link, error)
            return
        if is_taken and isinstance(message, Transit):
            message = replace(message, body=incoming.rest())
            is_taken = False
            body = message.body
        self._count_in(incoming.link, body)
        if is_taken:
            self._desk.incoming(incoming)
        try:
            self.act(self.switch.receive(incoming.link, message, now), now)
        finally:
            if is_taken:
                self._desk.incoming(None)
                incoming.discard()

    def _send(self, effect: Send, now: float) -> None:
        try:
            parts = encode(effect.message)
        except TooLarge as error:
            self.act(self.switch.undelivered(effect.link, effect.message, error), now)
            return
        if effect.link == SELF:
            header = parts[0]
            assert isinstance(header, bytes)
            self.act(self.switch.receive(SELF, decode(header, tuple(parts[1:]), me=self._me), now), now)
            return
        problem = self.links.send(effect.link, parts)
        if problem is None:
            self.switch.peers.said(effect.link, now)
            self._count_out(effect.link, parts)
            return
        if isinstance(problem, NoRoute):
            self.act(self.switch.broken(effect.link, problem.why, now), now)
            problem = replace(problem, target=getattr(effect.message, "target", ""))
        self.act(self.switch.undelivered(effect.link, effect.message, problem), now)

    def count_in(self, link: int, length: int) -> None:
        """Bytes of a body that the desk took itself."""
        self._traffic(link).bytes_in += length

    def _count_in(self, link: int, body: tuple[bytes | memoryview, ...]) -> None:
        traffic = self._traffic(link)
        traffic.messages_in += 1
        traffic.bytes_in += sum(map(len, body))

    def _count_out(self, link: int, parts: list[bytes | memoryview]) -> None:
        traffic = self._traffic(link)
        traffic.messages_out += 1
        traffic.bytes_out += sum(map(len, parts)) - len(parts[0])

    def _traffic(self, link: int) -> Traffic:
        traffic = self._traffic_by_link.get(link)
        if traffic is None:
            traffic = self._traffic_by_link[link] = Traffic("")
        if not traffic.fqcn:
            known = self.switch.peers.link(link)
            traffic.fqcn = known.fqcn if known is not None else ""
        return traffic

    def _fold(self, link: int) -> None:
        """A link has ended: what moved over it is kept under the name of its peer."""
        ended = self._traffic_by_link.pop(link, None)
        if ended is not None:
            self._traffic_ended[ended.fqcn] = _sum(ended, self._traffic_ended.get(ended.fqcn, Traffic(ended.fqcn)))
            while len(self._traffic_ended) > ENDED_MAX:
                del self._traffic_ended[next(iter(self._traffic_ended))]

    def _stop(self) -> None:
        now = time.monotonic()
        self.act(self.switch.close(now), now)
        self._is_stopping = True


def _sum(one: Traffic, other: Traffic) -> Traffic:
    return Traffic(one.fqcn, one.bytes_in + other.bytes_in, one.bytes_out + other.bytes_out,
                   one.messages_in + other.messages_in, one.messages_out + other.messages_out)
