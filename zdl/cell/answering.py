"""Answering: the way of a request from the loop to its handler, and of the answer back.

The body is unpacked, and its refs resolved where the handler wants that, on the pool, before the
handler runs. Whatever happens there ends in exactly one reply: the handler's, or an error that names it.
A caller that waits no more is told to the handler by its abort signal; what the handler returns then is
dropped, and what it would have lent ends.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace

from zdl.cell.calling import Caller
from zdl.cell.futures import NO_HEADERS
from zdl.cell.handlers import Handlers, Pool, Raised, Registration, raised
from zdl.cell.messages import REFS_HEADER, Request
from zdl.cell.service import Lender
from zdl.cell.signal import Signal
from zdl.errors import Cancelled, Closed, Refused, RemoteError, ZdlError, to_wire
from zdl.objects.unpack import unpack
from zdl.options import Options
from zdl.protocol import messages as wire
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
    """

    def __init__(self, fqcn: str, options: Options, *, handlers: Handlers, pool: Pool, caller: Caller,
                 control: Control) -> None:
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
        self._lender: Lender | None = None
        # Of requests whose handlers run. Put in and taken out by single operations, which need no lock.
        self._aborts: dict[tuple[str, int], Signal] = {}

    def use_lender(self, lender: Lender) -> None:
        """Refs in bodies are resolved by this service."""
        self._lender = lender

    def handle(self, message: wire.Request | wire.Notice) -> None:
        """Who leads has read it: find the handler and hand over."""
        registration = self._handlers.find(message.channel, message.topic)
        if registration is None:
            self._answer_error(message, Refused(by=self._fqcn, reason="no-handler", text=(
                f"it has no handler for {message.channel}/{message.topic}")))
            return
        job = _Job(self, message, registration, Signal(), time.monotonic())
        if isinstance(message, wire.Request):
            self._aborts[message.origin, message.id] = job.abort
        if registration.inline:
            job()
            return
        try:
            self._pool.submit(job)
        except ZdlError as error:
            self._forget(message)
            self._answer_error(message, error)

    def abort(self, origin: str, number: int) -> None:
        """On the loop: the caller waits no more."""
        signal = self._aborts.pop((origin, number), None)
        if signal is None:
            self._caller.undelivered(number)  # it was answered, and the answer came too late
            return
        try:
            self._aborter.submit(lambda: signal.trigger("the caller waits no more"))
        except Closed:
            _LOG.debug("= closed before the abort of %s %d", origin, number)

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
            body = registration.function(request)
        except BaseException as error:
            _LOG.info("! handler %s/%s raised", message.channel, message.topic, exc_info=error)
            self._refuse(message, raised(error), is_handlers=True)
            return
        if isinstance(message, wire.Request):
            self._answer(message, body)

    def _request(self, job: _Job) -> Request:
        message, registration = job.message, job.registration
        body = unpack(message.body, options=self._options.packing)
        timeout_s = message.timeout_s if isinstance(message, wire.Request) else None
        deadline = None if timeout_s is None else job.arrived_at + timeout_s
        headers = message.headers
        if REFS_HEADER in headers:
            if registration.resolve and self._lender is not None:
                left = None if deadline is None else max(0.001, deadline - time.monotonic())
                body = self._lender.resolve(body, left, abort=job.abort)
            headers = {name: value for name, value in headers.items() if name != REFS_HEADER}
        return Request(message.origin, message.target, message.channel, message.topic, body, headers, message.hops,
                       deadline, job.abort)

    def _answer(self, message: wire.Request, body: object) -> None:
        try:
            parts, scope, has_refs = self._caller.pack(body, 1)
        except BaseException as error:
            found = raised(error)
            self._refuse(message, Raised(found.error, found.kind, f"its reply: {found.text}"), is_handlers=True)
            return
        if scope is not None:
            self._caller.remember(message.id, scope)
        if not self._forget(message):  # in this order: a cancellation finds either the signal or the scope
            self._caller.undelivered(message.id)
            self._answer_error(message, Cancelled(what=f"{message.channel}/{message.topic}", why="the caller waits no more"))
            return
        headers = self._caller.headers(NO_HEADERS, has_refs) if has_refs else NO_HEADERS
        self._send(wire.Reply(self._fqcn, message.origin, message.id, "", NO_HEADERS, headers, parts))

    def _refuse(self, message: wire.Request | wire.Notice, found: Raised, *, is_handlers: bool = False) -> None:
        """Users' code, or what came before it, raised."""
        self._forget(message)
        error = found.error
        self._answer_error(message, error if isinstance(error, ZdlError) and not is_handlers else self._remote(message, found))

    def _remote(self, message: wire.Request | wire.Notice, raised: Raised) -> RemoteError:
        return RemoteError(fqcn=self._fqcn, channel=message.channel, topic=message.topic, kind=raised.kind, text=raised.text)

    def _answer_error(self, message: wire.Request | wire.Notice, error: ZdlError) -> None:
        if isinstance(message, wire.Request):
            code, facts = to_wire(error)
            self._send(wire.Reply(self._fqcn, message.origin, message.id, code, facts, NO_HEADERS))
        else:
            _LOG.warning("! notice %s/%s from %s failed: %s", message.channel, message.topic, message.origin, error)

    def _send(self, reply: wire.Reply) -> None:
        try:
            self._control.reply(reply)
        except Closed:
            _LOG.debug("= closed before the reply to %s", reply.target)

    def _forget(self, message: wire.Request | wire.Notice) -> bool:
        """Its handler has ended. Returns whether its caller still waits."""
        return self._aborts.pop((message.origin, message.id), None) is not None
