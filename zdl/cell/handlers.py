"""Handlers: which function answers which request, and the threads that run them.

A handler is found by channel and topic, ``*`` standing for any: the exact pair first, then (channel, *),
(*, topic), (*, *). Handlers run on a bounded pool, so they may block, and may send requests of their own:
replies are settled on the loop, never on this pool. Threads are started when requests wait and none is
idle, few at once: a burst of short requests is worked off by a few threads, while requests that wait
behind blocked handlers get new ones within milliseconds, up to ``handler_threads_max``.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TypeVar

from zdl.cell.messages import Request
from zdl.errors import Busy, Closed
from zdl.options import CallOptions

_LOG = logging.getLogger("zdl.cell")
ANY = "*"
# Threads started without waiting, and the pause before each further one.
QUICK_THREADS = 4
PAUSE_S = 0.002

Value = TypeVar("Value")
Function = Callable[[Request], object]
Job = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Registration:
    """How a handler wants its requests.

    Attributes:
        function: gets a `Request`, returns the body of the reply.
        resolve: whether refs in the body are pulled before it runs.
        inline: whether it runs on the loop itself: only for functions that never block and take microseconds.
    """

    function: Function
    resolve: bool
    inline: bool


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of running a handler: the body of the reply, or what it raised."""

    body: object
    error: Exception | None


def run(function: Function, request: Request) -> Ran:
    """Run the user's code; whatever it raises is a result."""
    try:
        return Ran(function(request), None)
    except Exception as error:
        _LOG.info("! handler %s/%s raised", request.channel, request.topic, exc_info=True)
        return Ran(None, error)


class Handlers:
    """The table of handlers of one cell.

    Threads: registration and look-up from any thread; a later registration replaces an earlier one.
    """

    def __init__(self) -> None:
        self._table: dict[tuple[str, str], Registration] = {}

    def add(self, channel: str, topic: str, registration: Registration) -> None:
        """Register a handler."""
        self._table[channel, topic] = registration

    def find(self, channel: str, topic: str) -> Registration | None:
        """The handler for a request, or None."""
        table = self._table
        for key in ((channel, topic), (channel, ANY), (ANY, topic), (ANY, ANY)):
            found = table.get(key)
            if found is not None:
                return found
        return None


@dataclass(frozen=True, slots=True)
class Raised:
    """What users' code raised instead of returning.

    Attributes:
        error: itself.
        kind: the name of its class.
        text: what it says; empty when not even that can be had.
    """

    error: BaseException
    kind: str
    text: str


def guarded(function: Callable[[], Value]) -> Value | Raised:
    """What the function returns, or what it raised: users' code may raise anything, `SystemExit` too.

    An error in a handler must end neither a thread of the pool nor a loop, and its caller shall hear of it.
    """
    try:
        return function()
    except BaseException as error:
        return Raised(error, type(error).__name__, _text_of(error))


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as worse:
        _LOG.info("! %s has no text: %s", type(error).__name__, type(worse).__name__)
        return ""


class Pool:
    """Threads that run jobs.

    Threads: `submit` and `close` from any thread, `tick` from the loop's.

    Args:
        name: of the threads.
        fqcn: the cell, for errors.
        options: limits.
        wake: makes the loop look at `deadline` again.
    """

    def __init__(self, name: str, fqcn: str, options: CallOptions, *, wake: Callable[[], None] = lambda: None) -> None:
        self._name = name
        self._fqcn = fqcn
        self._options = options
        self._wake = wake
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._lock = threading.Lock()  # guards the threads, and the counts of idle ones and of waiting jobs
        self._threads: list[threading.Thread] = []
        self._idle = 0  # from the start of a thread, or the end of its job, until it has taken the next one
        self._waiting = 0  # not the length of the queue, which a thread leaves before it is known to have a job
        self._starved_since: float | None = None
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<Pool {self._name}: {len(self._threads)} threads, {self._idle} idle, {self._waiting} waiting>"

    def submit(self, job: Job) -> None:
        """Run a job soon.

        Raises:
            Busy: ``handler_queue_max`` jobs wait.
            Closed: the pool is closed.
        """
        with self._lock:
            if self._is_closed:
                raise Closed(fqcn=self._fqcn)
            if self._waiting - self._idle >= self._options.handler_queue_max:
                raise Busy(limit="handler_queue_max", value=self._options.handler_queue_max, at=self._fqcn)
            self._waiting += 1
            self._jobs.put(job)
            if self._idle >= self._waiting:
                return
            if len(self._threads) < min(QUICK_THREADS, self._options.handler_threads_max):
                self._start_thread()
                return
            if self._starved_since is not None:
                return
            self._starved_since = time.monotonic()
        self._wake()

    def tick(self, now: float) -> None:
        """One more thread, if jobs have waited for a while and no thread is idle."""
        with self._lock:
            if self._starved_since is None or now < self._starved_since + PAUSE_S:
                return
            if self._waiting <= self._idle or len(self._threads) >= self._options.handler_threads_max:
                self._starved_since = None
                return
            self._starved_since = now
            self._start_thread()

    def deadline(self) -> float | None:
        """When `tick` is wanted next."""
        since = self._starved_since
        return None if since is None else since + PAUSE_S

    def close(self, timeout_s: float) -> int:
        """Take no more jobs, wait for those that run. Returns how many threads did not end in time."""
        with self._lock:
            self._is_closed = True
            threads = list(self._threads)
            for _ in threads:
                self._jobs.put(None)
        until = time.monotonic() + timeout_s
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))
        return sum(thread.is_alive() for thread in threads if thread is not threading.current_thread())

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True)
        self._threads.append(thread)
        self._idle += 1
        thread.start()

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            with self._lock:
                self._idle -= 1
                self._waiting -= job is not None
            if job is None:
                return
            try:
                job()
            except Exception:
                _LOG.exception("! %s: a job failed outside its handler", self._name)
            with self._lock:
                self._idle += 1
