"""Calling: the way of a request from the user's thread out, and of its reply back in.

The body is packed and unpacked on the user's thread; the loop only carries frames. What the body
lends is opened after packing and before sending, and ends at once when the request cannot be delivered.
"""

from __future__ import annotations

import concurrent.futures
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from zdl.cell.futures import DEFAULT_S, NO_HEADERS, BareFuture, CallFuture, Sending, settle
from zdl.cell.handlers import Pool
from zdl.cell.messages import REFS_HEADER, Answer, Reply
from zdl.cell.service import Lender, Scope
from zdl.cell.signal import Signal
from zdl.cell.waiting import CallWaiter
from zdl.errors import Cancelled, Closed, OptionError, PeerLost, RemoteError, TimedOut, ZdlError
from zdl.fqcn import parse
from zdl.objects.manifest import Manifest
from zdl.objects.pack import Lent, pack, pack_plain
from zdl.options import Options
from zdl.protocol import messages as wire
from zdl.protocol.calls import Question
from zdl.protocol.frames import CHANNEL_BYTES_MAX, HEADERS_MAX
from zdl.protocol.messages import Body
from zdl.refs import Source
from zdl.transport.control import Control, Settled

TARGETS_MAX = 4096
# What is left of a timeout is at least this: refs may be pulled already when nobody would wait any more.
LEAST_S = 0.001
# Ten years; the wire takes no more.
TIMEOUT_S_MAX = 10.0 * 365 * 86400
INT_MIN, INT_MAX = -(1 << 63), (1 << 64) - 1
# Errors after which the handler may have run all the same. After any other error it did not: what the request lent ends.
_MAYBE_DELIVERED = (RemoteError, TimedOut, Cancelled, PeerLost)
_Settled = tuple[wire.Reply | None, ZdlError | None]


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
        self._lead = control.loop.lead
        self._pool = pool
        self._is_alive = is_alive
        self._lender: Lender | None = None
        self._scopes: dict[int, Scope] = {}
        self._targets: dict[str, str] = {}
        self._names: set[tuple[str, str]] = set()

    def use_lender(self, lender: Lender) -> None:
        """What is too large for a message is lent by this service."""
        self._lender = lender

    # --- requests -------------------------------------------------------------------------------

    def request(self, target: str, channel: str, topic: str, body: object, sending: Sending) -> Reply:
        """Send and wait; see `BareCell.request`."""
        question, scope = self._question(target, channel, topic, body, sending)
        until = None if question.timeout_s is None else time.monotonic() + question.timeout_s
        waiter = CallWaiter()
        call = self._call(question, scope, waiter.settled)
        unlink = None if sending.abort is None else self._cancel_on(sending.abort, call)
        settled: _Settled | None = None
        try:
            settled = waiter.wait(self._lead, self._is_alive)
        finally:
            if unlink is not None:
                unlink()
            if settled is None:  # the thread that waits was interrupted, or the cell is closed
                self._control.cancel(call, "nobody waits for it")
        if settled is None:
            raise Closed(fqcn=self._fqcn)
        reply = self.finish(*settled, scope)
        return self._resolved(reply, sending, until) if sending.resolve and reply.has_refs else reply

    def future(self, *, is_bare: bool = False) -> CallFuture:
        """What `request_future` will settle; a bare one calls back where it is settled."""
        return (BareFuture if is_bare else CallFuture)(self, self._pool, self._control)

    def request_future(self, target: str, channel: str, topic: str, body: object, sending: Sending, *,
                       future: CallFuture) -> None:
        """Send; `future` gets the reply or the error. Cancelling it cancels the call."""
        question, scope = self._question(target, channel, topic, body, sending)
        future.begin(sending, question.timeout_s, scope)
        call = self._call(question, scope, future.settled)
        future.call = call
        if sending.abort is not None:
            unlink = self._cancel_on(sending.abort, call)
            concurrent.futures.Future.add_done_callback(future, lambda ended: unlink())

    def broadcast(self, bodies: Mapping[str, object], channel: str, topic: str, sending: Sending) -> dict[str, Answer]:
        """One request per target; every target has an answer when it returns. A body that is shared is packed once."""
        timeout_s = self._timeout_s(sending)
        until = None if timeout_s is None else time.monotonic() + timeout_s
        names = {target: self._target(target) for target in bodies}
        check_names(channel, topic)
        check_headers(sending.headers)
        sharing = Counter(map(id, bodies.values()))
        packed: dict[int, tuple[Body, Scope | None, bool]] = {}
        waiting: dict[str, tuple[CallWaiter, Scope | None, Callable[[], None]]] = {}
        for target, body in bodies.items():
            count = sharing[id(body)]
            if id(body) not in packed:
                packed[id(body)] = self.pack(body, _audience(sending.receivers, count))
            parts, scope, has_refs = packed[id(body)]
            question = Question(names[target], channel, topic, parts, timeout_s, self.headers(sending.headers, has_refs))
            waiter = CallWaiter()
            own = scope if count == 1 else None  # what others have too does not end with this one
            call = self._call(question, own, waiter.settled)
            waiting[target] = waiter, own, self._cancel_on(sending.abort, call)
        answers = {target: self._answer(target, waiter, own, sending, until) for target, (waiter, own, _) in waiting.items()}
        for _, _, unlink in waiting.values():
            unlink()
        wanted = {id(bodies[target]) for target, each in answers.items()
                  if each.error is None or isinstance(each.error, _MAYBE_DELIVERED)}
        for key, (_, scope, _) in packed.items():
            if key not in wanted:  # a shared body that reached nobody
                _end(scope)
        return answers

    def notice(self, target: str, channel: str, topic: str, body: object, sending: Sending) -> None:
        """Send without waiting; what the body lends ends when it cannot be delivered."""
        question, scope = self._question(target, channel, topic, body, sending)
        try:
            self._control.notice(question.target, channel, topic, question.headers, question.body,
                                 told=lambda number: self.remember(number, scope))
        except ZdlError:
            _end(scope)
            raise

    # --- what a message lends -------------------------------------------------------------------

    def pack(self, body: object, receivers: Sequence[str] | int) -> tuple[Body, Scope | None, bool]:
        """The frames of a body, and what it lends; a body that lends nothing has no scope to end."""
        packing = self._options.packing
        plain = pack_plain(body, options=packing)
        if plain is not None:
            return plain, None, False
        lender = self._lender
        if lender is None:
            return pack(body, options=packing).parts, None, False
        scopes: list[Scope] = []

        def lend(manifest: Manifest, lent: Sequence[Lent]) -> Source:
            scopes.append(lender.scope(receivers))
            return scopes[0].lend(manifest, lent)

        packed = pack(body, options=packing, lend=lend)
        return packed.parts, scopes[0] if scopes else None, packed.has_refs

    def headers(self, headers: Mapping[str, object], has_refs: bool) -> Mapping[str, object]:
        """The user's headers, and the mark that says that there are refs in the body."""
        return {**headers, REFS_HEADER: True} if has_refs else headers

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

    def _question(self, target: str, channel: str, topic: str, body: object,
                  sending: Sending) -> tuple[Question, Scope | None]:
        """All that may be wrong with a call is found before anything is lent for it."""
        name = self._targets.get(target) or self._target(target)
        try:
            is_known = (channel, topic) in self._names
        except TypeError:  # something that cannot even be looked for
            is_known = False
        if not is_known:
            self._check_names(channel, topic)
        headers = sending.headers
        if headers is not NO_HEADERS:
            check_headers(headers)
        timeout_s = self._timeout_s(sending)
        parts, scope, has_refs = self.pack(body, sending.receivers)
        return Question(name, channel, topic, parts, timeout_s, self.headers(headers, has_refs) if has_refs else headers), scope

    def _check_names(self, channel: str, topic: str) -> None:
        """Names that were used before are known to be good."""
        check_names(channel, topic)
        if len(self._names) >= TARGETS_MAX:
            self._names.clear()
        self._names.add((channel, topic))

    def _cancel_on(self, abort: Signal | None, call: list[int]) -> Callable[[], None]:
        """Cancels when the signal is triggered. Returns what takes that back."""
        if abort is None:
            return _nothing
        return abort.on_trigger(lambda: self._control.cancel(call, f"its signal was triggered with {abort.value!r}"))

    def _call(self, question: Question, scope: Scope | None, settled: Settled) -> list[int]:
        try:
            return self._control.call(question, settled)
        except ZdlError:
            _end(scope)
            raise

    def _timeout_s(self, sending: Sending) -> float | None:
        if sending.timeout_s == DEFAULT_S:
            return self._options.calls.timeout_s
        if sending.timeout_s is not None and not 0 < sending.timeout_s <= TIMEOUT_S_MAX:
            raise OptionError(name="timeout_s", value=str(sending.timeout_s),
                              allowed=f"seconds above 0 and up to {TIMEOUT_S_MAX:.0f}, or None for ever")
        return sending.timeout_s

    def finish(self, reply: wire.Reply | None, error: ZdlError | None, scope: Scope | None) -> Reply:
        """The reply as users see it; raises the error if that is what came."""
        if error is not None:
            if not isinstance(error, _MAYBE_DELIVERED):
                _end(scope)
            raise error
        assert reply is not None
        return Reply(reply.origin, reply.headers, reply.hops, reply.body, self._options.packing)

    def _resolved(self, reply: Reply, sending: Sending, until: float | None) -> Reply:
        """The reply with objects in place of its refs, if that is wanted, within the time that is left."""
        lender = self._lender
        if lender is None or not sending.resolve or not reply.has_refs:
            return reply
        left = None if until is None else max(LEAST_S, until - time.monotonic())
        return reply.with_body(lambda body: lender.resolve(body, left, abort=sending.abort))

    def resolve_for(self, future: concurrent.futures.Future[Reply], reply: Reply, sending: Sending,
                    until: float | None) -> None:
        """On the pool: settle the future with the reply when its refs are resolved."""
        try:
            finished = self._resolved(reply, sending, until)
        except ZdlError as error:
            settle(future, error=error)
            return
        settle(future, reply=finished)

    def _answer(self, target: str, waiter: CallWaiter, scope: Scope | None, sending: Sending,
                until: float | None) -> Answer:
        settled: _Settled = waiter.wait(self._lead, self._is_alive) or (None, Closed(fqcn=self._fqcn))
        try:
            reply = self._resolved(self.finish(*settled, scope), sending, until)
        except ZdlError as error:
            return Answer(target, None, error)
        return Answer(target, reply, None)

    def _target(self, target: str) -> str:
        """The name in its normal form; names that were used before are known to be good."""
        known = self._targets.get(target)
        if known is None:
            known = parse(target)
            if len(self._targets) >= TARGETS_MAX:
                self._targets.clear()
            self._targets[target] = known
        return known


def check_names(channel: object, topic: object) -> None:
    """Raises `OptionError` for names of a handler that cannot travel."""
    for name, value in (("channel", channel), ("topic", topic)):
        if not isinstance(value, str) or len(value) > CHANNEL_BYTES_MAX or not _is_text(value):
            raise OptionError(name=name, value=f"{value!r:.80}", allowed=f"a text of at most {CHANNEL_BYTES_MAX} characters")


def check_headers(headers: Mapping[str, object]) -> None:
    """Raises `OptionError` for headers that cannot travel."""
    if len(headers) >= HEADERS_MAX:  # one place is kept for `REFS_HEADER`
        raise OptionError(name="headers", value=f"{len(headers)} of them", allowed=f"fewer than {HEADERS_MAX}")
    for name, value in headers.items():
        is_plain = type(value) in (float, bool, bytes, type(None)) or (
            type(value) is str and _is_text(value)) or (type(value) is int and INT_MIN <= value <= INT_MAX)
        if type(name) is not str or not _is_text(name) or not is_plain:
            raise OptionError(name="headers", value=f"{name!r:.80}: {type(value).__name__}",
                              allowed="plain values by name: str, bytes, int of 64 bits, float, bool, None")


def _is_text(value: str) -> bool:
    """Whether it can be written as UTF-8: a lone surrogate cannot."""
    return value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value)


def _nothing() -> None:
    """There was nothing to take back."""


def _end(scope: Scope | None) -> None:
    if scope is not None:
        scope.undeliverable()


def _audience(receivers: Sequence[str] | int, targets_count: int) -> Sequence[str] | int:
    """One body to several targets is lent to as many receivers, unless the caller named them."""
    return max(receivers, targets_count) if isinstance(receivers, int) else receivers
