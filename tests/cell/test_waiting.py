"""A waiter: one value that a loop sets, once, while who waits leads or sleeps."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from zdl.cell.waiting import CallWaiter, Waiter

from waiting import PATIENCE_S


class Desk:
    """A loop that lets nobody lead, so that whoever waits sleeps; or one where leading brings something at once."""

    def __init__(self, brings: Callable[[], None] | None = None) -> None:
        self.brings = brings

    def take(self, is_done: Callable[[], bool]) -> bool:
        if self.brings is not None:
            self.brings()
        return is_done()

    def sleep_on(self, wait: Callable[[float], bool], slice_s: float) -> bool:
        return wait(slice_s)


@pytest.mark.parametrize("desk", [Desk(), Desk(lambda: None)], ids=["sleeping", "leading"])
def test_it_gives_what_was_settled_before(desk: Desk) -> None:
    waiter: Waiter[int] = Waiter()
    waiter.settle(7)
    assert waiter.is_settled() and waiter.wait(desk, lambda: True) == 7


def test_it_wakes_who_sleeps() -> None:
    waiter: Waiter[str] = Waiter()
    heard: list[str | None] = []
    thread = threading.Thread(target=lambda: heard.append(waiter.wait(Desk(), lambda: True)))
    thread.start()
    waiter.settle("it")
    thread.join(PATIENCE_S)
    assert heard == ["it"]


def test_who_leads_finds_it_without_sleeping() -> None:
    waiter: Waiter[str] = Waiter()
    assert waiter.wait(Desk(lambda: waiter.settle("it")), lambda: False) == "it"


def test_only_the_first_value_counts() -> None:
    waiter: Waiter[int] = Waiter()
    waiter.settle(1)
    waiter.settle(2)
    assert waiter.wait(Desk(), lambda: True) == 1


def test_nobody_waits_for_the_dead() -> None:
    waiter: Waiter[int] = Waiter()
    assert waiter.wait(Desk(), lambda: False) is None


def test_a_call_is_settled_with_its_reply_and_its_error() -> None:
    waiter = CallWaiter()
    waiter.settled("reply", None)
    assert waiter.wait(Desk(), lambda: True) == ("reply", None)
