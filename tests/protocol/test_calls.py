"""Calls settle exactly once; handlers run at most once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from zdl.errors import Busy, Cancelled, Closed, NoRoute, PeerLost, RemoteError, TimedOut, ZdlError, to_wire
from zdl.options import CallOptions
from zdl.protocol.calls import Calls, Question, Serving
from zdl.protocol.effects import (
    Abort,
    CallProgressed,
    CallSettled,
    Effect,
    Handle,
    PeerBack,
    PeerDown,
    PeerStalled,
    Post,
    Unreachable,
)
from zdl.protocol.frames import ID_MAX
from zdl.protocol.messages import NO_REQUEST, Bounce, Cancel, Kind, Notice, Progress, Reply, Request, Role, Waiting

OPTIONS = CallOptions(calls_max=3, remembered_max=3)


def shown(effects: Sequence[Effect]) -> list[str]:
    """Effects with errors in them are compared as they are written: errors are equal only to themselves."""
    return [repr(each) for each in effects]


def question(target: str = "site-2", timeout_s: float | None = 5.0) -> Question:
    return Question(target, "c", "t", (b"body",), timeout_s, {"user": "x"})


def calls() -> Calls:
    return Calls("site-1", 100, OPTIONS)


def calling(target: str = "site-2", timeout_s: float | None = 5.0) -> Calls:
    """Calls with one call, 100, since 10 s."""
    machine = calls()
    machine.start(question(target, timeout_s), 10.0)
    return machine


def reply(number: int = 100, origin: str = "site-2", error: ZdlError | None = None) -> Reply:
    code, facts = ("", {}) if error is None else to_wire(error)
    return Reply(origin, "site-1", number, code, facts, {}, (b"answer",))


def request(number: int = 7, origin: str = "site-1") -> Request:
    return Request(origin, "site-2", number, "c", "t", 5.0, {})


# --- calls --------------------------------------------------------------------------------------


def test_a_call_sends_a_request_and_waits() -> None:
    machine = calls()
    number, effects = machine.start(question(), 10.0)
    sent = Request("site-1", "site-2", 100, "c", "t", 5.0, {"user": "x"}, (b"body",))
    assert (number, effects) == (100, [Post(sent)])
    assert (len(machine), machine.deadline()) == (1, 15.0)
    machine.check()


def test_ids_count_up_and_begin_anew_after_the_largest() -> None:
    machine = Calls("site-1", ID_MAX, OPTIONS)
    assert [machine.next_id(), machine.next_id(), machine.next_id()] == [ID_MAX, 0, 1]


def test_no_more_calls_than_the_limit_are_in_flight() -> None:
    machine = calls()
    for _ in range(3):
        machine.start(question(), 0.0)
    with pytest.raises(Busy) as caught:
        machine.start(question(), 0.0)
    assert (caught.value.limit, caught.value.value, caught.value.at) == ("calls_max", 3, "site-1")
    assert len(machine) == 3


def test_a_good_reply_settles_the_call() -> None:
    machine = calling()
    assert machine.receive(reply(), 11.0) == [CallSettled(100, reply(), None)]
    assert (len(machine), machine.deadline()) == (0, None)
    machine.check()


def test_a_reply_with_an_error_settles_the_call_with_that_error() -> None:
    raised = RemoteError(fqcn="site-2", channel="c", topic="t", kind="ValueError", text="no")
    assert shown(calling().receive(reply(error=raised), 11.0)) == shown([CallSettled(100, None, raised)])


def test_a_doubled_a_late_and_an_unknown_reply_change_nothing() -> None:
    machine = calling()
    machine.receive(reply(), 11.0)
    assert machine.receive(reply(), 11.1) == []
    assert machine.receive(reply(999), 11.2) == []


def test_a_reply_from_somebody_who_was_not_asked_changes_nothing() -> None:
    machine = calling()
    assert machine.receive(reply(origin="site-3"), 11.0) == []
    assert len(machine) == 1


def test_a_bounce_settles_the_call_with_its_error() -> None:
    error = NoRoute(target="site-2", at="server")
    bounce = Bounce("server", "site-1", 100, int(Kind.REQUEST), *to_wire(error))
    machine = calling()
    assert shown(machine.receive(bounce, 11.0)) == shown([CallSettled(100, None, error)])
    assert machine.receive(bounce, 11.0) == []


def test_a_bounce_of_something_else_with_the_same_id_changes_nothing() -> None:
    bounce = Bounce("server", "site-1", 100, int(Kind.CANCEL), "no-route", {})
    assert calling().receive(bounce, 11.0) == []


def test_a_call_ends_at_its_deadline_and_the_callee_is_told() -> None:
    machine = calling()
    assert machine.tick(14.9) == []
    late = TimedOut(what="the reply to c/t", address="site-2", waited_s=5.0)
    assert shown(machine.tick(15.0)) == shown([Post(Cancel("site-1", "site-2", 100)), CallSettled(100, None, late)])
    assert machine.receive(reply(), 15.1) == []
    assert machine.tick(16.0) == []


def test_a_call_without_a_timeout_waits_for_ever() -> None:
    machine = calling(timeout_s=None)
    assert (machine.deadline(), machine.tick(1e9)) == (None, [])
    assert machine.receive(reply(), 1e9) == [CallSettled(100, reply(), None)]


def test_deadlines_come_in_the_order_of_time_and_settled_calls_have_none() -> None:
    machine = calls()
    for timeout_s in (5.0, 1.0, 3.0):
        machine.start(question(timeout_s=timeout_s), 0.0)
    machine.receive(reply(101), 0.5)
    assert machine.deadline() == 3.0
    assert [each.id for each in machine.tick(9.0) if isinstance(each, CallSettled)] == [102, 100]
    machine.check()


def test_the_deadlines_of_calls_that_were_settled_do_not_pile_up_behind_that_of_one_that_waits() -> None:
    it = calls()
    it.start(question(timeout_s=1.0), 0.0)
    for number in range(101, 601):
        assert it.start(question(timeout_s=5.0), 0.0)[0] == number
        it.receive(reply(number), 0.0)
        it.check()
    assert it.deadline() == 1.0 and len(it) == 1
    assert any("TimedOut" in each or "timed" in each for each in map(repr, it.tick(1.0)))
    assert it.deadline() is None


def progress(number: int = 100, origin: str = "site-2") -> Progress:
    return Progress(origin, "site-1", number, {"step": 3})


def test_progress_begins_the_timeout_anew_as_often_as_it_comes() -> None:
    machine = calling()
    assert machine.receive(progress(), 14.0) == [CallProgressed(100, {"step": 3})]
    assert machine.tick(15.0) == []
    assert machine.deadline() == 19.0
    assert machine.receive(progress(), 16.0) == machine.receive(progress(), 18.0) == [CallProgressed(100, {"step": 3})]
    assert machine.tick(19.0) == []
    machine.check()
    late = TimedOut(what="the reply to c/t", address="site-2", waited_s=13.0)
    assert shown(machine.tick(23.0)) == shown([Post(Cancel("site-1", "site-2", 100)), CallSettled(100, None, late)])
    assert (len(machine), machine.deadline()) == (0, None)


def test_much_progress_leaves_one_deadline() -> None:
    machine = calling()
    for number in range(1000):
        machine.receive(progress(), 10.0 + number)
    assert len(machine._deadlines) == 1
    machine.check()


def test_progress_of_a_call_that_waits_for_ever_is_told() -> None:
    machine = calling(timeout_s=None)
    assert machine.receive(progress(), 11.0) == [CallProgressed(100, {"step": 3})]
    assert machine.deadline() is None


def test_progress_that_is_late_unknown_or_of_somebody_else_changes_nothing() -> None:
    machine = calling()
    assert machine.receive(progress(999), 11.0) == []
    assert machine.receive(progress(origin="site-3"), 14.0) == []
    assert machine.deadline() == 15.0
    machine.receive(reply(), 11.0)
    assert machine.receive(progress(), 12.0) == []


def test_the_loss_of_the_target_settles_the_call() -> None:
    lost = PeerLost(target="site-2", lost="site-2", at="server", why="closed")
    assert shown(calling().receive(Unreachable("server", "site-2", False, "closed"), 11.0)) == shown([
        CallSettled(100, None, lost)])


def test_the_loss_of_a_cell_on_the_way_settles_the_call_and_names_it() -> None:
    lost = PeerLost(target="site-2.job", lost="site-2", at="server", why="closed")
    assert shown(calling("site-2.job").receive(Unreachable("server", "site-2", False, "closed"), 11.0)) == shown([
        CallSettled(100, None, lost)])


def test_the_loss_of_our_own_parent_settles_the_calls_beyond_it_and_no_others() -> None:
    machine = calling("site-2")
    machine.start(question("site-1.job"), 10.0)
    lost = PeerLost(target="site-2", lost="site-2", at="site-1", why="closed")
    assert shown(machine.receive(Unreachable("site-1", "site-1", True, "closed"), 11.0)) == shown([
        CallSettled(100, None, lost)])
    assert len(machine) == 1


def test_a_loss_elsewhere_changes_nothing() -> None:
    assert calling().receive(Unreachable("server", "site-3", False, "closed"), 11.0) == []
    myself = calling("site-1").receive(Unreachable("server", "site-1", False, "closed"), 11.0)
    assert myself == [], "one is never cut off from oneself"


def test_a_cancelled_call_settles_and_the_callee_is_told() -> None:
    machine = calling()
    cancelled = Cancelled(what="the reply to c/t", why="no longer wanted")
    assert shown(machine.cancel(100, "no longer wanted", 11.0)) == shown([
        Post(Cancel("site-1", "site-2", 100)), CallSettled(100, None, cancelled)])
    assert machine.cancel(100, "again", 11.0) == []


def test_closing_settles_all_that_is_left() -> None:
    machine = calling()
    machine.start(question("site-3"), 10.0)
    closed = Closed(fqcn="site-1")
    assert shown(machine.close(closed)) == shown([
        Post(Cancel("site-1", "site-2", 100)), CallSettled(100, None, closed),
        Post(Cancel("site-1", "site-3", 101)), CallSettled(101, None, closed)])
    assert len(machine) == 0


# --- what is believed, and what is concerned -----------------------------------------------------


def bounced(by: str, number: int = 100, kind: Kind = Kind.REQUEST, target: str = "site-2.w0") -> Bounce:
    return Bounce(by, "site-1", number, int(kind), *to_wire(NoRoute(target=target, at=by)))


@pytest.mark.parametrize(("by", "is_believed"), [
    ("site-1", True), ("server", True), ("site-2", True), ("site-2.w0", True),
    ("site-3", False), ("site-1.w0", False), ("site-2.w1", False), ("site-2.w0.x", False)])
def test_a_bounce_is_believed_of_a_cell_that_can_be_on_the_way(by: str, is_believed: bool) -> None:
    machine = calling("site-2.w0")
    assert (machine.receive(bounced(by), 11.0) != []) is is_believed
    assert len(machine) == (0 if is_believed else 1)


def test_a_loss_ends_the_requests_that_went_over_what_was_lost_and_no_later_one() -> None:
    machine = calls()
    for _ in range(3):
        machine.start(question(), 10.0)
    effects = machine.receive(Unreachable("server", "site-2", False, "closed", up_to=101), 11.0)
    assert [each.id for each in effects if isinstance(each, CallSettled)] == [100, 101]
    assert machine.receive(Unreachable("server", "site-2", False, "closed", up_to=NO_REQUEST), 11.0) == []
    assert len(machine.receive(Unreachable("server", "site-2", False, "closed"), 11.0)) == 1, "0: any of them may have"


def test_a_loss_along_the_tree_spares_the_requests_that_went_directly() -> None:
    machine = calls()
    for target in ("site-2", "site-2", "site-2.w0"):
        machine.start(question(target), 10.0)
    effects = machine.receive(Unreachable("server", "site-2", False, "closed", spared=(("site-2", 100),)), 11.0)
    assert [each.id for each in effects if isinstance(each, CallSettled)] == [100, 102]


def test_the_loss_of_a_direct_link_concerns_its_peer_alone() -> None:
    machine = calls()
    for target in ("site-2", "site-2.w0"):
        machine.start(question(target), 10.0)
    effects = machine.receive(Unreachable("site-1", "site-2", False, "closed", only=True), 11.0)
    assert [each.id for each in effects if isinstance(each, CallSettled)] == [100]


def test_when_a_direct_link_was_left_the_tree_hears_who_is_waited_for() -> None:
    machine = calls()
    for target in ("site-2", "site-2", "site-3"):
        machine.start(question(target), 10.0)
    left = PeerDown(3, "site-2", False, "idle", Role.DIRECT, True)
    assert machine.watch(left, 11.0) == [Post(Waiting("site-1", "site-2", 101))]
    assert machine.watch(PeerDown(5, "site-9", False, "idle", Role.DIRECT, True), 11.0) == []
    effects = machine.receive(bounced("server", 101, Kind.WAITING, "site-2"), 11.1)
    assert [each.id for each in effects if isinstance(each, CallSettled)] == [100, 101]


@pytest.mark.parametrize(("peer", "is_parent", "why"), [
    ("site-2", False, "it is stalled: nothing came from it for 3.0 s"),
    ("server", True, "server, which leads there, is stalled: nothing came from it for 3.0 s"),
    ("site-1.w0", False, ""), ("site-3", False, "")])
def test_a_timeout_says_when_who_leads_there_has_stalled(peer: str, is_parent: bool, why: str) -> None:
    machine = calling(timeout_s=2.0)
    machine.watch(PeerStalled(1, peer, is_parent, 2.0), 11.0)
    (_, settled) = machine.tick(12.0)
    assert isinstance(settled, CallSettled) and isinstance(settled.error, TimedOut)
    assert settled.error.why == why


@pytest.mark.parametrize("news", [PeerBack(1, "site-2", False), PeerDown(1, "site-2", False, "closed")])
def test_a_peer_that_is_back_or_gone_is_stalled_no_more(news: PeerBack | PeerDown) -> None:
    machine = calling(timeout_s=2.0)
    machine.watch(PeerStalled(1, "site-2", False, 2.0), 11.0)
    assert machine.watch(news, 11.5) == []
    (_, settled) = machine.tick(12.0)
    assert isinstance(settled, CallSettled) and isinstance(settled.error, TimedOut) and settled.error.why == ""


# --- serving ------------------------------------------------------------------------------------


def test_a_request_runs_its_handler_once_however_often_it_arrives() -> None:
    serving = Serving("site-2", OPTIONS)
    assert serving.receive(request(), 0.0) == [Handle(request())]
    assert serving.receive(request(), 0.1) == []
    assert serving.answered("site-1", 7)
    assert serving.receive(request(), 0.2) == []
    serving.check()


def test_who_asks_a_second_time_gets_the_first_answer() -> None:
    serving, answer = Serving("site-2", OPTIONS), Reply("site-2", "site-1", 7, "", {}, {}, (b"first",))
    serving.receive(request(), 0.0)
    assert serving.receive(request(), 0.1) == [], "it will be answered"
    assert serving.answered("site-1", 7)
    serving.keep(answer)
    assert serving.receive(request(), 0.2) == serving.receive(request(), 0.3) == [Post(answer)]
    assert serving.receive(Cancel("site-1", "site-2", 7), 0.4) == []
    assert serving.receive(Notice("site-1", "site-2", 7, "c", "t", {}), 0.4) == []
    serving.check()


def test_the_same_id_of_another_caller_is_another_request() -> None:
    serving = Serving("site-2", OPTIONS)
    serving.receive(request(), 0.0)
    assert serving.receive(request(origin="site-3"), 0.0) == [Handle(request(origin="site-3"))]
    assert len(serving) == 2


def test_a_request_is_answered_once() -> None:
    serving = Serving("site-2", OPTIONS)
    serving.receive(request(), 0.0)
    assert [serving.answered("site-1", number) for number in (7, 7, 8)] == [True, False, False]
    assert len(serving) == 0


def test_a_notice_is_handled_once_and_runs_no_longer() -> None:
    serving, notice = Serving("site-2", OPTIONS), Notice("site-1", "site-2", 7, "c", "t", {})
    assert serving.receive(notice, 0.0) == [Handle(notice)]
    assert serving.receive(notice, 0.0) == []
    assert len(serving) == 0


def test_a_cancellation_reaches_the_handler_that_runs() -> None:
    serving = Serving("site-2", OPTIONS)
    serving.receive(request(), 0.0)
    assert serving.receive(Cancel("site-1", "site-2", 7), 0.1) == [Abort("site-1", 7)]
    serving.answered("site-1", 7)
    assert serving.receive(Cancel("site-1", "site-2", 7), 0.2) == []


def test_a_request_that_comes_after_its_cancellation_does_not_run() -> None:
    serving = Serving("site-2", OPTIONS)
    assert serving.receive(Cancel("site-1", "site-2", 7), 0.0) == []
    assert serving.receive(request(), 0.1) == []


def test_a_request_that_still_runs_is_known_even_when_many_came_after_it() -> None:
    serving = Serving("site-2", OPTIONS)
    serving.receive(request(), 0.0)
    for number in range(10, 20):
        serving.receive(request(number), 0.0)
        serving.answered("site-1", number)
        serving.check()
    assert serving.receive(request(), 0.1) == []
    assert serving.receive(request(10), 0.1) == [Handle(request(10))], "what was answered long ago is forgotten"


def test_callers_that_are_cut_off_do_not_wait_any_more() -> None:
    serving = Serving("site-2", OPTIONS)
    serving.receive(request(7, "site-1.job"), 0.0)
    serving.receive(request(8, "site-3"), 0.0)
    serving.receive(request(9, "site-2"), 0.0)
    assert serving.receive_loss(Unreachable("server", "site-1", False, "closed")) == [Abort("site-1.job", 7)]
    assert serving.receive_loss(Unreachable("site-2", "site-2", True, "closed")) == [
        Abort("site-1.job", 7), Abort("site-3", 8)]


def test_a_loss_stops_the_handlers_of_callers_that_are_cut_off_and_no_others() -> None:
    serving = Serving("site-2", OPTIONS)
    for number in (7, 8):
        serving.receive(request(number), 1.0)
    assert serving.receive_loss(Unreachable("server", "site-1", False, "closed", spared=(("site-1", 0),))) == []
    assert serving.receive_loss(Unreachable("site-2", "site-1", False, "closed", only=True, asked=(8,))) == [Abort("site-1", 8)]
    assert serving.receive_loss(Unreachable("site-2", "site-1.w0", False, "closed", only=True, asked=(8,))) == []
    assert serving.receive_loss(Unreachable("server", "site-1", False, "closed", asked=(8,))) == [Abort("site-1", 7)]
    assert serving.receive_loss(Unreachable("server", "site-1", False, "closed")) == [Abort("site-1", 7), Abort("site-1", 8)]


def test_one_cell_takes_no_more_than_its_share_and_the_others_have_theirs() -> None:
    serving = Serving("site-2", CallOptions(handler_threads_max=2, handler_queue_max=2, origin_share=0.5))
    assert [type(serving.receive(replace(request(), id=number), 0.0)[0]) for number in (1, 2)] == [Handle, Handle]
    (refusal,) = serving.receive(replace(request(), id=3), 0.0)
    assert isinstance(refusal, Post) and isinstance(refusal.message, Reply)
    assert (refusal.message.target, refusal.message.id, refusal.message.code) == ("site-1", 3, "busy")
    assert refusal.message.facts == {"limit": "origin_share", "value": 2, "at": "site-2"}
    assert isinstance(serving.receive(replace(request(), origin="site-3"), 0.0)[0], Handle)
    assert serving.answered("site-1", 1)
    assert isinstance(serving.receive(replace(request(), id=3), 0.1)[0], Handle), "it may ask again"
    serving.check()
