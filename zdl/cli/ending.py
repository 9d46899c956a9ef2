"""Ending: what ends a command that stays, as one place to wait at: signals, the end of its input, its work, a time.

::

    entered ──signal──▶ raises Interrupted        what is being opened is closed by its ``with``
       │
    collect()
       │
    waiting ──signal──▶ is noted, wait() returns  the command ends in its own order
       └──a second signal──▶ ends the process at once, as if it had never been caught

The kernel may hand a signal to any thread, and Python runs its handlers in the main thread only, when that next runs
Python code. A main thread that sleeps on a lock may never do so. So it sleeps on a pipe: Python's C handler writes to
it, whichever thread it runs in, and everything else that ends a command does too.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from enum import Enum
from types import FrameType, TracebackType
from typing import Self, TypeVar

from zdl.cell.signal import Signal

Value = TypeVar("Value")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_READ_BYTES = 65536
# Signals have numbers up to 64; what is written to the pipe by us begins here.
_FIRST = 100


class Ending(Enum):
    """Why a command that stays comes to its end."""

    INTERRUPTED = "interrupted"
    TERMINATED = "terminated"
    EOF = "end of input"
    DONE = "done"
    TIME = "time is over"


_ORDER = tuple(Ending)


class Interrupted(KeyboardInterrupt):
    """A signal came while nothing had begun that must be ended in order."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.value)
        self.ending = ending


class Endings:
    """What may end a command; a context manager around all that it does.

    Threads: made, entered, waited for and left by the main thread, which alone handles signals; `put` from any thread.
    """

    def __init__(self) -> None:
        self._is_collecting = False
        self._is_terminated = False
        self._before: list[tuple[signal.Signals, object]] = []
        self._lock = threading.Lock()  # guards the three below, between `put` and the end
        self._is_open = False
        self._read = self._write = self._wakeup_before = -1

    def __enter__(self) -> Self:
        with self._lock:
            self._read, self._write = os.pipe()
            self._is_open = True
        for each in (self._read, self._write):
            os.set_blocking(each, False)
        self._wakeup_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._before = [(each, signal.signal(each, self._signalled)) for each in _SIGNALS]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for each, before in self._before:
            signal.signal(each, before)  # type: ignore[arg-type]
        signal.set_wakeup_fd(self._wakeup_before)
        with self._lock:
            self._is_open = False
            os.close(self._read)
            os.close(self._write)

    def collect(self) -> None:
        """From now on a first signal is noted for `wait`."""
        self._is_collecting = True

    def put(self, ending: Ending) -> None:
        """It shall end; nothing when it has."""
        with self._lock:
            if self._is_open:
                self._note(ending)

    def put_at_eof(self, descriptor: int) -> None:
        """End when whoever holds the other end of the descriptor closes it, or dies. What is read is dropped."""
        def read() -> None:
            with suppress(OSError):  # a descriptor that is not open has ended, and so has a terminal that is gone
                while os.read(descriptor, _READ_BYTES):
                    continue
            self.put(Ending.EOF)

        threading.Thread(target=read, name="zdl-until-eof", daemon=True).start()

    def wait(self, timeout_s: float | None = None) -> Ending:
        """Sleep until something ends it; `Ending.TIME` when `timeout_s` seconds are over."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left = None if until is None else max(0.0, until - time.monotonic())
            readable, _, _ = select.select([self._read], [], [], left)
            if not readable:
                return Ending.TIME
            code = os.read(self._read, 1)[0]
            if code >= _FIRST:  # else it is the number of a signal, whose handler runs now and notes what it means
                return _ORDER[code - _FIRST]

    def run(self, work: Callable[[Signal], Value]) -> Value:
        """Do the work in another thread; a signal triggers the abort signal that the work was given.

        Returns:
            What the work returns; what it raises is raised.
        """
        abort = Signal()
        self.collect()
        with ThreadPoolExecutor(1, thread_name_prefix="zdl-work") as pool:
            future = pool.submit(work, abort)
            future.add_done_callback(lambda _: self.put(Ending.DONE))
            ending = self.wait()
            if ending is not Ending.DONE:
                abort.trigger(ending.value)
            return future.result()

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTERM and not self._is_collecting:
            self._is_terminated = True
            signal.raise_signal(signal.SIGINT)  # which a cell puts off while the main thread holds one of its loops
            return
        ending = Ending.TERMINATED if number == signal.SIGTERM or self._is_terminated else Ending.INTERRUPTED
        if not self._is_collecting:
            raise Interrupted(ending)
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        self._note(ending)

    def _note(self, ending: Ending) -> None:
        os.write(self._write, bytes([_FIRST + _ORDER.index(ending)]))
