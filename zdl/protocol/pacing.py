"""Pacing: when the next chunk may be asked for, or served: limits of bandwidth, and who yields to whom.

Two things hold a chunk back, at the receiver before it asks and at the origin before it reads. A **limit**, of one pull or of a
cell: what passes is counted, and what is above it waits. A **priority**: while somebody with a better one has asked within the
last second, all others pass one chunk in a tenth of a second. A chunk is what the path carries in a hundredth of a second
(`zdl.protocol.window`), so the others leave nine tenths of it, whatever the path is; and they never stall.
"""

from __future__ import annotations

from collections import deque

from zdl.options import PRIORITIES
from zdl.protocol.messages import Ask, Priority

YIELD_S = 0.1
UNDER_WAY_S = 1.0
# What a limit lets pass at once after a pause. A loop wakes a millisecond late now and then, which must not cost bandwidth.
BURST_S = 0.05
# Questions that wait at one origin; a receiver has a thousand under way at most.
WAITING_MAX = 65_536
NEVER = float("inf")


def priority_of(name: str) -> Priority:
    """``"background"`` → its number."""
    return Priority(PRIORITIES.index(name))


class Limit:
    """So many bytes in a second.

    Args:
        bytes_per_s: infinite: no limit.
    """

    def __init__(self, bytes_per_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self.free_at = 0.0  # when the next chunk may pass

    @property
    def is_set(self) -> bool:
        """Whether there is one."""
        return self._bytes_per_s != NEVER

    def take(self, length: int, now: float) -> None:
        """So much has passed."""
        if self.is_set:
            self.free_at = max(self.free_at, now - BURST_S) + length / self._bytes_per_s


class Ranks:
    """Who has asked, by priority."""

    def __init__(self) -> None:
        self._asked_at = [-NEVER] * len(Priority)
        self._is_plain = True

    def asked(self, priority: Priority, now: float) -> None:
        """Somebody with this priority is under way."""
        self._asked_at[priority] = now
        if priority != Priority.NORMAL:
            self._is_plain = False

    def yields(self, priority: Priority, now: float) -> bool:
        """Whether somebody with a better one is under way."""
        if self._is_plain:  # as in nearly all cells
            return False
        return any(at > now - UNDER_WAY_S for at in self._asked_at[:priority])


class Pacer:
    """One pull's share of what its cell may ask for.

    Args:
        priority: of the pull.
        bytes_per_s: its own limit.
    """

    def __init__(self, priority: Priority, bytes_per_s: float) -> None:
        self.priority = priority
        self.limit = Limit(bytes_per_s)
        self.asked_at = -NEVER


class Gate:
    """What waits at an origin before it is read.

    Args:
        bytes_per_s: what the origin serves.
    """

    def __init__(self, bytes_per_s: float) -> None:
        self._limit = Limit(bytes_per_s)
        self._ranks = Ranks()
        self._waiting: tuple[deque[Ask], ...] = tuple(deque() for _ in Priority)
        self._known: set[tuple[str, int, int]] = set()
        self._passed_at = [-NEVER] * len(Priority)
        self._wanted_at = [0.0] * len(Priority)  # when what waits may be looked at again

    def __len__(self) -> int:
        return len(self._known)

    @property
    def is_full(self) -> bool:
        """Whether nothing more may wait."""
        return len(self._known) >= WAITING_MAX

    def passes(self, ask: Ask, now: float) -> bool:
        """Whether it may be read now; else it waits, once, and comes out of `next`."""
        priority = ask.priority
        self._ranks.asked(priority, now)
        if not self._waiting[priority] and self._free_at(priority, now) <= now:
            self.passed(ask, now)
            return True
        if _key(ask) not in self._known:
            self._known.add(_key(ask))
            self._waiting[priority].append(ask)
            self._wanted_at[priority] = self._free_at(priority, now)
        return False

    def passed(self, ask: Ask, now: float) -> None:
        """It is read."""
        self._passed_at[ask.priority] = now
        self._limit.take(ask.length, now)

    def next(self, now: float) -> Ask | None:
        """What waits and may be read now, if it is still wanted: then `passed` is to be told. The best priority first."""
        if not self._known:
            return None
        for priority in Priority:
            waiting = self._waiting[priority]
            if not waiting:
                continue
            at = self._wanted_at[priority] = self._free_at(priority, now)
            if at <= now:
                ask = waiting.popleft()
                self._known.discard(_key(ask))
                return ask
        return None

    def deadline(self) -> float | None:
        """When `next` is wanted next."""
        if not self._known:
            return None
        wanted_at = min(self._wanted_at[priority] for priority in Priority if self._waiting[priority])
        return max(wanted_at, self._limit.free_at)

    def check(self) -> None:
        """All invariants; for simulation."""
        assert {_key(each) for waiting in self._waiting for each in waiting} == self._known
        assert sum(map(len, self._waiting)) == len(self._known) <= WAITING_MAX

    def _free_at(self, priority: Priority, now: float) -> float:
        at = self._limit.free_at
        return max(at, self._passed_at[priority] + YIELD_S) if self._ranks.yields(priority, now) else at


def _key(ask: Ask) -> tuple[str, int, int]:
    return ask.origin, ask.id, ask.offset
