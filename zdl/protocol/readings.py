"""Readings: what has been asked for and is being read: no question twice at once, no receiver more than its share.

What is read of an offer is also what its end waits for: an object is not released under a production that uses it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from zdl.protocol.messages import Ask

_Key = tuple[str, int, int]


class Turn(Enum):
    """What becomes of a question."""

    NOW = "now"
    LATER = "later"
    TWICE = "twice"
    FULL = "full"


@dataclass(slots=True)
class _Share:
    """What one receiver has asked for and has not got."""

    bytes_read: int = 0
    bytes_waiting: int = 0
    waiting: deque[Ask] = field(default_factory=deque)


class Readings:
    """The questions that one cell is answering.

    Args:
        bytes_max: of one receiver, being read at one time; as many again wait for their turn.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._by_offer: dict[bytes, dict[_Key, int]] = {}
        self._shares: dict[str, _Share] = {}

    def take(self, ask: Ask) -> Turn:
        """A question has come."""
        asked = self._by_offer.get(ask.offer_id)
        key = (ask.origin, ask.id, ask.offset)
        if asked is not None and key in asked:
            return Turn.TWICE
        share = self._shares.get(ask.origin)
        if share is None:
            share = self._shares[ask.origin] = _Share()
        if not share.waiting and (share.bytes_read == 0 or share.bytes_read + ask.length <= self._bytes_max):
            self._begin(share, ask)
            return Turn.NOW
        if any((each.id, each.offer_id, each.offset) == (ask.id, ask.offer_id, ask.offset) for each in share.waiting):
            return Turn.TWICE
        if share.bytes_waiting + ask.length > self._bytes_max:
            return Turn.FULL
        share.waiting.append(ask)
        share.bytes_waiting += ask.length
        return Turn.LATER

    def done(self, ask: Ask) -> list[Ask]:
        """It has been read, or could not be. Returns those whose turn it is now."""
        asked = self._by_offer.get(ask.offer_id, {})
        length = asked.pop((ask.origin, ask.id, ask.offset), None)
        share = self._shares.get(ask.origin)
        if length is None or share is None:
            return []
        if not asked:
            del self._by_offer[ask.offer_id]
        share.bytes_read -= length
        turns = []
        while share.waiting and (share.bytes_read == 0 or share.bytes_read + share.waiting[0].length <= self._bytes_max):
            following = share.waiting.popleft()
            share.bytes_waiting -= following.length
            self._begin(share, following)
            turns.append(following)
        if not share.bytes_read:
            del self._shares[ask.origin]
        return turns

    def is_read(self, offer_id: bytes) -> bool:
        """Whether something of an offer is being read."""
        return offer_id in self._by_offer

    def drop(self, offer_id: bytes) -> None:
        """An offer has ended: what waits for its turn is not read any more."""
        for share in self._shares.values():
            if any(each.offer_id == offer_id for each in share.waiting):
                share.waiting = deque(each for each in share.waiting if each.offer_id != offer_id)
                share.bytes_waiting = sum(each.length for each in share.waiting)

    def check(self) -> None:
        """All invariants; for simulation."""
        read = {origin: 0 for origin in self._shares}
        for asked in self._by_offer.values():
            assert asked, "an offer of which nothing is read"
            for (origin, _, _), length in asked.items():
                read[origin] += length
        assert all(share.bytes_read == read[origin] > 0 for origin, share in self._shares.items())
        assert all(share.bytes_waiting <= self._bytes_max for share in self._shares.values())

    def _begin(self, share: _Share, ask: Ask) -> None:
        self._by_offer.setdefault(ask.offer_id, {})[ask.origin, ask.id, ask.offset] = ask.length
        share.bytes_read += ask.length
