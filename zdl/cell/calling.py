"""Calling: the way of a request from the user's thread out, and of its reply back in.

The body is packed and unpacked on the user's thread; the loop only carries frames. What the body
lends is opened after packing and before sending, and ends at once when the request cannot be delivered.
"""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from zdl.cell.handlers import Pool
from zdl.cell.messages import REFS_HEADER, Answer, Reply
from zdl.cell.service import Lender, Scope
from zdl.cell.signal import Signal
from zdl.cell.waiting import Waiter
from zdl.errors import Busy, Closed, NoRoute, OptionError, Refused, TooLarge, ZdlError
from zdl.fqcn import parse
from zdl.objects.pack import pack
from zdl.options import Options
from zdl.protocol import messages as wire
from zdl.protocol.calls import Question
from zdl.protocol.messages import Body
from zdl.transport.control import Control

# "As the cell's options say": None means for ever, so it cannot mean that.
DEFAULT_S = -1.0
NO_HEADERS: Mapping[str, object] = MappingProxyType({})
# Errors that say that the request never reached its handler.
_NOT_DELIVERED = (NoRoute, Busy, Refused, TooLarge, Closed)


@dataclass(frozen=True, slots=True)
class Sending:
    """What one call may choose.

    Attributes:
        timeout_s: how long to wait; None for ever; `DEFAULT_S` as the options say.
        headers: plain values for the handler.
        abort: ends the wait when triggered.
        resolve: whether refs in the reply are pulled before it is returned.
        receivers: who pulls what the body lends, by name, or how many different cells.
    """

    timeout_s: float | None = DEFAULT_S
    headers: Mapping[str, object] = field(default_factory=lambda: NO_HEADERS)
    abort: Signal | None = None
    resolve: bool = True
    receivers: Sequence[str] | int = 1


class Caller:
    """The calling side of one cell.

    Args:
        fqcn: the cell.
        options: its options.
        control: its control lane.
        pool: where replies whose refs must be resolved are finished for futures.
        is_alive: whether the control loop still runs.
    """

    def __init__(self, fqcn: str, options: Options, control: Control, pool: Pool, is_alive: Callable[[], bool]) -> None:
        self._fqcn = fqcn
        self._options = options
        self._control = control
        self._pool = pool
        self._is_alive = is_alive
        self._lender: Lender | None = None
        self._scopes: dict[int, Scope] = {}

    def use_lender(self, lender: Lender) -> None:
        """What is too large for a message is lent by this service."""
        self._lender = lender

    # --- requests -------------------------------------------------------------------------------

    def request(self, target: str, channel: str, topic: str, body: object, sending: Sending) -> Reply:
        """Send and wait; see `BareCell.request`."""
        timeout_s = self._timeout_s(sending)
        until = None if timeout_s is None else time.monotonic() + timeout_s
        waiter: Waiter[tuple[wire.Reply | None, ZdlError | None]] = Waiter()
        packed, scope = self.pack(body, sending.receivers)
        question = Question(parse(target), channel, topic, packed, timeout_s, self.headers(sending.headers, scope))
        cancel = self._control.call(question, lambda reply, error: waiter.settle((reply, error)))
        unlink = None if sending.abort is None else _cancel_on(sending.abort, cancel)
        settled = waiter.wait(self._is_alive)
        if unlink is not None:
            unlink()
        if settled is None:
            raise Closed(fqcn=self._fqcn)
        reply = self._finish(*settled, scope)
        if sending.resolve and reply.has_refs and self._lender is not None:
            left = None if until is None else max(0.001, until - time.monotonic())
            lender = self._lender
            return reply.with_body(lambda packed_body: lender.resolve(packed_body, left))
        return reply

    def request_future(self, target: str, channel: str, topic: str, body: object,
                       sending: Sending) -> concurrent.futures.Future[Reply]:
        """Send; the future has the reply. Cancelling it cancels the call."""
        future: concurrent.futures.Future[Reply] = concurrent.futures.Future()
        packed, scope = self.pack(body, sending.receivers)
        question = Question(parse(target), channel, topic, packed, self._timeout_s(sending),
                            self.headers(sending.headers, scope))

        def settled(answer: wire.Reply | None, error: ZdlError | None) -> None:
            try:
                reply = self._finish(answer, error, scope)
                if sending.resolve and reply.has_refs and self._lender is not None:
                    self._pool.submit(lambda: self._resolve_for(future, reply))
                    return
            except ZdlError as problem:
                _settle(future, error=problem)
                return
            _settle(future, reply=reply)

        cancel = self._control.call(question, settled)
        if sending.abort is not None:
            future.add_done_callback(_forget(_cancel_on(sending.abort, cancel)))
        future.add_done_callback(lambda done: cancel("its future was cancelled") if done.cancelled() else None)
        return future

    def broadcast(self, bodies: Mapping[str, object], channel: str, topic: str, sending: Sending) -> dict[str, Answer]:
        """One request per target; every target has an answer when it returns. A body that is shared is packed once."""
        waiters: dict[str, Waiter[tuple[wire.Reply | None, ZdlError | None]]] = {}
        cancels: list[Callable[[str], None]] = []
        scopes: dict[str, Scope | None] = {}
        packed: dict[int, tuple[Body, Scope | None]] = {}
        shared = {id(body): [name for name, other in bodies.items() if other is body] for body in bodies.values()}
        for target, body in bodies.items():
            if id(body) not in packed:
                packed[id(body)] = self.pack(body, _audience(sending.receivers, len(shared[id(body)])))
            parts, scope = packed[id(body)]
            waiter = waiters[target] = Waiter()
            scopes[target] = scope if len(shared[id(body)]) == 1 else None
            question = Question(parse(target), channel, topic, parts, self._timeout_s(sending),
                                self.headers(sending.headers, scope))
            cancels.append(self._control.call(question, _settling(waiter)))
        unlinks = [] if sending.abort is None else [_cancel_on(sending.abort, cancel) for cancel in cancels]
        answers = {target: self._answer(target, waiter, scopes[target], sending) for target, waiter in waiters.items()}
        for unlink in unlinks:
            unlink()
        return answers

    def notice(self, target: str, channel: str, topic: str, body: object, sending: Sending) -> None:
        """Send without waiting; what the body lends ends when it cannot be delivered."""
        parts, scope = self.pack(body, sending.receivers)
        self._control.notice(parse(target), channel, topic, self.headers(sending.headers, scope), parts,
                             lambda number: self.remember(number, scope))

    # --- what a message lends -------------------------------------------------------------------

    def pack(self, body: object, receivers: Sequence[str] | int) -> tuple[Body, Scope | None]:
        """The frames of a body, and what it lends."""
        if self._lender is None:
            return pack(body, options=self._options.packing).parts, None
        scope = self._lender.scope(receivers)
        packed = pack(body, options=self._options.packing, lend=scope.lend)
        return packed.parts, scope if packed.has_refs else None  # a scope that lent nothing has nothing to end

    def headers(self, headers: Mapping[str, object], scope: Scope | None) -> Mapping[str, object]:
        """The user's headers, and the mark that says that there are refs in the body."""
        for name, value in headers.items():
            if type(name) is not str or type(value) not in (str, int, float, bool, bytes, type(None)):
                raise OptionError(name="headers", value=f"{name!r}: {type(value).__name__}", allowed="plain values by name")
        return headers if scope is None else {**headers, REFS_HEADER: True}

    def remember(self, number: int, scope: Scope | None) -> None:
        """A reply or notice with this id lends something, should it not arrive."""
        if scope is not None:
            self._scopes[number] = scope
            while len(self._scopes) > self._options.calls.remembered_max:
                del self._scopes[next(iter(self._scopes))]

    def undelivered(self, number: int) -> None:
        """The reply or notice with this id did not arrive."""
        scope = self._scopes.pop(number, None)
        if scope is not None:
            scope.undeliverable()

    # --- inside ---------------------------------------------------------------------------------

    def _timeout_s(self, sending: Sending) -> float | None:
        if sending.timeout_s == DEFAULT_S:
            return self._options.calls.timeout_s
        if sending.timeout_s is not None and not sending.timeout_s > 0:
            raise OptionError(name="timeout_s", value=str(sending.timeout_s), allowed="seconds above 0, or None for ever")
        return sending.timeout_s

    def _finish(self, reply: wire.Reply | None, error: ZdlError | None, scope: Scope | None) -> Reply:
        if error is not None:
            if scope is not None and isinstance(error, _NOT_DELIVERED):
                scope.undeliverable()
            raise error
        assert reply is not None
        return Reply(reply.origin, reply.headers, reply.hops, reply.body, self._options.packing)

    def _resolve_for(self, future: concurrent.futures.Future[Reply], reply: Reply) -> None:
        assert self._lender is not None
        try:
            finished = reply.with_body(self._lender.resolve)
        except ZdlError as error:
            _settle(future, error=error)
            return
        _settle(future, reply=finished)

    def _answer(self, target: str, waiter: Waiter[tuple[wire.Reply | None, ZdlError | None]], scope: Scope | None,
                sending: Sending) -> Answer:
        settled = waiter.wait(self._is_alive) or (None, Closed(fqcn=self._fqcn))
        try:
            reply = self._finish(*settled, scope)
            if sending.resolve and reply.has_refs and self._lender is not None:
                reply = reply.with_body(self._lender.resolve)
        except ZdlError as error:
            return Answer(target, None, error)
        return Answer(target, reply, None)


def _audience(receivers: Sequence[str] | int, targets_count: int) -> Sequence[str] | int:
    """One body to several targets is lent to as many receivers, unless the caller named them."""
    return max(receivers, targets_count) if isinstance(receivers, int) else receivers


def _settling(waiter: Waiter[tuple[wire.Reply | None, ZdlError | None]]) -> Callable[[wire.Reply | None, ZdlError | None], None]:
    return lambda reply, error: waiter.settle((reply, error))


def _cancel_on(abort: Signal, cancel: Callable[[str], None]) -> Callable[[], None]:
    return abort.on_trigger(lambda: cancel(f"its signal was triggered with {abort.value!r}"))


def _forget(unlink: Callable[[], None]) -> Callable[[object], None]:
    return lambda _: unlink()


def _settle(future: concurrent.futures.Future[Reply], *, reply: Reply | None = None, error: ZdlError | None = None) -> None:
    """Set the result, unless the owner has cancelled it."""
    if not future.set_running_or_notify_cancel():
        return
    if error is not None:
        future.set_exception(error)
    elif reply is not None:
        future.set_result(reply)
