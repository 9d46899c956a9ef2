"""Life: what runs for an open cell, apart from the cell itself: how it ends, and who may still use it.

::

    user ──▶ Cell ──▶ Life ◀── threads of the loops and pools

The threads hold the life, never the cell. So a cell that nobody holds any more is collected although its threads run;
they are ended then, and its user is told, by a `ResourceWarning`, where he made the cell that he never closed. A handler
that refers to its cell keeps it alive, as does any other reference; then the warning comes when the interpreter exits.

A fork copies the memory and none of the threads. The child's copy of an open cell is therefore marked the moment the
child begins, so that its users get `ForkedCell` instead of waiting for threads that are not there. What the parent has
open stays its own: the child touches no socket, no file and no lock of it.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path

from zdl.cell.answering import Answerer
from zdl.cell.calling import Caller
from zdl.cell.filtering import FilteringCaller
from zdl.cell.filters import Filters
from zdl.cell.handlers import Pool
from zdl.cell.service import Service
from zdl.cell.spreading import Spreader
from zdl.errors import Closed, ForkedCell, LocalProtocolError
from zdl.options import Options
from zdl.protocol.messages import Notice, Request
from zdl.transport.lanes import Lanes

_LOG = logging.getLogger("zdl.cell")
_PACKAGE = str(Path(__file__).resolve().parents[1]) + os.sep
# What the sockets and threads get of the time that closing has.
THREADS_S = 1.0


def place_outside() -> str:
    """``FILE:LINE`` of the nearest caller that is not part of zdl; no frame is kept."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


class Life:
    """The running parts of one cell.

    Threads: what `zdl.transport.control.ControlEvents` calls is called on the loop, the rest from any thread.

    Args:
        fqcn: the cell.

    Attributes:
        caller: its calling side, while it is open; None before, afterwards, and in a forked child.
        lanes: its sockets and threads; None before it was started.
        answerer: its answering side.
        pool: where its handlers run.
        services: what is closed with it, the last one first.
    """

    def __init__(self, fqcn: str) -> None:
        self._fqcn = fqcn
        self._made_at = place_outside()
        self._lock = threading.Lock()  # guards opening and closing
        self.caller: Caller | None = None
        self._last_caller: Caller | None = None  # messages come back while the cell closes, too
        self.lanes: Lanes | None = None
        self.answerer: Answerer | None = None
        self.services: list[Service] = []
        self.pool: Pool | None = None
        self._closer = 0  # the thread that closes it
        self._left: list[str] = []
        self._has_ended = threading.Event()
        self._owner = 0  # the process that started it, in a child of that process
        self._pid = 0
        self._unwatch: Callable[[], object] = lambda: None

    def __repr__(self) -> str:
        return f"<Life of {self._fqcn}: {self.state}>"

    @property
    def state(self) -> str:
        """``new``, ``open``, ``closed``, or ``forked``: the copy of an open cell in a forked child."""
        return "forked" if self._owner else "closed" if self._closer else "new" if self.lanes is None else "open"

    def error(self) -> Closed:
        """Why the cell cannot be used."""
        return ForkedCell(fqcn=self._fqcn, pid=self._owner) if self._owner else Closed(fqcn=self._fqcn)

    # --- beginning and ending -------------------------------------------------------------------

    def begin(self, opened: Callable[[], None]) -> None:
        """Have `opened` make and start the parts, unless it was done before.

        Raises:
            Closed: it was closed before.
            ForkedCell: it is another process's.
        """
        if self._owner:
            raise self.error()
        with self._lock:
            if self._closer:
                raise self.error()
            if self.lanes is None:
                opened()

    def watch(self, cell: object, caller: Caller) -> None:
        """The parts are complete: the cell is open, until it is closed, collected, forked, or the interpreter exits."""
        self._pid = os.getpid()
        self.caller = self._last_caller = caller
        forgotten = weakref.finalize(cell, self._abandoned)
        forgotten.atexit = False  # `_at_exit` does more
        atexit.register(self._at_exit)
        self._unwatch = forgotten.detach
        mark = weakref.WeakMethod(self._forked)

        def forked() -> None:
            """For the child; such a hook cannot be taken back, so it holds nothing but a weak reference."""
            marked = mark()
            if marked is not None:
                marked()

        os.register_at_fork(after_in_child=forked)

    def close(self, timeout_s: float) -> list[str]:
        """End all parts in order: services, calls, handlers, then the lanes. A second caller waits for the first one.

        Returns:
            What did not finish in time, in words.
        """
        if self._owner:
            return []
        until = time.monotonic() + timeout_s
        with self._lock:
            is_first = not self._closer
            if is_first:
                self._closer = threading.get_ident()
                self.caller = None
        if not is_first:
            # One of the cell's own threads would be waited for in its turn; the closer itself comes here by a signal.
            is_own = threading.current_thread().name.startswith("zdl-")
            if not is_own and threading.get_ident() != self._closer:
                self._has_ended.wait(max(0.0, until - time.monotonic()))
            return list(self._left)
        self._unwatch()
        atexit.unregister(self._at_exit)
        try:
            if self.lanes is not None:
                self._end(self.lanes, until)
        finally:
            self._has_ended.set()
        for each in self._left:
            _LOG.warning("! %s: %s", self._fqcn, each)
        return list(self._left)

    def _end(self, lanes: Lanes, until: float) -> None:
        for service in reversed(self.services):
            self._left += service.close(max(0.0, until - time.monotonic()))
        assert lanes.control is not None and self.pool is not None and self.answerer is not None
        self.answerer.close_promises()
        lanes.control.close()
        running = self.pool.close(max(0.0, until - time.monotonic()))
        running += self.answerer.close(max(0.0, until - time.monotonic()))
        if running:
            self._left.append(f"{running} handlers are still running")
        self._left += lanes.close(max(THREADS_S, until - time.monotonic()))

    # --- what users' calls go through -----------------------------------------------------------

    def open_lanes(self) -> Lanes:
        """The sockets of the open cell; raises `error` where it is not open."""
        if self.lanes is None or self.caller is None:
            raise self.error()
        return self.lanes

    def calling(self) -> Caller:
        """The calling side of the open cell; raises `error` where it is not open."""
        caller = self.caller
        if caller is None:
            raise self.error()
        return caller

    def spreader(self, options: Options) -> Spreader:
        """What the open cell sends to many."""
        assert self.lanes is not None and self.lanes.control is not None and self.pool is not None
        assert self._last_caller is not None
        return Spreader(self._fqcn, options, caller=self._last_caller, control=self.lanes.control, pool=self.pool,
                        is_alive=self.is_alive)

    def behind(self, options: Options, filters: Filters) -> FilteringCaller:
        """The calling side of the open cell, behind these filters."""
        assert self._last_caller is not None
        return FilteringCaller(self._fqcn, options, caller=self._last_caller, spreader=self.spreader(options), filters=filters)

    # --- what the threads ask -------------------------------------------------------------------

    def handle(self, message: Request | Notice) -> None:
        """A request or notice has come."""
        assert self.answerer is not None
        self.answerer.handle(message)

    def abort(self, origin: str, number: int) -> None:
        """The caller of this request waits no more."""
        assert self.answerer is not None
        self.answerer.abort(origin, number)

    def undelivered(self, number: int) -> None:
        """A reply or notice of ours did not arrive."""
        assert self._last_caller is not None
        self._last_caller.packing.undelivered(number)

    def is_alive(self) -> bool:
        """For a thread that has waited a while for an answer: whether one may still come.

        Raises:
            LocalProtocolError: never, because this thread itself would have to receive it.
        """
        if self.caller is not None and self.lanes is not None and self.lanes.control_loop.is_current():
            raise LocalProtocolError(what=(
                "a request from an inline handler would wait for ever: the thread that waits is the one that receives; "
                "register the handler without inline=True, or use request_future"))
        return self.caller is not None

    # --- ends that nobody asked for -------------------------------------------------------------

    def _forked(self) -> None:
        """In a forked child: the threads are not here, and the locks may be held for ever."""
        self._lock, self._has_ended = threading.Lock(), threading.Event()
        self._has_ended.set()
        if self.caller is not None:
            self.caller = None
            self._owner = self._pid

    def _abandoned(self) -> None:
        """The cell was collected, on whatever thread that happened: so another one ends its parts."""
        if self._owner == 0 and self.caller is not None:
            threading.Thread(target=self.close, args=(THREADS_S,), name=f"zdl-end-{self._fqcn}", daemon=True).start()
            self._warn()

    def _at_exit(self) -> None:
        if self._owner == 0 and self.caller is not None:
            try:
                self._warn()
            finally:
                self.close(0.0)

    def _warn(self) -> None:
        place, _, line = self._made_at.rpartition(":")
        text = f"cell {self._fqcn}, made at {self._made_at}, was never closed: use it in a with statement, or call close()"
        warnings.warn_explicit(text, ResourceWarning, place, int(line))
