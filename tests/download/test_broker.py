"""The download service as users see it: lend here, pull there, forward in between."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

from zdl.assembly import Cell
from zdl.cell.messages import Request
from zdl.download.broker import DownloadBroker
from zdl.errors import CannotPack, Closed, NoRoute, OptionError, UnknownRef
from zdl.options import CallOptions, Options, PullOptions
from zdl.protocol.effects import Outcome
from zdl.refs import LazyDownloadRef, Ref

from trees import Trees
from waiting import PATIENCE_S, eventually

MIB = 1 << 20
KINDS = ("?", "i1", "u1", "<i2", "<i4", "<i8", "<u2", "<u4", "<u8", "<f2", "<f4", "<f8", "<c8", "<c16", ">i4", ">f8", ">c16", "g")


@pytest.fixture
def cells(trees: Trees) -> tuple[Cell, ...]:
    return trees.grow("server", "site-1", "site-2")


@pytest.fixture
def line(trees: Trees) -> tuple[Cell, ...]:
    """A line of four cells: two relays between the ends."""
    return trees.grow("server", "site-1", "site-1.j", "site-1.j.w0", same_host=False)


def same(one: object, other: object) -> bool:
    """Whether two nested objects are equal, arrays by value, type and shape."""
    if isinstance(one, np.ndarray):
        return (isinstance(other, np.ndarray) and one.dtype == other.dtype and one.shape == other.shape
                and np.array_equal(one, other))
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))  # type: ignore[arg-type]
    return type(one) is type(other) and one == other


# --- objects of all kinds -----------------------------------------------------------------------

@pytest.mark.parametrize("kind", KINDS)
def test_arrays_of_all_kinds_come_back_the_same(cells: tuple[Cell, ...], kind: str) -> None:
    server, site, _ = cells
    assert isinstance(server.downloads, DownloadBroker)
    array = (np.arange(120) % 7).astype(kind)
    body = {"flat": array, "cube": array.reshape(2, 3, 20), "fortran": np.asfortranarray(array.reshape(10, 12)),
            "strided": array[::3], "backwards": array[::-1], "transposed": array.reshape(8, 15).T, "0-d": array[5:6].reshape(()),
            "empty": array[:0], "no rows": array[:0].reshape(0, 5), "scalar": array[3]}
    lent = server.downloads.lend(body)
    found = site.downloads.resolve(lent.body)
    assert same(body, found)
    assert isinstance(found, dict)
    for name, each in found.items():
        if isinstance(each, np.ndarray):
            assert each.flags.writeable and each.flags.aligned and each.flags.c_contiguous, name
    assert lent.wait(PATIENCE_S).is_complete


def test_objects_of_all_shapes_come_back_the_same(cells: tuple[Cell, ...]) -> None:
    server, site, _ = cells
    body = {"a": [np.ones(5), (np.zeros((2, 2)), b"bytes", "text", 5, 2.5, None, True, 1 << 80)], "": {}, 7: [[]],
            "big": os.urandom(3 * MIB), "state": {f"layer.{n}.weight": np.full((50, 20), n, np.float32) for n in range(20)}}
    lent = server.downloads.lend(body)
    assert same(site.downloads.resolve(lent.body), body)
    assert lent.wait(PATIENCE_S).is_complete


def test_five_thousand_small_arrays_come_in_few_pieces(cells: tuple[Cell, ...]) -> None:
    server, site, _ = cells
    body = [np.full(number % 50 + 2, number, np.int32) for number in range(5000)]
    lent = server.downloads.lend(body)
    assert same(site.downloads.resolve(lent.body), body)
    assert lent.wait(PATIENCE_S).is_complete
    moved = next(each for each in site.traffic[1] if each.fqcn == "server")
    assert moved.messages_in < 20


def test_what_is_tied_travels_once_and_stays_tied(cells: tuple[Cell, ...]) -> None:
    server, site, _ = cells
    array = np.arange(MIB)
    lent = server.downloads.lend({"a": array, "b": [array], "c": array[:10]})
    assert isinstance(lent.body, dict)
    assert lent.body["a"] == lent.body["b"][0] and isinstance(lent.body["a"], LazyDownloadRef)
    found = site.downloads.resolve(lent.body)
    assert isinstance(found, dict)
    assert found["a"] is found["b"][0]
    assert site.downloads.transfers[-1].bytes_total < 9 * MIB


@pytest.mark.parametrize("body", [1, "text", None, {}, [], np.zeros(0), {"n": 1}, [b""]])
def test_an_object_with_nothing_to_lend_is_refused(cells: tuple[Cell, ...], body: object) -> None:
    with pytest.raises(OptionError, match="arrays or bytes to lend"):
        cells[0].downloads.lend(body)
    assert not cells[0].downloads.transactions


def test_an_object_that_cannot_travel_is_named_and_nothing_is_lent(cells: tuple[Cell, ...]) -> None:
    with pytest.raises(CannotPack) as caught:
        cells[0].downloads.lend({"w": np.zeros(1000), "f": [1, open]})
    assert caught.value.path == "f[1]"
    assert not cells[0].downloads.transactions


def test_one_ref_of_many_is_pulled_by_itself(cells: tuple[Cell, ...]) -> None:
    server, site, _ = cells
    lent = server.downloads.lend({"a": np.arange(MIB), "b": np.ones(1000), "c": b"x" * 5000}, receivers=0)
    assert isinstance(lent.body, dict)
    assert same(site.downloads.pull(lent.body["b"]), np.ones(1000))
    assert site.downloads.transfers[-1].bytes_total == 8000
    assert site.downloads.pull(lent.body["c"]) == b"x" * 5000
    lent.delete()


@pytest.mark.parametrize("options", [PullOptions(verify="none"), PullOptions(chunk_bytes=1000, window_bytes_min=1000),
                                     PullOptions(chunk_bytes=7 * MIB, window_bytes_min=7 * MIB), PullOptions(direct=False)])
def test_it_comes_the_same_however_it_is_cut(trees: Trees, options: PullOptions) -> None:
    server, site = trees.grow("server", "site-1", options=Options(pulls=options))
    body = [np.frombuffer(os.urandom(size), np.uint8) for size in (1, 999, 70_000, 300_000)]
    lent = server.downloads.lend(body)
    assert same(site.downloads.resolve(lent.body), body)
    assert lent.wait(PATIENCE_S).is_complete


# --- messages -----------------------------------------------------------------------------------

def test_refs_pass_through_relays_and_are_pulled_by_the_leaf_alone(line: tuple[Cell, ...]) -> None:
    server, site, job, leaf = line
    array = np.arange(MIB)
    seen: list[object] = []

    @leaf.handler("task", "train")
    def train(request: Request) -> object:
        return float(request.body["model"].sum())

    for relay, below in ((site, "site-1.j"), (job, "site-1.j.w0")):
        @relay.handler("task", "train", resolve=False)
        def forward(request: Request, relay: Cell = relay, below: str = below) -> object:
            seen.append(request.body["model"])
            return relay.request(below, "task", "train", request.body, receivers=0).body

    assert server.request("site-1", "task", "train", {"model": array}).body == float(array.sum())
    first, second = seen
    assert isinstance(first, Ref) and first == second and first.origin == "server"
    assert (leaf.downloads.transfers[-1].origin, leaf.downloads.transfers[-1].way) == ("server", "direct")
    assert not site.downloads.transfers and not job.downloads.transfers
    assert not site.downloads.transactions and not job.downloads.transactions
    eventually(lambda: not server.downloads.transactions)


def test_a_message_may_mix_refs_of_others_with_arrays_of_its_own(cells: tuple[Cell, ...]) -> None:
    server, one, two = cells
    theirs = one.downloads.lend(np.full(MIB, 1))
    server.handler("task", "sum")(lambda request: [int(each[0]) for each in request.body])
    assert two.request("server", "task", "sum", [theirs.body, np.full(MIB, 2), np.full(5, 3)]).body == [1, 2, 3]
    assert theirs.wait(PATIENCE_S).is_complete
    eventually(lambda: not two.downloads.transactions)


def test_a_reply_by_reference_ends_when_its_caller_has_it(cells: tuple[Cell, ...]) -> None:
    server, one, _ = cells
    server.handler("task", "make")(lambda request: {"w": np.full(MIB, request.body)})
    for number in range(3):
        reply = one.request("server", "task", "make", number)
        assert reply.body["w"][7] == number and reply.body["w"].flags.writeable  # type: ignore[index,call-overload]
    eventually(lambda: not server.downloads.transactions)
    assert one.downloads.transfers[-1].way == "memory"


def test_a_reply_that_is_passed_on_unopened_is_pulled_from_its_maker(line: tuple[Cell, ...]) -> None:
    server, site, job, leaf = line
    leaf.handler("task", "make")(lambda request: {"w": np.full(MIB, 7)})
    site.handler("task", "make", resolve=False)(
        lambda request: site.request("site-1.j.w0", "task", "make", resolve=False).body)
    reply = server.request("site-1", "task", "make")
    assert reply.body["w"][5] == 7  # type: ignore[index,call-overload]
    assert server.downloads.transfers[-1].origin == "site-1.j.w0"
    eventually(lambda: not leaf.downloads.transactions)


def test_a_request_that_did_not_arrive_ends_its_transaction_at_once(cells: tuple[Cell, ...]) -> None:
    server, *_ = cells
    lent: list[object] = []

    def ask() -> None:
        with pytest.raises(NoRoute):
            server.request("site-9", "task", "x", {"w": np.zeros(MIB)})

    ask()
    eventually(lambda: not server.downloads.transactions)
    assert lent == []


def test_named_receivers_of_a_request_are_who_is_counted(cells: tuple[Cell, ...]) -> None:
    server, one, two = cells
    one.handler("task", "keep", resolve=False)(lambda request: request.body)
    body = server.request("site-1", "task", "keep", np.zeros(MIB), receivers=["site-2"], resolve=False).body
    (lent,) = server.downloads.transactions
    one.downloads.resolve(body)
    eventually(lambda: lent.receivers)
    assert lent.outcome is None
    two.downloads.resolve(body)
    assert lent.wait(PATIENCE_S).receivers == {"site-1": Outcome.FINISHED, "site-2": Outcome.FINISHED}


def test_a_cell_may_send_large_things_to_itself(cells: tuple[Cell, ...]) -> None:
    server, *_ = cells
    server.handler("task", "echo")(lambda request: request.body)
    assert same(server.request("server", "task", "echo", {"w": np.arange(MIB)}).body, {"w": np.arange(MIB)})
    eventually(lambda: not server.downloads.transactions)


def test_handlers_that_pull_do_not_starve_each_other(trees: Trees) -> None:
    server = trees.add(Cell("server", listen="tcp://127.0.0.1:0", options=Options(calls=CallOptions(handler_threads_max=2))))
    site = trees.add(Cell("site-1", parent=server.addresses[0], options=Options(calls=CallOptions(handler_threads_max=2))))
    for cell in (server, site):
        cell.handler("task", "echo")(lambda request: request.body)
    futures = [(cell, cell.request_future(other, "task", "echo", np.full(200_000, number, np.int64)))
               for number in range(20) for cell, other in ((server, "site-1"), (site, "server"))]
    assert [int(future.result(PATIENCE_S).body[0]) for _, future in futures] == [number // 2 for number in range(40)]
    eventually(lambda: not server.downloads.transactions and not site.downloads.transactions)


def test_all_at_once_from_many_threads(cells: tuple[Cell, ...]) -> None:
    server, one, two = cells
    wrong: list[object] = []

    def work(lender: Cell, taker: Cell, seed: int) -> None:
        for number in range(5):
            array = np.full(300_000, seed * 100 + number, np.float32)
            lent = lender.downloads.lend({"w": array})
            found = taker.downloads.resolve(lent.body)
            if not same(found, {"w": array}) or not lent.wait(PATIENCE_S).is_complete:
                wrong.append((lender.fqcn, taker.fqcn, number))

    pairs = [(a, b) for a in cells for b in cells]
    threads = [threading.Thread(target=work, args=(a, b, seed)) for seed, (a, b) in enumerate(pairs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# --- names --------------------------------------------------------------------------------------

def test_what_is_published_is_found_by_its_name(cells: tuple[Cell, ...]) -> None:
    server, one, two = cells
    lent = server.downloads.lend({"w": np.arange(MIB)}, receivers=2)
    server.downloads.publish("policy", {"version": 3, "weights": lent.body})
    for cell in (one, two):
        found = cell.downloads.find("server", "policy")
        assert isinstance(found, dict) and isinstance(found["weights"]["w"], Ref) and found["version"] == 3
        assert same(cell.downloads.resolve(found)["weights"], {"w": np.arange(MIB)})  # type: ignore[index]
    assert lent.wait(PATIENCE_S).is_complete


def test_a_name_that_nothing_has_is_told(cells: tuple[Cell, ...]) -> None:
    with pytest.raises(UnknownRef) as caught:
        cells[1].downloads.find("server", "nothing")
    assert (caught.value.origin, caught.value.ref) == ("server", "ref:server/nothing")


def test_a_closed_cell_lends_nothing(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    lent = server.downloads.lend(b"x" * 1000)
    site.close()
    with pytest.raises(Closed):
        site.downloads.lend(b"x" * 1000)
    with pytest.raises(Closed):
        site.downloads.resolve(lent.body)
    lent.delete()
    assert "transactions" in repr(server.downloads)
