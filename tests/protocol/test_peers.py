"""Peers: links greet, live, fall silent, are replaced, and are dialled again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from zdl.errors import PeerLost, Refused, TimedOut
from zdl.options import LinkOptions
from zdl.protocol.effects import (
    Dial,
    DialFailed,
    Effect,
    Hang,
    PeerBack,
    PeerDown,
    PeerStalled,
    PeerUp,
    Send,
    SideDown,
    SideUp,
    Unreachable,
)
from zdl.protocol.frames import WIRE_VERSION
from zdl.protocol.link import Self, State
from zdl.protocol.messages import Goodbye, Heartbeat, Hello, Leave, Reject, Role, Welcome
from zdl.protocol.peers import Peers
from zdl.protocol.redial import CLOSED

OPTIONS = LinkOptions(heartbeat_s=2.0, hello_timeout_s=3.0, redial_min_s=0.1, redial_max_s=1.0, peers_max=3,
                      challenge_s=1.0)
ONE, OTHER = b"1" * 16, b"2" * 16
SERVER = Self("server", ONE, ("tcp://server:2",))
SITE = Self("site-1", b"\xff" * 16, ("tcp://site-1:2",))


def shown(effects: Sequence[Effect]) -> list[str]:
    """Effects with errors in them are compared as they are written: errors are equal only to themselves."""
    return [repr(each) for each in effects]


def hello(origin: str, incarnation: bytes = ONE, *, role: Role = Role.CHILD, heartbeat_s: float = 2.0,
          version: int = WIRE_VERSION) -> Hello:
    return Hello(origin, incarnation, role, heartbeat_s, (f"tcp://{origin}:2",), version)


def server(*, watches: bool = True, options: LinkOptions = OPTIONS) -> Peers:
    return Peers(SERVER, options, watches=watches)


def server_with(origin: str, link: int = 2, *, watches: bool = True) -> Peers:
    """A server with one link that is up since 0 s."""
    peers = server(watches=watches)
    peers.receive(link, hello(origin), 0.0)
    return peers


def site(*, is_up: bool = True, watches: bool = True) -> Peers:
    """A site that has dialled its parent at 0 s; the parent has welcomed it, or not yet."""
    peers = Peers(SITE, OPTIONS, watches=watches)
    peers.dial_parent("tcp://server:1", 0.0)
    if is_up:
        peers.receive(1, Welcome("server", ONE, 2.0, ("tcp://server:2",)), 0.0)
    return peers


# --- greeting -----------------------------------------------------------------------------------


def test_dialling_the_parent_opens_a_connection_and_says_hello() -> None:
    peers = Peers(SITE, OPTIONS, watches=True)
    assert not peers.has_parent
    assert peers.dial_parent("tcp://server:1", 0.0) == [
        Dial(1, "tcp://server:1"),
        Send(1, Hello("site-1", b"\xff" * 16, Role.CHILD, 2.0, ("tcp://site-1:2",), WIRE_VERSION))]
    assert peers.has_parent
    assert peers.up("server") is None
    assert peers.deadline() == 3.0
    peers.check()


def test_dialling_a_cell_directly_says_hello_as_a_direct_peer() -> None:
    peers = Peers(SITE, OPTIONS, watches=False)
    link, effects = peers.dial("tcp://site-2:2", expected="site-2", now=0.0)
    assert (link, effects) == (1, [
        Dial(1, "tcp://site-2:2"),
        Send(1, Hello("site-1", b"\xff" * 16, Role.DIRECT, 2.0, ("tcp://site-1:2",), WIRE_VERSION))])
    assert not peers.has_parent


def test_a_hello_is_welcomed_and_the_link_is_up() -> None:
    peers = server()
    assert peers.receive(2, hello("site-1"), 1.0) == [
        Send(2, Welcome("server", ONE, 2.0, ("tcp://server:2",))),
        PeerUp(2, "site-1", False, Role.CHILD, ("tcp://site-1:2",))]
    up = peers.up("site-1")
    assert up is not None and (up.link, up.state, up.incarnation) == (2, State.UP, ONE)
    assert peers.link(2) is up and peers.links() == (up,)
    peers.check()


def test_a_welcome_makes_the_link_to_the_parent_up() -> None:
    peers = site(is_up=False)
    assert peers.receive(1, Welcome("server", ONE, 2.0, ("tcp://server:2",)), 0.5) == [
        PeerUp(1, "server", True, Role.CHILD, ("tcp://server:2",))]
    assert peers.redial.error is None
    peers.check()


def test_a_doubled_hello_is_welcomed_again_and_changes_nothing() -> None:
    peers = server_with("site-1")
    assert peers.receive(2, hello("site-1"), 1.0) == [Send(2, Welcome("server", ONE, 2.0, ("tcp://server:2",)))]


def test_a_doubled_or_unasked_welcome_changes_nothing() -> None:
    assert site().receive(1, Welcome("server", ONE, 2.0, ()), 1.0) == []
    assert server().receive(2, Welcome("site-1", ONE, 2.0, ()), 1.0) == []


def test_a_peer_that_claims_no_heartbeat_gets_the_shortest_one_there_is() -> None:
    peers = server()
    peers.receive(2, hello("site-1", heartbeat_s=0.0), 0.0)
    known = peers.link(2)
    assert known is not None and known.heartbeat_s == 0.01


@pytest.mark.fault("H21")
@pytest.mark.parametrize("heartbeat_s", [61.0, 3e8, float("inf")])
def test_h21_a_peer_that_claims_to_be_silent_for_ever_is_dropped_for_silence(heartbeat_s: float) -> None:
    peers = server()
    peers.receive(2, hello("site-1", heartbeat_s=heartbeat_s), 0.0)
    peers.tick(179.0)
    assert peers.up("site-1") is not None
    assert PeerDown(2, "site-1", False, "silent for 180.0 s") in peers.tick(180.0)
    other = site(is_up=False)
    other.receive(1, Welcome("server", ONE, heartbeat_s, ()), 0.0)
    known = other.link(1)
    assert known is not None and known.heartbeat_s == 60.0


# --- refusals -----------------------------------------------------------------------------------


def refusal(peers: Peers, link: int, message: Hello, now: float = 1.0) -> tuple[str, str]:
    """The reason and text with which the link is refused and closed, and nothing else happens."""
    first, *rest = peers.receive(link, message, now)
    assert isinstance(first, Send) and isinstance(first.message, Reject)
    assert rest == [Hang(link)]
    peers.check()
    return first.message.reason, first.message.text


def test_another_version_is_refused_with_both_versions_named() -> None:
    reason, text = refusal(server(), 2, hello("site-1", version=9))
    assert (reason, text) == ("version", f"site-1 speaks version 9, server speaks version {WIRE_VERSION}")


def test_my_own_name_is_refused() -> None:
    assert refusal(server(), 2, hello("server"))[0] == "name-taken"


def test_a_child_that_is_not_below_is_refused_with_the_name_that_would_be() -> None:
    peers = Peers(SITE, OPTIONS, watches=True)
    reason, text = refusal(peers, 2, hello("site-2.job"))
    assert (reason, text) == ("not-below", "site-2.job is not a name below site-1; name it site-1.job")


def test_a_direct_peer_of_the_control_lane_may_have_any_name_for_it_was_introduced() -> None:
    peers = Peers(SITE, OPTIONS, watches=True)
    assert peers.receive(2, hello("site-2", role=Role.DIRECT), 0.0)[-1] == PeerUp(
        2, "site-2", False, Role.DIRECT, ("tcp://site-2:2",))


def test_on_the_data_lane_another_incarnation_is_refused_while_the_incumbent_is_up() -> None:
    peers = server_with("site-1", watches=False)
    reason, text = refusal(peers, 4, hello("site-1", OTHER))
    assert (reason, text) == (
        "name-taken",
        f"another site-1 (incarnation {ONE.hex()[:8]}) is connected to server; "
        f"yours is incarnation {OTHER.hex()[:8]}")
    up = peers.up("site-1")
    assert up is not None and up.link == 2


def test_another_incarnation_replaces_an_incumbent_that_has_stalled() -> None:
    peers = server_with("site-1")
    peers.tick(3.0)
    assert peers.receive(4, hello("site-1", OTHER), 3.1) == [
        Send(2, Goodbye("server", "it connected again")), Hang(2),
        PeerDown(2, "site-1", False, "it connected again"),
        Send(4, Welcome("server", ONE, 2.0, ("tcp://server:2",))),
        PeerUp(4, "site-1", False, Role.CHILD, ("tcp://site-1:2",))]
    peers.check()


def test_on_the_data_lane_another_incarnation_has_the_name_as_soon_as_the_old_link_has_ended() -> None:
    peers = server_with("site-1", watches=False)
    assert refusal(peers, 4, hello("site-1", OTHER), 1e6)[0] == "name-taken"
    peers.hang(2, "silent for 6.0 s", 1e6)
    assert peers.receive(6, hello("site-1", OTHER), 1e6)[-1] == PeerUp(
        6, "site-1", False, Role.CHILD, ("tcp://site-1:2",))


def test_the_same_incarnation_on_a_new_link_replaces_the_old_one_and_the_old_one_is_told() -> None:
    peers = server_with("site-1")
    assert peers.receive(4, hello("site-1"), 0.1) == [
        Send(2, Goodbye("server", "it connected again")), Hang(2),
        PeerDown(2, "site-1", False, "it connected again"),
        Send(4, Welcome("server", ONE, 2.0, ("tcp://server:2",))),
        PeerUp(4, "site-1", False, Role.CHILD, ("tcp://site-1:2",))]


def test_a_link_cannot_change_its_owner() -> None:
    peers = server_with("site-1")
    assert peers.receive(2, hello("site-2", OTHER), 0.1) == [
        Send(2, Reject("server", "not-allowed", "this link belongs to site-1")), Hang(2),
        PeerDown(2, "site-1", False, "server refused (not-allowed): this link belongs to site-1")]
    assert peers.links() == ()


def test_a_hello_in_place_of_a_welcome_ends_the_greeting() -> None:
    peers = site(is_up=False)
    first, *rest = peers.receive(1, hello("site-1.job"), 0.1)
    assert isinstance(first, Send) and isinstance(first.message, Reject)
    assert [type(each) for each in rest] == [Hang, DialFailed]
    peers.check()


def test_no_more_links_than_the_limit_are_accepted_but_a_known_cell_may_come_back() -> None:
    peers = server()
    for index in range(3):
        peers.receive(2 + 2 * index, hello(f"site-{index}"), 0.0)
    reason, text = refusal(peers, 8, hello("site-3"))
    assert (reason, text) == ("busy", "server has peers_max=3 links")
    assert peers.receive(10, hello("site-0"), 0.1)[-1] == PeerUp(10, "site-0", False, Role.CHILD, ("tcp://site-0:2",))


def test_the_wrong_cell_at_an_address_is_told_goodbye() -> None:
    peers = Peers(SITE, OPTIONS, watches=False)
    link, _ = peers.dial("tcp://h:1", expected="site-2", now=0.0)
    wrong = Refused(by="site-3", reason="wrong-cell", text="tcp://h:1 is not site-2")
    assert shown(peers.receive(link, Welcome("site-3", ONE, 2.0, ()), 0.1)) == shown([
        Send(1, Goodbye("site-1", "wrong-cell")), Hang(1), DialFailed(1, "tcp://h:1", wrong)])
    assert peers.links() == ()


def test_of_two_direct_links_that_cross_the_one_that_the_lesser_name_dialled_stays() -> None:
    lesser, greater = Self("site-1", ONE), Self("site-2", OTHER)
    for hello_is_late in (False, True):
        one, other = Peers(lesser, OPTIONS, watches=True), Peers(greater, OPTIONS, watches=True)
        one.dial("tcp://site-2:2", expected="site-2", now=0.0)
        other.dial("tcp://site-1:2", expected="site-1", now=0.0)
        other.receive(2, hello("site-1", ONE, role=Role.DIRECT), 0.1)
        if hello_is_late:
            one.receive(1, Welcome("site-2", OTHER, 2.0, ()), 0.2)
            assert refusal(one, 2, hello("site-2", OTHER, role=Role.DIRECT)) == (
                "crossed", "site-1 has a link to site-2 already")
            refused = Refused(by="site-1", reason="crossed", text="")
            assert shown(other.receive(1, Reject("site-1", "crossed", ""), 0.3)) == shown([
                Hang(1), DialFailed(1, "tcp://site-1:2", refused)])
        else:
            one.receive(2, hello("site-2", OTHER, role=Role.DIRECT), 0.1)
            assert PeerDown(2, "site-2", False, "another link took its place", Role.DIRECT) in one.receive(
                1, Welcome("site-2", OTHER, 2.0, ()), 0.2)
            assert [type(each) for each in other.receive(1, Welcome("site-1", ONE, 2.0, ()), 0.2)] == [
                Send, Hang, DialFailed]
        assert [link.link for link in one.links()] == [1]
        assert [link.link for link in other.links()] == [2]


def test_a_link_that_is_dialled_replaces_one_that_was_accepted_from_the_same_cell() -> None:
    peers = Peers(SITE, OPTIONS, watches=True)
    link, _ = peers.dial("tcp://h:1", expected="site-2", now=0.0)
    peers.receive(2, hello("site-2", role=Role.DIRECT), 0.1)
    assert peers.receive(link, Welcome("site-2", ONE, 2.0, ()), 0.2) == [
        Send(2, Goodbye("site-1", "another link took its place")), Hang(2),
        PeerDown(2, "site-2", False, "another link took its place", Role.DIRECT),
        PeerUp(1, "site-2", False, Role.DIRECT, ())]
    peers.check()


def test_a_reject_ends_the_greeting_and_the_parent_is_dialled_again() -> None:
    peers = site(is_up=False)
    refused = Refused(by="server", reason="name-taken", text="another site-1")
    assert shown(peers.receive(1, Reject("server", "name-taken", "another site-1"), 1.0)) == shown([
        Hang(1), DialFailed(1, "tcp://server:1", refused)])
    assert peers.redial.why(1.0) == "server refused (name-taken): another site-1"
    assert peers.deadline() == pytest.approx(1.1)
    assert peers.tick(1.2)[0] == Dial(3, "tcp://server:1")
    peers.check()


def test_a_reject_ends_a_link_that_is_up() -> None:
    peers = site()
    assert peers.receive(1, Reject("server", "not-ready", "say HELLO first"), 1.0) == [
        Hang(1), PeerDown(1, "server", True, "server refused (not-ready): say HELLO first")]
    assert server().receive(2, Reject("site-1", "not-ready", ""), 1.0) == []


# --- the end of a link --------------------------------------------------------------------------


def test_a_broken_connection_is_down_at_once() -> None:
    peers = server_with("site-1")
    assert peers.broken(2, "the connection was closed", 1.0) == [
        Hang(2), PeerDown(2, "site-1", False, "the connection was closed")]
    assert peers.up("site-1") is None
    assert peers.broken(2, "again", 1.1) == []
    peers.check()


def test_a_connection_that_breaks_while_greeting_has_failed() -> None:
    peers = site(is_up=False)
    lost = PeerLost(target="tcp://server:1", lost="tcp://server:1", at="site-1", why="nobody answers")
    assert shown(peers.broken(1, "nobody answers", 0.5)) == shown([Hang(1), DialFailed(1, "tcp://server:1", lost)])
    link, _ = peers.dial("tcp://h:1", expected="site-2", now=0.5)
    named = PeerLost(target="site-2", lost="tcp://h:1", at="site-1", why="nobody answers")
    assert shown(peers.broken(link, "nobody answers", 0.6)) == shown([Hang(link), DialFailed(link, "tcp://h:1", named)])


def test_a_goodbye_ends_the_link_and_one_from_a_stranger_nothing() -> None:
    peers = site()
    assert peers.receive(1, Goodbye("server", "closed"), 1.0) == [
        Hang(1), PeerDown(1, "server", True, "it said goodbye: closed")]
    assert peers.receive(1, Goodbye("server", "closed"), 1.0) == []
    assert str(peers.redial.error) == "server is lost, says site-1: it said goodbye: closed"


def test_a_goodbye_ends_the_greeting_too() -> None:
    peers = site(is_up=False)
    lost = PeerLost(target="tcp://server:1", lost="tcp://server:1", at="site-1", why="it said goodbye: closed")
    assert shown(peers.receive(1, Goodbye("server", "closed"), 1.0)) == shown([
        Hang(1), DialFailed(1, "tcp://server:1", lost)])
    assert peers.receive(1, Welcome("server", ONE, 2.0, ()), 1.1) == []


def test_hanging_up_says_goodbye_first() -> None:
    peers = server_with("site-1")
    assert peers.hang(2, "idle", 1.0) == [
        Send(2, Goodbye("server", "idle")), Hang(2), PeerDown(2, "site-1", False, "idle")]
    assert peers.hang(2, "idle", 1.0) == []


def test_a_welcome_that_does_not_come_in_time_is_given_up() -> None:
    peers = site(is_up=False)
    assert peers.tick(2.9) == []
    late = TimedOut(what="the welcome", address="tcp://server:1", waited_s=3.0)
    assert shown(peers.tick(3.0)) == shown([Hang(1), DialFailed(1, "tcp://server:1", late)])
    assert peers.deadline() == pytest.approx(3.1)


def test_a_direct_link_that_fails_is_not_dialled_again() -> None:
    peers = Peers(SITE, OPTIONS, watches=False)
    link, _ = peers.dial("tcp://h:1", expected="site-2", now=0.0)
    peers.broken(link, "nobody answers", 0.1)
    assert peers.tick(100.0) == []
    assert peers.deadline() is None


def test_a_lost_parent_is_dialled_again_for_ever_with_a_growing_pause() -> None:
    peers = site()
    peers.broken(1, "the connection was closed", 10.0)
    dialled = []
    now = 10.0
    while len(dialled) < 6:
        now = max(now, peers.deadline() or 0.0)
        for each in peers.tick(now):
            if isinstance(each, Dial):
                dialled.append((each.link, round(now, 6)))
                peers.broken(each.link, "nobody answers", now)
                peers.check()
    assert dialled == [(3, 10.1), (5, 10.3), (7, 10.7), (9, 11.5), (11, 12.5), (13, 13.5)]


def test_a_parent_that_is_back_is_dialled_after_the_shortest_pause_the_next_time() -> None:
    peers = site(watches=False)
    for now, link in ((10.0, 1), (20.0, 3)):
        peers.broken(link, "the connection was closed", now)
        assert peers.tick(now + 0.09) == []
        assert peers.tick(now + 0.11)[0] == Dial(link + 2, "tcp://server:1")
        peers.receive(link + 2, Welcome("server", ONE, 2.0, ()), now + 0.3)


def test_a_parent_at_a_new_address_is_dialled_once_and_the_old_link_is_dropped() -> None:
    peers = site()
    effects = peers.dial_parent("tcp://server:9", 1.0)
    assert effects[:4] == [
        Send(1, Goodbye("site-1", "the parent has a new address")), Hang(1),
        PeerDown(1, "server", True, "the parent has a new address"), Dial(3, "tcp://server:9")]
    peers.check()
    later = [each for now in (1.2, 1.5, 2.0) for each in peers.tick(now)]
    assert not any(isinstance(each, Dial) for each in later), "it is dialled already"
    peers.receive(3, Welcome("server", ONE, 2.0, ()), 2.1)
    peers.check()


def test_a_parent_that_moves_while_it_is_dialled_is_dialled_at_its_new_address() -> None:
    peers = site(is_up=False)
    assert [type(each) for each in peers.dial_parent("tcp://server:9", 1.0)] == [Send, Hang, Dial, Send]
    assert [link.address for link in peers.links()] == ["tcp://server:9"]
    peers.check()


def test_a_parent_that_closes_is_dialled_later_than_one_that_ends_the_link() -> None:
    firsts = []
    for why in ("nothing came over it", CLOSED):
        peers = site()
        peers.receive(1, Goodbye("server", why), 1.0)
        firsts.append(peers.redial.at)
        peers.check()
    assert firsts == [1.0 + OPTIONS.redial_min_s, 1.0 + OPTIONS.redial_min_s * 8]


def test_a_lane_that_rests_dials_its_parent_no_more_until_it_is_told() -> None:
    peers = site()
    peers.redial.rest()
    peers.broken(1, "cut", 1.0)
    peers.check()
    assert not any(isinstance(each, Dial) for now in (2.0, 20.0, 200.0) for each in peers.tick(now))
    assert any(isinstance(each, Dial) for each in peers.dial_parent("tcp://server:9", 201.0))
    peers.check()


def test_closing_says_goodbye_to_those_who_are_up_and_dials_no_more() -> None:
    peers = site()
    peers.receive(2, hello("site-1.job"), 0.0)
    peers.dial("tcp://h:1", expected="site-2", now=0.0)
    assert peers.close(1.0) == [
        Send(1, Goodbye("site-1", "closed")), Hang(1), Send(2, Goodbye("site-1", "closed")), Hang(2), Hang(3)]
    assert (peers.links(), peers.deadline(), peers.tick(100.0)) == ((), None, [])
    assert peers.broken(1, "late", 2.0) == []
    peers.check()


# --- silence ------------------------------------------------------------------------------------


def test_a_heartbeat_is_said_when_nothing_else_was_for_as_long() -> None:
    peers = server_with("site-1")
    assert peers.tick(1.9) == []
    assert peers.tick(2.0) == [Send(2, Heartbeat("server"))]
    assert peers.tick(2.1) == []
    peers.heard(2, 3.9)
    peers.said(2, 3.9)
    peers.said(99, 3.9)
    assert peers.tick(4.0) == []


def test_a_heartbeat_needs_no_answer_and_is_a_sign_of_life() -> None:
    peers = server_with("site-1")
    peers.tick(3.5)
    known = peers.link(2)
    assert known is not None and known.state is State.STALLED
    assert peers.receive(2, Heartbeat("site-1"), 3.6) == []
    assert (known.state, known.heard_at) == (State.UP, 3.6)
    assert peers.deadline() == 3.6, "who is back is told at once"
    assert peers.tick(3.6) == [PeerBack(2, "site-1", False)]
    assert peers.tick(3.7) == []


def test_a_heartbeat_that_asks_is_answered_at_once() -> None:
    assert site().receive(1, Heartbeat("server", True), 1.0) == [Send(1, Heartbeat("site-1"))]
    assert site(is_up=False).receive(1, Heartbeat("server", True), 1.0) == []
    assert server().receive(2, Heartbeat("site-1", True), 1.0) == []


def test_a_peer_that_is_lost_before_anybody_could_be_told_that_it_is_back_is_not_back() -> None:
    peers = server_with("site-1")
    peers.tick(3.5)
    peers.heard(2, 3.6)
    peers.broken(2, "closed", 3.6)
    assert peers.tick(3.6) == []


def test_a_silent_peer_is_first_stalled_and_then_down() -> None:
    peers = server_with("site-1")
    assert peers.tick(2.9) == [Send(2, Heartbeat("server"))]
    known = peers.link(2)
    assert known is not None and known.state is State.UP
    assert peers.tick(3.0) == [PeerStalled(2, "site-1", False, 3.0)]
    assert known.state is State.STALLED
    assert peers.tick(3.5) == [], "it is told once"
    assert peers.tick(6.0) == [
        Send(2, Goodbye("server", "silent for 6.0 s")), Hang(2), PeerDown(2, "site-1", False, "silent for 6.0 s")]
    peers.check()


def test_a_dead_peer_is_known_within_three_and_a_half_of_its_heartbeats() -> None:
    peers = server_with("site-1")
    died_at, now = 1.37, 0.0
    peers.heard(2, died_at)
    while peers.link(2) is not None:
        deadline = peers.deadline()
        assert deadline is not None and deadline > now
        now = deadline
        peers.tick(now)
    assert now - died_at <= 3.5 * 2.0


def test_each_peer_is_measured_by_its_own_heartbeat() -> None:
    peers = server()
    peers.receive(2, hello("slow", heartbeat_s=60.0), 0.0)
    peers.receive(4, hello("quick", heartbeat_s=0.5), 0.0)
    assert PeerDown(4, "quick", False, "silent for 1.5 s") in peers.tick(1.5)
    assert peers.up("slow") is not None


def test_on_the_data_lane_silence_means_nothing() -> None:
    peers = server_with("site-1", watches=False)
    assert (peers.deadline(), peers.tick(1e6)) == (None, [])
    assert peers.up("site-1") is not None


def test_links_that_come_and_go_all_the_time_do_not_put_off_the_heartbeats() -> None:
    peers = server_with("site-1")
    first = peers.deadline()
    for index in range(100):
        peers.receive(4 + 2 * index, hello("site-2"), 0.01 * index)
    assert first == 0.5 == peers.deadline()


def test_a_frame_from_a_link_that_is_not_welcomed_is_no_sign_of_life() -> None:
    assert server().heard(2, 1.0) is None
    assert site(is_up=False).heard(1, 1.0) is None


# --- two lives of one name ----------------------------------------------------------------------


def challenged() -> Peers:
    """A server whose site-1, up since 0 s on link 2, is challenged at 1 s by another life of it on link 4."""
    peers = server_with("site-1")
    assert peers.receive(4, hello("site-1", OTHER), 1.0) == [Send(2, Heartbeat("server", True))]
    peers.check()
    return peers


def test_an_incumbent_that_answers_keeps_its_name_and_the_newcomer_is_told_both_sides() -> None:
    peers = server()
    peers.receive(2, Hello("site-1", ONE, Role.CHILD, 2.0, (), WIRE_VERSION, "pid 1 on a"), 0.0)
    peers.receive(4, Hello("site-1", OTHER, Role.CHILD, 2.0, (), WIRE_VERSION, "pid 2 on b"), 1.0)
    assert peers.receive(2, Heartbeat("site-1"), 1.1) == []
    assert peers.deadline() == 1.1, "the newcomer does not wait for its time to be over"
    text = (f"another site-1 (incarnation {ONE.hex()[:8]}, pid 1 on a) is connected to server; "
            f"yours is incarnation {OTHER.hex()[:8]}, pid 2 on b")
    assert peers.tick(1.1) == [Send(4, Reject("server", "name-taken", text)), Hang(4)]
    up = peers.up("site-1")
    assert up is not None and (up.link, up.state) == (2, State.UP)
    peers.check()


def test_an_incumbent_that_is_silent_makes_way_within_the_time_of_the_challenge() -> None:
    peers = challenged()
    assert peers.tick(1.5) == []
    deadline = peers.deadline()
    assert deadline is not None and deadline <= 2.0
    why = "it was silent when another cell came with its name"
    assert peers.tick(2.0) == [
        Send(2, Goodbye("server", why)), Hang(2), PeerDown(2, "site-1", False, why),
        Send(4, Welcome("server", ONE, 2.0, ("tcp://server:2",))),
        PeerUp(4, "site-1", False, Role.CHILD, ("tcp://site-1:2",))]
    peers.check()


def test_an_incumbent_whose_link_breaks_makes_way_at_once() -> None:
    peers = challenged()
    assert peers.broken(2, "closed", 1.2)[-1] == PeerUp(4, "site-1", False, Role.CHILD, ("tcp://site-1:2",))
    peers.check()


def test_a_newcomer_that_goes_away_leaves_the_incumbent_in_peace() -> None:
    peers = challenged()
    assert peers.broken(4, "closed", 1.2) == []
    assert peers.tick(2.5) == [Send(2, Heartbeat("server"))]
    up = peers.up("site-1")
    assert up is not None and up.state is State.UP
    peers.check()


def test_a_doubled_hello_of_the_newcomer_changes_nothing_and_another_link_of_it_takes_its_place() -> None:
    peers = challenged()
    assert peers.receive(4, hello("site-1", OTHER), 1.1) == []
    assert peers.receive(6, hello("site-1", OTHER), 1.2) == [Hang(4)]
    assert peers.tick(2.0)[-1] == PeerUp(6, "site-1", False, Role.CHILD, ("tcp://site-1:2",))


def test_of_several_newcomers_the_last_one_waits() -> None:
    peers = challenged()
    first, *rest = peers.receive(6, hello("site-1", b"3" * 16), 1.1)
    assert isinstance(first, Send) and first.link == 4 and isinstance(first.message, Reject) and rest == [Hang(4)]
    assert peers.tick(2.0)[-1] == PeerUp(6, "site-1", False, Role.CHILD, ("tcp://site-1:2",))


def test_an_incumbent_that_connects_again_is_alive() -> None:
    peers = challenged()
    effects = peers.receive(6, hello("site-1", ONE), 1.1)
    assert isinstance(effects[0], Send) and effects[0].link == 4 and isinstance(effects[0].message, Reject)
    assert effects[-1] == PeerUp(6, "site-1", False, Role.CHILD, ("tcp://site-1:2",))
    assert not any(isinstance(each, PeerUp) and each.link == 4 for each in effects)
    peers.check()


def test_a_cell_that_closes_lets_go_of_who_waits() -> None:
    assert challenged().close(1.5) == [Send(2, Goodbye("server", "closed")), Hang(2), Hang(4)]


# --- direct links -------------------------------------------------------------------------------


def direct(*, watches: bool = True) -> Peers:
    """site-1, which has dialled site-2 directly, on link 1."""
    peers = Peers(SITE, OPTIONS, watches=watches)
    peers.dial("tcp://site-2:1", expected="site-2", now=0.0, token=b"t" * 16)
    peers.receive(1, Welcome("site-2", OTHER, 2.0, ()), 0.1)
    return peers


def test_the_token_of_an_introduction_is_said_in_the_hello() -> None:
    peers = Peers(Self("site-1", ONE, place="pid 7 on h"), OPTIONS, watches=True)
    _, effects = peers.dial("tcp://site-2:1", expected="site-2", now=0.0, token=b"t" * 16)
    assert effects[1] == Send(1, Hello("site-1", ONE, Role.DIRECT, 2.0, (), WIRE_VERSION, "pid 7 on h", b"t" * 16))


def test_a_direct_link_is_left_without_losing_a_word() -> None:
    one, other = direct(), Peers(Self("site-2", OTHER), OPTIONS, watches=True)
    other.receive(2, hello("site-1", role=Role.DIRECT), 0.0)
    assert one.leave(1, "idle", 1.0) == [
        Send(1, Leave("site-1", False)), PeerDown(1, "site-2", False, "idle", Role.DIRECT, True)]
    assert one.up("site-2") is None and one.heard(1, 1.0) is not None, "what is on its way is still heard"
    one.check()
    assert other.receive(2, Leave("site-1", False), 1.1) == [
        Send(2, Leave("site-2", False)),
        PeerDown(2, "site-1", False, "the other side has left the direct link", Role.DIRECT, True)]
    assert one.receive(1, Leave("site-2", False), 1.2) == [Send(1, Leave("site-1", True)), Hang(1)]
    assert other.receive(2, Leave("site-1", True), 1.3) == [Hang(2)]
    assert one.links() == other.links() == ()
    assert one.leave(1, "idle", 1.4) == []


@pytest.mark.parametrize("end", ["broken", "goodbye", "late"])
def test_a_direct_link_that_ends_before_both_have_left_it_may_have_lost_something(end: str) -> None:
    peers = direct()
    peers.leave(1, "idle", 1.0)
    effects = peers.broken(1, "closed", 1.1) if end == "broken" else peers.receive(
        1, Goodbye("site-2", "closed"), 1.1) if end == "goodbye" else peers.tick(4.0)
    lost = effects[-1]
    assert isinstance(lost, Unreachable) and (lost.name, lost.only, lost.asked) == ("site-2", True, ())
    assert peers.links() == ()


def test_only_direct_links_can_be_left() -> None:
    peers = site()
    assert peers.leave(1, "idle", 1.0) == [] and peers.receive(1, Leave("server", False), 1.0) == []
    assert peers.up("server") is not None
    assert peers.receive(9, Leave("nobody", False), 1.0) == []


def test_a_direct_link_gives_way_to_one_of_the_tree_and_does_not_take_its_place() -> None:
    peers = server()
    peers.receive(2, hello("site-1", role=Role.DIRECT), 0.0)
    assert peers.receive(4, hello("site-1", OTHER), 0.1)[-1] == PeerUp(4, "site-1", False, Role.CHILD, ("tcp://site-1:2",))
    assert refusal(peers, 6, hello("site-1", OTHER, role=Role.DIRECT)) == ("crossed", "server has a link to site-1 already")
    link, _ = peers.dial("tcp://site-1:1", expected="site-1", now=0.2)
    effects = peers.receive(link, Welcome("site-1", OTHER, 2.0, ()), 0.3)
    assert [type(each) for each in effects] == [Send, Hang, DialFailed]
    up = peers.up("site-1")
    assert up is not None and up.link == 4


def test_a_direct_peer_that_was_restarted_has_its_link_at_once() -> None:
    peers = Peers(SITE, OPTIONS, watches=True)
    peers.receive(2, hello("site-2", role=Role.DIRECT), 0.0)
    assert peers.receive(4, hello("site-2", OTHER, role=Role.DIRECT), 0.1)[-1] == PeerUp(
        4, "site-2", False, Role.DIRECT, ("tcp://site-2:2",))


# --- guests of the data lane --------------------------------------------------------------------


def test_a_direct_peer_of_the_data_lane_is_a_guest_without_a_name() -> None:
    peers = server(watches=False)
    assert peers.receive(2, hello("site-1", role=Role.DIRECT), 0.0) == [
        Send(2, Welcome("server", ONE, 2.0, ("tcp://server:2",)))]
    assert peers.up("site-1") is None
    assert peers.heard(2, 0.1) is not None
    peers.check()


def test_a_guest_is_not_in_the_way_of_who_has_the_name() -> None:
    peers = server(watches=False)
    peers.receive(2, hello("site-1", OTHER, role=Role.DIRECT), 0.0)
    assert peers.receive(4, hello("site-1"), 0.1)[-1] == PeerUp(4, "site-1", False, Role.CHILD, ("tcp://site-1:2",))
    peers.check()


def test_a_guest_that_comes_again_takes_its_own_place_and_no_other() -> None:
    peers = server(watches=False, options=LinkOptions(peers_max=4))
    peers.receive(2, hello("site-1", role=Role.DIRECT), 0.0)
    assert peers.receive(4, hello("site-1", role=Role.DIRECT), 0.1)[:2] == [
        Send(2, Goodbye("server", "it connected again")), Hang(2)]
    assert len(peers.receive(6, hello("site-1", OTHER, role=Role.DIRECT), 0.2)) == 1
    assert [link.link for link in peers.links()] == [4, 6]
    peers.check()


def test_the_end_of_a_guest_concerns_what_it_asked_alone() -> None:
    peers = server(watches=False)
    peers.receive(2, hello("site-1", role=Role.DIRECT), 0.0)
    assert peers.broken(2, "closed", 1.0) == [Hang(2), Unreachable("server", "site-1", False, "closed", only=True)]
    peers.check()


def test_guests_leave_room_for_children() -> None:
    peers = server(watches=False, options=LinkOptions(peers_max=4))
    for link in (2, 4):
        peers.receive(link, hello(f"site-{link}", role=Role.DIRECT), 0.0)
    assert refusal(peers, 6, hello("site-6", role=Role.DIRECT)) == (
        "busy", "server has as many guests as it may, half of peers_max=4")
    assert isinstance(peers.receive(8, hello("site-8"), 0.0)[-1], PeerUp)


def test_a_guest_may_have_several_links_told_apart_by_their_marks() -> None:
    peers = server(watches=False, options=LinkOptions(peers_max=12))
    for link, mark in ((2, b""), (4, b"1" * 16), (6, b"2" * 16)):
        assert [type(each) for each in peers.receive(link, replace(hello("site-1", role=Role.DIRECT), token=mark), 0.0)] == [Send]
    again = peers.receive(8, replace(hello("site-1", role=Role.DIRECT), token=b"1" * 16), 0.0)
    assert Hang(4) in again and {link.link for link in peers.links()} == {2, 6, 8}
    peers.check()


def test_a_side_link_has_no_name_and_is_not_in_the_way_of_the_one_that_leads_there() -> None:
    peers = site(watches=False)
    welcome = Welcome("server", ONE, 2.0, ("tcp://server:2",))
    link, effects = peers.dial("tcp://server:2", expected="server", now=0.0, token=b"1" * 16, is_side=True)
    assert effects[0] == Dial(link, "tcp://server:2")
    assert peers.receive(link, welcome, 0.0) == [SideUp(link, "server")]
    main = peers.up("server")
    assert main is not None and main.link == 1, "the parent's"
    assert peers.broken(link, "closed", 1.0) == [Hang(link), SideDown(link, "server", "closed")]
    assert peers.up("server") is main
    peers.check()


def test_a_side_link_to_somebody_else_is_not_wanted() -> None:
    peers = site(watches=False)
    link, _ = peers.dial("tcp://server:2", expected="server", now=0.0, token=b"1" * 16, is_side=True)
    effects = peers.receive(link, Welcome("site-2", ONE, 2.0, ()), 0.0)
    assert isinstance(effects[-1], DialFailed) and [each.link for each in peers.links()] == [1]
