"""Workers: threads for users' code that may block, for ever if it is broken.

They are started as they are needed, end when they were idle for a while, and never keep the process from ending. What
runs there is told with its age, so that a report can name what hangs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from zdl.cell.handlers import Raised, guarded
from zdl.errors import Closed

_LOG = logging.getLogger("zdl.download")
# A thread that has nothing to do for so long ends; starting one costs about 0.1 ms.
IDLE_S = 10.0

Job = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Running:
    """A job that is running now.

    Attributes:
        what: in words.
        age_s: since it began.
    """

    what: str
    age_s: float


class Workers:
    """A bounded pool of threads.

    Threads: all methods from any thread.

    Args:
        name: of the threads.
        fqcn: the cell, for errors.
        threads_max: at one time.
    """

    def __init__(self, name: str, fqcn: str, threads_max: int) -> None:
        self._name = name
        self._fqcn = fqcn
        self._threads_max = threads_max
        self._changed = threading.Condition()  # guards all below
        self._jobs: deque[tuple[str, Job]] = deque()
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        self._started = 0
        self._running: dict[int, tuple[str, float]] = {}
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<Workers {self._name}: {len(self._threads)} threads, {self._idle} idle, {len(self._jobs)} jobs waiting>"

    @property
    def running(self) -> list[Running]:
        """What runs now, the oldest first."""
        with self._changed:
            found = list(self._running.values())
        now = time.monotonic()
        return sorted((Running(what, now - since) for what, since in found), key=lambda each: -each.age_s)

    def submit(self, what: str, job: Job) -> None:
        """Run a job soon; those that are submitted first begin first. What it raises is logged.

        Raises:
            Closed: no more jobs are taken.
        """
        with self._changed:
            if self._is_closed:
                raise Closed(fqcn=self._fqcn)
            self._jobs.append((what, job))
            if self._idle >= len(self._jobs):
                self._changed.notify()
            elif len(self._threads) < self._threads_max:
                self._started += 1
                thread = threading.Thread(target=self._work, name=f"{self._name}-{self._started}", daemon=True)
                self._threads.add(thread)
                thread.start()

    def close(self, timeout_s: float) -> list[str]:
        """Take no more jobs, run those that wait, and wait for all. Returns what did not end in time, in words."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            is_mine = threading.current_thread() in self._threads
            self._changed.wait_for(lambda: len(self._threads) <= is_mine, timeout_s)
            self._jobs.clear()
            mine = threading.get_ident()
            return [what for ident, (what, _) in self._running.items() if ident != mine]

    # --- inside ---------------------------------------------------------------------------------

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            _run(*taken)
            del taken  # a thread that is idle must not hold what its last job has used

    def _take(self) -> tuple[str, Job] | None:
        """The next job; None: this thread is to end."""
        me = threading.get_ident()
        with self._changed:
            self._running.pop(me, None)
            self._idle += 1
            is_woken = self._changed.wait_for(lambda: self._jobs or self._is_closed, IDLE_S)
            self._idle -= 1
            if not is_woken or not self._jobs:
                self._threads.discard(threading.current_thread())
                self._changed.notify_all()
                return None
            what, job = self._jobs.popleft()
            self._running[me] = what, time.monotonic()
            return what, job


def _run(what: str, job: Job) -> None:
    raised = guarded(job)
    if isinstance(raised, Raised):
        _LOG.error("! %s failed: %s: %s", what, raised.kind, raised.text, exc_info=raised.error)
