"""Calls settle exactly once; handlers run at most once."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from zdl.errors import Busy, Cancelled, Closed, NoRoute, PeerLost, RemoteError, TimedOut, ZdlError, to_wire
from zdl.options import CallOptions
from zdl.protocol.calls import Calls, Question, Serving
from zdl.protocol.effects import Abort, CallSettled, Effect, Handle, Post, Unreachable
from zdl.protocol.frames import ID_MAX
from zdl.protocol.messages import Bounce, Cancel, Kind, Notice, Reply, Request

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


# --- serving ------------------------------------------------------------------------------------


def test_a_request_runs_its_handler_once_however_often_it_arrives() -> None:
    serving = Serving("site-2", OPTIONS)
    assert serving.receive(request(), 0.0) == [Handle(request())]
    assert serving.receive(request(), 0.1) == []
    assert serving.answered("site-1", 7)
    assert serving.receive(request(), 0.2) == []
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
