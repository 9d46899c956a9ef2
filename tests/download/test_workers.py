"""Workers: threads for users' code: bounded, told with their age, and never in the way of an end."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from zdl.download.workers import Workers
from zdl.errors import Closed

from waiting import PATIENCE_S, eventually


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers("zdl-test", "server", 2)
    yield made
    made.close(PATIENCE_S)


def test_no_more_run_at_once_than_there_are_threads(workers: Workers) -> None:
    let_go = threading.Event()
    began = [threading.Event() for _ in range(3)]
    for number, each in enumerate(began):
        workers.submit(f"job {number}", lambda each=each: (each.set(), let_go.wait(PATIENCE_S)))  # type: ignore[misc]
    assert began[0].wait(PATIENCE_S) and began[1].wait(PATIENCE_S)
    assert not began[2].is_set() and [each.what for each in workers.running] == ["job 0", "job 1"]
    let_go.set()
    assert began[2].wait(PATIENCE_S)


def test_what_runs_has_an_age_that_grows(workers: Workers) -> None:
    let_go = threading.Event()
    workers.submit("a slow one", lambda: let_go.wait(PATIENCE_S))  # type: ignore[arg-type,return-value]
    (first,) = eventually(lambda: workers.running)
    (second,) = eventually(lambda: [each for each in workers.running if each.age_s > first.age_s])
    assert (second.what, first.age_s >= 0.0) == ("a slow one", True)
    let_go.set()
    eventually(lambda: not workers.running)


def test_what_a_job_raises_is_logged_and_hurts_nobody(workers: Workers, logged_errors: list[str]) -> None:
    done = threading.Event()

    def fail() -> None:
        raise SystemExit("as it likes")

    workers.submit("a bad one", fail)
    workers.submit("a good one", done.set)
    assert done.wait(PATIENCE_S)
    (logged,) = eventually(lambda: logged_errors)
    assert "a bad one failed: SystemExit: as it likes" in logged
    logged_errors.clear()


def test_closing_runs_what_waits_and_names_what_hangs() -> None:
    workers = Workers("zdl-test", "server", 1)
    let_go, done = threading.Event(), threading.Event()
    workers.submit("the one that hangs", lambda: let_go.wait(PATIENCE_S))  # type: ignore[arg-type,return-value]
    eventually(lambda: workers.running)
    assert workers.close(0.01) == ["the one that hangs"]
    with pytest.raises(Closed):
        workers.submit("one more", done.set)
    let_go.set()

    quick = Workers("zdl-test", "server", 1)
    quick.submit("one", done.set)
    assert quick.close(PATIENCE_S) == [] and done.is_set()


def test_it_may_be_closed_by_its_own_job() -> None:
    workers = Workers("zdl-test", "server", 2)
    left: list[list[str]] = []
    workers.submit("the end", lambda: left.append(workers.close(PATIENCE_S)))
    assert eventually(lambda: left == [[]])
