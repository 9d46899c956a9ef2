"""Watching: what a cell knows of its parent and its links, through real cells; and who is told when that changes."""

from __future__ import annotations

import logging
import threading

import pytest

from zdl import Busy, CallOptions, Cell, LinkOptions, Options, Refused, TimedOut
from zdl.cell.watching import CALLBACKS_MAX, EVENTS_MAX, Callbacks, PeerEvent, PeerInfo, SubtreeEvent

from trees import Trees
from waiting import PATIENCE_S, eventually


def test_both_ends_see_their_links_on_both_lanes() -> None:
    with Cell("server", listen="tcp://127.0.0.1:0") as server, Cell("site-1", parent=server.addresses[0]) as site:
        site.wait_ready()
        eventually(lambda: len(server.peers) == 2 and len(site.peers) == 2)
        eventually(lambda: all(each.state == "up" for each in site.peers))
        assert {(each.fqcn, each.lane, each.role) for each in server.peers} == {
            ("site-1", "control", "child"), ("site-1", "data", "child")}
        assert PeerInfo("server", "control", "up", "parent", server.addresses[0]) in site.peers
        assert site.parent_error == ""


def test_a_parent_that_is_not_there_is_named_with_the_cause() -> None:
    with Cell("site-1", parent="tcp://127.0.0.1:1") as site:
        with pytest.raises(TimedOut, match="nobody answers at tcp://127.0.0.1:1"):
            site.wait_ready(timeout_s=0.3)
        assert "127.0.0.1:1" in site.parent_error


def test_a_parent_that_refuses_ends_the_wait_at_once() -> None:
    with Cell("server", listen="tcp://127.0.0.1:0") as server, Cell("site-1", parent=server.addresses[0]) as site:
        site.wait_ready()
        with Cell("site-1", parent=server.addresses[0]) as second:
            with pytest.raises(Refused) as caught:
                second.wait_ready()
            assert caught.value.reason == "name-taken" and caught.value.by == "server"


def test_a_parent_that_goes_is_noted_and_its_data_link_goes_with_it() -> None:
    server = Cell("server", listen="tcp://127.0.0.1:0")
    server.start()
    with Cell("site-1", parent=server.addresses[0]) as site:
        site.wait_ready()
        server.close()
        eventually(lambda: site.parent_error != "")
        assert eventually(lambda: not any(each.state == "up" for each in site.peers))


def test_a_root_is_ready_at_once() -> None:
    with Cell("server", listen="tcp://127.0.0.1:0") as server:
        server.wait_ready(timeout_s=0.001)
        assert server.parent_error == "" and server.peers == []


# --- callbacks ------------------------------------------------------------------------------------


def test_callbacks_are_told_of_peers_and_of_everybody_below_in_order(trees: Trees) -> None:
    peers: list[PeerEvent] = []
    below: list[SubtreeEvent] = []
    server = Cell("server", listen=trees.address("tcp"))
    server.tree.on_peer(peers.append)  # before the start, so that nothing is missed
    server.tree.on_subtree(below.append)
    trees.add(server)
    site = trees.add(Cell("site-1", parent=server.addresses[0], listen=trees.address("tcp")))
    leaf = trees.add(Cell("site-1.leaf", parent=site.addresses[0]))
    eventually(lambda: len(below) == 2)
    leaf.close()
    eventually(lambda: len(below) == 3)
    site.close()
    eventually(lambda: len(below) == 4 and len(peers) == 2)
    why = "it said goodbye: closed"
    assert peers == [PeerEvent("site-1", True, "", "child"), PeerEvent("site-1", False, why, "child")]
    assert below == [SubtreeEvent("site-1", True, "", "site-1"), SubtreeEvent("site-1.leaf", True, "", "site-1"),
                     SubtreeEvent("site-1.leaf", False, why, "site-1"), SubtreeEvent("site-1", False, why, "site-1")]


def test_a_child_hears_of_its_parent(trees: Trees) -> None:
    server = trees.add(Cell("server", listen=trees.address("tcp")))
    site = Cell("site-1", parent=server.addresses[0])
    heard: list[PeerEvent] = []
    site.tree.on_peer(heard.append)
    trees.add(site)
    server.close()
    eventually(lambda: len(heard) == 2)
    assert [(each.fqcn, each.is_up, each.role) for each in heard] == [("server", True, "parent"), ("server", False, "parent")]


def test_what_is_behind_a_lost_child_is_told_with_the_reason(trees: Trees) -> None:
    server = trees.add(Cell("server", listen=trees.address("tcp")))
    site = trees.add(Cell("site-1", parent=server.addresses[0], listen=trees.address("tcp")))
    trees.add(Cell("site-1.leaf", parent=site.addresses[0]))
    eventually(lambda: server.tree.below_count == 2)
    told: list[SubtreeEvent] = []
    server.tree.on_subtree(told.append)  # it may still hear that the leaf came up
    site.close()
    eventually(lambda: len([each for each in told if not each.is_up]) == 2)
    assert {each.fqcn: each.why for each in told if not each.is_up} == {
        "site-1": "it said goodbye: closed", "site-1.leaf": "it is behind site-1: it said goodbye: closed"}


def test_a_callback_may_ask_other_cells_and_is_called_on_no_loop(trees: Trees) -> None:
    server = trees.add(Cell("server", listen=trees.address("tcp")))
    found: list[tuple[str, bool]] = []

    def ask(event: SubtreeEvent) -> None:
        found.append((threading.current_thread().name, bool(server.tree.is_reachable(event.fqcn, PATIENCE_S))))

    server.tree.on_subtree(ask)
    trees.add(Cell("site-1", parent=server.addresses[0]))
    eventually(lambda: found)
    assert found == [("zdl-watch-server-0", True)]


def test_a_callback_that_is_taken_back_is_called_no_more(trees: Trees) -> None:
    server = trees.add(Cell("server", listen=trees.address("tcp")))
    gone: list[PeerEvent] = []
    stays: list[PeerEvent] = []
    take_back = server.tree.on_peer(gone.append)
    server.tree.on_peer(stays.append)
    trees.add(Cell("a", parent=server.addresses[0]))
    eventually(lambda: gone and stays)
    take_back()
    take_back()
    trees.add(Cell("b", parent=server.addresses[0]))
    eventually(lambda: len(stays) == 2)
    assert [each.fqcn for each in gone] == ["a"] and len(server.tree.callbacks.peers) == 1


def test_a_callback_that_raises_is_logged_and_called_again(trees: Trees, caplog: pytest.LogCaptureFixture) -> None:
    server = trees.add(Cell("server", listen=trees.address("tcp")))
    called: list[str] = []

    def fail(event: PeerEvent) -> None:
        called.append(event.fqcn)
        raise SystemExit(event.fqcn)

    server.tree.on_peer(fail)
    with caplog.at_level(logging.WARNING, "zdl.cell"):
        for name in ("a", "b"):
            trees.add(Cell(name, parent=server.addresses[0]))
        eventually(lambda: called == ["a", "b"])
        eventually(lambda: "a callback raised for b" in caplog.text)
    assert "SystemExit: a" in caplog.text


def test_a_full_table_is_logged(trees: Trees, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "zdl.cell"):
        trees.grow("server", "a", "b", options=Options(links=LinkOptions(subtree_max=1)))
        assert eventually(lambda: "links.subtree_max=1" in caplog.text)


def test_one_slow_callback_holds_up_no_other_and_hears_how_many_events_it_missed() -> None:
    callbacks = Callbacks("server", CallOptions())
    go = threading.Event()
    slow: list[PeerEvent] = []
    quick: list[PeerEvent] = []

    def wait(event: PeerEvent) -> None:
        assert go.wait(PATIENCE_S)
        slow.append(event)

    callbacks.peers.add(wait)
    callbacks.peers.tell(PeerEvent("first", True, "", "child"))
    callbacks.peers.add(quick.append)
    callbacks.peers.tell(PeerEvent("second", True, "", "child"))
    eventually(lambda: [each.fqcn for each in quick] == ["second"])
    for number in range(EVENTS_MAX + 5):
        callbacks.peers.tell(PeerEvent(f"n{number}", True, "", "child"))
    go.set()
    eventually(lambda: len(slow) > EVENTS_MAX)
    callbacks.peers.tell(PeerEvent("last", True, "", "child"))
    eventually(lambda: slow[-1].fqcn == "last")
    assert slow[-1].missed_count >= 5 and not any(each.missed_count for each in slow[:-1])
    assert callbacks.close(PATIENCE_S) == []
    callbacks.peers.tell(PeerEvent("late", True, "", "child"))


def test_closing_says_which_callbacks_are_still_running() -> None:
    callbacks = Callbacks("server", CallOptions())
    begun, go = threading.Event(), threading.Event()

    def wait(event: SubtreeEvent) -> None:
        begun.set()
        assert go.wait(PATIENCE_S)

    callbacks.subtree.add(wait)
    callbacks.subtree.tell(SubtreeEvent("a", True, "", "a"))
    assert begun.wait(PATIENCE_S)
    assert callbacks.close(0.0) == ["1 callbacks are still running"]
    go.set()


def test_there_are_so_many_callbacks_and_no_more() -> None:
    callbacks = Callbacks("server", CallOptions())
    added = [callbacks.peers.add(print) for _ in range(CALLBACKS_MAX)]
    with pytest.raises(Busy) as caught:
        callbacks.peers.add(print)
    assert (caught.value.limit, caught.value.value) == ("CALLBACKS_MAX", CALLBACKS_MAX)
    added[0]()
    callbacks.peers.add(print)
