"""Poller: what the threads of one lane sleep on.

Two sleepers, one inside the other::

    sockets' descriptors, mailbox ──▶ inner epoll ──(armed or not)──▶ outer epoll ◀── nudge
                                         ▲                                ▲
                                       sleep(): who leads              stand_by(): the lane's own thread

Whoever leads sleeps on the descriptors themselves. The lane's own thread stands by: while nobody leads it
is armed, and wakes when anything happens; while somebody leads it is not, and sleeps through. Arming costs
0.4 us, where waking a thread to hand work over costs 18–24.

Brisk. A core that has gone to sleep costs 10–25 us to wake, at each end. So when the last sleep was a short one, who leads looks
again and again for as long (`spin_s`) before he really sleeps, and lets whatever else wants his core run between two looks.
Measured: a request of 64 bytes over bare pyzmq takes 85 us with sleeping and 38–56 with looking at both ends, one of ours 0.6–0.8
of what it took. It is never looked for longer than that in vain: who has, was not brisk.

Where there is no epoll there is one sleeper, and the lane's own thread leads for ever.
"""

from __future__ import annotations

import math
import os
import select
import sys
import threading
import time
from typing import Protocol

_ONE = (1).to_bytes(8, sys.byteorder)  # what an eventfd counts
SLEEP_S_MAX = 3600.0


class Poller(Protocol):
    """See above.

    Threads: `register` and `unregister` by whoever holds the loop's lock; `sleep`, `arm` and `disarm` by who leads;
    `stand_by` by the lane's own thread; `nudge` from any thread.
    """

    @property
    def is_shared(self) -> bool:
        """Whether another thread than the lane's own may lead."""

    def register(self, descriptor: int) -> bool:
        """Wake by this descriptor. Returns whether one who sleeps already does not know it."""

    def unregister(self, descriptor: int) -> None:
        """No more; before it is closed."""

    def sleep(self, timeout_s: float | None, spin_s: float = 0.0) -> list[int]:
        """Until descriptors are readable: which; or until the time is over: none.

        Args:
            timeout_s: the time; None: for ever.
            spin_s: the length of what is a short sleep, see "Brisk"; 0: it is not asked for.
        """

    def stand_by(self, timeout_s: float | None) -> bool:
        """Until armed and something is readable, or nudged, or the time is over. Returns whether nudged."""

    def arm(self) -> None:
        """Who stands by wakes by what happens."""

    def disarm(self) -> None:
        """Who stands by sleeps on whatever happens."""

    def nudge(self) -> None:
        """Wake who stands by."""

    def close(self) -> None:
        """Nobody sleeps any more."""


class EpollPoller:
    """Two epolls, for Linux."""

    def __init__(self) -> None:
        self._inner = select.epoll()
        self._outer = select.epoll()
        self._nudge = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._nudge_lock = threading.Lock()  # guards its descriptor: it is never written after it was closed
        self._inner_fd = self._inner.fileno()
        self._outer.register(self._inner_fd, select.EPOLLIN)
        self._outer.register(self._nudge, select.EPOLLIN)
        self.is_brisk = False  # whether the last sleep was short

    @property
    def is_shared(self) -> bool:
        """See `Poller`."""
        return True

    def register(self, descriptor: int) -> bool:
        """See `Poller`; it holds for sleepers too."""
        self._inner.register(descriptor, select.EPOLLIN)
        return False

    def unregister(self, descriptor: int) -> None:
        """See `Poller`."""
        self._inner.unregister(descriptor)

    def sleep(self, timeout_s: float | None, spin_s: float = 0.0) -> list[int]:
        """See `Poller`."""
        poll = self._inner.poll
        if not spin_s or timeout_s is not None and timeout_s < spin_s:
            return [descriptor for descriptor, _ in poll(timeout_s)]
        began = now = time.monotonic()
        found = None
        if self.is_brisk:
            until = began + spin_s
            while not (found := poll(0)) and now < until:
                os.sched_yield()
                now = time.monotonic()
        if not found:
            found = poll(timeout_s)
            now = time.monotonic()
        self.is_brisk = now - began < spin_s
        return [descriptor for descriptor, _ in found]

    def stand_by(self, timeout_s: float | None) -> bool:
        """See `Poller`."""
        for descriptor, _ in self._outer.poll(timeout_s):
            if descriptor == self._nudge:
                os.read(self._nudge, 8)
                return True
        return False

    def arm(self) -> None:
        """See `Poller`."""
        self._outer.modify(self._inner_fd, select.EPOLLIN)

    def disarm(self) -> None:
        """See `Poller`."""
        self._outer.modify(self._inner_fd, 0)

    def nudge(self) -> None:
        """See `Poller`."""
        with self._nudge_lock:
            if self._nudge >= 0:
                os.write(self._nudge, _ONE)

    def close(self) -> None:
        """See `Poller`."""
        self._outer.close()
        self._inner.close()
        with self._nudge_lock:
            if self._nudge >= 0:
                os.close(self._nudge)
            self._nudge = -1


class PollPoller:
    """One `select.poll`, for everything else; its sleeper is never relieved, so nobody has to be nudged."""

    def __init__(self) -> None:
        self._poll = select.poll()

    @property
    def is_shared(self) -> bool:
        """See `Poller`."""
        return False

    def register(self, descriptor: int) -> bool:
        """See `Poller`."""
        self._poll.register(descriptor, select.POLLIN)
        return True

    def unregister(self, descriptor: int) -> None:
        """See `Poller`."""
        self._poll.unregister(descriptor)

    def sleep(self, timeout_s: float | None, spin_s: float = 0.0) -> list[int]:
        """See `Poller`; it is never brisk."""
        timeout_ms = None if timeout_s is None else math.ceil(timeout_s * 1000)
        return [descriptor for descriptor, _ in self._poll.poll(timeout_ms)]

    def stand_by(self, timeout_s: float | None) -> bool:
        """See `Poller`."""
        raise AssertionError("nobody stands by where the lead is not shared")

    def arm(self) -> None:
        """See `Poller`."""

    def disarm(self) -> None:
        """See `Poller`."""

    def nudge(self) -> None:
        """See `Poller`."""

    def close(self) -> None:
        """See `Poller`."""


def make_poller() -> Poller:
    """The best that this system has."""
    return EpollPoller() if hasattr(select, "epoll") and hasattr(os, "eventfd") else PollPoller()
