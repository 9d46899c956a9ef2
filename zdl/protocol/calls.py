"""Calls: whose answer this cell waits for; and serving: whose requests it works on.

A call is one request and its end::

    start ──REQUEST──▶ WAITING ──REPLY (ok or error)──▶ settled
                          ├── PROGRESS ────────────────▶ waits on: its timeout begins anew
                          ├── BOUNCE ───────────────────▶ settled: NoRoute, Busy, Refused
                          ├── the way is lost ──────────▶ settled: PeerLost
                          ├── its deadline ──CANCEL─────▶ settled: TimedOut
                          └── cancel() ──CANCEL─────────▶ settled: Cancelled

Settled calls are forgotten; a reply that comes late or twice finds nothing and changes nothing. Ids
count up from a number that the shell draws at random, so that a reply to the former self of a restarted
cell meets no call of the new one.

Serving is the other side: a request runs its handler once, however often it arrives, as long as it is
among the last ``remembered_max``, and who asks a second time gets the first answer, while that is
`Kept`; a cancellation reaches the handler that runs.
"""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from zdl.errors import Busy, Cancelled, PeerLost, TimedOut, ZdlError, from_wire, to_wire
from zdl.fqcn import is_ancestor, is_within
from zdl.options import CallOptions
from zdl.protocol.calendar import STALE_MIN
from zdl.protocol.effects import (
    Abort,
    CallProgressed,
    CallSettled,
    Effect,
    Handle,
    PeerBack,
    PeerDown,
    PeerStalled,
    Post,
    Unreachable,
)
from zdl.protocol.frames import ID_MAX
from zdl.protocol.hot import hot_value
from zdl.protocol.kept import Kept
from zdl.protocol.messages import Body, Bounce, Cancel, Kind, Notice, Progress, Reply, Request, Waiting
from zdl.protocol.switch import concerns


@dataclass(slots=True)
class Call:
    """A request that waits for its answer."""

    target: str
    channel: str
    topic: str
    started_at: float
    deadline: float | None
    timeout_s: float | None = None

    @property
    def what(self) -> str:
        """What is waited for, in words."""
        return f"the reply to {self.channel}/{self.topic}"


@hot_value
class Question:
    """What a caller wants to send.

    Attributes:
        target: FQCN of the callee.
        channel: first half of the handler's name.
        topic: second half.
        body: frames of the packed object.
        timeout_s: how long to wait; None waits for ever.
        headers: the user's own, plain values.
        trace: whether the request and its reply write down their way.
    """

    target: str
    channel: str
    topic: str
    body: Body
    timeout_s: float | None
    headers: Mapping[str, object]
    trace: bool = False


class Calls:
    """The calls of one cell.

    Args:
        me: our FQCN.
        first_id: where ids begin: a random number of 62 bits.
        options: limits.
    """

    def __init__(self, me: str, first_id: int, options: CallOptions) -> None:
        self._me = me
        self._next_id = first_id
        self._options = options
        self._calls: dict[int, Call] = {}
        self._deadlines: list[tuple[float, int]] = []
        self._stalled: dict[str, tuple[bool, float]] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def next_id(self) -> int:
        """An id that no conversation of this cell has had; for notices too."""
        number = self._next_id
        self._next_id = (number + 1) & ID_MAX
        return number

    # --- commands -------------------------------------------------------------------------------

    def start(self, question: Question, now: float) -> tuple[int, list[Effect]]:
        """Send a request. Returns its id and what to do; the end comes as `CallSettled`.

        Raises:
            Busy: ``calls_max`` are in flight.
        """
        if len(self._calls) >= self._options.calls_max:
            raise Busy(limit="calls_max", value=self._options.calls_max, at=self._me)
        number = self.next_id()
        deadline = None if question.timeout_s is None else now + question.timeout_s
        self._calls[number] = Call(question.target, question.channel, question.topic, now, deadline, question.timeout_s)
        if deadline is not None:
            heapq.heappush(self._deadlines, (deadline, number))
            if len(self._deadlines) > 2 * len(self._calls) + STALE_MIN:  # of settled calls, behind that of one that is not
                self._deadlines = [(call.deadline, each) for each, call in self._calls.items() if call.deadline is not None]
                heapq.heapify(self._deadlines)
        request = Request(self._me, question.target, number, question.channel, question.topic, question.timeout_s,
                          question.headers, question.body, route=() if question.trace else None)
        return number, [Post(request)]

    def cancel(self, number: int, why: str, now: float) -> list[Effect]:
        """Stop waiting; the callee is told."""
        call = self._calls.get(number)
        if call is None:
            return []
        return self._give_up(number, call, Cancelled(what=call.what, why=why))

    def close(self, error: ZdlError) -> list[Effect]:
        """Settle all that is left."""
        effects: list[Effect] = []
        for number, call in list(self._calls.items()):
            effects += self._give_up(number, call, error)
        return effects

    # --- the world ------------------------------------------------------------------------------

    def receive(self, message: Reply | Progress | Bounce | Unreachable, now: float) -> list[Effect]:
        """A reply, a sign that it is worked on, or the news that none will come."""
        match message:
            case Reply():
                number = message.id
                call = self._calls.get(number)
                if call is None or call.target != message.origin:
                    return []
                del self._calls[number]
                error = from_wire(message.code, dict(message.facts), at=message.origin) if message.code else None
                return [CallSettled(number, None if message.code else message, error)]
            case Progress():
                call = self._calls.get(message.id)
                if call is None or call.target != message.origin:
                    return []
                if call.timeout_s is not None:  # its place among the deadlines is put right when that comes
                    call.deadline = now + call.timeout_s
                return [CallProgressed(message.id, message.facts)]
            case Bounce():
                return self._bounced(message)
            case Unreachable():
                effects: list[Effect] = []
                spared = dict(message.spared)
                for number, call in list(self._calls.items()):
                    if message.up_to and number > message.up_to or number > spared.get(call.target, number):
                        continue
                    if call.target != self._me and concerns(message, call.target):
                        lost = PeerLost(target=call.target, lost=call.target if message.beyond else message.name,
                                        at=message.at, why=message.why)
                        effects += self._settle(number, error=lost)
                return effects

    def watch(self, effect: PeerStalled | PeerBack | PeerDown, now: float) -> list[Effect]:
        """A peer has stalled, is back, or its link is no more."""
        match effect:
            case PeerStalled():
                self._stalled[effect.fqcn] = effect.is_parent, now - effect.silent_s
                return []
            case PeerDown() if effect.is_clean:
                self._stalled.pop(effect.fqcn, None)
                return self._parted(effect.fqcn)
            case _:
                self._stalled.pop(effect.fqcn, None)
                return []

    def tick(self, now: float) -> list[Effect]:
        """Ends the calls whose deadline has come."""
        effects: list[Effect] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            _, number = heapq.heappop(self._deadlines)
            call = self._calls.get(number)
            if call is not None and call.deadline is not None:
                if call.deadline > now:
                    heapq.heappush(self._deadlines, (call.deadline, number))
                    continue
                late = TimedOut(what=call.what, address=call.target, waited_s=now - call.started_at,
                                why=self._stall_of(call.target, now))
                effects += self._give_up(number, call, late)
        return effects

    def deadline(self) -> float | None:
        """When `tick` is wanted next."""
        while self._deadlines and self._deadlines[0][1] not in self._calls:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def check(self) -> None:
        """All invariants; for simulation."""
        assert len(self._calls) <= self._options.calls_max
        assert len(self._deadlines) <= 2 * self._options.calls_max + STALE_MIN + 1
        timed = {number for _, number in self._deadlines}
        assert all(call.deadline is None or number in timed for number, call in self._calls.items())

    # --- inside ---------------------------------------------------------------------------------

    def _bounced(self, bounce: Bounce) -> list[Effect]:
        """A request could not go on, or the way back of its reply is lost; says a cell that is on the way."""
        call = self._calls.get(bounce.id)
        if call is None or bounce.of_kind not in (Kind.REQUEST, Kind.WAITING):
            return []
        at, target = bounce.origin, call.target
        if at not in (self._me, target) and not is_ancestor(at, self._me) and not is_ancestor(at, target):
            return []
        numbers = [bounce.id] if bounce.of_kind == Kind.REQUEST else [
            each for each, other in self._calls.items() if other.target == target and each <= bounce.id]
        return [effect for number in numbers for effect in self._settle(
            number, error=from_wire(bounce.code, dict(bounce.facts), at=at))]

    def _stall_of(self, target: str, now: float) -> str:
        """Which peer that leads to this cell has stalled, if one has."""
        for fqcn, (is_parent, since) in self._stalled.items():
            if is_within(target, fqcn) or is_parent and not is_within(target, self._me):
                who = "it" if fqcn == target else f"{fqcn}, which leads there,"
                return f"{who} is stalled: nothing came from it for {now - since:.1f} s"
        return ""

    def _parted(self, target: str) -> list[Effect]:
        """The direct link to this cell was left: the cells on the way by the tree hear that it is waited for."""
        waiting = [number for number, call in self._calls.items() if call.target == target]
        return [Post(Waiting(self._me, target, max(waiting)))] if waiting else []

    def _give_up(self, number: int, call: Call, error: ZdlError) -> list[Effect]:
        return [Post(Cancel(self._me, call.target, number)), *self._settle(number, error=error)]

    def _settle(self, number: int, *, reply: Reply | None = None, error: ZdlError | None = None) -> list[Effect]:
        del self._calls[number]
        return [CallSettled(number, reply, error)]


class Serving:
    """The requests that this cell works on, and those it has worked on lately.

    Attributes:
        running: those it works on, and since when; for others to count.

    Args:
        me: our FQCN.
        options: limits.
    """

    def __init__(self, me: str, options: CallOptions) -> None:
        self._me = me
        self._options = options
        self._remembered_max = options.remembered_max
        places = options.handler_threads_max + options.handler_queue_max
        self._per_origin_max = int(options.origin_share * places) if options.origin_share < 1 else options.calls_max + places
        self._per_origin: dict[str, int] = {}
        self.running: dict[tuple[str, int], float] = {}
        self._seen: OrderedDict[tuple[str, int], None] = OrderedDict()
        self._kept = Kept(options.answers_kept_max, options.answers_kept_bytes_max)

    def __len__(self) -> int:
        return len(self.running)

    def receive(self, message: Request | Notice | Cancel, now: float) -> list[Effect]:
        """A request or notice runs once; a cancellation reaches the handler that runs."""
        key = (message.origin, message.id)
        if type(message) is Cancel:
            if key in self.running:
                return [Abort(*key)]
            self._note(key)  # the request itself may come after its cancellation
            return []
        if key in self._seen or key in self.running:
            first = self._kept.find(*key) if type(message) is Request else None
            return [] if first is None else [Post(first)]
        assert not isinstance(message, Cancel)
        if type(message) is Request:
            count = self._per_origin.get(message.origin, 0)
            if count >= self._per_origin_max:
                return [Post(self._busy(message))]
            self._per_origin[message.origin] = count + 1
            self.running[key] = now
        self._note(key)
        return [Handle(message)]

    def answered(self, origin: str, number: int) -> bool:
        """The handler has ended. Returns False when it was answered before."""
        if self.running.pop((origin, number), None) is None:
            return False
        count = self._per_origin[origin] - 1
        if count:
            self._per_origin[origin] = count
        else:
            del self._per_origin[origin]
        return True

    def _busy(self, message: Request) -> Reply:
        """Of this cell there is too much; it may ask again when some of it is answered."""
        busy = Busy(limit="origin_share", value=self._per_origin_max, at=self._me)
        return Reply(self._me, message.origin, message.id, *to_wire(busy), {})

    def keep(self, answer: Reply) -> None:
        """This answer is given: who asks a second time gets the same."""
        self._kept.keep(answer)

    def receive_loss(self, message: Unreachable) -> list[Effect]:
        """Callers that are cut off do not wait any more."""
        spared, asked = dict(message.spared), frozenset(message.asked)
        return [Abort(origin, number) for origin, number in self.running if concerns(message, origin)
                and origin != self._me and (number in asked) == message.only and (message.only or origin not in spared)]

    def check(self) -> None:
        """All invariants; for simulation."""
        assert len(self._seen) <= self._options.remembered_max
        assert self._per_origin == Counter(origin for origin, _ in self.running)
        self._kept.check()

    def _note(self, key: tuple[str, int]) -> None:
        self._seen[key] = None
        if len(self._seen) > self._remembered_max:
            self._seen.popitem(last=False)
