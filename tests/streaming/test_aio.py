"""What pushes is awaited on an event loop, and its streams end with its task."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

import pytest

from zdl.cell.codes import ReturnCode
from zdl.cell.threaded import GIVEN_UP
from zdl.errors import Cancelled, NoRoute, StreamError, ZdlError
from zdl.streaming.aio import AioObjectWriter, AioStreams, AioStreamWriter
from zdl.streaming.api import ConsumerFactory, Context, ObjectConsumer, ObjectProducer
from zdl.streaming.reader import Blob, StreamReader
from zdl.streaming.retriever import Retriever
from zdl.streaming.writer import PIECE_BYTES

from trees import Trees
from waiting import PATIENCE_S, eventually


class Counting(ObjectProducer):
    """Makes so many numbers."""

    def __init__(self, count: int) -> None:
        self._left = list(range(count))

    def produce(self, context: Context) -> tuple[object, float | None]:
        """The next one."""
        return (self._left.pop(0), 5.0) if self._left else (None, None)

    def process_replies(self, replies: Mapping[str, object], context: Context) -> object:
        """Goes on."""
        return None


class Adding(ConsumerFactory, ObjectConsumer):
    """Adds up what comes, in the context."""

    def get_consumer(self, context: Context) -> ObjectConsumer:
        """Itself."""
        return self

    def return_consumer(self, consumer: ObjectConsumer, context: Context) -> None:
        """It may be asked again."""

    def consume(self, obj: object, context: Context) -> tuple[bool, object]:
        """One more."""
        assert isinstance(obj, int)
        context["sum"] = context.get("sum", 0) + obj
        return True, obj


@pytest.mark.row("M7")
def test_bytes_blobs_objects_and_producers_are_awaited(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    server.streams.on_stream("logs", "tail")(lambda stream: len(stream.read()))
    server.streams.on_blob("x", "y")(lambda blob: len(blob.data))
    server.streams.register_stream_processing("rows", "*", Adding(), stream_done_cb=lambda context: context["sum"])

    async def program() -> None:
        streams = site.streams.aio
        assert isinstance(streams, AioStreams)
        async with await streams.open("logs", "tail", "server") as out:
            assert isinstance(out, AioStreamWriter) and await out.write(b"abc") == 3
        assert await out.result(PATIENCE_S) == 3
        assert await streams.blob("x", "y", "server", [b"12", b"345"]) == 5
        async with await streams.objects("rows", "by-hand", "server") as rows:
            assert isinstance(rows, AioObjectWriter)
            for number in range(5):
                await rows.put(number)
        ended = await streams.stream_objects("rows", "made", {}, ["server"], Counting(5))
        assert ended == (ReturnCode.OK, {"server": 10})
        with pytest.raises(NoRoute):
            await streams.open("logs", "tail", "server.nobody")

    asyncio.run(program())


@pytest.mark.row("M7")
def test_a_task_that_is_cancelled_breaks_its_stream_off_at_both_ends(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    may_read, ends = threading.Event(), []

    @server.streams.on_stream("logs", "tail")
    def take(stream: StreamReader) -> None:
        may_read.wait(PATIENCE_S)
        try:
            stream.read()
        except ZdlError as error:
            ends.append(error)

    async def program() -> None:
        out = await site.streams.aio.open("logs", "tail", "server")

        async def write() -> None:
            """More than a window holds."""
            while True:
                await out.write(bytes(16 * PIECE_BYTES))

        task = asyncio.create_task(write())
        window = site.options.streams.window_bytes
        while out.writer.bytes_written < window - PIECE_BYTES:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(Cancelled, match=GIVEN_UP):
            await out.result(PATIENCE_S)

    asyncio.run(program())
    may_read.set()
    eventually(lambda: len(ends) == 1)
    assert GIVEN_UP in str(ends[0])


def test_a_block_that_raises_breaks_its_stream_off(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    blobs: list[Blob] = []
    server.streams.on_stream("logs", "tail")(lambda stream: stream.read())
    server.streams.on_blob("x", "y")(blobs.append)

    async def program() -> None:
        out = await site.streams.aio.open("logs", "tail", "server")
        with pytest.raises(ValueError, match="mine"):
            async with out:
                raise ValueError("mine")
        with pytest.raises((Cancelled, StreamError), match="ValueError"):
            await out.result(PATIENCE_S)

    asyncio.run(program())


@pytest.mark.row("M7")
def test_what_is_retrieved_is_awaited_too(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    Retriever(server, server.streams, "retrieve", "rows").serve(lambda what, context: Counting(4) if what == "rows" else None)

    async def program() -> None:
        retriever = Retriever(site, site.streams, "retrieve", "rows")
        context: Any = await retriever.awaited("server", "rows", Adding())
        assert context["sum"] == 6
        with pytest.raises(StreamError):
            await retriever.awaited("server", "no such rows", Adding())

    asyncio.run(program())
