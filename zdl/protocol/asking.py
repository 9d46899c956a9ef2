"""Asking: which chunks of a pull are asked for next: as many as its window has room for, when it is their turn.

The pulls of one cell share its limit, and yield to each other by priority (`zdl.protocol.pacing`). Where they have a limit
together they take turns; otherwise each asks as soon as something of it has come.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import MappingProxyType

from zdl.options import PullOptions
from zdl.protocol.effects import Effect, Post, Send
from zdl.protocol.fetching import Asked, Pull
from zdl.protocol.messages import Ask, Verify
from zdl.protocol.pacing import YIELD_S, Limit, Pacer, Ranks

_VERIFY = MappingProxyType({"none": Verify.NONE, "blake3": Verify.BLAKE3, "xxh3": Verify.XXH3})


class Asking:
    """What the pulls of one cell ask for.

    Attributes:
        sides: the side links that are up, by origin.

    Args:
        me: our FQCN.
        options: limits.
    """

    def __init__(self, me: str, options: PullOptions) -> None:
        self._me = me
        self._options = options
        self._limit = Limit(options.bwlimit_bytes_per_s)
        self._ranks = Ranks()
        self.sides: dict[str, list[int]] = {}

    def in_turn(self, pulls: Iterable[Pull]) -> Sequence[Pull]:
        """All of them; where they have a limit together, the best priority first, and then who has waited longest."""
        if not self._limit.is_set:
            return list(pulls)
        return sorted(pulls, key=lambda pull: (pull.pacer.priority, pull.pacer.asked_at))

    def lose_side(self, origin: str, link: int) -> None:
        """A side link is gone."""
        left = [each for each in self.sides.pop(origin, []) if each != link]
        if left:
            self.sides[origin] = left

    def fill(self, pull: Pull, now: float, *, is_early: bool = True) -> list[Effect]:
        """Asks for as much as the window has room for, and may be asked for now; unless it `is_early`, only when that is several
        chunks: while others are on their way, nobody waits for these."""
        effects: list[Effect] = []
        source, window, to_do = pull.source, pull.window, pull.to_do
        held = sum(pull.landed.values()) if pull.landed else 0
        if not is_early and not window.has_room_for_several(held):
            return effects
        verify = _verify(pull, self._options)
        pull.paced_until = None
        sides = self.sides.get(source.origin, ())[:pull.spread.count - 1] if self.sides and pull.is_direct else ()
        while to_do:
            offset, left, start = to_do[0]
            length = window.cut(left, since=offset - start)
            if not window.has_room(length + held):
                break
            free_at = self._free_at(pull.pacer, now)
            if free_at > now:
                pull.paced_until = free_at
                break
            if length == left:
                to_do.popleft()
            else:
                to_do[0] = offset + length, left - length, start
            side = _emptiest(pull, sides) if sides else 0
            pull.asked[offset] = Asked(length, now, window.asked(length), verify, side)
            self._count(pull.pacer, length, now)
            ask = Ask(self._me, source.origin, pull.id, source.offer_id, source.secret, offset, length, verify, 0,
                      pull.pacer.priority)
            effects.append(Send(side, ask) if side else Post(ask))
        if effects:
            pull.confirming.said_at, pull.confirming.has_asked = now, True
            pull.plan_retry(self._options, now)
        return effects

    def _free_at(self, pacer: Pacer, now: float) -> float:
        """When this pull may ask for its next chunk; not after `now`: now."""
        at = max(self._limit.free_at, pacer.limit.free_at)
        return max(at, pacer.asked_at + YIELD_S) if self._ranks.yields(pacer.priority, now) else at

    def _count(self, pacer: Pacer, length: int, now: float) -> None:
        pacer.asked_at = now
        self._ranks.asked(pacer.priority, now)
        self._limit.take(length, now)
        pacer.limit.take(length, now)


def _verify(pull: Pull, options: PullOptions) -> Verify:
    """With which digest chunks are asked for now."""
    if options.verify == "auto":
        return Verify.XXH3 if pull.is_direct and not pull.is_kept else Verify.BLAKE3
    return _VERIFY[options.verify]


def _emptiest(pull: Pull, sides: Sequence[int]) -> int:
    """The link over which least has been asked for and not come; 0: the one that leads there."""
    waiting = dict.fromkeys((0, *sides), 0)
    for each in pull.asked.values():
        if each.side in waiting:
            waiting[each.side] += each.length
    return min(waiting, key=lambda link: waiting[link])


def doubted(pull: Pull, side: int) -> bool:
    """What a pull has asked for over a side link is to do again. Returns whether that is anything."""
    lost = sorted((offset for offset, each in pull.asked.items() if each.side == side), reverse=True)
    for offset in lost:
        pull.doubt(offset)
    return bool(lost)
