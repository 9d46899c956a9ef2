"""Aio: the awaitable twins of the calls that push, for any asyncio loop.

::

    async with await cell.streams.aio.open("logs", "tail", "server") as out:
        await out.write(b"…")
    result = await cell.streams.aio.blob("x", "y", "server", payload)
    async for item in cell.streams.subscribe("metrics", "round"): …

What waits, waits on a thread of asyncio. Cancelling the task, `asyncio.timeout` included, breaks the stream off, which its
receivers are told, and returns when it has ended.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from zdl.cell.futures import NO_HEADERS
from zdl.cell.signal import Signal
from zdl.cell.threaded import GIVEN_UP, threaded
from zdl.cell.workflow import Workflow
from zdl.streaming.api import Context, ObjectProducer
from zdl.streaming.sender import Ended, ObjectWriter
from zdl.streaming.writer import BlobHandle, Bytes, StreamWriter

Writer = TypeVar("Writer", StreamWriter, ObjectWriter)


class AioFeeding(ABC):
    """What both writers are as asynchronous context managers; see `zdl.streaming.feeding`."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            await self.close()
        else:
            self.cancel(f"its writer raised {type(error).__name__}")

    @abstractmethod
    async def close(self) -> object:
        """End normally, and wait until the receivers have finished."""

    @abstractmethod
    def cancel(self, why: str = ...) -> None:
        """Break off; the receivers are told why."""


class AioStreamWriter(AioFeeding):
    """The twin of `StreamWriter`.

    Args:
        writer: whose; what does not wait is asked of it.
    """

    def __init__(self, writer: StreamWriter) -> None:
        self.writer = writer

    async def write(self, data: Bytes) -> int:
        """Send bytes; waits while the receiver is a window behind."""
        return await threaded(partial(self.writer.write, data), self.cancel)

    async def result(self, timeout_s: float | None = None) -> object:
        """What the receiver's callback returned, when it has."""
        return await threaded(partial(self.writer.result, timeout_s), self.cancel)

    async def close(self, timeout_s: float | None = None) -> None:
        """End normally, and wait until the receiver has finished."""
        await threaded(partial(self.writer.close, timeout_s), self.cancel)

    def cancel(self, why: str = "no longer wanted") -> None:
        """Break off; the receiver is told."""
        self.writer.cancel(why)


class AioObjectWriter(AioFeeding):
    """The twin of `ObjectWriter`.

    Args:
        writer: whose.
    """

    def __init__(self, writer: ObjectWriter) -> None:
        self.writer = writer

    async def put(self, obj: object, *, timeout_s: float | None = None) -> None:
        """One more object; waits while all receivers are a window behind."""
        await threaded(partial(self.writer.put, obj, timeout_s=timeout_s), self.cancel)

    async def close(self) -> dict[str, object]:
        """End normally, and wait until all receivers have finished; returns how it ended at each."""
        return await threaded(self.writer.close, self.cancel)

    def cancel(self, why: str = "no longer wanted") -> None:
        """Break off; the receivers are told."""
        self.writer.cancel(why)


class AioStreams:
    """``cell.streams.aio``: the same calls as on ``cell.streams``, to be awaited.

    Args:
        open_: the call that blocks; so for the others.
    """

    def __init__(self, open_: Callable[..., StreamWriter], objects: Callable[..., ObjectWriter], blob: Callable[..., BlobHandle],
                 stream_objects: Callable[..., Ended]) -> None:
        self._open = open_
        self._objects = objects
        self._blob = blob
        self._stream_objects = stream_objects

    async def open(self, channel: str, topic: str, target: str, *, size: int = 0, headers: Mapping[str, object] = NO_HEADERS,
                   workflow: Workflow | None = None) -> AioStreamWriter:
        """The twin of ``cell.streams.open``."""
        return AioStreamWriter(await _opened(partial(self._open, channel, topic, target, size=size, headers=headers,
                                                     workflow=workflow)))

    async def objects(self, channel: str, topic: str, targets: str | Sequence[str], context: Context | None = None, *,
                      workflow: Workflow | None = None) -> AioObjectWriter:
        """The twin of ``cell.streams.objects``."""
        return AioObjectWriter(await _opened(partial(self._objects, channel, topic, targets, context, workflow=workflow)))

    async def blob(self, channel: str, topic: str, target: str, payload: Bytes | Sequence[Bytes], *,
                   headers: Mapping[str, object] = NO_HEADERS, workflow: Workflow | None = None) -> object:
        """The twin of ``cell.streams.blob(…).result()``."""
        handle = self._blob(channel, topic, target, payload, headers=headers, workflow=workflow)
        return await threaded(handle.result, handle.cancel)

    async def stream_objects(self, channel: str, topic: str, context: Context, targets: Sequence[str], producer: ObjectProducer, *,
                             app: object = None, ahead_max: int | None = None, workflow: Workflow | None = None) -> Ended:
        """The twin of ``cell.streams.stream_objects``; the producer is called on a thread of asyncio."""
        abort = Signal()
        return await threaded(partial(self._stream_objects, channel, topic, context, targets, producer, app=app,
                                      ahead_max=ahead_max, abort=abort, workflow=workflow), abort.trigger)


async def _opened(open_it: Callable[[], Writer]) -> Writer:
    """What is opened on a thread of asyncio. A task that is cancelled meanwhile leaves no stream that nobody would write to."""
    opened: list[Writer] = []
    try:
        await threaded(lambda: opened.append(open_it()), _nothing)
    except asyncio.CancelledError:
        for writer in opened:
            writer.cancel(GIVEN_UP)
        raise
    return opened[0]


def _nothing(why: str) -> None:
    """To open a stream takes no longer than its time."""
