"""Mailbox: how other threads hand work to a loop.

A bounded queue of functions that the loop calls, and a descriptor that its poller waits on. A thread
hand-over costs 18–24 us whatever wakes the sleeper, so the descriptor is written only when the loop may
be asleep: many pieces of work, one wake-up.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from zdl.errors import Busy, Closed

Work = tuple[Callable[..., None], tuple[Any, ...]]
# Pieces of work done before the sockets are looked at again.
AT_ONCE = 256
_ONE = (1).to_bytes(8, sys.byteorder)  # what an eventfd counts


class Mailbox:
    """The door of one loop.

    Threads: `put` from any thread; the rest from the loop's own.

    Attributes:
        waiting: the work that waits; others only look whether there is any.
        is_asleep: whether the loop sleeps, or is about to; set by `Mailbox` alone.

    Args:
        fqcn: the cell, for errors.
        size_max: pieces of work that may wait.
    """

    def __init__(self, fqcn: str, size_max: int) -> None:
        self._fqcn = fqcn
        self._size_max = size_max
        self.waiting: deque[Work] = deque()
        self.is_asleep = False
        self._is_closed = False
        self._reader, self._writer = _wake_pair()
        self._writer_lock = threading.Lock()  # guards the descriptor: none is written after it was closed

    def __repr__(self) -> str:
        return f"<Mailbox of {self._fqcn}: {len(self.waiting)} waiting{', closed' if self._is_closed else ''}>"

    @property
    def descriptor(self) -> int:
        """Readable when there is work."""
        return self._reader

    def put(self, function: Callable[..., None], *arguments: Any) -> None:
        """Have the loop call the function soon.

        Raises:
            Busy: the mailbox is full.
            Closed: the loop has ended.
        """
        if len(self.waiting) >= self._size_max and not self._is_closed:
            raise Busy(limit="mailbox_max", value=self._size_max, at=self._fqcn)
        self.insist(function, *arguments)

    def insist(self, function: Callable[..., None], *arguments: Any) -> None:
        """The same, also where the mailbox is full: for work of which there is no more than something else allows.

        Raises:
            Closed: the loop has ended.
        """
        if self._is_closed:
            raise Closed(fqcn=self._fqcn)
        self.waiting.append((function, arguments))
        if self.is_asleep:
            self.is_asleep = False
            self._wake()

    def wake(self) -> None:
        """Wake the loop although there is no work: its plans have changed."""
        if self.is_asleep:
            self.is_asleep = False
            self._wake()

    def may_sleep(self) -> bool:
        """The loop is about to sleep. False when there is work after all."""
        self.is_asleep = True
        if self.waiting:
            self.is_asleep = False
            return False
        return True

    def awake(self, *, was_woken: bool) -> None:
        """The loop is awake again; `was_woken`: the descriptor was readable."""
        self.is_asleep = False
        if was_woken:
            os.read(self._reader, 4096)

    def work(self) -> list[Work]:
        """What waits, at most `AT_ONCE` pieces."""
        taken = min(len(self.waiting), AT_ONCE)
        return [self.waiting.popleft() for _ in range(taken)]

    def close(self) -> list[Work]:
        """Take no more. Returns what was put and never done."""
        self._is_closed = True
        left = list(self.waiting)
        self.waiting.clear()
        with self._writer_lock:
            os.close(self._reader)
            if self._writer != self._reader:
                os.close(self._writer)
            self._writer = -1
        return left

    def _wake(self) -> None:
        with self._writer_lock:
            if self._writer >= 0:
                try:
                    os.write(self._writer, _ONE)
                except BlockingIOError:
                    return  # full: a wake-up is on its way already


def _wake_pair() -> tuple[int, int]:
    """Reader and writer: one eventfd (0.7 us a wake-up) where there is one, else a pipe."""
    if hasattr(os, "eventfd"):
        descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        return descriptor, descriptor
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    return reader, writer
