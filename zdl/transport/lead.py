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
own thread looks every two milliseconds whether the lane is still in use: who led just now may be sending, or running
the handlers of what he has read. When it is not, or nobody has led for five looks, it is cool again. So what comes in
a gap waits two milliseconds at the most, and ten when many messages are sent meanwhile. While other threads sleep on
this lane it is never hot.

Alone. Where nobody else has led for a while, on a relay for example, the own thread does not stand by but leads for
good, and saves the way through the outer epoll. Whoever would like to lead meanwhile has to sleep once; then
the own thread stands by again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from zdl.transport.interrupts import Interrupts
from zdl.transport.poller import SLEEP_S_MAX, Poller

# A lead taken again so soon, so often, is hot. To send 64 small requests, or to run the handlers of 32, takes 1–2 ms.
HOT_GAP_S = 0.002
HOT_STREAK = 3
HOT_LOOK_S = 0.002
# Looks in a row that find the lead free while the lane is in use all the same: somebody sends and does not come back.
HOT_LOOKS_MAX = 5
# How long one who would lead waits for the own thread, which leads for one turn. Who went to sleep instead would have to be woken
# for what that turn brings, and again in vain try to lead while it is not over: so it would go on for ever, each message handed
# from thread to thread.
FOLLOW_S = 0.002
# Turns that the own thread has led since anybody else did: then it is alone.
ALONE_TURNS = 16
FOREVER = float("inf")


class Lead:
    """The lead of one lane.

    Attributes:
        look: called with the time, now and then, by who stands by while it is hot: what else is due on this lane.
        is_hot: see above.
        active_at: when the lead was left, or something was sent, for the last time.
        leader: the thread that leads; 0 when none does.
        is_taken: whether a thread leads that waits for something.
        is_followed: whether a thread waits for the own one to leave the lead.
        is_owing: whether `settle` has to be called before anybody sleeps.
        wakes_at: when the machines want to be looked at; written under the loop's lock.

    Threads: `take`, `sleep_on` from any thread; `run` is the lane's own thread.

    Args:
        poller: what is slept on.
        feed: feeds what has come to the machines, given the readable descriptors.
        settle: does what must be done before anybody sleeps; returns whether there is more to feed.
        interrupts: puts off Ctrl-C.
        flush: does what was left for later, and sends what waits to go together; called now and then by who stands by while
            the lead is hot. Returns whether there was anything.
        follow_s: see `FOLLOW_S`.
        spin_s: of whoever sleeps here while nobody sleeps otherwise; see "Brisk" in `zdl.transport.poller`.
    """

    def __init__(self, poller: Poller, feed: Callable[[list[int]], None], settle: Callable[[], bool],
                 interrupts: Interrupts, *, flush: Callable[[], bool], spin_s: float = 0.0, follow_s: float = FOLLOW_S) -> None:
        self._poller = poller
        self._feed = feed
        self._settle = settle
        self.look: Callable[[float], object] = _nothing
        self._interrupts = interrupts
        self._flush = flush
        self._spin_s = spin_s
        self._follow_s = follow_s
        self._free = threading.Lock()  # held by who leads
        self.wakes_at = FOREVER
        self.is_ended = False
        self.is_hot = False
        self.is_taken = False
        self.leader = 0
        self.is_owing = True
        self._standby_until = FOREVER
        self._is_armed = True  # changed by who holds `_free`
        self._streak = 0
        self._looks = 0
        self._turns_alone = 0
        self._is_wanted = False  # somebody has tried to lead in vain
        self.is_followed = False
        self.active_at = 0.0
        self._sleepers_lock = threading.Lock()  # guards the count below
        self._sleepers = 0

    def take(self, is_done: Callable[[], bool], until: float = FOREVER) -> bool:
        """Poll until `is_done`. Returns False if somebody else leads, or when it is not done at `until`."""
        interrupts = self._interrupts
        held = interrupts.hold()
        try:
            if not self._free.acquire(blocking=False) and not self._follow_own(until):
                return False
            try:
                self._enter()
                while not is_done():
                    if self.is_ended or time.monotonic() >= until:
                        return False
                    if self.is_owing:
                        self.is_owing = self._settle()
                        if is_done():  # its time was over, or a peer was given up
                            return True
                    timeout_s = 0.0 if self.is_owing else min(self.wakes_at, until) - time.monotonic()
                    interrupts.let_go(held)
                    held = None
                    descriptors = self._sleep(timeout_s)
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
            while not self.is_ended and self._free.acquire():
                self._lead_alone()
            self._free.acquire()
            return
        while not self.is_ended:
            if self.is_hot:
                self._stand_by_hot()
                continue
            if self.is_owing and self._free.acquire(blocking=False):
                self._take_over()
            if self._turns_alone >= ALONE_TURNS and self._free.acquire(blocking=False):
                self._lead_alone()
                continue
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

    def _follow_own(self, until: float) -> bool:
        """Somebody else leads. The own thread leaves the lead to one who waits for it. Returns whether it is ours."""
        self._is_wanted = True
        if self.is_taken or self.is_followed or self._sleepers or not self._poller.is_shared:
            return False
        self.is_followed = True
        try:
            return self._free.acquire(timeout=max(0.0, min(self._follow_s, until - time.monotonic())))
        finally:
            self.is_followed = False

    def _enter(self) -> None:
        self._turns_alone = 0
        self.is_taken = True
        self.leader = threading.get_ident()
        self._looks = 0
        self._streak = self._streak + 1 if time.monotonic() - self.active_at < HOT_GAP_S else 0
        if not self.is_hot:
            self._set_armed(False)

    def _leave(self) -> None:
        self.is_taken = False
        self.leader = 0
        self.active_at = time.monotonic()
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
        seen = self.active_at
        is_nudged = self._poller.stand_by(HOT_LOOK_S)
        has_flushed = self._flush()
        self.look(time.monotonic())
        self._looks += 1
        is_used = ((has_flushed or seen != self.active_at) and self._looks < HOT_LOOKS_MAX) or (self.is_taken and self._looks <= 1)
        if is_used and not (is_nudged and self._sleepers):
            return
        self.is_hot, self._streak = False, 0
        if self._free.acquire(blocking=False):  # else who leads arms when he leaves, or nudges when he just did not
            self._take_over()

    def _lead_alone(self) -> None:
        """Until somebody else wants to lead."""
        self._turns_alone, self._is_wanted = 0, False
        self.leader = threading.get_ident()
        try:
            while not (self.is_ended or self._is_wanted):
                timeout_s = 0.0 if self.is_owing else self.wakes_at - time.monotonic()
                self._feed(self._sleep(timeout_s))
                self.is_owing = self._settle()
        finally:
            self.leader = 0
            self._free.release()

    def _sleep(self, timeout_s: float) -> list[int]:
        """Until something comes. Who looks again and again is in the way of those whom what he reads will wake."""
        return self._poller.sleep(None if timeout_s > SLEEP_S_MAX else max(0.0, timeout_s), 0.0 if self._sleepers else self._spin_s)

    def _take_over(self) -> None:
        """Everything that there is to do."""
        self._turns_alone += 1
        try:
            self.leader = threading.get_ident()
            self._set_armed(True)
            self.is_owing = True
            while self.is_owing and not self.is_ended and not self.is_followed:
                self._feed(self._poller.sleep(0.0))
                self.is_owing = self._settle()
        finally:
            self.leader = 0
            self._free.release()

    def _set_armed(self, is_armed: bool) -> None:
        if is_armed != self._is_armed:
            self._is_armed = is_armed
            if is_armed:
                self._poller.arm()
            else:
                self._poller.disarm()


def _nothing(now: float) -> None:
    """Nothing else is due."""
