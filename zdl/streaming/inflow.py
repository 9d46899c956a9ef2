"""Inflow: one stream in, between the lane, which brings its items, and the thread that consumes them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from zdl.cell.calling import OWN_HEADERS
from zdl.cell.cell import BareCell
from zdl.cell.workflow import HEADER as WORKFLOW_HEADER, Workflow, read_mark
from zdl.errors import TimedOut, ZdlError
from zdl.protocol.items import size_of
from zdl.protocol.messages import Body
from zdl.protocol.pushing import Open

# Consumed items are reported when they have so large a share of the window, or when there is nothing else to do, and so often: who
# takes small items slowly is seen to go on, and a quick stream of them has few messages.
REPORT_SHARE = 8
REPORT_S = 0.005


class Inflow:
    """One stream in.

    Threads: `take` and what follows it from one thread at a time; `end` from any.

    Args:
        cell: whose data lane it comes over.
        message: what opened it.
        woken: called on the lane when there is something to do: items, the end, or an error.
        idle_timeout_s: no item for so long ends it.

    Raises:
        DecodeError: it names a workflow, but not as workflows are named.
    """

    def __init__(self, cell: BareCell, message: Open, woken: Callable[[], None], idle_timeout_s: float | None = None) -> None:
        self.origin = message.origin
        self.channel = message.channel
        self.topic = message.topic
        self.bytes_total = message.bytes_total
        self._mark = message.headers.get(WORKFLOW_HEADER)
        if self._mark is not None:  # what the sender's cell itself says among them must be right
            read_mark(self._mark)
        self.headers: Mapping[str, object] = {name: value for name, value in message.headers.items() if name not in OWN_HEADERS}
        self._arrived_at = time.monotonic()
        self._workflows = cell.workflows
        self.context: Body = message.body
        self._key = (message.origin, message.id)
        self._desk = cell.pushing
        self._report_bytes = cell.options.streams.window_bytes // REPORT_SHARE
        self._woken = woken
        self.idle_timeout_s = idle_timeout_s
        self._changed = threading.Condition()  # guards the four below
        self._items: deque[Body] = deque()
        self._is_complete = False
        self.error: ZdlError | None = None
        self._has_ended = False
        self._replies: list[Body] = []
        self._unreported_bytes = 0
        self._reported_at = 0.0

    def __repr__(self) -> str:
        state = "ended" if self._has_ended else "complete" if self._is_complete else "open"
        return f"<Inflow {self.channel}/{self.topic} of {self.origin}: {len(self._items)} items here, {state}>"

    @property
    def has_work(self) -> bool:
        """Whether `take` returns at once."""
        return bool(self._items) or self._is_complete or self.error is not None

    @property
    def workflow(self) -> Workflow | None:
        """The workflow that it belongs to; None for one of none.

        Raises:
            Busy: this cell is part of ``calls.workflows_max`` already.
        """
        return None if self._mark is None else self._workflows.joined(self._mark, self._arrived_at)

    def take(self, timeout_s: float | None = None) -> Body | None:
        """The next item; None when there will be none.

        Raises:
            ZdlError: the stream has ended with this.
            TimedOut: nothing came in time.
        """
        items = self._items
        if items:  # most often it is here; nobody else takes from this queue, so that no lock is needed
            return items.popleft()
        self.report()
        until = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while not self._items and not self._is_complete and self.error is None:
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    raise TimedOut(what=f"the next item of stream {self.channel}/{self.topic}", address=self.origin,
                                   waited_s=timeout_s or 0.0)
                self._changed.wait(left)
            if self.error is not None:
                raise self.error
            return self._items.popleft() if self._items else None

    def consumed(self, parts: Body, reply: Body = ()) -> None:
        """An item that was taken is done with; its sender gets credit for it soon."""
        self._replies.append(reply)
        self._unreported_bytes += size_of(parts)
        if self._unreported_bytes >= self._report_bytes or time.monotonic() > self._reported_at + REPORT_S:
            self.report()

    def report(self) -> None:
        """Tell the sender how far it is."""
        if self._replies:
            replies, self._replies, self._unreported_bytes = self._replies, [], 0
            self._reported_at = time.monotonic()
            self._desk.took(self._key, replies)

    def end(self, error: ZdlError | None, body: Body = ()) -> None:
        """The stream has ended here: with its result, or an error, of which the sender hears. Only the first end counts."""
        with self._changed:
            if self._has_ended:
                return
            self._has_ended = True
        self.report()
        self._desk.end(self._key, error, body)

    # --- on the lane ----------------------------------------------------------------------------

    def arrived(self, items: Sequence[Body]) -> None:
        """The next items."""
        with self._changed:
            self._items += items
            self._changed.notify()
        self._woken()

    def complete(self) -> None:
        """There will be no more."""
        with self._changed:
            self._is_complete = True
            self._changed.notify()
        self._woken()

    def settled(self, error: ZdlError) -> None:
        """The stream has ended before its end."""
        with self._changed:
            self.error = error
            self._has_ended = True
            self._items = deque()  # who takes may have seen that the other one has an item
            self._changed.notify()
        self._woken()
