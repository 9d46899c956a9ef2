"""The crew: jobs run soon, whatever the others do."""

from __future__ import annotations

import threading

import pytest

from zdl.errors import Closed
from zdl.streaming.crew import Crew

from waiting import PATIENCE_S, eventually


def test_a_job_that_blocks_holds_up_no_other_and_threads_are_used_again() -> None:
    crew = Crew("me", 10)
    may_end = threading.Event()
    names: list[str] = []
    for _ in range(3):
        crew.run(lambda: may_end.wait(PATIENCE_S) and None)
    crew.run(lambda: names.append(threading.current_thread().name))
    eventually(lambda: len(names) == 1)
    eventually(lambda: "4 threads, 1 idle" in repr(crew))
    crew.run(lambda: names.append(threading.current_thread().name))
    eventually(lambda: len(names) == 2)
    assert names[0] == names[1]
    may_end.set()
    assert crew.close(PATIENCE_S) == 0
    with pytest.raises(Closed):
        crew.run(print)


def test_there_are_no_more_threads_than_the_limit_and_the_jobs_wait() -> None:
    crew = Crew("me", 1)
    may_end = threading.Event()
    done: list[int] = []
    crew.run(lambda: may_end.wait(PATIENCE_S) and None)
    for number in range(5):
        crew.run(lambda number=number: done.append(number))  # type: ignore[misc]
    assert not done and crew.close(0.0) == 1
    may_end.set()
    eventually(lambda: done == [0, 1, 2, 3, 4])


def test_a_job_that_fails_is_logged_and_its_thread_lives_on(logged_errors: list[str]) -> None:
    crew = Crew("me", 1)
    done: list[int] = []

    def fail() -> None:
        raise ValueError("a bug")

    crew.run(fail)
    crew.run(lambda: done.append(1))
    eventually(lambda: done)
    assert "a bug" in logged_errors.pop()
    crew.close(PATIENCE_S)
