"""Desks: the two desks of the data lane as one: pulls and what is lent, and streams.

Messages go to the one whose kinds they are of; news about links and cells go to both.
"""

from __future__ import annotations

from collections.abc import Iterable

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
from zdl.protocol.messages import Bounce, Kind
from zdl.transport.lane import Lane
from zdl.transport.links import Incoming
from zdl.transport.streams import StreamDesk

_STREAMS_FROM = int(Kind.OPEN)
_OF_STREAMS = frozenset({PushMoved, PushSettled, IntakeOpened, IntakeArrived, IntakeComplete, IntakeSettled})
_OF_BOTH = frozenset({PeerUp, PeerDown, DialFailed, Unreachable})


class DataDesk:
    """See `zdl.transport.shell.Desk`.

    Threads: one at a time, whoever holds the loop's lock.

    Args:
        lane: pulls and what is lent.
        streams: streams.
    """

    def __init__(self, lane: Lane, streams: StreamDesk) -> None:
        self._lane = lane
        self._streams = streams
        self.takes = lane.takes
        self._look = lane.perform

    def incoming(self, message: Incoming | None) -> None:
        """Only chunks are received into place."""
        self._lane.incoming(message)

    def tick(self, now: float) -> Iterable[Effect]:
        """Time passed."""
        return [*self._lane.tick(now), *self._streams.tick(now)]

    def deadline(self) -> float | None:
        """When `tick` is wanted next."""
        one, other = self._lane.deadline(), self._streams.deadline()
        return other if one is None else one if other is None else min(one, other)

    def is_pipelined(self) -> bool:
        """Whoever says something on this lane says all of it at once."""
        return False

    def perform(self, effect: Effect, now: float) -> Iterable[Effect]:
        """The effects that are not about links."""
        kind = type(effect)
        if isinstance(effect, Arrived):
            message = effect.message
            number = message.of_kind if isinstance(message, Bounce) else message.kind
            return self._streams.perform(effect, now) if number >= _STREAMS_FROM else self._look(effect, now)
        if kind in _OF_STREAMS:
            return self._streams.perform(effect, now)
        if kind in _OF_BOTH:
            return [*self._look(effect, now), *self._streams.perform(effect, now)]
        return self._look(effect, now)
