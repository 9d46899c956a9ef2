"""Pushes: what this cell streams to others.

A push is a sequence of items, numbered from 0, to one receiver::

    start ──▶ OPEN ──finish(): no more items──▶ ENDING ──ENDED──▶ settled
                │                                 │
                └────────────────┬────────────────┘
                                 ├── ENDED, early: the receiver wants no more, or refuses ──▶ settled
                                 ├── no way for lost_timeout_s ──▶ settled: PeerLost
                                 ├── nothing is heard for silent_timeout_s ──▶ settled: TimedOut
                                 ├── the first item that is not consumed stays so for its timeout ──▶ settled: TimedOut
                                 ├── it holds others up and does not move (see `zdl.protocol.lag`) ──▶ settled: Busy
                                 └── cancel() ──▶ HALT, settled

and each item in it::

    pushed ──credit──▶ sent ──▶ received: held here no more ──▶ consumed, with its reply ──▶ forgotten
                ▲        │
                └────────┘ the receiver misses it, the way changed, it bounced: all from `received` on is sent again

**Credit** is a number of bytes since the beginning, up to which the receiver takes items; it grows as items are consumed, so
a slow consumer holds its sender back, and never a link. An item counts its bytes and `ITEM_OVERHEAD_BYTES`. The first item
after all others are consumed may always be sent, however large.

Links keep order and lose nothing while they stand. What a sender says, be it an item, the end, or, when it has nothing to say
for a while, the question how far the receiver is, carries a number; a receiver that misses what comes before says so (``again``).
So nothing is timed but the question.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from zdl.errors import (
    Busy,
    Cancelled,
    DecodeError,
    PeerLost,
    Refused,
    RemoteProtocolError,
    StreamError,
    TimedOut,
    ZdlError,
    from_wire,
    to_wire,
)
from zdl.options import StreamOptions
from zdl.protocol.backlog import Backlog, Queue
from zdl.protocol.effects import Effect, Post, PushMoved, PushSettled, Unreachable
from zdl.protocol.items import scatter
from zdl.protocol.lag import Lag
from zdl.protocol.messages import Body, Bounce, Kind
from zdl.protocol.pushing import End, Ended, Halt, Items, Open, Taken
from zdl.protocol.switch import concerns

# What may be sent before the receiver has said anything.
FIRST_CREDIT_BYTES = 256 * 1024
# Pause before what bounced is sent again: time for a relay to come back.
BOUNCED_S = 0.25
# The `reason` of a `Refused` that says: whatever I was asked to take, I know no stream of that name.
NOT_OPEN = "not-open"


@dataclass(frozen=True, slots=True)
class Opening:
    """What is to be pushed: see `Open`."""

    target: str
    channel: str
    topic: str
    form: str
    bytes_total: int = 0
    headers: tuple[tuple[str, object], ...] = ()
    body: Body = ()

    def __str__(self) -> str:
        return f"stream {self.channel}/{self.topic}"


@dataclass(slots=True)
class Push:
    """One push: to one receiver."""

    id: int
    opening: Opening
    backlog: Backlog
    queue: Queue
    credit: int = FIRST_CREDIT_BYTES
    sent_max: int = 0
    received: int = 0
    consumed: int = 0
    is_opened: bool = False
    is_ending: bool = False
    is_end_said: bool = False
    is_doubted: bool = False
    head_since: float = 0.0
    moved_at: float = 0.0
    took_s: float = 0.0
    said_at: float = 0.0
    heard_at: float = 0.0
    no_way_since: float | None = None
    no_way_why: str = ""
    retry_at: float | None = None

    @property
    def head_due_at(self) -> float | None:
        """When the first item that is not consumed must be; None where all that were sent are."""
        return self.head_since + self.queue.timeout_s(self.consumed) if self.consumed < self.queue.sent else None

    def check(self) -> None:
        """All invariants; for simulation."""
        assert self.consumed <= self.received <= self.queue.sent <= self.sent_max <= self.queue.pushed
        self.queue.check(self.received, self.consumed)


class Pushes:
    """The pushes of one cell.

    Args:
        me: our FQCN.
        first_id: where ids begin: a random number of 62 bits.
        options: sizes, times and limits.
    """

    def __init__(self, me: str, first_id: int, options: StreamOptions) -> None:
        self._me = me
        self._next_id = first_id
        self._options = options
        self._lag = Lag.of(options)
        self._pushes: dict[int, Push] = {}

    def __len__(self) -> int:
        return len(self._pushes)

    def targets(self) -> set[str]:
        """The cells that something is pushed to."""
        return {push.opening.target for push in self._pushes.values()}

    def ids(self) -> list[int]:
        """All that have not settled."""
        return list(self._pushes)

    # --- commands -------------------------------------------------------------------------------

    def start(self, opening: Opening, now: float, backlog: Backlog | None = None) -> tuple[int, list[Effect]]:
        """Begin a push.

        Args:
            opening: of what, to whom.
            now: the time.
            backlog: of a stream to several, whose pushes share it; by default one of its own.

        Raises:
            Busy: ``pushes_max`` are under way.
        """
        if len(self._pushes) >= self._options.pushes_max:
            raise Busy(limit="pushes_max", value=self._options.pushes_max, at=self._me)
        number = self._next_id
        self._next_id += 1
        shared = Backlog() if backlog is None else backlog
        push = Push(number, opening, shared, shared.join(number), said_at=now, heard_at=now, moved_at=now)
        self._pushes[number] = push
        return number, [self._open(push)]

    def push(self, number: int, items: Sequence[tuple[Body, float | None]], now: float) -> list[Effect]:
        """Further items of a push and of all that share its backlog; see `spread`."""
        push = self._pushes.get(number)
        return [] if push is None or push.is_ending else self.spread(push.backlog, items, now)

    def spread(self, backlog: Backlog, items: Sequence[tuple[Body, float | None]], now: float) -> list[Effect]:
        """Further items, each with the time within which it shall be consumed once all before it are; None: ``stall_timeout_s``."""
        numbers = backlog.push_ids()
        for number in numbers:
            push = self._pushes[number]
            if push.consumed == push.queue.pushed:  # it had nothing to consume
                push.moved_at = now
        if numbers:
            usual_s = self._options.stall_timeout_s
            backlog.add((parts, usual_s if timeout_s is None else timeout_s) for parts, timeout_s in items)
        effects: list[Effect] = []
        for number in numbers:
            effects += self._fill(self._pushes[number], now)
        return effects

    def finish(self, number: int, now: float) -> list[Effect]:
        """No more items: the normal end."""
        push = self._pushes.get(number)
        if push is None or push.is_ending:
            return []
        push.is_ending = True
        push.backlog.leave(push.queue)
        return self._fill(push, now)

    def cancel(self, number: int, error: ZdlError) -> list[Effect]:
        """Break off."""
        push = self._pushes.get(number)
        return [] if push is None else self._settle(push, error, tell=True)

    def way_changed(self, target: str, now: float) -> list[Effect]:
        """What is on its way to this cell may have gone with a link: it is sent again, another way."""
        effects: list[Effect] = []
        for push in self._pushes.values():
            if push.opening.target == target:
                effects += self._again(push, now)
        return effects

    # --- the world ------------------------------------------------------------------------------

    def receive(self, message: Taken | Ended | Bounce | Unreachable, now: float) -> list[Effect]:
        """What a receiver, or a cell on the way to it, has to say."""
        if isinstance(message, Unreachable):
            for push in self._pushes.values():
                if push.opening.target != self._me and concerns(message, push.opening.target):
                    self._no_way(push, message.why, now)
            return []
        known = self._pushes.get(message.id)
        if known is None:
            return []
        if isinstance(message, Bounce):
            if message.of_kind in (Kind.OPEN, Kind.ITEMS, Kind.END):
                self._no_way(known, str(from_wire(message.code, dict(message.facts), at=message.origin)), now)
            return []
        if message.origin != known.opening.target:
            return []
        known.heard_at, known.no_way_since, known.retry_at = now, None, None
        return self._taken(known, message, now) if isinstance(message, Taken) else self._ended(known, message, now)

    def tick(self, now: float) -> list[Effect]:
        """Asks, sends again, gives up: whatever is due."""
        effects: list[Effect] = []
        for push in list(self._pushes.values()):
            error = self._overdue(push, now)
            if error is not None:
                effects += self._settle(push, error, tell=True)
            elif push.retry_at is not None and now >= push.retry_at:
                effects += self._again(push, now)
            elif now >= push.said_at + self._options.keep_alive_s:
                effects += self._ask(push, now)
        return effects

    def deadline(self) -> float | None:
        """When `tick` is wanted next."""
        return min(map(self._wants_tick, self._pushes.values()), default=None)

    def check(self) -> None:
        """All invariants; for simulation."""
        for push in self._pushes.values():
            push.check()

    # --- inside ---------------------------------------------------------------------------------

    def _open(self, push: Push) -> Post:
        opening = push.opening
        return Post(Open(self._me, opening.target, push.id, opening.channel, opening.topic, opening.form, opening.bytes_total,
                         dict(opening.headers), opening.body))

    def _fill(self, push: Push, now: float) -> list[Effect]:
        """Sends what there is credit for, and then, if that was all, the end."""
        effects: list[Effect] = []
        if push.retry_at is not None:  # there is no way at the moment
            return effects
        queue = push.queue
        while queue.sent < queue.pushed:
            first, body = queue.sent, self._next(push)
            if not body:
                break
            if first == push.consumed:
                push.head_since = now
            effects.append(Post(Items(self._me, push.opening.target, push.id, first, push.consumed, body)))
        if push.is_ending and queue.sent == queue.pushed and not push.is_end_said:
            push.is_end_said = True
            effects.append(Post(End(self._me, push.opening.target, push.id, queue.pushed)))
        if effects:
            push.said_at = now
        return effects

    def _next(self, push: Push) -> Body:
        """The next items that go in one message, as far as there is credit; `sent` is behind them."""
        queue, backlog = push.queue, push.backlog
        block = queue.next_block()
        if backlog.is_shared(block):
            if queue.sent > push.received:  # until that has arrived the block grows, and may go whole
                return ()
        else:
            backlog.close()
        first, marks = queue.sent, block.marks
        after = marks.first + bisect_right(marks.ends, push.credit, first - marks.first)
        if after < marks.after and first > push.received:  # there will be credit for all of it, and then it need not be copied
            return ()
        if after == first:
            if first > push.consumed:
                return ()
            after = first + 1
        queue.sent = after
        push.sent_max = max(push.sent_max, after)
        return block.body(first, after)

    def _again(self, push: Push, now: float) -> list[Effect]:
        push.queue.sent, push.is_end_said, push.retry_at, push.said_at = push.received, False, None, now
        opened: list[Effect] = [] if push.is_opened else [self._open(push)]
        return [*opened, *(self._fill(push, now) or ([] if opened else self._ask(push, now)))]

    def _ask(self, push: Push, now: float) -> list[Effect]:
        """How far are you? A receiver that misses anything says so."""
        push.said_at = now
        queue = push.queue
        if push.is_ending and queue.sent == queue.pushed:
            return [Post(End(self._me, push.opening.target, push.id, queue.pushed))]
        return [Post(Items(self._me, push.opening.target, push.id, queue.sent, push.consumed))]

    def _taken(self, push: Push, taken: Taken, now: float) -> list[Effect]:
        if taken.received > push.sent_max or taken.consumed > taken.received or taken.first > taken.consumed:
            return self._settle(push, RemoteProtocolError(
                what=f"{push.opening.target} claims to have items of {push.opening} that were never sent"), tell=True)
        push.is_opened, push.is_doubted = True, False
        push.credit = max(push.credit, taken.credit)
        queue = push.queue
        push.received = max(push.received, taken.received)
        queue.received(push.received)
        queue.sent = max(queue.sent, push.received)
        if taken.first > push.consumed:  # a word of it was lost, with replies
            return [*self._ask(push, now), *self._fill(push, now)]
        try:
            replies = tuple(scatter(taken.body)) if taken.body else ((),) * (taken.consumed - taken.first)
        except DecodeError as error:
            return self._settle(push, error, tell=True)
        if len(replies) != taken.consumed - taken.first:
            return self._settle(push, DecodeError(what=f"{len(replies)} replies to {taken.consumed - taken.first} items"),
                                tell=True)
        fresh = replies[push.consumed - taken.first:]
        if fresh:
            queue.consumed(taken.consumed)
            push.consumed, push.head_since = taken.consumed, now
            push.took_s, push.moved_at = now - push.moved_at, now
        if taken.again:
            queue.sent, push.is_end_said = push.received, False
        more = self._fill(push, now)
        return [*more, PushMoved(push.id, push.received, push.consumed, queue.bytes_consumed, fresh,
                                 push.received == queue.sent)]

    def _ended(self, push: Push, ended: Ended, now: float) -> list[Effect]:
        if not ended.code:
            return self._settle(push, None, body=ended.body)
        error = from_wire(ended.code, dict(ended.facts), at=ended.origin)
        if isinstance(error, Refused) and error.reason == NOT_OPEN:
            if not push.is_opened:  # what came first was lost
                return self._again(push, now)
            if not push.is_doubted:  # it may be an old word, from before the stream was opened
                push.is_doubted = True
                return self._ask(push, now)
            error = StreamError(
                what=f"{push.opening} to {push.opening.target}: it knows nothing of it any more; did it start anew?")
        return self._settle(push, error)

    def _no_way(self, push: Push, why: str, now: float) -> None:
        push.no_way_since = now if push.no_way_since is None else push.no_way_since
        push.no_way_why = why
        push.retry_at = now + BOUNCED_S if push.retry_at is None else push.retry_at

    def _overdue(self, push: Push, now: float) -> ZdlError | None:
        options, target = self._options, push.opening.target
        lag_at = self._lag_due_at(push)
        is_late = lag_at is not None and now >= lag_at
        if push.no_way_since is not None and (is_late or now >= push.no_way_since + options.lost_timeout_s):
            return PeerLost(target=target, lost=target, at=self._me, why=push.no_way_why)
        if push.no_way_since is None and now >= push.heard_at + options.silent_timeout_s:  # else why it is silent is known
            return TimedOut(what=f"any word about {push.opening}", address=target, waited_s=now - push.heard_at)
        due_at = push.head_due_at
        if due_at is not None and now >= due_at:
            return TimedOut(what=f"progress of {push.opening}", address=target, waited_s=now - push.head_since)
        return Busy(limit="streams.backlog_bytes_max", value=options.backlog_bytes_max, at=target) if is_late else None

    def _lag_due_at(self, push: Push) -> float | None:
        """When this receiver must have moved; None where it holds up nobody."""
        backlog, lag = push.backlog, self._lag
        if push.is_ending or not lag.is_pacing(push.queue.bytes_consumed, backlog.end):
            return None
        if lag.is_pacing(max(backlog.bytes_consumed(), default=0), backlog.end):  # nobody is ahead
            return None
        return lag.due_at(push.moved_at, push.took_s)

    def _wants_tick(self, push: Push) -> float:
        options = self._options
        times = [push.said_at + options.keep_alive_s]
        due_at = push.head_due_at
        if due_at is not None:
            times.append(due_at)
        lag_at = self._lag_due_at(push)
        if lag_at is not None:
            times.append(lag_at)
        if push.no_way_since is None:
            times.append(push.heard_at + options.silent_timeout_s)
        else:
            times.append(push.no_way_since + options.lost_timeout_s)
        if push.retry_at is not None:
            times.append(push.retry_at)
        return min(times)

    def _settle(self, push: Push, error: ZdlError | None, *, tell: bool = False, body: Body = ()) -> list[Effect]:
        del self._pushes[push.id]
        push.backlog.leave(push.queue)
        effects: list[Effect] = []
        if tell and error is not None:
            told = error if not isinstance(error, Cancelled) else Cancelled(what=str(push.opening), why=error.why)
            effects.append(Post(Halt(self._me, push.opening.target, push.id, *to_wire(told))))
        return [*effects, PushSettled(push.id, error, body)]
