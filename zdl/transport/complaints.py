"""Complaints: which of many bad messages are worth a line in the log: who sends them must not fill the disk as well.

The first of each link is told at once, as long as not too many links are new at it; the rest is counted, and the count is
told from time to time. All times come in, so that none of this has to wait to be tested.
"""

from __future__ import annotations

# At most so often a count is told; and in so long, at most so many links are told of one by one.
EVERY_S = 10.0
FIRSTS_MAX = 16
# Links that have been told of; when there are more, all may be told of again.
LINKS_MAX = 4096


class Complaints:
    """The complaints of one lane.

    Attributes:
        left_out_count: complaints that were not told, and whose number was not told yet.
    """

    def __init__(self) -> None:
        self.left_out_count = 0
        self._told: set[int] = set()
        self._firsts_count = 0
        self._begun_at = float("-inf")
        self._due_at = float("-inf")

    def is_worth(self, link: int, now: float) -> bool:
        """Whether a complaint about this link is to be told by itself; if not, it counts among those left out."""
        if now >= self._begun_at + EVERY_S:
            self._begun_at, self._firsts_count = now, 0
        if link not in self._told and self._firsts_count < FIRSTS_MAX:
            if len(self._told) >= LINKS_MAX:
                self._told.clear()
            self._told.add(link)
            self._firsts_count += 1
            return True
        if not self.left_out_count:
            self._due_at = max(self._due_at, now + EVERY_S)
        self.left_out_count += 1
        return False

    def left_out(self, now: float) -> int:
        """How many were left out, if it is time to tell; 0 when not, or none were. They are told of then."""
        if not self.left_out_count or now < self._due_at:
            return 0
        count, self.left_out_count = self.left_out_count, 0
        return count

    def ended(self, link: int) -> None:
        """There is no such link any more."""
        self._told.discard(link)
