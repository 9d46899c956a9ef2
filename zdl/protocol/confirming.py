"""Confirming: what a pull says to its origin beside its questions: that it is still at it, and how it ended.

::

    ASK … ASK ──nothing said for keep_alive_s──▶ KEEP          the lease goes on
        │
        ├── all is stored ──▶ CONFIRM ──0.5, 1, 2, 4, 8 s──▶ CONFIRM again, until CONFIRMED, or no more
        └── it was given up ─▶ DROP ───0.5, 1, 2 s─────────▶ DROP again, until CONFIRMED, or no more

When that is, is decided in `zdl.protocol.pulls`.
"""

from __future__ import annotations

from dataclasses import dataclass

from zdl.options import PullOptions
from zdl.protocol.effects import Effect, Post
from zdl.protocol.frames import RANGES_MAX
from zdl.protocol.messages import Confirm, Drop, Keep
from zdl.protocol.ranges import union
from zdl.refs import Source

# Pauses between repeated CONFIRMs; an origin that never answers is given up after the last.
CONFIRM_AGAIN_S = (0.5, 1.0, 2.0, 4.0, 8.0)
# Pauses between repeated DROPs: what an origin misses of these it learns from silence.
DROP_AGAIN_S = (0.5, 1.0, 2.0)


@dataclass(slots=True)
class Confirming:
    """What one pull has said to its origin, and says next.

    Attributes:
        id: the pull's.
        source: what is pulled.
        ranges: what is confirmed when all of it is stored.
        said_at: when anything was said last.
        has_asked: whether the origin has heard of this pull: it believes only such as have spoken.
        why_dropped: why the rest is not wanted; None: it was not given up.
        rounds: how often its end was said.
        unnoted: CONFIRMs of the last round that are not answered: many ranges take several.
    """

    id: int
    source: Source
    ranges: tuple[tuple[int, int], ...]
    said_at: float = 0.0
    has_asked: bool = False
    why_dropped: str | None = None
    rounds: int = 0
    unnoted: int = 0

    @property
    def is_said(self) -> bool:
        """Whether its end was said so often that it is not said again."""
        return self.rounds > len(self._pauses)

    @property
    def pause_s(self) -> float:
        """How long its end is not said again."""
        return self._pauses[min(self.rounds, len(self._pauses) - 1)]

    @property
    def _pauses(self) -> tuple[float, ...]:
        return CONFIRM_AGAIN_S if self.why_dropped is None else DROP_AGAIN_S

    def begin(self, me: str, now: float) -> list[Effect]:
        """Speak for the first time, unless it has: how it ends is believed only of who has spoken before."""
        if self.has_asked:
            return []
        self.said_at, self.has_asked = now, True
        return [self._keep(me)]

    def keep_alive(self, me: str, options: PullOptions, now: float) -> list[Effect]:
        """What keeps the lease, when nothing has been said for so long."""
        if now < self.said_at + options.keep_alive_s:
            return []
        self.said_at = now
        return [self._keep(me)]

    def end(self, me: str) -> list[Effect]:
        """How it ended, once more: we have all of it, or do not want the rest."""
        self.rounds += 1
        source = self.source
        if self.why_dropped is not None:
            return [Post(Drop(me, source.origin, self.id, source.offer_id, source.secret, self.why_dropped))]
        joined = union(self.ranges)
        whole = [joined[at:at + RANGES_MAX] for at in range(0, len(joined), RANGES_MAX)] or [()]
        self.unnoted = len(whole)
        # All of it may have been here already; the first of these words may be lost as well as the second.
        spoken = [] if self.has_asked else [self._keep(me)]
        return [*spoken, *(Post(Confirm(me, source.origin, self.id, source.offer_id, source.secret, ranges))
                           for ranges in whole)]

    def _keep(self, me: str) -> Effect:
        return Post(Keep(me, self.source.origin, self.id, self.source.offer_id, self.source.secret))
