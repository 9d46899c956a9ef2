"""Which handler answers, and the pool that runs it: bounded, and never asleep while work waits."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator

import pytest

from zdl.cell.handlers import ANY, QUICK_THREADS, Handlers, Owed, Pool, Registration
from zdl.errors import Busy, Closed, ZdlError
from zdl.options import CallOptions

from waiting import PATIENCE_S, eventually


def registration(name: str) -> Registration:
    return Registration(lambda request: name, True, False)


@pytest.mark.parametrize(("channel", "topic", "expected"), [
    ("task", "run", "exact"), ("task", "stop", "any topic"), ("talk", "run", "any channel"), ("talk", "stop", "any"),
])
def test_the_nearest_handler_answers(channel: str, topic: str, expected: str) -> None:
    handlers = Handlers()
    for key, name in ((("task", "run"), "exact"), (("task", ANY), "any topic"), ((ANY, "run"), "any channel"),
                      ((ANY, ANY), "any")):
        handlers.add(*key, registration(name))
    found = handlers.find(channel, topic)
    assert found is not None
    assert found.function(None) == expected  # type: ignore[arg-type]


def test_without_a_handler_there_is_none() -> None:
    handlers = Handlers()
    handlers.add("task", "run", registration("x"))
    assert handlers.find("task", "stop") is None


def test_a_later_registration_takes_the_place() -> None:
    handlers = Handlers()
    handlers.add("task", "run", registration("old"))
    handlers.add("task", "run", registration("new"))
    found = handlers.find("task", "run")
    assert found is not None and found.function(None) == "new"  # type: ignore[arg-type]


# --- the pool -----------------------------------------------------------------------------------


class Bench:
    """A pool, and a thread that ticks it as a loop would."""

    def __init__(self, **limits: int) -> None:
        self.pool = Pool("zdl-handler-test", "server", CallOptions(**limits))
        self._done = threading.Event()
        self._ticker = threading.Thread(target=self._tick)
        self._ticker.start()

    def close(self) -> None:
        self._done.set()
        self._ticker.join()
        assert self.pool.close(PATIENCE_S) == 0

    def _tick(self) -> None:
        while not self._done.wait(0.001):
            deadline = self.pool.deadline()
            if deadline is not None and deadline <= (now := time.monotonic()):
                self.pool.tick(now)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def test_short_jobs_are_done_by_few_threads(bench: Bench) -> None:
    names: set[str] = set()
    done = threading.Semaphore(0)

    def job() -> None:
        names.add(threading.current_thread().name)
        done.release()

    for _ in range(500):
        bench.pool.submit(job)
    for _ in range(500):
        assert done.acquire(timeout=PATIENCE_S)
    assert all(name.startswith("zdl-handler-test-") for name in names)
    assert len(names) < 50


def test_jobs_that_block_do_not_keep_others_waiting(bench: Bench) -> None:
    go_on, running = threading.Event(), threading.Semaphore(0)
    names: list[str] = []

    def job() -> None:
        names.append(threading.current_thread().name)
        running.release()
        go_on.wait(PATIENCE_S)

    for _ in range(40):
        bench.pool.submit(job)
    for _ in range(40):
        assert running.acquire(timeout=PATIENCE_S), f"only {len(names)} of 40 jobs run"
    assert not go_on.is_set() and len(set(names)) == 40  # none has ended yet, and each has a thread of its own
    go_on.set()


def test_a_job_that_waits_for_the_next_one_never_waits_in_vain(bench: Bench) -> None:
    for _ in range(2000):
        first, second = threading.Event(), threading.Event()
        bench.pool.submit(lambda: (first.wait(PATIENCE_S), second.set()))
        bench.pool.submit(first.set)
        assert second.wait(PATIENCE_S), "a job was put behind a thread that was not idle any more"


def test_a_full_queue_is_busy_and_names_its_limit() -> None:
    pool = Pool("zdl-handler-test", "server", CallOptions(handler_threads_max=2, handler_queue_max=3))
    go_on, running = threading.Event(), threading.Semaphore(0)

    def job() -> None:
        running.release()
        go_on.wait(PATIENCE_S)

    for _ in range(2):
        pool.submit(job)
        assert running.acquire(timeout=PATIENCE_S)
    for _ in range(3):
        pool.submit(job)
    with pytest.raises(Busy) as caught:
        pool.submit(job)
    assert (caught.value.limit, caught.value.value, caught.value.at) == ("handler_queue_max", 3, "server")
    go_on.set()
    assert pool.close(PATIENCE_S) == 0


def test_there_are_never_more_threads_than_allowed() -> None:
    bench = Bench(handler_threads_max=2)
    most, running, lock = 0, 0, threading.Lock()
    done = threading.Semaphore(0)

    def job() -> None:
        nonlocal most, running
        with lock:
            running += 1
            most = max(most, running)
        done.acquire(timeout=0.001)
        with lock:
            running -= 1

    for _ in range(50):
        bench.pool.submit(job)
    bench.close()
    assert most <= 2


def test_a_job_that_fails_is_logged_and_its_thread_goes_on(bench: Bench, logged_errors: list[str]) -> None:
    done = threading.Event()

    def stumble() -> None:
        raise RuntimeError("stumbled")

    for _ in range(QUICK_THREADS):
        bench.pool.submit(stumble)
    eventually(lambda: len(logged_errors) == QUICK_THREADS)
    bench.pool.submit(done.set)
    assert done.wait(PATIENCE_S)
    logged_errors.clear()


def test_closing_waits_for_what_runs_and_tells_what_does_not_end() -> None:
    pool = Pool("zdl-handler-test", "server", CallOptions())
    go_on, running = threading.Event(), threading.Event()
    pool.submit(lambda: (running.set(), go_on.wait(PATIENCE_S)))
    assert running.wait(PATIENCE_S)
    assert pool.close(0.01) == 1
    with pytest.raises(Closed):
        pool.submit(lambda: None)
    go_on.set()
    assert pool.close(PATIENCE_S) == 0


def test_a_job_may_close_the_pool_that_runs_it() -> None:
    pool = Pool("zdl-handler-test", "server", CallOptions())
    left: list[int] = []
    pool.submit(lambda: left.append(pool.close(PATIENCE_S)))
    eventually(lambda: left)
    assert left == [0]
    assert "waiting" in repr(pool)


def test_who_waits_for_a_job_that_is_never_run_is_told_when_the_pool_closes() -> None:
    pool = Pool("test", "site-1", CallOptions(handler_threads_max=1))
    entered, let_go = threading.Event(), threading.Event()
    told: list[ZdlError] = []
    ran: list[str] = []
    pool.submit(lambda: (entered.set(), let_go.wait(PATIENCE_S)))
    assert entered.wait(PATIENCE_S)
    pool.submit(lambda: ran.append("nobody waits for it"))
    pool.submit(Owed(lambda: ran.append("somebody does"), told.append))
    assert pool.close(0.01) == 1
    assert [type(each) for each in told] == [Closed]
    let_go.set()
    assert pool.close(PATIENCE_S) == 0
    assert (len(told), ran) == (1, [])


def test_who_cannot_be_told_does_not_keep_the_others_from_being_told(logged_errors: list[str]) -> None:
    pool = Pool("test", "site-1", CallOptions(handler_threads_max=1))
    entered, let_go = threading.Event(), threading.Event()
    told: list[ZdlError] = []
    pool.submit(lambda: (entered.set(), let_go.wait(PATIENCE_S)))
    assert entered.wait(PATIENCE_S)
    pool.submit(Owed(lambda: None, lambda error: 1 / 0))
    pool.submit(Owed(lambda: None, told.append))
    pool.close(0.01)
    assert len(told) == 1 and "ZeroDivisionError" in logged_errors.pop()
    let_go.set()
    assert pool.close(PATIENCE_S) == 0


def test_a_thread_that_has_nothing_to_do_holds_nothing_of_its_last_job(bench: Bench) -> None:
    class Held:
        def __call__(self) -> None:
            """A job."""

    job = Held()
    held = weakref.ref(job)
    bench.pool.submit(job)
    del job
    assert eventually(lambda: held() is None, what="the end of the job")
