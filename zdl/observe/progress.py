"""Progress: how far a download is, in events of one shape at the origin and at the receiver; and who has stalled.

::

    start ──▶ active … ──▶ completed | failed | aborted

The first event comes at once, further ones when something has moved and the interval is over, the last one once and always.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

START: Final = "start"
ACTIVE: Final = "active"
COMPLETED: Final = "completed"
FAILED: Final = "failed"
ABORTED: Final = "aborted"
ENDS: Final = frozenset({COMPLETED, FAILED, ABORTED})
# The ancestor's interval.
INTERVAL_S = 30.0


@dataclass(frozen=True, slots=True)
class TransferProgress:
    """How far one receiver is with one object.

    Attributes:
        tx_id: the transaction, at its origin; empty at the receiver, who does not know it.
        ref_id: the object in it.
        receiver_id: FQCN of the receiver.
        sequence: 0 for the first event of this receiver and object, then one more each.
        bytes_done: consumed so far.
        items_done: pieces consumed so far.
        timestamp: on the monotonic clock of the process that tells it.
        state: ``start``, ``active``, ``completed``, ``failed`` or ``aborted``.
    """

    tx_id: str
    ref_id: str
    receiver_id: str
    sequence: int
    bytes_done: int
    items_done: int
    timestamp: float
    state: str

    @property
    def is_end(self) -> bool:
        """Whether no more come."""
        return self.state in ENDS


class ProgressMeter:
    """Counts, and tells when it is due.

    Threads: all methods from any thread; `tell` is called under no lock, in the order of the events as a rule.

    Args:
        tell: gets the events.
        tx_id: see `TransferProgress`; so are the next two.
        ref_id: …
        receiver_id: …
        interval_s: between events, at least; 0 tells every step.
    """

    def __init__(self, tell: Callable[[TransferProgress], object], *, tx_id: str, ref_id: str, receiver_id: str,
                 interval_s: float = INTERVAL_S) -> None:
        self._tell = tell
        self._interval_s = interval_s
        self._lock = threading.Lock()  # guards the two below
        self._last = TransferProgress(tx_id, ref_id, receiver_id, -1, 0, 0, float("-inf"), START)
        self._told = self._last

    @property
    def last(self) -> TransferProgress:
        """What was told last."""
        return self._told

    def advance(self, nbytes: int, items: int, now: float) -> None:
        """So much more was consumed; 0 for a beginning."""
        with self._lock:
            last = self._last
            if last.is_end:
                return
            self._last = replace(last, bytes_done=last.bytes_done + nbytes, items_done=last.items_done + items)
            is_first = self._told.sequence < 0
            has_moved = (self._last.bytes_done, self._last.items_done) > (self._told.bytes_done, self._told.items_done)
            if not is_first and not (has_moved and now >= self._told.timestamp + self._interval_s):
                return
            event = self._next(START if is_first else ACTIVE, now)
        self._tell(event)

    def end(self, state: str, now: float) -> None:
        """It is over; only the first end counts."""
        with self._lock:
            if self._last.is_end:
                return
            event = self._next(state, now)
        self._tell(event)

    def _next(self, state: str, now: float) -> TransferProgress:
        self._last = self._told = replace(self._last, sequence=self._told.sequence + 1, timestamp=now, state=state)
        return self._told


class TransferProgressTracker:
    """Keeps the last event of each transfer, and tells those that have stalled from those that have failed.

    Threads: all methods from any thread.

    Args:
        idle_timeout: a transfer that has not moved for so many seconds, and has not ended, has stalled.
    """

    def __init__(self, idle_timeout: float = 600.0) -> None:
        self._idle_timeout = idle_timeout
        self._lock = threading.Lock()  # guards the one below
        self._records: dict[tuple[str, str, str], tuple[TransferProgress, float]] = {}

    def update(self, event: TransferProgress, now: float) -> bool:
        """Take an event in. Returns False for one that is late: an old number, less than before, or after the end."""
        key = (event.tx_id, event.ref_id, event.receiver_id)
        with self._lock:
            known = self._records.get(key)
            if known is not None:
                last = known[0]
                is_less = event.bytes_done < last.bytes_done or event.items_done < last.items_done
                if last.is_end or event.sequence <= last.sequence or is_less:
                    return False
            self._records[key] = event, now
            return True

    @property
    def records(self) -> list[TransferProgress]:
        """The last event of each transfer."""
        with self._lock:
            return [event for event, _ in self._records.values()]

    def is_stalled(self, event: TransferProgress, now: float) -> bool:
        """Whether the transfer of this event has not moved for too long."""
        with self._lock:
            known = self._records.get((event.tx_id, event.ref_id, event.receiver_id))
        return known is not None and not known[0].is_end and now >= known[1] + self._idle_timeout

    def stalled_records(self, now: float) -> list[TransferProgress]:
        """The transfers that have stalled."""
        return [event for event in self.records if self.is_stalled(event, now)]

    def remove(self, event: TransferProgress) -> None:
        """Forget the transfer of this event."""
        with self._lock:
            self._records.pop((event.tx_id, event.ref_id, event.receiver_id), None)

    def prune(self, now: float) -> int:
        """Forget those that have ended an idle timeout ago. Returns how many."""
        with self._lock:
            old = [key for key, (event, at) in self._records.items() if event.is_end and now >= at + self._idle_timeout]
            for key in old:
                del self._records[key]
        return len(old)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._records.clear()
