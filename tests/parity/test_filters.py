"""Filters through the public API (F1, F2, F4): in and out, requests, replies and notices; change, answer, refuse, observe."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from zdl.assembly import Cell
from zdl.cell.filters import Filters, Passing, Verdict
from zdl.cell.messages import Request
from zdl.cell.passing_by import Passed
from zdl.errors import NoRoute, OptionError, Refused, RemoteError, TimedOut
from zdl.options import CallOptions, Options
from zdl.refs import Ref

from trees import Trees
from waiting import PATIENCE_S, eventually

LARGE = 2 << 20
POINTS = ("outgoing_request", "incoming_request", "outgoing_reply", "incoming_reply")


class Stage:
    """server, which echoes; site-1, which asks; a middle one is in between when wanted."""

    def __init__(self, trees: Trees) -> None:
        self.server, self.site = trees.grow("server", "site-1")
        self.ran: list[str] = []
        self.server.handler("task", "echo")(self._echo)
        self.server.handler("task", "fail")(_fail)

    def _echo(self, request: Request) -> object:
        self.ran.append(threading.current_thread().name)
        return request.body

    def filters(self, point: str) -> Filters:
        """Those of the cell where this point is, for a request of the site."""
        return (self.site if point in ("outgoing_request", "incoming_reply", "outgoing_notice") else self.server).filters

    def add(self, point: str, function: Callable[[Passing], Verdict], channel: str = "task", topic: str = "*") -> None:
        """A filter at the point."""
        getattr(self.filters(point), point)(channel, topic)(function)

    def ways(self, body: object = None, topic: str = "echo", **how: Any) -> list[Callable[[], object]]:
        """The same request in each of its forms."""
        site, to = self.site, ("task", topic, body)
        how["timeout_s"] = PATIENCE_S

        async def ask() -> object:
            return (await site.aio.request("server", *to, **how)).body

        return [lambda: site.request("server", *to, **how).body,
                lambda: site.request_future("server", *to, **how).result(PATIENCE_S).body,
                lambda: site.broadcast(["server"], *to, **how)["server"].body,
                lambda: asyncio.run(ask())]


def _fail(request: Request) -> object:
    raise ValueError("bad")


@pytest.fixture
def stage(trees: Trees) -> Stage:
    return Stage(trees)


# --- F1: where, and for what ----------------------------------------------------------------------

@pytest.mark.row("F1")
@pytest.mark.parametrize("point", POINTS)
def test_F1_a_filter_sees_every_message_whatever_its_size_and_form(stage: Stage, point: str) -> None:
    seen: list[Passing] = []
    stage.add(point, seen.append)  # type: ignore[arg-type]
    for body in ({"a": 1}, np.ones(50_000), {"w": np.ones(LARGE)}):
        for ask in stage.ways(body, headers={"h": 1}):
            ask()
    assert len(seen) == 12
    is_request = point.endswith("request")
    origin, target = ("site-1", "server") if is_request else ("server", "site-1")
    for each in seen:
        assert (each.point.value, each.origin, each.target, each.channel, each.topic, each.error) == (
            point.replace("_", " "), origin, target, "task", "echo", None)
        assert dict(each.headers) == ({"h": 1} if is_request else {})
    assert seen[0].body == {"a": 1}
    # What is on its way in has refs in place of what is lent; what goes out has the objects.
    large = seen[-1].body["w"]  # type: ignore[index,call-overload]
    assert isinstance(large, Ref if point.startswith("incoming") else np.ndarray)


@pytest.mark.row("F1")
@pytest.mark.parametrize(("channel", "topic", "counts"), [
    ("task", "echo", 1), ("task", "*", 1), ("*", "echo", 1), ("*", "*", 1), ("task", "other", 0), ("other", "*", 0), ("*", "x", 0)])
def test_F1_a_filter_is_picked_by_channel_and_topic_with_a_star_for_either(stage: Stage, channel: str, topic: str,
                                                                           counts: int) -> None:
    seen: list[str] = []
    for point in POINTS:
        stage.add(point, lambda message, point=point: seen.append(point), channel, topic)  # type: ignore[misc]
    stage.ways(1)[0]()
    assert seen == [*POINTS] * counts


@pytest.mark.row("F1")
def test_F1_a_star_does_not_reach_the_cells_own_channel_but_its_name_does(stage: Stage) -> None:
    seen: list[str] = []
    stage.add("incoming_request", lambda message: seen.append(message.topic), "*", "*")
    stage.site.request("server", "zdl", "ping")
    assert seen == []
    stage.add("incoming_request", lambda message: seen.append(message.topic), "zdl", "ping")
    stage.site.request("server", "zdl", "ping")
    assert seen == ["ping"]


@pytest.mark.row("F1")
def test_F1_filters_run_on_the_thread_that_sends_on_the_pool_and_never_on_a_loop(stage: Stage) -> None:
    threads: dict[str, list[str]] = {point: [] for point in POINTS}
    for point in POINTS:
        stage.add(point, lambda message, point=point: threads[point].append(threading.current_thread().name))  # type: ignore[misc]
    stage.server.handler("task", "quick", inline=True)(lambda request: request.body)
    own = threading.current_thread().name
    for topic in ("echo", "quick"):
        ask, future, _, _ = stage.ways(1, topic)
        ask()
        future()
        assert threads["outgoing_request"] == [own, own]
        assert threads["incoming_reply"][0] == own and threads["incoming_reply"][1].startswith("zdl-handler-site-1")
        assert all(name.startswith("zdl-handler-server") for name in threads["incoming_request"] + threads["outgoing_reply"])
        for names in threads.values():
            names.clear()


@pytest.mark.row("F1")
def test_F1_notices_pass_filters_too(stage: Stage) -> None:
    got: list[object] = []
    stage.server.handler("log", "line")(lambda request: got.append((request.body, dict(request.headers))))
    stage.add("outgoing_notice", lambda message: message.changed(body=[message.body, "out"]), "log")
    stage.add("incoming_notice", lambda message: message.changed(body=[message.body, "in"], headers={"h": 1}), "log")
    stage.site.notice("server", "log", "line", 1)
    eventually(lambda: got)
    assert got == [([[1, "out"], "in"], {"h": 1})]


@pytest.mark.row("F1")
def test_F1_a_filter_that_was_removed_sees_nothing_more(stage: Stage) -> None:
    seen: list[Passing] = []
    stage.add("incoming_request", seen.append)  # type: ignore[arg-type]
    stage.ways(1)[0]()
    stage.server.filters.remove(seen.append)  # another object: a bound method is made anew each time
    function = stage.server.filters._entries[seen[0].point][0].function
    stage.server.filters.remove(function)
    stage.ways(1)[0]()
    assert len(seen) == 1 and not stage.server.filters.is_used


@pytest.mark.row("F1")
def test_F1_a_filter_gets_the_objects_if_it_wants_them(stage: Stage) -> None:
    seen: list[float] = []

    def look(message: Passing) -> Verdict:
        seen.append(message.body["w"].sum())  # type: ignore[index,call-overload]
        return None

    stage.server.filters.incoming_request("task", "echo", resolve=True)(look)
    stage.site.filters.incoming_reply("task", "echo", resolve=True)(look)
    for ask in stage.ways({"w": np.ones(LARGE)}):
        assert ask()["w"].sum() == LARGE  # type: ignore[index]
    assert seen == [LARGE] * 8


# --- F2: what a filter may do ---------------------------------------------------------------------

@pytest.mark.row("F2")
@pytest.mark.parametrize("point", POINTS)
def test_F2_a_filter_may_change_body_and_headers(stage: Stage, point: str) -> None:
    stage.server.handler("task", "headers")(lambda request: [request.body, dict(request.headers)])
    stage.add(point, lambda message: message.changed(body=[message.body, "seen"], headers={**message.headers, "new": 2}))
    for ask in stage.ways(1, "headers", headers={"old": 1}):
        found = ask()
        if point.endswith("request"):
            assert found == [[1, "seen"], {"old": 1, "new": 2}]
        else:
            assert found == [[1, {"old": 1}], "seen"]
    reply = stage.site.request("server", "task", "headers", timeout_s=PATIENCE_S)
    assert dict(reply.headers) == ({"new": 2} if point.endswith("reply") else {})


@pytest.mark.row("F2")
@pytest.mark.parametrize("point", POINTS)
def test_F2_a_filter_may_answer_itself(stage: Stage, point: str) -> None:
    stage.add(point, lambda message: message.answer({"by": "filter", "w": np.ones(LARGE)}))
    for ask in stage.ways(1):
        found = ask()
        assert found["by"] == "filter" and found["w"].sum() == LARGE  # type: ignore[index]
    assert len(stage.ran) == (0 if point.endswith("request") else 4)
    eventually(lambda: not any(cell.downloads.transactions for cell in (stage.server, stage.site)))


@pytest.mark.row("F2")
@pytest.mark.parametrize("point", POINTS)
def test_F2_a_filter_may_refuse_and_the_sender_gets_its_reason(stage: Stage, point: str) -> None:
    stage.add(point, lambda message: message.refuse("too many today", reason="quota"))
    for ask in stage.ways({"w": np.ones(LARGE)}):
        with pytest.raises(Refused) as caught:
            ask()
        by = "server" if point in ("incoming_request", "outgoing_reply") else "site-1"
        assert (caught.value.by, caught.value.reason, caught.value.text) == (by, "quota", "too many today")
    assert len(stage.ran) == (0 if point.endswith("request") else 4)
    if point == "incoming_request":
        assert not stage.server.downloads.transfers, "nothing was pulled for what was refused"


@pytest.mark.row("F2")
@pytest.mark.parametrize("point", POINTS)
def test_F2_a_filter_that_raises_refuses(stage: Stage, point: str) -> None:
    stage.add(point, lambda message: 1 / 0)  # type: ignore[arg-type,return-value]
    for ask in stage.ways(1):
        with pytest.raises(Refused) as caught:
            ask()
        assert caught.value.reason == "filter-failed" and "ZeroDivisionError" in caught.value.text
    assert stage.site.replies.request("server", "task", "echo", timeout_s=PATIENCE_S).code == "filter_error"


@pytest.mark.row("F2")
@pytest.mark.parametrize("wrong", [{"a": 1}, True])
def test_F2_a_filter_that_returns_something_else_refuses(stage: Stage, wrong: object) -> None:
    stage.add("incoming_request", lambda message: wrong)  # type: ignore[arg-type,return-value]
    with pytest.raises(Refused, match="it returned a"):
        stage.ways(1)[0]()


@pytest.mark.row("F2")
def test_F2_headers_that_cannot_travel_are_a_failure_of_the_filter(stage: Stage) -> None:
    stage.add("outgoing_reply", lambda message: message.changed(headers={"a": object()}))
    with pytest.raises(Refused, match="OptionError"):
        stage.ways(1)[0]()


@pytest.mark.row("F2")
@pytest.mark.parametrize("point", POINTS)
def test_F2_filters_run_in_the_order_in_which_they_were_added_until_one_ends_it(stage: Stage, point: str) -> None:
    seen: list[object] = []

    def note(message: Passing, name: str) -> Passing:
        seen.append(message.body)
        return message.changed(body=f"{message.body}{name}")

    stage.add(point, lambda message: note(message, "a"), "*", "*")
    stage.add(point, lambda message: note(message, "b"), "task", "echo")
    stage.add(point, lambda message: note(message, "c"), "task", "*")
    assert stage.ways("")[0]() == "abc"
    assert seen == ["", "a", "ab"]
    stage.add(point, lambda message: message.answer("end"))
    stage.add(point, lambda message: note(message, "never"))
    assert stage.ways("")[0]() == "end"
    assert len(seen) == 6


@pytest.mark.row("F2")
def test_F2_reply_filters_see_errors_and_may_make_good_replies_of_them(stage: Stage) -> None:
    seen: list[object] = []
    stage.add("outgoing_reply", lambda message: seen.append((type(message.error), message.body)))
    for ask in stage.ways(1, "fail"):
        with pytest.raises(RemoteError, match="ValueError"):
            ask()
    assert seen == [(RemoteError, None)] * 4
    stage.add("outgoing_reply", lambda message: message.changed(body="mended") if message.error else None)
    assert [ask() for ask in stage.ways(1, "fail")] == ["mended"] * 4


@pytest.mark.row("F2")
def test_F2_incoming_reply_filters_see_whatever_ended_the_call(stage: Stage) -> None:
    seen: list[type] = []
    let_go = threading.Event()
    stage.server.handler("task", "wait")(lambda request: let_go.wait(PATIENCE_S))
    stage.site.filters.incoming_reply("*", "*")(lambda message: seen.append(type(message.error)))
    for target, topic, error in (("site-9", "echo", NoRoute), ("server", "none", Refused), ("server", "wait", TimedOut)):
        with pytest.raises(error):
            stage.site.request(target, "task", topic, timeout_s=0.2 if topic == "wait" else PATIENCE_S)
    assert seen == [NoRoute, Refused, TimedOut]
    let_go.set()
    stage.site.filters.incoming_reply("*", "echo")(lambda message: message.answer("instead"))
    assert stage.site.broadcast(["site-9"], "task", "echo")["site-9"].body == "instead"


@pytest.mark.row("F2")
def test_F2_an_answer_of_an_incoming_filter_goes_back_like_any_reply(stage: Stage) -> None:
    stage.add("incoming_request", lambda message: message.answer(1))
    stage.add("outgoing_reply", lambda message: message.changed(body=[message.body]))
    stage.add("incoming_reply", lambda message: message.changed(body=(message.body, "in")))
    assert [ask() for ask in stage.ways()] == [([1], "in")] * 4


@pytest.mark.row("F2", "M6")
def test_F2_late_answers_pass_outgoing_reply_filters(stage: Stage) -> None:
    laters = []
    stage.server.handler("task", "later")(lambda request: laters.append(request.later()) or laters[-1])
    stage.add("outgoing_reply", lambda message: message.refuse("no") if message.body == 2 else message.changed(body=[message.body]))
    for body in (1, 2):
        future = stage.site.request_future("server", "task", "later", timeout_s=PATIENCE_S)
        eventually(lambda: len(laters) == body)
        assert laters[-1].reply(body)
        if body == 1:
            assert future.result(PATIENCE_S).body == [1]
        else:
            assert isinstance(future.exception(PATIENCE_S), Refused)


@pytest.mark.row("F2", "M10")
def test_F2_what_a_filter_has_changed_is_forwarded_changed(trees: Trees) -> None:
    server, site, leaf = trees.grow("server", "site-1", "site-1.leaf")
    leaf.handler("task", "echo")(lambda request: request.body)
    site.handler("task", "echo", resolve=False)(lambda request: request.forward("site-1.leaf"))
    assert server.request("site-1", "task", "echo", 1, timeout_s=PATIENCE_S).body == 1
    site.filters.incoming_request("task", "echo")(lambda message: message.changed(body=[message.body]))
    assert server.request("site-1", "task", "echo", 1, timeout_s=PATIENCE_S).body == [1]


@pytest.mark.row("F2", "M4")
def test_F2_notices_are_refused_to_the_sender_and_per_target(stage: Stage) -> None:
    got: list[object] = []
    for cell in (stage.server, stage.site):
        cell.handler("log", "line")(lambda request: got.append(request.target))
    stage.add("outgoing_notice", lambda message: message.refuse("quiet") if message.target == "server" else None, "log")
    with pytest.raises(Refused, match="quiet"):
        stage.site.notice("server", "log", "line")
    sent = stage.site.notice(["server", "site-1"], "log", "line")
    assert list(sent.wait_handed(PATIENCE_S)) == ["server"]
    eventually(lambda: got == ["site-1"])
    stage.site.filters.outgoing_notice("log", "*")(lambda message: message.answer())
    assert stage.site.notice("site-1", "log", "line").wait_handed(PATIENCE_S) == {}
    stage.add("incoming_notice", lambda message: message.refuse("never"), "loud")
    stage.server.handler("loud", "line")(lambda request: got.append("loud"))
    told: list[tuple[str, str]] = []
    stage.site.notice("server", "loud", "line", optional=True, undelivered=lambda target, error: told.append((target, str(error))))
    eventually(lambda: told)
    assert told == [("server", "server refused (filter): never")] and got == ["site-1"]


@pytest.mark.row("F2")
def test_F2_a_future_behind_filters_can_be_cancelled(stage: Stage) -> None:
    aborted: list[object] = []
    let_go = threading.Event()

    @stage.server.handler("task", "wait")
    def wait(request: Request) -> object:
        request.abort.on_trigger(lambda: aborted.append(request.abort.value))
        let_go.wait(PATIENCE_S)
        return None

    stage.add("incoming_reply", lambda message: None)
    future = stage.site.request_future("server", "task", "wait", timeout_s=None)
    assert future.cancel()
    eventually(lambda: aborted)
    let_go.set()


@pytest.mark.row("F2", "M15")
def test_F2_a_broadcast_passes_filters_target_by_target_and_packs_once_what_they_leave(trees: Trees) -> None:
    server, *sites = trees.grow("server", "site-1", "site-2", "site-3", "site-4")
    for site in sites:
        site.handler("task", "look", resolve=False)(lambda request: [request.body, dict(request.headers)])

    @server.filters.outgoing_request("task", "look")
    def look(message: Passing) -> Verdict:
        match message.target:
            case "site-1":
                return message.refuse("not you")
            case "site-2":
                return message.answer("known")
            case _:
                return message.changed(headers={"to": message.target})

    names = [site.fqcn for site in sites]
    answers = server.broadcast(names, "task", "look", np.ones(LARGE), resolve=False, timeout_s=PATIENCE_S)
    assert list(answers) == names and len(list(answers.as_completed())) == 4
    assert isinstance(answers["site-1"].error, Refused) and answers["site-2"].body == "known"
    (third, third_headers), (fourth, fourth_headers) = answers["site-3"].body, answers["site-4"].body  # type: ignore[misc]
    assert (third, third_headers, fourth_headers) == (fourth, {"to": "site-3"}, {"to": "site-4"})
    (transaction,) = server.downloads.transactions
    transaction.delete()
    eventually(lambda: not server.downloads.transactions)


def test_filters_are_bounded() -> None:
    filters = Filters("server", lambda headers: None)
    with pytest.raises(OptionError, match="filters=1001"):
        for _ in range(1001):
            filters.incoming_request("a", "b")(lambda message: None)
    assert repr(filters) == "<Filters of server: 1000 incoming request>"


# --- F4: what a relay sees ------------------------------------------------------------------------

@pytest.mark.row("F4")
def test_F4_a_relay_observes_what_it_passes_on_and_what_it_could_not(trees: Trees) -> None:
    server, site, leaf, other = trees.grow("server", "site-1", "site-1.leaf", "site-2")
    other.handler("task", "echo")(lambda request: request.body)
    seen: list[Passed] = []
    observer = site.filters.observe(seen.append)
    leaf.request("site-2", "task", "echo", np.ones(50_000), timeout_s=PATIENCE_S)
    eventually(lambda: len(seen) >= 2)
    request, reply = seen[:2]
    assert (request.kind, request.origin, request.target, request.channel, request.topic, request.hops, request.error) == (
        "request", "site-1.leaf", "site-2", "task", "echo", 0, None)
    assert (reply.kind, reply.origin, reply.target, reply.id, reply.error) == ("reply", "site-2", "site-1.leaf", request.id, None)
    assert request.body_bytes > 400_000 and not hasattr(request, "body")
    with pytest.raises(NoRoute):
        leaf.request("site-1.nobody", "task", "echo", timeout_s=PATIENCE_S)
    eventually(lambda: any(each.error for each in seen))
    failed = next(each for each in seen if each.error)
    assert (failed.target, failed.topic, str(failed.error)) == (
        "site-1.nobody", "echo", "no route to site-1.nobody: site-1 could not go on")
    site.request("server", "zdl", "ping")
    site.filters.passing_by.remove(observer)
    count = len(seen)
    leaf.request("site-2", "task", "echo", timeout_s=PATIENCE_S)
    assert len(seen) == count and not any(each.origin == "site-1" for each in seen), "its own are not what it passes on"


@pytest.mark.row("F4")
def test_F4_an_observer_that_is_too_slow_misses_some_and_holds_nothing_up(trees: Trees) -> None:
    server = trees.grow("server", options=Options(calls=CallOptions(told_max=2)))[0]
    one, two = (trees.add(Cell(name, parent=server.addresses[0])) for name in ("site-1", "site-2"))
    two.handler("task", "echo")(lambda request: request.body)
    let_go = threading.Event()
    seen: list[Passed] = []
    server.filters.observe(lambda passed: let_go.wait(PATIENCE_S))
    server.filters.observe(seen.append)
    for _ in range(10):
        one.request("site-2", "task", "echo", timeout_s=PATIENCE_S)
    assert server.filters.passing_by.dropped_count >= 10
    let_go.set()
    eventually(lambda: len(seen) >= 2)
