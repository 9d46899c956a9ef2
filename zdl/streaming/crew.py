"""Crew: the threads that run what users have registered for streams; never a loop's, and under no lock."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from zdl.cell.handlers import Raised, guarded
from zdl.errors import Closed

_LOG = logging.getLogger("zdl.streaming")
Job = Callable[[], None]


class Crew:
    """Threads that are started as they are needed. A job may block for as long as it likes: others have threads of their own.

    Threads: all methods from any thread.

    Args:
        fqcn: the cell.
        threads_max: no more threads; further jobs wait.
    """

    def __init__(self, fqcn: str, threads_max: int) -> None:
        self._fqcn = fqcn
        self._threads_max = threads_max
        self._changed = threading.Condition()  # guards the four below
        self._jobs: deque[Job] = deque()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<Crew of {self._fqcn}: {len(self._threads)} threads, {self._idle} idle, {len(self._jobs)} waiting>"

    def run(self, job: Job) -> None:
        """Run a job soon.

        Raises:
            Closed: the crew has gone home.
        """
        with self._changed:
            if self._is_closed:
                raise Closed(fqcn=self._fqcn)
            self._jobs.append(job)
            if self._idle >= len(self._jobs) or len(self._threads) >= self._threads_max:
                self._changed.notify()
                return
            thread = threading.Thread(target=self._work, name=f"zdl-stream-{self._fqcn}-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def close(self, timeout_s: float) -> int:
        """Take no more jobs, wait for those that run. Returns how many did not end in time."""
        with self._changed:
            self._is_closed = True
            threads = list(self._threads)
            self._changed.notify_all()
        until = time.monotonic() + timeout_s
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))
        return sum(thread.is_alive() for thread in threads if thread is not threading.current_thread())

    def _work(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                while not self._jobs and not self._is_closed:
                    self._changed.wait()
                self._idle -= 1
                if not self._jobs:
                    return
                job = self._jobs.popleft()
            failed = guarded(job)
            if isinstance(failed, Raised):
                _LOG.error("! zdl-stream-%s: a job failed", self._fqcn, exc_info=failed.error)
            del job, failed  # what it refers to is not kept alive by a thread that waits
