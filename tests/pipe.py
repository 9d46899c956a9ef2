"""A path in virtual time: what a window does on it, chunk by chunk, without a clock."""

from __future__ import annotations

import heapq

from zdl.protocol.window import Window


class Pipe:
    """A pull without end over one line.

    Questions take half of `way_s`; chunks wait for each other before the line, are on it for their length by `rate`, and take the
    other half. What has landed keeps its room until it is stored, at `stores_per_s`.

    Args:
        window: of the pull.
        rate: of the line, in bytes per second.
        way_s: both ways, without the time on the line.
    """

    def __init__(self, window: Window, *, rate: float, way_s: float, stores_per_s: float = float("inf")) -> None:
        self.window = window
        self.rate, self.way_s, self.stores_per_s = rate, way_s, stores_per_s
        self.limit = float("inf")  # of the connections together: what they let on the line in a second
        self.now = 0.0
        self._free_at = self._stored_at = 0.0
        self._events: list[tuple[float, int, str, int, int, float]] = []
        self._count = 0
        self._held = self._offset = 0

    @property
    def queued_s(self) -> float:
        """How long something that comes to the line now waits behind what is there."""
        return max(0.0, self._free_at - self.now)

    def run(self, duration_s: float) -> None:
        """Let time pass."""
        until = self.now + duration_s
        self._fill()
        while self._events and self._events[0][0] <= until:
            self.now, _, what, length, mark, asked_at = heapq.heappop(self._events)
            if what == "asked":
                self._free_at = max(self._free_at, self.now) + length / min(self.rate, self.limit)
                self._put(self._free_at + self.way_s / 2, "landed", length, mark, asked_at)
            elif what == "landed":
                self.window.landed(length, mark=mark, took_s=self.now - asked_at)
                self._held += length
                self._stored_at = max(self._stored_at, self.now) + length / self.stores_per_s
                self._put(self._stored_at, "stored", length, 0, 0.0)
            else:
                self._held -= length
                self._fill()
            self.window.check()
        self.now = until

    def _fill(self) -> None:
        while True:
            length = self.window.cut(1 << 60, since=self._offset)
            if not self.window.has_room(length + self._held):
                return
            self._offset += length
            self._put(self.now + self.way_s / 2, "asked", length, self.window.asked(length), self.now)

    def _put(self, at: float, what: str, length: int, mark: int, asked_at: float) -> None:
        self._count += 1
        heapq.heappush(self._events, (at, self._count, what, length, mark, asked_at))
