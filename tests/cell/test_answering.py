"""The answering side: which handler runs, with what, and the one reply that comes of it whatever happens."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from zdl.assembly import Cell
from zdl.cell.answering import Answerer
from zdl.cell.messages import Request
from zdl.errors import Busy, CannotUnpack, LeaseEnded, OriginLost, RemoteError, UnknownRef, ZdlError
from zdl.objects.pack import pack
from zdl.options import CallOptions, Options, PackOptions
from zdl.protocol.messages import Bounce, Cancel, Kind, Notice, Reply, Request as WireRequest, Transit
from zdl.refs import Ref, Source

from rawpeer import RawPeer
from trees import Trees
from waiting import PATIENCE_S, eventually

LARGE = 2 << 20


@pytest.fixture
def cells(trees: Trees) -> tuple[Cell, ...]:
    return trees.grow("server", "site-1")


def test_the_nearest_handler_answers(cells: tuple[Cell, ...]) -> None:
    server, site = cells
    assert isinstance(server._life.answerer, Answerer)
    for key, name in ((("*", "*"), "any"), (("task", "*"), "any topic"), (("*", "run"), "any channel"), (("task", "run"), "exact")):
        server.handler(*key)(lambda request, name=name: (name, request.channel, request.topic))
    for channel, topic, name in (("task", "run", "exact"), ("task", "stop", "any topic"), ("talk", "run", "any channel"),
                                 ("talk", "stop", "any")):
        assert site.request("server", channel, topic).body == (name, channel, topic)


def test_a_handler_sees_who_asked_and_until_when(cells: tuple[Cell, ...]) -> None:
    server, site = cells
    seen: list[Request] = []
    server.handler("task", "look")(seen.append)
    site.request("server", "task", "look", {"a": 1}, headers={"colour": "red"}, timeout_s=20.0)
    site.request("server", "task", "look", timeout_s=None)
    first, second = seen
    assert (first.origin, first.target, first.channel, first.topic, first.body, first.hops) == (
        "site-1", "server", "task", "look", {"a": 1}, 0)
    assert dict(first.headers) == {"colour": "red"}
    assert first.deadline is not None and second.deadline is None
    assert not first.abort.is_triggered


def test_refs_are_resolved_or_left_as_the_handler_wants(cells: tuple[Cell, ...]) -> None:
    server, site = cells
    seen: list[object] = []
    server.handler("task", "objects")(lambda request: seen.append(request.body["w"]))
    server.handler("task", "refs", resolve=False)(lambda request: seen.append(request.body["w"]))
    array = np.arange(LARGE)
    site.request("server", "task", "objects", {"w": array})
    site.request("server", "task", "refs", {"w": array})
    assert isinstance(seen[0], np.ndarray) and np.array_equal(seen[0], array)
    assert isinstance(seen[1], Ref) and (seen[1].origin, seen[1].shape) == ("site-1", (LARGE,))
    assert np.array_equal(server.downloads.pull(seen[1]), array)  # type: ignore[arg-type]


def test_replies_are_resolved_or_left_as_the_caller_wants(cells: tuple[Cell, ...]) -> None:
    server, site = cells
    server.handler("task", "make")(lambda request: [np.full(LARGE, 7)])
    (array,) = site.request("server", "task", "make").body
    assert array[0] == array[-1] == 7
    (ref,) = site.request("server", "task", "make", resolve=False).body
    assert isinstance(ref, Ref) and ref.origin == "server"
    assert site.downloads.pull(ref)[3] == 7  # type: ignore[index]


def test_an_inline_handler_answers_without_a_thread(cells: tuple[Cell, ...]) -> None:
    server, site = cells
    server.handler("task", "quick", inline=True)(lambda request: request.body + 1)
    before = {thread.name for thread in threading.enumerate()}
    assert site.request("server", "task", "quick", 1).body == 2
    assert not [name for name in {thread.name for thread in threading.enumerate()} - before if "handler" in name]


def test_an_inline_handler_gets_refs_and_never_waits_for_them(cells: tuple[Cell, ...]) -> None:
    server, site = cells
    server.handler("task", "quick", inline=True)(lambda request: isinstance(request.body["w"], Ref))
    assert site.request("server", "task", "quick", {"w": np.zeros(LARGE)}).body is True
    assert site.request("server", "zdl", "ping", {"w": np.zeros(LARGE)}).body is None, "what every cell answers too"


def test_an_inline_handler_that_raises_is_told(cells: tuple[Cell, ...]) -> None:
    server, site = cells
    server.handler("task", "quick", inline=True)(lambda request: 1 / 0)
    with pytest.raises(RemoteError, match="ZeroDivisionError"):
        site.request("server", "task", "quick")


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


@pytest.mark.parametrize(("error", "kind", "text"), [
    (ValueError("bad"), "ValueError", "bad"), (KeyError("k"), "KeyError", "'k'"), (Unspeakable(), "Unspeakable", ""),
    (ValueError("x" * 5000), "ValueError", "x" * 2000 + "…"), (ValueError("a\nb\0"), "ValueError", "a b "),
    (UnknownRef(ref="r", origin="o"), "UnknownRef", "o knows no r"), (SystemExit(3), "SystemExit", "3"),
    (KeyboardInterrupt(), "KeyboardInterrupt", ""), (TimeoutError(), "TimeoutError", ""), (ValueError("\ud800"), "ValueError", " "),
])
def test_a_handler_that_raises_is_told_whatever_it_raises(cells: tuple[Cell, ...], error: BaseException, kind: str,
                                                          text: str) -> None:
    server, site = cells

    @server.handler("task", "fail")
    def fail(request: Request) -> object:
        raise error

    for _ in range(6):  # more often than there are threads to begin with
        with pytest.raises(RemoteError) as caught:
            site.request("server", "task", "fail", timeout_s=PATIENCE_S)
        assert (caught.value.fqcn, caught.value.channel, caught.value.topic) == ("server", "task", "fail")
        assert (caught.value.kind, caught.value.text) == (kind, text)


def test_a_reply_that_cannot_travel_is_an_error_that_says_where(cells: tuple[Cell, ...]) -> None:
    server, site = cells
    server.handler("task", "make")(lambda request: {"a": [np.zeros(LARGE), object()]})
    with pytest.raises(RemoteError) as caught:
        site.request("server", "task", "make", timeout_s=PATIENCE_S)
    assert caught.value.kind == "CannotPack" and "a[1]" in caught.value.text
    assert not server.downloads.transactions


def test_a_body_that_is_none_is_an_error_that_the_sender_sees(cells: tuple[Cell, ...]) -> None:
    server, _ = cells
    server.handler("task", "echo")(lambda request: request.body)
    with RawPeer(server.addresses[0], "site-9") as peer:
        peer.join()
        peer.send(WireRequest("site-9", "server", 1, "task", "echo", 20.0, {}, (b"\xc1",)))
        reply = peer.receive()
        assert isinstance(reply, Reply) and reply.code == CannotUnpack.code
        peer.send(Notice("site-9", "server", 2, "task", "echo", {}, (b"\xc1",)))
        told = peer.receive()
        assert isinstance(told, Bounce) and (told.id, told.of_kind, told.code) == (2, Kind.NOTICE, CannotUnpack.code)
        peer.send(WireRequest("site-9", "server", 3, "task", "echo", 20.0, {}, (b"\x92\x90\x01",)))
        assert isinstance(good := peer.receive(), Reply) and (good.id, good.code) == (3, "")


@pytest.mark.parametrize(("origin", "length", "error"), [
    ("site-9.w7", 1000, OriginLost), ("server", 1000, UnknownRef), ("server", 1 << 50, ZdlError), ("site-1", 1 << 45, ZdlError),
])
def test_a_forged_ref_is_an_error_and_not_a_silence(cells: tuple[Cell, ...], origin: str, length: int,
                                                    error: type[ZdlError]) -> None:
    server, site = cells
    server.handler("task", "take")(lambda request: 1)
    ref = Ref(Source(origin, bytes(16), bytes(16), length), 0, 0, length, "array", "|u1", (length,))
    body = pack({"w": ref}, options=PackOptions()).parts
    with RawPeer(server.addresses[0], "site-9") as peer:
        peer.join()
        peer.send(WireRequest("site-9", "server", 1, "task", "take", PATIENCE_S, {"zdl-refs": True}, body))
        reply = peer.receive()
        if isinstance(reply, Transit):  # the origin that it claims is looked for, here
            peer.send(Bounce("site-9", "server", reply.id, reply.of_kind, "no-route", {"target": "site-9.w7", "at": "site-9"}))
            reply = peer.receive()
        assert isinstance(reply, Reply)
        assert reply.code == error.code if error is not ZdlError else reply.code


def test_an_object_that_is_lent_no_more_is_an_error_by_name(cells: tuple[Cell, ...]) -> None:
    server, site = cells
    server.handler("task", "take")(lambda request: 1)
    lent = site.downloads.lend({"w": np.zeros(LARGE)})
    lent.delete()
    lent.wait(PATIENCE_S)
    with pytest.raises(LeaseEnded) as caught:
        site.request("server", "task", "take", lent.body)
    assert caught.value.how == "deleted"


# --- limits -------------------------------------------------------------------------------------

def test_a_pool_that_is_full_is_busy_at_once(trees: Trees) -> None:
    calls = CallOptions(handler_threads_max=2, handler_queue_max=3, origin_share=1.0)
    server = trees.add(Cell("server", listen="tcp://127.0.0.1:0", options=Options(calls=calls)))
    site = trees.add(Cell("site-1", parent=server.addresses[0]))
    let_go, entered = threading.Event(), threading.Semaphore(0)

    @server.handler("task", "wait")
    def wait(request: Request) -> object:
        entered.release()
        let_go.wait(PATIENCE_S)
        return "done"

    running = [site.request_future("server", "task", "wait") for _ in range(2)]
    assert entered.acquire(timeout=PATIENCE_S) and entered.acquire(timeout=PATIENCE_S)
    waiting = [site.request_future("server", "task", "wait") for _ in range(3)]
    with pytest.raises(Busy) as caught:
        site.request("server", "task", "wait", np.zeros(LARGE), timeout_s=None)
    assert (caught.value.limit, caught.value.value, caught.value.at) == ("handler_queue_max", 3, "server")
    assert site.request("server", "zdl", "ping").body is None, "what runs inline is still answered"
    assert not site.downloads.transactions
    let_go.set()
    assert [future.result(PATIENCE_S).body for future in running + waiting] == ["done"] * 5


def test_an_abort_reaches_handlers_that_fill_the_pool(trees: Trees) -> None:
    calls = CallOptions(handler_threads_max=2, handler_queue_max=1, origin_share=1.0)
    server = trees.add(Cell("server", listen="tcp://127.0.0.1:0", options=Options(calls=calls)))
    site = trees.add(Cell("site-1", parent=server.addresses[0]))
    entered = threading.Semaphore(0)

    @server.handler("task", "wait")
    def wait(request: Request) -> object:
        aborted = threading.Event()
        request.abort.on_trigger(aborted.set)
        entered.release()
        return aborted.wait(PATIENCE_S)

    futures = [site.request_future("server", "task", "wait") for _ in range(2)]
    assert entered.acquire(timeout=PATIENCE_S) and entered.acquire(timeout=PATIENCE_S)
    waiting = site.request_future("server", "task", "wait")
    for future in futures:
        future.cancel()
    assert entered.acquire(timeout=PATIENCE_S), "a handler that should have been aborted still holds its thread"
    waiting.cancel()


@pytest.mark.parametrize("is_first", [True, False])
def test_a_cancellation_that_comes_with_its_request_is_heard(cells: tuple[Cell, ...], is_first: bool) -> None:
    """Both are here when the loop looks, in either order."""
    server, _ = cells
    heard = threading.Event()

    @server.handler("task", "wait")
    def wait(request: Request) -> object:
        request.abort.on_trigger(heard.set)
        return heard.wait(PATIENCE_S)

    gate = threading.Event()
    with RawPeer(server.addresses[0], "site-9") as peer:
        peer.join()
        server._open_lanes().control_loop.mailbox.put(gate.wait)
        messages = [WireRequest("site-9", "server", 1, "task", "wait", 20.0, {}, (b"\x92\x90\xc0",)), Cancel("site-9", "server", 1)]
        for message in messages if is_first else reversed(messages):
            peer.send(message)
        peer.send(WireRequest("site-9", "server", 2, "zdl", "ping", 20.0, {}, (b"\x92\x90\xc0",)))
        gate.set()
        if is_first:
            assert heard.wait(PATIENCE_S)
        while not (isinstance(reply := peer.receive(), Reply) and reply.id == 2):
            pass


def test_handlers_may_ask_in_turn_however_deep(trees: Trees) -> None:
    server, one, two = trees.grow("server", "site-1", "site-2")
    others = {"server": one, "site-1": two, "site-2": server}

    for cell in (server, one, two):
        @cell.handler("task", "down")
        def down(request: Request) -> object:
            cell, depth = others[request.target], request.body
            here = next(each for each in (server, one, two) if each.fqcn == request.target)
            return 0 if depth == 0 else here.request(cell.fqcn, "task", "down", depth - 1, timeout_s=PATIENCE_S).body + 1

    assert server.request("site-1", "task", "down", 50, timeout_s=PATIENCE_S).body == 50
    assert server.request("server", "task", "down", 50, timeout_s=PATIENCE_S).body == 50


def test_a_handler_may_ask_its_own_cell(cells: tuple[Cell, ...]) -> None:
    server, site = cells

    @server.handler("task", "fib")
    def fib(request: Request) -> object:
        if request.body < 2:
            return request.body
        futures = [server.request_future("server", "task", "fib", request.body - step) for step in (1, 2)]
        return sum(future.result(PATIENCE_S).body for future in futures)

    assert site.request("server", "task", "fib", 10).body == 55


def test_a_handler_runs_once_however_often_its_request_comes(cells: tuple[Cell, ...]) -> None:
    server, _ = cells
    ran: list[int] = []
    server.handler("task", "count")(lambda request: ran.append(1))
    with RawPeer(server.addresses[0], "site-9") as peer:
        peer.join()
        for _ in range(5):
            peer.send(WireRequest("site-9", "server", 1, "task", "count", 20.0, {}, (b"\x92\x90\xc0",)))
        peer.send(WireRequest("site-9", "server", 2, "task", "count", 20.0, {}, (b"\x92\x90\xc0",)))
        ids: set[int] = set()
        while 2 not in ids:  # who asks again gets the first answer again
            reply = peer.receive()
            assert isinstance(reply, Reply)
            ids.add(reply.id)
        assert ids == {1, 2}
    assert len(ran) == 2


@pytest.fixture(autouse=True)
def threads_say_nothing() -> Iterator[None]:
    """SystemExit in a handler must end nothing but the handler."""
    before = sys.stderr
    yield
    assert sys.stderr is before
    eventually(lambda: True)


def test_a_body_that_is_no_object_is_found_out_by_the_handler_that_looks_at_it(cells: tuple[Cell, ...]) -> None:
    server, _ = cells
    looked: list[str] = []

    @server.handler("task", "look", resolve=False)
    def look(request: Request) -> object:
        try:
            return request.body
        except CannotUnpack:
            looked.append(request.topic)
            raise

    server.handler("task", "blind", resolve=False)(lambda request: "not looked at")
    server.handler("task", "inline", inline=True)(lambda request: request.body)
    with RawPeer(server.addresses[0], "site-9") as peer:
        peer.join()
        answers: list[Reply] = []
        for number, topic in enumerate(("look", "blind", "inline"), 1):
            peer.send(WireRequest("site-9", "server", number, "task", topic, 20.0, {}, (b"\xc1",)))
            reply = peer.receive()
            assert isinstance(reply, Reply)
            answers.append(reply)
    first, second, third = answers
    assert (first.code, first.facts["kind"], looked) == (RemoteError.code, "CannotUnpack", ["look"])
    assert second.code == "" and third.code == CannotUnpack.code


def test_a_body_is_unpacked_once_however_often_it_is_looked_at(cells: tuple[Cell, ...]) -> None:
    server, site = cells
    bodies: list[object] = []
    server.handler("task", "look", resolve=False)(lambda request: bodies.extend((request.body, request.body, request)))
    site.request("server", "task", "look", {"a": [1], "w": np.arange(3)})
    one, other, request = bodies
    assert isinstance(request, Request) and one is other is request.body and type(one) is dict
