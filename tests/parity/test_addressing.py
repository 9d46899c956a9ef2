"""Addressing: what follows from a name, through the names and cells that users have."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest

from zdl import fqcn
from zdl.assembly import Cell
from zdl.cell.messages import Request
from zdl.errors import CannotPack, FqcnError, OptionError, Refused, RemoteError

from trees import Trees
from waiting import PATIENCE_S, eventually

DEEP = ("server", "r1", "r1.r11", "r1.r11.site-1", "r1.r11.site-1.w0")


@pytest.mark.row("A1")
@pytest.mark.parametrize("name", ["server", "site-1", "a.b.c", "A_b~c-1.2", "x" * 255, ".".join("abcdefghij")])
def test_a1_a_good_name_is_taken_as_it_is(name: str) -> None:
    assert fqcn.parse(name) == name
    assert fqcn.parse(f"  {name}\t") == name
    assert Cell(name, parent="tcp://127.0.0.1:1").fqcn == name


@pytest.mark.row("A1")
@pytest.mark.parametrize(("name", "why"), [
    ("", "is empty"), ("   ", "is empty"), ("a..b", "empty part"), (".a", "empty part"), ("a.", "empty part"),
    ("a.b.a", "part 'a' is repeated"), ("a b", "part 'a b'"), ("a.b/c", "part 'b/c'"), ("é", "part 'é'"), ("a:b", "part 'a:b'"),
    ("a.b\n.c", "part 'b\\n'"), ("x" * 256, "more than 255 bytes"), (None, "must be a string"), (7, "must be a string")])
def test_a1_a_bad_name_is_refused_with_the_part_and_the_reason_everywhere(trees: Trees, name: str, why: str) -> None:
    (server,) = trees.grow("server")
    for use in (lambda: fqcn.parse(name), lambda: Cell(name, parent="tcp://127.0.0.1:1"),
                lambda: server.request(name, "a", "b"), lambda: server.notice(name, "a", "b"),
                lambda: server.request_future(name, "a", "b"), lambda: server.broadcast([name], "a", "b")):
        with pytest.raises(FqcnError) as caught:
            use()
        assert why in str(caught.value) and isinstance(caught.value, ValueError)


@pytest.mark.row("A2")
def test_a2_all_that_a_name_tells_is_told() -> None:
    name = "site-1.job-7.worker-0"
    assert fqcn.parts(name) == ("site-1", "job-7", "worker-0")
    assert (fqcn.family(name), fqcn.parent(name), fqcn.ROOT) == ("site-1", "site-1.job-7", "server")
    assert fqcn.ancestors(name) == ("site-1.job-7", "site-1", "server")
    assert (fqcn.parent("site-1"), fqcn.parent("server"), fqcn.ancestors("server")) == ("server", None, ())
    assert fqcn.parent("server.job-7") == "server" and fqcn.family("server.job-7") == "server"
    assert fqcn.is_parent("site-1", "site-1.job-7") and not fqcn.is_parent("site-1", name)
    assert fqcn.is_ancestor("site-1", name) and fqcn.is_ancestor("server", name) and not fqcn.is_ancestor(name, name)
    assert not fqcn.is_ancestor("site-1", "site-11") and not fqcn.is_within("site-11.w0", "site-1")
    assert fqcn.common_ancestor("site-1.w0", "site-1.w1") == "site-1"
    assert fqcn.common_ancestor("site-1.w0", "site-2.w0") == fqcn.common_ancestor("site-1", "server") == "server"
    assert fqcn.common_ancestor(name, "site-1.job-7") == "site-1.job-7"


@pytest.mark.row("A2")
def test_a2_what_is_told_of_names_agrees_for_any_tree() -> None:
    rng = random.Random(2)
    names = {"server"}
    for _ in range(300):
        above = rng.choice(sorted(names))
        own = f"{rng.choice('abcdef')}{len(names)}"
        names.add(own if above == "server" and rng.random() < 0.8 else f"{above}.{own}")
    for one in names:
        line = (one, *fqcn.ancestors(one))
        assert line[-1] == "server" and all(fqcn.is_parent(above, below) for below, above in zip(line, line[1:], strict=False))
        for other in rng.sample(sorted(names), 20):
            assert fqcn.is_ancestor(one, other) == (one in fqcn.ancestors(other))
            common = fqcn.common_ancestor(one, other)
            assert common == fqcn.common_ancestor(other, one)
            assert common in line and common in (other, *fqcn.ancestors(other))


@pytest.mark.row("A3")
def test_a3_the_root_is_the_parent_of_every_other_first_part(trees: Trees) -> None:
    cells = trees.grow("server", "site-1", "site-2", "server.job-7")
    for cell in cells:
        cell.handler("task", "who")(lambda request, cell=cell: cell.fqcn)
    for one in cells:
        for other in cells:
            assert one.request(other.fqcn, "task", "who").body == other.fqcn
    with pytest.raises(OptionError, match="only server has none"):
        Cell("site-3")
    with Cell("server", parent=cells[0].addresses[0]) as second:
        with pytest.raises(Refused, match="my own name"):
            second.wait_ready(PATIENCE_S)


@pytest.mark.row("A4")
@pytest.mark.parametrize("scheme", ["tcp", "inproc"])
def test_a4_a_message_to_oneself_goes_the_way_of_all_messages(trees: Trees, scheme: str) -> None:
    server, site = trees.grow("server", "site-1", scheme=scheme)
    array = np.arange(10)
    kept: list[object] = []

    @site.handler("task", "take")
    def take(request: Request) -> object:
        kept.append(request.body)
        assert (request.origin, request.target, request.hops, dict(request.headers)) == ("site-1", "site-1", 0, {"h": 1})
        return request.body

    body = {"array": array, "list": [1, 2], "large": os.urandom(3_000_000)}
    reply = site.request("site-1", "task", "take", body, headers={"h": 1})
    assert reply.origin == "site-1" and reply.hops == 0
    found = reply.body
    assert isinstance(found, dict) and found["large"] == body["large"] and np.array_equal(found["array"], array)
    assert found["array"] is not array and found["list"] is not body["list"], "it was packed and unpacked"
    array[:] = 0
    assert isinstance(kept[0], dict) and kept[0]["array"][3] == 3, "what was sent is not shared with who sent it"
    with pytest.raises(CannotPack):
        site.request("site-1", "task", "take", {"x": object()})
    site.handler("task", "fail")(lambda request: 1 // 0)
    with pytest.raises(RemoteError, match="ZeroDivisionError in site-1"):
        site.request("site-1", "task", "fail")
    site.notice("site-1", "task", "take", 7, headers={"h": 1})
    eventually(lambda: kept[1:] == [7], what="the notice")
    assert site.broadcast(["site-1", "server"], "zdl", "ping")["site-1"].is_ok


@pytest.mark.row("A5", "L3")
def test_a5_cells_of_one_process_over_inproc_share_nothing(trees: Trees) -> None:
    cells = trees.grow(*DEEP, scheme="inproc")
    for cell in cells:
        cell.handler("task", "who")(lambda request, cell=cell: [cell.fqcn, request.origin])
        cell.handler("task", cell.fqcn)(lambda request: "mine")
    for one in cells:
        assert all(address.startswith("inproc://") for address in (*one.addresses, *one.data_addresses))
        for other in cells:
            assert one.request(other.fqcn, "task", "who").body == [other.fqcn, one.fqcn]
            topic = other.fqcn
            if one is not other:
                with pytest.raises(Refused, match="no handler"):
                    other.request(one.fqcn, "task", topic)
    other = trees.add(Cell("server", listen=trees.address("inproc")))
    other.handler("task", "who")(lambda request: "another fabric")
    assert other.request("server", "task", "who").body == "another fabric"
    assert cells[-1].request("server", "task", "who").body == ["server", DEEP[-1]]
    cells[2].close()
    assert cells[1].request("server", "task", "who").body == ["server", "r1"], "one that ends takes no other with it"
