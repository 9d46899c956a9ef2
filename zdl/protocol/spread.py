"""Spread: over how many connections a pull is spread.

One connection is as full as the kernels at its ends let it be: their buffers hold a few MiB, and that divided by the round trip
is its rate, however wide the line. Then further ones beside it help, and nowhere else: on one host and in a data centre they only
cost. So they are tried where the way is long and holds a good deal; where the window has grown beyond what the rate needs and
the rate has not followed; and they stay only where the rate then rises::

    one ──the rate is steady, the window larger than it needs──▶ twice as many, on trial ──the rate has risen──▶ they stay
     ▲                                                              │                                            │
     └──────────────── after a pause, each time twice as long ──────┴── it has not: as many as before            └─▶ and so on

Measured through a shaped link (119 MiB/s, 50 ms, 2 MiB on the way per connection; 512 MiB from its first byte, two rounds): 2.05 of
what one raw connection carries. In virtual time, once it is settled: 0.9 of the line at 50 and 100 ms.
"""

from __future__ import annotations

from dataclasses import dataclass

from zdl.protocol.window import Window

AUTO_MAX = 8
# A round: long enough for a rate, and for a connection to open its own window; a trial is as many as TCP takes to come to 4 MiB.
ROUND_S, ROUND_TRIPS = 0.1, 4
TRIAL_ROUNDS = 4
# More is a rise: rates vary by less on a line of its own.
RISE = 1.15
STEADY = 1.1
# Shorter ways, and those that hold less, are filled by any one connection.
WAY_S_MIN = 0.005
WAY_BYTES_MIN = 256 * 1024
PAUSE_MIN_S, PAUSE_MAX_S = 2.0, 60.0


@dataclass(frozen=True, slots=True)
class _Trial:
    """More connections than there were."""

    before: int
    rate: float
    rounds_left: int


class Spread:
    """The connections of one pull.

    Args:
        fixed: so many; None: as many as help.
        begins_with: how many there are already, if they may change.

    Attributes:
        count: how many there are to be.
    """

    def __init__(self, fixed: int | None, *, begins_with: int = 1) -> None:
        self._is_fixed = fixed is not None
        self.count = begins_with if fixed is None else fixed
        self._next_at: float | None = None
        self._since = 0.0
        self._mark = 0
        self._rate = 0.0
        self._trial: _Trial | None = None
        self._pause_s = PAUSE_MIN_S
        self._not_before = 0.0

    def look(self, window: Window, now: float) -> bool:
        """Something has come. Returns whether `count` has changed."""
        if self._is_fixed or (self._next_at is not None and now < self._next_at):
            return False
        before = self.count
        if self._next_at is not None:
            self._round((window.delivered - self._mark) / (now - self._since), window, now)
        self._since, self._mark = now, window.delivered
        self._next_at = now + max(ROUND_S, ROUND_TRIPS * window.way_s)
        return self.count != before

    def forget_path(self) -> None:
        """The way is another: what was found says nothing about it."""
        if not self._is_fixed:
            self.count, self._trial, self._next_at, self._rate = 1, None, None, 0.0

    def _round(self, rate: float, window: Window, now: float) -> None:
        trial = self._trial
        if trial is not None:
            if rate >= RISE * trial.rate:
                self._trial, self._pause_s = None, PAUSE_MIN_S
            elif trial.rounds_left > 1:
                self._trial = _Trial(trial.before, trial.rate, trial.rounds_left - 1)
            else:
                self.count, self._trial = trial.before, None
                self._not_before = now + self._pause_s
                self._pause_s = min(2 * self._pause_s, PAUSE_MAX_S)
            self._rate = rate
            return
        is_steady = 0 < rate <= STEADY * self._rate
        self._rate = rate
        holds = rate * window.way_s
        is_long = window.way_s >= WAY_S_MIN and holds >= WAY_BYTES_MIN
        if is_steady and is_long and window.size >= 1.5 * holds and now >= self._not_before and self.count < AUTO_MAX:
            self._trial = _Trial(self.count, rate, TRIAL_ROUNDS)
            self.count = min(2 * self.count, AUTO_MAX)
