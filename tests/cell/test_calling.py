"""The calling side: what a request may carry, how it ends, and what it takes back when it did not arrive."""

from __future__ import annotations

import concurrent.futures
import gc
import logging
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from zdl.assembly import Cell
from zdl.cell.calling import check_headers
from zdl.cell.futures import DEFAULT_S, NO_HEADERS, Sending
from zdl.cell.messages import Reply, Request
from zdl.cell.signal import Signal
from zdl.errors import (
    Busy,
    Cancelled,
    CannotPack,
    FqcnError,
    NoRoute,
    OptionError,
    Refused,
    RemoteError,
    TimedOut,
    TooLarge,
    ZdlError,
)
from zdl.options import CallOptions, Options
from zdl.transport.poller import EpollPoller

from trees import Trees
from waiting import PATIENCE_S, eventually

LARGE = 2 << 20


class Stage:
    """server and site-1, where task/wait waits until it is let go, and task/echo echoes."""

    def __init__(self, trees: Trees) -> None:
        self.server, self.site = trees.grow("server", "site-1", same_host=False)
        self.entered = threading.Semaphore(0)
        self.let_go = threading.Event()
        self.aborted: list[object] = []
        self.server.handler("task", "echo")(lambda request: request.body)
        self.server.handler("task", "wait")(self._wait)

    def _wait(self, request: Request) -> object:
        request.abort.on_trigger(lambda: self.aborted.append(request.abort.value))
        self.entered.release()
        self.let_go.wait(PATIENCE_S)
        return "late"

    def is_quiet(self) -> bool:
        return not self.site.downloads.transactions


@pytest.fixture
def stage(trees: Trees) -> Iterator[Stage]:
    made = Stage(trees)
    yield made
    made.let_go.set()


def test_the_defaults_of_a_call_are_the_options() -> None:
    sending = Sending()
    assert (sending.timeout_s, sending.abort, sending.resolve, sending.receivers) == (DEFAULT_S, None, True, 1)
    assert dict(sending.headers) == dict(NO_HEADERS) == {}


# --- what comes of it ---------------------------------------------------------------------------

def test_a_timeout_ends_the_wait_and_the_handler_hears_of_it(stage: Stage) -> None:
    with pytest.raises(TimedOut) as caught:
        stage.site.request("server", "task", "wait", timeout_s=0.1)
    assert (caught.value.address, caught.value.what) == ("server", "the reply to task/wait")
    assert caught.value.waited_s >= 0.1
    assert isinstance(caught.value, TimeoutError)
    eventually(lambda: stage.aborted)
    assert stage.aborted == ["the caller waits no more"]


def test_the_default_timeout_is_an_option(trees: Trees) -> None:
    (server,) = trees.grow("server")
    site = trees.add(Cell("site-1", parent=server.addresses[0], options=Options(calls=CallOptions(timeout_s=0.1))))
    let_go = threading.Event()
    server.handler("task", "wait")(lambda request: let_go.wait(PATIENCE_S))
    with pytest.raises(TimedOut):
        site.request("server", "task", "wait")
    let_go.set()


def test_an_abort_signal_ends_the_wait_and_the_handler_hears_of_it(stage: Stage) -> None:
    abort = Signal()
    stage.server.handler("task", "go")(lambda request: abort.trigger("enough"))
    future = stage.site.request_future("server", "task", "wait", abort=abort, timeout_s=None)
    assert stage.entered.acquire(timeout=PATIENCE_S)
    threading.Thread(target=lambda: stage.entered.acquire(timeout=PATIENCE_S) and abort.trigger("enough")).start()
    with pytest.raises(Cancelled, match="triggered with 'enough'"):
        stage.site.request("server", "task", "wait", abort=abort, timeout_s=None)
    assert isinstance(future.exception(PATIENCE_S), Cancelled)
    eventually(lambda: len(stage.aborted) == 2)


def test_a_signal_that_was_triggered_before_ends_the_call_at_once(stage: Stage) -> None:
    abort = Signal()
    abort.trigger()
    with pytest.raises(Cancelled):
        stage.site.request("server", "task", "wait", abort=abort, timeout_s=None)


def test_an_abort_of_something_else_changes_nothing(stage: Stage) -> None:
    abort = Signal()
    assert stage.site.request("server", "task", "echo", 1, abort=abort).body == 1
    abort.trigger()
    assert stage.site.request("server", "task", "echo", 2).body == 2


@pytest.mark.parametrize("way", ["request", "future", "broadcast"])
def test_an_abort_ends_the_pulling_of_a_reply_too(trees: Trees, stage: Stage, way: str) -> None:
    abort = Signal()
    other = trees.add(Cell("site-2", parent=stage.server.addresses[0]))
    lent = other.downloads.lend({"w": np.ones(LARGE)})
    stage.server.handler("task", "large", resolve=False)(lambda request: lent.body)

    # The origin never says where its bytes are, so only the signal can end the wait.
    @other.handler("zdl", "data-addresses")
    def say_nothing(request: Request) -> object:
        abort.trigger("enough")
        stage.let_go.wait(PATIENCE_S)
        return []

    with pytest.raises(Cancelled):
        if way == "request":
            stage.site.request("server", "task", "large", abort=abort, timeout_s=None)
        elif way == "future":
            stage.site.request_future("server", "task", "large", abort=abort, timeout_s=None).result(PATIENCE_S)
        else:
            raise stage.site.broadcast(["server"], "task", "large", abort=abort, timeout_s=None)["server"].error or KeyError
    stage.let_go.set()


def test_a_future_that_is_cancelled_stops_pulling_its_reply(trees: Trees, stage: Stage) -> None:
    other = trees.add(Cell("site-2", parent=stage.server.addresses[0]))
    lent = other.downloads.lend({"w": np.ones(LARGE)})
    stage.server.handler("task", "large", resolve=False)(lambda request: lent.body)

    @other.handler("zdl", "data-addresses")
    def say_nothing(request: Request) -> object:
        request.abort.on_trigger(lambda: stage.aborted.append("addresses"))
        stage.entered.release()
        stage.let_go.wait(PATIENCE_S)
        return []

    future = stage.site.request_future("server", "task", "large", timeout_s=None)
    assert stage.entered.acquire(timeout=PATIENCE_S)
    assert future.cancel()
    eventually(lambda: stage.aborted == ["addresses"])


def test_a_timeout_bounds_the_pulling_of_a_reply_too(trees: Trees, stage: Stage) -> None:
    other = trees.add(Cell("site-2", parent=stage.server.addresses[0]))
    lent = other.downloads.lend({"w": np.ones(LARGE)})
    stage.server.handler("task", "large", resolve=False)(lambda request: lent.body)
    other.handler("zdl", "data-addresses")(lambda request: stage.let_go.wait(PATIENCE_S))
    for call in calls_of(stage.site, None, topic="large", timeout_s=0.3)[:2]:
        with pytest.raises(TimedOut):
            call()
    answers = stage.site.broadcast(["server"], "task", "large", timeout_s=0.3)
    assert isinstance(answers["server"].error, TimedOut)
    assert not stage.let_go.is_set()


def test_who_is_interrupted_while_waiting_leaves_nothing_behind(stage: Stage) -> None:
    main = threading.main_thread().ident or 0

    def interrupt() -> None:
        stage.entered.acquire(timeout=PATIENCE_S)
        eventually(lambda: sys._current_frames()[main].f_code is EpollPoller.sleep.__code__)
        signal.pthread_kill(main, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        stage.site.request("server", "task", "wait", timeout_s=None)
    eventually(lambda: stage.aborted)


def test_a_future_can_be_cancelled(stage: Stage) -> None:
    future = stage.site.request_future("server", "task", "wait", timeout_s=None)
    assert stage.entered.acquire(timeout=PATIENCE_S)
    assert future.cancel()
    assert future.cancelled()
    eventually(lambda: stage.aborted)
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(PATIENCE_S)
    assert stage.site.request("server", "task", "echo", 1).body == 1


def test_many_futures_are_in_flight_at_once(stage: Stage) -> None:
    started = time.monotonic()
    futures = [stage.site.request_future("server", "task", "wait") for _ in range(64)]
    for _ in range(64):
        assert stage.entered.acquire(timeout=PATIENCE_S), "all 64 run at the same time"
    stage.let_go.set()
    replies = [future.result(PATIENCE_S).body for future in futures]
    assert replies == ["late"] * 64
    assert time.monotonic() - started < PATIENCE_S


def test_a_callback_of_a_future_is_users_code_and_may_block_and_ask(stage: Stage) -> None:
    done: list[object] = []

    def go_on(future: concurrent.futures.Future[Reply]) -> None:
        done.append(stage.site.request("server", "task", "echo", future.result().body, timeout_s=PATIENCE_S).body)

    stage.site.request_future("server", "task", "echo", 5).add_done_callback(go_on)
    eventually(lambda: done)
    assert done == [5]


def test_futures_can_be_waited_for_together(stage: Stage) -> None:
    futures = [stage.site.request_future("server", "task", "echo", number) for number in range(20)]
    done, open_ones = concurrent.futures.wait(futures, timeout=PATIENCE_S)
    assert (len(done), len(open_ones)) == (20, 0)
    assert sorted(future.result().body for future in concurrent.futures.as_completed(futures)) == list(range(20))


def test_a_future_has_the_large_reply_itself(stage: Stage) -> None:
    array = np.arange(LARGE)
    reply = stage.site.request_future("server", "task", "echo", {"w": array}).result(PATIENCE_S)
    assert np.array_equal(reply.body["w"], array)
    eventually(stage.is_quiet)


# --- what may not be sent -----------------------------------------------------------------------

@pytest.mark.parametrize(("body", "path"), [
    ({"a": [1, {"b": object()}]}, "a[1].b"), (object(), ""), ({"w": [np.zeros(LARGE), {object()}]}, "w[1]"),
    ({"w": np.array([object()])}, "w"), ([lambda: 1], "[0]"),
])
def test_what_cannot_travel_is_named_by_its_path_and_nothing_is_lent(stage: Stage, body: object, path: str) -> None:
    for call in calls_of(stage.site, body):
        with pytest.raises(CannotPack) as caught:
            call()
        assert caught.value.path == path
    assert stage.is_quiet()


def calls_of(cell: Cell, body: object, target: str = "server", topic: str = "echo", channel: str = "task",
             **sending: object) -> list[Callable[[], object]]:
    """The same call in each of its forms."""
    return [lambda: cell.request(target, channel, topic, body, **sending),  # type: ignore[arg-type]
            lambda: cell.request_future(target, channel, topic, body, **sending).result(PATIENCE_S),  # type: ignore[arg-type]
            lambda: cell.broadcast([target], channel, topic, body, **sending),  # type: ignore[arg-type]
            lambda: cell.notice(target, channel, topic, body, **sending)]  # type: ignore[arg-type]


@pytest.mark.parametrize("headers", [
    {"a": [1]}, {"a": {}}, {"a": object()}, {1: "a"}, {"a": np.float32(1)}, {"a": 1 << 64}, {"a": -(1 << 63) - 1},
    {f"h{number}": 1 for number in range(65)}, {"a": "\ud800"}, {"\ud800": 1},
])
def test_headers_that_cannot_travel_are_refused_before_anything_is_lent(stage: Stage, headers: dict[str, object]) -> None:
    for call in calls_of(stage.site, np.zeros(LARGE), headers=headers):
        with pytest.raises(OptionError) as caught:
            call()
        assert caught.value.name == "headers"
    assert stage.is_quiet()


def test_headers_that_can_travel_pass_the_check() -> None:
    check_headers({"a": 1, "b": "x", "c": None, "d": b"", "e": 1.5, "f": True})


def test_headers_arrive(stage: Stage) -> None:
    stage.server.handler("task", "headers")(lambda request: dict(request.headers))
    headers = {"a": 1, "b": "x", "c": 1.5, "d": None, "e": b"y", "f": True, "g": (1 << 64) - 1, "h": -(1 << 63)}
    assert stage.site.request("server", "task", "headers", headers=headers).body == headers
    assert stage.site.request("server", "task", "headers", np.zeros(LARGE), headers={"a": 1}).body == {"a": 1}
    eventually(stage.is_quiet)
    most = {f"h{number}": number for number in range(62)}
    with stage.site.workflow(60.0) as work:  # with all that zdl itself says beside it
        assert stage.site.request("server", "task", "headers", np.zeros(LARGE), headers=most, workflow=work).body == most


def test_a_header_that_is_too_large_is_refused_with_its_limit(stage: Stage) -> None:
    for target in ("server", "site-1"):
        for call in calls_of(stage.site, 1, target=target, headers={"a": "x" * 70_000})[:2]:
            with pytest.raises(TooLarge) as caught:
                call()
            assert (caught.value.limit, caught.value.value) == ("HEADER_BYTES_MAX", 65536)
            assert caught.value.size > 70_000
    (answer,) = stage.site.broadcast(["server"], "task", "echo", np.zeros(LARGE), headers={"a": "x" * 70_000}).values()
    assert isinstance(answer.error, TooLarge)
    eventually(stage.is_quiet)


@pytest.mark.parametrize(("channel", "topic"), [("x" * 256, "echo"), ("task", "x" * 256), (None, "echo"), ("task", 7), ([], "echo"),
                                                ("task", "\ud800")])
def test_a_name_of_a_handler_that_cannot_travel_is_refused(stage: Stage, channel: str, topic: str) -> None:
    for call in calls_of(stage.site, np.zeros(LARGE), channel=channel, topic=topic):
        with pytest.raises(OptionError):
            call()
    assert stage.is_quiet()


@pytest.mark.parametrize("target", ["", "a..b", "server ", 7])
def test_a_target_that_is_no_name_is_refused_before_anything_is_lent(stage: Stage, target: str) -> None:
    if target == "server ":
        assert stage.site.request(target, "task", "echo", 1).body == 1, "blanks around a name are not part of it"
        return
    for call in calls_of(stage.site, np.zeros(LARGE), target=target):
        with pytest.raises(FqcnError):
            call()
    assert stage.is_quiet()


@pytest.mark.parametrize("timeout_s", [0, -2, -0.5, float("nan"), float("inf"), 1e12])
def test_a_timeout_that_is_none_is_refused_before_anything_is_lent(stage: Stage, timeout_s: float) -> None:
    for call in calls_of(stage.site, np.zeros(LARGE), timeout_s=timeout_s)[:3]:
        with pytest.raises(OptionError) as caught:
            call()
        assert caught.value.name == "timeout_s"
    assert stage.is_quiet()


def test_more_calls_than_allowed_are_busy(trees: Trees) -> None:
    (server,) = trees.grow("server")
    site = trees.add(Cell("site-1", parent=server.addresses[0], options=Options(calls=CallOptions(calls_max=2))))
    let_go = threading.Event()
    server.handler("task", "wait")(lambda request: let_go.wait(PATIENCE_S))
    futures = [site.request_future("server", "task", "wait") for _ in range(2)]
    for call in calls_of(site, np.zeros(LARGE), topic="wait")[:2]:
        with pytest.raises(Busy) as caught:
            call()
        assert (caught.value.limit, caught.value.value, caught.value.at) == ("calls_max", 2, "site-1")
    let_go.set()
    for future in futures:
        future.result(PATIENCE_S)
    eventually(lambda: not site.downloads.transactions)


# --- what it lent, when it did not arrive -------------------------------------------------------

@pytest.mark.parametrize(("target", "topic", "error"), [
    ("site-9", "echo", NoRoute), ("server", "unknown", Refused), ("server.w0", "echo", NoRoute), ("site-1.x", "echo", NoRoute),
])
def test_what_did_not_arrive_ends_what_it_lent(stage: Stage, target: str, topic: str, error: type[ZdlError]) -> None:
    for call in calls_of(stage.site, {"w": np.zeros(LARGE)}, target=target, topic=topic)[:2]:
        with pytest.raises(error):
            call()
    eventually(stage.is_quiet)
    answers = stage.site.broadcast([target], "task", topic, {"w": np.zeros(LARGE)})
    assert isinstance(answers[target].error, error)
    eventually(stage.is_quiet)
    stage.site.notice(target, "task", topic, {"w": np.zeros(LARGE)})
    if error is NoRoute:
        eventually(stage.is_quiet)


def test_an_unknown_target_is_told_at_once_and_not_at_the_timeout(stage: Stage) -> None:
    with pytest.raises(NoRoute) as caught:
        stage.site.request("site-9.w0", "task", "echo", timeout_s=None)
    assert (caught.value.target, caught.value.at) == ("site-9.w0", "server")


def test_a_reply_that_nobody_waits_for_ends_what_it_lent(stage: Stage) -> None:
    @stage.server.handler("task", "large")
    def large(request: Request) -> object:
        stage.entered.release()
        stage.let_go.wait(PATIENCE_S)
        return np.zeros(LARGE)

    future = stage.site.request_future("server", "task", "large")
    assert stage.entered.acquire(timeout=PATIENCE_S)
    future.cancel()
    stage.let_go.set()
    eventually(lambda: stage.server.request("server", "zdl", "ping").body is None)
    eventually(lambda: not stage.server.downloads.transactions, what="the end of a reply that nobody wants")


def test_a_reply_whose_caller_is_gone_ends_what_it_lent(trees: Trees, stage: Stage) -> None:
    @stage.server.handler("task", "large")
    def large(request: Request) -> object:
        stage.entered.release()
        stage.let_go.wait(PATIENCE_S)
        return np.zeros(LARGE)

    other = trees.add(Cell("site-2", parent=stage.server.addresses[0]))
    other.request_future("server", "task", "large")
    assert stage.entered.acquire(timeout=PATIENCE_S)
    other.close()
    stage.let_go.set()
    eventually(lambda: not stage.server.downloads.transactions, what="the end of a reply whose caller is gone")


# --- broadcast ----------------------------------------------------------------------------------

def test_a_broadcast_answers_for_the_dead_too(trees: Trees) -> None:
    server, one, two = trees.grow("server", "site-1", "site-2")
    for cell in (one, two):
        cell.handler("task", "sum")(lambda request: float(request.body["w"].sum()))
    two.handler("task", "sum")(lambda request: 1 / 0)
    answers = server.broadcast(["site-1", "site-2", "site-3"], "task", "sum", {"w": np.ones(LARGE)})
    assert list(answers) == ["site-1", "site-2", "site-3"]
    assert answers["site-1"].body == float(LARGE)
    assert isinstance(answers["site-2"].error, RemoteError) and answers["site-2"].error.kind == "ZeroDivisionError"
    assert isinstance(answers["site-3"].error, NoRoute)


def test_a_broadcast_lends_one_body_once(trees: Trees) -> None:
    names = [f"site-{number}" for number in range(1, 5)]
    server, *sites = trees.grow("server", *names)
    seen = threading.Barrier(5)

    for cell in sites:
        @cell.handler("task", "look", resolve=False)
        def look(request: Request) -> object:
            seen.wait(PATIENCE_S)
            seen.wait(PATIENCE_S)
            return request.body

    def count() -> None:
        seen.wait(PATIENCE_S)
        counts.append(len(server.downloads.transactions))
        seen.wait(PATIENCE_S)

    counts: list[int] = []
    thread = threading.Thread(target=count)
    thread.start()
    answers = server.broadcast(names, "task", "look", {"w": np.ones(LARGE)}, resolve=False)
    thread.join()
    assert counts == [1]
    refs = {answer.body["w"] for answer in answers.values()}  # type: ignore[call-overload,index]
    assert len(refs) == 1
    for cell in sites:
        cell.downloads.resolve(list(refs))
    eventually(lambda: not server.downloads.transactions)


def test_a_broadcast_to_nobody_is_answered_by_nobody(stage: Stage) -> None:
    assert stage.site.broadcast([], "task", "echo") == {}
    assert stage.site.broadcast({}, "task", "echo") == {}


def test_a_broadcast_ends_by_its_one_timeout(stage: Stage) -> None:
    answers = stage.site.broadcast({"server": 1, "site-1": 2}, "task", "wait", timeout_s=0.1)
    assert isinstance(answers["server"].error, TimedOut)
    assert isinstance(answers["site-1"].error, Refused)


def test_a_broadcast_can_be_aborted(stage: Stage) -> None:
    abort = Signal()
    threading.Thread(target=lambda: stage.entered.acquire(timeout=PATIENCE_S) and abort.trigger()).start()
    answers = stage.site.broadcast(["server"], "task", "wait", abort=abort, timeout_s=None)
    assert isinstance(answers["server"].error, Cancelled)


@pytest.mark.parametrize("level", [logging.WARNING, logging.INFO])
def test_what_a_failed_call_held_is_let_go_without_the_collector(
        stage: Stage, level: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(level, "zdl.cell")  # who keeps what is logged keeps no more than its text
    array = np.zeros(LARGE, np.uint8)
    held = weakref.ref(array)
    gc.disable()
    try:
        with pytest.raises(NoRoute):
            stage.site.request("site-9", "task", "echo", array)
        del array
        eventually(stage.is_quiet)
        eventually(lambda: held() is None, what="the end of the array")
    finally:
        gc.enable()
