"""Parity: names, the tree, and the way through it, each row shown through the public API."""

from __future__ import annotations

import pytest

from zdl import Cell, FqcnError, LinkOptions, NoRoute, Options
from zdl.cell.watching import PeerEvent, SubtreeEvent
from zdl.fqcn import ROOT, ancestors, common_ancestor, family, is_ancestor, is_parent, parent, parse, parts

from trees import SCHEMES, Trees
from waiting import PATIENCE_S, eventually


def where(cell: Cell) -> None:
    """It answers with its own name."""
    cell.handler("who", "are-you")(lambda request: cell.fqcn)


@pytest.mark.row("A2")
def test_a2_a_name_tells_all_that_follows_from_it() -> None:
    name = parse(" site-1.job-7.worker-0 ")
    assert name == "site-1.job-7.worker-0" and parts(name) == ("site-1", "job-7", "worker-0")
    assert (ROOT, family(name), parent(name)) == ("server", "site-1", "site-1.job-7")
    assert ancestors(name) == ("site-1.job-7", "site-1", "server") and parent("server") is None
    assert is_parent("site-1", "site-1.job-7") and not is_parent("server", "site-1.job-7")
    assert is_ancestor("server", name) and is_ancestor("site-1", name) and not is_ancestor(name, name)
    assert common_ancestor(name, "site-1.job-8") == "site-1" and common_ancestor(name, "site-2") == "server"
    assert common_ancestor("a.b", "a.b.c") == "a.b"
    with pytest.raises(FqcnError, match="part 'a' is repeated"):
        parse("a.b.a")


@pytest.mark.row("A3")
def test_a3_every_first_part_is_a_child_of_the_one_root(trees: Trees) -> None:
    server, site, job = trees.grow("server", "site-1", "server.job-7")
    eventually(lambda: server.tree.below() == ("server.job-7", "site-1"))
    assert [each.fqcn for each in site.peers if each.role == "parent" and each.lane == "control"] == ["server"]
    assert job.request("site-1", "zdl", "ping", timeout_s=PATIENCE_S).hops == 1


@pytest.mark.row("A7")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a7_families_meet_in_the_common_ancestor(trees: Trees, scheme: str) -> None:
    _, _, one, _, other, brother = trees.grow("server", "a", "a.x", "b", "b.y", "a.z", scheme=scheme)
    where(other)
    reply = one.request("b.y", "who", "are-you", timeout_s=PATIENCE_S, trace=True)
    assert reply.body == "b.y" and reply.route is not None
    assert reply.route.there == ("a.x", "a", "server", "b", "b.y") and reply.route.back == reply.route.there[::-1]
    assert one.tree.route("a.z").there == ("a.x", "a", "a.z") and brother.tree.route("a").there == ("a.z", "a")


@pytest.mark.row("A8")
def test_a8_relays_may_stand_at_any_depth(trees: Trees) -> None:
    names = ["server"]
    for level in range(7):
        names.append(f"r{level}" if level == 0 else f"{names[-1]}.r{level}")
    cells = trees.grow(*names)
    deepest = cells[-1]
    where(deepest)
    reply = cells[0].request(deepest.fqcn, "who", "are-you", timeout_s=PATIENCE_S, trace=True)
    assert (reply.body, reply.hops) == (deepest.fqcn, 6)
    assert reply.route is not None and reply.route.there == tuple(names)
    eventually(lambda: cells[0].tree.below() == tuple(names[1:]))


@pytest.mark.row("A11")
def test_a11_a_message_that_is_passed_on_too_often_ends_at_once(trees: Trees) -> None:
    options = Options(links=LinkOptions(hops_max=2))
    *_, site, leaf, _, other = trees.grow("server", "site-1", "site-1.a", "site-2", "site-2.b", options=options)
    with pytest.raises(NoRoute) as caught:
        leaf.request("site-2.b", "who", "are-you", timeout_s=PATIENCE_S)
    assert (caught.value.at, caught.value.why) == ("site-2", "hops_max=2 is reached")
    with pytest.raises(NoRoute) as caught:
        site.request("site-1.b", "who", "are-you", timeout_s=PATIENCE_S)
    assert caught.value.at == "site-1", "it is not sent up, from where it would only come back"


@pytest.mark.row("A11")
def test_a11_the_route_can_be_read_from_the_reply(trees: Trees) -> None:
    _, _, leaf, other = trees.grow("server", "site-1", "site-1.a", "site-2")
    where(other)
    traced = leaf.request("site-2", "who", "are-you", timeout_s=PATIENCE_S, trace=True).route
    assert traced is not None and traced.there == ("site-1.a", "site-1", "server", "site-2")
    assert traced.back == ("site-2", "server", "site-1", "site-1.a")
    assert leaf.request("site-2", "who", "are-you", timeout_s=PATIENCE_S).route is None
    later = leaf.request_future("site-2", "who", "are-you", timeout_s=PATIENCE_S, trace=True).result(PATIENCE_S)
    assert later.route == traced


@pytest.mark.row("A13")
def test_a13_one_can_ask_who_is_reachable_who_is_a_peer_and_who_is_below(trees: Trees) -> None:
    server, site, leaf = trees.grow("server", "site-1", "site-1.a")
    assert leaf.tree.is_reachable("server") and server.tree.is_reachable("site-1.a")
    lost = leaf.tree.is_reachable("site-2")
    assert not lost and isinstance(lost.error, NoRoute) and lost.error.at == "server" and "site-2" in lost.why
    assert leaf.tree.is_peer("site-1") and not leaf.tree.is_peer("server")
    eventually(lambda: server.tree.below() == ("site-1", "site-1.a"))
    assert site.tree.below() == ("site-1.a",) and leaf.tree.below() == ()


@pytest.mark.row("F5")
def test_f5_callbacks_hear_of_peers_and_of_the_whole_subtree(trees: Trees) -> None:
    server = trees.add(Cell("server", listen=trees.address("tcp")))
    peers: list[PeerEvent] = []
    below: list[SubtreeEvent] = []
    take_back = server.tree.on_peer(peers.append)
    server.tree.on_subtree(below.append)
    site = trees.add(Cell("site-1", parent=server.addresses[0]))
    site.close()
    eventually(lambda: len(peers) == len(below) == 2)
    assert [(each.fqcn, each.is_up, each.role) for each in peers] == [("site-1", True, "child"), ("site-1", False, "child")]
    assert "goodbye" in peers[1].why and not peers[0].why
    take_back()
    relay = trees.add(Cell("site-1", parent=server.addresses[0], listen=trees.address("tcp")))
    leaf = trees.add(Cell("site-1.a", parent=relay.addresses[0]))
    eventually(lambda: ("site-1.a", True) in [(each.fqcn, each.is_up) for each in below])
    leaf.close()
    eventually(lambda: below[-1].fqcn == "site-1.a" and not below[-1].is_up)
    assert [each.fqcn for each in below] == ["site-1"] * 3 + ["site-1.a"] * 2
    assert below[-1].by == "site-1" and len(peers) == 2
