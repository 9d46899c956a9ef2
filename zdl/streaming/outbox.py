"""Outbox: what is put for the receivers of one stream, until the lane takes it.

What is put while nothing is on its way leaves at once. What is put while something is, is gathered until that has arrived at one of
the receivers or a message is full: so a busy stream of small items makes few large messages, and a quiet one waits for nothing.
"""

from __future__ import annotations

import threading

from zdl.cell.cell import BareCell
from zdl.protocol.backlog import ITEM_OVERHEAD_BYTES, Backlog
from zdl.protocol.items import BATCH_BYTES
from zdl.protocol.messages import Body


class Outbox:
    """What is put for one receiver, or for several at once.

    Threads: `put` and `finish` from any thread but the loops'; the others as they say.

    Args:
        cell: whose data lane takes it.

    Attributes:
        changed: what waits for room, or for the end; guards all that is here, and what the receivers' outflows have.
        backlog: where the lane has what it took.
        put_count: items so far.
        bytes_put: their bytes, each with ``ITEM_OVERHEAD_BYTES``.
    """

    def __init__(self, cell: BareCell) -> None:
        self.changed = threading.Condition()
        self.backlog = Backlog()
        self.put_count = 0
        self.bytes_put = 0
        self._desk = cell.pushing
        self._gathered: list[tuple[Body, float | None]] = []
        self._gathered_bytes = 0
        self._receivers = 0
        self._is_free = True
        self._is_scheduled = False

    def put(self, parts: Body, size: int, timeout_s: float | None) -> None:
        """One more item, whose size is known."""
        with self.changed:
            self._gathered.append((parts, timeout_s))
            self._gathered_bytes += size
            self.put_count += 1
            self.bytes_put += size + ITEM_OVERHEAD_BYTES
            if self._is_scheduled or not (self._is_free or self._gathered_bytes >= BATCH_BYTES):
                return
            self._is_scheduled = True
        self.leave()

    def leave(self) -> None:
        """What was gathered is taken soon."""
        self._desk.push(self.backlog, self._drain)

    def finish(self, number: int) -> None:
        """No more items for this push; what was gathered is taken before."""
        self._desk.push(self.backlog, self._drain, last_of=number)

    def joined(self) -> None:
        """With the lock: one more receiver."""
        self._receivers += 1

    def left(self) -> None:
        """With the lock: one less; without any nothing is kept."""
        self._receivers -= 1
        if not self._receivers:
            self._gathered.clear()

    def moved(self, *, is_free: bool) -> bool:
        """With the lock: a receiver has gone on. Returns whether `leave` is to be called."""
        is_due = is_free and bool(self._gathered) and not self._is_scheduled
        self._is_scheduled |= is_due
        self._is_free |= is_free and not self._is_scheduled
        return is_due

    def _drain(self) -> list[tuple[Body, float | None]]:
        """On the lane."""
        with self.changed:
            items, self._gathered = self._gathered, []
            self._gathered_bytes = 0
            self._is_scheduled = False
            self._is_free = not items and self._is_free
        return items
