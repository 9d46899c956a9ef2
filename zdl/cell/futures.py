"""Futures: what one call may choose, and the future that stands for its reply."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import field, replace
from types import MappingProxyType
from typing import Protocol

from zdl.cell.handlers import Owed, Pool
from zdl.cell.lending import NOTHING, Lending, Lent
from zdl.cell.messages import Reply
from zdl.cell.service import Resolving, Scope
from zdl.cell.signal import Signal
from zdl.cell.waiting import LOOK_S
from zdl.cell.workflow import Workflow
from zdl.errors import Closed, ZdlError
from zdl.protocol import messages as wire
from zdl.protocol.hot import hot_value
from zdl.transport.control import Control
from zdl.transport.lead import FOREVER

# "As the cell's options say": None means for ever, so it cannot mean that.
DEFAULT_S = -1.0
NO_HEADERS: Mapping[str, object] = MappingProxyType({})
OnProgress = Callable[[Mapping[str, object]], object]


@hot_value
class Sending:
    """What one call may choose.

    Attributes:
        timeout_s: how long to wait; None for ever; `DEFAULT_S` as the options say.
        headers: plain values for the handler.
        abort: ends the wait when triggered.
        resolve: whether refs in the reply are pulled before it is returned.
        receivers: who pulls what the body lends, by name, or how many different cells.
        trace: whether the reply says which way it and the request came.
        optional: a failure is expected, and logged for debugging only.
        on_progress: is told, on the handler pool, what the handler reports of its progress.
        lending: how the body is packed and lent; None: as the cell's options say.
        workflow: what the message belongs to.
    """

    timeout_s: float | None = DEFAULT_S
    headers: Mapping[str, object] = field(default_factory=lambda: NO_HEADERS)
    abort: Signal | None = None
    resolve: Resolving = True
    receivers: Sequence[str] | int = 1
    trace: bool = False
    optional: bool = False
    on_progress: OnProgress | None = None
    lending: Lending | None = None
    workflow: Workflow | None = None


class Finisher(Protocol):
    """Whose call it is: turns what came into what users see."""

    def finish(self, reply: wire.Reply | None, error: ZdlError | None, scope: Scope | None, *,
               is_optional: bool = False) -> Reply:
        """The reply; raises the error if that is what came."""

    def resolve_for(self, future: concurrent.futures.Future[Reply], reply: Reply, sending: Sending,
                    until: float | None) -> None:
        """Settle the future with the reply when its refs are resolved."""


class CallFuture(concurrent.futures.Future[Reply]):
    """The future of a call. Its callbacks are users' code, so they run on the handler pool, never on a loop.

    Who waits for its result polls for it himself if nobody else does.

    Attributes:
        call: the id of the call, when it has one.
        reply: the result, when it is there: looking here takes a tenth of the time that asking the future does.

    Args:
        finisher: whose call it is.
        pool: where callbacks run; they are called by who settles it when that is full or closed, and by who closes it
            when it does not come to them before.
        control: the lane that settles it.
    """

    def __init__(self, finisher: Finisher, pool: Pool, control: Control) -> None:
        super().__init__()
        self._finisher = finisher
        self._pool = pool
        self._control = control
        self._lead = control.loop.lead
        self._sending: Sending | None = None
        self._until: float | None = None
        self._scope: Scope | None = None
        self._pulling: Signal | None = None
        self.call: list[int] = []
        self.reply: Reply | None = None

    def begin(self, sending: Sending, timeout_s: float | None, scope: Scope | None) -> None:
        """The call that will settle it begins."""
        self._sending = sending
        self._until = None if timeout_s is None else time.monotonic() + timeout_s
        self._scope = scope

    def begin_behind(self, inner: CallFuture) -> None:
        """Another future's call brings what this one will be settled with."""
        self._scope = inner._scope

    @property
    def lent(self) -> Lent:
        """What the request has lent."""
        transaction = None if self._scope is None else self._scope.transaction
        return NOTHING if transaction is None else Lent([transaction])

    def settled(self, answer: wire.Reply | None, error: ZdlError | None) -> None:
        """On the loop: the end of the call. The reply is finished there if nothing has to be pulled for it."""
        sending = self._sending
        assert sending is not None
        try:
            reply = self._finisher.finish(answer, error, self._scope, is_optional=sending.optional)
            if sending.resolve and reply.has_refs:
                self._pulling = Signal(sending.abort)
                pulling = replace(sending, abort=self._pulling)
                self._pool.submit(Owed(lambda: self._finisher.resolve_for(self, reply, pulling, self._until),
                                       lambda problem: settle(self, error=problem)))
                return
        except ZdlError as problem:
            settle(self, error=problem)
            return
        settle(self, reply=reply)

    def wake(self) -> None:
        """Another thread than the one that polls has settled it: who polls may be waiting for just this."""
        if self._lead.is_taken and not self._control.loop.is_current():
            self._control.loop.wake()

    def cancel(self) -> bool:
        """Nobody wants the reply: the call is cancelled, and what is pulled for it."""
        if not super().cancel():
            return False
        if self._pulling is not None:
            self._pulling.trigger("its future was cancelled")
        with suppress(Closed):  # then nobody is called any more
            self._control.cancel(self.call, "its future was cancelled")
        return True

    def result(self, timeout: float | None = None) -> Reply:
        """The reply; raises the call's error, or `TimeoutError` when it has not come within `timeout` seconds."""
        if self.reply is not None:
            return self.reply
        self._await(timeout)
        try:
            return super().result(0.0)
        finally:
            del self  # the error's traceback holds this frame, and the future holds the error

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The call's error, or None if there is a reply; raises `TimeoutError` like `result`."""
        self._await(timeout)
        return super().exception(0.0)

    def _await(self, timeout: float | None) -> None:
        """Until it is done, or the time is over."""
        until = FOREVER if timeout is None else time.monotonic() + timeout
        while not self.done() and not self._lead.take(self.done, until):
            left = until - time.monotonic()
            if left <= 0 or self._lead.sleep_on(self._sleep, min(left, LOOK_S)):
                return

    def _sleep(self, slice_s: float) -> bool:
        try:
            super().exception(slice_s)
        except TimeoutError:
            return False
        except concurrent.futures.CancelledError:
            return True
        return True

    def add_done_callback(self, fn: Callable[[concurrent.futures.Future[Reply]], object]) -> None:
        """Have it called with this future soon after it is done."""
        pool = self._pool  # not the future itself, which keeps the callback: the reply would live until cycles are collected
        super().add_done_callback(lambda done: _hand_over(pool, lambda: _do(lambda: fn(done)), lambda closed: fn(done)))

    def when_done(self, job: Callable[[concurrent.futures.Future[Reply]], object], reject: Callable[[ZdlError], object]) -> None:
        """Have a job run on the pool soon after it is done; `reject` hears why it never will be."""
        pool = self._pool
        super().add_done_callback(lambda done: _hand_over(pool, lambda: _do(lambda: job(done)), reject))


class BareFuture(CallFuture):
    """One whose callbacks run where it is settled."""

    def add_done_callback(self, fn: Callable[[concurrent.futures.Future[Reply]], object]) -> None:
        """Have it called with this future as soon as it is done, by the thread that settles it."""
        concurrent.futures.Future.add_done_callback(self, fn)


def _do(job: Callable[[], object]) -> None:
    job()


def _hand_over(pool: Pool, job: Callable[[], None], reject: Callable[[ZdlError], object]) -> None:
    try:
        pool.submit(Owed(job, reject))
    except ZdlError as error:
        reject(error)


def settle(future: concurrent.futures.Future[Reply], *, reply: Reply | None = None, error: ZdlError | None = None) -> None:
    """Set the result, unless the owner has cancelled it."""
    try:
        if error is not None:
            future.set_exception(error)
        elif reply is not None:
            future.set_result(reply)
    except concurrent.futures.InvalidStateError:
        future.set_running_or_notify_cancel()  # who waits for several hears that this one was cancelled
        return
    if isinstance(future, CallFuture):
        future.reply = reply
        future.wake()
