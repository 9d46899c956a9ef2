"""One suite, three ways to connect: what cells promise holds over tcp, ipc and inproc alike."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import numpy as np
import pytest

from zdl.assembly import Cell
from zdl.cell.messages import Request
from zdl.errors import NoRoute, PeerLost, Refused, RemoteError
from zdl.refs import Ref

from trees import SCHEMES, Trees
from waiting import PATIENCE_S, eventually

NAMES = ("server", "site-1", "site-1.w0", "site-2")


@pytest.fixture(params=SCHEMES)
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def cells(trees: Trees, scheme: str) -> tuple[Cell, ...]:
    """server, site-1, site-1.w0, site-2; each answers task/echo."""
    made = trees.grow(*NAMES, scheme=scheme)
    for cell in made:
        cell.handler("task", "echo")(lambda request: request.body)
    return made


def each_pair(cells: tuple[Cell, ...]) -> list[tuple[Cell, Cell]]:
    return [(one, other) for one in cells for other in cells]


def test_every_cell_answers_every_cell(cells: tuple[Cell, ...]) -> None:
    for one, other in each_pair(cells):
        reply = one.request(other.fqcn, "task", "echo", {"from": one.fqcn})
        assert (reply.body, reply.origin) == ({"from": one.fqcn}, other.fqcn)


def test_hops_are_counted(cells: tuple[Cell, ...]) -> None:
    _, site, leaf, other = cells
    assert site.request("server", "task", "echo").hops == 0
    assert leaf.request("server", "task", "echo").hops == 1
    assert leaf.request("site-2", "task", "echo").hops == 2
    assert other.request("site-1.w0", "task", "echo").hops == 2
    assert leaf.request("site-1.w0", "task", "echo").hops == 0


@pytest.mark.parametrize("size", [0, 1, 4 << 10, (4 << 10) + 1, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_a_body_of_any_size_comes_back_the_same(cells: tuple[Cell, ...], size: int) -> None:
    data = os.urandom(size)
    assert cells[2].request("site-2", "task", "echo", {"data": data, "n": size}).body == {"data": data, "n": size}


def test_a_large_array_goes_there_and_back(cells: tuple[Cell, ...]) -> None:
    array = np.arange(1_500_000, dtype=np.float32).reshape(3, -1)
    body = cells[0].request("site-1.w0", "task", "echo", {"w": array}).body
    assert isinstance(body, dict)
    assert np.array_equal(body["w"], array) and body["w"].flags.writeable
    eventually(lambda: not any(cell.downloads.transactions for cell in cells), what="the end of all that was lent")


def test_a_notice_arrives(cells: tuple[Cell, ...]) -> None:
    heard: list[object] = []
    cells[3].handler("task", "note")(lambda request: heard.append((request.origin, request.body)))
    cells[2].notice("site-2", "task", "note", ["it", 1])
    eventually(lambda: heard)
    assert heard == [("site-1.w0", ["it", 1])]


def test_a_broadcast_reaches_all_targets(cells: tuple[Cell, ...]) -> None:
    for cell in cells:
        cell.handler("task", "name")(lambda request: request.target)
    answers = cells[0].broadcast(list(NAMES), "task", "name")
    assert {name: answer.body for name, answer in answers.items()} == {name: name for name in NAMES}


def test_a_broadcast_may_have_a_body_for_each(cells: tuple[Cell, ...]) -> None:
    answers = cells[1].broadcast({name: name * 2 for name in NAMES}, "task", "echo")
    assert {name: answer.body for name, answer in answers.items()} == {name: name * 2 for name in NAMES}


def test_a_handler_that_raises_is_told_by_kind_and_text(cells: tuple[Cell, ...]) -> None:
    @cells[2].handler("task", "fail")
    def fail(request: Request) -> object:
        raise KeyError("missing")

    with pytest.raises(RemoteError) as caught:
        cells[3].request("site-1.w0", "task", "fail")
    error = caught.value
    assert (error.fqcn, error.channel, error.topic, error.kind, error.text) == (
        "site-1.w0", "task", "fail", "KeyError", "'missing'")


def test_what_nobody_handles_is_refused(cells: tuple[Cell, ...]) -> None:
    with pytest.raises(Refused) as caught:
        cells[3].request("site-1.w0", "task", "unknown")
    assert (caught.value.by, caught.value.reason) == ("site-1.w0", "no-handler")


@pytest.mark.parametrize(("target", "at"), [("site-9", "server"), ("site-1.w9", "site-1"), ("site-1.w0.x", "site-1.w0")])
def test_a_cell_that_is_not_there_is_told_by_the_one_who_should_know_it(cells: tuple[Cell, ...], target: str, at: str) -> None:
    with pytest.raises(NoRoute) as caught:
        cells[3].request(target, "task", "echo", timeout_s=PATIENCE_S)
    assert (caught.value.target, caught.value.at) == (target, at)


def test_refs_pass_through_and_are_pulled_from_their_origin(cells: tuple[Cell, ...]) -> None:
    server, site, leaf, other = cells
    arrays = {"a": np.arange(1000), "b": np.ones((2, 3)), "c": b"x" * 5000}
    lent = other.downloads.lend(arrays)

    @site.handler("task", "pass", resolve=False)
    def pass_on(request: Request) -> object:
        return leaf_of(request.body)

    def leaf_of(body: object) -> object:
        assert isinstance(body, dict) and all(isinstance(ref, Ref) and ref.origin == "site-2" for ref in body.values())
        return site.request("site-1.w0", "task", "sum", body, receivers=0).body

    @leaf.handler("task", "sum")
    def add_up(request: Request) -> object:
        assert isinstance(request.body, dict)
        return [float(request.body["a"].sum()), request.body["b"].shape, len(request.body["c"])]

    assert server.request("site-1", "task", "pass", lent.body).body == [499500.0, (2, 3), 5000]
    assert lent.wait(PATIENCE_S).receivers.keys() == {"site-1.w0"}


def test_a_cell_that_closes_ends_what_waits_for_it(trees: Trees, scheme: str) -> None:
    server, site = trees.grow("server", "site-1", scheme=scheme)
    entered, go_on = threading.Event(), threading.Event()

    @site.handler("task", "wait")
    def wait(request: Request) -> object:
        entered.set()
        go_on.wait(PATIENCE_S)
        return None

    call = server.request_future("site-1", "task", "wait", timeout_s=PATIENCE_S)
    assert entered.wait(PATIENCE_S)
    assert site.close(0.1) == ["1 handlers are still running"]
    with pytest.raises(PeerLost) as caught:
        call.result(PATIENCE_S)
    assert (caught.value.target, caught.value.at) == ("site-1", "server")
    go_on.set()
    with pytest.raises(NoRoute):
        server.request("site-1", "task", "wait")


def test_many_requests_in_flight_come_back_to_who_asked(cells: tuple[Cell, ...]) -> None:
    futures = {number: cells[2].request_future("site-2", "task", "echo", number) for number in range(200)}
    assert {number: future.result(PATIENCE_S).body for number, future in futures.items()} == {n: n for n in range(200)}


def test_all_threads_of_many_may_ask_at_once(cells: tuple[Cell, ...]) -> None:
    wrong: list[object] = []

    def ask(one: Cell, other: Cell) -> Callable[[], None]:
        def run() -> None:
            for number in range(20):
                body = one.request(other.fqcn, "task", "echo", [one.fqcn, number]).body
                if body != [one.fqcn, number]:
                    wrong.append(body)
        return run

    threads = [threading.Thread(target=ask(one, other)) for one, other in each_pair(cells)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_an_ipv6_address_is_bound_and_dialled() -> None:
    with Cell("server", listen="tcp://[::1]:0") as server, Cell("site-1", parent=server.addresses[0]) as site:
        server.handler("task", "echo")(lambda request: request.body)
        array = np.arange(2_000_000, dtype=np.float32)
        assert np.array_equal(site.request("server", "task", "echo", {"x": array}).body["x"], array)


def test_a_wildcard_listens_on_both_lanes_with_a_name_that_can_be_dialled() -> None:
    with Cell("server", listen="tcp://*:0", insecure=True) as server:
        assert all("*" not in address for address in (*server.addresses, *server.data_addresses))
        port, data_port = (address.rpartition(":")[2] for address in (*server.addresses, *server.data_addresses))
        assert port != data_port
        with Cell("site-1", parent=f"tcp://127.0.0.1:{port}") as site:
            site.wait_ready(30.0)
