"""Handlers: which function answers which request, and the threads that run them.

A handler is found by channel and topic, ``*`` standing for any: the exact pair first, then (channel, *),
(*, topic), (*, *). Handlers run on a bounded pool, so they may block, and may send requests of their own:
replies are settled on the loop, never on this pool. Threads are started when requests wait and none is
idle, one after the other: a burst of short requests is worked off by a few threads, while requests that wait
behind blocked handlers get new ones within milliseconds, up to ``handler_threads_max``.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TypeVar

from zdl.cell.messages import Request
from zdl.cell.service import Resolving
from zdl.errors import Busy, Closed, ZdlError
from zdl.options import CallOptions
from zdl.transport.loop import Loop

_LOG = logging.getLogger("zdl.cell")
ANY = "*"
# Threads started without waiting, and the pause before each further one.
QUICK_THREADS = 4
PAUSE_S = 0.002

Value = TypeVar("Value")
Function = Callable[[Request], object]
Job = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Owed:
    """A job that somebody waits for: it is run, or, when its pool closes before, whoever waits is told.

    Attributes:
        job: what is to be run.
        reject: is called instead, with why.
    """

    job: Job
    reject: Callable[[ZdlError], object]

    def __call__(self) -> None:
        self.job()


@dataclass(frozen=True, slots=True)
class Registration:
    """How a handler wants its requests.

    Attributes:
        function: gets a `Request`, returns the body of the reply.
        resolve: whether refs in the body are pulled before it runs.
        inline: whether it runs on the loop itself: only for functions that never block and take microseconds.
    """

    function: Function
    resolve: Resolving
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
        found = table.get((channel, topic))
        if found is None:
            for key in ((channel, ANY), (ANY, topic), (ANY, ANY)):
                found = found or table.get(key)
        return found


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
        return raised(error)


def raised(error: BaseException) -> Raised:
    """What there is to say of an error in users' code."""
    return Raised(error, type(error).__name__, _text_of(error))


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as worse:
        _LOG.info("! %s has no text: %s", type(error).__name__, type(worse).__name__)
        return ""


class Pool:
    """Threads that run jobs.

    A thread that has nothing to do leads the control lane if nobody else does (`zdl.transport.lead`): what it reads
    it runs itself, without waking anybody. Further jobs that it has read wait for it too, and are given to other
    threads when it has not come to them within `PAUSE_S`.

    Threads: `submit` and `close` from any thread, `tick` from the loop's.

    Args:
        name: of the threads.
        fqcn: the cell, for errors.
        options: limits.
        loop: whom idle threads may lead; None: they sleep.
    """

    def __init__(self, name: str, fqcn: str, options: CallOptions, *, loop: Loop | None = None) -> None:
        self._name = name
        self._fqcn = fqcn
        self._options = options
        self._loop = loop
        self._leader = 0  # the thread of ours that leads, or is about to
        self._is_arriving = False  # it is about to, and will look for a job first
        self._jobs: deque[Job] = deque()
        self._tickets: SimpleQueue[None] = SimpleQueue()  # one wakes one thread that sleeps
        self._lock = threading.Lock()  # guards the threads, and the count of those that sleep
        self._threads: list[threading.Thread] = []
        self._idle = 0  # threads that sleep and to whom no ticket is on its way
        self._coming = 0  # threads that were woken or started, and have not looked for a job yet
        self._starved_since: float | None = None
        self._taken = 0  # jobs since `tick` looked
        self._is_closed = False
        if loop is not None:
            loop.lead.look = self.tick

    def __repr__(self) -> str:
        return f"<Pool {self._name}: {len(self._threads)} threads, {self._idle} idle, {len(self._jobs)} waiting>"

    def submit(self, job: Job) -> None:
        """Run a job soon.

        Raises:
            Busy: ``handler_queue_max`` jobs wait.
            Closed: the pool is closed.
        """
        if len(self._jobs) - self._idle - self._coming >= self._options.handler_queue_max:
            raise Busy(limit="handler_queue_max", value=self._options.handler_queue_max, at=self._fqcn)
        if self._leader == threading.get_ident():
            self._jobs.append(job)  # this thread runs it next
            if self._starved_since is None and len(self._jobs) > 1:
                self._starve()
            return
        with self._lock:
            if self._is_closed:
                raise Closed(fqcn=self._fqcn)
            self._jobs.append(job)
            if self._coming or self._give_thread(QUICK_THREADS):
                return
            is_leading = self._leader != 0
        if is_leading and self._loop is not None:
            self._loop.wake()
        if not is_leading or len(self._jobs) > 1:
            self._starve()

    def tick(self, now: float) -> None:
        """More threads, if jobs have waited for a while."""
        since = self._starved_since
        if since is None or now < since + PAUSE_S:
            return
        taken, self._taken = self._taken, 0
        self._starved_since = now if self._jobs else None
        if taken < QUICK_THREADS:  # else they are short, and more threads would only get into each other's way
            with self._lock:
                for _ in range(min(len(self._jobs), QUICK_THREADS)):
                    self._give_thread(self._options.handler_threads_max)

    def is_busy(self) -> bool:
        """Whether jobs wait for a thread. Read from any thread."""
        return bool(self._jobs)

    def deadline(self) -> float | None:
        """When `tick` is wanted next."""
        since = self._starved_since
        return None if since is None else since + PAUSE_S

    def close(self, timeout_s: float) -> int:
        """Take no more jobs, wait for those that run, reject those that no thread came to: see `Owed`.

        Returns:
            How many threads did not end in time.
        """
        with self._lock:
            self._is_closed = True
            threads = list(self._threads)
            for _ in threads:
                self._tickets.put(None)
        if self._loop is not None:
            self._loop.wake()
        until = time.monotonic() + timeout_s
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))
        self._reject_left()
        return sum(thread.is_alive() for thread in threads if thread is not threading.current_thread())

    # --- inside ---------------------------------------------------------------------------------

    def _reject_left(self) -> None:
        """Jobs that wait behind others which do not end: a thread that comes back finds none."""
        while self._jobs:
            try:
                job = self._jobs.popleft()
            except IndexError:  # a thread has come back after all
                return
            if isinstance(job, Owed):
                reject = job.reject
                found = guarded(lambda: reject(Closed(fqcn=self._fqcn)))
                if isinstance(found, Raised):
                    _LOG.error("! %s: who waited for a job could not be told", self._name, exc_info=found.error)

    def _starve(self) -> None:
        """There is a job that no thread was woken for."""
        if self._starved_since is None:
            self._starved_since = time.monotonic()
            if self._loop is not None:
                self._loop.look_again()

    def _give_thread(self, threads_max: int) -> bool:
        """Under the lock: wake a thread that sleeps, or start one. Returns False if neither can be."""
        if self._idle:
            self._idle -= 1
            self._coming += 1
            self._tickets.put(None)
            return True
        if self._leader or len(self._threads) >= min(threads_max, self._options.handler_threads_max):
            return False
        thread = threading.Thread(target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True)
        thread.start()  # first: one that the system does not grant must not be waited for
        self._threads.append(thread)
        self._coming += 1
        return True

    def _arrive(self) -> bool:
        """A thread that was woken or started is here: if there is more than one job, the next thread is. Returns whether to stay.

        One after the other, because threads that are woken for short jobs all at once get but into each other's way: the first
        one has done them all by the time the second one has the interpreter.
        """
        with self._lock:
            self._coming -= 1
            is_short = len(self._jobs) > 1 and not self._coming and not self._give_thread(QUICK_THREADS)
            is_over = self._is_closed and not self._jobs
        if is_short:
            self._starve()
        return not is_over

    def _work(self) -> None:
        is_wanted = self._arrive()
        while is_wanted:
            try:
                job = self._jobs.popleft()
            except IndexError:
                is_wanted = self._await_job()
                continue
            self._taken += 1
            try:
                job()
            except Exception:
                _LOG.exception("! %s: a job failed outside its handler", self._name)
            del job  # it holds a message, and this thread may sleep for long

    def _await_job(self) -> bool:
        """Lead or sleep until there may be a job. Returns False when there will be none any more."""
        with self._lock:
            # While others run jobs they come back to lead; two that take turns would compete for the interpreter.
            is_alone = len(self._threads) - self._idle == 1
            may_lead = self._loop is not None and is_alone and not self._leader and not self._is_closed
            if may_lead:
                self._leader = threading.get_ident()
                self._is_arriving = True
                self._coming += 1
        if may_lead:
            assert self._loop is not None
            try:
                self._loop.lead.take(self._is_wanted)
            finally:
                self._arrived()
                self._leader = 0
        with self._lock:
            if self._jobs:
                return True
            if self._is_closed:
                return False
            self._idle += 1
        self._tickets.get()
        return self._arrive()

    def _is_wanted(self) -> bool:
        if self._is_arriving:
            self._arrived()
        return bool(self._jobs) or self._is_closed

    def _arrived(self) -> None:
        """The thread that leads looks for a job: whoever brings one from now on must wake it."""
        with self._lock:
            if self._is_arriving:
                self._is_arriving = False
                self._coming -= 1
