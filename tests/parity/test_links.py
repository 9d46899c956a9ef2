"""Parity: links, direct ones among them; who is lost, who has only stalled, and who has a name."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from zdl import Cell, LinkOptions, NoRoute, Options, PeerLost, Refused, TimedOut
from zdl.cell.watching import PeerEvent
from zdl.protocol.frames import WIRE_VERSION
from zdl.protocol.messages import Reject, Role, Welcome

from chaos import Chaos
from rawpeer import RawPeer
from trees import SCHEMES, Trees
from waiting import PATIENCE_S, eventually

ENOUGH = LinkOptions().direct_after_count
QUICK = Options(links=replace(LinkOptions(), direct_after_count=2))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def echo(cell: Cell) -> None:
    """It answers with what it was asked."""
    cell.handler("task", "echo")(lambda request: request.body)


def hops(one: Cell, other: str) -> int:
    """How many cells pass on what `other` answers."""
    return one.request(other, "zdl", "ping", timeout_s=PATIENCE_S).hops


def two_sites(trees: Trees, scheme: str = "tcp", options: Options | None = None) -> tuple[Cell, Cell, Cell]:
    """A server and two sites; all can be dialled."""
    server = trees.add(Cell("server", listen=trees.address(scheme), options=options))
    one, other = (trees.add(Cell(name, parent=server.addresses[0], listen=trees.address(scheme), options=options))
                  for name in ("site-1", "site-2"))
    return server, one, other


def becomes_direct(one: Cell, other: str) -> None:
    """Enough is said for a direct link, and it is there."""
    for _ in range(ENOUGH + 1):
        hops(one, other)
    eventually(lambda: one.tree.way(other).role == "direct", what=f"a direct link, {one.tree.way(other)}")


# --- the way ------------------------------------------------------------------------------------


@pytest.mark.row("A6")
def test_a6_a_linked_cell_then_the_longest_linked_name_above_the_target_then_the_parent(trees: Trees) -> None:
    options = Options(links=LinkOptions(direct=False))
    server, site, worker, _ = trees.grow("server", "site-1", "site-1.w0", "site-2", options=options)
    assert [site.tree.way(name).via for name in ("server", "site-1.w0", "site-1.w0.a.b", "site-2", "site-2.w0")] == [
        "server", "site-1.w0", "site-1.w0", "server", "server"]
    assert server.tree.way("site-1.w0.a").via == "site-1" and worker.tree.way("site-2").via == "site-1"
    assert [site.tree.way(name).role for name in ("site-1", "server", "site-1.w0", "site-1.ghost")] == [
        "self", "parent", "child", "none"]
    assert worker.tree.route("site-2").there == ("site-1.w0", "site-1", "server", "site-2")


@pytest.mark.row("A9")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a9_who_talks_much_to_a_far_cell_gets_a_direct_link_to_it(trees: Trees, scheme: str) -> None:
    server, one, other = two_sites(trees, scheme)
    assert hops(one, "site-2") == 1 and one.tree.way("site-2").why == f"1 of direct_after_count={ENOUGH} messages so far"
    becomes_direct(one, "site-2")
    assert hops(one, "site-2") == 0 and one.tree.way("site-2").why == ""
    eventually(lambda: hops(other, "site-1") == 0)
    assert [(each.fqcn, each.role) for each in other.peers if each.lane == "control"] == [
        ("server", "parent"), ("site-1", "direct")]
    assert {each.fqcn for each in server.peers} == {"site-1", "site-2"}


@pytest.mark.row("A9")
def test_a9_who_cannot_be_dialled_dials(trees: Trees) -> None:
    server, asker = trees.grow("server", "site-1", options=QUICK)
    other = trees.add(Cell("site-2", parent=server.addresses[0], listen="tcp://127.0.0.1:0", options=QUICK))
    becomes_direct(asker, "site-2")
    third = trees.add(Cell("site-3", parent=server.addresses[0], options=QUICK))
    becomes_direct(other, "site-3")
    assert [each.address for each in third.peers if each.fqcn == "site-2"] == [other.addresses[0]]


@pytest.mark.row("A9")
def test_a9_without_a_direct_link_the_tree_is_used_and_the_reason_known(trees: Trees) -> None:
    _, one, _ = trees.grow("server", "site-1", "site-2", options=QUICK)
    for _ in range(4):
        assert hops(one, "site-2") == 1
    why = "neither site-2 nor site-1 listens where the other could dial it"
    eventually(lambda: one.tree.way("site-2").why == why)
    assert one.tree.way("site-2").role == "parent" and hops(one, "site-2") == 1


@pytest.mark.row("A9")
def test_a9_either_side_can_do_without(trees: Trees) -> None:
    server, one, _ = two_sites(trees, options=QUICK)
    off = Options(links=LinkOptions(direct=False))
    third = trees.add(Cell("site-3", parent=server.addresses[0], listen="tcp://127.0.0.1:0", options=off))
    for _ in range(4):
        assert hops(one, "site-3") == hops(third, "site-1") == 1
    eventually(lambda: one.tree.way("site-3").why == "direct links are off in site-3")
    assert third.tree.way("site-1").why == "direct links are off in site-3"


@pytest.mark.row("A9")
def test_a9_an_idle_direct_link_is_ended_and_nothing_is_lost_with_it(trees: Trees) -> None:
    options = Options(links=replace(QUICK.links, direct_idle_s=0.3))
    _, one, other = two_sites(trees, options=options)
    becomes_direct(one, "site-2")
    other.handler("task", "slow")(lambda request: eventually(lambda: other.tree.way("site-1").role != "direct") and "done")
    assert one.request("site-2", "task", "slow", timeout_s=PATIENCE_S).body == "done", "asked directly, answered by the tree"
    assert one.tree.way("site-2").why == "nothing was sent over the direct link for 0.3 s"


@pytest.mark.row("A9")
def test_a9_a_direct_link_that_breaks_leaves_the_tree(trees: Trees) -> None:
    server = trees.add(Cell("server", listen="tcp://127.0.0.1:0", options=QUICK))
    one = trees.add(Cell("site-1", parent=server.addresses[0], options=QUICK))
    other = trees.add(Cell("site-2", parent=server.addresses[0], listen="tcp://127.0.0.1:0", options=QUICK))
    becomes_direct(one, "site-2")
    ended: list[PeerEvent] = []
    one.tree.on_peer(ended.append)
    other.close()
    eventually(lambda: [each.role for each in ended if not each.is_up])
    with pytest.raises((NoRoute, PeerLost)):
        one.request("site-2", "zdl", "ping", timeout_s=PATIENCE_S)
    trees.add(Cell("site-2", parent=server.addresses[0], options=QUICK))
    assert hops(one, "site-2") == 1


@pytest.mark.row("A11")
def test_a11_a_message_that_has_made_too_many_hops_ends_at_once(trees: Trees) -> None:
    options = Options(links=LinkOptions(hops_max=1, direct=False))
    _, _, worker, _, _ = trees.grow("server", "site-1", "site-1.w0", "site-2", "site-2.w0", options=options)
    with pytest.raises(NoRoute, match="hops_max=1 is reached") as caught:
        worker.request("site-2.w0", "zdl", "ping", timeout_s=PATIENCE_S)
    assert caught.value.at == "server"
    reply = worker.request("server", "zdl", "ping", timeout_s=PATIENCE_S, trace=True)
    assert reply.route is not None and reply.route.there == ("site-1.w0", "site-1", "server")


@pytest.mark.row("A12")
@pytest.mark.parametrize(("target", "at"), [("site-2", "server"), ("site-1.ghost", "site-1"), ("site-1.w0.ghost", "site-1.w0")])
def test_a12_who_cannot_be_reached_is_told_at_once_by_the_cell_that_could_not_go_on(trees: Trees, target: str, at: str) -> None:
    _, _, _, asker = trees.grow("server", "site-1", "site-1.w0", "site-3")
    with pytest.raises(NoRoute) as caught:
        asker.request(target, "zdl", "ping", timeout_s=None)
    assert (caught.value.target, caught.value.at) == (target, at)


# --- links --------------------------------------------------------------------------------------


@pytest.mark.row("C8")
def test_c8_a_parent_is_dialled_for_ever_and_why_it_is_not_there_is_known(trees: Trees) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    options = Options(links=LinkOptions(redial_min_s=0.01, redial_max_s=0.05))
    site = Cell("site-1", parent=f"tcp://127.0.0.1:{port}", options=options)
    with site:
        eventually(lambda: site.parent_error)
        assert f"nobody answers at tcp://127.0.0.1:{port}" in site.parent_error
        with pytest.raises(NoRoute, match="nobody answers"):
            site.request("server", "zdl", "ping", timeout_s=0.2)
        with pytest.raises(TimedOut, match="nobody answers"):
            site.wait_ready(0.1)
        trees.add(Cell("server", listen=f"tcp://127.0.0.1:{port}"))
        site.wait_ready(PATIENCE_S)
        assert site.parent_error == "" and hops(site, "server") == 0


def watched(trees: Trees, stack: ExitStack, heartbeat_s: float) -> tuple[Cell, Cell, Chaos, list[PeerEvent], list[PeerEvent]]:
    """A server and a site whose control link goes through a proxy, and what both are told of its troubles."""
    options = Options(links=LinkOptions(heartbeat_s=heartbeat_s))
    server = trees.add(Cell("server", listen="tcp://127.0.0.1:0", options=options))
    proxy = stack.enter_context(Chaos(server.addresses[0]))
    site = trees.add(Cell("site-1", parent=proxy.address, options=options))
    by_server: list[PeerEvent] = []
    by_site: list[PeerEvent] = []
    for cell, told in ((server, by_server), (site, by_site)):
        # That the link has come up may be told before this, or after.
        cell.tree.on_peer(lambda event, told=told: told.append(event) if event.why else None)  # type: ignore[misc]
    return server, site, proxy, by_server, by_site


def stall(proxy: Chaos) -> None:
    """Nothing goes through any more, and nobody is told."""
    for each in (proxy.towards, proxy.back):
        each.hold(each.passed)


@pytest.mark.row("C9")
def test_c9_a_peer_that_stalls_is_told_apart_from_one_that_is_lost(trees: Trees, stack: ExitStack) -> None:
    server, site, proxy, by_server, by_site = watched(trees, stack, 1.0)
    stall(proxy)
    for told in (by_server, by_site):
        eventually(lambda told=told: told and told[0].is_stalled)  # type: ignore[misc]
    assert by_server[0].is_up and by_server[0].fqcn == "site-1" and "nothing came for" in by_server[0].why
    assert "stalled" in {each.state for each in server.peers if each.lane == "control"}
    with pytest.raises(TimedOut, match="it is stalled: nothing came from it for"):
        server.request("site-1", "zdl", "ping", timeout_s=0.2)
    for each in (proxy.towards, proxy.back):
        each.release()
    for told in (by_server, by_site):
        eventually(lambda told=told: len(told) > 1)  # type: ignore[misc]
        assert (told[1].is_up, told[1].is_stalled, told[1].why) == (True, False, "it is heard again")
    assert hops(site, "server") == 0


@pytest.mark.row("C9")
def test_c9_a_peer_that_is_dead_is_known_in_both_directions(trees: Trees, stack: ExitStack) -> None:
    _, _, proxy, by_server, by_site = watched(trees, stack, 0.2)
    stall(proxy)
    for told in (by_server, by_site):
        lost = eventually(lambda told=told: [each for each in told if not each.is_up])[0]  # type: ignore[misc]
        silence_s = float(lost.why.removeprefix("silent for ").removesuffix(" s"))
        assert silence_s >= 0.2 * LinkOptions().dead_beats - 0.05 and not lost.is_stalled


@pytest.mark.row("C10")
@pytest.mark.fault("H25")
def test_c10_a_restarted_cell_has_its_name_at_once_where_nobody_told_of_its_end(trees: Trees, stack: ExitStack) -> None:
    server = trees.add(Cell("server", listen="tcp://127.0.0.1:0"))
    proxy = stack.enter_context(Chaos(server.addresses[0]))
    former = trees.add(Cell("site-1", parent=proxy.address))
    told: list[PeerEvent] = []
    server.tree.on_peer(told.append)
    stall(proxy)  # as if its host had vanished
    again = trees.add(Cell("site-1", parent=server.addresses[0]))
    eventually(lambda: len(told) >= 2)
    assert [(each.is_up, each.is_stalled) for each in told[:2]] == [(False, False), (True, False)]
    assert told[0].why == "it was silent when another cell came with its name", "long before its silence was noticed"
    assert again.incarnation != former.incarnation and hops(server, "site-1") == 0


@pytest.mark.row("C10")
@pytest.mark.fault("H25")
def test_c10_a_second_cell_with_a_name_that_is_alive_is_refused_and_both_are_named(trees: Trees) -> None:
    server, first = trees.grow("server", "site-1")
    with Cell("site-1", parent=server.addresses[0]) as second:
        with pytest.raises(Refused) as caught:
            second.wait_ready(PATIENCE_S)
        assert caught.value.reason == "name-taken"
        for each in (first.incarnation[:8], second.incarnation[:8], f"pid {os.getpid()} on"):
            assert each in caught.value.text
    assert hops(first, "server") == 0


@pytest.mark.row("C10")
def test_c10_another_version_is_refused_with_both_named(trees: Trees) -> None:
    (server,) = trees.grow("server")
    with RawPeer(server.addresses[0], "site-1") as peer:
        answer = peer.greet(version=WIRE_VERSION + 1)
        assert isinstance(answer, Reject) and answer.reason == "version"
        assert answer.text == f"site-1 speaks version {WIRE_VERSION + 1}, server speaks version {WIRE_VERSION}"


# --- strangers ----------------------------------------------------------------------------------


@pytest.mark.row("A9", "C10")
@pytest.mark.parametrize("name", ["site-1.w0", "site-9", "site-1"])
def test_nobody_is_let_in_directly_under_a_name_that_was_not_introduced(trees: Trees, name: str) -> None:
    server, _, worker = trees.grow("server", "site-1", "site-1.w0")
    echo(worker)
    with RawPeer(server.addresses[0], name) as stranger:
        answer = stranger.greet(role=Role.DIRECT)
        assert isinstance(answer, Reject) and answer.reason == "not-introduced"
        assert server.request("site-1.w0", "task", "echo", "secret", timeout_s=PATIENCE_S).body == "secret"


def test_a_guest_of_the_data_lane_gets_nothing_that_is_meant_for_its_name(trees: Trees) -> None:
    server, _, worker = trees.grow("server", "site-1", "site-1.w0")
    echo(worker)
    with RawPeer(server.data_addresses[0], "site-1.w0") as stranger:
        assert isinstance(stranger.greet(role=Role.DIRECT), Welcome)
        large = bytes(3 << 20)
        assert server.request("site-1.w0", "task", "echo", large, timeout_s=PATIENCE_S).body == large
        with pytest.raises(AssertionError, match="heard nothing"):
            stranger.receive(0.0)
