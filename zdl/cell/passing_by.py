"""Passing by: what a relay sees of the messages that it passes on, or could not pass on: their first frame, never a body.

The switch tells of such messages only once somebody observes; the functions run on the handler pool, in order, and what is
more than they can keep up with is dropped and counted.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from zdl.cell.handlers import Job, Raised, guarded
from zdl.cell.telling import Teller
from zdl.errors import DecodeError, ZdlError
from zdl.protocol.decode import decode
from zdl.protocol.effects import PassedOn
from zdl.protocol.messages import Kind, Transit
from zdl.transport.loop import Loop

_LOG = logging.getLogger("zdl.cell")
OBSERVERS_MAX = 100


@dataclass(frozen=True, slots=True)
class Passed:
    """A message for somebody else that came through this cell.

    Attributes:
        kind: ``request``, ``reply``, ``notice``, ``cancel``, …; ``kind 99`` for one that this version does not know.
        origin: FQCN of the cell that sent it.
        target: FQCN of the cell that it is for.
        id: of the conversation that it belongs to.
        hops: how many cells had passed it on before.
        channel: first half of the handler's name; empty for kinds that name none.
        topic: second half.
        body_bytes: length of its body, which was not opened.
        error: why it could not be passed on; None when it was.
    """

    kind: str
    origin: str
    target: str
    id: int
    hops: int
    channel: str
    topic: str
    body_bytes: int
    error: ZdlError | None


Observer = Callable[[Passed], object]


class PassingBy:
    """Who observes what one cell passes on.

    Threads: `seen` on the loop, the rest from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the two below
        self._observers: list[Observer] = []
        self._loop: Loop | None = None
        self._teller: Teller | None = None

    @property
    def dropped_count(self) -> int:
        """How many messages no observer was told of, because others still waited."""
        return 0 if self._teller is None else self._teller.dropped_count

    def add(self, observer: Observer) -> Observer:
        """Tell this function from now on."""
        with self._lock:
            self._observers = [*self._observers[-OBSERVERS_MAX + 1:], observer]
            loop = self._loop
        if loop is not None:
            _tell_transit(loop, True)
        return observer

    def remove(self, observer: Observer) -> None:
        """Tell it no more."""
        with self._lock:
            self._observers = [each for each in self._observers if each is not observer]
            loop = None if self._observers else self._loop
        if loop is not None:
            _tell_transit(loop, False)

    def begin(self, submit: Callable[[Job], None], loop: Loop, most: int) -> None:
        """The cell opens."""
        self._teller = Teller("what is passed on", submit, most)
        with self._lock:
            self._loop = loop
            loop.switch.tells_transit = bool(self._observers)

    def seen(self, effect: PassedOn) -> None:
        """A message has been passed on, or could not be."""
        if self._teller is not None:
            self._teller.tell(lambda: self._tell(effect))

    def _tell(self, effect: PassedOn) -> None:
        passed = facts_of(effect.message, effect.error)
        for observer in self._observers:
            raised = guarded(lambda: observer(passed))
            if isinstance(raised, Raised):
                _LOG.warning("! an observer of %s raised %s: %s", passed.target, raised.kind, raised.text)


def facts_of(message: Transit, error: ZdlError | None) -> Passed:
    """What the first frame of a message says."""
    try:
        known = decode(message.header, (), me=message.target)
        kind = Kind(message.of_kind).name.lower()
    except (DecodeError, ValueError):  # its target will find out, or knows a later version
        known, kind = None, f"kind {message.of_kind}"
    body = message.body or getattr(known, "body", ())  # a small one stands in the header
    size = sum(memoryview(part).nbytes for part in body)
    return Passed(kind, message.origin, message.target, message.id, message.hops, getattr(known, "channel", ""),
                  getattr(known, "topic", ""), size, error)


def _tell_transit(loop: Loop, is_wanted: bool) -> None:
    def change() -> None:
        """While nobody else touches the switch."""
        loop.switch.tells_transit = is_wanted

    loop.ask(change)
