"""The awaitable twins: the same calls, on an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from zdl.assembly import Cell
from zdl.cell.aio import Aio
from zdl.cell.messages import Request
from zdl.errors import CannotPack, Closed, NoRoute, RemoteError, TimedOut

from trees import Trees
from waiting import PATIENCE_S, eventually

LARGE = 2 << 20


class Stage:
    """server, site-1, site-2; the sites wait in task/wait until they are let go."""

    def __init__(self, trees: Trees) -> None:
        self.server, self.one, self.two = trees.grow("server", "site-1", "site-2")
        self.entered = threading.Semaphore(0)
        self.aborted: list[str] = []
        self.let_go = threading.Event()
        for cell in (self.one, self.two):
            cell.handler("task", "echo")(lambda request: request.body)
            cell.handler("task", "wait")(self._wait)

    def _wait(self, request: Request) -> object:
        request.abort.on_trigger(lambda: self.aborted.append(request.target))
        self.entered.release()
        self.let_go.wait(PATIENCE_S)
        return None


@pytest.fixture
def stage(trees: Trees) -> Iterator[Stage]:
    made = Stage(trees)
    yield made
    made.let_go.set()


def test_a_request_is_awaited(stage: Stage) -> None:
    assert isinstance(stage.server.aio, Aio)

    async def ask() -> None:
        reply = await stage.server.aio.request("site-1", "task", "echo", {"w": np.arange(5)})
        assert np.array_equal(reply.body["w"], np.arange(5))
        large = await stage.server.aio.request("site-1", "task", "echo", {"w": np.ones(LARGE)})
        assert large.body["w"].sum() == LARGE

    asyncio.run(ask())
    eventually(lambda: not any(cell.downloads.transactions for cell in (stage.server, stage.one)))


def test_errors_are_raised_where_it_is_awaited(stage: Stage) -> None:
    stage.one.handler("task", "fail")(lambda request: 1 / 0)

    async def ask() -> None:
        with pytest.raises(NoRoute):
            await stage.server.aio.request("site-9", "task", "echo")
        with pytest.raises(RemoteError, match="ZeroDivisionError"):
            await stage.server.aio.request("site-1", "task", "fail")
        with pytest.raises(TimedOut):
            await stage.server.aio.request("site-1", "task", "wait", timeout_s=0.1)
        with pytest.raises(CannotPack):
            await stage.server.aio.request("site-1", "task", "echo", object())

    asyncio.run(ask())


def test_many_are_awaited_together(stage: Stage) -> None:
    async def ask() -> list[object]:
        replies = await asyncio.gather(*(stage.server.aio.request("site-1", "task", "echo", number) for number in range(100)))
        return [reply.body for reply in replies]

    assert asyncio.run(ask()) == list(range(100))


def test_cancelling_the_task_cancels_the_call(stage: Stage) -> None:
    async def ask() -> None:
        task = asyncio.create_task(stage.server.aio.request("site-1", "task", "wait", timeout_s=None))
        await asyncio.to_thread(stage.entered.acquire, timeout=PATIENCE_S)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(ask())
    eventually(lambda: stage.aborted == ["site-1"])


def test_a_timeout_of_asyncio_cancels_the_call(stage: Stage) -> None:
    async def ask() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await stage.server.aio.request("site-1", "task", "wait", timeout_s=None)

    asyncio.run(ask())
    assert stage.entered.acquire(timeout=PATIENCE_S)
    eventually(lambda: stage.aborted == ["site-1"])


def test_a_broadcast_answers_for_all(stage: Stage) -> None:
    async def ask() -> None:
        answers = await stage.server.aio.broadcast(["site-1", "site-9", "site-2"], "task", "echo", {"w": np.ones(LARGE)})
        assert list(answers) == ["site-1", "site-9", "site-2"]
        assert answers["site-1"].body["w"].sum() == answers["site-2"].body["w"].sum() == LARGE  # type: ignore[index,call-overload]
        assert isinstance(answers["site-9"].error, NoRoute)

    asyncio.run(ask())
    eventually(lambda: not any(cell.downloads.transactions for cell in (stage.server, stage.one, stage.two)),
               what="the end of all that was lent")


def test_cancelling_a_broadcast_cancels_all_its_calls(stage: Stage) -> None:
    async def ask() -> None:
        task = asyncio.create_task(stage.server.aio.broadcast(["site-1", "site-2"], "task", "wait", timeout_s=None))
        for _ in range(2):
            await asyncio.to_thread(stage.entered.acquire, timeout=PATIENCE_S)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(ask())
    eventually(lambda: sorted(stage.aborted) == ["site-1", "site-2"])


def test_handlers_that_wait_for_an_event_loop_do_not_starve_it(trees: Trees, stage: Stage) -> None:
    """Each reply is needed by a handler that blocks the pool: replies must not come by way of that pool."""
    from zdl.options import CallOptions, Options
    narrow = trees.add(Cell("site-3", parent=stage.server.addresses[0],
                            options=Options(calls=CallOptions(handler_threads_max=2))))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    @narrow.handler("task", "ask")
    def ask(request: Request) -> object:
        asking = asyncio.run_coroutine_threadsafe(narrow.aio.request("site-1", "task", "echo", request.body), loop)
        return asking.result(PATIENCE_S).body

    futures = [stage.server.request_future("site-3", "task", "ask", number) for number in range(20)]
    assert [future.result(PATIENCE_S).body for future in futures] == list(range(20))
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_a_closed_cell_says_so(stage: Stage) -> None:
    stage.two.close()

    async def ask() -> None:
        with pytest.raises(Closed):
            await stage.two.aio.request("server", "task", "echo")

    asyncio.run(ask())
