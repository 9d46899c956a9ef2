"""Refs through the public API, a test for each row of the parity table (B10 to B14, D23), between real cells."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

import zdl
from zdl.assembly import Cell
from zdl.cell.messages import Request
from zdl.errors import BadSelection, CannotUnpack, LeaseEnded, ObjectError, OptionError, OriginLost, UnknownRef
from zdl.objects.externalize import replace_refs
from zdl.objects.typetable import TypeTable
from zdl.protocol.effects import Outcome
from zdl.refs import Ref

from trees import Trees
from waiting import eventually

MIB = 1 << 20


@pytest.fixture
def tree(trees: Trees) -> tuple[Cell, ...]:
    """server ─ site-1 ─ site-1.w0, and server ─ site-2 ─ site-2.w0."""
    return trees.grow("server", "site-1", "site-2", "site-1.w0", "site-2.w0")


@dataclasses.dataclass
class Round:
    number: int
    weights: Any


def large(value: float) -> Any:
    return np.full((1024, 1024), value, np.float32)


@pytest.mark.row("B10")
def test_a_missing_item_is_an_error_that_names_it(tree: tuple[Cell, ...]) -> None:
    server, site, *_ = tree
    body: Any = server.downloads.lend({"w": large(1)}, receivers=0).body
    with pytest.raises(BadSelection, match="'h.3.*'"):
        zdl.Batch(body).select("h.3.*")
    with pytest.raises(BadSelection, match="there is no 1024 in a dimension of 1024"):
        body["w"][1024]
    with pytest.raises(OptionError, match="into.w"):
        site.downloads.pull(body, into={"b": large(0)})
    with pytest.raises(UnknownRef, match="server knows no ref:server/model"):
        site.downloads.find("server", "model")
    beyond = dataclasses.replace(body["w"], source=dataclasses.replace(body["w"].source, offer_id=bytes(16)))
    with pytest.raises(UnknownRef, match="ref:00000000"):
        site.downloads.resolve({"w": beyond})
    with pytest.raises(ObjectError, match="there is no value for <Ref"):
        replace_refs({"a": [body["w"]]}, {})


@pytest.mark.row("B11")
def test_a_handler_takes_refs_or_objects_and_a_call_says_so_too(tree: tuple[Cell, ...]) -> None:
    server, site, *_ = tree
    got: dict[str, type] = {}
    site.handler("task", "refs", resolve=False)(lambda request: got.update(refs=type(request.body["w"])))
    site.handler("task", "objects")(lambda request: got.update(objects=type(request.body["w"])))
    site.handler("task", "give")(lambda request: {"w": large(2)})
    for topic in ("refs", "objects"):
        server.request("site-1", "task", topic, {"w": large(1)})
    assert got == {"refs": Ref, "objects": np.ndarray}
    for resolve, kind in ((True, np.ndarray), (False, Ref)):
        body: Any = server.request("site-1", "task", "give", resolve=resolve).body
        answer: Any = server.broadcast(["site-1"], "task", "give", resolve=resolve)["site-1"].body
        future: Any = server.request_future("site-1", "task", "give", resolve=resolve).result(30).body
        assert type(body["w"]) is type(answer["w"]) is type(future["w"]) is kind


@pytest.mark.row("B12", "D23")
def test_a_ref_sent_on_is_the_same_ref_and_outlives_who_sent_it_on(trees: Trees) -> None:
    server, one, two, leaf = trees.grow("server", "site-1", "site-2", "site-2.w0")
    array = large(3)
    lent = server.downloads.lend({"w": array}, receivers=["site-2.w0"])
    kept: list[Any] = []
    leaf.handler("task", "keep", resolve=False)(lambda request: kept.append(request.body))
    two.handler("task", "keep", resolve=False)(lambda request: request.forward("site-2.w0"))
    with Cell("site-3", parent=server.addresses[0]) as forwarder:
        forwarder.wait_ready()
        forwarder.handler("task", "keep", resolve=False)(lambda request: request.forward("site-2"))
        one.request("site-3", "task", "keep", lent.body)
        assert forwarder.downloads.transfers == forwarder.downloads.transactions == []
        data = [each for each in forwarder.snapshot().traffic if each.lane == "data"]
        assert sum(each.bytes_in + each.bytes_out for each in data) < 4096, "no byte of it went through the forwarder"
    assert kept == [lent.body] and kept[0]["w"].origin == "server"
    assert np.array_equal(kept[0]["w"].pull(), array), "the forwarder is gone"
    assert two.downloads.transfers == []
    assert lent.wait(10.0).outcome is Outcome.FINISHED


@pytest.mark.row("B12")
def test_who_reads_only_to_whom_a_message_goes_passes_on_what_came_both_ways_and_needs_none_of_its_types(trees: Trees) -> None:
    types = TypeTable().with_types(Round)
    with Cell("server", listen="tcp://127.0.0.1:0", types=types) as server:
        site = trees.add(Cell("site-1", parent=server.addresses[0], listen="tcp://127.0.0.1:0"))
        leaf = trees.add(Cell("site-1.w0", parent=site.addresses[0], types=types))
        seen: list[Any] = []

        @site.handler("task", "train", resolve=False)
        def forward(request: Request) -> object:
            body: Any = request.body
            seen.extend((body, request.forward(body["to"])))
            return seen[1]

        @leaf.handler("task", "train")
        def train(request: Request) -> object:
            body: Any = request.body
            return {"round": Round(body["round"].number + 1, body["round"].weights + 1)}

        body = {"round": Round(1, large(4)), "to": "site-1.w0", "tiny": np.arange(3)}
        reply: Any = server.request("site-1", "task", "train", body, receivers=["site-1.w0"]).body
        assert (reply["round"].number, reply["round"].weights[0, 0]) == (2, 5.0)
        came, answer = seen
        assert came.parts and answer.parts, "nothing was unpacked but to whom"
        with pytest.raises(CannotUnpack, match="no type of that name is registered here"):
            came["round"]


@pytest.mark.row("B13")
def test_refs_of_several_origins_mix_with_arrays_in_one_message(tree: tuple[Cell, ...]) -> None:
    server, one, two, leaf, other = tree
    got: list[Any] = []
    other.handler("task", "take")(lambda request: got.append(request.body))
    of_server: Any = server.downloads.lend({"w": large(1)}, receivers=0).body
    of_leaf: Any = leaf.downloads.lend({"w": large(2), "b": np.arange(5)}, receivers=0).body
    mixed = {"a": of_server["w"], "b": [of_leaf["b"], of_leaf["w"][:3]], "mine": large(3), "tiny": np.arange(3),
             "column": of_server["w"][:, 1], "same": of_server["w"], "n": 1}
    one.request("site-2.w0", "task", "take", mixed)
    found = got[0]
    assert (found["a"][0, 0], found["b"][1].shape, found["mine"][0, 0], found["column"].shape) == (1, (3, 1024), 3, (1024,))
    assert found["b"][0].tolist() == [0, 1, 2, 3, 4] and found["tiny"].tolist() == [0, 1, 2] and found["n"] == 1
    assert found["same"] is found["a"], "what was one object is one again"
    assert {each.origin for each in other.downloads.transfers} >= {"server", "site-1", "site-1.w0"}


@pytest.mark.row("B14")
def test_refs_are_found_and_replaced_in_any_object_and_each_batch_is_fetched_once(tree: tuple[Cell, ...]) -> None:
    server, site, *_ = tree
    body: Any = server.downloads.lend({"a": large(1), "b": [large(2), {"c": (large(3),)}]}, receivers=0).body
    assert zdl.contains_refs(body) and zdl.contains_refs([[{"x": (body["a"],)}]]) and zdl.contains_refs(body["a"])
    assert not zdl.contains_refs({"a": [1, (np.zeros(3), "x")]})
    found: Any = site.downloads.resolve([body, {"again": body["a"], "new": np.zeros(2)}])
    assert not zdl.contains_refs(found)
    assert (found[0]["a"][0, 0], found[0]["b"][0][0, 0], found[0]["b"][1]["c"][0][0, 0]) == (1, 2, 3)
    assert found[1]["again"] is found[0]["a"] and type(found[0]) is dict
    assert [each.bytes_done for each in site.downloads.transfers] == [3 * large(0).nbytes], "one pull"
    assert zdl.contains_refs(body), "the object that was given is as it was"


def test_a_ref_says_how_it_ended_and_one_of_nowhere_that_its_origin_is_not_there(tree: tuple[Cell, ...]) -> None:
    server, site, *_ = tree
    lent = server.downloads.lend({"w": large(1)})
    ref: Any = lent.body["w"]  # type: ignore[index]
    assert site.downloads.pull(ref).shape == (1024, 1024)  # type: ignore[attr-defined]
    lent.wait(10.0)
    for part in (ref, ref[:10], ref[:, ::2]):
        with pytest.raises(LeaseEnded, match="no longer lent: finished"):
            site.downloads.pull(part)
        nowhere = dataclasses.replace(part, source=dataclasses.replace(part.source, origin="site-7.w3"))
        with pytest.raises(OriginLost, match="site-7.w3"):
            site.downloads.pull(nowhere)
    assert "secret" not in repr(ref) and ref.source.secret.hex() not in repr(ref) + repr(ref.source)


def test_a_handler_that_wants_a_part_ends_the_transaction_of_its_request(tree: tuple[Cell, ...]) -> None:
    server, site, *_ = tree

    @site.handler("task", "part", resolve=False)
    def part(request: Request) -> object:
        body: Any = request.body
        first = body["w"][0, :4].pull()
        body.release()
        return first

    assert server.request("site-1", "task", "part", {"w": large(5)}).body.tolist() == [5] * 4  # type: ignore[attr-defined]
    eventually(lambda: not server.downloads.transactions)
