"""Switch: ours, somebody else's, or refused; what cannot go on comes back, and who waits behind a lost link is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from zdl.errors import Busy, NoRoute, Refused, TooLarge, to_wire
from zdl.options import LinkOptions
from zdl.protocol.decode import decode
from zdl.protocol.effects import SELF, Arrived, Dial, Effect, Hang, PeerDown, PeerUp, Send, Unreachable
from zdl.protocol.encode import encode
from zdl.protocol.messages import (
    Ask,
    Bounce,
    Cancel,
    Chunk,
    Confirmed,
    Goodbye,
    Heartbeat,
    Hello,
    Keep,
    Kind,
    Lost,
    Notice,
    Reject,
    Reply,
    Request,
    Role,
    Routed,
    Transit,
    Verify,
    Welcome,
)
from zdl.protocol.peers import Self
from zdl.protocol.switch import WAIT_S, WAITING_MAX, Switch, concerns

OPTIONS = LinkOptions(hops_max=4, interest_max=3)
ONE = b"1" * 16
PARENT = 1


def up(switch: Switch, origin: str, link: int, role: Role = Role.CHILD) -> None:
    switch.receive(link, Hello(origin, ONE, role, 2.0, (), 1), 0.0)


def welcome(switch: Switch, now: float = 0.0, link: int = PARENT) -> list[Effect]:
    return switch.receive(link, Welcome("server", ONE, 2.0, ()), now)


def server(*below: str) -> Switch:
    """The root, with links 2, 4, … to these cells."""
    switch = Switch(Self("server", ONE), OPTIONS, watches=True)
    for index, name in enumerate(below):
        up(switch, name, 2 + 2 * index)
    return switch


def site(*below: str, has_parent: bool = True) -> Switch:
    """site-1, with link 1 to its parent (or dialling it), and links 2, 4, … to these cells."""
    switch = Switch(Self("site-1", ONE), OPTIONS, watches=True)
    switch.dial_parent("tcp://server:1", 0.0)
    if has_parent:
        welcome(switch)
    for index, name in enumerate(below):
        up(switch, name, 2 + 2 * index)
    return switch


def request(origin: str, target: str, *, number: int = 7, timeout_s: float | None = 5.0, hops: int = 0) -> Request:
    return Request(origin, target, number, "c", "t", timeout_s, {}, (b"body",), hops)


def transit(message: Routed, *, at: str) -> Transit:
    """What a relay sees of a message."""
    header, *body = encode(message)
    assert isinstance(header, bytes)
    seen = decode(header, tuple(body), me=at)
    assert isinstance(seen, Transit)
    return seen


def bounce(at: str, message: Routed, error: Exception) -> Bounce:
    """What `at` says about a message that could not go on."""
    return Bounce(at, message.origin, message.id, int(message.kind), *to_wire(error))  # type: ignore[arg-type]


# --- what comes in ------------------------------------------------------------------------------


def test_a_message_for_this_cell_arrives() -> None:
    message = request("site-1", "server")
    assert server("site-1").receive(2, message, 0.0) == [Arrived(message)]


def test_a_message_of_this_cell_to_itself_arrives_over_its_own_link() -> None:
    switch, message = server(), request("server", "server")
    assert switch.send(message, 0.0) == [Send(SELF, message)]
    assert switch.receive(SELF, message, 0.0) == [Arrived(message)]


def test_a_message_for_somebody_else_is_passed_on_with_one_hop_more_and_the_same_buffers() -> None:
    switch = server("site-1", "site-2")
    seen = transit(request("site-1", "site-2"), at="server")
    effects = switch.receive(2, seen, 0.0)
    assert effects == [Send(4, replace(seen, hops=1))]
    assert effects[0].message.body[0] is seen.body[0]  # type: ignore[union-attr]
    assert switch.counts.forwarded == 1


def test_a_kind_that_this_version_does_not_know_is_passed_on_too() -> None:
    switch = server("site-1", "site-2")
    seen = replace(transit(request("site-1", "site-2"), at="server"), of_kind=99)
    assert switch.receive(2, seen, 0.0) == [Send(4, replace(seen, hops=1))]


def test_news_of_a_loss_is_told() -> None:
    lost = Lost("server", "site-1", 0, "site-2", False, "the connection was closed")
    assert site().receive(PARENT, lost, 0.0) == [Unreachable("server", "site-2", False, "the connection was closed")]


def test_a_heartbeat_on_a_link_changes_nothing_else() -> None:
    assert server("site-1").receive(2, Heartbeat("site-1"), 1.0) == []


def test_any_message_is_a_sign_of_life() -> None:
    switch = server("site-1")
    switch.receive(2, request("site-1", "server"), 1.5)
    known = switch.peers.link(2)
    assert known is not None and known.heard_at == 1.5


def test_a_message_from_a_link_that_has_not_greeted_is_told_to_greet() -> None:
    assert server().receive(2, request("site-1", "server"), 0.0) == [
        Send(2, Reject("server", "not-ready", "say HELLO first")), Hang(2)]


def test_a_message_from_a_link_that_is_still_greeting_is_dropped() -> None:
    assert site(has_parent=False).receive(PARENT, request("server", "site-1"), 0.0) == []


# --- who may speak for whom ---------------------------------------------------------------------


def test_a_child_may_speak_for_all_below_it() -> None:
    message = request("site-1.job.w0", "server")
    assert server("site-1").receive(2, message, 0.0) == [Arrived(message)]


@pytest.mark.parametrize("origin", ["site-2", "site-11", "server", "site"])
def test_a_child_may_not_speak_for_others(origin: str) -> None:
    switch = server("site-1")
    error = Refused(by="server", reason="not-allowed", text=f"site-1 may not speak for {origin}")
    assert switch.receive(2, request(origin, "server"), 0.0) == [
        Send(2, Bounce("server", "site-1", 7, 16, *to_wire(error)))]
    assert switch.counts.refused == 1


def test_a_message_that_is_never_bounced_is_refused_without_a_word() -> None:
    assert server("site-1").receive(2, Cancel("site-2", "server", 7), 0.0) == []


def test_a_message_to_be_passed_on_is_refused_like_one_for_this_cell() -> None:
    switch = server("site-1", "site-2")
    seen = transit(request("site-2", "site-2.job"), at="server")
    effects = switch.receive(2, seen, 0.0)
    assert isinstance(effects[0], Send) and isinstance(effects[0].message, Bounce) and effects[0].link == 2


def test_the_parent_may_speak_for_anybody() -> None:
    message = request("site-2", "site-1")
    assert site().receive(PARENT, message, 0.0) == [Arrived(message)]


def test_a_cell_above_that_has_linked_directly_may_speak_for_anybody() -> None:
    switch = Switch(Self("site-1.job.w0", ONE), OPTIONS, watches=False)
    up(switch, "server", 2, Role.DIRECT)
    up(switch, "site-1", 4, Role.DIRECT)
    up(switch, "site-2", 6, Role.DIRECT)
    message = request("site-3", "site-1.job.w0")
    assert switch.receive(2, message, 0.0) == switch.receive(4, message, 0.0) == [Arrived(message)]
    assert switch.receive(6, message, 0.0) != [Arrived(message)]


# --- what cannot go on --------------------------------------------------------------------------


def test_a_message_without_a_way_on_comes_back_to_its_origin() -> None:
    switch, message = server("site-1"), request("site-1.job", "site-2")
    error = NoRoute(target="site-2", at="server")
    assert switch.receive(2, transit(message, at="server"), 0.0) == [Send(2, bounce("server", message, error))]
    assert switch.counts.bounced == 1


def test_a_message_that_has_made_too_many_hops_comes_back() -> None:
    switch, message = server("site-1", "site-2"), request("site-1", "site-2", hops=3)
    assert switch.receive(2, transit(message, at="server"), 0.0) == [
        Send(4, replace(transit(message, at="server"), hops=4))]
    message = request("site-1", "site-2", hops=4)
    error = NoRoute(target="site-2", at="server", why="hops_max=4 is reached")
    assert switch.receive(2, transit(message, at="server"), 0.0) == [Send(2, bounce("server", message, error))]


@pytest.mark.parametrize("message", [
    Bounce("site-1", "site-2", 7, 16, "no-route", {}), Lost("site-1", "site-2", 0, "x", False, ""),
    Cancel("site-1", "site-2", 7), Confirmed("site-1", "site-2", 7)])
def test_some_messages_never_come_back_for_they_would_breed_more(message: Routed) -> None:
    assert server("site-1").receive(2, transit(message, at="server"), 0.0) == []


def test_what_comes_back_goes_the_way_it_came_where_the_tree_has_no_other() -> None:
    switch = Switch(Self("site-1", ONE), OPTIONS, watches=False)
    switch.dial_parent("tcp://server:1", 0.0)
    welcome(switch)
    message = Ask("site-1.job.w0", "site-1.job.w1", 7, b"o" * 16, b"s" * 16, 0, 1, Verify.NONE)
    seen = transit(message, at="site-1")
    error = NoRoute(target="site-1.job.w1", at="site-1")
    assert switch.receive(PARENT, seen, 0.0) == [Send(PARENT, bounce("site-1", message, error))]
    up(switch, "site-1.job", 2)
    assert switch.receive(PARENT, seen, 0.0) == [Send(2, replace(seen, hops=1))]
    assert switch.broken(2, "closed", 1.0)[-1] == Send(
        PARENT, Lost("site-1", "site-1.job.w0", 0, "site-1.job", False, "closed"))
    switch.check()


def test_what_has_no_way_back_either_is_dropped() -> None:
    switch = site("site-1.job")
    up(switch, "site-9", 4, Role.DIRECT)
    message = transit(request("site-9.x", "site-1.none"), at="site-1")
    assert [type(each) for each in switch.receive(4, message, 0.0)] == [Send]
    switch.broken(4, "closed", 0.0)
    switch.broken(PARENT, "closed", 0.0)
    assert switch.undelivered(2, message, NoRoute(target="site-1.none", at="site-1")) == []


def test_a_message_of_ours_without_a_way_comes_back_at_once() -> None:
    switch, message = server("site-1"), request("server", "site-2")
    error = NoRoute(target="site-2", at="server")
    assert switch.send(message, 0.0) == [Arrived(bounce("server", message, error))]
    assert switch.send(Cancel("server", "site-2", 7), 0.0) == []


def test_what_the_shell_could_not_hand_to_a_link_comes_back() -> None:
    switch, message = server("site-1", "site-2"), request("server", "site-1")
    error = TooLarge(what="x", size=2, limit="l", value=1)
    assert switch.undelivered(2, message, error) == [Arrived(bounce("server", message, error))]
    passed = request("site-1", "site-2")
    assert switch.undelivered(4, transit(passed, at="server"), error) == [Send(2, bounce("server", passed, error))]
    assert switch.undelivered(2, Heartbeat("server"), error) == []


def test_a_message_of_ours_that_came_round_is_not_bounced_to_ourselves() -> None:
    switch = server("site-1")
    assert switch.undelivered(2, transit(request("server", "site-1.x"), at="server"), NoRoute(target="x", at="y")) == []


# --- waiting for the parent ---------------------------------------------------------------------


def test_a_request_waits_for_the_parent_and_then_says_how_much_of_its_time_is_left() -> None:
    switch, message = site(has_parent=False), request("site-1", "site-2", timeout_s=5.0)
    assert switch.send(message, 1.0) == []
    assert welcome(switch, 3.0) == [
        PeerUp(PARENT, "server", True, Role.CHILD, ()), Send(PARENT, replace(message, timeout_s=3.0))]
    switch.check()


def test_messages_that_waited_leave_in_their_order() -> None:
    switch = site(has_parent=False)
    messages = [Notice("site-1", "site-2", number, "c", "t", {}) for number in range(3)]
    for each in messages:
        switch.send(each, 0.0)
    assert welcome(switch, 1.0)[1:] == [Send(PARENT, each) for each in messages]


def test_a_request_waits_no_longer_than_somebody_waits_for_its_answer() -> None:
    switch, message = site(has_parent=False), request("site-1", "site-2", timeout_s=1.0)
    switch.send(message, 0.5)
    assert switch.deadline() == 1.5
    switch.tick(1.4)
    effects = switch.tick(1.5)
    assert effects == [Arrived(bounce("site-1", message, NoRoute(target="site-2", at="site-1")))]
    assert welcome(switch, 1.6) == [PeerUp(PARENT, "server", True, Role.CHILD, ())]


def test_a_message_without_a_timeout_waits_for_its_time() -> None:
    switch, message = site(has_parent=False), request("site-1", "site-2", timeout_s=None)
    switch.send(message, 0.0)
    assert all(not isinstance(each, Arrived) for each in switch.tick(WAIT_S - 0.1))
    assert any(isinstance(each, Arrived) for each in switch.tick(WAIT_S))


def test_what_waits_too_long_is_told_why_the_parent_is_not_there() -> None:
    switch = site(has_parent=False)
    switch.receive(PARENT, Reject("server", "name-taken", "another site-1"), 0.1)
    switch.send(request("site-1", "site-2", timeout_s=1.0), 0.2)
    arrived = next(each for each in switch.tick(1.3) if isinstance(each, Arrived))
    assert isinstance(arrived.message, Bounce)
    assert arrived.message.facts["why"] == "server refused (name-taken): another site-1"


def test_a_cancellation_takes_the_request_that_waits_with_it() -> None:
    switch = site(has_parent=False)
    switch.send(request("site-1", "site-2", number=7), 0.0)
    switch.send(request("site-1", "site-2", number=8), 0.0)
    assert switch.send(Cancel("site-1", "site-2", 7), 0.1) == []
    assert [each.message.id for each in welcome(switch, 1.0)[1:]] == [8]  # type: ignore[union-attr]


def test_a_cancellation_of_a_request_that_had_left_waits_too() -> None:
    switch, cancel = site(has_parent=False), Cancel("site-1", "site-2", 7)
    assert switch.send(cancel, 0.0) == []
    assert welcome(switch, 1.0)[1:] == [Send(PARENT, cancel)]


@pytest.mark.parametrize("message", [
    Ask("site-1", "site-2", 7, b"o" * 16, b"s" * 16, 0, 1, Verify.NONE),
    Keep("site-1", "site-2", 7, b"o" * 16, b"s" * 16)])
def test_what_is_repeated_anyway_does_not_wait(message: Routed) -> None:
    switch = site(has_parent=False)
    assert switch.send(message, 0.0) == [Arrived(bounce("site-1", message, NoRoute(target="site-2", at="site-1")))]


def test_a_chunk_waits_for_the_parent() -> None:
    switch, chunk = site(has_parent=False), Chunk("site-1", "site-2", 7, 0, 1, Verify.NONE, b"", (b"x",))
    assert switch.send(chunk, 0.0) == []
    assert welcome(switch, 1.0)[1:] == [Send(PARENT, chunk)]


def test_a_message_for_a_cell_below_does_not_wait_for_the_parent() -> None:
    switch, message = site(has_parent=False), request("site-1", "site-1.job")
    assert switch.send(message, 0.0) == [Arrived(bounce("site-1", message, NoRoute(target="site-1.job", at="site-1")))]


def test_no_more_messages_wait_than_the_limit() -> None:
    switch = site(has_parent=False)
    for number in range(WAITING_MAX):
        assert switch.send(Notice("site-1", "site-2", number, "c", "t", {}), 0.0) == []
    message = request("site-1", "site-2")
    busy = Busy(limit="WAITING_MAX", value=WAITING_MAX, at="site-1")
    assert switch.send(message, 0.0) == [Arrived(bounce("site-1", message, busy))]
    switch.check()


# --- the loss of a link -------------------------------------------------------------------------


def test_a_lost_child_is_unreachable_and_so_are_all_below_it() -> None:
    switch = server("site-1")
    assert switch.broken(2, "closed", 1.0) == [
        Hang(2), PeerDown(2, "site-1", False, "closed"), Unreachable("server", "site-1", False, "closed")]
    assert switch.routes.next_hop("site-1") is None


def test_a_lost_parent_makes_all_unreachable_that_is_not_below() -> None:
    assert site("site-1.job").broken(PARENT, "closed", 1.0) == [
        Hang(PARENT), PeerDown(PARENT, "server", True, "closed"), Unreachable("site-1", "site-1", True, "closed")]


def test_who_sent_over_a_lost_link_is_told_and_nobody_else() -> None:
    switch = server("site-1", "site-2", "site-3")
    switch.receive(2, transit(request("site-1.job", "site-2"), at="server"), 0.0)
    switch.receive(6, transit(request("site-3", "site-1"), at="server"), 0.0)
    assert switch.broken(4, "closed", 1.0)[2:] == [
        Unreachable("server", "site-2", False, "closed"),
        Send(2, Lost("server", "site-1.job", 0, "site-2", False, "closed"))]


def test_who_waits_behind_a_lost_parent_is_told_that_all_beyond_is_lost() -> None:
    switch = site("site-1.job")
    switch.receive(2, transit(request("site-1.job.w0", "site-2"), at="site-1"), 0.0)
    lost = Lost("site-1", "site-1.job.w0", 0, "site-1", True, "closed")
    assert switch.broken(PARENT, "closed", 1.0)[-1] == Send(2, lost)


def test_an_origin_is_told_once_however_often_it_has_sent() -> None:
    switch = server("site-1", "site-2")
    for _ in range(5):
        switch.receive(2, transit(request("site-1", "site-2"), at="server"), 0.0)
    assert sum(isinstance(each, Send) for each in switch.broken(4, "closed", 1.0)) == 1
    up(switch, "site-2", 6)
    assert sum(isinstance(each, Send) for each in switch.broken(6, "closed", 2.0)) == 0, "that was another link"


def test_only_the_origins_that_sent_last_are_remembered() -> None:
    switch = server("site-1", "site-2")
    for name in ("site-1.a", "site-1.b", "site-1.c", "site-1.a", "site-1.d"):
        switch.receive(2, transit(request(name, "site-2"), at="server"), 0.0)
    told = [each.message for each in switch.broken(4, "closed", 1.0) if isinstance(each, Send)]
    assert [each.target for each in told if isinstance(each, Lost)] == ["site-1.c", "site-1.a", "site-1.d"]
    switch.check()


def test_an_origin_that_went_with_the_link_is_not_told() -> None:
    switch = server("site-1", "site-2")
    switch.receive(2, transit(request("site-1", "site-2"), at="server"), 0.0)
    switch.broken(2, "closed", 0.5)
    assert not any(isinstance(each, Send) for each in switch.broken(4, "closed", 1.0))


def test_a_silent_link_and_one_that_is_hung_up_are_lost_too() -> None:
    switch = server("site-1", "site-2")
    assert Unreachable("server", "site-2", False, "idle") in switch.hang(4, "idle", 0.0)
    assert Unreachable("server", "site-1", False, "silent for 6.0 s") in switch.tick(6.0)
    switch.check()


def test_a_parent_at_another_address_is_lost_first() -> None:
    effects = site().dial_parent("tcp://server:9", 1.0)
    assert Unreachable("site-1", "site-1", True, "the parent has a new address") in effects
    assert Dial(3, "tcp://server:9") in effects


def test_closing_says_goodbye_and_forgets_what_waits() -> None:
    switch = site("site-1.job")
    switch.receive(2, transit(request("site-1.job", "site-2"), at="site-1"), 0.0)
    assert switch.close(1.0) == [
        Send(PARENT, Goodbye("site-1", "closed")), Hang(PARENT), Send(2, Goodbye("site-1", "closed")), Hang(2)]
    assert switch.deadline() is None
    switch.check()
    assert switch.fqcn == "site-1"


@pytest.mark.parametrize(("target", "is_lost"), [
    ("site-1", True), ("site-1.job", True), ("site-11", False), ("server", False)])
def test_a_loss_concerns_a_name_and_all_below_it_or_all_but_that(target: str, is_lost: bool) -> None:
    assert concerns(Unreachable("server", "site-1", False, ""), target) is is_lost
    assert concerns(Unreachable("site-1", "site-1", True, ""), target) is not is_lost


def test_a_reply_finds_its_way_back() -> None:
    switch, reply = site("site-1.job"), Reply("site-2", "site-1.job", 7, "", {}, {}, (b"x",))
    seen = transit(reply, at="site-1")
    assert switch.receive(PARENT, seen, 0.0) == [Send(2, replace(seen, hops=1))]
    assert seen.of_kind == Kind.REPLY
