"""Handling: what a handler may do with its request in hand besides returning.

It may ask how long its caller still waits, keep him waiting, answer later, ask other cells on his behalf, and send the
body on unopened. Nothing of this costs a request that does not use it.

A request made inside a handler inherits what is left of its caller's time, and ends when he gives up, if it is made by
``request.request`` or ``request.forward``. One made by ``cell.request`` does not: which request a thread is working for
could only be known from state that belongs to the thread, which no cell owns, and which threads that a handler starts
would not have.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Protocol

from zdl.cell.calling import LEAST_S, Caller, check_headers
from zdl.cell.filtering import Passage
from zdl.cell.futures import Sending
from zdl.cell.handlers import raised
from zdl.cell.later import Later, Promises
from zdl.cell.messages import LEFT_S, REFS_HEADER, Onward, Reply, Request, Unread
from zdl.cell.service import Lender, Resolving, target_of
from zdl.errors import Cancelled, LocalProtocolError, Refused, RemoteError, ZdlError
from zdl.fqcn import is_ancestor
from zdl.objects.unopened import opened
from zdl.objects.unpack import unpack
from zdl.options import Options
from zdl.protocol import messages as wire
from zdl.refs import Holder
from zdl.transport.control import Control
from zdl.transport.links import scheme_of

# How often the caller hears that bytes still come: four times within his timeout, and at least each second.
REPORTS_PER_TIMEOUT = 4
REPORT_S_MAX = 1.0
SELF = "self"
NONE = "none"
# Within a process nobody else can be there; a socket's file is opened only by whom its permissions let.
VERIFYING = frozenset({"inproc", "ipc"})


class Answering(Protocol):
    """Who sends the replies."""

    def send_body(self, message: wire.Request, body: object, headers: Mapping[str, object]) -> bool:
        """Pack and send; returns whether the caller still waited. Raises what packing raises."""

    def send_error(self, message: wire.Request | wire.Notice, error: ZdlError) -> None:
        """Answer with an error."""


class Handling:
    """The desk of one cell: see `zdl.cell.messages.Desk` and `zdl.cell.later.LateDesk`.

    Threads: all methods from any thread.

    Args:
        fqcn: the cell.
        options: its options.
        caller: sends what handlers ask on.
        control: sends progress.
        passage: the filters that answers pass.
        answering: sends what is answered later.

    Attributes:
        promises: of handlers that answer later.
        workflows: that the cell is part of.
    """

    def __init__(self, fqcn: str, options: Options, *, caller: Caller, control: Control, passage: Passage,
                 answering: Answering) -> None:
        self._fqcn = fqcn
        self._options = options
        self._caller = caller
        self.workflows = caller.workflows
        self._control = control
        self._passage = passage
        self._answering = answering
        self._lender: Lender | None = None
        self.promises = Promises(fqcn, options.calls.late_answers_max, self)
        self._lock = threading.Lock()  # guards the one below
        self._renewed: dict[tuple[str, int], float] = {}  # deadlines that progress has moved; the oldest are forgotten

    def use_lender(self, lender: Lender) -> None:
        """Refs in bodies are resolved by this service."""
        self._lender = lender

    # --- for handlers: see the methods of `Request` ---------------------------------------------

    def left_s(self, request: Request) -> float | None:
        """See `Request.left_s`."""
        if request.deadline is None:
            return None
        if request.abort.is_triggered:
            return 0.0
        message = _message(request)
        deadline = self._renewed.get((message.origin, message.id), request.deadline)
        return max(0.0, deadline - time.monotonic())

    def verified_by(self, request: Request) -> str:
        """See `Request.verified_by`."""
        if request.hops:
            return NONE
        if request.origin == self._fqcn:
            return SELF
        scheme = self._control.loop.ask(lambda: self._scheme_of(request.origin))
        return scheme if scheme in VERIFYING else NONE

    def progress(self, request: Request, facts: Mapping[str, object]) -> None:
        """See `Request.progress`."""
        check_headers(facts)
        self._check_wanted(request)
        message = _message(request)
        if isinstance(message, wire.Notice):
            return
        if message.timeout_s is not None:
            with self._lock:
                self._renewed[message.origin, message.id] = time.monotonic() + message.timeout_s
                while len(self._renewed) > self._options.calls.remembered_max:
                    del self._renewed[next(iter(self._renewed))]
        self._control.post(wire.Progress(self._fqcn, message.origin, message.id, dict(facts)))

    def later(self, request: Request) -> Later:
        """See `Request.later`."""
        message = _message(request)
        if isinstance(message, wire.Notice):
            raise LocalProtocolError(what="a notice has no answer, so there is none to promise")
        later = self.promises.make(message)
        # Called at once when the caller has given up already.
        request.abort.on_trigger(lambda: _done(self.promises.take(message.origin, message.id)))
        return later

    def resolved(self, request: Request) -> object:
        """See `Request.resolved`."""
        return self.resolve(request, request.body)

    def resolve(self, request: Request, body: object, wanted: Resolving = True) -> object:
        """The same body with its refs pulled: while bytes come, both sides' time begins anew."""
        if self._lender is None:
            return body
        left = self.left_s(request)
        timeout_s = None if left is None else max(LEAST_S, left)
        message = _message(request)
        renew_s = message.timeout_s if isinstance(message, wire.Request) else None
        return self._lender.resolve(body, timeout_s, abort=request.abort, renew_s=renew_s, to=target_of(wanted),
                                    progress=_Reports(self, request))

    def ask(self, request: Request, to: tuple[str, str, str], body: object, onward: Onward) -> Reply:
        """See `Request.request`."""
        self._check_wanted(request)
        return self._caller.request(*to, body, self._sending(request, onward))

    def forward(self, request: Request, to: tuple[str, str, str], onward: Onward) -> Reply:
        """See `Request.forward`."""
        self._check_wanted(request)
        message = _message(request)
        sending = self._sending(request, onward)

        def tell(facts: Mapping[str, object]) -> None:
            """The caller hears what the other cell reports."""
            with suppress(ZdlError):  # then he waits no more, which the other cell is told by his abort
                self.progress(request, facts)

        sending = replace(sending, on_progress=tell)
        if not message.body:  # a filter has changed it
            return self._caller.request(*to, request.body, sending)
        return self._caller.pass_on(to, message.body, REFS_HEADER in message.headers, sending)

    # --- for promises ---------------------------------------------------------------------------

    def reply_late(self, message: wire.Request, body: object) -> bool:
        """See `Later.reply`."""
        try:
            body, headers = self._passage.outgoing(message, body, None)
        except ZdlError as error:
            return self._fail(message, error)
        return self._answering.send_body(message, body, headers)

    def fail_late(self, message: wire.Request, error: Exception) -> bool:
        """See `Later.fail`."""
        try:
            body, headers = self._passage.outgoing(message, None, self.told(message, error))
        except ZdlError as worse:
            return self._fail(message, worse)
        return self._answering.send_body(message, body, headers)

    def told(self, message: wire.Request | wire.Notice, error: BaseException) -> ZdlError:
        """What a caller gets for what a handler raised: a refusal of this cell as it is, all else as `RemoteError`."""
        if (isinstance(error, Refused) and error.by == self._fqcn) or (
                isinstance(error, RemoteError) and error.fqcn == self._fqcn):
            return error
        found = raised(error)
        return RemoteError(fqcn=self._fqcn, channel=message.channel, topic=message.topic, kind=found.kind, text=found.text)

    # --- inside ---------------------------------------------------------------------------------

    def _fail(self, message: wire.Request, error: ZdlError) -> bool:
        if not self.promises.take(message.origin, message.id):
            return False
        self._answering.send_error(message, error)
        return True

    def _scheme_of(self, origin: str) -> str:
        """On the loop: how a neighbour is connected; what verifies nothing if one that verifies nothing may speak for it."""
        loop = self._control.loop
        link = loop.switch.peers.up(origin)
        if link is None:
            return NONE
        above = [each.link for each in loop.switch.peers.links() if each.is_parent or is_ancestor(each.fqcn, self._fqcn)]
        schemes = [scheme_of(loop.links, number) for number in (link.link, *above)]
        return next((each for each in schemes if each not in VERIFYING), schemes[0])

    def _check_wanted(self, request: Request) -> None:
        if request.abort.is_triggered:
            raise Cancelled(what=f"{request.channel}/{request.topic}", why="the caller waits no more")

    def _sending(self, request: Request, onward: Onward) -> Sending:
        timeout_s = onward.timeout_s
        if timeout_s == LEFT_S:
            left = self.left_s(request)
            timeout_s = None if left is None else max(LEAST_S, left)
        return Sending(timeout_s, onward.headers, request.abort, onward.resolve, onward.receivers,
                       lending=onward.lending, workflow=onward.workflow or request.workflow)


def unpacked(handling: Handling, request: Request) -> object:
    """The body of a request, its refs bound to it, for a handler that resolves them or that looks at it: see `Request.body`."""
    message = _message(request)
    options, types = handling._options.packing, handling._caller.packing.types
    if REFS_HEADER not in message.headers:
        return unpack(message.body, options=options, types=types)
    holder: Holder | None = None
    if handling._lender is not None:
        # While bytes come, the caller waits on, whoever pulls them. Refs may be kept for long; neither the body nor its
        # frames shall be kept with them.
        alone = replace(request, content=None, message=replace(message, body=()))
        holder = handling._lender.holder(_Reports(handling, alone))
    whole = partial(unpack, message.body, options=options, types=types, holder=holder)
    if isinstance(request.content, Unread):
        return opened(message.body, whole, skeleton_bytes_max=options.skeleton_bytes_max)
    return whole()


class _Reports:
    """Tells the caller of a request, from time to time, that the bytes of its body come. One is equal to another of the same
    request, so that a pull that has both tells one.

    Threads: any; what two do at once may be told twice.
    """

    def __init__(self, handling: Handling, request: Request) -> None:
        self._handling = handling
        self._request = request
        message = _message(request)
        self._key = message.origin, message.id
        timeout_s = message.timeout_s if isinstance(message, wire.Request) else None
        self._every_s = REPORT_S_MAX if timeout_s is None else min(REPORT_S_MAX, timeout_s / REPORTS_PER_TIMEOUT)
        self._next_at = 0.0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Reports) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __call__(self, bytes_done: int, bytes_total: int) -> None:
        """So many bytes are there."""
        now = time.monotonic()
        if now < self._next_at:
            return
        self._next_at = now + self._every_s
        with suppress(ZdlError):  # the pull itself ends when nobody waits
            self._handling.progress(self._request, {"bytes_done": bytes_done, "bytes_total": bytes_total})


def _message(request: Request) -> wire.Request | wire.Notice:
    if request.message is None:
        raise LocalProtocolError(what="this request did not come to a cell")
    return request.message


def _done(was_open: bool) -> None:
    """What comes of taking a promise does not matter to who gives up."""
