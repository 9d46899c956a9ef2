"""Pulling: one pull: what it has, what it waits for, what it thinks of its origin, and what it says to it.

What happens to it, and when, is `zdl.protocol.pulls`; the diagrams stand there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

from zdl.errors import OriginLost, Stalled
from zdl.options import Pace, PullOptions
from zdl.protocol.effects import Effect, Post
from zdl.protocol.frames import RANGES_MAX
from zdl.protocol.messages import Confirm, Drop, Keep, Verify
from zdl.protocol.pacing import Pacer, priority_of
from zdl.protocol.ranges import union
from zdl.protocol.spread import Spread
from zdl.protocol.window import CHUNK_S, Window
from zdl.refs import Source

# Pauses between repeated CONFIRMs; an origin that never answers is given up after the last.
CONFIRM_AGAIN_S = (0.5, 1.0, 2.0, 4.0, 8.0)
# Pauses between repeated DROPs: what an origin misses of these it learns from silence.
DROP_AGAIN_S = (0.5, 1.0, 2.0)
# An origin whose direct link is broken and that the tree has lost too is dead, if it is not back by now: one that lives
# dials its parent again after 0.05 to 0.1 s, and then after pauses that double; this outlasts the first five.
DEATH_S = 2.0
# The tree must have said so of a question that is no older: silence may be that of a relay on the way.
BOUNCES_S = 1.0
# How long nothing may come over a direct link while the tree says that its origin is gone; at most half of lost_timeout_s.
SUSPECT_S = 2.0
# Pause before a chunk that bounced is asked for again: time for a relay to come back.
BOUNCED_S = 0.25

_VERIFY = MappingProxyType({"none": Verify.NONE, "blake3": Verify.BLAKE3, "xxh3": Verify.XXH3})


class State(Enum):
    """Where a pull stands."""

    WAITING = "waiting"
    PULLING = "pulling"
    FINISHING = "finishing"
    CONFIRMING = "confirming"
    DROPPING = "dropping"


@dataclass(slots=True)
class Asked:
    """A chunk that is on its way, or was."""

    length: int
    asked_at: float
    mark: int
    verify: Verify
    side: int = 0  # the side link it was asked over; 0: the way that leads there


@dataclass(slots=True)
class Pull:
    """One pull."""

    id: int
    source: Source
    ranges: tuple[tuple[int, int], ...]
    is_kept: bool
    window: Window
    bytes_total: int
    to_do: deque[tuple[int, int, int]]  # offset and length of what no chunk was cut from yet, and where its range begins
    pacer: Pacer
    spread: Spread
    finishes: bool = False
    has_asked: bool = False
    is_direct: bool = True
    state: State = State.WAITING
    asked: dict[int, Asked] = field(default_factory=dict)
    landed: dict[int, int] = field(default_factory=dict)
    bad: dict[int, int] = field(default_factory=dict)
    asked_again: set[int] = field(default_factory=set)
    bytes_done: int = 0
    progress_at: float = 0.0
    said_at: float = 0.0
    retry_at: float | None = None
    retries: int = 0
    no_way_since: float | None = None
    no_way_at: float = 0.0
    no_way_why: str = ""
    confirms: int = 0
    unnoted: int = 0  # CONFIRMs of the last round that are not answered: many ranges take several
    missing: int = 0
    suspect_at: float | None = None
    bounced_at: float = float("-inf")
    bouncing_since: float = float("inf")
    is_broken: bool = False
    is_told_lost: bool = False
    why_dropped: str = ""
    paced_until: float | None = None  # when it may ask again, if that is not yet

    @property
    def is_over(self) -> bool:
        """Whether its user knows how it ended, and only the origin has to note it."""
        return self.state in (State.CONFIRMING, State.DROPPING)

    @property
    def is_wanting(self) -> bool:
        """Whether a way is needed; else all is here, and being stored."""
        return bool(self.asked or self.to_do)

    @property
    def may_stall(self) -> bool:
        """Whether it waits for its origin: not for a disk, and not for its turn."""
        return not self.landed and (bool(self.asked) or self.paced_until is None)

    def verify(self, options: PullOptions) -> Verify:
        """With which digest chunks are asked for now."""
        if options.verify == "auto":
            return Verify.XXH3 if self.is_direct and not self.is_kept else Verify.BLAKE3
        return _VERIFY[options.verify]

    def doubt(self, offset: int) -> None:
        """A chunk that was asked for is no longer expected, and is to do again."""
        asked = self.asked.pop(offset)
        self.window.given_up(asked.length)
        self.asked_again.add(offset)
        self.to_do.appendleft((offset, asked.length, offset))

    def doubt_all(self) -> None:
        """All that was asked for is to do again, first things first."""
        for offset in sorted(self.asked, reverse=True):
            self.doubt(offset)

    def plan_retry(self, options: PullOptions, now: float) -> None:
        """Silence begins: when something is asked for again."""
        pause = BOUNCED_S if self.missing else options.retry_s * 2.0 ** min(self.retries, 10)
        self.retry_at = now + pause if self.is_wanting else None

    def lost_at(self, options: PullOptions) -> float | None:
        """When the origin counts as lost, unless a way to it is found before."""
        if self.no_way_since is None or not self.is_wanting:
            return None
        dead_at = self.bouncing_since + min(DEATH_S, options.lost_timeout_s)
        return dead_at if self.is_dead and self.bounced_at >= dead_at - BOUNCES_S else self.no_way_since + options.lost_timeout_s

    def bounced(self, now: float) -> None:
        """A question has come back. Only such as come back one after the other, without a pause, say that there is no origin."""
        if now > self.bounced_at + BOUNCES_S:
            self.bouncing_since = now
        self.bounced_at = now

    @property
    def is_dead(self) -> bool:
        """Whether its direct link has broken, and the tree has lost it, and says so when it is asked."""
        return self.is_broken and self.is_told_lost

    def detour_at(self, options: PullOptions) -> float | None:
        """When the direct link is left, unless something comes over it before."""
        if self.suspect_at is None or not self.is_wanting:
            return None
        return max(self.suspect_at, self.progress_at) + min(SUSPECT_S, options.lost_timeout_s / 2)

    def has_news(self) -> None:
        """The origin is heard: whatever was thought of it, it lives."""
        self.no_way_since = self.suspect_at = None
        self.is_broken = self.is_told_lost = False

    def confirmation(self, me: str) -> list[Effect]:
        """What tells the origin that we have all of it."""
        source, joined = self.source, union(self.ranges)
        whole = [joined[at:at + RANGES_MAX] for at in range(0, len(joined), RANGES_MAX)] or [()]
        self.unnoted = len(whole)
        # An origin believes only a pull that has spoken before: all of it may have been here already.
        spoken = [] if self.has_asked else [self._keep(me)]
        return [*spoken, *(Post(Confirm(me, source.origin, self.id, source.offer_id, source.secret, ranges))
                           for ranges in whole)]

    def drop(self, me: str) -> list[Effect]:
        """What tells the origin that we do not want the rest."""
        source = self.source
        return [Post(Drop(me, source.origin, self.id, source.offer_id, source.secret, self.why_dropped))]

    def lost(self) -> OriginLost:
        """The error that says so."""
        return OriginLost(ref=self.source.label, origin=self.source.origin, bytes_done=self.bytes_done,
                          bytes_total=self.bytes_total, why=self.no_way_why)

    def stalled(self, now: float) -> Stalled:
        """The error that says so."""
        return Stalled(ref=self.source.label, origin=self.source.origin, bytes_done=self.bytes_done,
                       bytes_total=self.bytes_total, waited_s=now - self.progress_at)

    def has_way_again(self, options: PullOptions, now: float) -> bool:
        """Where there is no way, every question comes back: none came back for long, so the origin is only slow."""
        return now >= self.no_way_at + max(options.lost_timeout_s / 2, 2 * BOUNCED_S)

    def keep_alive(self, me: str, options: PullOptions, now: float) -> list[Effect]:
        """What keeps the lease, when nothing has been said for so long."""
        if now < self.said_at + options.keep_alive_s:
            return []
        self.said_at = now
        return [self._keep(me)]

    def _keep(self, me: str) -> Effect:
        return Post(Keep(me, self.source.origin, self.id, self.source.offer_id, self.source.secret))

    def wants_tick(self, options: PullOptions) -> float:
        """When time changes something next."""
        if self.is_over:
            assert self.retry_at is not None
            return self.retry_at
        times = [self.said_at + options.keep_alive_s]
        if self.state is State.PULLING:  # to finish takes as long as the disk does
            times.append(self.progress_at + options.stall_timeout_s if self.may_stall else float("inf"))
            if self.retry_at is not None:
                times.append(self.retry_at)
            others = (self.lost_at(options), self.detour_at(options), self.paced_until)
            times += [each for each in others if each is not None]
        return min(times)

    def check(self) -> None:
        """All invariants; for simulation."""
        if self.state is State.DROPPING:
            return
        self.window.check()
        to_do = [(at, length) for at, length, _ in self.to_do]
        parts = [*to_do, *((at, each.length) for at, each in self.asked.items()), *self.landed.items()]
        assert len({at for at, _ in parts}) == len(parts), "a chunk in two places"
        assert sum(length for _, length in parts) + self.bytes_done == self.bytes_total, "a chunk is missing"
        assert sum(each.length for each in self.asked.values()) == self.window.in_flight

    def no_way(self, options: PullOptions, why: str, now: float) -> None:
        """What was asked came back, or cannot come: it is to do again, soon."""
        if self.is_over:  # it is said again in time; hurry would only use up the repetitions
            return
        self.doubt_all()
        if self.no_way_since is None or self.has_way_again(options, now):
            self.no_way_since = now
        self.no_way_at, self.no_way_why = now, why
        self.soon(now)

    def soon(self, now: float) -> None:
        """Something is asked for again before long."""
        self.retry_at = now + BOUNCED_S if self.retry_at is None else min(self.retry_at, now + BOUNCED_S)

    def say(self, me: str, now: float) -> list[Effect]:
        """Tell the origin how it ended, once more."""
        is_dropping = self.state is State.DROPPING
        pauses = DROP_AGAIN_S if is_dropping else CONFIRM_AGAIN_S
        self.retry_at = now + pauses[min(self.confirms, len(pauses) - 1)]
        self.confirms += 1
        return self.drop(me) if is_dropping else self.confirmation(me)

    @property
    def is_said(self) -> bool:
        """Whether it was said so often that it is not said again."""
        return self.confirms > len(DROP_AGAIN_S if self.state is State.DROPPING else CONFIRM_AGAIN_S)


def new_pull(number: int, source: Source, ranges: Sequence[tuple[int, int]], have: Sequence[tuple[int, int]], *,
             options: PullOptions, pace: Pace, now: float) -> Pull:
    """A pull that has not asked for anything; see `Pulls.start`."""
    pacer = Pacer(priority_of(pace.priority or options.priority), pace.bwlimit_bytes_per_s)
    # In chunks that are short for its limit, too: else it would take the whole path for the length of each.
    fitting = int(min(options.chunk_bytes, CHUNK_S * min(pace.bwlimit_bytes_per_s, options.bwlimit_bytes_per_s)))
    window = Window(bytes_min=options.window_bytes_min, bytes_max=options.window_bytes_max, chunk_bytes_min=options.chunk_bytes_min,
                    chunk_bytes_max=max(fitting, min(options.chunk_bytes_min, options.chunk_bytes)))
    whole = (*ranges, *have)
    to_do = deque((offset, length, offset) for offset, length in ranges if length)
    spread = Spread(None if options.lanes == "auto" else int(options.lanes))
    pull = Pull(number, source, whole, False, window, sum(length for _, length in whole), to_do, pacer, spread)
    pull.bytes_done = sum(length for _, length in have)
    pull.progress_at = pull.said_at = now
    return pull
