"""Pollers: who leads sleeps on descriptors, who stands by sleeps through it, and nothing that happens is missed."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from zdl.transport.poller import EpollPoller, Poller, PollPoller, make_poller

from waiting import PATIENCE_S


class Bench:
    """A poller and a descriptor that can be made readable."""

    def __init__(self, poller: Poller) -> None:
        self.poller = poller
        self.reader, self.writer = os.pipe()
        poller.register(self.reader)

    def close(self) -> None:
        self.poller.close()
        os.close(self.reader)
        os.close(self.writer)

    def happen(self) -> None:
        os.write(self.writer, b"x")

    def forget(self) -> None:
        os.read(self.reader, 1)


@pytest.fixture(params=[EpollPoller, PollPoller])
def any_bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    bench = Bench(request.param())
    yield bench
    bench.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench(EpollPoller())
    yield made
    made.close()


def test_sleeping_ends_with_what_is_readable(any_bench: Bench) -> None:
    assert any_bench.poller.sleep(0.0) == []
    any_bench.happen()
    assert any_bench.poller.sleep(None) == [any_bench.reader]
    any_bench.forget()
    assert any_bench.poller.sleep(0.001) == []


def test_what_is_not_registered_any_more_wakes_nobody(any_bench: Bench) -> None:
    any_bench.happen()
    any_bench.poller.unregister(any_bench.reader)
    assert any_bench.poller.sleep(0.0) == []


def test_only_a_shared_poller_knows_what_was_registered_while_it_sleeps() -> None:
    reader, writer = os.pipe()
    for poller in (EpollPoller(), PollPoller()):
        assert poller.register(reader) is not poller.is_shared
        poller.unregister(reader)
        poller.close()
    os.close(reader)
    os.close(writer)


def test_who_stands_by_wakes_when_armed(bench: Bench) -> None:
    woken: list[bool] = []
    thread = threading.Thread(target=lambda: woken.append(bench.poller.stand_by(PATIENCE_S)))
    thread.start()
    bench.happen()
    thread.join(PATIENCE_S)
    assert woken == [False]  # not nudged: something happened


def test_who_stands_by_sleeps_through_what_happens_when_it_is_not_armed(bench: Bench) -> None:
    bench.poller.disarm()
    bench.happen()
    assert bench.poller.stand_by(0.01) is False
    assert bench.poller.sleep(0.0) == [bench.reader]


def test_arming_tells_of_what_happened_before(bench: Bench) -> None:
    bench.poller.disarm()
    bench.happen()
    bench.poller.arm()
    woken: list[bool] = []
    thread = threading.Thread(target=lambda: woken.append(bench.poller.stand_by(None)))
    thread.start()
    thread.join(PATIENCE_S)
    assert woken == [False]


def test_a_nudge_wakes_who_stands_by_armed_or_not_and_counts_once(bench: Bench) -> None:
    bench.poller.disarm()
    bench.poller.nudge()
    bench.poller.nudge()
    assert bench.poller.stand_by(None) is True
    assert bench.poller.stand_by(0.0) is False


def test_a_closed_poller_may_still_be_nudged() -> None:
    poller = EpollPoller()
    poller.close()
    poller.nudge()
    poller.close()


def test_this_system_has_the_best_that_it_can() -> None:
    poller = make_poller()
    assert poller.is_shared
    poller.close()


def test_after_a_short_sleep_the_next_one_looks_again_and_again_until_something_comes_or_it_has_waited_longer(bench: Bench) -> None:
    poller = bench.poller
    assert isinstance(poller, EpollPoller)
    bench.happen()
    assert poller.sleep(None, PATIENCE_S) == [bench.reader] and poller.is_brisk
    bench.forget()
    woken: list[list[int]] = []
    thread = threading.Thread(target=lambda: woken.append(poller.sleep(None, PATIENCE_S)))
    thread.start()
    bench.happen()
    thread.join(PATIENCE_S)
    assert woken == [[bench.reader]] and poller.is_brisk
    bench.forget()
    assert poller.sleep(0.02, 0.01) == [] and not poller.is_brisk  # looked in vain, slept, and waited too long
    bench.happen()
    assert poller.sleep(0.02, 0.01) == [bench.reader] and poller.is_brisk


def test_who_looks_only_for_a_moment_or_is_not_asked_to_look_leaves_no_trace(bench: Bench) -> None:
    poller = bench.poller
    assert isinstance(poller, EpollPoller)
    assert poller.sleep(0.0, PATIENCE_S) == [] and not poller.is_brisk
    bench.happen()
    assert poller.sleep(None) == [bench.reader] and not poller.is_brisk
