"""The desk of the control lane: calls out, requests in, each told once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from sides import Side

from zdl.errors import Cancelled, Closed, NoRoute, PeerLost, Refused, TimedOut, ZdlError, to_wire
from zdl.protocol.calls import Question
from zdl.protocol.effects import SubtreeDown, SubtreeUp
from zdl.protocol.messages import Bounce, Kind, Notice, Progress, Reply, Request
from zdl.transport.control import Control

from waiting import eventually

Settled = list[tuple[Reply | None, ZdlError | None]]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def ask(side: Side, target: str, timeout_s: float = 30.0) -> tuple[Settled, list[int]]:
    """A call; what settles it, and what `cancel` wants."""
    settled: Settled = []
    call = side.control.call(Question(target, "c", "t", (b"body",), timeout_s, {"h": 1}),
                             lambda reply, error: settled.append((reply, error)))
    return settled, call


def answer(side: Side, request: Request, text: bytes) -> None:
    """What a handler would send."""
    side.control.reply(Reply(side.fqcn, request.origin, request.id, "", {}, {}, (text,)))


def the_request(side: Side) -> Request:
    """The only one that has come."""
    eventually(lambda: side.handled)
    (request,) = side.handled
    assert isinstance(request, Request)
    return request


def test_a_request_is_handled_and_its_reply_settles_the_call_once(stack: ExitStack) -> None:
    server = Side(stack, "server")
    site = Side(stack, "site-1", server)
    settled, _ = ask(site, "server")
    request = the_request(server)
    assert (request.origin, request.channel, request.topic, bytes(request.body[0])) == ("site-1", "c", "t", b"body")
    assert request.headers == {"h": 1} and site.control.calls_count() == 1
    answer(server, request, b"first")
    answer(server, request, b"second")
    eventually(lambda: settled)
    assert site.control.calls_count() == 0
    ((reply, error),) = settled
    assert error is None and reply is not None and bytes(reply.body[0]) == b"first"
    assert isinstance(site.control, Control) and "0 calls" in repr(site.control)


def test_a_call_to_oneself_goes_the_same_way(stack: ExitStack) -> None:
    server = Side(stack, "server")
    settled, _ = ask(server, "server")
    answer(server, the_request(server), b"me")
    eventually(lambda: settled)
    assert settled[0][0] is not None and bytes(settled[0][0].body[0]) == b"me"


def test_a_call_that_is_cancelled_reaches_the_handler(stack: ExitStack) -> None:
    server = Side(stack, "server")
    site = Side(stack, "site-1", server)
    settled, call = ask(site, "server")
    request = the_request(server)
    site.control.cancel(call, "enough")
    eventually(lambda: settled and server.aborted)
    assert isinstance(settled[0][1], Cancelled) and server.aborted == [("site-1", request.id)]


def test_a_call_that_nobody_answers_times_out(stack: ExitStack) -> None:
    server = Side(stack, "server")
    settled, _ = ask(server, "server", timeout_s=0.05)
    eventually(lambda: settled)
    assert isinstance(settled[0][1], TimedOut)


def test_an_unknown_target_is_refused_by_the_cell_that_cannot_go_on(stack: ExitStack) -> None:
    server = Side(stack, "server")
    site = Side(stack, "site-1", server)
    settled, _ = ask(site, "site-2")
    eventually(lambda: settled)
    error = settled[0][1]
    assert isinstance(error, NoRoute) and (error.at, error.target) == ("server", "site-2")


def test_a_callee_that_closes_ends_the_calls_that_wait_for_it(stack: ExitStack) -> None:
    server = Side(stack, "server")
    with ExitStack() as inner:
        Side(inner, "site-1", server)
        settled, _ = ask(server, "site-1")
    eventually(lambda: settled and server.downs and server.lost)
    assert isinstance(settled[0][1], PeerLost)
    assert server.downs[0].fqcn == "site-1" and server.lost[0].name == "site-1"


def test_a_caller_that_is_gone_aborts_what_runs_for_it_and_its_reply_is_undelivered(stack: ExitStack) -> None:
    server = Side(stack, "server")
    with ExitStack() as inner:
        site = Side(inner, "site-1", server)
        ask(site, "server")
        request = the_request(server)
    eventually(lambda: server.aborted)
    answer(server, request, b"late")
    assert eventually(lambda: server.undelivered == [request.id])


def test_a_notice_is_handed_over_and_handled_without_an_answer(stack: ExitStack) -> None:
    server = Side(stack, "server")
    site = Side(stack, "site-1", server)
    told: list[object] = []
    site.control.notice("server", "c", "t", {}, (b"x",), handed=lambda: told.append("handed"), failed=told.append)
    eventually(lambda: server.handled and told)
    (notice,) = server.handled
    assert isinstance(notice, Notice) and notice.body == (b"x",) and told == ["handed"]


def test_a_notice_that_cannot_be_delivered_is_told_why(stack: ExitStack) -> None:
    server = Side(stack, "server")
    told: list[object] = []
    server.control.notice("site-9", "c", "t", {}, (), handed=lambda: told.append("handed"), failed=told.append)
    eventually(lambda: len(told) == 2)
    assert any(isinstance(each, NoRoute) and each.target == "site-9" for each in told) and "handed" in told


def test_a_notice_that_was_refused_far_away_fails_later_and_once(stack: ExitStack) -> None:
    server = Side(stack, "server")
    site = Side(stack, "site-1", server)
    told: list[object] = []
    site.control.notice("server", "c", "t", {}, (), handed=lambda: told.append("handed"), failed=told.append)
    eventually(lambda: server.handled and told == ["handed"])
    refused = Refused(by="server", reason="no-handler", text="none")
    for _ in range(2):
        server.control.post(Bounce("server", "site-1", server.handled[0].id, int(Kind.NOTICE), *to_wire(refused)))
    eventually(lambda: len(site.undelivered) == 2)
    assert len(told) == 2 and isinstance(told[1], Refused)


def test_progress_is_told_to_who_wants_to_hear_it(stack: ExitStack) -> None:
    server = Side(stack, "server")
    site = Side(stack, "site-1", server)
    heard: list[object] = []
    settled: list[object] = []
    question = Question("server", "c", "t", (b"x",), 20.0, {})
    site.control.call(question, lambda reply, error: settled.append(reply), heard.append)
    site.control.call(question, lambda reply, error: settled.append(reply))
    eventually(lambda: len(server.handled) == 2)
    for request in server.handled:
        server.control.post(Progress("server", "site-1", request.id, {"step": 1}))
        answer(server, request, b"done")  # type: ignore[arg-type]
    eventually(lambda: len(settled) == 2)
    assert [dict(facts) for facts in heard] == [{"step": 1}]  # type: ignore[call-overload]


def test_who_is_below_is_told_along_the_tree_and_noted(stack: ExitStack) -> None:
    server = Side(stack, "server")
    site = Side(stack, "site-1", server)
    with ExitStack() as inner:
        Side(inner, "site-1.a", site)
        eventually(lambda: [each.fqcn for each in server.subtree if isinstance(each, SubtreeUp)] == ["site-1", "site-1.a"])
        assert set(server.lanes.control_loop.ask(server.control.subtree.names)) == {"site-1", "site-1.a"}
    eventually(lambda: SubtreeDown("site-1.a", "site-1", "it said goodbye: closed") in server.subtree)
    assert site.subtree == [SubtreeUp("site-1.a", "site-1.a"),
                            SubtreeDown("site-1.a", "site-1.a", "it said goodbye: closed")]


def test_the_end_settles_what_still_waits(stack: ExitStack) -> None:
    server = Side(stack, "server")
    settled, _ = ask(server, "server")
    server.control.close()
    eventually(lambda: settled)
    assert isinstance(settled[0][1], Closed)
