"""Streams: the desk of the data lane for what is pushed: items out as there is credit, items in, in order.

Items travel on the data lane, so that requests never wait behind them: straight to the receiver where it can be dialled, else
along the tree. Nothing is copied here but small items, into the message that gathers them (`zdl.protocol.items`).

Threads: `StreamDesk` methods are called from any thread and go through the loop; what stands below "the desk" runs on it. What
users of the desk hand in is called on the loop, so it must only hand over.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from zdl.errors import Closed, Refused, ZdlError
from zdl.fqcn import is_within
from zdl.options import Options
from zdl.protocol.backlog import Backlog
from zdl.protocol.dialling import Chosen, Dialling, Try
from zdl.protocol.effects import (
    Arrived,
    DialFailed,
    Effect,
    IntakeArrived,
    IntakeComplete,
    IntakeOpened,
    IntakeSettled,
    PeerDown,
    PeerUp,
    PushMoved,
    PushSettled,
    Unreachable,
)
from zdl.protocol.intakes import Intakes, Key
from zdl.protocol.messages import Body, Bounce
from zdl.protocol.pushes import Opening, Pushes
from zdl.protocol.pushing import End, Ended, Halt, Items, Open, Taken
from zdl.transport.loop import Loop

# How long the end of all streams may take to be said: the loop has nothing else to do.
CLOSE_S = 2.0


@dataclass(frozen=True, slots=True)
class _PushEvents:
    """Whom to tell about a push."""

    moved: Callable[[PushMoved], None]
    settled: Callable[[ZdlError | None, Body], None]


class Taker(Protocol):
    """Whom to tell about what is pushed to us; on the loop."""

    @property
    def idle_timeout_s(self) -> float | None:
        """No item for so long ends it."""

    def arrived(self, items: Sequence[Body]) -> None:
        """The next items."""

    def complete(self) -> None:
        """There will be no more; `StreamDesk.end` is waited for."""

    def settled(self, error: ZdlError) -> None:
        """It has ended before that."""


Opened = Callable[[Open], Taker]
Drain = Callable[[], Sequence[tuple[Body, float | None]]]


class StreamDesk:
    """What streams of a cell go through.

    Args:
        fqcn: the cell.
        first_id: where the ids of pushes begin: a random number of 62 bits.
        options: of the cell.
        loop: the thread that runs this desk.
    """

    def __init__(self, fqcn: str, first_id: int, options: Options, loop: Loop) -> None:
        self._fqcn = fqcn
        self._loop = loop
        self._pushes = Pushes(fqcn, first_id, options.streams)
        self._intakes = Intakes(fqcn, options.streams)
        self._dialling = Dialling(options.pulls.direct_timeout_s)
        self._dialled: dict[int, str] = {}
        self._waiting: dict[int, Callable[[], None]] = {}
        self._choices = 0
        self._pushed: dict[int, _PushEvents] = {}
        self._taking: dict[Key, Taker] = {}
        self._opened: Opened | None = None

    def __repr__(self) -> str:
        return f"<StreamDesk of {self._fqcn}: {len(self._pushes)} streams out, {len(self._intakes)} in>"

    # --- from any thread ------------------------------------------------------------------------

    def listen(self, opened: Opened) -> None:
        """Who takes in what others push; it raises what refuses a stream, and is called on the loop."""
        self._opened = opened

    def way(self, target: str, addresses: Sequence[str], chosen: Callable[[], None]) -> None:
        """Look for a direct way to a cell, and say when the looking is over, one way or the other; on the loop."""
        def look() -> None:
            """On the loop."""
            now = time.monotonic()
            is_linked = target == self._fqcn or self._loop.switch.routes.is_direct(target)
            self._choices += 1
            self._waiting[self._choices] = chosen
            self._loop.act(self._take_ways(self._dialling.choose(
                self._choices, target, addresses, is_linked=is_linked, now=now), now), now)

        self._loop.submit(look)

    def is_direct(self, target: str) -> bool:
        """Whether a cell is linked to this one on the data lane."""
        return self._loop.ask(lambda: target == self._fqcn or self._loop.switch.routes.is_direct(target))

    def open(self, opening: Opening, backlog: Backlog, *, moved: Callable[[PushMoved], None],
             settled: Callable[[ZdlError | None, Body], None]) -> int:
        """Begin a push. Returns its id.

        Args:
            opening: of what, to whom.
            backlog: its items will stand there; several pushes may share one that has none yet.
            moved: the receiver has gone on; on the loop, as the other one.
            settled: the end: an error, or None and the receiver's result.

        Raises:
            Busy: a limit is reached.
            Closed: the cell is.
        """
        now = time.monotonic()

        def begin() -> tuple[int, list[Effect]]:
            """With the loop's lock."""
            number, effects = self._pushes.start(opening, now, backlog)
            self._pushed[number] = _PushEvents(moved, settled)
            return number, effects

        number, effects = self._loop.ask(begin)
        self._loop.submit(self._loop.act, effects, now)
        return number

    def push(self, backlog: Backlog, drain: Drain, *, last_of: int | None = None) -> None:
        """Have further items taken, each with its time (see `Pushes.spread`): those that `drain` gives when the loop is at it.

        So what several threads gather is taken in the order in which it was gathered. With `last_of` there will be no more for
        this push.
        """
        def push(now: float) -> list[Effect]:
            pushed = self._pushes.spread(backlog, drain(), now)
            return pushed if last_of is None else [*pushed, *self._pushes.finish(last_of, now)]

        self._loop.submit(self._loop.do, push)

    def cancel(self, number: int, error: ZdlError) -> None:
        """Break off."""
        self._loop.submit(self._loop.do, lambda now: self._pushes.cancel(number, error))

    def took(self, key: Key, replies: Sequence[Body]) -> None:
        """The next items are consumed, one for each reply."""
        with suppress(Closed):  # then the stream has ended
            self._loop.submit(self._loop.do, lambda now: self._intakes.took(key, replies, now))

    def end(self, key: Key, error: ZdlError | None, body: Body = ()) -> None:
        """A stream in has ended here."""
        def finish(now: float) -> list[Effect]:
            self._taking.pop(key, None)
            return self._intakes.finish(key, error, body)

        with suppress(Closed):
            self._loop.submit(self._loop.do, finish)

    def close(self) -> None:
        """End all streams, out and in, and say so."""
        def finish() -> None:
            """On the loop."""
            now, error = time.monotonic(), Closed(fqcn=self._fqcn)
            self._opened = None
            for number in self._pushes.ids():
                self._loop.act(self._pushes.cancel(number, error), now)
            for key in self._intakes.keys():
                taking = self._taking.pop(key, None)
                self._loop.act(self._intakes.finish(key, error), now)
                if taking is not None:
                    taking.settled(error)
            done.set()

        done = threading.Event()
        with suppress(Closed):
            self._loop.submit(finish)
            done.wait(CLOSE_S)

    # --- the desk -------------------------------------------------------------------------------

    def tick(self, now: float) -> Iterable[Effect]:
        """Time passed."""
        return [*self._pushes.tick(now), *self._intakes.tick(now), *self._take_ways(self._dialling.tick(now), now)]

    def deadline(self) -> float | None:
        """When `tick` is wanted next."""
        times = (self._pushes.deadline(), self._intakes.deadline(), self._dialling.deadline())
        return min((each for each in times if each is not None), default=None)

    def perform(self, effect: Effect, now: float) -> Iterable[Effect]:
        """The effects that are about streams, and news about links."""
        match effect:
            case Arrived(message=Taken() | Ended() as message):
                return self._pushes.receive(message, now)
            case Arrived(message=Open() | Items() | End() | Halt() as message):
                return self._intakes.receive(message, now)
            case Arrived(message=Bounce() as bounce):
                return [*self._pushes.receive(bounce, now), *self._intakes.receive(bounce, now)]
            case PushMoved(push_id=number):
                self._pushed[number].moved(effect)
            case PushSettled(push_id=number, error=error, body=body):
                self._pushed.pop(number).settled(error, body)
            case IntakeOpened(message=message):
                return self._offered(message, now)
            case IntakeArrived(key=key, items=items):
                self._taking[key].arrived(items)
            case IntakeComplete(key=key):
                self._taking[key].complete()
            case IntakeSettled(key=key, error=error):
                self._taking.pop(key).settled(error)
            case _:
                return self._link_effect(effect, now)
        return []

    # --- inside ---------------------------------------------------------------------------------

    def _offered(self, message: Open, now: float) -> list[Effect]:
        key = message.origin, message.id
        try:
            if self._opened is None:
                raise Refused(by=self._fqcn, reason="no-handler", text="this cell takes no streams")
            events = self._opened(message)
        except ZdlError as error:
            return self._intakes.finish(key, error)
        self._taking[key] = events
        return self._intakes.accept(key, events.idle_timeout_s, now)

    def _link_effect(self, effect: Effect, now: float) -> list[Effect]:
        effects: list[Effect] = []
        match effect:
            case PeerUp(link=link, fqcn=fqcn):
                self._dialled.pop(link, None)
                effects += self._take_ways(self._dialling.linked(fqcn), now)
            case DialFailed(link=link, error=error):
                effects += self._take_ways(self._dialling.failed(self._dialled.pop(link, ""), error), now)
            case PeerDown(fqcn=fqcn, is_parent=is_parent):
                for target in self._led_by(fqcn, is_parent):
                    effects += self._pushes.way_changed(target, now)
            case Unreachable():
                effects += [*self._pushes.receive(effect, now), *self._intakes.receive(effect, now)]
        return effects

    def _led_by(self, fqcn: str, is_parent: bool) -> set[str]:
        """The receivers of pushes whose items may have gone with a link that is gone now."""
        is_direct = self._loop.switch.routes.is_direct
        return {each for each in self._pushes.targets() - {self._fqcn} if each == fqcn or (not is_direct(each) and (
            not is_within(each, self._fqcn) if is_parent else is_within(each, fqcn)))}

    def _take_ways(self, steps: Iterable[Try | Chosen], now: float) -> list[Effect]:
        effects: list[Effect] = []
        for step in steps:
            if isinstance(step, Try):
                link, more = self._loop.switch.peers.dial(step.address, expected=step.origin, now=now)
                self._dialled[link] = step.origin
                effects += more
            else:
                self._waiting.pop(step.pull_id)()
        return effects
