"""What a handler gets and what a caller gets: a request and a reply, as users see them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Protocol

from zdl.cell.later import Later
from zdl.cell.lending import NOTHING, Lending
from zdl.cell.service import Resolving
from zdl.cell.signal import Signal
from zdl.cell.workflow import HEADER, Workflow
from zdl.errors import LocalProtocolError, Refused, ZdlError
from zdl.objects.typetable import TypeTable
from zdl.objects.unopened import opened
from zdl.objects.unpack import unpack
from zdl.options import PackOptions
from zdl.protocol.messages import Body, Notice, Request as WireRequest
from zdl.refs import Holder

# Set in a message's headers when its body contains refs, so that who need not look does not.
REFS_HEADER = "zdl-refs"
# A timeout for what a handler asks on: as long as its own caller still waits.
LEFT_S = -1.0
NO_FACTS: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Onward:
    """What a handler may choose when it asks on.

    Attributes:
        timeout_s: how long to wait; `LEFT_S`: as long as the request's own caller still does; None for ever.
        headers: plain values for the other handler.
        resolve: whether refs in the reply are pulled before it is returned.
        receivers: who pulls what the body lends, by name, or how many different cells.
        lending: how the body is packed and lent.
        workflow: what the message belongs to; None: what the request does.
    """

    timeout_s: float | None
    headers: Mapping[str, object]
    resolve: Resolving
    receivers: Sequence[str] | int = 1
    lending: Lending | None = None
    workflow: Workflow | None = None


class Unread:
    """A body that is unpacked when its handler first looks at it.

    Threads: all; it is unpacked once.

    Args:
        unpack: the body of a request.
    """

    __slots__ = ("_lock", "_unpack", "_body")

    def __init__(self, unpack: Callable[[Request], object]) -> None:
        self._lock = threading.Lock()  # guards the two below
        self._unpack: Callable[[Request], object] | None = unpack
        self._body: object = None

    def read(self, request: Request) -> object:
        """The body of the request that has this one's content."""
        with self._lock:
            if self._unpack is not None:
                self._body = self._unpack(request)
                self._unpack = None
        return self._body


class Joining(Protocol):
    """The workflows that a cell is part of; see `zdl.cell.workflows.Workflows`."""

    def joined(self, mark: object, arrived_at: float) -> Workflow: ...


class Desk(Protocol):
    """What a cell does for a handler with its request in hand; see the methods of `Request`."""

    @property
    def workflows(self) -> Joining: ...

    def left_s(self, request: Request) -> float | None: ...
    def verified_by(self, request: Request) -> str: ...
    def resolved(self, request: Request) -> object: ...
    def progress(self, request: Request, facts: Mapping[str, object]) -> None: ...
    def later(self, request: Request) -> Later: ...
    def ask(self, request: Request, to: tuple[str, str, str], body: object, onward: Onward) -> Reply: ...
    def forward(self, request: Request, to: tuple[str, str, str], onward: Onward) -> Reply: ...


@dataclass(frozen=True, slots=True)
class Request:
    """A request or notice, as its handler sees it.

    A handler that asks other cells on behalf of its caller does so by `request` and `forward`: what they send ends when
    the caller gives up, and waits no longer than he does.

    Threads: all methods from any thread; those that wait not from an inline handler.

    Attributes:
        origin: FQCN of the cell that sent it.
        target: FQCN of this cell.
        channel: first half of the handler's name.
        topic: second half.
        content: the body, or what it will be unpacked from: see `body`.
        headers: the sender's own, plain values.
        hops: how many cells passed it on.
        deadline: when the sender stops waiting, on this machine's monotonic clock; None for never and for notices.
        abort: triggered when the sender does not wait any more.
    """

    origin: str
    target: str
    channel: str
    topic: str
    content: object = field(repr=False)
    headers: Mapping[str, object]
    hops: int
    deadline: float | None
    abort: Signal = field(repr=False)
    desk: Desk | None = field(default=None, repr=False, compare=False)
    message: WireRequest | Notice | None = field(default=None, repr=False, compare=False)

    @property
    def body(self) -> object:
        """The object, its refs resolved or not, as the handler was registered.

        For a handler that resolves nothing it is unpacked when it is first looked at: who only sends it on never unpacks it,
        and needs none of the types in it. A dict of few keys with refs beneath is an `Unopened` then: its plain values are
        there, all others are unpacked when one of them is looked at.

        Raises:
            CannotUnpack: it is none, or holds a type that is not registered here. A handler that lets it pass has raised it:
                the caller gets a `RemoteError`. For a handler that resolves refs it is found before, and the caller gets it as
                it is.
        """
        content = self.content
        if type(content) is Unread:
            return content.read(self)
        return content

    @property
    def verified_by(self) -> str:
        """How the sender's name was verified: ``self`` (this cell), ``inproc`` (this process), ``ipc`` (who may open the
        socket's file), or ``none``: no keys, or a message that others passed on.
        """
        return self._desk().verified_by(self)

    def left_s(self) -> float | None:
        """How long the caller still waits: 0 when he does not any more, None for ever; `progress` renews it."""
        return self._desk().left_s(self)

    @property
    def workflow(self) -> Workflow | None:
        """The workflow that it belongs to; None for one of none.

        Raises:
            Busy: this cell is part of ``calls.workflows_max`` already.
        """
        message = self.message
        if message is None or HEADER not in message.headers:
            return None
        timeout_s = message.timeout_s if isinstance(message, WireRequest) else None
        arrived_at = time.monotonic() if self.deadline is None or timeout_s is None else self.deadline - timeout_s
        return self._desk().workflows.joined(message.headers[HEADER], arrived_at)

    def resolved(self) -> object:
        """The body with its refs pulled. While bytes come the caller waits on, as his timeout begins anew.

        Raises:
            DownloadError: which of them says what happened.
            TimedOut, Cancelled: no byte came for as long as the caller waits; he does not wait any more.
        """
        return self._desk().resolved(self)

    def progress(self, facts: Mapping[str, object] = NO_FACTS) -> None:
        """Tell the caller that it is worked on: his timeout begins anew. One message; nothing for a notice.

        Args:
            facts: plain values by name, for his ``on_progress``.

        Raises:
            Cancelled: he does not wait any more.
            OptionError: the facts cannot travel.
        """
        self._desk().progress(self, facts)

    def later(self) -> Later:
        """Answer after the handler has returned: return what this returns, and keep the promise from any thread.

        Raises:
            Busy, Closed: too many such promises are open; the cell closes.
        """
        return self._desk().later(self)

    def request(self, target: str, channel: str, topic: str, body: object = None, *, timeout_s: float | None = LEFT_S,
                headers: Mapping[str, object] = NO_FACTS, resolve: Resolving = True,
                receivers: Sequence[str] | int = 1, lending: Lending | None = None,
                workflow: Workflow | None = None) -> Reply:
        """Ask another cell on behalf of the caller; as ``cell.request``, but for its end.

        Args:
            target: FQCN of the cell that shall answer.
            channel: first half of its handler's name.
            topic: second half.
            body: of the new request.
            timeout_s: by default as long as the caller still waits; a number of your own counts as it is.
            headers: for the other handler; those of this request are not sent on by themselves.
            resolve: pull the refs in the reply before returning.
            receivers, lending: as for ``cell.request``.
            workflow: by default that of this request.

        Raises:
            Cancelled: the caller does not wait any more.
        """
        onward = Onward(timeout_s, headers, resolve, receivers, lending, workflow)
        return self._desk().ask(self, (target, channel, topic), body, onward)

    def forward(self, target: str, channel: str | None = None, topic: str | None = None, *,
                headers: Mapping[str, object] | None = None, resolve: bool = False) -> object:
        """Send this request's body on, refs and all, unopened, and return the body of the reply, to be returned in turn.

        The same channel, topic and headers unless others are given; no more time than the caller still waits. Progress
        that the other cell reports reaches the caller.

        Raises:
            Cancelled: the caller does not wait any more.
        """
        to = (target, self.channel if channel is None else channel, self.topic if topic is None else topic)
        onward = Onward(LEFT_S, self.headers if headers is None else headers, resolve)
        return self._desk().forward(self, to, onward).body

    def refused(self, reason: str, text: str) -> Refused:
        """An error to raise: the caller gets it as it is, not as a `RemoteError`; `reason` is a stable word."""
        return Refused(by=self.target, reason=reason, text=text)

    def _desk(self) -> Desk:
        if self.desk is None:
            raise LocalProtocolError(what="this request did not come to a cell")
        return self.desk


@dataclass(frozen=True, slots=True)
class Route:
    """The way of a traced request and of its reply, as the cells on it say.

    Attributes:
        there: the cells of the request's way, from the caller to the callee.
        back: the cells of the reply's way, from the callee to the caller.
    """

    there: tuple[str, ...]
    back: tuple[str, ...]


class Reply:
    """The answer to a request.

    The body is unpacked when it is first looked at, by the thread that looks.

    Attributes:
        origin: FQCN of the cell that answered.
        headers: plain values.
        hops: how many cells passed it on.
        route: the way there and back, if that was asked for with ``trace=True``.
        lent: what the request has lent.
    """

    __slots__ = ("origin", "headers", "hops", "route", "lent", "_parts", "_options", "_types", "_holder",
                 "_body", "_is_unpacked", "_lock")

    def __init__(self, origin: str, headers: Mapping[str, object], hops: int, parts: Body, options: PackOptions, *,
                 route: Route | None = None, types: TypeTable = TypeTable(), holder: Holder | None = None) -> None:
        self.origin = origin
        self.headers = headers
        self.hops = hops
        self.route = route
        self.lent = NOTHING
        self._parts = parts
        self._options = options
        self._types = types
        self._holder = holder
        self._body: object = None
        self._is_unpacked = False
        self._lock = threading.Lock()  # guards the unpacking: it happens once

    def __repr__(self) -> str:
        return f"<Reply from {self.origin}, {self.hops} hops, {sum(map(len, self._parts))} bytes>"

    @property
    def has_refs(self) -> bool:
        """Whether its sender says that the body contains refs."""
        return REFS_HEADER in self.headers

    @property
    def body(self) -> object:
        """The object.

        Raises:
            CannotUnpack: it is none.
        """
        if self._is_unpacked:
            return self._body
        with self._lock:
            if not self._is_unpacked:
                if REFS_HEADER in self.headers:
                    whole = partial(unpack, self._parts, options=self._options, types=self._types, holder=self._holder)
                    self._body = opened(self._parts, whole, skeleton_bytes_max=self._options.skeleton_bytes_max)
                else:
                    self._body = unpack(self._parts, options=self._options, types=self._types, holder=self._holder)
                self._is_unpacked = True
                self._parts = ()
        return self._body

    @classmethod
    def of_body(cls, origin: str, body: object, headers: Mapping[str, object], options: PackOptions) -> Reply:
        """A reply that did not come in a message."""
        made = cls(origin, headers, 0, (), options)
        made._body, made._is_unpacked = body, True
        return made

    def with_body(self, change: Callable[[object], object]) -> Reply:
        """The same reply with another body, e.g. one whose refs are resolved."""
        changed = Reply(self.origin, self.headers, self.hops, (), self._options, route=self.route)
        changed._body, changed._is_unpacked = change(self.body), True
        changed.lent = self.lent
        return changed


@dataclass(frozen=True, slots=True)
class Answer:
    """What one target of a broadcast said: a reply or an error, exactly one of them."""

    target: str
    reply: Reply | None
    error: ZdlError | None

    @property
    def is_ok(self) -> bool:
        """Whether there is a reply."""
        return self.error is None

    @property
    def body(self) -> object:
        """The reply's body; raises the error if that is what came."""
        if self.error is not None:
            raise self.error
        assert self.reply is not None
        return self.reply.body
