"""Retries: whether an answer that did not come is asked for again, and when."""

from __future__ import annotations

from zdl.errors import Busy, IntegrityError, NoRoute, OriginLost, PeerLost, Stalled, TimedOut

# Pauses before an answer is asked for again, doubled each time.
BACK_OFF_S = 0.25
BACK_OFF_MAX_S = 8.0
# What another try may mend: the way, or who is on it.
MAY_PASS = (TimedOut, NoRoute, PeerLost, Busy, OriginLost, Stalled, IntegrityError)


class Retries:
    """The retries of one answer; the next one has its own, so that the count begins anew with each that came.

    Args:
        most: how often it is asked for again.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._failed = 0

    def failed(self, error: BaseException) -> float | None:
        """A try ended with this. Returns how long to wait before the next one; None: there is none."""
        if not isinstance(error, MAY_PASS) or self._failed >= self._most:
            return None
        self._failed += 1
        return min(BACK_OFF_S * 2.0 ** (self._failed - 1), BACK_OFF_MAX_S)
