"""Calendar: many things that each want to be looked at one day, and which of them is next.

A heap that is corrected when it is read: a moment that moves later (a lease that is renewed with every question) costs
nothing; the old entry is looked at in vain, once. So ten thousand open transactions cost no more at rest than one.
"""

from __future__ import annotations

import heapq

# Entries that count for nothing any more are thrown out when they are more than the others, and more than this.
STALE_MIN = 64


class Calendar:
    """The moments at which keys want to be looked at; each key has at most one that counts, its earliest."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, bytes]] = []
        self._at: dict[bytes, float] = {}

    def __len__(self) -> int:
        return len(self._at)

    def wake(self, key: bytes, when: float) -> None:
        """Look at `key` then, or before if that was said already."""
        known = self._at.get(key)
        if known is None or when < known:
            self._at[key] = when
            heapq.heappush(self._heap, (when, key))
            if len(self._heap) > 2 * len(self._at) + STALE_MIN:
                self._heap = [(at, each) for each, at in self._at.items()]
                heapq.heapify(self._heap)

    def forget(self, key: bytes) -> None:
        """It is not to be looked at any more."""
        self._at.pop(key, None)

    def due(self, now: float) -> list[bytes]:
        """Those whose moment has come, in its order; each wants a new moment after that."""
        keys = []
        while self._heap and self._heap[0][0] <= now:
            when, key = heapq.heappop(self._heap)
            if self._at.get(key) == when:
                del self._at[key]
                keys.append(key)
        return keys

    def deadline(self) -> float | None:
        """The next moment."""
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def at(self, key: bytes) -> float | None:
        """The moment of one key; for simulation."""
        return self._at.get(key)
