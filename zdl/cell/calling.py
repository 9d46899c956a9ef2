"""Calling: the way of a request from the user's thread out, and of its reply back in.

The body is packed and unpacked on the user's thread; the loop only carries frames. What it lends shares the fate of the
request: see `zdl.cell.packing`.
"""

from __future__ import annotations

import concurrent.futures
import logging
import time
from collections.abc import Callable, Mapping, Sequence

from zdl.cell.answers import Settlement
from zdl.cell.futures import DEFAULT_S, NO_HEADERS, BareFuture, CallFuture, OnProgress, Sending, settle
from zdl.cell.handlers import Pool
from zdl.cell.messages import REFS_HEADER, Reply, Route
from zdl.cell.packing import Packing, conclude, lent_by
from zdl.cell.service import Lender, Scope, target_of
from zdl.cell.signal import Signal
from zdl.cell.telling import hearing
from zdl.cell.waiting import CallWaiter
from zdl.cell.workflow import HEADER as WORKFLOW_HEADER
from zdl.cell.workflows import Workflows
from zdl.errors import Closed, OptionError, ZdlError
from zdl.fqcn import parse
from zdl.objects.typetable import TypeTable
from zdl.options import CallOptions, Options
from zdl.protocol import messages as wire
from zdl.protocol.calls import Question
from zdl.protocol.frames import CHANNEL_BYTES_MAX, HEADERS_MAX
from zdl.protocol.messages import Body
from zdl.protocol.trace import split
from zdl.refs import Holder
from zdl.transport.control import Control, Settled

_LOG = logging.getLogger("zdl.cell")
TARGETS_MAX = 4096
# What is left of a timeout is at least this: refs may be pulled already when nobody would wait any more.
LEAST_S = 0.001
# Ten years; the wire takes no more.
TIMEOUT_S_MAX = 10.0 * 365 * 86400
# What the cell itself says in the headers of a message.
OWN_HEADERS = frozenset({REFS_HEADER, WORKFLOW_HEADER})
INT_MIN, INT_MAX = -(1 << 63), (1 << 64) - 1


class Caller:
    """The calling side of one cell.

    Args:
        fqcn: the cell.
        options: its options.
        control: its control lane.
        pool: where replies whose refs must be resolved are finished for futures.
        is_alive: whether the control loop still runs.
        workflows: that the cell is part of.
        types: what may travel.

    Attributes:
        packing: packs the bodies, and knows what they lend.
        workflows: see above.
    """

    def __init__(self, fqcn: str, options: Options, control: Control, pool: Pool, is_alive: Callable[[], bool], *,
                 workflows: Workflows, types: TypeTable = TypeTable()) -> None:
        self._fqcn = fqcn
        self._options = options
        self._control = control
        self._lead = control.loop.lead
        self._pool = pool
        self._is_alive = is_alive
        self._lender: Lender | None = None
        self._holder: Holder | None = None
        self.workflows = workflows
        self.packing = Packing(options, pool.submit, workflows.lease_s, types)
        self._targets: dict[str, str] = {}
        self._names: set[tuple[str, str]] = set()

    def use_lender(self, lender: Lender) -> None:
        """What is too large for a message is lent by this service."""
        self._lender = lender
        self._holder = lender.holder()
        self.packing.use_lender(lender)

    # --- requests -------------------------------------------------------------------------------

    def request(self, target: str, channel: str, topic: str, body: object, sending: Sending) -> Reply:
        """Send and wait; see `BareCell.request`."""
        question, scope = self._question(target, channel, topic, body, sending)
        return self._asked(question, scope, sending)

    def _asked(self, question: Question, scope: Scope | None, sending: Sending) -> Reply:
        until = None if question.timeout_s is None else time.monotonic() + question.timeout_s
        waiter = CallWaiter()
        call = self._call(question, scope, waiter.settled, sending.on_progress)
        unlink = None if sending.abort is None else self._cancel_on(sending.abort, call)
        settled: Settlement | None = None
        try:
            settled = waiter.wait(self._lead, self._is_alive)
        finally:
            if unlink is not None:
                unlink()
            if settled is None:  # the thread that waits was interrupted, or the cell is closed
                self._control.cancel(call, "nobody waits for it")
        if settled is None:
            raise Closed(fqcn=self._fqcn)
        try:
            reply = self.finish(*settled, scope, is_optional=sending.optional)
        finally:
            del settled, waiter  # see `finish`
        return self.resolved(reply, sending, until) if sending.resolve and reply.has_refs else reply

    def future(self, *, is_bare: bool = False) -> CallFuture:
        """What `request_future` will settle; a bare one calls back where it is settled."""
        return (BareFuture if is_bare else CallFuture)(self, self._pool, self._control)

    def request_future(self, target: str, channel: str, topic: str, body: object, sending: Sending, *,
                       future: CallFuture) -> None:
        """Send; `future` gets the reply or the error. Cancelling it cancels the call."""
        question, scope = self._question(target, channel, topic, body, sending)
        future.begin(sending, question.timeout_s, scope)
        call = self._call(question, scope, future.settled, sending.on_progress)
        future.call = call
        if sending.abort is not None:
            unlink = self._cancel_on(sending.abort, call)
            concurrent.futures.Future.add_done_callback(future, lambda ended: unlink())

    def pass_on(self, to: tuple[str, str, str], parts: Body, has_refs: bool, sending: Sending) -> Reply:
        """Send a body on as it came, unopened, and wait."""
        target, channel, topic = to
        check_names(channel, topic)
        check_headers(sending.headers)
        name, timeout_s = self._target(target), timeout_of(sending, self._options.calls)
        headers = sending.headers if sending.workflow is None else {**sending.headers, **sending.workflow.carried((name,))}
        question = Question(name, channel, topic, parts, timeout_s, self.headers(headers, has_refs))
        return self._asked(question, None, sending)

    def headers(self, headers: Mapping[str, object], has_refs: bool) -> Mapping[str, object]:
        """The user's headers, and the mark that says that there are refs in the body."""
        return {**headers, REFS_HEADER: True} if has_refs else headers

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
        if sending.workflow is not None:
            headers = {**headers, **sending.workflow.carried((name,))}
        timeout_s = timeout_of(sending, self._options.calls)
        parts, scope, has_refs = self.packing.pack(body, (name,), sending)
        return Question(name, channel, topic, parts, timeout_s, self.headers(headers, has_refs) if has_refs else headers,
                        sending.trace), scope

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

    def _call(self, question: Question, scope: Scope | None, settled: Settled, on_progress: OnProgress | None) -> list[int]:
        try:
            if on_progress is not None:
                heard = hearing(on_progress, self._pool.submit, self._options.calls.told_max)
                return self._control.call(question, settled, heard)
            return self._control.call(question, settled)
        except ZdlError as error:
            conclude(scope, error)
            raise

    def finish(self, reply: wire.Reply | None, error: ZdlError | None, scope: Scope | None, *,
               is_optional: bool = False) -> Reply:
        """The reply as users see it; raises the error if that is what came."""
        if error is not None:
            if scope is not None:
                conclude(scope, error)
            level = logging.DEBUG if is_optional else logging.INFO
            if _LOG.isEnabledFor(level):  # its text: who keeps the record would keep the error, its traceback and the body
                _LOG.log(level, "! %s", str(error))
            try:
                raise error
            finally:
                del error  # its traceback holds this frame, and what the frame holds would wait for the collector
        assert reply is not None
        route = None if reply.route is None else self._route(reply.origin, reply.route)
        made = Reply(reply.origin, reply.headers, reply.hops, reply.body, self._options.packing, route=route,
                     types=self.packing.types, holder=self._holder)
        if scope is not None:
            made.lent = lent_by(scope)
        return made

    def _route(self, target: str, names: Sequence[str]) -> Route:
        there, back = split(names, target)
        return Route((self._fqcn, *there, target), (target, *back, self._fqcn))

    def resolved(self, reply: Reply, sending: Sending, until: float | None) -> Reply:
        """The reply with objects in place of its refs, if that is wanted, within the time that is left."""
        lender = self._lender
        if lender is None or not sending.resolve or not reply.has_refs:
            return reply
        left = None if until is None else until - time.monotonic()
        timeout_s = timeout_of(sending, self._options.calls)
        if left is not None and timeout_s is not None and left <= 0.0:
            left = timeout_s  # it came in time all the same, so progress has moved the deadline
        return reply.with_body(lambda body: lender.resolve(
            body, left, abort=sending.abort, renew_s=timeout_s, to=target_of(sending.resolve)))

    def resolve_for(self, future: concurrent.futures.Future[Reply], reply: Reply, sending: Sending,
                    until: float | None) -> None:
        """On the pool: settle the future with the reply when its refs are resolved."""
        try:
            finished = self.resolved(reply, sending, until)
        except ZdlError as error:
            settle(future, error=error)
            return
        settle(future, reply=finished)

    def _target(self, target: str) -> str:
        """The name in its normal form; names that were used before are known to be good."""
        known = self._targets.get(target)
        if known is None:
            known = parse(target)
            if len(self._targets) >= TARGETS_MAX:
                self._targets.clear()
            self._targets[target] = known
        return known


def timeout_of(sending: Sending, options: CallOptions) -> float | None:
    """How long a call waits.

    Raises:
        OptionError: so long it cannot.
    """
    if sending.timeout_s == DEFAULT_S:
        return options.timeout_s
    if sending.timeout_s is not None and not 0 < sending.timeout_s <= TIMEOUT_S_MAX:
        raise OptionError(name="timeout_s", value=str(sending.timeout_s),
                          allowed=f"seconds above 0 and up to {TIMEOUT_S_MAX:.0f}, or None for ever")
    return sending.timeout_s


def check_names(channel: object, topic: object) -> None:
    """Raises `OptionError` for names of a handler that cannot travel."""
    for name, value in (("channel", channel), ("topic", topic)):
        if not isinstance(value, str) or len(value) > CHANNEL_BYTES_MAX or not _is_text(value):
            raise OptionError(name=name, value=f"{value!r:.80}", allowed=f"a text of at most {CHANNEL_BYTES_MAX} characters")


def check_headers(headers: Mapping[str, object]) -> None:
    """Raises `OptionError` for headers that cannot travel."""
    if len(headers) > HEADERS_MAX - len(OWN_HEADERS):  # those have places of their own
        raise OptionError(name="headers", value=f"{len(headers)} of them", allowed=f"at most {HEADERS_MAX - len(OWN_HEADERS)}")
    for name, value in headers.items():
        is_plain = type(value) in (float, bool, bytes, type(None)) or (
            type(value) is str and _is_text(value)) or (type(value) is int and INT_MIN <= value <= INT_MAX)
        if name in OWN_HEADERS:
            raise OptionError(name="headers", value=name, allowed="any other name: this one is zdl's own")
        if type(name) is not str or not _is_text(name) or not is_plain:
            raise OptionError(name="headers", value=f"{name!r:.80}: {type(value).__name__}",
                              allowed="plain values by name: str, bytes, int of 64 bits, float, bool, None")


def _is_text(value: str) -> bool:
    """Whether it can be written as UTF-8: a lone surrogate cannot."""
    return value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value)


def _nothing() -> None:
    """There was nothing to take back."""
