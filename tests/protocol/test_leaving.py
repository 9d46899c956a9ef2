"""Leaving: both sides say that they say nothing more, and then the link ends. The conversation is in ``test_peers.py``."""

from __future__ import annotations

from zdl.protocol.effects import Hang, PeerDown, Send
from zdl.protocol.leaving import leave, left
from zdl.protocol.link import Link, LinkTable, accepted
from zdl.protocol.messages import Hello, Leave, Role


def made(*, role: Role = Role.DIRECT, is_guest: bool = False) -> tuple[LinkTable, Link]:
    table = LinkTable()
    link = accepted(2, Hello("site-2", b"1" * 16, role, 2.0, (), 1), 0.0, is_guest=is_guest)
    table.add(link)
    table.name(link)
    return table, link


def test_who_leaves_says_so_and_waits() -> None:
    table, link = made()
    assert leave("site-1", table, link, "idle", 5.0) == [
        Send(2, Leave("site-1", False)), PeerDown(2, "site-2", False, "idle", Role.DIRECT, True)]
    assert link.left_at == 5.0 and table.up("site-2") is None
    assert leave("site-1", table, link, "idle", 6.0) == []
    assert left("site-1", table, link, Leave("site-2", False), 6.0) == [Send(2, Leave("site-1", True)), Hang(2)]
    assert len(table) == 0


def test_who_is_left_leaves_too_and_waits_for_the_last_word() -> None:
    table, link = made()
    assert left("site-1", table, link, Leave("site-2", False), 5.0)[0] == Send(2, Leave("site-1", False))
    assert left("site-1", table, link, Leave("site-2", True), 6.0) == [Hang(2)]


def test_links_of_the_tree_and_guests_are_not_left() -> None:
    for table, link in (made(role=Role.CHILD), made(is_guest=True)):
        assert leave("site-1", table, link, "idle", 5.0) == left("site-1", table, link, Leave("site-2", False), 5.0) == []
        assert len(table) == 1
