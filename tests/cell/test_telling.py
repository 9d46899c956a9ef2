"""Telling: in order, one at a time, bounded, and never in the way of who tells."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from zdl.cell.telling import Teller
from zdl.errors import Busy


class Later:
    """A pool whose jobs run when the test says so."""

    def __init__(self) -> None:
        self.jobs: list[Callable[[], None]] = []

    def submit(self, job: Callable[[], None]) -> None:
        self.jobs.append(job)

    def run(self) -> None:
        jobs, self.jobs = self.jobs, []
        for job in jobs:
            job()


def test_what_is_told_is_heard_in_order_by_one_job() -> None:
    pool, heard = Later(), []
    teller = Teller("progress", pool.submit, 10)
    for number in range(5):
        teller.tell(lambda number=number: heard.append(number))
    assert len(pool.jobs) == 1
    pool.run()
    assert heard == [0, 1, 2, 3, 4]
    teller.tell(lambda: heard.append(5))
    pool.run()
    assert heard[-1] == 5


def test_what_does_not_fit_is_dropped_and_counted() -> None:
    pool, heard = Later(), []
    teller = Teller("progress", pool.submit, 2)
    for number in range(5):
        teller.tell(lambda number=number: heard.append(number))
    assert teller.dropped_count == 3
    pool.run()
    assert heard == [0, 1]
    assert repr(teller) == "<Teller of progress: 0 waiting, 3 dropped>"


def test_a_pool_that_is_full_drops_it_and_the_next_is_told_again() -> None:
    pool, heard = Later(), []

    def full(job: Callable[[], None]) -> None:
        if not heard:
            heard.append("full")
            raise Busy(limit="handler_queue_max", value=1, at="site-1")
        pool.submit(job)

    teller = Teller("progress", full, 2)
    teller.tell(lambda: heard.append("lost"))
    assert teller.dropped_count == 1
    teller.tell(lambda: heard.append("told"))
    pool.run()
    assert heard == ["full", "told"]


def test_a_function_that_raises_is_told_the_next_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    pool, heard = Later(), []
    teller = Teller("progress", pool.submit, 10)
    teller.tell(lambda: 1 / 0)
    teller.tell(lambda: heard.append(1))
    with caplog.at_level(logging.WARNING, "zdl.cell"):
        pool.run()
    assert heard == [1]
    assert "the function for progress raised ZeroDivisionError" in caplog.text
