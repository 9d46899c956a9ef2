"""Fan: one stream of objects to many cells: packed once, each at its own pace, and answers put together again.

The fastest receiver decides how fast objects are made: there must be room for it. One that lags paces nobody until so much waits
for it as `backlog_bytes_max` holds; what becomes of it then is decided in `zdl.protocol.lag`. Where `ahead_max` is given, the
slowest decides instead: no more than so many objects are made ahead of its replies.

Threads: one at a time feeds a fan; replies come on the lane and are only noted there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from zdl.cell.service import Scope
from zdl.cell.workflow import Workflow
from zdl.errors import StreamError, ZdlError
from zdl.protocol.lag import Lag
from zdl.protocol.messages import Body
from zdl.streaming.outbox import Outbox
from zdl.streaming.outflow import LOOK_S, Outflow, Replied
from zdl.streaming.packer import Packer

OpenFlow = Callable[[str, Replied], Outflow]


class Fan:
    """One stream to these cells.

    Args:
        targets: to whom.
        open_flow: begins the stream to one of them; what it raises is what that one has ended with.
        outbox: what is put for all of them; it has the condition that guards the flows, and what is noted about them here.
        packer: packs objects, unpacks replies.
        lag: how far a slow one may be behind.
        wants_replies: whether anybody takes the answers; else they are only counted.
        workflow: what the stream belongs to.
    """

    def __init__(self, targets: Sequence[str], open_flow: OpenFlow, outbox: Outbox, packer: Packer, lag: Lag, *,
                 wants_replies: bool = True, workflow: Workflow | None = None) -> None:
        self._targets = targets
        self._packer = packer
        self._lag = lag
        self._outbox = outbox
        self.changed = outbox.changed
        self._replies: dict[str, deque[Body]] = {target: deque() for target in targets}
        self._scopes: dict[int, Scope] = {}
        self._errors: dict[str, ZdlError] = {}
        self._flows: dict[str, Outflow] = {}
        self._is_aborted = False
        self._wants_replies = wants_replies
        self._workflow = workflow
        self._answered = 0
        self.put_count = 0
        self._live: list[Outflow] = []
        self._live_names: list[str] = []
        self._room_bytes = 0
        self._bound_bytes = 0
        for target in targets:
            try:
                flow = open_flow(target, partial(self._replied, target))
                with self.changed:
                    self._flows[target] = flow
            except ZdlError as error:
                self._errors[target] = error
        with self.changed:
            self._look()

    def __repr__(self) -> str:
        return f"<Fan to {len(self._targets)} cells: {self.put_count} objects, {self.answered} answered>"

    @property
    def live(self) -> list[Outflow]:
        """The streams that have not ended, as far as was told."""
        return self._live

    @property
    def answered(self) -> int:
        """Objects below this are answered by all."""
        if self._wants_replies:
            return self._answered
        return min((flow.consumed for flow in self.live), default=self.put_count)

    def error_of(self, target: str) -> ZdlError | None:
        """What the stream to one of them has ended with."""
        flow = self._flows.get(target)
        return self._errors[target] if flow is None else flow.error

    def may_put(self, ahead_max: int | None) -> bool:
        """Whether one more object may be made."""
        live, bytes_put = self.live, self._outbox.bytes_put
        if ahead_max is None:  # most often there is room, as was seen when a receiver last went on
            return bytes_put < self._room_bytes or not live or (
                bytes_put < self._bound_bytes and any(flow.has_room for flow in live))
        return all(flow.has_room for flow in live) and self.put_count - self.answered < ahead_max

    def put(self, obj: object, timeout_s: float | None) -> None:
        """One more object, to all that are left.

        Raises:
            CannotPack, TooLarge: it cannot travel.
        """
        flows = self.live
        parts, scope = self._packer.pack(obj, self._live_names, self._workflow)
        if scope is not None:
            self._scopes[self.put_count] = scope
            if not self._wants_replies:
                self._let_go(flows)
        self.put_count += 1
        size = flows[0].checked(parts) if flows else 0
        if flows:
            self._outbox.put(parts, size, timeout_s)

    def has_answer(self) -> bool:
        """Whether all have answered the next object, or have ended."""
        if not self._wants_replies or self._answered == self.put_count:
            return False
        return all(self._replies[target] or self._is_over(target) for target in self._targets)

    def take_answer(self) -> Mapping[str, object]:
        """The replies to the next object; where a stream has failed, its error."""
        with self.changed:
            found = {target: self._replies[target].popleft() if self._replies[target] else None for target in self._targets}
        number = self._answered
        self._answered += 1
        scope = self._scopes.pop(number, None)
        if scope is not None:
            for target, parts in found.items():
                if parts is None:
                    scope.miss(target)
        return {target: self.error_of(target) if parts is None else self._unpacked(parts) for target, parts in found.items()}

    def wait(self, is_done: Callable[[], bool]) -> None:
        """Until something is so that receivers bring about, or somebody aborts."""
        with self.changed:
            while not is_done() and not self._is_aborted:
                self.changed.wait(LOOK_S)

    def abort(self) -> None:
        """Whoever waits does so no more."""
        with self.changed:
            self._is_aborted = True
            self.changed.notify_all()

    @property
    def is_aborted(self) -> bool:
        """Whether somebody does not want it any more."""
        return self._is_aborted

    def finish(self) -> None:
        """No more objects."""
        for flow in self.live:
            flow.finish()

    def fail(self, error: ZdlError) -> None:
        """Break off; what was lent and not answered is not lent any more."""
        for flow in self.live:
            flow.fail(error)
        for scope in self._scopes.values():
            scope.undeliverable()
        self._scopes.clear()

    def results(self) -> dict[str, object]:
        """By target: what its `stream_done_cb` returned, or the error of the stream."""
        return {target: error if (error := self.error_of(target)) is not None else self._unpacked(self._flows[target].result)
                for target in self._targets}

    # --- inside ---------------------------------------------------------------------------------

    def _look(self) -> None:
        """With the lock: who is left, how far the one may go that is ahead, and how far for the one that is behind."""
        self._live = [flow for flow in self._flows.values() if not flow.has_ended]
        self._live_names = [flow.target for flow in self._live]
        if self._live:
            self._bound_bytes = self._lag.room_bytes(flow.bytes_consumed for flow in self._live)
            self._room_bytes = min(max(flow.room_bytes for flow in self._live), self._bound_bytes)

    def _is_over(self, target: str) -> bool:
        flow = self._flows.get(target)
        return flow is None or flow.has_ended

    def _unpacked(self, parts: Body) -> object:
        try:
            return self._packer.resolve(self._packer.unpack(parts)) if parts else None
        except ZdlError as error:
            return StreamError(what=f"a reply cannot be taken in: {error}")

    def _let_go(self, flows: list[Outflow]) -> None:
        """Of what was lent with objects that all have consumed: it is theirs now, or ends with its lease."""
        answered = min((flow.consumed for flow in flows), default=self.put_count)
        for number in [each for each in self._scopes if each < answered]:
            del self._scopes[number]

    def _replied(self, target: str, first: int, replies: tuple[Body, ...]) -> None:
        with self.changed:
            if self._wants_replies:
                self._replies[target] += replies
            self._look()
            self.changed.notify_all()
