"""What blocks is awaited on a thread, and ends with its task."""

from __future__ import annotations

import asyncio
import threading

import pytest

from zdl.cell.threaded import GIVEN_UP, threaded

from waiting import PATIENCE_S


def test_what_a_call_returns_or_raises_is_its_result_and_it_runs_on_another_thread() -> None:
    async def program() -> None:
        assert await threaded(threading.get_ident, str) != threading.get_ident()
        with pytest.raises(ZeroDivisionError):
            await threaded(lambda: 1 // 0, str)

    asyncio.run(program())


def test_a_task_that_is_cancelled_gives_the_call_up_and_waits_for_its_end() -> None:
    begun, given_up, seen = threading.Event(), threading.Event(), []

    def call() -> None:
        begun.set()
        assert given_up.wait(PATIENCE_S)
        seen.append("ended")

    def give_up(why: str) -> None:
        seen.append(why)
        given_up.set()

    async def program() -> None:
        task = asyncio.create_task(threaded(call, give_up))
        await asyncio.to_thread(begun.wait, PATIENCE_S)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert seen == [GIVEN_UP, "ended"]

    asyncio.run(program())
