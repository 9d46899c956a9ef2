"""Lead: which thread polls a lane's sockets.

A message that one thread reads and another one waits for costs a hand-over between threads: 18–24 us, and
more where both want the interpreter. So whoever would only sleep until something comes may poll himself: a
caller who waits for his reply, a thread of the handler pool that has nothing to do. He **leads** until he has
what he waits for; the lane's own thread **stands by** and takes over as soon as nobody leads::

    caller ──request──▶ leads: poll, decode, feed, act … ──his reply──▶ goes on
    handler thread ───▶ leads: poll, decode, feed, act … ──a request──▶ leaves the lead, runs the handler
    own thread ───────▶ stands by ──something comes and nobody leads──▶ leads for one turn

Hot and cool. When the lead is taken again and again within microseconds, waking the own thread in each gap
would only make it compete for the interpreter. Then the lead is **hot**: in the gaps nobody is armed, and the
own thread looks every millisecond whether the lead is still taken; when it was not, it is cool again. So what
comes in a gap waits a millisecond at the most, and only when who led just now does not come back. While other
threads sleep on this lane it is never hot.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from zdl.transport.interrupts import Interrupts
from zdl.transport.poller import SLEEP_S_MAX, Poller

# A lead taken again so soon, so often, is hot. A round trip of small messages takes 100–300 us, of which the gap
# between one lead and the next is a tenth.
HOT_GAP_S = 0.002
HOT_STREAK = 3
HOT_LOOK_S = 0.002
FOREVER = float("inf")


class Lead:
    """The lead of one lane.

    Attributes:
        look: called with the time, now and then, by who stands by while it is hot: what else is due on this lane.
        is_hot: see above.
        is_taken: whether a thread leads that waits for something.
        is_owing: whether `settle` has to be called before anybody sleeps.
        wakes_at: when the machines want to be looked at; written under the loop's lock.

    Threads: `take`, `sleep_on` from any thread; `run` is the lane's own thread.

    Args:
        poller: what is slept on.
        feed: feeds what has come to the machines, given the readable descriptors.
        settle: does what must be done before anybody sleeps; returns whether there is more to feed.
        interrupts: puts off Ctrl-C.
    """

    def __init__(self, poller: Poller, feed: Callable[[list[int]], None], settle: Callable[[], bool],
                 interrupts: Interrupts) -> None:
        self._poller = poller
        self._feed = feed
        self._settle = settle
        self.look: Callable[[float], object] = _nothing
        self._interrupts = interrupts
        self._free = threading.Lock()  # held by who leads
        self.wakes_at = FOREVER
        self.is_ended = False
        self.is_hot = False
        self.is_taken = False
        self.is_owing = True
        self._standby_until = FOREVER
        self._is_armed = True  # changed by who holds `_free`
        self._led_count = 0
        self._streak = 0
        self._left_at = 0.0
        self._sleepers_lock = threading.Lock()  # guards the count below
        self._sleepers = 0

    def take(self, is_done: Callable[[], bool], until: float = FOREVER) -> bool:
        """Poll until `is_done`. Returns False at once if somebody else leads, or when it is not done at `until`."""
        interrupts = self._interrupts
        held = interrupts.hold()
        try:
            if not self._free.acquire(blocking=False):
                return False
            try:
                self._enter()
                while not is_done():
                    if self.is_ended or time.monotonic() >= until:
                        return False
                    if self.is_owing:
                        self.is_owing = self._settle()
                    timeout_s = 0.0 if self.is_owing else min(self.wakes_at, until) - time.monotonic()
                    interrupts.let_go(held)
                    held = None
                    descriptors = self._poller.sleep(None if timeout_s > SLEEP_S_MAX else max(0.0, timeout_s))
                    held = interrupts.hold()
                    self._feed(descriptors)
                    self.is_owing = True
                return True
            finally:
                self._leave()
        finally:
            interrupts.let_go(held)

    def sleep_on(self, wait: Callable[[float], bool], slice_s: float) -> bool:
        """Sleep otherwise than by leading: `wait(slice_s)`, while who stands by is told that somebody does."""
        with self._sleepers_lock:
            self._sleepers += 1
        try:
            if self.is_hot:
                self._poller.nudge()
            return wait(slice_s)
        finally:
            with self._sleepers_lock:
                self._sleepers -= 1

    def run(self) -> None:
        """The lane's own thread: stands by, and leads when nobody else does, until it is ended."""
        if not self._poller.is_shared:
            with self._free:
                self._poll()
            return
        while not self.is_ended:
            if self.is_hot:
                self._stand_by_hot()
                continue
            if self.is_owing and self._free.acquire(blocking=False):
                self._take_over()
            self._standby_until = self.wakes_at
            timeout_s = self._standby_until - time.monotonic()
            self._poller.stand_by(None if timeout_s > SLEEP_S_MAX else max(0.0, timeout_s))
            if self._free.acquire(blocking=False):
                self._take_over()
        self._free.acquire()  # for good: who leads leaves now, and nobody comes after

    def end(self) -> None:
        """Nobody shall lead any more."""
        self.is_ended = True
        self._poller.nudge()

    # --- inside ---------------------------------------------------------------------------------

    def _enter(self) -> None:
        self.is_taken = True
        self._led_count += 1
        self._streak = self._streak + 1 if time.monotonic() - self._left_at < HOT_GAP_S else 0
        if not self.is_hot:
            self._set_armed(False)

    def _leave(self) -> None:
        self.is_taken = False
        self._left_at = time.monotonic()
        if self.is_ended:
            self._free.release()  # its own thread was nudged when that was said
            return
        if self.is_owing and not self.is_hot:  # when it is hot, what waits for us comes first, and who leads next settles
            self.is_owing = self._settle()
        if not self.is_hot and self._streak >= HOT_STREAK and not self._sleepers:
            self.is_hot = True
            self._poller.nudge()  # it sleeps too long for a hot lead
        if not self.is_hot:
            self._set_armed(True)
            is_early = self.is_owing or self.wakes_at < self._standby_until
            self._free.release()
            if is_early:
                self._poller.nudge()
            return
        self._free.release()
        if self._sleepers or not self.is_hot:
            self._poller.nudge()

    def _stand_by_hot(self) -> None:
        seen = self._led_count
        is_nudged = self._poller.stand_by(HOT_LOOK_S)
        self.look(time.monotonic())
        if seen != self._led_count and not (is_nudged and self._sleepers):
            return
        self.is_hot, self._streak = False, 0
        if self._free.acquire(blocking=False):  # else who leads arms when he leaves, or nudges when he just did not
            self._take_over()

    def _take_over(self) -> None:
        """Everything that there is to do."""
        try:
            self._set_armed(True)
            self.is_owing = True
            while self.is_owing and not self.is_ended:
                self._feed(self._poller.sleep(0.0))
                self.is_owing = self._settle()
        finally:
            self._free.release()

    def _set_armed(self, is_armed: bool) -> None:
        if is_armed != self._is_armed:
            self._is_armed = is_armed
            if is_armed:
                self._poller.arm()
            else:
                self._poller.disarm()

    def _poll(self) -> None:
        """Lead for ever."""
        while not self.is_ended:
            timeout_s = 0.0 if self.is_owing else self.wakes_at - time.monotonic()
            self._feed(self._poller.sleep(None if timeout_s > SLEEP_S_MAX else max(0.0, timeout_s)))
            self.is_owing = self._settle()


def _nothing(now: float) -> None:
    """Nothing else is due."""
