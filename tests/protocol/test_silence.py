"""Silence: stalled, back, too long; and a heartbeat where nothing else was said."""

from __future__ import annotations

from zdl.options import LinkOptions
from zdl.protocol.effects import PeerBack, PeerStalled, Send
from zdl.protocol.link import Link, LinkTable, State, accepted
from zdl.protocol.messages import Heartbeat, Hello, Role
from zdl.protocol.silence import Silence

OPTIONS = LinkOptions(heartbeat_s=2.0, suspect_beats=1.5, dead_beats=3.0)


def link(*, is_guest: bool = False) -> Link:
    return accepted(2, Hello("site-1", b"1" * 16, Role.CHILD, 2.0, (), 1), 0.0, is_guest=is_guest)


def test_a_peer_stalls_once_and_is_back_once() -> None:
    made, table, one = Silence("server", OPTIONS), LinkTable(), link()
    table.add(one)
    one.said_at = 2.0
    assert made.look_at(one, 2.9) == []
    assert made.look_at(one, 3.0) == [PeerStalled(2, "site-1", False, 3.0)]
    assert made.look_at(one, 3.1) == [] and one.state is State.STALLED
    made.ended(one)
    assert made.returned(table) == [PeerBack(2, "site-1", False)]
    assert made.returned(table) == []


def test_who_has_no_name_stalls_without_a_word() -> None:
    made, one = Silence("server", OPTIONS), link(is_guest=True)
    one.said_at = 3.0
    assert made.look_at(one, 3.0) == [] and one.state is State.STALLED
    made.ended(one)
    assert made.returned(LinkTable()) == []


def test_silence_is_too_long_after_three_beats_of_the_peer() -> None:
    made, one = Silence("server", OPTIONS), link()
    assert not made.is_too_long(one, 5.9) and made.is_too_long(one, 6.0)
    one.heartbeat_s = 60.0
    assert not made.is_too_long(one, 6.0)


def test_a_heartbeat_is_said_where_nothing_else_was() -> None:
    made, one = Silence("server", OPTIONS), link()
    assert made.look_at(one, 1.9) == []
    assert made.look_at(one, 2.0) == [Send(2, Heartbeat("server"))]
    assert one.said_at == 2.0
