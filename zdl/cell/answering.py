"""Answering: the way of a request from the loop to its handler, and of the answer back.

The body is unpacked, and its refs resolved where the handler wants that, on the pool, before the
handler runs. Whatever happens there ends in exactly one reply: the handler's, or an error that names it.
"""

from __future__ import annotations

import logging
import threading
import time

from zdl.cell.calling import NO_HEADERS, Caller
from zdl.cell.handlers import Handlers, Pool, Registration
from zdl.cell.messages import REFS_HEADER, Request
from zdl.cell.service import Lender
from zdl.cell.signal import Signal
from zdl.errors import Closed, Refused, RemoteError, ZdlError, to_wire
from zdl.objects.unpack import unpack
from zdl.options import Options
from zdl.protocol import messages as wire
from zdl.transport.control import Control

_LOG = logging.getLogger("zdl.cell")


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

    def __init__(self, fqcn: str, options: Options, handlers: Handlers, pool: Pool, caller: Caller, control: Control) -> None:
        self._fqcn = fqcn
        self._options = options
        self._handlers = handlers
        self._pool = pool
        self._caller = caller
        self._control = control
        self._lender: Lender | None = None
        self._lock = threading.Lock()  # guards the signals of requests whose handlers run
        self._aborts: dict[tuple[str, int], Signal] = {}

    def use_lender(self, lender: Lender) -> None:
        """Refs in bodies are resolved by this service."""
        self._lender = lender

    def handle(self, message: wire.Request | wire.Notice) -> None:
        """On the loop: find the handler and hand over."""
        registration = self._handlers.find(message.channel, message.topic)
        if registration is None:
            self._answer_error(message, Refused(by=self._fqcn, reason="no-handler", text=(
                f"it has no handler for {message.channel}/{message.topic}")))
            return
        abort = Signal()
        if isinstance(message, wire.Request):
            with self._lock:
                self._aborts[message.origin, message.id] = abort
        arrived_at = time.monotonic()
        if registration.inline:
            self._run(message, registration, abort, arrived_at)
            return
        try:
            self._pool.submit(lambda: self._run(message, registration, abort, arrived_at))
        except ZdlError as error:
            self._forget(message)
            self._answer_error(message, error)

    def abort(self, origin: str, number: int) -> None:
        """On the loop: the caller waits no more."""
        with self._lock:
            signal = self._aborts.get((origin, number))
        if signal is None:
            return
        try:
            self._pool.submit(lambda: signal.trigger("the caller waits no more"))  # its callbacks are the user's code
        except Closed:
            _LOG.debug("= closed before the abort of %s %d", origin, number)

    # --- inside ---------------------------------------------------------------------------------

    def _run(self, message: wire.Request | wire.Notice, registration: Registration, abort: Signal, arrived_at: float) -> None:
        try:
            request = self._request(message, registration, abort, arrived_at)
        except ZdlError as error:
            self._forget(message)
            self._answer_error(message, error)
            return
        try:
            body = registration.function(request)
        except Exception as error:  # the user's code
            _LOG.info("! handler %s/%s raised", message.channel, message.topic, exc_info=True)
            self._answer_error(message, RemoteError(fqcn=self._fqcn, channel=message.channel, topic=message.topic,
                                                    kind=type(error).__name__, text=str(error)))
            return
        finally:
            self._forget(message)
        self._answer(message, body)

    def _request(self, message: wire.Request | wire.Notice, registration: Registration, abort: Signal,
                 arrived_at: float) -> Request:
        body = unpack(message.body, options=self._options.packing)
        timeout_s = message.timeout_s if isinstance(message, wire.Request) else None
        deadline = None if timeout_s is None else arrived_at + timeout_s
        if registration.resolve and REFS_HEADER in message.headers and self._lender is not None:
            body = self._lender.resolve(body, timeout_s)
        headers = {name: value for name, value in message.headers.items() if name != REFS_HEADER}
        return Request(message.origin, message.target, message.channel, message.topic, body, headers, message.hops,
                       deadline, abort)

    def _answer(self, message: wire.Request | wire.Notice, body: object) -> None:
        if not isinstance(message, wire.Request):
            return
        try:
            parts, scope = self._caller.pack(body, 1)
        except ZdlError as error:
            self._answer_error(message, RemoteError(fqcn=self._fqcn, channel=message.channel, topic=message.topic,
                                                    kind=type(error).__name__, text=f"its reply: {error}"))
            return
        self._caller.remember(message.id, scope)
        self._send(wire.Reply(self._fqcn, message.origin, message.id, "", NO_HEADERS,
                              self._caller.headers(NO_HEADERS, scope), parts))

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

    def _forget(self, message: wire.Request | wire.Notice) -> None:
        with self._lock:
            self._aborts.pop((message.origin, message.id), None)
