"""Control: the desk of the control lane: calls out, requests in, and who is there.

Threads: methods without a leading ``_`` and above "the desk" are called from any thread and hand over;
the events of `ControlEvents` are called on the loop, and must only hand over in turn.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from zdl.errors import Busy, Closed, ZdlError, from_wire
from zdl.options import CallOptions
from zdl.protocol.calls import Calls, Question, Serving
from zdl.protocol.effects import (
    Abort,
    Arrived,
    CallProgressed,
    CallSettled,
    DialFailed,
    Effect,
    Handle,
    PassedOn,
    PeerBack,
    PeerDown,
    PeerStalled,
    PeerUp,
    Post,
    SubtreeDown,
    SubtreeFull,
    SubtreeUp,
    Told,
    Unreachable,
)
from zdl.protocol.messages import Body, Bounce, Cancel, Kind, Notice, Progress, Reply, Request, Routed
from zdl.protocol.subtree import Subtree
from zdl.transport.links import Incoming
from zdl.transport.loop import Loop

# So many calls under way, or requests served, at once: then others are about to be sent too.
PIPELINED_FROM = 8
Settled = Callable[[Reply | None, ZdlError | None], None]
Progressed = Callable[[Mapping[str, object]], None]


def _unseen(effect: PassedOn) -> None:
    """Nobody observes what is passed on."""


def _never() -> bool:
    """Nothing waits for a thread."""
    return False


@dataclass(frozen=True, slots=True)
class ControlEvents:
    """Whom to tell.

    Attributes:
        handle: a request or notice wants its handler to run.
        abort: the caller of the request (origin, id) waits no more.
        undelivered: a reply or notice of ours, by id, did not reach its target.
        peer_up: a link is up.
        peer_down: a link is down.
        peer_stalled: nothing comes over a link for too long, or something does again.
        unreachable: some cells cannot be reached any more.
        subtree: a cell below this one came up or went down, or there are more than are noted.
        parent_failed: the parent could not be dialled; tried again for ever.
        tick: time passed; for the pool of handlers.
        deadline: when `tick` is wanted next.
        passed_on: a message for somebody else was passed on, or could not be, once the switch tells that.
        is_busy: whether requests wait for a thread, so that one answer will soon follow the other.
    """

    handle: Callable[[Request | Notice], None]
    abort: Callable[[str, int], None]
    undelivered: Callable[[int], None]
    peer_up: Callable[[PeerUp], None]
    peer_down: Callable[[PeerDown], None]
    peer_stalled: Callable[[PeerStalled | PeerBack], None]
    unreachable: Callable[[Unreachable], None]
    subtree: Callable[[SubtreeUp | SubtreeDown | SubtreeFull], None]
    parent_failed: Callable[[ZdlError], None]
    tick: Callable[[float], None]
    deadline: Callable[[], float | None]
    passed_on: Callable[[PassedOn], None] = _unseen
    is_busy: Callable[[], bool] = _never


class Control:
    """The desk of the control lane.

    Args:
        fqcn: the cell.
        first_id: where call ids begin: a random number of 62 bits.
        options: limits.
        loop: the thread that runs this desk.
        events: whom to tell.
        subtree: who is below the cell.
    """

    def __init__(self, fqcn: str, first_id: int, options: CallOptions, loop: Loop, events: ControlEvents, *,
                 subtree: Subtree) -> None:
        self._fqcn = fqcn
        self.loop = loop
        self._events = events
        self.subtree = subtree
        self._calls = Calls(fqcn, first_id, options)
        self._serving = Serving(fqcn, options)
        self._waiting: dict[int, Settled] = {}
        self._progressed: dict[int, Progressed] = {}
        self._noticed: OrderedDict[int, Callable[[ZdlError], None]] = OrderedDict()
        self._noticed_max = options.remembered_max

    def __repr__(self) -> str:
        return f"<Control of {self._fqcn}: {len(self._calls)} calls, {len(self._serving)} served>"

    # --- from any thread ------------------------------------------------------------------------

    def call(self, question: Question, settled: Settled, progressed: Progressed | None = None) -> list[int]:
        """Send a request; `settled` is called on the loop, once, and `progressed` before, as often as the callee reports.

        Returns what `cancel` wants: the id, when it has one.
        """
        call_id: list[int] = []
        self.loop.submit(self._call, question, settled, call_id, progressed)
        return call_id

    def cancel(self, call_id: list[int], why: str) -> None:
        """Nobody waits for this call any more."""
        self._insist(self._cancel, call_id, why)

    def notice(self, target: str, channel: str, topic: str, headers: Mapping[str, object], body: Body, *,
               handed: Callable[[], None], failed: Callable[[ZdlError], None]) -> None:
        """Send a notice. The callbacks are called on the loop.

        Args:
            target: FQCN of the cell that it is for.
            channel: first half of the handler's name.
            topic: second half.
            headers: the user's own, plain values.
            body: frames of the packed object.
            handed: it has left, or has failed.
            failed: it did not arrive; maybe later.
        """
        def send() -> None:
            """On the loop."""
            now = time.monotonic()
            number = self._calls.next_id()
            self._noticed[number] = failed
            while len(self._noticed) > self._noticed_max:
                self._noticed.popitem(last=False)
            self.loop.act(self.loop.switch.send(
                Notice(self._fqcn, target, number, channel, topic, headers, body), now), now)
            self.loop.afterwards(handed)

        self.loop.submit(send)

    def post(self, message: Progress | Bounce) -> None:
        """Send a message that belongs to a request or notice of somebody else."""
        self.loop.submit(self.loop.do, lambda now: [Post(message)])

    def reply(self, reply: Reply) -> None:
        """Answer a request; a second answer is dropped."""
        self._insist(self._reply, reply)

    def dial_parent(self, address: str) -> None:
        """Connect to the parent, for ever."""
        self.loop.submit(self.loop.do, lambda now: self.loop.switch.dial_parent(address, now))

    def calls_count(self) -> int:
        """Calls that wait. Read from any thread."""
        return len(self._calls)

    def close(self) -> None:
        """Settle all calls."""
        self._insist(self.loop.do, lambda now: self._calls.close(Closed(fqcn=self._fqcn)))

    def _insist(self, function: Callable[..., None], *arguments: object) -> None:
        """Of this there is no more than there are calls, or requests that are served: a full mailbox takes it too."""
        try:
            self.loop.submit(function, *arguments)
        except Busy:
            self.loop.mailbox.insist(function, *arguments)

    # --- the desk -------------------------------------------------------------------------------

    def takes(self, header: bytes) -> bool:
        """Bodies of control messages are received as they are."""
        return False

    def incoming(self, message: Incoming | None) -> None:
        """Not used: see `takes`."""

    def tick(self, now: float) -> Iterable[Effect]:
        """Time passed."""
        self._events.tick(now)
        return [*self._calls.tick(now), *self.subtree.tick(now)]

    def deadline(self) -> float | None:
        """When `tick` is wanted next."""
        one, other = self._calls.deadline(), self._events.deadline()
        first = other if one is None else one if other is None else min(one, other)
        due = self.subtree.due
        return first if due is None else due if first is None else min(first, due)

    def is_pipelined(self) -> bool:
        """Many calls are under way, or many requests are served, or some wait to be."""
        return len(self._waiting) >= PIPELINED_FROM or len(self._serving.running) >= PIPELINED_FROM or self._events.is_busy()

    def perform(self, effect: Effect, now: float) -> Iterable[Effect]:
        """The effects that are not about links."""
        if type(effect) is Arrived:
            message = effect.message
            return self._calls.receive(message, now) if type(message) is Reply else self._arrived(message, now)
        if type(effect) is CallSettled:
            if self._progressed:
                self._progressed.pop(effect.id, None)
            self.loop.afterwards(self._waiting.pop(effect.id), effect.reply, effect.error)
        elif type(effect) is Handle:
            self.loop.afterwards(self._events.handle, effect.message)
        else:
            return self._perform_rarely(effect, now)
        return []

    # --- inside ---------------------------------------------------------------------------------

    def _arrived(self, message: Routed, now: float) -> Iterable[Effect]:
        if type(message) is Request or type(message) is Notice:
            return self._serving.receive(message, now)
        if isinstance(message, Cancel):
            # One that comes after the answer concerns what the answer lends.
            return self._serving.receive(message, now) or [Abort(message.origin, message.id)]
        if isinstance(message, Bounce):
            if message.of_kind in (Kind.REPLY, Kind.NOTICE):
                self._events.undelivered(message.id)
                failed = self._noticed.pop(message.id, None) if message.of_kind == Kind.NOTICE else None
                if failed is not None:
                    self.loop.afterwards(failed, from_wire(message.code, dict(message.facts), at=message.origin))
                return []
            return self._calls.receive(message, now)
        if isinstance(message, Progress):
            return self._calls.receive(message, now)
        return []

    def _perform_rarely(self, effect: Effect, now: float) -> Iterable[Effect]:
        match effect:
            case Abort(origin=origin, id=number):
                self.loop.afterwards(self._events.abort, origin, number)  # after the handler that it is for
            case CallProgressed(id=number, facts=facts):
                progressed = self._progressed.get(number)
                if progressed is not None:
                    self.loop.afterwards(progressed, facts)
            case PassedOn():
                self.loop.afterwards(self._events.passed_on, effect)
            case Unreachable():
                self._events.unreachable(effect)
                return [*self._calls.receive(effect, now), *self._serving.receive_loss(effect)]
            case PeerStalled() | PeerBack():
                self._events.peer_stalled(effect)
                return self._calls.watch(effect, now)
            case PeerUp():
                self._events.peer_up(effect)
                return self.subtree.peer_up(effect, now)
            case PeerDown():
                self._events.peer_down(effect)
                return [*self._calls.watch(effect, now), *self.subtree.peer_down(effect, now)]
            case Told(link=link, message=below):
                return self.subtree.receive(link, below, now)
            case SubtreeUp() | SubtreeDown() | SubtreeFull():
                self.loop.afterwards(self._events.subtree, effect)
            case DialFailed(error=error):
                self._events.parent_failed(error)
        return []

    def _call(self, question: Question, settled: Settled, call_id: list[int], progressed: Progressed | None) -> None:
        now = time.monotonic()
        try:
            number, effects = self._calls.start(question, now)
        except ZdlError as error:
            self.loop.afterwards(settled, None, error)
            return
        call_id.append(number)
        self._waiting[number] = settled
        if progressed is not None:
            self._progressed[number] = progressed
        self.loop.act(effects, now)

    def _cancel(self, call_id: list[int], why: str) -> None:
        if call_id:
            self.loop.do(lambda now: self._calls.cancel(call_id[0], why, now))

    def _reply(self, reply: Reply) -> None:
        if self._serving.answered(reply.target, reply.id):
            now = time.monotonic()
            self.loop.act(self.loop.switch.send(reply, now), now)
            self._serving.keep(reply)  # last: who waits for it does not wait for this
