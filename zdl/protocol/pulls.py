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

What we end ourselves the origin is told by a DROP, which is repeated (DROPPING) until it is noted, as a CONFIRM is.

An origin that was killed is known sooner than by lost_timeout_s: where its direct link has broken, and the tree says that
it has gone too, and goes on saying so, two connections have ended, and nothing but its end does that. An origin that is
frozen breaks no link: when the tree says that it is silent, and nothing comes over the direct link either, that link is
left (`Detour`).

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

from collections.abc import Sequence

from zdl.errors import Busy, Cancelled, IntegrityError, LeaseEnded, LocalProtocolError, ZdlError, from_wire
from zdl.options import Pace, PullOptions
from zdl.protocol.asking import Asking
from zdl.protocol.effects import Detour, Effect, Finish, Progressed, PullForgotten, PullSettled, SpreadOver, Unreachable
from zdl.protocol.fetching import Pull, State, new_pull
from zdl.protocol.messages import Bounce, Chunk, Confirmed, Denial, Kind, Withdrawn
from zdl.protocol.ranges import union
from zdl.protocol.rerouting import Rerouting
from zdl.protocol.switch import concerns
from zdl.refs import Source


class Pulls:
    """The pulls of one cell.

    Attributes:
        paths: hears of the links that lead to their origins.

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
        self._asking = Asking(me, options)
        self.rerouting = Rerouting(self._pulls, self._asking)

    def __len__(self) -> int:
        return len(self._pulls)

    @property
    def confirming(self) -> int:
        """How many have all their bytes, and wait for the origin to note it."""
        return sum(pull.state is State.CONFIRMING for pull in self._pulls.values())

    @property
    def dropping(self) -> int:
        """How many were given up, and wait for the origin to note it."""
        return sum(pull.state is State.DROPPING for pull in self._pulls.values())

    # --- commands -------------------------------------------------------------------------------

    def start(self, source: Source, ranges: Sequence[tuple[int, int]], now: float, *, have: Sequence[tuple[int, int]] = (),
              finishes: bool = False, is_kept: bool = False, pace: Pace = Pace()) -> tuple[int, list[Effect]]:
        """Begin a pull of these ranges; no chunk crosses the end of a range. It waits for `go`.

        Args:
            source: the offer.
            ranges: what is asked for.
            now: the time.
            have: ranges that are here already, intact; the origin is told that we have them too.
            is_kept: what comes outlives the process, in a file: see ``verify`` of the options.
            pace: its limit and its priority.
            finishes: when all is stored there is something left to do, before the origin is told: `Finish`, `finished`.

        Raises:
            Busy: ``pulls_max`` are under way.
            LocalProtocolError: the ranges overlap.
        """
        options = self._options
        if len(self._pulls) >= options.pulls_max:
            raise Busy(limit="pulls_max", value=options.pulls_max, at=self._me)
        if sum(length for _, length in ranges) != sum(length for _, length in union(ranges)):
            raise LocalProtocolError(what="the ranges of a pull overlap: two chunks would hold the same byte")
        number = self._next_id
        self._next_id += 1
        pull = new_pull(number, source, ranges, have, options=options, pace=pace, now=now)
        pull.finishes, pull.is_kept = finishes, is_kept
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
        effects = self._asking.fill(pull, now)
        if is_direct and pull.spread.count > 1:
            effects.append(SpreadOver(pull.id, pull.source.origin, pull.spread.count))
        return effects

    def stored(self, number: int, offset: int, now: float) -> list[Effect]:
        """A chunk that `landed` said is intact has been put where it belongs."""
        pull = self._pulls.get(number)
        length = None if pull is None or pull.is_over else pull.landed.pop(offset, None)
        if pull is None or length is None:
            return []
        pull.bytes_done += length
        pull.progress_at = now
        effects: list[Effect] = [Progressed(number, pull.bytes_done, pull.bytes_total)]
        if pull.bytes_done == pull.bytes_total:
            return effects + self._whole(pull, now)
        return effects + self._asking.fill(pull, now, is_early=False)

    def finished(self, number: int, now: float) -> list[Effect]:
        """What `Finish` asked for is done."""
        pull = self._pulls.get(number)
        return [] if pull is None or pull.state is not State.FINISHING else self._complete(pull, now)

    def cancel(self, number: int, why: ZdlError | str, now: float) -> list[Effect]:
        """End a pull, with this error; or because its user does not want it any more: too late when all of it is here."""
        pull = self._pulls.get(number)
        if pull is None or pull.is_over or (isinstance(why, str) and pull.state is State.FINISHING):
            return []
        what = f"the pull of {pull.source.label} from {pull.source.origin}"
        return self._fail(pull, Cancelled(what=what, why=why) if isinstance(why, str) else why, tell=True, now=now)

    # --- the world ------------------------------------------------------------------------------

    def expects(self, chunk: Chunk) -> bool:
        """Whether these bytes are wanted now; only then may they be put into place."""
        pull = self._pulls.get(chunk.id)
        if pull is None or pull.is_over or pull.source.origin != chunk.origin:
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
        pull.reach.has_news()
        if not is_intact:
            count = pull.bad[chunk.offset] = pull.bad.get(chunk.offset, 0) + 1
            if count >= self._options.bad_chunks_max:
                return self._fail(pull, IntegrityError(ref=pull.source.label, origin=pull.source.origin,
                                                       offset=chunk.offset, attempts=count), tell=True, now=now)
            pull.to_do.appendleft((chunk.offset, asked.length, chunk.offset))
            return self._asking.fill(pull, now)
        pull.landed[chunk.offset] = asked.length
        pull.progress_at, pull.retries = now, 0
        pull.plan_retry(self._options, now)
        if pull.is_direct and pull.spread.look(pull.window, now):
            return [SpreadOver(pull.id, pull.source.origin, pull.spread.count)]
        return []

    def receive(self, message: Denial | Withdrawn | Confirmed | Bounce | Unreachable, now: float) -> list[Effect]:
        """What an origin, or a cell on the way to it, has to say."""
        match message:
            case Unreachable():
                for pull in self._pulls.values():
                    if pull.source.origin != self._me and concerns(message, pull.source.origin):
                        pull.reach.is_told_lost = True
                        pull.no_way(self._options, message.why, now)
                return []
            case Withdrawn():
                ended = [pull for pull in self._pulls.values() if pull.source.offer_id == message.offer_id
                         and pull.source.origin == message.origin and pull.id == message.id]
                return [effect for pull in ended for effect in self._refused(pull, LeaseEnded(
                    ref=pull.source.label, origin=pull.source.origin, how=message.how), now)]
        known = self._pulls.get(message.id)
        if known is None:
            return []
        match message:
            case Bounce():
                error = from_wire(message.code, dict(message.facts), at=message.origin)
                if isinstance(error, Busy) and message.of_kind == Kind.ASK:  # a queue was full, and a chunk or its question lost
                    known.missing += 1
                    known.soon(now)
                elif message.of_kind in (Kind.ASK, Kind.KEEP, Kind.CONFIRM):
                    known.reach.bounced(now)
                    known.no_way(self._options, str(error), now)
                return []
            case Confirmed():
                is_noted = known.is_over and message.origin == known.source.origin
                known.confirming.unnoted -= is_noted
                return self._forget(known) if is_noted and known.confirming.unnoted <= 0 else []
            case Denial():
                if message.origin != known.source.origin:
                    return []
                return self._refused(known, from_wire(message.code, dict(message.facts), at=message.origin), now)

    def tick(self, now: float) -> list[Effect]:
        """Asks again, keeps alive, gives up: whatever is due."""
        effects: list[Effect] = []
        for pull in self._asking.in_turn(self._pulls.values()):
            if pull.is_over:
                effects += self._say_again(pull, now)
            elif pull.state is State.PULLING:
                effects += self._watch(pull, now)
            elif pull.state is State.FINISHING:
                effects += pull.confirming.keep_alive(self._me, self._options, now)
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

    def _watch(self, pull: Pull, now: float) -> list[Effect]:
        options = self._options
        lost_at, detour_at = pull.verdicts_at(options)
        if lost_at is not None and now >= lost_at:
            if not pull.reach.is_dead and pull.reach.has_way_again(options, now):
                pull.reach.no_way_since = None
                return self._watch(pull, now)
            return self._fail(pull, pull.lost(), tell=False, now=now)
        if now >= pull.progress_at + options.stall_timeout_s and pull.may_stall:
            return self._fail(pull, pull.stalled(now), tell=True, now=now)
        if detour_at is not None and now >= detour_at:
            pull.reach.suspect_at = None
            return [Detour(pull.source.origin), *self._watch(pull, now)]
        effects: list[Effect] = []
        if pull.retry_at is not None and now >= pull.retry_at:
            if pull.asked:  # silence, and not a pause after a bounce
                pull.retries += 0 if pull.missing else 1
                pull.missing = max(0, pull.missing - 1)
                pull.doubt(min(pull.asked, key=lambda at: pull.asked[at].asked_at))
            pull.plan_retry(self._options, now)
            effects += self._asking.fill(pull, now)
        if pull.paced_until is not None and now >= pull.paced_until:
            pull.progress_at = now if not pull.asked else pull.progress_at  # what waits for its turn does not stall
            effects += self._asking.fill(pull, now)
        return effects + pull.confirming.keep_alive(self._me, self._options, now)

    def _whole(self, pull: Pull, now: float) -> list[Effect]:
        """All bytes are stored."""
        if not pull.finishes:
            return self._complete(pull, now)
        pull.state, pull.retry_at = State.FINISHING, None
        return [*pull.confirming.begin(self._me, now), Finish(pull.id)]

    def _complete(self, pull: Pull, now: float) -> list[Effect]:
        pull.state = State.CONFIRMING
        return [*pull.say(self._me, now), PullSettled(pull.id, None)]

    def _say_again(self, pull: Pull, now: float) -> list[Effect]:
        if pull.retry_at is None or now < pull.retry_at:
            return []
        return self._forget(pull) if pull.confirming.is_said else pull.say(self._me, now)

    def _refused(self, pull: Pull, error: ZdlError, now: float) -> list[Effect]:
        if pull.is_over:  # we have all bytes, or do not want them; the origin only does not care any more
            return self._forget(pull)
        if pull.state is State.FINISHING:
            return []
        return self._fail(pull, error, tell=False, now=now)

    def _fail(self, pull: Pull, error: ZdlError, *, tell: bool, now: float) -> list[Effect]:
        if not tell:
            return [*self._forget(pull), PullSettled(pull.id, error)]
        pull.state, pull.confirming.why_dropped = State.DROPPING, error.code
        return [*pull.say(self._me, now), PullSettled(pull.id, error)]

    def _forget(self, pull: Pull) -> list[Effect]:
        del self._pulls[pull.id]
        return [PullForgotten(pull.id)]
