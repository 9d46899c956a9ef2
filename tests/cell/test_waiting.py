"""A waiter: one value that another thread sets, once."""

from __future__ import annotations

import threading

from zdl.cell.waiting import Waiter


def test_it_gives_what_was_settled_before() -> None:
    waiter: Waiter[int] = Waiter()
    waiter.settle(7)
    assert waiter.wait(lambda: True) == 7


def test_it_wakes_who_waits() -> None:
    waiter: Waiter[str] = Waiter()
    heard: list[str | None] = []
    thread = threading.Thread(target=lambda: heard.append(waiter.wait(lambda: True)))
    thread.start()
    waiter.settle("it")
    thread.join(30.0)
    assert heard == ["it"]


def test_only_the_first_value_counts() -> None:
    waiter: Waiter[int] = Waiter()
    waiter.settle(1)
    waiter.settle(2)
    assert waiter.wait(lambda: True) == 1


def test_nobody_waits_for_the_dead() -> None:
    waiter: Waiter[int] = Waiter()
    assert waiter.wait(lambda: False) is None
