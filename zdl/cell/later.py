"""Later: a handler that answers after it has returned, from any thread.

::

    @cell.handler("task", "train")
    def train(request):
        later = request.later()
        queue.put(later)             # somebody else does:  later.reply(result)  or  later.fail(error)
        return later

The promise ends by itself when the caller waits no more, and when the cell closes: then the caller gets an error at once,
not at his timeout. A promise that nobody holds any more can never be kept: it is answered with an error, and a
`ResourceWarning` names the request.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from queue import SimpleQueue
from typing import Protocol

from zdl.errors import Busy, Closed, RemoteError, ZdlError
from zdl.protocol.messages import Request

Key = tuple[str, int]
# What the caller gets to read of a promise that was dropped.
DROPPED = "NeverAnswered"


class Later:
    """The right, and the duty, to answer one request, once.

    Threads: all methods from any thread.
    Lifetime: until it is answered, the caller waits no more, or the cell closes.
    """

    __slots__ = ("_message", "_promises", "__weakref__")

    def __init__(self, message: Request, promises: Promises) -> None:
        self._message = message
        self._promises = promises

    def __repr__(self) -> str:
        state = "open" if self.is_wanted else "over"
        return f"<Later {self._message.channel}/{self._message.topic} for {self._message.origin}: {state}>"

    def __del__(self) -> None:
        # This may run anywhere, even where locks of ours are held: it only leaves word.
        if self._promises.is_open(self._message):
            self._promises.dropped(self._message)
            warnings.warn(f"{self!r} was dropped without an answer", ResourceWarning, stacklevel=1)

    @property
    def is_wanted(self) -> bool:
        """Whether the caller still waits for it."""
        return self._promises.is_open(self._message)

    def reply(self, body: object = None) -> bool:
        """Answer. Returns whether the caller was still waiting.

        Raises:
            CannotPack, TooLarge: the body cannot travel; nothing was answered.
        """
        return self.is_wanted and self._promises.desk.reply_late(self._message, body)

    def fail(self, error: Exception) -> bool:
        """Answer that it failed: the caller gets `RemoteError`, or a `Refused` of this cell as it is. Returns as `reply`."""
        return self.is_wanted and self._promises.desk.fail_late(self._message, error)

    def is_for(self, message: object) -> bool:
        """Whether it is the promise made for this request."""
        return self._message is message


class LateDesk(Protocol):
    """What answers when a promise is kept."""

    def reply_late(self, message: Request, body: object) -> bool:
        """Answer with a body. Returns whether the promise was still open."""

    def fail_late(self, message: Request, error: Exception) -> bool:
        """Answer with an error. Returns whether the promise was still open."""


class Promises:
    """The promises of one cell.

    Threads: all methods from any thread. One thread of its own, from the first promise on, answers for dropped ones.

    Args:
        fqcn: the cell.
        most: promises at one time.
        desk: what answers.
    """

    def __init__(self, fqcn: str, most: int, desk: LateDesk) -> None:
        self._fqcn = fqcn
        self._most = most
        self.desk = desk
        self._lock = threading.Lock()  # guards the three below
        self._open: dict[Key, Request] = {}
        self._is_closed = False
        self._thread: threading.Thread | None = None
        # A `SimpleQueue` may be put into from a finalizer, which may interrupt whoever holds a lock.
        self._dropped: SimpleQueue[Request | None] = SimpleQueue()

    def __len__(self) -> int:
        return len(self._open)

    def make(self, message: Request) -> Later:
        """Promise to answer.

        Raises:
            Busy: ``late_answers_max`` are open.
            Closed: the cell closes.
        """
        with self._lock:
            if self._is_closed:
                raise Closed(fqcn=self._fqcn)
            if len(self._open) >= self._most:
                raise Busy(limit="late_answers_max", value=self._most, at=self._fqcn)
            self._open[message.origin, message.id] = message
            if self._thread is None:
                self._thread = threading.Thread(target=self._answer_dropped, name=f"zdl-late-{self._fqcn}", daemon=True)
                self._thread.start()
        return Later(message, self)

    def is_open(self, message: Request) -> bool:
        """Whether it is still to be kept. Takes no lock."""
        return (message.origin, message.id) in self._open

    def take(self, origin: str, number: int) -> bool:
        """It is over: it is about to be answered, or nobody waits. Returns whether it was open."""
        with self._lock:
            return self._open.pop((origin, number), None) is not None

    def dropped(self, message: Request) -> None:
        """Nobody holds it any more. Called by a finalizer."""
        self._dropped.put(message)

    def close(self, fail: Callable[[Request, ZdlError], None]) -> None:
        """Promise no more; `fail` tells each caller that still waits that the cell is closed."""
        with self._lock:
            self._is_closed = True
            left, self._open = list(self._open.values()), {}
            thread, self._thread = self._thread, None
        for message in left:
            fail(message, Closed(fqcn=self._fqcn))
        if thread is not None:
            self._dropped.put(None)
            thread.join()

    def _answer_dropped(self) -> None:
        while (message := self._dropped.get()) is not None:
            self.desk.fail_late(message, RemoteError(
                fqcn=self._fqcn, channel=message.channel, topic=message.topic, kind=DROPPED,
                text="its handler promised to answer later, and nobody is left who could"))
