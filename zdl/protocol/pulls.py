"""Pulls: what this cell fetches from origins.

A pull is a list of byte ranges of one offer, asked for in chunks under a window::

    start ──▶ WAITING ──go(): the way is open, or routed──▶ PULLING ──the last chunk is stored──▶ CONFIRMING
                 │                                            │ │                                    ▲  PullSettled(None):
                 │                                            │ └─Finish─▶ FINISHING ──finished()────┘  the user has it
                 │                                            │  what must be made to last first    │
                 │                                            │                │                    └─CONFIRMED, denied
                 └──────────┬─────────────────────────────────┴────────────────┘                      or given up─▶ forgotten
                            ├── DENIAL, WITHDRAWN ──▶ settled: the error says which
                            ├── no way for lost_timeout_s ──▶ settled: OriginLost
                            ├── no byte for stall_timeout_s ──▶ settled: Stalled
                            ├── bad_chunks_max wrong digests of one chunk ──▶ settled: IntegrityError
                            └── cancel() ──▶ settled: Cancelled

and each chunk in it::

    to do ──ASK──▶ asked ──CHUNK, intact──▶ landed ──stored()──▶ done
      ▲              │
      └── wrong digest, bounced, the way changed, silence ──┘

What a former pull has left, and who begins this one has found intact, is told to `start`: it is confirmed with the
rest, and not asked for.

Asking twice is harmless, so every doubt is settled by asking again. Links keep order and lose nothing
while they stand, so silence alone asks again for one chunk only, and rarely: on a slow line one chunk may
take long, and a second copy of it would take as long again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

from zdl.errors import Busy, Cancelled, IntegrityError, LeaseEnded, LocalProtocolError, OriginLost, Stalled, ZdlError, from_wire
from zdl.options import PullOptions
from zdl.protocol.effects import Effect, Finish, Post, Progressed, PullForgotten, PullSettled, Unreachable
from zdl.protocol.frames import RANGES_MAX
from zdl.protocol.messages import Ask, Bounce, Chunk, Confirm, Confirmed, Denial, Drop, Keep, Kind, Verify, Withdrawn
from zdl.protocol.ranges import union
from zdl.protocol.switch import concerns
from zdl.protocol.window import Window
from zdl.refs import Source

# Pauses between repeated CONFIRMs; an origin that never answers is given up after the last.
CONFIRM_AGAIN_S = (0.5, 1.0, 2.0, 4.0, 8.0)
# Pause before a chunk that bounced is asked for again: time for a relay to come back.
BOUNCED_S = 0.25

_VERIFY = MappingProxyType({"none": Verify.NONE, "blake3": Verify.BLAKE3, "xxh3": Verify.XXH3})


class State(Enum):
    """Where a pull stands."""

    WAITING = "waiting"
    PULLING = "pulling"
    FINISHING = "finishing"
    CONFIRMING = "confirming"


@dataclass(slots=True)
class Asked:
    """A chunk that is on its way, or was."""

    length: int
    asked_at: float
    mark: int
    verify: Verify


@dataclass(slots=True)
class Pull:
    """One pull."""

    id: int
    source: Source
    ranges: tuple[tuple[int, int], ...]
    is_kept: bool
    window: Window
    bytes_total: int
    to_do: deque[tuple[int, int]]
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

    @property
    def is_wanting(self) -> bool:
        """Whether a way is needed; else all is here, and being stored."""
        return bool(self.asked or self.to_do)

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
        self.to_do.appendleft((offset, asked.length))

    def doubt_all(self) -> None:
        """All that was asked for is to do again, first things first."""
        for offset in sorted(self.asked, reverse=True):
            self.doubt(offset)

    def plan_retry(self, options: PullOptions, now: float) -> None:
        """Silence begins: when something is asked for again."""
        pause = options.retry_s * 2.0 ** min(self.retries, 10)
        self.retry_at = now + pause if self.is_wanting else None

    def has_way_again(self, options: PullOptions, now: float) -> bool:
        """Where there is no way, every question comes back: none came back for long, so the origin is only slow."""
        return now >= self.no_way_at + max(options.lost_timeout_s / 2, 2 * BOUNCED_S)

    def keep_alive(self, me: str, options: PullOptions, now: float) -> list[Effect]:
        """What keeps the lease, when nothing has been said for so long."""
        if now < self.said_at + options.keep_alive_s:
            return []
        self.said_at = now
        return [Post(Keep(me, self.source.origin, self.id, self.source.offer_id, self.source.secret))]

    def wants_tick(self, options: PullOptions) -> float:
        """When time changes something next."""
        if self.state is State.CONFIRMING:
            assert self.retry_at is not None
            return self.retry_at
        times = [self.said_at + options.keep_alive_s]
        if self.state is State.PULLING:  # to finish takes as long as the disk does
            times.append(self.progress_at + options.stall_timeout_s if not self.landed else float("inf"))
            if self.retry_at is not None:
                times.append(self.retry_at)
            if self.no_way_since is not None and self.is_wanting:
                times.append(self.no_way_since + options.lost_timeout_s)
        return min(times)

    def check(self) -> None:
        """All invariants; for simulation."""
        self.window.check()
        parts = [*self.to_do, *((at, each.length) for at, each in self.asked.items()), *self.landed.items()]
        assert len({at for at, _ in parts}) == len(parts), "a chunk in two places"
        assert sum(length for _, length in parts) + self.bytes_done == self.bytes_total, "a chunk is missing"
        assert sum(each.length for each in self.asked.values()) == self.window.in_flight


class Pulls:
    """The pulls of one cell.

    Args:
        me: our FQCN.
        first_id: where ids begin: a random number of 62 bits.
        options: sizes, times and limits.
    """

    def __init__(self, me: str, first_id: int, options: PullOptions) -> None:
        self._me = me
        self._next_id = first_id
        self._options = options
        self._pulls: dict[int, Pull] = {}

    def __len__(self) -> int:
        return len(self._pulls)

    @property
    def confirming(self) -> int:
        """How many have all their bytes, and wait for the origin to note it."""
        return sum(pull.state is State.CONFIRMING for pull in self._pulls.values())

    def window_of(self, number: int) -> Window | None:
        """The window of a pull, for reports."""
        pull = self._pulls.get(number)
        return None if pull is None else pull.window

    # --- commands -------------------------------------------------------------------------------

    def start(self, source: Source, ranges: Sequence[tuple[int, int]], now: float, *, have: Sequence[tuple[int, int]] = (),
              finishes: bool = False, is_kept: bool = False) -> tuple[int, list[Effect]]:
        """Begin a pull of these ranges; no chunk crosses the end of a range. It waits for `go`.

        Args:
            source: the offer.
            ranges: what is asked for.
            now: the time.
            have: ranges that are here already, intact; the origin is told that we have them too.
            is_kept: what comes outlives the process, in a file: see ``verify`` of the options.
            finishes: when all is stored there is something left to do, before the origin is told: `Finish`, `finished`.

        Raises:
            Busy: ``pulls_max`` are under way.
            LocalProtocolError: the ranges overlap so that two chunks would begin at the same byte.
        """
        options = self._options
        if len(self._pulls) >= options.pulls_max:
            raise Busy(limit="pulls_max", value=options.pulls_max, at=self._me)
        to_do: deque[tuple[int, int]] = deque()
        for offset, length in ranges:
            for at in range(offset, offset + length, options.chunk_bytes):
                to_do.append((at, min(options.chunk_bytes, offset + length - at)))
        if len({at for at, _ in to_do}) != len(to_do):
            raise LocalProtocolError(what="the ranges of a pull overlap: two chunks begin at the same byte")
        number = self._next_id
        self._next_id += 1
        window = Window(bytes_min=options.window_bytes_min, bytes_max=options.window_bytes_max)
        whole = (*ranges, *have)
        pull = Pull(number, source, whole, is_kept, window, sum(length for _, length in whole), to_do, finishes)
        pull.bytes_done = sum(length for _, length in have)
        pull.progress_at = pull.said_at = now
        self._pulls[number] = pull
        return number, []

    def go(self, number: int, now: float, *, is_direct: bool = True) -> list[Effect]:
        """The way is chosen: ask."""
        pull = self._pulls.get(number)
        if pull is None or pull.state is not State.WAITING:
            return []
        pull.state, pull.progress_at, pull.is_direct = State.PULLING, now, is_direct
        if not pull.to_do:
            return self._whole(pull, now)
        return self._fill(pull, now)

    def stored(self, number: int, offset: int, now: float) -> list[Effect]:
        """A chunk that `landed` said is intact has been put where it belongs."""
        pull = self._pulls.get(number)
        length = None if pull is None else pull.landed.pop(offset, None)
        if pull is None or length is None:
            return []
        pull.bytes_done += length
        pull.progress_at = now
        effects: list[Effect] = [Progressed(number, pull.bytes_done, pull.bytes_total)]
        if pull.bytes_done == pull.bytes_total:
            return effects + self._whole(pull, now)
        return effects + self._fill(pull, now)

    def finished(self, number: int, now: float) -> list[Effect]:
        """What `Finish` asked for is done."""
        pull = self._pulls.get(number)
        return [] if pull is None or pull.state is not State.FINISHING else self._complete(pull, now)

    def cancel(self, number: int, error: ZdlError, now: float) -> list[Effect]:
        """End a pull with `error`; the origin is told."""
        pull = self._pulls.get(number)
        if pull is None or pull.state is State.CONFIRMING:
            return []
        return self._fail(pull, error, tell=True)

    def cancelled(self, number: int, why: str, now: float) -> list[Effect]:
        """The user does not want it any more; too late when all of it is here."""
        pull = self._pulls.get(number)
        if pull is None or pull.state is State.FINISHING:
            return []
        what = f"the pull of {pull.source.label} from {pull.source.origin}"
        return self.cancel(number, Cancelled(what=what, why=why), now)

    def way_changed(self, origin: str, now: float, *, is_direct: bool = False) -> list[Effect]:
        """The link that led to `origin` is gone: what was asked is asked again, over another direct one or what there is."""
        effects: list[Effect] = []
        for pull in list(self._pulls.values()):
            if pull.source.origin == origin and pull.state is State.PULLING:
                pull.doubt_all()
                pull.is_direct = is_direct
                effects += self._fill(pull, now)
        return effects

    # --- the world ------------------------------------------------------------------------------

    def expects(self, chunk: Chunk) -> bool:
        """Whether these bytes are wanted now; only then may they be put into place."""
        pull = self._pulls.get(chunk.id)
        if pull is None or pull.source.origin != chunk.origin:
            return False
        asked = pull.asked.get(chunk.offset)
        return asked is not None and asked.length == chunk.length and asked.verify == chunk.verify

    def landed(self, chunk: Chunk, is_intact: bool, now: float) -> list[Effect]:
        """The bytes of a chunk that was expected are here; the shell has compared the digest."""
        pull = self._pulls.get(chunk.id)
        if pull is None or not self.expects(chunk):
            return []
        asked = pull.asked.pop(chunk.offset)
        # Nobody knows which question this chunk answers if it was asked for twice: that is no round trip.
        is_sample = chunk.offset not in pull.asked_again
        pull.window.landed(asked.length, mark=asked.mark, took_s=now - asked.asked_at if is_sample else 0.0)
        pull.no_way_since = None
        if not is_intact:
            count = pull.bad[chunk.offset] = pull.bad.get(chunk.offset, 0) + 1
            if count >= self._options.bad_chunks_max:
                return self._fail(pull, IntegrityError(ref=pull.source.label, origin=pull.source.origin,
                                                       offset=chunk.offset, attempts=count), tell=True)
            pull.to_do.appendleft((chunk.offset, asked.length))
            return self._fill(pull, now)
        pull.landed[chunk.offset] = asked.length
        pull.progress_at, pull.retries = now, 0
        pull.plan_retry(self._options, now)
        return []

    def receive(self, message: Denial | Withdrawn | Confirmed | Bounce | Unreachable, now: float) -> list[Effect]:
        """What an origin, or a cell on the way to it, has to say."""
        match message:
            case Unreachable():
                for pull in self._pulls.values():
                    if pull.source.origin != self._me and concerns(message, pull.source.origin):
                        self._no_way(pull, message.why, now)
                return []
            case Withdrawn():
                ended = [pull for pull in self._pulls.values() if pull.source.offer_id == message.offer_id
                         and pull.source.origin == message.origin and pull.id == message.id]
                return [effect for pull in ended for effect in self._refused(pull, LeaseEnded(
                    ref=pull.source.label, origin=pull.source.origin, how=message.how))]
        known = self._pulls.get(message.id)
        if known is None:
            return []
        match message:
            case Bounce():
                if message.of_kind in (Kind.ASK, Kind.KEEP, Kind.CONFIRM):
                    self._no_way(known, str(from_wire(message.code, dict(message.facts), at=message.origin)), now)
                return []
            case Confirmed():
                is_noted = known.state is State.CONFIRMING and message.origin == known.source.origin
                known.unnoted -= is_noted
                return self._forget(known) if is_noted and known.unnoted <= 0 else []
            case Denial():
                if message.origin != known.source.origin:
                    return []
                return self._refused(known, from_wire(message.code, dict(message.facts), at=message.origin))

    def tick(self, now: float) -> list[Effect]:
        """Asks again, keeps alive, gives up: whatever is due."""
        effects: list[Effect] = []
        for pull in list(self._pulls.values()):
            if pull.state is State.CONFIRMING:
                effects += self._confirm_again(pull, now)
            elif pull.state is State.PULLING:
                effects += self._watch(pull, now)
            elif pull.state is State.FINISHING:
                effects += pull.keep_alive(self._me, self._options, now)
        return effects

    def deadline(self) -> float | None:
        """When `tick` is wanted next."""
        active = (pull for pull in self._pulls.values() if pull.state is not State.WAITING)
        return min((pull.wants_tick(self._options) for pull in active), default=None)

    def check(self) -> None:
        """All invariants; for simulation."""
        for pull in self._pulls.values():
            pull.check()

    # --- inside ---------------------------------------------------------------------------------

    def _fill(self, pull: Pull, now: float) -> list[Effect]:
        """Asks for as much as the window has room for."""
        effects: list[Effect] = []
        source = pull.source
        held = sum(pull.landed.values()) if pull.landed else 0
        verify = pull.verify(self._options)
        while pull.to_do and pull.window.has_room(pull.to_do[0][1] + held):
            offset, length = pull.to_do.popleft()
            pull.asked[offset] = Asked(length, now, pull.window.asked(length), verify)
            effects.append(Post(Ask(self._me, source.origin, pull.id, source.offer_id, source.secret, offset, length,
                                    verify)))
        if effects:
            pull.said_at, pull.has_asked = now, True
            pull.plan_retry(self._options, now)
        return effects

    def _no_way(self, pull: Pull, why: str, now: float) -> None:
        if pull.state is State.CONFIRMING:  # it is said again in time; hurry would only use up the repetitions
            return
        pull.doubt_all()
        if pull.no_way_since is None or pull.has_way_again(self._options, now):
            pull.no_way_since = now
        pull.no_way_at, pull.no_way_why = now, why
        soon = now + BOUNCED_S
        pull.retry_at = soon if pull.retry_at is None else min(pull.retry_at, soon)

    def _watch(self, pull: Pull, now: float) -> list[Effect]:
        options = self._options
        source = pull.source
        if pull.is_wanting and pull.no_way_since is not None and now >= pull.no_way_since + options.lost_timeout_s:
            if pull.has_way_again(self._options, now):
                pull.no_way_since = None
                return self._watch(pull, now)
            return self._fail(pull, OriginLost(ref=source.label, origin=source.origin, bytes_done=pull.bytes_done,
                                               bytes_total=pull.bytes_total, why=pull.no_way_why), tell=False)
        if now >= pull.progress_at + options.stall_timeout_s and not pull.landed:
            return self._fail(pull, Stalled(ref=source.label, origin=source.origin, bytes_done=pull.bytes_done,
                                            bytes_total=pull.bytes_total, waited_s=now - pull.progress_at), tell=True)
        effects: list[Effect] = []
        if pull.retry_at is not None and now >= pull.retry_at:
            if pull.asked:  # silence, and not a pause after a bounce
                pull.retries += 1
                pull.doubt(min(pull.asked, key=lambda at: pull.asked[at].asked_at))
            pull.plan_retry(self._options, now)
            effects += self._fill(pull, now)
        return effects + pull.keep_alive(self._me, self._options, now)

    def _whole(self, pull: Pull, now: float) -> list[Effect]:
        """All bytes are stored."""
        if not pull.finishes:
            return self._complete(pull, now)
        pull.state, pull.retry_at = State.FINISHING, None
        return [Finish(pull.id)]

    def _complete(self, pull: Pull, now: float) -> list[Effect]:
        pull.state = State.CONFIRMING
        return [*self._confirm(pull, now), PullSettled(pull.id, None)]

    def _confirm(self, pull: Pull, now: float) -> list[Effect]:
        source = pull.source
        pause = CONFIRM_AGAIN_S[min(pull.confirms, len(CONFIRM_AGAIN_S) - 1)]
        pull.confirms += 1
        pull.retry_at = now + pause
        joined = union(pull.ranges)
        whole = [joined[at:at + RANGES_MAX] for at in range(0, len(joined), RANGES_MAX)] or [()]
        pull.unnoted = len(whole)
        # An origin believes only a pull that has spoken before: all of it may have been here already.
        spoken: list[Effect] = [] if pull.has_asked else [
            Post(Keep(self._me, source.origin, pull.id, source.offer_id, source.secret))]
        return [*spoken, *(Post(Confirm(self._me, source.origin, pull.id, source.offer_id, source.secret, ranges))
                           for ranges in whole)]

    def _confirm_again(self, pull: Pull, now: float) -> list[Effect]:
        if pull.retry_at is None or now < pull.retry_at:
            return []
        if pull.confirms > len(CONFIRM_AGAIN_S):
            return self._forget(pull)
        return self._confirm(pull, now)

    def _refused(self, pull: Pull, error: ZdlError) -> list[Effect]:
        if pull.state is State.CONFIRMING:  # we have all bytes; the origin only does not care any more
            return self._forget(pull)
        if pull.state is State.FINISHING:
            return []
        return self._fail(pull, error, tell=False)

    def _fail(self, pull: Pull, error: ZdlError, *, tell: bool) -> list[Effect]:
        source = pull.source
        effects: list[Effect] = []
        if tell:
            effects.append(Post(Drop(self._me, source.origin, pull.id, source.offer_id, source.secret, error.code)))
        return [*effects, *self._forget(pull), PullSettled(pull.id, error)]

    def _forget(self, pull: Pull) -> list[Effect]:
        del self._pulls[pull.id]
        return [PullForgotten(pull.id)]
