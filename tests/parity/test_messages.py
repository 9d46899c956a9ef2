"""Messages through the public API, a test for each row of the parity table (M1 to M19)."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from zdl.assembly import Cell
from zdl.cell.codes import ReturnCode
from zdl.cell.later import Later
from zdl.cell.messages import Reply, Request
from zdl.cell.signal import Signal
from zdl.errors import (
    Busy,
    Cancelled,
    CannotPack,
    CannotUnpack,
    Closed,
    FqcnError,
    NoRoute,
    OptionError,
    Refused,
    RemoteError,
    TimedOut,
    TooLarge,
    ZdlError,
)
from zdl.objects.pack import pack
from zdl.objects.typetable import TypeTable
from zdl.options import CallOptions, Options, PackOptions, PullOptions
from zdl.protocol.messages import Reply as WireReply, Request as WireRequest
from zdl.refs import Ref

from rawpeer import RawPeer
from trees import Trees
from waiting import PATIENCE_S, eventually

LARGE = 2 << 20


@dataclass(frozen=True)
class Celsius:
    """A value of the user's own."""

    degrees: float


class Stage:
    """server, site-1, site-2 and site-1.leaf; all have task/echo, and task/wait, which waits until it is let go."""

    def __init__(self, trees: Trees) -> None:
        self.trees = trees
        self.server, self.one, self.two, self.leaf = self.all = trees.grow("server", "site-1", "site-2", "site-1.leaf")
        self.entered = threading.Semaphore(0)
        self.let_go = threading.Event()
        self.aborted: list[object] = []
        for cell in self.all:
            cell.handler("task", "echo")(lambda request: request.body)
            cell.handler("task", "fail")(_fail)
            cell.handler("task", "wait")(self._wait)

    def _wait(self, request: Request) -> object:
        request.abort.on_trigger(lambda: self.aborted.append(request.abort.value))
        self.entered.release()
        self.let_go.wait(PATIENCE_S)
        return request.target


def _fail(request: Request) -> object:
    raise ValueError("bad")


def _refuse(request: Request, reason: str) -> object:
    raise request.refused(reason, "because")


@pytest.fixture
def stage(trees: Trees) -> Iterator[Stage]:
    made = Stage(trees)
    yield made
    made.let_go.set()


# --- M1, M9: a reply or an error; always a reply with a code --------------------------------------

@pytest.mark.row("M1")
def test_M1_a_request_returns_the_reply_or_raises_a_typed_error(stage: Stage) -> None:
    reply = stage.two.request("site-1.leaf", "task", "echo", {"a": 1}, timeout_s=PATIENCE_S)
    assert (reply.body, reply.origin, reply.hops) == ({"a": 1}, "site-1.leaf", 2)
    for target, topic, error in (("site-9", "echo", NoRoute), ("server", "none", Refused), ("server", "fail", RemoteError)):
        with pytest.raises(error):
            stage.two.request(target, "task", topic, timeout_s=PATIENCE_S)


@pytest.mark.row("M1", "M9")
@pytest.mark.parametrize(("target", "topic", "code"), [
    ("site-1.leaf", "echo", ReturnCode.OK), ("site-9", "echo", ReturnCode.TARGET_UNREACHABLE),
    ("no..name", "echo", ReturnCode.INVALID_TARGET), ("server", "none", ReturnCode.PROCESS_EXCEPTION),
    ("server", "fail", ReturnCode.PROCESS_EXCEPTION), ("server", "wait", ReturnCode.TIMEOUT),
])
def test_M1_a_facade_always_gives_a_reply_with_a_return_code(stage: Stage, target: str, topic: str, code: ReturnCode) -> None:
    reply = stage.two.replies.request(target, "task", topic, [1], timeout_s=0.3 if topic == "wait" else PATIENCE_S)
    assert (reply.code, reply.is_ok, reply.body, reply.error is None) == (
        code, code is ReturnCode.OK, [1] if code is ReturnCode.OK else None, code is ReturnCode.OK)


@pytest.mark.row("M1", "M2")
def test_M1_the_facade_answers_for_each_target_of_a_broadcast(stage: Stage) -> None:
    found = stage.server.replies.broadcast(["site-1", "site-9"], "task", "echo", 5, timeout_s=PATIENCE_S)
    assert [(name, each.code, each.body) for name, each in found.items()] == [
        ("site-1", "ok", 5), ("site-9", "target_unreachable", None)]


@pytest.mark.row("M1", "M9")
def test_M1_the_facade_raises_only_for_a_call_that_is_wrong_in_itself(stage: Stage) -> None:
    with pytest.raises(CannotPack):
        stage.one.replies.request("server", "task", "echo", object())
    with pytest.raises(OptionError):
        stage.one.replies.request("server", "task", "echo", timeout_s=-5.0)


@pytest.mark.row("M9")
@pytest.mark.parametrize(("reason", "code"), [
    ("invalid-session", "invalid_session"), ("unauthenticated", "unauthenticated"), ("abort-run", "abort_run"),
    ("authentication", "authentication_error"), ("service-unavailable", "service_unavailable"),
    ("invalid-request", "invalid_request"),
])
def test_M9_a_handler_can_give_the_ancestors_codes(stage: Stage, reason: str, code: str) -> None:
    @stage.server.handler("task", "no")
    def no(request: Request) -> object:
        raise request.refused(reason, "because")

    found = stage.leaf.replies.request("server", "task", "no", timeout_s=PATIENCE_S)
    assert (found.code, str(found.error)) == (code, f"server refused ({reason}): because")


@pytest.mark.row("M9")
def test_M9_each_of_the_fourteen_codes_comes_out_of_a_real_call(trees: Trees, stage: Stage) -> None:
    server, one, two = stage.server, stage.one, stage.two
    small = trees.add(Cell("site-3", parent=server.addresses[0], listen="tcp://127.0.0.1:0", options=Options(
        packing=PackOptions(skeleton_bytes_max=4096, inline_bytes_max=1024), calls=CallOptions(calls_max=1))))
    server.handler("task", "no")(lambda request: _refuse(request, str(request.body)))
    server.handler("task", "filtered")(lambda request: request.body)
    server.filters.incoming_request("task", "filtered")(lambda message: message.refuse("not this one"))
    code = {"never there": one.replies.request("site-9", "task", "echo").code,
            "no name": one.replies.request("no..name", "task", "echo").code,
            "well": one.replies.request("server", "task", "echo").code,
            "raised": one.replies.request("server", "task", "fail").code,
            "late": one.replies.request("server", "task", "wait", timeout_s=0.1).code,
            "too large": small.replies.request("server", "task", "echo", ["x" * 100] * 50).code,
            "filtered": one.replies.request("server", "task", "filtered").code}
    for reason in ("authentication", "unauthenticated", "invalid-request", "invalid-session", "abort-run"):
        code[reason] = one.replies.request("server", "task", "no", reason).code
    first = small.request_future("server", "task", "wait", timeout_s=PATIENCE_S)
    code["busy"] = small.replies.request("server", "task", "echo").code
    lost: list[ReturnCode] = []
    asker = threading.Thread(target=lambda: lost.append(server.replies.request("site-2", "task", "wait", timeout_s=None).code))
    asker.start()
    for _ in range(3):  # the late one, the one that keeps the other busy, and this one
        assert stage.entered.acquire(timeout=PATIENCE_S)
    two.close(0.0)
    asker.join(PATIENCE_S)
    (code["lost"],) = lost
    assert code == {
        "never there": "target_unreachable", "no name": "invalid_target", "well": "ok", "raised": "process_exception",
        "late": "timeout", "too large": "msg_too_big", "filtered": "filter_error", "authentication": "authentication_error",
        "unauthenticated": "unauthenticated", "invalid-request": "invalid_request", "invalid-session": "invalid_session",
        "abort-run": "abort_run", "busy": "service_unavailable", "lost": "comm_error"}
    assert set(code.values()) == set(ReturnCode)
    stage.let_go.set()
    assert first.result(PATIENCE_S).body == "server"


# --- M2, M3: broadcasts ---------------------------------------------------------------------------

@pytest.mark.row("M2")
def test_M2_a_broadcast_gives_an_outcome_for_every_target_in_the_end(stage: Stage) -> None:
    answers = stage.server.broadcast(["site-1", "site-9", "site-2"], "task", "echo", 7, timeout_s=PATIENCE_S)
    assert list(answers) == ["site-1", "site-9", "site-2"]
    assert [each.is_ok for each in answers.values()] == [True, False, True]
    assert isinstance(answers["site-9"].error, NoRoute) and answers["site-2"].body == 7


@pytest.mark.row("M2")
def test_M2_answers_come_while_others_are_still_out(stage: Stage) -> None:
    stage.one.handler("task", "race")(lambda request: "first")
    stage.two.handler("task", "race")(stage._wait)
    answers = stage.server.broadcast(["site-2", "site-1", "site-9"], "task", "race", timeout_s=PATIENCE_S).as_completed()
    early = {next(answers).target, next(answers).target}
    assert early == {"site-1", "site-9"} and not stage.let_go.is_set()
    stage.let_go.set()
    assert [(each.target, each.body) for each in answers] == [("site-2", "site-2")]


@pytest.mark.row("M2")
def test_M2_who_has_seen_enough_ends_the_rest(stage: Stage) -> None:
    answers = stage.server.broadcast(["site-1", "site-2"], "task", "wait", timeout_s=None)
    for _ in range(2):
        assert stage.entered.acquire(timeout=PATIENCE_S)
    answers.cancel("enough")
    assert all(isinstance(each.error, Cancelled) for each in answers.values())
    eventually(lambda: len(stage.aborted) == 2)


@pytest.mark.row("M2", "M7")
def test_M2_answers_can_be_iterated_on_an_event_loop(stage: Stage) -> None:
    stage.one.handler("task", "race")(lambda request: "first")
    stage.two.handler("task", "race")(stage._wait)

    async def ask() -> list[tuple[str, bool]]:
        seen = []
        async for answer in stage.server.aio.as_completed(["site-2", "site-1", "site-9"], "task", "race", timeout_s=PATIENCE_S):
            seen.append((answer.target, answer.is_ok))
            if len(seen) == 2:
                stage.let_go.set()
        return seen

    seen = asyncio.run(ask())
    assert sorted(seen[:2]) == [("site-1", True), ("site-9", False)] and seen[2:] == [("site-2", True)]


@pytest.mark.row("M2", "M7")
def test_M2_leaving_the_iteration_early_cancels_the_others(stage: Stage) -> None:
    async def ask() -> None:
        answers = stage.server.aio.as_completed(["site-9", "site-1"], "task", "wait", timeout_s=None)
        async for answer in answers:
            assert isinstance(answer.error, NoRoute)
            await asyncio.to_thread(stage.entered.acquire, timeout=PATIENCE_S)
            break
        await answers.aclose()  # type: ignore[attr-defined]

    asyncio.run(ask())
    eventually(lambda: stage.aborted)


@pytest.mark.row("M3")
def test_M3_each_target_may_get_a_body_of_its_own(stage: Stage) -> None:
    answers = stage.server.broadcast({"site-1": [1], "site-2": {"a": np.ones(LARGE)}}, "task", "echo", timeout_s=PATIENCE_S)
    assert answers["site-1"].body == [1]
    assert answers["site-2"].body["a"].sum() == LARGE  # type: ignore[index,call-overload]

    async def ask() -> list[object]:
        found = await stage.server.aio.broadcast({"site-1": 1, "site-2": 2}, "task", "echo", timeout_s=PATIENCE_S)
        return [each.body for each in found.values()]

    assert asyncio.run(ask()) == [1, 2]
    eventually(lambda: not any(cell.downloads.transactions for cell in stage.all))


# --- M4: notices ----------------------------------------------------------------------------------

@pytest.mark.row("M4")
def test_M4_a_notice_goes_to_one_or_many_and_says_where_it_could_not_go(stage: Stage) -> None:
    got: list[tuple[str, object]] = []
    for cell in stage.all:
        cell.handler("log", "line")(lambda request: got.append((request.target, request.body)))
    assert stage.server.notice("site-1", "log", "line", 1).wait_handed(PATIENCE_S) == {}
    sent = stage.server.notice(["site-1.leaf", "site-9", "site-2"], "log", "line", 2)
    errors = sent.wait_handed(PATIENCE_S)
    assert list(errors) == ["site-9"] and isinstance(errors["site-9"], NoRoute)
    stage.server.notice({"site-1": 3, "site-2": 4}, "log", "line")
    eventually(lambda: sorted(got, key=repr) == [
        ("site-1", 1), ("site-1", 3), ("site-1.leaf", 2), ("site-2", 2), ("site-2", 4)])


@pytest.mark.row("M4")
def test_M4_what_fails_later_is_told_once_per_target(stage: Stage) -> None:
    told: list[tuple[str, type]] = []
    sent = stage.leaf.notice(["site-1.nobody", "site-2", "server"], "task", "nothing", optional=True,
                             undelivered=lambda target, error: told.append((target, type(error))))
    eventually(lambda: len(told) == 3)
    assert sorted(told) == [("server", Refused), ("site-1.nobody", NoRoute), ("site-2", Refused)]
    assert {target: type(error) for target, error in sent.errors.items()} == dict(told)


# --- M6: answers that come later ------------------------------------------------------------------

class Promising:
    """A cell whose task/later promises, and keeps the promises in a list."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.laters: list[Later] = []
        cell.handler("task", "later")(self._later)

    def _later(self, request: Request) -> object:
        self.laters.append(request.later())
        return self.laters[-1]

    def wait(self) -> Later:
        eventually(lambda: self.laters)
        return self.laters[-1]


@pytest.mark.row("M6")
def test_M6_a_handler_may_answer_later_from_any_thread(stage: Stage) -> None:
    promising = Promising(stage.server)
    future = stage.leaf.request_future("server", "task", "later", timeout_s=PATIENCE_S)
    later = promising.wait()
    assert later.is_wanted and repr(later) == "<Later task/later for site-1.leaf: open>"
    with pytest.raises(CannotPack):
        later.reply(object())
    assert later.reply({"w": np.ones(LARGE)}) is True
    assert future.result(PATIENCE_S).body["w"].sum() == LARGE  # type: ignore[index,call-overload]
    assert later.reply(2) is False and later.fail(ValueError("again")) is False and not later.is_wanted


@pytest.mark.row("M6")
def test_M6_a_late_failure_is_an_error_at_the_caller(stage: Stage) -> None:
    promising = Promising(stage.server)
    future = stage.one.request_future("server", "task", "later", timeout_s=PATIENCE_S)
    assert promising.wait().fail(KeyError("k")) is True
    error = future.exception(PATIENCE_S)
    assert isinstance(error, RemoteError) and (error.kind, error.text, error.fqcn) == ("KeyError", "'k'", "server")


@pytest.mark.row("M6")
def test_M6_a_promise_ends_when_the_caller_waits_no_more(stage: Stage) -> None:
    promising = Promising(stage.server)
    with pytest.raises(TimedOut):
        stage.one.request("server", "task", "later", timeout_s=0.1)
    later = promising.wait()
    eventually(lambda: not later.is_wanted)
    assert later.reply(1) is False


@pytest.mark.row("M6")
def test_M6_a_cell_that_closes_tells_those_who_wait_for_its_promises(stage: Stage) -> None:
    promising = Promising(stage.two)
    future = stage.one.request_future("site-2", "task", "later", timeout_s=None)
    later = promising.wait()
    stage.two.close()
    error = future.exception(PATIENCE_S)
    assert isinstance(error, Closed) and error.fqcn == "site-2"
    assert later.reply(1) is False


@pytest.mark.row("M6")
def test_M6_a_promise_that_is_dropped_is_answered_with_an_error_and_a_warning(stage: Stage) -> None:
    promising = Promising(stage.server)
    future = stage.one.request_future("server", "task", "later", timeout_s=None)
    promising.wait()
    with pytest.warns(ResourceWarning, match="Later task/later for site-1"):
        eventually(lambda: promising.laters.clear() or gc.collect() < 0 or future.done())
    error = future.exception(PATIENCE_S)
    assert isinstance(error, RemoteError) and error.kind == "NeverAnswered"


@pytest.mark.row("M6")
def test_M6_promises_are_bounded(trees: Trees) -> None:
    (server,) = trees.grow("server", options=Options(calls=CallOptions(late_answers_max=1)))
    site = trees.add(Cell("site-1", parent=server.addresses[0]))
    promising = Promising(server)
    first = site.request_future("server", "task", "later", timeout_s=PATIENCE_S)
    later = promising.wait()
    with pytest.raises(RemoteError, match="late_answers_max=1"):
        site.request("server", "task", "later", timeout_s=PATIENCE_S)
    later.reply("now")
    assert first.result(PATIENCE_S).body == "now"


@pytest.mark.row("M6")
def test_M6_a_handler_that_promised_and_raised_has_answered(stage: Stage) -> None:
    kept: list[Later] = []

    @stage.server.handler("task", "both")
    def both(request: Request) -> object:
        kept.append(request.later())
        raise ValueError("after all")

    with pytest.raises(RemoteError, match="after all"):
        stage.one.request("server", "task", "both", timeout_s=PATIENCE_S)
    assert kept[0].reply(1) is False


# --- M8, M10: what handlers see -------------------------------------------------------------------

@pytest.mark.row("M8")
def test_M8_a_star_stands_for_any_channel_or_topic(stage: Stage) -> None:
    for channel, topic in (("c", "t"), ("c", "*"), ("*", "t"), ("*", "*")):
        stage.server.handler(channel, topic)(lambda request, name=f"{channel}/{topic}": name)
    found = [stage.one.request("server", channel, topic, timeout_s=PATIENCE_S).body for channel, topic in (
        ("c", "t"), ("c", "x"), ("x", "t"), ("x", "y"))]
    assert found == ["c/t", "c/*", "*/t", "*/*"]


@pytest.mark.row("M10")
def test_M10_a_handler_sees_who_asked_how_far_and_how_long(stage: Stage) -> None:
    @stage.server.handler("task", "look")
    def look(request: Request) -> object:
        left_s = request.left_s()
        return [request.origin, request.target, request.hops, dict(request.headers), request.verified_by,
                left_s if left_s is None else 0 < left_s <= 20]

    assert stage.leaf.request("server", "task", "look", headers={"colour": "red"}, timeout_s=20).body == [
        "site-1.leaf", "server", 1, {"colour": "red"}, "none", True]
    assert stage.one.request("server", "task", "look", timeout_s=None).body == ["site-1", "server", 0, {}, "none", None]
    assert stage.server.request("server", "task", "look", timeout_s=20).body == ["server", "server", 0, {}, "self", True]


@pytest.mark.row("M10")
@pytest.mark.parametrize(("scheme", "told"), [("ipc", "ipc"), ("inproc", "inproc"), ("tcp", "none")])
def test_M10_a_handler_sees_how_a_neighbours_name_was_verified(trees: Trees, scheme: str, told: str) -> None:
    server, site = trees.grow("server", "site-1", scheme=scheme)
    for cell in (server, site):
        cell.handler("task", "look")(lambda request: request.verified_by)
    assert site.request("server", "task", "look", timeout_s=PATIENCE_S).body == told
    assert server.request("site-1", "task", "look", timeout_s=PATIENCE_S).body == told


@pytest.mark.row("M10")
def test_M10_a_request_is_forwarded_unopened_with_its_headers_and_what_is_left_of_its_time(stage: Stage) -> None:
    seen: list[Request] = []

    @stage.one.handler("task", "train", resolve=False)
    def forward(request: Request) -> object:
        seen.append(request)
        return request.forward("site-1.leaf")

    @stage.leaf.handler("task", "train")
    def train(request: Request) -> object:
        seen.append(request)
        return {"w": request.body["w"] + 1, "small": request.body["small"]}  # type: ignore[index,call-overload]

    body = {"w": np.ones(LARGE), "small": np.arange(3)}
    reply = stage.server.request("site-1", "task", "train", body, headers={"round": 3}, timeout_s=20, receivers=["site-1.leaf"])
    assert reply.body["w"].sum() == 2 * LARGE and list(reply.body["small"]) == [0, 1, 2]  # type: ignore[index,call-overload]
    at_relay, at_leaf = seen
    assert isinstance(at_relay.body["w"], Ref) and isinstance(at_leaf.body["w"], np.ndarray)  # type: ignore[index,call-overload]
    assert dict(at_leaf.headers) == {"round": 3} and at_leaf.origin == "site-1"
    assert not stage.one.downloads.transfers, "the forwarder has pulled nothing"
    eventually(lambda: not any(cell.downloads.transactions for cell in stage.all))


# --- M7: awaitable twins --------------------------------------------------------------------------

@pytest.mark.row("M7")
def test_M7_requests_have_futures_and_awaitable_twins(stage: Stage) -> None:
    assert stage.one.request_future("site-2", "task", "echo", 1, timeout_s=PATIENCE_S).result(PATIENCE_S).body == 1

    async def ask() -> Reply:
        return await stage.one.aio.request("site-2", "task", "echo", 2, timeout_s=PATIENCE_S)

    assert asyncio.run(ask()).body == 2


@pytest.mark.row("M7", "M1")
def test_M7_replies_with_return_codes_have_awaitable_twins(stage: Stage) -> None:
    async def ask() -> None:
        replies = stage.one.aio.replies
        assert (await replies.request("site-2", "task", "echo", 2, timeout_s=PATIENCE_S)).body == 2
        assert (await replies.request("site-9", "task", "echo")).code is ReturnCode.TARGET_UNREACHABLE
        assert (await replies.request("site-2", "task", "fail")).code is ReturnCode.PROCESS_EXCEPTION
        found = await replies.broadcast(["site-2", "site-9"], "task", "echo", [3], timeout_s=PATIENCE_S)
        assert [(name, each.code, each.body) for name, each in found.items()] == [
            ("site-2", ReturnCode.OK, [3]), ("site-9", ReturnCode.TARGET_UNREACHABLE, None)]
        with pytest.raises(CannotPack):
            await replies.request("site-2", "task", "echo", object())
        stage.one.close()
        with pytest.raises(Closed):
            await replies.request("site-2", "task", "echo")

    asyncio.run(ask())


@pytest.mark.row("M7", "M4")
def test_M7_the_leaving_of_a_notice_can_be_awaited(stage: Stage) -> None:
    got: list[object] = []
    stage.one.handler("task", "note")(lambda request: got.append(request.body))

    async def tell() -> list[str]:
        return list((await stage.server.aio.notice(["site-1", "site-9"], "task", "note", 7)).errors)

    assert asyncio.run(tell()) == ["site-9"]
    eventually(lambda: got == [7])


@pytest.mark.row("M7")
def test_M7_being_ready_and_closing_can_be_awaited(stage: Stage) -> None:
    async def live() -> None:
        cell, twin = (Cell("site-3", parent=stage.server.addresses[0]) for _ in range(2))
        cell.start()
        await cell.aio.wait_ready(PATIENCE_S)
        assert (await cell.aio.request("server", "task", "echo", 1)).body == 1
        with twin, pytest.raises(Refused, match="name-taken"):
            await twin.aio.wait_ready(PATIENCE_S)
        assert await cell.aio.close() == []
        with pytest.raises(Closed):
            await cell.aio.wait_ready()

    asyncio.run(live())


@pytest.mark.row("M7")
def test_M7_who_awaits_a_parent_that_is_not_there_is_told_so() -> None:
    async def wait() -> None:
        with Cell("site-1", parent="tcp://127.0.0.1:1") as cell:
            with pytest.raises(TimedOut, match="tcp://127.0.0.1:1"):
                await cell.aio.wait_ready(0.05)

    asyncio.run(wait())


@pytest.mark.row("M7", "M14")
def test_M7_the_progress_of_a_broadcast_is_told_on_the_event_loop(stage: Stage) -> None:
    heard: list[bool] = []

    @stage.one.handler("task", "long")
    def long(request: Request) -> object:
        request.progress({"step": 1})
        eventually(lambda: heard)
        return None

    async def ask() -> None:
        own = threading.get_ident()
        answers = await stage.server.aio.broadcast(["site-1"], "task", "long", timeout_s=PATIENCE_S,
                                                   on_progress=lambda facts: heard.append(threading.get_ident() == own))
        assert answers["site-1"].is_ok

    asyncio.run(ask())
    assert heard == [True]


# --- M11, M12: expected failures, aborts ----------------------------------------------------------

@pytest.mark.row("M11")
@pytest.mark.parametrize(("optional", "level"), [(True, logging.DEBUG), (False, logging.INFO)])
def test_M11_an_optional_request_that_fails_is_logged_for_debugging_only(stage: Stage, caplog: pytest.LogCaptureFixture,
                                                                         optional: bool, level: int) -> None:
    def ask(way: int) -> None:
        if way == 0:
            stage.server.request("site-9", "task", "echo", optional=optional)
        elif way == 1:
            stage.server.request_future("site-9", "task", "echo", optional=optional).result(PATIENCE_S)
        else:
            raise stage.server.broadcast(["site-9"], "task", "echo", optional=optional)["site-9"].error or KeyError

    with caplog.at_level(logging.DEBUG, "zdl.cell"):
        for way in range(3):
            with pytest.raises(NoRoute):
                ask(way)
    assert [each.levelno for each in caplog.records if "no route to site-9" in each.getMessage()] == [level] * 3


@pytest.mark.row("M11", "M4")
@pytest.mark.parametrize(("optional", "level"), [(True, logging.DEBUG), (False, logging.WARNING)])
def test_M11_an_optional_notice_that_fails_is_logged_for_debugging_only(stage: Stage, caplog: pytest.LogCaptureFixture,
                                                                        optional: bool, level: int) -> None:
    with caplog.at_level(logging.DEBUG, "zdl.cell"):
        stage.server.notice("site-9", "task", "echo", optional=optional).wait_handed(PATIENCE_S)
    assert [each.levelno for each in caplog.records if "a notice to site-9" in each.getMessage()] == [level]


@pytest.mark.row("M12")
def test_M12_an_abort_ends_the_wait_at_once_is_told_apart_and_reaches_the_callee(stage: Stage) -> None:
    workflow = Signal()
    step = Signal(workflow)
    future = stage.one.request_future("server", "task", "wait", abort=step, timeout_s=None)
    assert stage.entered.acquire(timeout=PATIENCE_S)
    workflow.trigger("stop")
    with pytest.raises(Cancelled, match="triggered with 'stop'"):
        future.result(PATIENCE_S)
    eventually(lambda: stage.aborted)
    with pytest.raises(TimedOut):
        stage.one.request("server", "task", "wait", timeout_s=0.1)


@pytest.mark.row("M12")
@pytest.mark.parametrize("way", ["request", "future", "broadcast", "refs of a reply", "pull"])
def test_M12_an_abort_ends_whatever_wait_it_was_given_to(stage: Stage, way: str) -> None:
    slow = stage.trees.add(Cell("site-3", parent=stage.server.addresses[0], options=DRIP))
    stage.server.handler("task", "make")(lambda request: np.ones(8 * LARGE))
    lent = stage.server.downloads.lend(np.ones(8 * LARGE), receivers=0)
    abort = Signal()

    def ask() -> object:
        """None of these would end by itself for a minute."""
        match way:
            case "request":
                return slow.request("server", "task", "wait", abort=abort, timeout_s=None)
            case "future":
                return slow.request_future("server", "task", "wait", abort=abort, timeout_s=None).result()
            case "broadcast":
                return slow.broadcast(["server"], "task", "wait", abort=abort, timeout_s=None)["server"].body
            case "refs of a reply":
                return slow.request("server", "task", "make", abort=abort, timeout_s=None)
            case _:
                return slow.downloads.pull(lent.body, abort=abort)

    ends: list[BaseException] = []

    def run() -> None:
        try:
            ask()
        except ZdlError as error:
            ends.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    if way in ("refs of a reply", "pull"):
        eventually(lambda: slow.downloads.transfers and slow.downloads.transfers[-1].bytes_done, what="some bytes")
    else:
        assert stage.entered.acquire(timeout=PATIENCE_S)
    abort.trigger("enough")
    thread.join(PATIENCE_S)
    (error,) = ends
    assert isinstance(error, Cancelled) and "enough" in str(error), error
    if way not in ("refs of a reply", "pull"):
        eventually(lambda: stage.aborted, what="the abort at the callee")


# --- M13, M14: progress ---------------------------------------------------------------------------

@pytest.mark.row("M14")
def test_M14_progress_extends_the_wait_and_is_told_in_order(stage: Stage) -> None:
    timeout_s, steps = 0.6, 8
    heard: list[object] = []

    @stage.server.handler("task", "long")
    def long(request: Request) -> object:
        for step in range(steps):
            eventually(lambda: (request.left_s() or 0) < 0.5, what="time to pass")
            request.progress({"step": step})
        return "done"

    reply = stage.leaf.request("server", "task", "long", timeout_s=timeout_s, on_progress=heard.append)
    assert reply.body == "done"
    eventually(lambda: len(heard) == steps)
    assert heard == [{"step": step} for step in range(steps)]


@pytest.mark.row("M14", "M7")
def test_M14_progress_is_told_on_the_event_loop(stage: Stage) -> None:
    heard: list[tuple[object, bool]] = []

    @stage.server.handler("task", "long")
    def long(request: Request) -> object:
        request.progress({"step": 1})
        eventually(lambda: heard)
        return None

    async def ask() -> None:
        own = threading.get_ident()
        await stage.one.aio.request("server", "task", "long", timeout_s=PATIENCE_S,
                                    on_progress=lambda facts: heard.append((dict(facts), threading.get_ident() == own)))

    asyncio.run(ask())
    assert heard == [({"step": 1}, True)]


@pytest.mark.row("M14")
def test_M14_without_progress_the_timeout_ends_the_wait_and_progress_says_so(stage: Stage) -> None:
    said: list[BaseException] = []

    @stage.server.handler("task", "long")
    def long(request: Request) -> object:
        eventually(lambda: request.abort.is_triggered)
        try:
            request.progress()
        except Cancelled as error:
            said.append(error)
        return request.left_s()

    with pytest.raises(TimedOut):
        stage.one.request("server", "task", "long", timeout_s=0.2)
    eventually(lambda: said)


# A receiver that asks for one small chunk after the other: its pull takes as long as all these round trips.
DRIP = Options(pulls=PullOptions(chunk_bytes=4096, window_bytes_min=4096, window_bytes_max=4096, direct=False,
                                 same_host=False))


@pytest.mark.row("M13")
def test_M13_a_wait_is_not_ended_while_what_the_request_lent_is_pulled(trees: Trees) -> None:
    server = trees.grow("server", options=DRIP)[0]
    site = trees.add(Cell("site-1", parent=server.addresses[0]))
    took: list[float] = []

    @server.handler("task", "sum", resolve=False)
    def total(request: Request) -> object:
        began = time.monotonic()
        body = request.resolved()
        took.append(time.monotonic() - began)
        return float(body["w"].sum())  # type: ignore[index,call-overload]

    server.handler("task", "resolved")(lambda request: float(request.body["w"].sum()))  # type: ignore[index,call-overload]
    body = {"w": np.ones(LARGE)}
    assert site.request("server", "task", "sum", body, timeout_s=None).body == LARGE
    timeout_s = took[0] / 5  # a pull takes several times as long as the whole request may
    for topic in ("sum", "resolved"):
        assert site.request("server", "task", topic, body, timeout_s=timeout_s).body == LARGE


@pytest.mark.row("M13")
@pytest.mark.parametrize("way", ["request", "future", "broadcast"])
def test_M13_a_wait_is_not_ended_while_what_the_reply_lends_is_pulled(trees: Trees, way: str) -> None:
    (server,) = trees.grow("server")
    site = trees.add(Cell("site-1", parent=server.addresses[0], options=DRIP))
    server.handler("task", "make")(lambda request: np.ones(LARGE))
    began = time.monotonic()
    site.request("server", "task", "make", timeout_s=None)
    timeout_s = (time.monotonic() - began) / 5
    ask: dict[str, Callable[[], object]] = {
        "request": lambda: site.request("server", "task", "make", timeout_s=timeout_s).body,
        "future": lambda: site.request_future("server", "task", "make", timeout_s=timeout_s).result(PATIENCE_S).body,
        "broadcast": lambda: site.broadcast(["server"], "task", "make", timeout_s=timeout_s)["server"].body}
    assert ask[way]().sum() == LARGE  # type: ignore[attr-defined]


# --- M15 ------------------------------------------------------------------------------------------

@pytest.mark.row("M15", "M7")
def test_M15_a_broadcast_on_an_event_loop_packs_and_lends_its_body_once(stage: Stage) -> None:
    for cell in (stage.one, stage.two):
        cell.handler("task", "ref", resolve=False)(lambda request: request.body)

    async def ask() -> list[object]:
        answers = await stage.server.aio.broadcast(["site-1", "site-2"], "task", "ref", np.ones(LARGE), resolve=False)
        return [answer.body for answer in answers.values()]

    first, second = asyncio.run(ask())
    assert isinstance(first, Ref) and first == second
    (transaction,) = stage.server.downloads.transactions
    transaction.delete()
    eventually(lambda: not stage.server.downloads.transactions)


@pytest.mark.row("M15")
@pytest.mark.parametrize("way", ["broadcast", "notice"])
def test_M15_what_is_lent_to_many_does_not_wait_for_those_that_it_did_not_reach(stage: Stage, way: str) -> None:
    targets = ["site-1", "site-9", "site-2"]
    if way == "broadcast":
        answers = stage.server.broadcast(targets, "task", "echo", np.ones(LARGE), timeout_s=PATIENCE_S)
        assert [answer.is_ok for answer in answers.values()] == [True, False, True]
    else:
        stage.server.notice(targets, "task", "echo", np.ones(LARGE))
    eventually(lambda: not any(cell.downloads.transactions for cell in stage.all), what="the end of all that was lent")


@pytest.mark.row("M15")
@pytest.mark.parametrize("way", ["broadcast", "notice"])
def test_M15_a_value_in_the_body_of_a_broadcast_is_made_plain_once(trees: Trees, way: str) -> None:
    packed: list[str] = []

    def to_plain(value: Celsius) -> object:
        packed.append(threading.current_thread().name)
        return value.degrees

    types = TypeTable().with_type(Celsius, name="celsius", to_plain=to_plain, from_plain=Celsius)
    names = [f"site-{number}" for number in range(5)]
    server, *sites = trees.grow("server", *names, types=types)
    got: list[object] = []
    for site in sites:
        site.handler("task", "take")(lambda request: got.append(request.body))
    if way == "broadcast":
        answers = server.broadcast(names, "task", "take", [Celsius(21.5)], timeout_s=PATIENCE_S)
        assert all(answer.is_ok for answer in answers.values())
    else:
        server.notice(names, "task", "take", [Celsius(21.5)])
    eventually(lambda: len(got) == 5)
    assert got == [[Celsius(21.5)]] * 5 and len(packed) == 1


@pytest.mark.row("M15")
def test_M15_a_broadcast_packs_and_lends_its_body_once(stage: Stage) -> None:
    for cell in (stage.one, stage.two):
        cell.handler("task", "ref", resolve=False)(lambda request: request.body)
    answers = stage.server.broadcast(["site-1", "site-2"], "task", "ref", np.ones(LARGE), resolve=False, timeout_s=PATIENCE_S)
    first, second = (answers[name].body for name in ("site-1", "site-2"))
    assert isinstance(first, Ref) and first == second
    (transaction,) = stage.server.downloads.transactions
    transaction.delete()
    eventually(lambda: not stage.server.downloads.transactions)


# --- M17, M19 -------------------------------------------------------------------------------------

@pytest.mark.row("M17")
@pytest.mark.parametrize("body", [["x" * 100] * 50, {"a": "x" * 5000}])
def test_M17_a_message_over_the_limit_is_refused_at_the_sender_and_names_the_limit(trees: Trees, body: object) -> None:
    (server,) = trees.grow("server")
    site = trees.add(Cell("site-1", parent=server.addresses[0], options=Options(packing=PackOptions(
        skeleton_bytes_max=4096, inline_bytes_max=1024))))
    got: list[Request] = []
    server.handler("task", "echo")(got.append)
    for call in (lambda: site.request("server", "task", "echo", body), lambda: site.notice("server", "task", "echo", body),
                 lambda: site.broadcast(["server"], "task", "echo", body)):
        with pytest.raises(TooLarge) as caught:
            call()
        assert (caught.value.limit, caught.value.value) == ("skeleton_bytes_max", 4096)
    assert site.replies.request("server", "task", "echo", body).code is ReturnCode.MSG_TOO_BIG
    assert got == [] and server.request("server", "zdl", "ping").body is None


@pytest.mark.row("M19")
def test_M19_a_body_that_cannot_be_decoded_gives_the_sender_an_error_reply(stage: Stage) -> None:
    with RawPeer(stage.server.addresses[0], "site-9") as peer:
        peer.join()
        peer.send(WireRequest("site-9", "server", 1, "task", "echo", 20.0, {}, (b"\xc1",)))
        reply = peer.receive()
        assert isinstance(reply, WireReply) and reply.code == CannotUnpack.code


# --- nested deadlines, at most once ---------------------------------------------------------------

@pytest.mark.fault("A7")
@pytest.mark.row("M12")
def test_A7_what_a_handler_asks_on_inherits_the_deadline_and_ends_when_the_caller_gives_up(stage: Stage) -> None:
    left: list[float | None] = []
    ends: list[BaseException] = []

    @stage.one.handler("task", "chain")
    def chain(request: Request) -> object:
        try:
            return request.request("site-1.leaf", "task", "chain", request.body).body
        except (Cancelled, TimedOut) as error:
            ends.append(error)
            raise

    @stage.leaf.handler("task", "chain")
    def work(request: Request) -> object:
        left.append(request.left_s())
        return stage._wait(request) if request.body == "wait" else request.left_s()

    assert 0 < stage.server.request("site-1", "task", "chain", timeout_s=5.0).body <= 5.0  # type: ignore[operator]
    assert stage.server.request("site-1", "task", "chain", timeout_s=None).body is None
    abort = Signal()
    future = stage.server.request_future("site-1", "task", "chain", "wait", abort=abort, timeout_s=None)
    assert stage.entered.acquire(timeout=PATIENCE_S)
    abort.trigger("enough")
    assert isinstance(future.exception(PATIENCE_S), Cancelled)
    eventually(lambda: stage.aborted, what="the end of the handler at the far end")
    eventually(lambda: ends)


@pytest.mark.row("M1")
def test_M1_a_target_that_is_no_name_or_a_limit_is_raised_as_it_is(trees: Trees) -> None:
    (server,) = trees.grow("server")
    site = trees.add(Cell("site-1", parent=server.addresses[0], options=Options(calls=CallOptions(calls_max=1))))
    let_go = threading.Event()
    server.handler("task", "wait")(lambda request: let_go.wait(PATIENCE_S))
    first = site.request_future("server", "task", "wait", timeout_s=PATIENCE_S)
    with pytest.raises(Busy):
        site.request("server", "task", "wait")
    with pytest.raises(FqcnError):
        site.request("a..b", "task", "wait")
    let_go.set()
    first.result(PATIENCE_S)


@pytest.mark.row("M1")
def test_M1_a_doubled_request_runs_its_handler_once_and_gets_the_first_answer(stage: Stage) -> None:
    ran: list[int] = []

    @stage.server.handler("task", "count")
    def count(request: Request) -> object:
        ran.append(len(ran))
        return {"ran": len(ran), "beside": np.arange(10_000)}

    with RawPeer(stage.server.addresses[0], "site-9") as peer:
        peer.join()
        asked = WireRequest("site-9", "server", 1, "task", "count", 20.0, {}, pack(None, options=PackOptions()).parts)
        peer.send(asked)
        first = peer.receive()
        peer.send(asked)
        second = peer.receive()
    assert isinstance(first, WireReply) and isinstance(second, WireReply)
    assert [bytes(part) for part in first.body] == [bytes(part) for part in second.body] and first.id == second.id == 1
    assert ran == [0]
