"""Fetching: one pull: which of its chunks are to do, asked for, and here; and what it waits for.

What happens to it, and when, is `zdl.protocol.pulls`; the diagrams stand there. What it thinks of its origin is
`zdl.protocol.reach`, what it says to it `zdl.protocol.confirming`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from zdl.errors import OriginLost, Stalled
from zdl.options import Pace, PullOptions
from zdl.protocol.confirming import Confirming
from zdl.protocol.effects import Effect
from zdl.protocol.messages import Verify
from zdl.protocol.pacing import Pacer, priority_of
from zdl.protocol.reach import BOUNCED_S, Reach
from zdl.protocol.spread import Spread
from zdl.protocol.window import CHUNK_S, Window
from zdl.refs import Source


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
    is_kept: bool
    window: Window
    bytes_total: int
    to_do: deque[tuple[int, int, int]]  # offset and length of what no chunk was cut from yet, and where its range begins
    pacer: Pacer
    spread: Spread
    confirming: Confirming
    reach: Reach = field(default_factory=Reach)
    finishes: bool = False
    is_direct: bool = True
    state: State = State.WAITING
    asked: dict[int, Asked] = field(default_factory=dict)
    landed: dict[int, int] = field(default_factory=dict)
    bad: dict[int, int] = field(default_factory=dict)
    asked_again: set[int] = field(default_factory=set)
    bytes_done: int = 0
    progress_at: float = 0.0
    retry_at: float | None = None
    retries: int = 0
    missing: int = 0  # chunks, or their questions, that were lost where a queue was full
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

    def verdicts_at(self, options: PullOptions) -> tuple[float | None, float | None]:
        """When its origin counts as lost, and when its direct link is left; None: no time will do that."""
        if not self.is_wanting:
            return None, None
        return self.reach.lost_at(options), self.reach.detour_at(options, self.progress_at)

    def lost(self) -> OriginLost:
        """The error that says so."""
        return OriginLost(ref=self.source.label, origin=self.source.origin, bytes_done=self.bytes_done,
                          bytes_total=self.bytes_total, why=self.reach.no_way_why)

    def stalled(self, now: float) -> Stalled:
        """The error that says so."""
        return Stalled(ref=self.source.label, origin=self.source.origin, bytes_done=self.bytes_done,
                       bytes_total=self.bytes_total, waited_s=now - self.progress_at)

    def wants_tick(self, options: PullOptions) -> float:
        """When time changes something next."""
        if self.is_over:
            assert self.retry_at is not None
            return self.retry_at
        times = [self.confirming.said_at + options.keep_alive_s]
        if self.state is State.PULLING:  # to finish takes as long as the disk does
            times.append(self.progress_at + options.stall_timeout_s if self.may_stall else float("inf"))
            if self.retry_at is not None:
                times.append(self.retry_at)
            others = (*self.verdicts_at(options), self.paced_until)
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
        self.reach.lose_way(options, why, now)
        self.soon(now)

    def soon(self, now: float) -> None:
        """Something is asked for again before long."""
        self.retry_at = now + BOUNCED_S if self.retry_at is None else min(self.retry_at, now + BOUNCED_S)

    def say(self, me: str, now: float) -> list[Effect]:
        """Tell the origin how it ended, once more."""
        self.retry_at = now + self.confirming.pause_s
        return self.confirming.end(me)


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
    pull = Pull(number, source, False, window, sum(length for _, length in whole), to_do, pacer, spread,
                Confirming(number, source, whole, said_at=now))
    pull.bytes_done = sum(length for _, length in have)
    pull.progress_at = now
    return pull
