"""What a handler gets and what a caller gets: a request and a reply, as users see them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from zdl.cell.signal import Signal
from zdl.errors import ZdlError
from zdl.objects.unpack import unpack
from zdl.options import PackOptions
from zdl.protocol.messages import Body

# Set in a message's headers when its body contains refs, so that who need not look does not.
REFS_HEADER = "zdl-refs"


@dataclass(frozen=True, slots=True)
class Request:
    """A request or notice, as its handler sees it.

    Attributes:
        origin: FQCN of the cell that sent it.
        target: FQCN of this cell.
        channel: first half of the handler's name.
        topic: second half.
        body: the object, its refs resolved or not, as the handler was registered.
        headers: the sender's own, plain values.
        hops: how many cells passed it on.
        deadline: when the sender stops waiting, on this machine's monotonic clock; None for never and for notices.
        abort: triggered when the sender does not wait any more.
    """

    origin: str
    target: str
    channel: str
    topic: str
    body: object
    headers: Mapping[str, object]
    hops: int
    deadline: float | None
    abort: Signal = field(repr=False)


class Reply:
    """The answer to a request.

    The body is unpacked when it is first looked at, by the thread that looks.
    """

    __slots__ = ("origin", "headers", "hops", "_parts", "_options", "_body", "_is_unpacked", "_lock")

    def __init__(self, origin: str, headers: Mapping[str, object], hops: int, parts: Body, options: PackOptions) -> None:
        self.origin = origin
        self.headers = headers
        self.hops = hops
        self._parts = parts
        self._options = options
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
                self._body = unpack(self._parts, options=self._options)
                self._is_unpacked = True
                self._parts = ()
        return self._body

    def with_body(self, change: Callable[[object], object]) -> Reply:
        """The same reply with another body, e.g. one whose refs are resolved."""
        changed = Reply(self.origin, self.headers, self.hops, (), self._options)
        changed._body, changed._is_unpacked = change(self.body), True
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
