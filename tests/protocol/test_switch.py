"""Switch: ours, somebody else's, or refused; what cannot go on comes back, and who waits behind a lost link is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from zdl.errors import Busy, NoRoute, Refused, TooLarge, to_wire
from zdl.options import LinkOptions
from zdl.protocol.decode import decode
from zdl.protocol.effects import SELF, Arrived, Dial, Effect, Hang, PeerDown, PeerUp, Send, Unreachable
from zdl.protocol.encode import encode
from zdl.protocol.link import Self
from zdl.protocol.messages import (
    NO_REQUEST,
    Ask,
    Bounce,
    Cancel,
    Chunk,
    Confirmed,
    Goodbye,
    Heartbeat,
    Hello,
    Introduce,
    Introduced,
    Keep,
    Kind,
    Leave,
    Lost,
    Notice,
    Reject,
    Reply,
    Request,
    Role,
    Routed,
    Transit,
    Verify,
    Waiting,
    Welcome,
)
from zdl.protocol.pending import WAIT_S, WAITING_MAX
from zdl.protocol.switch import Switch, Way, concerns

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
    seen = transit(replace(request("site-1", "site-2"), body=(bytes(600),)), at="server")
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


def test_a_cell_above_that_has_linked_as_a_parent_does_may_speak_for_anybody() -> None:
    switch = Switch(Self("site-1.job.w0", ONE), OPTIONS, watches=False)
    switch.dial_parent("tcp://site-1:1", 0.0)
    switch.receive(PARENT, Welcome("site-1", ONE, 2.0, ()), 0.0)
    message = request("site-3", "site-1.job.w0")
    assert switch.receive(PARENT, message, 0.0) == [Arrived(message)]


@pytest.mark.parametrize("name", ["server", "site-1", "site-2"])
@pytest.mark.parametrize("watches", [True, False])
def test_a_direct_peer_may_speak_for_itself_alone(name: str, watches: bool) -> None:
    switch = Switch(Self("site-1.job.w0", ONE), OPTIONS, watches=watches)
    link, _ = switch.peers.dial("tcp://h:1", expected=name, now=0.0)
    switch.receive(link, Welcome(name, ONE, 2.0, ()), 0.0)
    message = request(name, "site-1.job.w0")
    assert switch.receive(link, message, 0.0) == [Arrived(message)]
    for other in ("site-3", f"{name}.w0"):
        assert switch.receive(link, request(other, "site-1.job.w0"), 0.0) != [Arrived(request(other, "site-1.job.w0"))]
    through = transit(request(name, "site-1.job.w0.x"), at="site-1.job.w0")
    assert isinstance(switch.receive(link, through, 0.0)[0].message, Bounce)  # type: ignore[union-attr]
    assert switch.counts.refused == 3


# --- who may say what is lost -------------------------------------------------------------------


@pytest.mark.parametrize(("by", "name", "beyond", "is_believed"), [
    ("server", "site-2", False, True), ("site-2", "site-2.w0", False, True), ("server", "server", True, True),
    ("site-2", "site-1", False, False), ("site-2", "site-2", False, False), ("site-2", "site-2", True, False),
    ("site-1.job", "site-3", False, False), ("site-1.job", "site-1.job.w0", False, True)])
def test_a_loss_is_believed_of_cells_above_what_is_lost_or_above_us(
        by: str, name: str, beyond: bool, is_believed: bool) -> None:
    switch = site("site-1.job")
    link = 2 if by == "site-1.job" else PARENT
    effects = switch.receive(link, Lost(by, "site-1", 7, name, beyond, "closed"), 0.0)
    assert effects == ([Unreachable(by, name, beyond, "closed", 7)] if is_believed else [])
    assert switch.counts.refused == (not is_believed)


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
        PARENT, Lost("site-1", "site-1.job.w0", NO_REQUEST, "site-1.job", False, "closed"))
    switch.check()


def test_what_has_no_way_back_either_is_dropped() -> None:
    switch = site("site-1.job")
    message = transit(request("site-9.x", "site-1.none"), at="site-1")
    assert [type(each) for each in switch.receive(PARENT, message, 0.0)] == [Send]
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
    assert effects == [Arrived(bounce("site-1", message, NoRoute(
        target="site-2", at="site-1", why=switch.peers.redial.why(1.5))))]
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


@pytest.mark.fault("N14")
def test_n14_what_is_given_up_before_any_cause_is_known_names_the_address_that_is_dialled() -> None:
    switch = site(has_parent=False)
    switch.send(request("site-1", "site-2", timeout_s=0.5), 0.2)
    arrived = next(each for each in switch.tick(0.7) if isinstance(each, Arrived))
    assert isinstance(arrived.message, Bounce)
    assert "tcp://server:1 has been dialled for 0.7 s" in str(arrived.message.facts["why"])
    assert "tcp://server:1 has been dialled for 0.8 s" in switch.way_of("site-2", 0.8).why
    up(switch, "site-1.job", 2)
    (back,) = switch.receive(2, transit(request("site-1.job", "site-2"), at="site-1"), 0.9)
    assert isinstance(back, Send) and isinstance(back.message, Bounce) and back.message.target == "site-1.job"
    assert "tcp://server:1 has been dialled for 0.9 s" in str(back.message.facts["why"])


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
    assert switch.send(message, 0.0) == [Arrived(bounce("site-1", message, NoRoute(
        target="site-2", at="site-1", why=switch.peers.redial.why(0.0))))]


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
        Send(2, Lost("server", "site-1.job", 7, "site-2", False, "closed"))]


def test_who_waits_behind_a_lost_parent_is_told_that_all_beyond_is_lost() -> None:
    switch = site("site-1.job")
    switch.receive(2, transit(request("site-1.job.w0", "site-2"), at="site-1"), 0.0)
    lost = Lost("site-1", "site-1.job.w0", 7, "site-1", True, "closed")
    assert switch.broken(PARENT, "closed", 1.0)[-1] == Send(2, lost)


def test_who_is_told_of_a_loss_hears_which_of_its_requests_went_that_way() -> None:
    switch = server("site-1", "site-2")
    for number in (70, 71, 72):
        switch.receive(2, transit(request("site-1", "site-2", number=number), at="server"), 0.0)
    switch.receive(2, transit(Cancel("site-1", "site-2", 99), at="server"), 0.0)
    switch.receive(2, transit(Waiting("site-1", "site-2", 65), at="server"), 0.0)
    assert switch.broken(4, "closed", 1.0)[-1] == Send(2, Lost("server", "site-1", 72, "site-2", False, "closed"))


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


# --- guests of the data lane --------------------------------------------------------------------


def guest_at_the_data_lane() -> Switch:
    """The data lane of a server with a child, site-2 on link 2, and on link 4 somebody who says that he is site-1.w0."""
    switch = Switch(Self("server", ONE), OPTIONS, watches=False)
    up(switch, "site-1", 2)
    up(switch, "site-1.w0", 4, Role.DIRECT)
    switch.check()
    return switch


def ask(number: int = 7) -> Ask:
    return Ask("site-1.w0", "server", number, b"o" * 16, b"s" * 16, 0, 1, Verify.NONE)


def chunk(number: int = 7) -> Chunk:
    return Chunk("server", "site-1.w0", number, 0, 1, Verify.NONE, b"", (b"x",))


def test_a_guest_gets_the_answers_to_what_it_asked_and_nothing_else() -> None:
    switch = guest_at_the_data_lane()
    assert switch.send(chunk(), 0.0) == [Send(2, chunk())], "not asked over this link"
    assert switch.receive(4, ask(), 0.1) == [Arrived(ask())]
    assert switch.send(chunk(), 0.2) == [Send(4, chunk())]
    assert switch.send(chunk(8), 0.2) == [Send(2, chunk(8))]
    theirs = replace(ask(), origin="server", target="site-1.w0")
    assert switch.send(replace(theirs, id=9), 0.2) == [Send(2, replace(theirs, id=9))]
    passed = transit(replace(ask(), origin="site-2"), at="x")
    assert switch.receive(4, passed, 0.3) != [Send(2, replace(passed, hops=1))]
    assert not switch.routes.is_direct("site-1.w0")


def test_what_is_asked_again_by_the_tree_is_answered_there() -> None:
    switch = guest_at_the_data_lane()
    switch.receive(4, ask(), 0.1)
    switch.receive(2, ask(), 0.2)
    assert switch.send(chunk(), 0.3) == [Send(2, chunk())]


def test_what_a_guest_asked_is_answered_by_the_tree_when_it_is_gone() -> None:
    switch = guest_at_the_data_lane()
    switch.receive(4, ask(), 0.1)
    assert switch.broken(4, "closed", 0.2) == [Hang(4), Unreachable("server", "site-1.w0", False, "closed", only=True)]
    assert switch.send(chunk(), 0.3) == [Send(2, chunk())]
    switch.check()


def test_only_so_many_questions_of_guests_are_remembered() -> None:
    switch = guest_at_the_data_lane()
    for number in range(1, 5):
        switch.receive(4, ask(number), 0.1)
    assert switch.send(chunk(1), 0.2) == [Send(2, chunk(1))]
    assert switch.send(chunk(4), 0.2) == [Send(4, chunk(4))]


# --- direct links of the control lane -----------------------------------------------------------

FAR = replace(OPTIONS, direct_after_count=2)
TOKEN = b"t" * 16


def talker(**own: object) -> Switch:
    """site-1, a child of the server, which listens at tcp://h:1 and asks for a direct link with the second message."""
    me = Self("site-1", ONE, addresses=("tcp://h:1",), secret=b"secret")
    switch = Switch(me, replace(FAR, **own), watches=True)  # type: ignore[arg-type]
    switch.dial_parent("tcp://server:1", 0.0)
    welcome(switch)
    return switch


def linked() -> Switch:
    """site-1, which has asked site-2 and has a direct link to it, on link 3; requests 1 and 2 went by the tree."""
    switch = talker()
    for number in (1, 2):
        switch.send(request("site-1", "site-2", number=number), 0.1)
    effects = switch.receive(PARENT, Introduced("site-2", "site-1", 1, TOKEN, ("tcp://i:1",), ""), 0.2)
    assert effects[0] == Dial(3, "tcp://i:1")
    assert effects[1].message.token == TOKEN  # type: ignore[union-attr]
    switch.receive(3, Welcome("site-2", ONE, 2.0, ()), 0.3)
    switch.check()
    return switch


def test_who_sends_to_a_far_cell_again_asks_it_for_a_direct_link() -> None:
    switch = talker()
    first, second = (request("site-1", "site-2", number=number) for number in (1, 2))
    assert switch.send(first, 0.1) == [Send(PARENT, first)]
    sent = switch.send(second, 0.2)
    assert sent[0] == Send(PARENT, second)
    assert isinstance(sent[1], Send) and isinstance(sent[1].message, Introduce) and sent[1].link == PARENT
    assert switch.way_of("site-2", 1.0) == Way("parent", "server", "a direct link is being asked for")


def test_neighbours_replies_and_cells_with_direct_links_off_are_not_counted() -> None:
    switch = talker()
    for number in range(9):
        assert len(switch.send(request("site-1", "server", number=number), 0.1)) == 1
        assert len(switch.send(Reply("site-1", "site-2", number, "", {}, {}), 0.1)) == 1
    off = talker(direct=False)
    for number in range(9):
        assert len(off.send(request("site-1", "site-2", number=number), 0.1)) == 1
    assert off.way_of("site-2", 1.0) == Way("parent", "server", "direct links are off in site-1")


def test_messages_of_ours_go_over_the_direct_link_and_those_of_others_do_not() -> None:
    switch = linked()
    message = request("site-1", "site-2", number=3)
    assert switch.send(message, 0.4) == [Send(3, message)]
    assert switch.way_of("site-2", 1.0) == Way("direct", "site-2", "")
    below = request("site-1", "site-2.w0", number=4)
    assert switch.send(below, 0.4) == [Send(PARENT, below)], "a direct link leads to its peer alone"
    up(switch, "site-1.job", 2)
    seen = transit(request("site-1.job", "site-2"), at="site-1")
    assert switch.receive(2, seen, 0.5) == [Send(PARENT, replace(seen, hops=1))]


def test_a_reply_goes_the_way_its_request_came() -> None:
    switch = linked()
    for link, number in ((3, 11), (PARENT, 12)):
        switch.receive(link, request("site-2", "site-1", number=number), 0.4)
        reply = Reply("site-1", "site-2", number, "", {}, {})
        assert switch.send(reply, 0.5) == [Send(link, reply)]


def test_the_loss_of_a_direct_link_concerns_its_peer_and_what_was_asked_over_it() -> None:
    switch = linked()
    for link, number in ((3, 11), (PARENT, 12)):
        switch.receive(link, request("site-2", "site-1", number=number), 0.4)
    assert switch.broken(3, "closed", 1.0) == [
        Hang(3), PeerDown(3, "site-2", False, "closed", Role.DIRECT),
        Unreachable("site-1", "site-2", False, "closed", only=True, asked=(11,))]
    assert switch.way_of("site-2", 1.0) == Way("parent", "server", "the direct link was lost: closed")
    message = request("site-1", "site-2", number=5)
    assert switch.send(message, 1.1) == [Send(PARENT, message)], "the tree is still there"


def test_a_loss_along_the_tree_spares_what_goes_over_direct_links() -> None:
    switch = linked()
    lost = Lost("server", "site-1", 2, "site-2", False, "closed")
    assert switch.receive(PARENT, lost, 0.5) == [Unreachable("server", "site-2", False, "closed", 2, spared=(("site-2", 2),))]
    down = switch.broken(PARENT, "closed", 1.0)
    assert Unreachable("site-1", "site-1", True, "closed", spared=(("site-2", 2),)) in down


def test_a_direct_link_over_which_nothing_goes_is_left_and_the_tree_used() -> None:
    switch = linked()
    now = 0.3
    effects: list[Effect] = []
    while not effects and now < 100:
        now += 1.0
        for link, name in ((PARENT, "server"), (3, "site-2")):
            switch.receive(link, Heartbeat(name), now)
        effects = [each for each in switch.tick(now) if not (isinstance(each, Send) and isinstance(each.message, Heartbeat))]
    assert now == pytest.approx(FAR.direct_idle_s + 0.3, abs=1.0)
    why = "nothing was sent over the direct link for 60 s"
    assert effects == [Send(3, Leave("site-1", False)), PeerDown(3, "site-2", False, why, Role.DIRECT, True)]
    message = request("site-1", "site-2", number=9)
    assert switch.send(message, now) == [Send(PARENT, message)]
    assert switch.way_of("site-2", 1.0).why == why


def test_a_direct_hello_that_nobody_has_introduced_is_refused() -> None:
    switch = site()
    text = "site-2.w0 was not introduced to site-1 over the tree, or too long ago"
    effects = switch.receive(2, Hello("site-2.w0", ONE, Role.DIRECT, 2.0, (), 1), 0.0)
    assert effects == [Send(2, Reject("site-1", "not-introduced", text)), Hang(2)]
    assert switch.peers.up("site-2.w0") is None


def test_a_token_lets_in_the_cell_that_it_was_made_for_once() -> None:
    switch = talker()
    answer = switch.receive(PARENT, Introduce("site-2", "site-1", 5, "", b"", ()), 1.0)[0].message  # type: ignore[union-attr]
    assert isinstance(answer, Introduced) and answer.addresses == ("tcp://h:1",)

    def comes(name: str, link: int, now: float = 1.5) -> list[Effect]:
        return switch.receive(link, Hello(name, ONE, Role.DIRECT, 2.0, (), 1, "", answer.token), now)

    assert isinstance(comes("site-3", 2)[0].message, Reject)  # type: ignore[union-attr]
    assert comes("site-2", 4)[-1] == PeerUp(4, "site-2", False, Role.DIRECT, ())
    assert [type(each) for each in comes("site-2", 4)] == [Send], "a doubled HELLO"
    assert isinstance(comes("site-2", 6)[0].message, Reject)  # type: ignore[union-attr]
    switch.check()


def test_an_introduction_that_comes_back_is_remembered_with_its_reason() -> None:
    switch = talker()
    for number in (1, 2):
        switch.send(request("site-1", "ghost", number=number), 0.1)
    error = NoRoute(target="ghost", at="server")
    assert switch.receive(PARENT, Bounce("server", "site-1", 1, int(Kind.INTRODUCE), *to_wire(error)), 0.2) == []
    assert switch.way_of("ghost", 1.0).why == str(error)


def test_a_direct_link_that_fails_is_no_news_about_the_parent() -> None:
    switch = talker()
    for number in (1, 2):
        switch.send(request("site-1", "site-2", number=number), 0.1)
    switch.receive(PARENT, Introduced("site-2", "site-1", 1, TOKEN, ("tcp://i:1", "tcp://j:1"), ""), 0.2)
    assert switch.broken(3, "nobody answers", 0.3)[1] == Dial(5, "tcp://j:1")
    assert [type(each) for each in switch.broken(5, "nobody answers", 0.4)] == [Hang]
    assert "nobody answers" in switch.way_of("site-2", 1.0).why


def test_the_way_of_cells_that_are_linked_or_cannot_be_reached() -> None:
    switch = site("site-1.job")
    assert switch.way_of("site-1", 1.0) == Way("self", "site-1", "")
    assert switch.way_of("server", 1.0) == Way("parent", "server", "")
    assert switch.way_of("site-1.job", 1.0) == Way("child", "site-1.job", "")
    assert switch.way_of("site-1.ghost", 1.0) == Way("none", "", "no link of site-1 leads there")
    assert switch.way_of("site-2", 1.0) == Way("parent", "server", "0 of direct_after_count=8 messages so far")
