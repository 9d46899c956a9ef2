"""Watching: what a cell knows of its parent and its links, through real cells."""

from __future__ import annotations

import pytest

from zdl import Cell, Refused, TimedOut
from zdl.cell.watching import PeerInfo

from waiting import eventually


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
        eventually(lambda: not any(each.state == "up" for each in site.peers))


def test_a_root_is_ready_at_once() -> None:
    with Cell("server", listen="tcp://127.0.0.1:0") as server:
        server.wait_ready(timeout_s=0.001)
