"""One suite, three ways to connect, part two: every pattern of messages, between neighbours and through relays."""

from __future__ import annotations

import asyncio
import os
import threading

import numpy as np
import pytest

from zdl.assembly import Cell
from zdl.cell.messages import Reply, Request
from zdl.cell.signal import Signal
from zdl.errors import Cancelled, CannotPack, NoRoute, Refused, RemoteError, TimedOut
from zdl.refs import Ref

from trees import SCHEMES, Trees
from waiting import PATIENCE_S, eventually

NAMES = ("server", "site-1", "site-1.w0", "site-2")
# Who asks whom: oneself, a neighbour below, one above, and through two relays.
PAIRS = (("server", "server"), ("server", "site-1"), ("site-1.w0", "site-1"), ("site-1.w0", "site-2"))
Pair = tuple[Cell, Cell]

pytestmark = pytest.mark.row("C2")


@pytest.fixture(params=SCHEMES)
def cells(request: pytest.FixtureRequest, trees: Trees) -> dict[str, Cell]:
    """server, site-1, site-1.w0, site-2; each answers task/echo."""
    made = {cell.fqcn: cell for cell in trees.grow(*NAMES, scheme=str(request.param))}
    for cell in made.values():
        cell.handler("task", "echo")(lambda request: request.body)
    return made


@pytest.fixture(params=PAIRS, ids="->".join)
def pair(request: pytest.FixtureRequest, cells: dict[str, Cell]) -> Pair:
    """Who asks, and whom."""
    one, other = request.param
    return cells[one], cells[other]


def test_a_request_is_answered_and_tells_of_itself(pair: Pair) -> None:
    one, other = pair
    told: list[Request] = []

    @other.handler("task", "look")
    def look(request: Request) -> object:
        told.append(request)
        return {"left": request.left_s()}

    reply = one.request(other.fqcn, "task", "look", {"a": [1, None, 2.5, "x", b"y"]}, headers={"round": 3}, timeout_s=PATIENCE_S)
    (request,) = told
    assert (request.origin, request.target, request.channel, request.topic) == (one.fqcn, other.fqcn, "task", "look")
    assert request.body == {"a": [1, None, 2.5, "x", b"y"]} and dict(request.headers) == {"round": 3}
    assert isinstance(reply, Reply) and reply.origin == other.fqcn and reply.hops == request.hops
    left = reply.body["left"] if isinstance(reply.body, dict) else None
    assert isinstance(left, float) and 0 < left <= PATIENCE_S


def test_an_inline_handler_answers_like_any_other(pair: Pair) -> None:
    one, other = pair
    other.handler("task", "inline", inline=True)(lambda request: [request.origin, request.body])
    assert one.request(other.fqcn, "task", "inline", {"x": 1}).body == [one.fqcn, {"x": 1}]
    other.handler("task", "bad", inline=True)(lambda request: 1 // 0)
    with pytest.raises(RemoteError, match="ZeroDivisionError"):
        one.request(other.fqcn, "task", "bad")


def test_futures_are_answered_in_any_order_and_may_be_cancelled(pair: Pair) -> None:
    one, other = pair
    gates = [threading.Event() for _ in range(3)]
    aborted = threading.Event()

    @other.handler("task", "gate")
    def gate(request: Request) -> object:
        request.abort.on_trigger(aborted.set)
        assert isinstance(request.body, int)
        eventually(lambda: gates[request.body].is_set() or request.abort.is_triggered)  # type: ignore[index]
        return request.body

    calls = [one.request_future(other.fqcn, "task", "gate", number) for number in range(3)]
    gates[2].set()
    assert calls[2].result(PATIENCE_S).body == 2 and not calls[0].done()
    heard = threading.Event()
    calls[0].add_done_callback(lambda done: heard.set())
    gates[0].set()
    assert calls[0].result(PATIENCE_S).body == 0 and heard.wait(PATIENCE_S)
    assert calls[1].cancel() and aborted.wait(PATIENCE_S), "the callee is told"


def test_a_notice_arrives_once_with_its_headers(pair: Pair) -> None:
    one, other = pair
    heard: list[object] = []
    other.handler("task", "note")(lambda request: heard.append((request.origin, request.body, dict(request.headers))))
    one.notice(other.fqcn, "task", "note", {"n": 1}, headers={"h": "x"})
    eventually(lambda: heard)
    assert one.request(other.fqcn, "task", "echo", 1).body == 1
    assert heard == [(one.fqcn, {"n": 1}, {"h": "x"})]


@pytest.mark.parametrize("asker", ["server", "site-1.w0"])
def test_a_broadcast_has_an_answer_for_every_target(cells: dict[str, Cell], asker: str) -> None:
    cells["site-2"].handler("task", "fail")(lambda request: 1 // 0)
    cells["site-1"].handler("task", "fail")(lambda request: "well")
    same = cells[asker].broadcast([*NAMES, "site-9"], "task", "echo", {"x": np.ones(3)}, timeout_s=PATIENCE_S)
    assert {target for target, answer in same.items() if answer.is_ok} == set(NAMES)
    assert isinstance(same["site-9"].error, NoRoute)
    own = cells[asker].broadcast({name: [name] for name in NAMES}, "task", "echo", timeout_s=PATIENCE_S)
    assert {target: answer.reply.body for target, answer in own.items() if answer.reply} == {name: [name] for name in NAMES}
    mixed = cells[asker].broadcast(["site-1", "site-2", "server"], "task", "fail", timeout_s=PATIENCE_S)
    assert mixed["site-1"].is_ok
    assert [type(mixed[name].error) for name in ("site-2", "server")] == [RemoteError, Refused]


@pytest.mark.parametrize("asker", ["server", "site-1.w0"])
def test_what_can_be_awaited_is_answered_alike(cells: dict[str, Cell], asker: str) -> None:
    async def ask() -> None:
        cell = cells[asker].aio
        replies = await asyncio.gather(*(cell.request(name, "task", "echo", name) for name in NAMES for _ in range(5)))
        assert [reply.body for reply in replies] == [name for name in NAMES for _ in range(5)]
        answers = await cell.broadcast(NAMES, "task", "echo", 7, timeout_s=PATIENCE_S)
        assert {answer.reply.body for answer in answers.values() if answer.reply} == {7}
        with pytest.raises(Refused):
            await cell.request("site-2", "task", "unknown")

    asyncio.run(ask())


def test_a_handler_may_forward_ask_back_answer_late_and_report(cells: dict[str, Cell]) -> None:
    server, site, leaf, other = (cells[name] for name in NAMES)
    site.handler("task", "forward")(lambda request: request.request("site-1.w0", "task", "back", request.body).body)
    leaf.handler("task", "back")(lambda request: request.request("site-2", "task", "echo", request.body).body)
    assert server.request("site-1", "task", "forward", {"x": 1}).body == {"x": 1}
    assert other.request("site-1", "task", "forward", 2).body == 2

    @leaf.handler("task", "late")
    def late(request: Request) -> object:
        request.progress({"done": 1})
        promise = request.later()
        threading.Thread(target=lambda: promise.reply("from another thread")).start()
        return promise

    assert other.request("site-1.w0", "task", "late", timeout_s=PATIENCE_S).body == "from another thread"


def test_a_timeout_an_abort_and_a_refusal_are_told_apart(pair: Pair) -> None:
    one, other = pair
    aborts: list[bool] = []

    @other.handler("task", "wait")
    def wait(request: Request) -> object:
        eventually(lambda: request.abort.is_triggered)
        aborts.append(True)
        return None

    with pytest.raises(TimedOut) as late:
        one.request(other.fqcn, "task", "wait", timeout_s=0.1)
    assert late.value.address == other.fqcn
    signal = Signal()
    call = one.request_future(other.fqcn, "task", "wait", timeout_s=None, abort=signal)
    signal.trigger("enough")
    error = call.exception(PATIENCE_S)
    assert isinstance(error, Cancelled) and "enough" in str(error)
    with pytest.raises(Refused):
        one.request(other.fqcn, "task", "no-such-topic")
    with pytest.raises(CannotPack):
        one.request(other.fqcn, "task", "wait", object())
    eventually(lambda: len(aborts) == 2, what="both handlers hear that nobody waits")


def test_what_is_large_travels_by_reference_both_ways(pair: Pair) -> None:
    one, other = pair
    array, blob = np.random.default_rng(1).random(400_000), os.urandom(2_500_000)
    reply = one.request(other.fqcn, "task", "echo", {"array": array, "blob": blob, "small": 1}, timeout_s=PATIENCE_S).body
    assert isinstance(reply, dict) and np.array_equal(reply["array"], array) and reply["blob"] == blob
    future = one.request_future(other.fqcn, "task", "echo", array, timeout_s=PATIENCE_S)
    assert np.array_equal(future.result(PATIENCE_S).body, array)  # type: ignore[arg-type]
    (answer,) = one.broadcast([other.fqcn], "task", "echo", array, timeout_s=PATIENCE_S).values()
    assert answer.reply is not None and np.array_equal(answer.reply.body, array)  # type: ignore[arg-type]
    eventually(lambda: not one.downloads.transactions and not other.downloads.transactions, what="the end of what was lent")
    other.handler("task", "raw", resolve=False)(lambda request: sorted(type(each).__name__ for each in request.body.values()))
    assert one.request(other.fqcn, "task", "raw", {"array": array, "small": 1}).body == [Ref.__name__, "int"]
