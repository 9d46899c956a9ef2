"""Futures of calls: who waits for one polls for it himself; its callbacks are users' code; cancelling it cancels the call."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import threading
import weakref
from collections.abc import Iterator

import pytest

from zdl.assembly import Cell
from zdl.cell.futures import BareFuture, CallFuture, settle
from zdl.cell.messages import Reply
from zdl.errors import Closed, NoRoute, ZdlError
from zdl.options import CallOptions, Options

from trees import Trees
from waiting import PATIENCE_S, eventually

LARGE = 2 << 20


@pytest.fixture
def site() -> Iterator[Cell]:
    with Trees() as trees:
        server, site = trees.grow("server", "site-1")
        let_go = threading.Event()
        server.handler("task", "echo")(lambda request: request.body)
        server.handler("task", "wait")(lambda request: let_go.wait(PATIENCE_S))
        yield site
        let_go.set()


def test_the_result_is_the_reply_and_stays_so(site: Cell) -> None:
    future = site.request_future("server", "task", "echo", "it")
    assert isinstance(future, CallFuture)
    assert [future.result(PATIENCE_S).body, future.result().body] == ["it", "it"]
    assert future.exception() is None


def test_many_are_awaited_one_after_the_other_by_one_thread(site: Cell) -> None:
    for _ in range(20):
        futures = [site.request_future("server", "task", "echo", number) for number in range(64)]
        assert [future.result(PATIENCE_S).body for future in futures] == list(range(64))


def test_one_is_awaited_by_many_threads(site: Cell) -> None:
    future = site.request_future("server", "task", "wait")
    heard: list[str] = []

    def wait() -> None:
        with pytest.raises(concurrent.futures.CancelledError):
            future.result(PATIENCE_S)
        heard.append("cancelled")

    threads = [threading.Thread(target=wait) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert future.cancel()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert heard == ["cancelled"] * 4


def test_waiting_too_briefly_is_a_timeout_of_the_wait_and_not_of_the_call(site: Cell) -> None:
    future = site.request_future("server", "task", "wait", timeout_s=None)
    with pytest.raises(TimeoutError):
        future.result(0.01)
    with pytest.raises(TimeoutError):
        future.exception(0.0)
    assert not future.done() and future.cancel()


def test_the_calls_error_is_raised_by_its_result(site: Cell) -> None:
    future = site.request_future("site-9", "task", "echo")
    assert isinstance(future.exception(PATIENCE_S), NoRoute)
    with pytest.raises(NoRoute):
        future.result()
    assert not future.cancel()


def test_a_callback_runs_on_the_pool_and_one_of_a_bare_future_where_it_is_settled(site: Cell) -> None:
    names: list[str] = []
    site.request_future("server", "task", "echo").add_done_callback(
        lambda future: names.append(threading.current_thread().name))
    eventually(lambda: names)
    assert names[0].startswith("zdl-handler-site-1")
    caller = site._calling()
    bare = caller.future(is_bare=True)
    assert isinstance(bare, BareFuture)
    bare.add_done_callback(lambda future: names.append(threading.current_thread().name))
    settle(bare, error=NoRoute(target="x", at="y", why="z"))
    assert names[1] == threading.current_thread().name


@pytest.mark.parametrize("is_filtered", [False, True])
def test_a_future_that_has_called_back_is_gone_with_its_reply_when_nobody_has_it(site: Cell, is_filtered: bool) -> None:
    """At once: a reply may be large, and Python looks for cycles when there are many objects, not when they are large."""
    if is_filtered:
        site.filters.incoming_reply("task", "echo")(lambda message: message)
    called = threading.Event()
    gc.disable()
    try:
        future = site.request_future("server", "task", "echo", "it")
        future.add_done_callback(lambda done: called.set())
        assert called.wait(PATIENCE_S)
        held = weakref.ref(future)
        del future
        assert eventually(lambda: held() is None, what="nobody who has it")
    finally:
        gc.enable()


def test_who_was_cancelled_is_not_settled(site: Cell) -> None:
    future: concurrent.futures.Future[Reply] = concurrent.futures.Future()
    assert future.cancel()
    settle(future, error=NoRoute(target="x", at="y", why="z"))
    assert future.cancelled()


@pytest.mark.parametrize("is_awaited", [False, True], ids=["future", "aio"])
@pytest.mark.parametrize("is_filtered", [False, True], ids=["pulled", "filtered"])
def test_a_reply_that_the_pool_never_comes_to_ends_closed_with_the_cell(
        trees: Trees, is_awaited: bool, is_filtered: bool) -> None:
    (server,) = trees.grow("server")
    options = Options(calls=CallOptions(handler_threads_max=1))
    site = trees.add(Cell("site-1", parent=server.addresses[0], options=options))
    entered, let_go = threading.Event(), threading.Event()
    server.handler("task", "fetch")(lambda request: b"" if is_filtered else bytes(LARGE))
    if is_filtered:
        site.filters.incoming_reply("task", "fetch")(lambda message: None)
    site.handler("task", "block")(lambda request: (entered.set(), let_go.wait(PATIENCE_S), None)[2])
    server.notice("site-1", "task", "block")
    assert entered.wait(PATIENCE_S)
    found: list[BaseException | None] = []

    async def fetch() -> None:
        await site.aio.request("server", "task", "fetch")

    def wait() -> None:
        """Whichever way: until it is told."""
        try:
            if is_awaited:
                asyncio.run(fetch())
            else:
                site.request_future("server", "task", "fetch").result(PATIENCE_S)
            found.append(None)
        except ZdlError as error:
            found.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    pool = site._life.pool
    assert pool is not None
    eventually(lambda: "1 waiting" in repr(pool))
    assert "1 handlers are still running" in site.close(0.05)
    waiting.join(PATIENCE_S)
    assert [type(each) for each in found] == [Closed]
    let_go.set()
