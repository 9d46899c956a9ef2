"""Telling: users' functions that hear of what happens, one thing after the other, on the handler pool.

A loop must never wait for a user's function, nor keep more for it than a bound: what does not fit is dropped and counted.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping

from zdl.cell.handlers import Job, Raised, guarded
from zdl.errors import ZdlError

_LOG = logging.getLogger("zdl.cell")


class Teller:
    """Calls one user's function, in order, never twice at the same time.

    Threads: all methods from any thread; the function runs on the pool.

    Args:
        what: it is told, for logs.
        submit: runs a job on the pool soon; raises when that is full or closed.
        most: calls that may wait.
    """

    def __init__(self, what: str, submit: Callable[[Job], None], most: int) -> None:
        self._what = what
        self._submit = submit
        self._most = most
        self._lock = threading.Lock()  # guards the three below
        self._waiting: deque[Callable[[], object]] = deque()
        self._is_telling = False
        self._dropped_count = 0

    def __repr__(self) -> str:
        return f"<Teller of {self._what}: {len(self._waiting)} waiting, {self._dropped_count} dropped>"

    @property
    def dropped_count(self) -> int:
        """How many calls were dropped because others still waited."""
        return self._dropped_count

    def tell(self, call: Callable[[], object]) -> None:
        """Make this call soon, unless too many wait."""
        with self._lock:
            if len(self._waiting) >= self._most:
                self._dropped_count += 1
                return
            self._waiting.append(call)
            if self._is_telling:
                return
            self._is_telling = True
        try:
            self._submit(self._work)
        except ZdlError as error:
            with self._lock:
                self._is_telling = False
                self._dropped_count += len(self._waiting)
                self._waiting.clear()
            _LOG.debug("! %s is not told: %s", self._what, error)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._is_telling = False
                    return
                call = self._waiting.popleft()
            raised = guarded(call)
            if isinstance(raised, Raised):
                _LOG.warning("! the function for %s raised %s: %s", self._what, raised.kind, raised.text)


def hearing(on_progress: Callable[[Mapping[str, object]], object], submit: Callable[[Job], None],
            most: int) -> Callable[[Mapping[str, object]], None]:
    """For the loop: what a handler reports is heard by the user's function, on the pool."""
    teller = Teller("progress", submit, most)
    return lambda facts: teller.tell(lambda: on_progress(facts))
