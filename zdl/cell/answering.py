"""Answering: the way of a request from the loop to its handler, and of the answer back.

The body is unpacked, and its refs resolved where the handler wants that, on the pool, before the handler runs; for a handler
that does not, when it looks at the body. Whatever happens there ends in exactly one reply: the handler's, or an error that
names it. A caller that waits no more is told to the handler by its abort signal; what the handler returns then is
dropped, and what it would have lent ends.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from zdl.cell.calling import OWN_HEADERS, Caller
from zdl.cell.filtering import Passage
from zdl.cell.filters import Answered, Filters
from zdl.cell.futures import NO_HEADERS
from zdl.cell.handlers import Handlers, Pool, Raised, Registration, raised
from zdl.cell.handling import Handling, unpacked
from zdl.cell.later import Later
from zdl.cell.messages import REFS_HEADER, Request, Unread
from zdl.cell.service import Lender, Scope
from zdl.cell.signal import Signal
from zdl.cell.workflow import HEADER as WORKFLOW_HEADER
from zdl.errors import Cancelled, Closed, Refused, RemoteError, ZdlError, to_wire
from zdl.objects.unpack import unpack
from zdl.options import Options
from zdl.protocol import messages as wire
from zdl.protocol.messages import Body
from zdl.transport.control import Control

_LOG = logging.getLogger("zdl.cell")


@dataclass(slots=True)
class _Job:
    """A request or notice whose handler shall run; called, it does."""

    answerer: Answerer
    message: wire.Request | wire.Notice
    registration: Registration
    abort: Signal
    arrived_at: float

    def __call__(self) -> None:
        self.answerer.run(self)


class Answerer:
    """The answering side of one cell.

    Args:
        fqcn: the cell.
        options: its options.
        handlers: the table.
        pool: where handlers run.
        caller: packs the replies.
        control: sends them.
        filters: of the cell.
    """

    def __init__(self, fqcn: str, options: Options, *, handlers: Handlers, pool: Pool, caller: Caller,
                 control: Control, filters: Filters) -> None:
        self._fqcn = fqcn
        self._options = options
        self._handlers = handlers
        self._pool = pool
        # Callbacks of abort signals are users' code; on the pool they would wait behind the handlers they are to end.
        calls = options.calls
        self._aborter = Pool(f"zdl-abort-{fqcn}", fqcn, replace(
            calls, handler_queue_max=calls.handler_queue_max + calls.handler_threads_max))  # as many as there are requests
        self._caller = caller
        self._control = control
        self._filters = filters
        self._passage = Passage(fqcn, filters)
        self._handling = Handling(fqcn, options, caller=caller, control=control, passage=self._passage, answering=self)
        self._unpacked = partial(unpacked, self._handling)
        # Of requests whose handlers run. Put in and taken out by single operations, which need no lock.
        self._aborts: dict[tuple[str, int], Signal] = {}

    def use_lender(self, lender: Lender) -> None:
        """Refs in bodies are resolved by this service."""
        self._handling.use_lender(lender)

    def handle(self, message: wire.Request | wire.Notice) -> None:
        """Who leads has read it: find the handler and hand over."""
        registration = self._handlers.find(message.channel, message.topic)
        if registration is None:
            self._turn_away(message, Refused(by=self._fqcn, reason="no-handler", text=(
                f"it has no handler for {message.channel}/{message.topic}")))
            return
        job = _Job(self, message, registration, Signal(), time.monotonic())
        if isinstance(message, wire.Request):
            self._aborts[message.origin, message.id] = job.abort
        if registration.inline and not (self._filters.is_used and self._passage.is_filtered(message)):
            job()
            return
        try:
            self._pool.submit(job)
        except ZdlError as error:
            self._forget(message)
            self._turn_away(message, error)

    def abort(self, origin: str, number: int) -> None:
        """On the loop: the caller waits no more."""
        signal = self._aborts.pop((origin, number), None)
        if signal is None:
            self._caller.packing.undelivered(number)  # it was answered, and the answer came too late
            return
        try:
            self._aborter.submit(lambda: signal.trigger("the caller waits no more"))
        except Closed:
            _LOG.debug("= closed before the abort of %s %d", origin, number)

    def close_promises(self) -> None:
        """Callers that wait for an answer that was promised for later are told that the cell closes."""
        self._handling.promises.close(self.send_error)

    def close(self, timeout_s: float) -> int:
        """End. Returns how many callbacks of abort signals did not end in time."""
        return self._aborter.close(timeout_s)

    # --- inside ---------------------------------------------------------------------------------

    def run(self, job: _Job) -> None:
        """Unpack, run the handler, pack, answer."""
        message, registration = job.message, job.registration
        try:
            request = self._request(job)
        except BaseException as error:
            self._refuse(message, raised(error))
            return
        try:
            body = registration.function(request) if isinstance(request, Request) else request.body
        except BaseException as error:
            _LOG.info("! handler %s/%s raised", message.channel, message.topic, exc_info=error)
            self._refuse(message, raised(error), is_handlers=True)
            return
        if isinstance(message, wire.Request) and not (isinstance(body, Later) and body.is_for(message)):
            if not (registration.resolve or registration.inline):
                # Its caller may send the next one as soon as he has this answer; that one shall not find this one still here.
                message = job.message = replace(message, body=())
                del request
            self._answer(message, body)

    def send_body(self, message: wire.Request, body: object, headers: Mapping[str, object]) -> bool:
        """Answer later; see `zdl.cell.handling.Answering`."""
        parts, scope, has_refs = self._caller.packing.pack_reply(body, message)
        if not self._handling.promises.take(message.origin, message.id):
            if scope is not None:
                scope.undeliverable()
            return False
        return self._send_reply(message, parts, scope, self._caller.headers(headers, has_refs))

    def send_error(self, message: wire.Request | wire.Notice, error: ZdlError) -> None:
        """Answer with an error, whoever still waits."""
        self._forget(message)
        self._answer_error(message, error)

    def _request(self, job: _Job) -> Request | Answered:
        message, registration = job.message, job.registration
        timeout_s = message.timeout_s if isinstance(message, wire.Request) else None
        deadline = None if timeout_s is None else job.arrived_at + timeout_s
        headers = message.headers
        has_refs = False
        if headers:
            has_refs = REFS_HEADER in headers
            headers = self._own(headers)
        content: object = None
        is_read = bool(registration.resolve) or registration.inline  # before the handler runs
        if not is_read:
            content = Unread(self._unpacked)
        elif not has_refs:
            content = unpack(message.body, options=self._options.packing, types=self._caller.packing.types)
        request = Request(message.origin, message.target, message.channel, message.topic, content, headers, message.hops,
                          deadline, job.abort, self._handling, message)
        if has_refs and is_read:
            request = replace(request, content=self._unpacked(request))
        if self._filters.is_used:
            passed = self._passage.incoming(request, lambda body: self._handling.resolve(request, body))
            if isinstance(passed, Answered):
                return passed
            has_refs, request = has_refs or passed is not request, passed
        if has_refs and registration.resolve:
            request = replace(request, content=self._handling.resolve(request, request.body, registration.resolve))
        return request

    def _own(self, headers: Mapping[str, object]) -> Mapping[str, object]:
        """The user's headers; what the cell itself says among them must be right."""
        if WORKFLOW_HEADER in headers:
            self._caller.workflows.lease_s(headers[WORKFLOW_HEADER])
        return headers if OWN_HEADERS.isdisjoint(headers) else {
            name: value for name, value in headers.items() if name not in OWN_HEADERS}

    def _answer(self, message: wire.Request, body: object) -> None:
        headers = NO_HEADERS
        try:
            if self._filters.is_used:
                body, headers = self._passage.outgoing(message, body, None)
        except ZdlError as error:
            self.send_error(message, error)
            return
        try:
            parts, scope, has_refs = self._caller.packing.pack_reply(body, message)
        except BaseException as error:
            found = raised(error)
            self._refuse(message, Raised(found.error, found.kind, f"its reply: {found.text}"), is_handlers=True)
            return
        self._send_reply(message, parts, scope, self._caller.headers(headers, has_refs) if has_refs else headers)

    def _send_reply(self, message: wire.Request, parts: Body, scope: Scope | None, headers: Mapping[str, object]) -> bool:
        """Returns whether the caller still waited."""
        if scope is not None:
            self._caller.packing.remember(message.id, scope)
        if not self._forget(message):  # in this order: a cancellation finds either the signal or the scope
            self._caller.packing.undelivered(message.id)
            self._answer_error(message, Cancelled(what=f"{message.channel}/{message.topic}", why="the caller waits no more"))
            return False
        route = None if message.route is None else (*message.route, self._fqcn)
        self._send(wire.Reply(self._fqcn, message.origin, message.id, "", NO_HEADERS, headers, parts, route=route))
        return True

    def _refuse(self, message: wire.Request | wire.Notice, found: Raised, *, is_handlers: bool = False) -> None:
        """Users' code, or what came before it, raised."""
        error = found.error
        told = error if isinstance(error, ZdlError) and not is_handlers else self._remote(message, found)
        if is_handlers and isinstance(error, Refused) and error.by == self._fqcn:
            told = error
        if is_handlers and isinstance(message, wire.Request) and self._filters.is_used:
            try:
                body, headers = self._passage.outgoing(message, None, told)
                parts, scope, has_refs = self._caller.packing.pack_reply(body, message)
                self._send_reply(message, parts, scope, self._caller.headers(headers, has_refs))
                return
            except ZdlError as still:
                told = still
        self._forget(message)
        if is_handlers:
            self._answer_error(message, told)
        else:
            self._turn_away(message, told)

    def _remote(self, message: wire.Request | wire.Notice, raised: Raised) -> RemoteError:
        return RemoteError(fqcn=self._fqcn, channel=message.channel, topic=message.topic, kind=raised.kind, text=raised.text)

    def _answer_error(self, message: wire.Request | wire.Notice, error: ZdlError) -> None:
        if isinstance(message, wire.Request):
            code, facts = to_wire(error)
            self._send(wire.Reply(self._fqcn, message.origin, message.id, code, facts, NO_HEADERS))
        else:
            _LOG.warning("! notice %s/%s from %s failed: %s", message.channel, message.topic, message.origin, error)

    def _turn_away(self, message: wire.Request | wire.Notice, error: ZdlError) -> None:
        """No handler of this cell gets it."""
        self._answer_error(message, error)
        if isinstance(message, wire.Notice):
            self._bounce(message, error)

    def _bounce(self, notice: wire.Notice, error: ZdlError) -> None:
        """The sender of a notice hears that no handler got it."""
        code, facts = to_wire(error)
        with suppress(Closed):
            self._control.post(wire.Bounce(self._fqcn, notice.origin, notice.id, int(wire.Kind.NOTICE), code, facts))

    def _send(self, reply: wire.Reply) -> None:
        try:
            self._control.reply(reply)
        except Closed:
            _LOG.debug("= closed before the reply to %s", reply.target)

    def _forget(self, message: wire.Request | wire.Notice) -> bool:
        """Its handler has ended. Returns whether its caller still waits."""
        return self._aborts.pop((message.origin, message.id), None) is not None
