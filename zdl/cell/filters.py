"""Filters: users' code that the messages of this cell pass on their way out and in.

A filter is added for one `Point`, for a channel and a topic; ``*`` is any. It sees each message that this cell sends or gets
itself, whatever its size: the facts, and the body as an object. Messages for others that this cell passes on are opened
by nobody; `Filters.observe` tells their facts.

What a filter returns decides:

============================ ============================================ ==============================================
it returns                   requests and notices                         replies
============================ ============================================ ==============================================
nothing                      the message goes on                          the reply, or the error, goes on
``message.changed(…)``       it goes on with another body or headers      the same; a body makes a good reply of an error
``message.answer(body)``     that is the reply: on the way out nothing    that is the reply; no further filter sees it
                             is sent and the caller has it; on the way
                             in no handler runs, and it goes back like
                             any reply. A notice is dealt with.
``message.refuse(text)``     the sender gets `Refused`                    the caller gets `Refused`
============================ ============================================ ==============================================

========================= ===================================================== ========================================
point                     what it sees, and when                                on which thread
========================= ===================================================== ========================================
outgoing request, notice  the object that shall be packed                       the one that sends
incoming request, notice  the object that was unpacked, before the handler      the handler pool, also for a handler
                                                                                that is registered as inline
outgoing reply            what the handler returned or raised, before it is     the one that the handler ran on, or that
                          packed                                                answers later
incoming reply            what the caller is about to get: a reply, or the      the one that waits; for futures the
                          error that ended the call                             handler pool
========================= ===================================================== ========================================

Several filters that fit run in the order in which they were added, each seeing what the one before made of the message,
until one answers or refuses. A filter that raises refuses: the message does not go on, and the other side gets `Refused`
with the reason ``filter-failed``; a `Refused` that it raises is taken as it is. The time that filters take is part of the
call's timeout.

What was lent stands in an incoming body as `Ref` leaves: a filter that needs the bytes is added with ``resolve=True``, and
they are pulled before it runs; else a refused message costs no pull. A ``*`` for the channel does not reach the cell's own
channel `OWN_CHANNEL`, over which services work; who means that names it. Refusals that a loop makes itself (no such
handler, a limit that is reached) pass no outgoing filter.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from zdl.cell.handlers import ANY, Raised, guarded
from zdl.cell.passing_by import Observer, PassingBy
from zdl.errors import OptionError, Refused, ZdlError

_LOG = logging.getLogger("zdl.cell")
# Services of the cell work over it; a star does not mean it.
OWN_CHANNEL = "zdl"
FILTERS_MAX = 1000
# Reasons in `Refused`, unless the filter gives one of its own.
REASON = "filter"
FAILED = "filter-failed"
# In place of a body: None is a body too.
UNCHANGED = object()


class Point(Enum):
    """Where a message passes a filter."""

    OUTGOING_REQUEST = "outgoing request"
    INCOMING_REQUEST = "incoming request"
    OUTGOING_REPLY = "outgoing reply"
    INCOMING_REPLY = "incoming reply"
    OUTGOING_NOTICE = "outgoing notice"
    INCOMING_NOTICE = "incoming notice"


# Only there something may have been lent that is not here yet.
_INCOMING = frozenset({Point.INCOMING_REQUEST, Point.INCOMING_REPLY, Point.INCOMING_NOTICE})
# There filters run on a thread of the user's, whose interruption is not theirs to keep.
_USERS_THREADS = frozenset({Point.OUTGOING_REQUEST, Point.OUTGOING_NOTICE, Point.INCOMING_REPLY})


@dataclass(frozen=True, slots=True)
class Answered:
    """A filter's verdict: this is the reply."""

    body: object


@dataclass(frozen=True, slots=True)
class Refusal:
    """A filter's verdict: no."""

    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Passing:
    """A message as a filter sees it.

    Attributes:
        point: where it passes.
        origin: FQCN of the cell that sent it; of a reply, of the cell that was asked.
        target: FQCN of the cell that it is for.
        channel: first half of the handler's name; of a reply, of its request.
        topic: second half.
        body: the object; None in a reply that is an error.
        headers: the user's own, plain values.
        hops: how many cells have passed it on; 0 on the way out.
        error: of a reply: what was raised, or what ended the call; else None.
    """

    point: Point
    origin: str
    target: str
    channel: str
    topic: str
    body: object
    headers: Mapping[str, object]
    hops: int = 0
    error: ZdlError | None = None

    def changed(self, *, body: object = UNCHANGED, headers: Mapping[str, object] | None = None) -> Passing:
        """The verdict that it goes on changed.

        Args:
            body: what stands instead of its body; a reply that was an error is a good one then.
            headers: what stands instead of its headers.
        """
        kept = self if headers is None else replace(self, headers=headers)
        return kept if body is UNCHANGED else replace(kept, body=body, error=None)

    def answer(self, body: object = None) -> Answered:
        """The verdict that this is the reply."""
        return Answered(body)

    def refuse(self, text: str, *, reason: str = REASON) -> Refusal:
        """The verdict that it does not go on: `text` says why, `reason` is a stable word (`zdl.cell.codes.REASONS`)."""
        return Refusal(reason, text)


Verdict = Passing | Answered | Refusal | None
Filter = Callable[[Passing], Verdict]
Resolve = Callable[[object], object]


@dataclass(frozen=True, slots=True)
class _Entry:
    """A filter that was added."""

    channel: str
    topic: str
    function: Filter
    resolve: bool

    def fits(self, channel: str, topic: str) -> bool:
        """Whether it sees messages of this channel and topic."""
        is_channel = self.channel == channel or (self.channel == ANY and channel != OWN_CHANNEL)
        return is_channel and self.topic in (topic, ANY)


class Decorator:
    """``@cell.filters.incoming_request("task", "*")``: how a filter is added at one point.

    Threads: any.

    Args:
        point: the point.
        add: adds a filter there.
    """

    def __init__(self, point: Point, add: Callable[[Point, _Entry], None]) -> None:
        self._point = point
        self._add = add

    def __repr__(self) -> str:
        return f"<Decorator of filters of each {self._point.value}>"

    def __call__(self, channel: str, topic: str, *, resolve: bool = False) -> Callable[[Filter], Filter]:
        """The decorated function filters what passes here.

        Args:
            channel: first half of the handler's name; ``*`` is any.
            topic: second half.
            resolve: pull what is lent in the body before the filter runs; only of what comes in.

        Raises:
            OptionError: nothing can be pulled for what goes out; or there are `FILTERS_MAX` at this point.
        """
        if resolve and self._point not in _INCOMING:
            raise OptionError(name="resolve", value="True", allowed=f"False for each {self._point.value}: what it lends is here")

        def add(function: Filter) -> Filter:
            """The decorator."""
            self._add(self._point, _Entry(channel, topic, function, resolve))
            return function

        return add


class Filters:
    """The filters of one cell: ``cell.filters``.

    Threads: all methods from any thread; a message that is on its way meanwhile may pass the filters as they were.

    Attributes:
        is_used: whether there is any filter.
        passing_by: who observes what the cell passes on.
        outgoing_request: decorator, for requests of this cell; see the table above for what each sees, and on which thread.
        incoming_request: for requests for this cell.
        outgoing_reply: for what this cell's handlers return or raise.
        incoming_reply: for what requests of this cell bring, replies and errors.
        outgoing_notice: for notices of this cell.
        incoming_notice: for notices for this cell.

    Args:
        fqcn: the cell, for errors.
        check_headers: raises for headers that cannot travel.
    """

    def __init__(self, fqcn: str, check_headers: Callable[[Mapping[str, object]], None]) -> None:
        self._fqcn = fqcn
        self._check_headers = check_headers
        self._lock = threading.Lock()  # guards adding and removing
        # Replaced whole, never changed: who runs filters has taken them before.
        self._entries: Mapping[Point, tuple[_Entry, ...]] = {}
        self.is_used = False
        self.passing_by = PassingBy()
        self.outgoing_request = Decorator(Point.OUTGOING_REQUEST, self._add)
        self.incoming_request = Decorator(Point.INCOMING_REQUEST, self._add)
        self.outgoing_reply = Decorator(Point.OUTGOING_REPLY, self._add)
        self.incoming_reply = Decorator(Point.INCOMING_REPLY, self._add)
        self.outgoing_notice = Decorator(Point.OUTGOING_NOTICE, self._add)
        self.incoming_notice = Decorator(Point.INCOMING_NOTICE, self._add)

    def __repr__(self) -> str:
        shown = ", ".join(f"{len(entries)} {point.value}" for point, entries in self._entries.items() if entries)
        return f"<Filters of {self._fqcn}: {shown or 'none'}>"

    def observe(self, function: Observer) -> Observer:
        """Decorator: the function is told, on the handler pool, of each message for others that this cell passes on or
        cannot pass on: its facts, never its body. Told in order; what it cannot keep up with is dropped, and counted in
        ``passing_by.dropped_count``.
        """
        return self.passing_by.add(function)

    def remove(self, function: Filter) -> None:
        """The function filters nothing any more, wherever it was added."""
        with self._lock:
            self._entries = {point: tuple(each for each in entries if each.function is not function)
                             for point, entries in self._entries.items()}
            self.is_used = any(self._entries.values())

    # --- for the cell ---------------------------------------------------------------------------

    def wants(self, point: Point, channel: str, topic: str) -> bool:
        """Whether some filter sees messages of this channel and topic there."""
        return any(each.fits(channel, topic) for each in self._entries.get(point, ()))

    def passed(self, message: Passing, resolve: Resolve | None = None) -> Passing | Answered:
        """What comes of a message that passes the filters of its point; the message itself where none changes it.

        Args:
            message: as it comes.
            resolve: pulls what is lent in a body; None where there is nobody to do so.

        Raises:
            Refused: a filter refused it, or raised.
            ZdlError: what a filter wanted to be resolved could not be.
        """
        is_resolved = False
        for entry in self._entries.get(message.point, ()):
            if not entry.fits(message.channel, message.topic):
                continue
            if entry.resolve and not is_resolved and resolve is not None and message.error is None:
                message, is_resolved = replace(message, body=resolve(message.body)), True
            seen = message
            verdict = guarded(lambda: self._verdict(entry, seen))
            if isinstance(verdict, Raised):
                raise self._failed(entry, message.point, verdict)
            match verdict:
                case Passing():
                    # Where it goes is not for a filter to say.
                    message = replace(message, body=verdict.body, headers=verdict.headers, error=verdict.error)
                case Refusal(reason=reason, text=text):
                    raise Refused(by=self._fqcn, reason=reason, text=text)
                case Answered():
                    return verdict
        return message

    # --- inside ---------------------------------------------------------------------------------

    def _add(self, point: Point, entry: _Entry) -> None:
        with self._lock:
            entries = (*self._entries.get(point, ()), entry)
            if len(entries) > FILTERS_MAX:
                raise OptionError(name="filters", value=str(len(entries)), allowed=f"at most {FILTERS_MAX} at one point")
            self._entries = {**self._entries, point: entries}
            self.is_used = True

    def _verdict(self, entry: _Entry, message: Passing) -> Verdict:
        verdict = entry.function(message)
        if verdict is not None and not isinstance(verdict, (Passing, Answered, Refusal)):
            raise TypeError(f"it returned a {type(verdict).__name__}: a filter returns nothing or a verdict of its message")
        if isinstance(verdict, Passing) and verdict.headers is not message.headers:
            self._check_headers(verdict.headers)
        return verdict

    def _failed(self, entry: _Entry, point: Point, raised: Raised) -> BaseException:
        """What is raised for a filter that raised."""
        if isinstance(raised.error, Refused):
            return raised.error
        if point in _USERS_THREADS and not isinstance(raised.error, Exception):
            return raised.error
        name = getattr(entry.function, "__qualname__", type(entry.function).__name__)
        _LOG.info("! filter %s of %s raised", name, point.value, exc_info=raised.error)
        return Refused(by=self._fqcn, reason=FAILED, text=f"the filter of each {point.value} raised {raised.kind}: {raised.text}")
