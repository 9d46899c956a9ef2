"""Tree: what a cell knows of the tree around it, and the questions that it asks, through real cells."""

from __future__ import annotations

import asyncio
import threading

import pytest

from zdl.assembly import Cell
from zdl.cell.cell import BareCell
from zdl.cell.tree import CHANNEL, PING_TOPIC, Reach, Tree
from zdl.errors import Closed, FqcnError, NoRoute, TimedOut
from zdl.options import LinkOptions, Options

from trees import Trees
from waiting import PATIENCE_S, eventually


def test_each_cell_knows_who_is_below_it(trees: Trees) -> None:
    server, site, leaf = trees.grow("server", "site-1", "site-1.leaf")
    eventually(lambda: server.tree.below() == ("site-1", "site-1.leaf"))
    assert site.tree.below() == ("site-1.leaf",) and leaf.tree.below() == ()
    assert (server.tree.below_count, leaf.tree.below_count, server.tree.left_out_count) == (2, 0, 0)
    assert isinstance(server.tree, Tree) and repr(server.tree) == "<Tree of server, 2 cells below>"
    leaf.close()
    eventually(lambda: server.tree.below() == ("site-1",) and site.tree.below() == ())


def test_a_peer_is_who_is_linked(trees: Trees) -> None:
    server, site, leaf = trees.grow("server", "site-1", "site-1.leaf")
    assert server.tree.is_peer("site-1") and site.tree.is_peer("server") and site.tree.is_peer("site-1.leaf")
    assert not server.tree.is_peer("site-1.leaf") and not server.tree.is_peer("server")
    with pytest.raises(FqcnError):
        leaf.tree.is_peer("a..b")


def test_who_answers_can_be_reached_whatever_it_answers(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    found = site.tree.is_reachable("server", PATIENCE_S)
    assert found and (found.fqcn, found.error, found.why, found.hops) == ("server", None, "", 0) and found.seconds > 0
    assert site.tree.is_reachable("site-1", PATIENCE_S), "oneself"
    with BareCell("bare", parent=server.addresses[0]) as bare:  # no service is mounted on it, so it refuses a ping
        bare.wait_ready(PATIENCE_S)
        assert site.tree.is_reachable("bare", PATIENCE_S)

    @server.handler(CHANNEL, PING_TOPIC)
    def ping(request: object) -> object:
        raise ValueError("out of order")

    assert site.tree.is_reachable("server", PATIENCE_S)


def test_who_cannot_be_reached_is_told_why(trees: Trees) -> None:
    _, site = trees.grow("server", "site-1")
    found = site.tree.is_reachable("site-2", PATIENCE_S)
    assert not found and not found.is_reachable
    assert isinstance(found.error, NoRoute) and found.error.at == "server"
    assert found.why == str(found.error) == "no route to site-2: server could not go on"
    with pytest.raises(FqcnError):
        site.tree.is_reachable("a..b")


def test_a_cell_whose_parent_is_not_there_says_why_it_reaches_nobody() -> None:
    with Cell("site-1", parent="tcp://127.0.0.1:1") as site:
        found = site.tree.is_reachable("server", 0.2)
        assert not found and "nobody answers at tcp://127.0.0.1:1" in found.why


def test_who_does_not_answer_in_time_is_not_reachable(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    go = threading.Event()
    server.handler(CHANNEL, PING_TOPIC)(lambda request: go.wait(PATIENCE_S))
    found = site.tree.is_reachable("server", 0.1)
    go.set()
    assert isinstance(found.error, TimedOut) and found.seconds >= 0.1


def test_the_route_names_every_cell_on_the_way(trees: Trees) -> None:
    _, site, leaf, other = trees.grow("server", "site-1", "site-1.leaf", "site-2")
    there = ("site-1.leaf", "site-1", "server", "site-2")
    route = leaf.tree.route("site-2", PATIENCE_S)
    assert (route.there, route.back) == (there, there[::-1])
    assert site.tree.route("site-1").there == ("site-1", "site-1")
    with pytest.raises(NoRoute):
        other.tree.route("site-3", PATIENCE_S)


def test_the_questions_have_awaitable_twins(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")

    async def ask() -> None:
        found, lost = await asyncio.gather(site.aio.is_reachable("server"), site.aio.is_reachable("site-2"))
        assert found and found.seconds > 0 and isinstance(lost.error, NoRoute)
        assert (await server.aio.route("site-1")).there == ("server", "site-1")
        with pytest.raises(NoRoute):
            await server.aio.route("site-2")
        site.close()
        with pytest.raises(Closed):
            await site.aio.is_reachable("server")

    asyncio.run(ask())


def test_names_beyond_the_limit_are_counted(trees: Trees) -> None:
    options = Options(links=LinkOptions(subtree_max=2))
    server, *_ = trees.grow("server", "a", "b", "c", options=options)
    eventually(lambda: server.tree.left_out_count == 1)
    assert server.tree.below_count == 2 and server.request("c", CHANNEL, PING_TOPIC).body is None


def test_a_cell_that_is_not_open_knows_nothing(trees: Trees) -> None:
    cell = Cell("server", listen=trees.address("tcp"))
    for _ in range(2):
        for ask in (cell.tree.below, lambda: cell.tree.is_peer("a"), lambda: cell.tree.is_reachable("a"),
                    lambda: cell.tree.route("a")):
            with pytest.raises(Closed):
                ask()
        assert repr(cell.tree) == "<Tree of server>"
        cell.close()


def test_an_answer_is_true_when_the_cell_is_there() -> None:
    assert Reach("a", True, None, 0.1, 2)
    assert not Reach("a", False, TimedOut(what="x", address="a", waited_s=1.0), 1.0, 0)
