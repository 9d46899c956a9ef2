"""Outflow: one stream out, as the threads that feed it see it: items, credit that is waited for, one end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from zdl.cell.cell import BareCell
from zdl.cell.signal import Signal
from zdl.errors import Cancelled, Closed, TimedOut, TooLarge, ZdlError
from zdl.protocol.effects import PushMoved
from zdl.protocol.items import size_of
from zdl.protocol.messages import Body
from zdl.protocol.pushes import Opening
from zdl.streaming.outbox import Outbox

# How often one that waits looks whether the cell is still open.
LOOK_S = 1.0
Replied = Callable[[int, tuple[Body, ...]], None]


class Outflow:
    """One stream to one cell.

    Threads: `put`, `finish`, `cancel` and the waits from any thread but the loops'.

    Args:
        cell: whose data lane it goes over.
        opening: what is pushed, to whom.
        outbox: what is put for it; shared by the outflows of one stream to many, with its condition, which guards all that is here.
        replied: gets the number of the first reply, and the replies; on the lane, outside the lock.
    """

    def __init__(self, cell: BareCell, opening: Opening, outbox: Outbox, replied: Replied | None = None) -> None:
        self.target = opening.target
        self.opening = opening
        self._desk = cell.pushing
        self._options = cell.options.streams
        self._outbox = outbox
        self._changed = outbox.changed
        self._replied = replied
        self._is_full = False
        self.consumed = 0
        self.bytes_consumed = 0
        self.has_ended = False
        self.error: ZdlError | None = None
        self.result: Body = ()
        self._unlink: Callable[[], None] | None = None
        with outbox.changed:
            outbox.joined()
        self._number = self._desk.open(opening, outbox.backlog, moved=self._moved, settled=self._settled)

    def __repr__(self) -> str:
        state = "open" if not self.has_ended else "ended" if self.error is None else f"failed: {self.error}"
        return f"<Outflow {self.opening} to {self.target}: {self.consumed} of {self.put_count} items, {state}>"

    @property
    def put_count(self) -> int:
        """Items so far."""
        return self._outbox.put_count

    @property
    def bytes_waiting(self) -> int:
        """Put and not consumed."""
        return self._outbox.bytes_put - self.bytes_consumed

    @property
    def has_room(self) -> bool:
        """Whether it takes an item without waiting; once it does not, it does again when half has gone."""
        self._is_full = self._outbox.bytes_put >= self.room_bytes
        return self.has_ended or not self._is_full

    @property
    def room_bytes(self) -> int:
        """As far as so many bytes put in all."""
        limit = self._options.window_bytes
        return self.bytes_consumed + (limit // 2 if self._is_full else limit)

    def put(self, parts: Body, timeout_s: float | None = None) -> None:
        """One more item; it leaves as soon as there is credit.

        Raises:
            TooLarge: it is larger than ``item_bytes_max``.
        """
        size = self.checked(parts)
        if not self.has_ended:
            self._outbox.put(parts, size, timeout_s)

    def checked(self, parts: Body) -> int:
        """The size of an item.

        Raises:
            TooLarge: it is larger than ``item_bytes_max``.
        """
        size = size_of(parts)
        if size > self._options.item_bytes_max:
            raise TooLarge(what=f"an item of {self.opening}", size=size, limit="item_bytes_max",
                           value=self._options.item_bytes_max)
        return size

    def finish(self) -> None:
        """No more items."""
        self._outbox.finish(self._number)

    def cancel(self, why: str) -> None:
        """Break off."""
        self.fail(Cancelled(what=f"{self.opening} to {self.target}", why=why))

    def end_with(self, signal: Signal, why: str) -> None:
        """Break off when that is triggered; once, in the beginning."""
        def end() -> None:
            """In the thread that triggers."""
            with suppress(Closed):  # then it has ended
                self.cancel(why if signal.value is True else f"{why}: {signal.value}")

        unlink = signal.on_trigger(end)
        with self._changed:
            self._unlink = unlink
            has_ended = self.has_ended
        if has_ended:
            unlink()

    def fail(self, error: ZdlError) -> None:
        """Break off with an error, of which the receiver hears."""
        self._desk.cancel(self._number, error)

    def wait(self, is_done: Callable[[], bool], timeout_s: float | None, what: str) -> None:
        """Wait for something that a word of the receiver brings about; see `wait_for`."""
        wait_for(self._changed, is_done, timeout_s, what, self.target)

    # --- on the lane ----------------------------------------------------------------------------

    def _moved(self, moved: PushMoved) -> None:
        with self._changed:
            had_room = self.has_room
            self.consumed, self.bytes_consumed = moved.consumed, moved.bytes_consumed
            is_due = self._outbox.moved(is_free=moved.is_free)
            if self._replied is None and (self.has_room and not had_room or self.bytes_waiting == 0):
                self._changed.notify_all()
        if is_due:
            self._outbox.leave()
        if self._replied is not None and moved.replies:
            self._replied(moved.consumed - len(moved.replies), moved.replies)

    def _settled(self, error: ZdlError | None, body: Body) -> None:
        with self._changed:
            self.has_ended, self.error, self.result = True, error, body
            self._outbox.left()
            self._changed.notify_all()
            unlink = self._unlink
        if unlink is not None:
            unlink()
        if self._replied is not None:
            self._replied(self.consumed, ())


def wait_for(changed: threading.Condition, is_done: Callable[[], bool], timeout_s: float | None, what: str, target: str) -> None:
    """Wait until something is so.

    Raises:
        TimedOut: it was not within the time.
    """
    begun = time.monotonic()
    with changed:
        while not is_done():
            left = LOOK_S if timeout_s is None else timeout_s - (time.monotonic() - begun)
            if left <= 0:
                raise TimedOut(what=what, address=target, waited_s=time.monotonic() - begun)
            changed.wait(min(left, LOOK_S))
