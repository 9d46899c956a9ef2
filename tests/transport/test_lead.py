"""The lead: exactly one thread polls, nobody misses anything, and who waits for it polls himself."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

import pytest

from zdl.transport.interrupts import Interrupts
from zdl.transport.lead import FOLLOW_S, FOREVER, HOT_STREAK, Lead
from zdl.transport.poller import EpollPoller, Poller, PollPoller

from waiting import PATIENCE_S, eventually


class Lane:
    """A lane whose messages are numbers: who leads reads them, and writes down who he is."""

    def __init__(self, poller: Poller, spin_s: float = 0.0, follow_s: float = FOLLOW_S) -> None:
        self.poller = poller
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        poller.register(self.reader)
        self.lead = Lead(poller, self.feed, self.settle, Interrupts(), flush=self.flush, spin_s=spin_s, follow_s=follow_s)
        self.lead.look = self.look
        self.lock = threading.Lock()
        self.read: deque[tuple[int, str]] = deque()
        self.looks = 0
        self.settled = 0
        self.flushes = 0
        self.at_settling: Callable[[], None] = lambda: None
        self.leaders = 0
        self.thread = threading.Thread(target=self.lead.run, name="own")
        self.thread.start()

    def close(self) -> None:
        self.lead.end()
        self.send(255)  # who sleeps on the descriptors must wake to see it
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()
        self.poller.close()
        os.close(self.reader)
        os.close(self.writer)

    def send(self, number: int) -> None:
        os.write(self.writer, bytes((number,)))

    def feed(self, descriptors: list[int]) -> None:
        with self.lock:
            self.leaders += 1
            assert self.leaders == 1, "two threads lead"
            if self.reader in descriptors:
                self.read += [(number, threading.current_thread().name) for number in os.read(self.reader, 100)]
            self.leaders -= 1

    def flush(self) -> bool:
        self.flushes += 1
        return False

    def settle(self) -> bool:
        self.settled += 1
        self.at_settling()
        self.lead.wakes_at = FOREVER
        return False

    def look(self, now: float) -> None:
        self.looks += 1

    def has(self, number: int) -> bool:
        return any(each == number for each, _ in list(self.read))

    def reader_of(self, number: int) -> str:
        return next(name for each, name in list(self.read) if each == number)


class Noting(EpollPoller):
    """Writes down how long who sleeps was to look again and again before."""

    def __init__(self) -> None:
        super().__init__()
        self.spins: list[float] = []

    def sleep(self, timeout_s: float | None, spin_s: float = 0.0) -> list[int]:
        self.spins.append(spin_s)
        return super().sleep(timeout_s, spin_s)


@pytest.fixture
def lane() -> Iterator[Lane]:
    made = Lane(EpollPoller())
    yield made
    made.close()


def test_while_nobody_leads_the_lanes_own_thread_does(lane: Lane) -> None:
    lane.send(1)
    eventually(lambda: lane.has(1))
    assert lane.reader_of(1) == "own"


def test_who_leads_reads_what_he_waits_for_himself(lane: Lane) -> None:
    threading.Timer(0.0, lane.send, (7,)).start()
    names: list[str] = []

    def wait() -> None:
        while not lane.lead.take(lambda: lane.has(7)):
            continue
        names.append(lane.reader_of(7))

    leader = threading.Thread(target=wait, name="leader")
    leader.start()
    leader.join(PATIENCE_S)
    assert names in (["leader"], ["own"])  # the own thread may have been faster


def test_only_one_leads_and_the_others_are_told_at_once(lane: Lane) -> None:
    leader = threading.Thread(target=lambda: lane.lead.take(lambda: lane.has(9)))
    leader.start()
    eventually(lambda: lane.lead.is_taken)
    assert lane.lead.take(lambda: lane.has(9)) is False
    lane.send(9)
    leader.join(PATIENCE_S)
    assert not lane.lead.is_taken


def test_leading_ends_when_its_time_is_over(lane: Lane) -> None:
    assert lane.lead.take(lambda: False, time.monotonic() + 0.01) is False
    lane.send(3)
    eventually(lambda: lane.has(3))
    assert lane.reader_of(3) == "own"


def test_what_is_done_by_settling_is_not_slept_on(lane: Lane) -> None:
    for _ in range(20):
        done = threading.Event()
        lane.at_settling = done.set
        lane.lead.is_owing = True
        if not lane.lead.take(done.is_set):  # the own thread may have the lead: then it settles
            assert done.wait(PATIENCE_S)


def test_a_lead_that_is_taken_again_and_again_is_hot_and_cools_when_it_is_not(lane: Lane) -> None:
    def leads() -> bool:
        for number in range(1, 100):
            lane.send(number)
            lane.lead.take(lambda: lane.has(number))
        return lane.lead.is_hot

    eventually(leads, what="a hot lead")
    eventually(lambda: not lane.lead.is_hot, what="a cool lead")
    assert HOT_STREAK < 100 and lane.looks > 0
    lane.read.clear()
    lane.send(200)
    eventually(lambda: lane.has(200))
    assert lane.reader_of(200) == "own"


def test_what_comes_in_the_gap_of_a_hot_lead_is_read_though_nobody_comes_back(lane: Lane) -> None:
    for _ in range(20):
        for number in range(1, 50):
            lane.send(number)
            lane.lead.take(lambda: lane.has(number))
        lane.read.clear()
        lane.send(250)
        assert eventually(lambda: lane.has(250))


def test_a_thread_that_sleeps_on_a_hot_lane_has_it_polled_for_him(lane: Lane) -> None:
    for number in range(1, 100):
        lane.send(number)
        lane.lead.take(lambda: lane.has(number))
    came = threading.Event()
    watcher = threading.Thread(target=lambda: (eventually(lambda: lane.has(222)), came.set()))
    watcher.start()
    lane.send(222)
    assert lane.lead.sleep_on(came.wait, PATIENCE_S)
    watcher.join(PATIENCE_S)


def test_many_threads_share_the_lead_and_miss_nothing(lane: Lane) -> None:
    def wait(number: int) -> None:
        for _ in range(50):
            while not lane.lead.take(lambda: lane.has(number)):
                if lane.lead.sleep_on(lambda slice_s: lane.has(number), 0.0):
                    break

    threads = [threading.Thread(target=wait, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for number in range(1, 9):
        lane.send(number)
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def test_where_nobody_else_leads_the_own_thread_stays_until_it_is_asked(lane: Lane) -> None:
    for number in range(1, 60):
        lane.send(number)
        eventually(lambda: lane.has(number))
    eventually(lambda: lane.lead.leader == lane.thread.ident, what="the own thread leads alone")
    assert lane.lead.take(lambda: lane.has(77)) is False
    lane.send(70)
    eventually(lambda: lane.has(70) and not lane.lead.leader, what="it stands by again")
    lane.send(77)
    eventually(lambda: lane.lead.take(lambda: lane.has(77)))


def test_nobody_leads_a_lane_that_has_ended() -> None:
    lane = Lane(EpollPoller())
    leader = threading.Thread(target=lambda: lane.lead.take(lambda: False))
    leader.start()
    eventually(lambda: lane.lead.is_taken)
    lane.lead.end()
    lane.send(1)
    leader.join(PATIENCE_S)
    lane.close()
    assert lane.lead.take(lambda: False) is False


def test_where_the_lead_is_not_shared_the_own_thread_keeps_it() -> None:
    lane = Lane(PollPoller())
    eventually(lambda: lane.lead.take(lambda: False) is False)
    lane.send(5)
    eventually(lambda: lane.has(5))
    assert lane.reader_of(5) == "own"
    lane.close()


def test_who_leads_looks_again_and_again_but_not_while_others_sleep_on_what_he_reads() -> None:
    poller = Noting()
    lane = Lane(poller, spin_s=0.001)
    try:
        lane.send(1)
        eventually(lambda: lane.lead.take(lambda: lane.has(1)) or lane.has(1))
        lane.lead.take(lambda: False, time.monotonic() + 0.01)
        eventually(lambda: 0.001 in poller.spins)

        def lead_beside(slice_s: float) -> bool:
            poller.spins.clear()
            return lane.lead.take(lambda: False, time.monotonic() + slice_s)

        eventually(lambda: lane.lead.sleep_on(lead_beside, 0.01) or bool(poller.spins))
        assert set(poller.spins) == {0.0}
    finally:
        lane.close()


def test_who_comes_while_the_own_thread_leads_one_turn_leads_when_that_is_over_and_is_not_told_no() -> None:
    lane = Lane(EpollPoller(), follow_s=PATIENCE_S)
    begun = threading.Event()

    def turn() -> None:
        if threading.current_thread() is lane.thread and not begun.is_set():
            begun.set()
            eventually(lambda: lane.lead.is_followed, what="one who follows")

    lane.at_settling = turn
    try:
        lane.send(1)
        assert begun.wait(PATIENCE_S)
        assert lane.lead.take(lambda: lane.has(1)) and not lane.lead.is_followed
    finally:
        lane.close()
