"""Subscription: the objects of all streams of one name, one after the other: the short way, for most users.

Nothing runs for a subscription but the loop that reads it: who reads slowly holds the senders back.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self

from zdl.cell.cell import BareCell
from zdl.cell.workflow import Workflow
from zdl.errors import ZdlError
from zdl.objects.pack import refers
from zdl.protocol.messages import Body
from zdl.protocol.pushing import Open
from zdl.streaming.inflow import Inflow
from zdl.streaming.packer import Packer

# How often one that waits looks whether the cell is still open.
LOOK_S = 1.0


class Subscription:
    """An iterator, plain or asynchronous, of the objects that come; it ends when it is closed, or its cell is.

    A stream that breaks off only ends itself: its objects came as far as they came, and the others go on. The last ends of that
    kind stand in `failures`. An object counts as consumed when the next one is asked for.

    Threads: one at a time iterates; `close` from any.

    Args:
        cell: it belongs to.
        packer: unpacks objects.
        idle_timeout_s: a stream of which nothing comes for so long ends.
        forget: takes the name back.
    """

    def __init__(self, cell: BareCell, packer: Packer, idle_timeout_s: float | None, forget: Callable[[], None]) -> None:
        self._cell = cell
        self._packer = packer
        self._idle_timeout_s = idle_timeout_s
        self._forget = forget
        self._changed = threading.Condition()  # guards the streams
        self._inflows: deque[Inflow] = deque()
        self._is_closed = False
        self._last: tuple[Inflow, Body] | None = None
        self._wake: Callable[[], None] | None = None
        self.failures: deque[ZdlError] = deque(maxlen=64)
        self.origin = ""

    def __repr__(self) -> str:
        return f"<Subscription of {len(self._inflows)} streams{', closed' if self._is_closed else ''}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> object:
        """The next object; `origin` says whose it is."""
        self._done_with_last()
        while not self._is_over():
            found = self._resolved(self._take())
            if found is not None:
                return found[0]
            with self._changed:
                if not self._has_work() and not self._is_closed:
                    self._changed.wait(LOOK_S)
        raise StopIteration

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> object:
        """The next object, for an event loop."""
        self._done_with_last()
        loop, woken = asyncio.get_running_loop(), asyncio.Event()
        while not self._is_over():
            self._wake = partial(_set, loop, woken)
            woken.clear()
            found = self._take()
            if found is not None and self._last is not None and refers(self._last[1]):
                found = await asyncio.to_thread(self._resolved, found)
            if found is not None:
                self._wake = None
                return found[0]
            if self._has_work():
                continue
            try:
                await asyncio.wait_for(woken.wait(), LOOK_S)
            except TimeoutError:
                continue
        raise StopAsyncIteration

    @property
    def workflow(self) -> Workflow | None:
        """The workflow that the stream of the last object belongs to; None for none.

        Raises:
            Busy: this cell is part of ``calls.workflows_max`` already.
        """
        return None if self._last is None else self._last[0].workflow

    def opened(self, message: Open) -> Inflow:
        """On the lane: one more stream."""
        inflow = Inflow(self._cell, message, self._woken, self._idle_timeout_s)
        with self._changed:
            self._inflows.append(inflow)
        return inflow

    def close(self) -> None:
        """No more: streams that are open end here normally, and their senders hear of it."""
        self._forget()
        with self._changed:
            self._is_closed = True
            inflows, self._inflows = list(self._inflows), deque()
        for inflow in inflows:
            inflow.end(None)
        self._woken()

    # --- inside ---------------------------------------------------------------------------------

    def _woken(self) -> None:
        with self._changed:
            self._changed.notify_all()
            wake = self._wake
        if wake is not None:
            wake()

    def _is_over(self) -> bool:
        return self._is_closed

    def _has_work(self) -> bool:
        return any(inflow.has_work for inflow in self._inflows)

    def _take(self) -> tuple[object] | None:
        """The next object that is there, in turn of the streams."""
        for _ in range(len(self._inflows)):
            with self._changed:
                if not self._inflows:
                    return None
                inflow = self._inflows[0]
                self._inflows.rotate(-1)
            if not inflow.has_work:
                continue
            try:
                parts = inflow.take()
                if parts is not None:
                    obj = self._packer.unpack(parts)
                    self._last, self.origin = (inflow, parts), inflow.origin
                    return (obj,)
                self._end(inflow, None)
            except ZdlError as error:
                self._end(inflow, error)
        return None

    def _resolved(self, found: tuple[object] | None) -> tuple[object] | None:
        """The object with what it refers to; None where that is not to be had, which ends its stream."""
        if found is None or self._last is None:
            return None
        if not refers(self._last[1]):
            return found
        try:
            return (self._packer.resolve(found[0]),)
        except ZdlError as error:
            (inflow, _), self._last = self._last, None
            self._end(inflow, error)
            return None

    def _end(self, inflow: Inflow, error: ZdlError | None) -> None:
        if error is not None:
            self.failures.append(error)
        inflow.end(error)
        with self._changed:
            if inflow in self._inflows:
                self._inflows.remove(inflow)

    def _done_with_last(self) -> None:
        if self._last is not None:
            (inflow, parts), self._last = self._last, None
            inflow.consumed(parts)
            if not inflow.has_work:
                inflow.report()


def _set(loop: asyncio.AbstractEventLoop, woken: asyncio.Event) -> None:
    loop.call_soon_threadsafe(woken.set)
