"""Handling: what a handler may do with its request; what cells make of it: tests/parity."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from zdl.assembly import Cell
from zdl.cell.handling import Handling
from zdl.cell.messages import LEFT_S, Request
from zdl.cell.signal import Signal
from zdl.errors import Cancelled, LocalProtocolError, NoRoute, OptionError, Refused, RemoteError
from zdl.options import CallOptions, Options

from trees import Trees
from waiting import PATIENCE_S, eventually

LARGE = 2 << 20


@pytest.fixture
def cells(trees: Trees) -> tuple[Cell, ...]:
    return trees.grow("server", "site-1", "site-1.leaf")


def test_a_request_that_did_not_come_to_a_cell_can_do_nothing() -> None:
    request = Request("site-1", "server", "task", "run", 1, {}, 0, None, Signal())
    for use in (request.left_s, request.later, request.progress, request.resolved, lambda: request.verified_by,
                lambda: request.request("a", "b", "c"), lambda: request.forward("a")):
        with pytest.raises(LocalProtocolError):
            use()


def test_a_request_knows_the_desk_of_its_cell(cells: tuple[Cell, ...]) -> None:
    server, site, _ = cells
    seen: list[Request] = []
    server.handler("task", "look")(seen.append)
    site.request("server", "task", "look")
    assert isinstance(seen[0].desk, Handling) and LEFT_S < 0


def test_a_notice_can_be_followed_up_but_not_answered(cells: tuple[Cell, ...]) -> None:
    server, site, _ = cells
    found: list[object] = []

    @server.handler("log", "line")
    def line(request: Request) -> None:
        request.progress({"a": 1})
        found.append(request.left_s())
        try:
            request.later()
        except LocalProtocolError as error:
            found.append(str(error))

    site.notice("server", "log", "line")
    eventually(lambda: len(found) == 2)
    assert found == [None, "a notice has no answer, so there is none to promise"]


def test_facts_that_cannot_travel_are_refused(cells: tuple[Cell, ...]) -> None:
    server, site, _ = cells
    server.handler("task", "bad")(lambda request: request.progress({"a": [1]}))
    with pytest.raises(RemoteError, match="OptionError"):
        site.request("server", "task", "bad", timeout_s=PATIENCE_S)
    with pytest.raises(OptionError):
        site.request("server", "task", "bad", headers={"a": [1]})


def test_a_refusal_of_ones_own_travels_as_it_is_and_that_of_another_cell_does_not(cells: tuple[Cell, ...]) -> None:
    server, site, _ = cells

    @server.handler("task", "no")
    def no(request: Request) -> object:
        raise request.refused("quota", "enough") if request.body else Refused(by="site-9", reason="quota", text="enough")

    with pytest.raises(Refused, match="server refused \\(quota\\): enough"):
        site.request("server", "task", "no", True, timeout_s=PATIENCE_S)
    with pytest.raises(RemoteError, match="Refused in server"):
        site.request("server", "task", "no", False, timeout_s=PATIENCE_S)


def test_what_is_forwarded_may_go_to_another_handler_with_other_headers(cells: tuple[Cell, ...]) -> None:
    server, site, leaf = cells
    site.handler("task", "go", resolve=False)(
        lambda request: request.forward("site-1.leaf", "work", "do", headers={"by": "site-1"}))

    @leaf.handler("work", "do")
    def do(request: Request) -> object:
        return [request.body["w"].sum(), dict(request.headers), request.origin]  # type: ignore[index,call-overload]

    body = {"w": np.ones(LARGE)}
    found = server.request("site-1", "task", "go", body, headers={"by": "server"}, timeout_s=PATIENCE_S,
                           receivers=["site-1.leaf"]).body
    assert found == [LARGE, {"by": "site-1"}, "site-1"]
    site.handler("task", "lost", resolve=False)(lambda request: request.forward("site-1.nobody"))
    with pytest.raises(RemoteError, match="NoRoute"):
        server.request("site-1", "task", "lost", timeout_s=PATIENCE_S)
    eventually(lambda: not server.downloads.transactions)


def test_progress_of_the_cell_that_a_request_was_forwarded_to_reaches_the_first_caller(cells: tuple[Cell, ...]) -> None:
    server, site, leaf = cells
    heard: list[object] = []
    site.handler("task", "go")(lambda request: request.forward("site-1.leaf"))

    @leaf.handler("task", "go")
    def go(request: Request) -> object:
        for step in range(4):
            eventually(lambda: (request.left_s() or 0.0) < 0.45)
            request.progress({"step": step})
        eventually(lambda: len(heard) == 4)  # a reply may overtake the last report: site-1 passes that on by its pool
        return "done"

    assert server.request("site-1", "task", "go", timeout_s=0.6, on_progress=heard.append).body == "done"
    assert heard == [{"step": step} for step in range(4)]


def test_who_has_given_up_is_asked_for_nothing(cells: tuple[Cell, ...]) -> None:
    server, site, _ = cells
    errors: list[BaseException] = []
    left: list[float | None] = []

    @server.handler("task", "wait")
    def wait(request: Request) -> object:
        eventually(lambda: request.abort.is_triggered)
        left.append(request.left_s())
        for use in (request.progress, lambda: request.request("site-1", "a", "b"), lambda: request.forward("site-1")):
            try:
                use()  # type: ignore[operator]
            except Cancelled as error:
                errors.append(error)
        return None

    future = site.request_future("server", "task", "wait", timeout_s=60.0)
    eventually(lambda: server._life.answerer._aborts)  # type: ignore[union-attr]
    future.cancel()
    eventually(lambda: len(errors) == 3)
    assert left == [0.0]


def test_a_timeout_of_ones_own_counts_as_it_is(cells: tuple[Cell, ...]) -> None:
    server, site, leaf = cells
    leaf.handler("task", "left")(lambda request: request.left_s())
    site.handler("task", "ask")(
        lambda request: request.request("site-1.leaf", "task", "left", timeout_s=request.body).body)  # type: ignore[arg-type]
    assert 50 < server.request("site-1", "task", "ask", 60.0, timeout_s=20.0).body <= 60  # type: ignore[operator]
    assert server.request("site-1", "task", "ask", None, timeout_s=20.0).body is None


def test_deadlines_that_were_renewed_are_remembered_within_a_bound(trees: Trees) -> None:
    (server,) = trees.grow("server", options=Options(calls=CallOptions(remembered_max=2)))
    server.handler("task", "go")(lambda request: request.progress())
    for _ in range(5):
        server.request("server", "task", "go", timeout_s=PATIENCE_S)
    assert len(server._life.answerer._handling._renewed) == 2


def test_progress_from_an_inline_handler_and_from_other_threads(cells: tuple[Cell, ...]) -> None:
    server, site, _ = cells
    heard: list[object] = []
    server.handler("task", "inline", inline=True)(lambda request: request.progress({"from": "inline"}))
    site.request("server", "task", "inline", on_progress=heard.append, timeout_s=PATIENCE_S)

    @server.handler("task", "thread")
    def other(request: Request) -> object:
        thread = threading.Thread(target=request.progress, args=({"from": "thread"},))
        thread.start()
        thread.join()
        return None

    site.request("server", "task", "thread", on_progress=heard.append, timeout_s=PATIENCE_S)
    eventually(lambda: len(heard) == 2)
    assert heard == [{"from": "inline"}, {"from": "thread"}]


def test_a_handler_that_asks_in_vain_says_so(cells: tuple[Cell, ...]) -> None:
    server, site, _ = cells
    found: list[NoRoute] = []

    @server.handler("task", "ask")
    def ask(request: Request) -> object:
        with pytest.raises(NoRoute) as caught:
            request.request("site-9", "a", "b")
        found.append(caught.value)
        return "known"

    assert site.request("server", "task", "ask", timeout_s=PATIENCE_S).body == "known" and found[0].target == "site-9"
