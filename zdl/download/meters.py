"""Meters: how far each receiver of a transaction is, told at the origin in the same events as at the receiver.

For what is served by ranges, bytes count when they go out, each once however often it is asked for; for pieces, when the
receiver has consumed them. The last event says how it ended: ``completed`` when the receiver has confirmed everything.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from zdl.observe.progress import ABORTED, COMPLETED, FAILED, ProgressMeter, TransferProgress
from zdl.protocol.effects import Outcome
from zdl.protocol.messages import Ask
from zdl.protocol.ranges import Range, union

# Ends that somebody wanted; all others are failures.
_WANTED = frozenset({Outcome.DELETED, Outcome.CANCELLED, Outcome.CLOSED})


class Meters:
    """The meters of one transaction.

    Threads: all methods from any thread; `tell` is called by who calls them, under no lock.

    Args:
        tell: gets the events; it must not raise.
        interval_s: between events of one receiver and object, at least.
        clock: what events are dated by.

    Attributes:
        transaction_id: as users' code is told it.
    """

    def __init__(self, tell: Callable[[TransferProgress], object], interval_s: float, *,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self.transaction_id = ""
        self._tell = tell
        self._interval_s = interval_s
        self._clock = clock
        self._lock = threading.Lock()  # guards the two below
        self._meters: dict[tuple[str, str], ProgressMeter] = {}
        self._served: dict[tuple[str, str], tuple[Range, ...]] = {}

    def served(self, ask: Ask) -> None:
        """What a receiver has asked for goes out."""
        key = ask.origin, ask.offer_id.hex()
        with self._lock:
            have = self._served.get(key, ())
            joined = self._served[key] = union([*have, (ask.offset, ask.length)])
        more = sum(length for _, length in joined) - sum(length for _, length in have)
        self._meter(*key).advance(more, 0, self._clock())

    def consumed(self, receiver: str, ref_id: str, nbytes: int, items: int) -> None:
        """A receiver has consumed pieces."""
        self._meter(receiver, ref_id).advance(nbytes, items, self._clock())

    def finished(self, receiver: str) -> None:
        """A receiver has all of it."""
        self._end(receiver, COMPLETED)

    def ended(self, outcomes: dict[str, Outcome]) -> None:
        """The transaction has ended: those who had begun are told of with their end."""
        for receiver, outcome in outcomes.items():
            state = COMPLETED if outcome is Outcome.FINISHED else ABORTED if outcome in _WANTED else FAILED
            self._end(receiver, state)

    def _end(self, receiver: str, state: str) -> None:
        with self._lock:
            meters = [meter for (name, _), meter in self._meters.items() if name == receiver]
        for meter in meters:
            meter.end(state, self._clock())

    def _meter(self, receiver: str, ref_id: str) -> ProgressMeter:
        with self._lock:
            known = self._meters.get((receiver, ref_id))
            if known is None:
                known = self._meters[receiver, ref_id] = ProgressMeter(
                    self._tell, tx_id=self.transaction_id, ref_id=ref_id, receiver_id=receiver, interval_s=self._interval_s)
            return known
