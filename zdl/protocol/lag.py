"""Lag: how far one receiver of a stream to several may be behind the others, and what becomes of it then.

What waits for a receiver is memory of the sender, held once for all; so the one that is furthest behind decides how much is held::

    LAGGING: less than `waiting_bytes_max` waits for it ◀──────────────┐
       │                                                               │
       ├──▶ so much waits ──▶ PACING: nothing more is taken, for anybody, until it has consumed something
       │                         │
       │                         └── it has consumed nothing for `lag_timeout_s` and twice as long as it took before ──▶ Busy
       └──▶ nothing waits any more: it is not behind

One that lags paces nobody. One that moves, however slowly, is never left behind: at the bound it paces the others. One that does
not move holds the others up for no longer than its time, of which most has passed, as a rule, when the bound is reached. Where all
of them are at the bound nobody is ahead who might be held up, and each has the time of its items (see `zdl.protocol.pushes`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from zdl.options import StreamOptions

# Of `backlog_bytes_max`, for what waits; the rest is for what allocators lose, what is not gathered yet and what is on its way.
# Measured, one of eight asleep: where 50 MB waited, the sender grew by 60 MB with objects of 1 KiB, and by 68 to 70 MB with 40 KB.
WAITING_SHARE = 0.6
# One that takes 5 s for each item has not fallen asleep after 6 s.
PATIENCE = 2.0


@dataclass(frozen=True, slots=True)
class Lag:
    """The bounds of a stream to several; bytes are counted since its beginning, each item with its overhead.

    Attributes:
        waiting_bytes_max: no more is taken while so much waits for one of them.
        timeout_s: one that consumes nothing for so long does not move.
    """

    waiting_bytes_max: int
    timeout_s: float

    @classmethod
    def of(cls, options: StreamOptions) -> Lag:
        """As a cell's options have it."""
        return cls(max(1, int(options.backlog_bytes_max * WAITING_SHARE)), options.lag_timeout_s)

    def room_bytes(self, consumed: Iterable[int]) -> int:
        """As far as so many bytes are taken, where the receivers have consumed so many each; there is at least one."""
        return min(consumed) + self.waiting_bytes_max

    def is_pacing(self, consumed: int, end: int) -> bool:
        """Whether nothing more is taken because of one that has consumed so many bytes, where the last item ends there."""
        return consumed <= end - self.waiting_bytes_max

    def due_at(self, moved_at: float, took_s: float) -> float:
        """When one that holds others up must have consumed something.

        Args:
            moved_at: when it last did, or had nothing to consume.
            took_s: how long it took then.
        """
        return moved_at + max(self.timeout_s, PATIENCE * took_s)
