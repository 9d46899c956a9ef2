"""Calls: whose answer this cell waits for; and serving: whose requests it works on.

A call is one request and its end::

    start ──REQUEST──▶ WAITING ──REPLY (ok or error)──▶ settled
                          ├── BOUNCE ───────────────────▶ settled: NoRoute, Busy, Refused
                          ├── the way is lost ──────────▶ settled: PeerLost
                          ├── its deadline ──CANCEL─────▶ settled: TimedOut
                          └── cancel() ──CANCEL─────────▶ settled: Cancelled

Settled calls are forgotten; a reply that comes late or twice finds nothing and changes nothing. Ids
count up from a number that the shell draws at random, so that a reply to the former self of a restarted
cell meets no call of the new one.

Serving is the other side: a request runs its handler once, however often it arrives, as long as it is
among the last ``remembered_max``; a cancellation reaches the handler that runs.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from zdl.errors import Busy, Cancelled, PeerLost, TimedOut, ZdlError, from_wire
from zdl.options import CallOptions
from zdl.protocol.effects import Abort, CallSettled, Effect, Handle, Post, Unreachable
from zdl.protocol.frames import ID_MAX
from zdl.protocol.messages import Body, Bounce, Cancel, Kind, Notice, Reply, Request
from zdl.protocol.switch import concerns


@dataclass(slots=True)
class Call:
    """A request that waits for its answer."""

    target: str
    channel: str
    topic: str
    started_at: float
    deadline: float | None

    @property
    def what(self) -> str:
        """What is waited for, in words."""
        return f"the reply to {self.channel}/{self.topic}"


@dataclass(frozen=True, slots=True)
class Question:
    """What a caller wants to send.

    Attributes:
        target: FQCN of the callee.
        channel: first half of the handler's name.
        topic: second half.
        body: frames of the packed object.
        timeout_s: how long to wait; None waits for ever.
        headers: the user's own, plain values.
    """

    target: str
    channel: str
    topic: str
    body: Body
    timeout_s: float | None
    headers: Mapping[str, object]


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
        self._calls[number] = Call(question.target, question.channel, question.topic, now, deadline)
        if deadline is not None:
            heapq.heappush(self._deadlines, (deadline, number))
        request = Request(self._me, question.target, number, question.channel, question.topic, question.timeout_s,
                          question.headers, question.body)
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

    def receive(self, message: Reply | Bounce | Unreachable, now: float) -> list[Effect]:
        """A reply, or the news that none will come."""
        match message:
            case Reply(id=number):
                call = self._calls.get(number)
                if call is None or call.target != message.origin:
                    return []
                if not message.code:
                    del self._calls[number]
                    return [CallSettled(number, message, None)]
                return self._settle(message.id, error=from_wire(message.code, dict(message.facts), at=message.origin))
            case Bounce():
                if message.id not in self._calls or message.of_kind != Kind.REQUEST:
                    return []
                return self._settle(message.id, error=from_wire(message.code, dict(message.facts), at=message.origin))
            case Unreachable():
                effects: list[Effect] = []
                for number, call in list(self._calls.items()):
                    if call.target != self._me and concerns(message, call.target):
                        lost = PeerLost(target=call.target, lost=call.target if message.beyond else message.name,
                                        at=message.at, why=message.why)
                        effects += self._settle(number, error=lost)
                return effects

    def tick(self, now: float) -> list[Effect]:
        """Ends the calls whose deadline has come."""
        effects: list[Effect] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            _, number = heapq.heappop(self._deadlines)
            call = self._calls.get(number)
            if call is not None:
                late = TimedOut(what=call.what, address=call.target, waited_s=now - call.started_at)
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
        timed = {number for _, number in self._deadlines}
        assert all(call.deadline is None or number in timed for number, call in self._calls.items())

    # --- inside ---------------------------------------------------------------------------------

    def _give_up(self, number: int, call: Call, error: ZdlError) -> list[Effect]:
        return [Post(Cancel(self._me, call.target, number)), *self._settle(number, error=error)]

    def _settle(self, number: int, *, reply: Reply | None = None, error: ZdlError | None = None) -> list[Effect]:
        del self._calls[number]
        return [CallSettled(number, reply, error)]


class Serving:
    """The requests that this cell works on, and those it has worked on lately.

    Args:
        me: our FQCN.
        options: limits.
    """

    def __init__(self, me: str, options: CallOptions) -> None:
        self._me = me
        self._options = options
        self._remembered_max = options.remembered_max
        self._running: dict[tuple[str, int], float] = {}
        self._seen: OrderedDict[tuple[str, int], None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._running)

    def receive(self, message: Request | Notice | Cancel, now: float) -> list[Effect]:
        """A request or notice runs once; a cancellation reaches the handler that runs."""
        key = (message.origin, message.id)
        if type(message) is Cancel:
            if key in self._running:
                return [Abort(*key)]
            self._note(key)  # the request itself may come after its cancellation
            return []
        if key in self._seen or key in self._running:
            return []
        self._note(key)
        if type(message) is Request:
            self._running[key] = now
        assert not isinstance(message, Cancel)
        return [Handle(message)]

    def answered(self, origin: str, number: int) -> bool:
        """The handler has ended. Returns False when it was answered before."""
        return self._running.pop((origin, number), None) is not None

    def receive_loss(self, message: Unreachable) -> list[Effect]:
        """Callers that are cut off do not wait any more."""
        return [Abort(origin, number) for origin, number in self._running
                if origin != self._me and concerns(message, origin)]

    def check(self) -> None:
        """All invariants; for simulation."""
        assert len(self._seen) <= self._options.remembered_max

    def _note(self, key: tuple[str, int]) -> None:
        self._seen[key] = None
        if len(self._seen) > self._remembered_max:
            self._seen.popitem(last=False)
