"""Filtering: the calling side of a cell that has filters: what a request passes on its way out, and its reply on the way in.

It stands in front of the `Caller` only while filters are used; a cell without filters never comes here.
"""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

from zdl.cell.answers import Answers, Notices, Undelivered
from zdl.cell.calling import LEAST_S, Caller, timeout_of
from zdl.cell.filters import Answered, Filters, Passing, Point
from zdl.cell.futures import CallFuture, Sending, settle
from zdl.cell.messages import REFS_HEADER, Answer, Reply, Request
from zdl.cell.signal import Signal
from zdl.cell.spreading import Outgoing, Spreader
from zdl.errors import Refused, ZdlError
from zdl.options import Options
from zdl.protocol import messages as wire


class Asks(Protocol):
    """The calling side of a cell, as its users' calls see it: a `Caller`, or one behind filters."""

    def request(self, target: str, channel: str, topic: str, body: object, sending: Sending) -> Reply:
        """See `Caller.request`."""

    def future(self, *, is_bare: bool = False) -> CallFuture:
        """See `Caller.future`."""

    def request_future(self, target: str, channel: str, topic: str, body: object, sending: Sending, *,
                       future: CallFuture) -> None:
        """See `Caller.request_future`."""


class Spreads(Protocol):
    """The same for what goes to many: a `Spreader`, or one behind filters."""

    def broadcast(self, bodies: Mapping[str, object], channel: str, topic: str, sending: Sending) -> Answers:
        """See `Spreader.broadcast`."""

    def told(self, answers: Answers, sending: Sending, tell: Callable[[Answer], object]) -> None:
        """See `Spreader.told`."""

    def notice(self, bodies: Mapping[str, object], channel: str, topic: str, sending: Sending,
               undelivered: Undelivered | None = None) -> Notices:
        """See `Spreader.notice`."""


class FilteringCaller:
    """A `Caller` behind the filters of its cell.

    Threads: all methods from any thread.

    Args:
        fqcn: the cell.
        options: its options.
        caller: what it stands in front of.
        spreader: the same, for what goes to many.
        filters: of the cell.
    """

    def __init__(self, fqcn: str, options: Options, *, caller: Caller, spreader: Spreader, filters: Filters) -> None:
        self._fqcn = fqcn
        self._options = options
        self._caller = caller
        self._spreader = spreader
        self._filters = filters

    def request(self, target: str, channel: str, topic: str, body: object, sending: Sending) -> Reply:
        """See `Caller.request`."""
        begun_at = time.monotonic()
        timeout_s = timeout_of(sending, self._options.calls)
        passed = self._out(Point.OUTGOING_REQUEST, (target, channel, topic), body, sending)
        if isinstance(passed, Answered):
            return self._reply(passed)
        until = None if timeout_s is None else begun_at + timeout_s
        sending = replace(sending, headers=passed.headers, timeout_s=_left(until))
        if not self._filters.wants(Point.INCOMING_REPLY, channel, topic):
            return self._caller.request(target, channel, topic, passed.body, sending)
        try:
            reply: Reply | ZdlError = self._caller.request(target, channel, topic, passed.body, replace(sending, resolve=False))
        except ZdlError as error:
            reply = error
        return self._in((target, channel, topic), reply, sending, until)

    def future(self, *, is_bare: bool = False) -> CallFuture:
        """See `Caller.future`."""
        return self._caller.future(is_bare=is_bare)

    def request_future(self, target: str, channel: str, topic: str, body: object, sending: Sending, *,
                       future: CallFuture) -> None:
        """See `Caller.request_future`; what comes passes the filters on the handler pool."""
        begun_at = time.monotonic()
        timeout_s = timeout_of(sending, self._options.calls)
        passed = self._out(Point.OUTGOING_REQUEST, (target, channel, topic), body, sending)
        if isinstance(passed, Answered):
            settle(future, reply=self._reply(passed))
            return
        until = None if timeout_s is None else begun_at + timeout_s
        sending = replace(sending, headers=passed.headers, timeout_s=_left(until))
        if not self._filters.wants(Point.INCOMING_REPLY, channel, topic):
            self._caller.request_future(target, channel, topic, passed.body, sending, future=future)
            return
        abort = Signal()
        unlink = _linked(abort, sending.abort)
        inner = self._caller.future()  # its callbacks run on the pool
        self._caller.request_future(target, channel, topic, passed.body, replace(sending, resolve=False, abort=abort), future=inner)
        future.begin_behind(inner)
        behind = [inner]  # until it is done: futures keep their callbacks, and these two would keep each other, and the reply

        def came(done: concurrent.futures.Future[Reply]) -> None:
            """On the pool."""
            behind.clear()
            if done.cancelled():
                return
            error = done.exception()
            if error is not None and not isinstance(error, ZdlError):
                raise error
            try:
                found = self._in((target, channel, topic), done.result() if error is None else error,
                                 replace(sending, abort=abort), until)
            except ZdlError as problem:
                settle(future, error=problem)
                return
            settle(future, reply=found)

        def ended(done: concurrent.futures.Future[Reply]) -> None:
            """Who has it may have cancelled it."""
            unlink()
            if done.cancelled():
                abort.trigger("its future was cancelled")
                for each in list(behind):
                    each.cancel()

        inner.when_done(came, lambda error: settle(future, error=error))
        concurrent.futures.Future.add_done_callback(future, ended)

    def broadcast(self, bodies: Mapping[str, object], channel: str, topic: str, sending: Sending) -> Answers:
        """See `Spreader.broadcast`; a body that no filter changes is still packed once."""
        sent: dict[str, object] = {}
        headers: dict[str, Mapping[str, object]] = {}
        preset: list[Answer] = []
        for target, body in bodies.items():
            try:
                passed = self._out(Point.OUTGOING_REQUEST, (target, channel, topic), body, sending)
            except Refused as error:
                preset.append(Answer(target, None, error))
                continue
            if isinstance(passed, Answered):
                preset.append(Answer(target, self._reply(passed), None))
            else:
                sent[target], headers[target] = passed.body, passed.headers

        def arrived(answer: Answer, until: float | None) -> Answer:
            """By the thread that looks."""
            found = answer.error if answer.reply is None else answer.reply
            assert found is not None
            try:
                return Answer(answer.target, self._in((answer.target, channel, topic), found, sending, until), None)
            except ZdlError as error:
                return Answer(answer.target, None, error)

        return self._spreader.broadcast(sent, channel, topic, sending, Outgoing(list(bodies), headers, preset, arrived))

    def told(self, answers: Answers, sending: Sending, tell: Callable[[Answer], object]) -> None:
        """See `Spreader.told`."""
        self._spreader.told(answers, sending, tell, is_filtered=True)

    def notice(self, bodies: Mapping[str, object], channel: str, topic: str, sending: Sending,
               undelivered: Undelivered | None = None) -> Notices:
        """See `Spreader.notice`. One target's refusal is raised; among many it is an error of that one."""
        sent: dict[str, object] = {}
        headers: dict[str, Mapping[str, object]] = {}
        refused: dict[str, ZdlError] = {}
        for target, body in bodies.items():
            try:
                passed = self._out(Point.OUTGOING_NOTICE, (target, channel, topic), body, sending)
            except Refused as error:
                if len(bodies) == 1:
                    raise
                refused[target] = error
                continue
            if isinstance(passed, Passing):
                sent[target], headers[target] = passed.body, passed.headers
        return self._spreader.notice(sent, channel, topic, sending, undelivered, headers=headers, refused=refused)

    # --- inside ---------------------------------------------------------------------------------

    def _out(self, point: Point, to: tuple[str, str, str], body: object, sending: Sending) -> Passing | Answered:
        target, channel, topic = to
        return self._filters.passed(Passing(point, self._fqcn, target, channel, topic, body, sending.headers))

    def _in(self, to: tuple[str, str, str], found: Reply | ZdlError, sending: Sending, until: float | None) -> Reply:
        """What came of a call, after the filters, its refs resolved if that is wanted."""
        target, channel, topic = to
        body, error = None, None
        try:
            if isinstance(found, Reply):
                body = found.body
            else:
                error = found
        except ZdlError as problem:  # it cannot be unpacked
            error = problem
        own = {} if not isinstance(found, Reply) else {
            name: value for name, value in found.headers.items() if name != REFS_HEADER}
        passing = Passing(Point.INCOMING_REPLY, found.origin if isinstance(found, Reply) else target, self._fqcn, channel, topic,
                          body, own, found.hops if isinstance(found, Reply) else 0, error)
        passed = self._filters.passed(passing, self._resolver(sending, until))
        if isinstance(passed, Answered):
            return self._reply(passed)
        if passed.error is not None:
            raise passed.error
        if not isinstance(found, Reply):
            return self._reply(Answered(passed.body))
        if passed is not passing:
            marked = {REFS_HEADER: True} if found.has_refs else {}
            changed = Reply.of_body(found.origin, passed.body, {**passed.headers, **marked}, self._options.packing)
            changed.hops, changed.route, changed.lent = found.hops, found.route, found.lent
            found = changed
        return self._caller.resolved(found, sending, until)

    def _resolver(self, sending: Sending, until: float | None) -> Callable[[object], object]:
        wants = replace(sending, resolve=True)
        packing = self._options.packing

        def resolve(body: object) -> object:
            """Pulls what a reply lends."""
            reply = Reply.of_body(self._fqcn, body, {REFS_HEADER: True}, packing)
            return self._caller.resolved(reply, wants, until).body

        return resolve

    def _reply(self, answered: Answered) -> Reply:
        return Reply.of_body(self._fqcn, answered.body, {}, self._options.packing)


class Passage:
    """The way of requests and notices to this cell's handlers, and of their replies back, through the filters.

    Threads: all methods from any thread but the loop's; `is_filtered` from that too.

    Args:
        fqcn: the cell.
        filters: of the cell.
    """

    def __init__(self, fqcn: str, filters: Filters) -> None:
        self._fqcn = fqcn
        self._filters = filters

    @property
    def is_used(self) -> bool:
        """Whether there is any filter."""
        return self._filters.is_used

    def is_filtered(self, message: wire.Request | wire.Notice) -> bool:
        """Whether filters may see this message or its reply: then it is handled on the pool."""
        points = (Point.INCOMING_REQUEST, Point.OUTGOING_REPLY) if isinstance(message, wire.Request) else (
            Point.INCOMING_NOTICE,)
        return any(self._filters.wants(point, message.channel, message.topic) for point in points)

    def incoming(self, request: Request, resolve: Callable[[object], object]) -> Request | Answered:
        """What comes of a request or notice that passes the filters.

        Raises:
            Refused: a filter refused it, or raised.
        """
        message = request.message
        assert message is not None
        point = Point.INCOMING_REQUEST if isinstance(message, wire.Request) else Point.INCOMING_NOTICE
        if not self._filters.wants(point, request.channel, request.topic):
            return request
        passing = Passing(point, request.origin, request.target, request.channel, request.topic, request.body,
                          request.headers, request.hops)
        passed = self._filters.passed(passing, resolve)
        if isinstance(passed, Answered) or passed is passing:
            return passed if isinstance(passed, Answered) else request
        # What is forwarded unopened is what came, so a body that was changed is packed again.
        return replace(request, content=passed.body, headers=passed.headers,
                       message=message if passed.body is request.body else replace(message, body=()))

    def outgoing(self, message: wire.Request, body: object, error: ZdlError | None) -> tuple[object, Mapping[str, object]]:
        """The body and the headers of a reply that has passed the filters.

        Raises:
            ZdlError: the error that the caller gets instead: the handler's, or that of a filter that refused.
        """
        if self._filters.wants(Point.OUTGOING_REPLY, message.channel, message.topic):
            passed = self._filters.passed(Passing(Point.OUTGOING_REPLY, self._fqcn, message.origin, message.channel,
                                                  message.topic, body, {}, 0, error))
            if isinstance(passed, Answered):
                return passed.body, {}
            if passed.error is None:
                return passed.body, passed.headers
            error = passed.error
        if error is not None:
            raise error
        return body, {}


def _left(until: float | None) -> float | None:
    return None if until is None else max(LEAST_S, until - time.monotonic())


def _linked(own: Signal, users: Signal | None) -> Callable[[], None]:
    """Triggers the first signal with the second. Returns what takes that back."""
    if users is None:
        return lambda: None
    return users.on_trigger(lambda: own.trigger(users.value))
