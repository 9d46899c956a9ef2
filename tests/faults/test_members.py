"""Who is let in and does not play by the rules: forged origins, foreign news, lies about times, bombs, floods and loops."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import msgpack
import pytest
import zmq
from hypothesis import given, strategies as st

from zdl.assembly import Cell, process_facts
from zdl.cell.futures import CallFuture
from zdl.cell.messages import Request as Asked
from zdl.errors import Busy, FqcnError, TimedOut
from zdl.fqcn import parse
from zdl.options import HEARTBEAT_MAX_S, CallOptions, LinkOptions, Options
from zdl.protocol.decode import decode
from zdl.protocol.encode import encode
from zdl.protocol.frames import WIRE_VERSION
from zdl.protocol.messages import Bounce, Cancel, Goodbye, Hello, Kind, Lost, Notice, Reject, Reply, Request, Role, Transit, Welcome

from rawpeer import RawPeer
from trees import Trees
from waiting import PATIENCE_S, eventually

SEVEN = (b"\x92\x90\x07",)  # the body 7, packed
NAMES = ("server", "site-1", "site-1.w0")


def echoing(trees: Trees, *names: str) -> tuple[Cell, ...]:
    cells = trees.grow(*(names or NAMES))
    for cell in cells:
        cell.handler("task", "echo")(lambda request: request.body)
    return cells


def echo(target: str, *, origin: str = "site-9", number: int = 3, hops: int = 0, timeout_s: float | None = 30.0) -> Request:
    return Request(origin, target, number, "task", "echo", timeout_s, {}, SEVEN, hops=hops)


def answered(peer: RawPeer, request: Request) -> Reply:
    """The answer to a request that must be answered, whatever else comes before."""
    peer.send(request)
    while not isinstance(message := peer.receive(), Reply) or message.id != request.id:
        assert not isinstance(message, Reject), message
    return message


def waiting_call(server: Cell, target: str, cell: Cell) -> tuple[object, threading.Event]:
    """A call of the server whose handler waits; and what lets it go on."""
    entered, go_on = threading.Event(), threading.Event()

    @cell.handler("task", "wait")
    def wait(request: Asked) -> object:
        entered.set()
        go_on.wait(PATIENCE_S)
        return "done"

    call = server.request_future(target, "task", "wait", timeout_s=PATIENCE_S)
    assert entered.wait(PATIENCE_S)
    return call, go_on


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.fault("H8")
def test_h8_a_foreign_origin_is_refused_message_by_message_and_counted(trees: Trees) -> None:
    server, site, leaf = echoing(trees)
    heard: list[str] = []
    for cell in (server, site, leaf):
        cell.handler("task", "note")(lambda request: heard.append(request.origin))
    counts = server._open_lanes().control_loop.switch.counts
    with RawPeer(server.addresses[0], "site-9") as peer:
        peer.join()
        before = counts.refused
        forgeries = ("site-1", "server", "site-1.w0", "site-9x", "site-", "SITE-9", "site-9 ", "site-9.")
        for number, forged in enumerate(forgeries):
            peer.send(Notice(forged, "site-1.w0", 100 + number, "task", "note", {}, SEVEN))
            peer.send(echo("server", origin=forged, number=200 + number))
        assert answered(peer, echo("server", number=999)).code == ""
        refused = counts.refused - before
        assert refused >= 2 * len(forgeries) - 4, "a name that is within the subtree by its letters may pass as such"
    assert [each for each in heard if not each.startswith("site-9.")] == []
    assert leaf.request("server", "task", "echo", 1).body == 1
    assert server.request("site-1.w0", "task", "echo", 2).body == 2


@pytest.mark.fault("H8")
def test_h8_an_answer_from_somebody_else_is_no_answer(trees: Trees) -> None:
    server, site, _ = echoing(trees)
    call, go_on = waiting_call(server, "site-1", site)
    first_id = next(iter(server._open_lanes().control._calls._calls))  # type: ignore[union-attr]
    with RawPeer(server.addresses[0], "site-9") as peer:
        peer.join()
        for number in range(first_id - 3, first_id + 4):
            peer.send(Reply("site-9", "server", number, "", {}, {}, SEVEN))
            peer.send(Reply("site-1", "server", number, "", {}, {}, SEVEN))
        assert answered(peer, echo("server")).code == ""
    go_on.set()
    assert call.result(PATIENCE_S).body == "done"  # type: ignore[attr-defined]


@pytest.mark.fault("H9")
def test_h9_a_name_that_only_begins_like_another_is_another(trees: Trees) -> None:
    server, site, _ = echoing(trees)
    with RawPeer(site.addresses[0], "site-11") as peer:
        answer = peer.greet()
        assert isinstance(answer, Reject) and answer.reason == "not-below"
    with RawPeer(server.addresses[0], "site-11") as peer:
        peer.join()
        peer.send(echo("server", origin="site-1"))
        bounce = peer.receive()
        assert isinstance(bounce, Bounce) and bounce.facts["reason"] == "not-allowed"


@pytest.mark.fault("H9")
@pytest.mark.parametrize("name", [
    "", ".", "site-1.", ".site-1", "site-1..w0", "site-1.site-1", "site 1", "site-1/..", "sіte-1", "site-1\n", "site-1\0",
    "s\u0131te-1", "site-1\u200b", "x" * 256, "x" * 10_000, "a." * 5000 + "a", "*", "\u202esite-1"])
def test_h9_a_name_that_is_none_is_not_let_in(trees: Trees, name: str) -> None:
    (server,) = trees.grow("server")
    loop = server._open_lanes().control_loop
    with RawPeer(server.addresses[0], "site-9") as peer:
        header = [WIRE_VERSION, int(Kind.HELLO), 0, name, "", 0, b"i" * 16, 0, 5.0, ()]
        before = loop.undecoded
        peer.send_frames(msgpack.packb(header))
        eventually(lambda: loop.undecoded == before + 1, what="the refusal")
        peer.join()
        assert {each.fqcn for each in server.peers} == {"site-9"}


@pytest.mark.fault("H9")
@given(st.text(max_size=300))
def test_h9_no_text_passes_for_a_name_unless_it_is_one_letter_by_letter(text: str) -> None:
    try:
        name = parse(text)
    except FqcnError as error:
        assert str(error).isprintable() or not text.isprintable()
        return
    assert name == text.strip() and name.isascii() and len(name) <= 255
    parts = name.split(".")
    assert len(set(parts)) == len(parts) and all(set(part) <= set(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_~-") and part for part in parts)


# --- news of others -------------------------------------------------------------------------------


@pytest.mark.fault("H10")
def test_h10_the_news_of_a_leaf_is_believed_about_itself_only(trees: Trees) -> None:
    server, site, leaf = echoing(trees)
    call, go_on = waiting_call(server, "site-1", site)
    first_id = next(iter(server._open_lanes().control._calls._calls))  # type: ignore[union-attr]
    with RawPeer(server.addresses[0], "site-9") as peer:
        peer.join()
        for origin in ("site-9", "site-9.w0", "server", "site-1"):
            for name, beyond in (("site-1", False), ("server", False), ("server", True), ("site-9", True), ("site-1.w0", True)):
                peer.send(Lost(origin, "server", 0, name, beyond, "so I say"))
                peer.send(Lost(origin, "site-1.w0", 0, name, beyond, "so I say"))
            peer.send(Goodbye("site-1", "so I say"))
            for number in range(first_id - 2, first_id + 3):
                peer.send(Cancel(origin, "site-1", number))
                peer.send(Bounce(origin, "server", number, int(Kind.REQUEST), "no-route", {"target": "site-1", "at": "server"}))
        time_to_hear = leaf.request("server", "task", "echo", "after all that")
        assert time_to_hear.body == "after all that"
    assert {each.fqcn for each in server.peers} >= {"site-1"}
    go_on.set()
    assert call.result(PATIENCE_S).body == "done"  # type: ignore[attr-defined]
    assert server.request("site-1.w0", "task", "echo", 2).body == 2


@pytest.mark.fault("H10")
def test_h10_who_says_goodbye_says_it_for_the_link_that_it_speaks_on(trees: Trees) -> None:
    server, site, _ = echoing(trees)
    with RawPeer(server.addresses[0], "site-9") as peer:
        peer.join()
        peer.send(Goodbye("site-1", "closed"))
        assert server.request("site-1", "task", "echo").body is None
        assert server.request("site-1", "task", "echo", 1).body == 1


# --- bombs and lies -------------------------------------------------------------------------------


def nested(opening: bytes, count: int) -> bytes:
    return opening * count


BOMBS = {
    "nested arrays": nested(b"\x91", 60_000), "nested maps": nested(b"\x81\xa0", 30_000),
    "an array of 2^32": b"\xdd\xff\xff\xff\xff", "a map of 2^32": b"\xdf\xff\xff\xff\xff",
    "a string of 2^32": b"\xdb\xff\xff\xff\xff", "bytes of 2^32": b"\xc6\xff\xff\xff\xff",
    "an extension of 2^32": b"\xc9\xff\xff\xff\xff\x01", "extensions": b"\xd4\x01x" * 20_000,
    "empty lists": b"\xdc\xff\xff" + b"\x90" * 65_535, "bad utf-8": b"\xa4\xff\xfe\xfd\xfc",
    "int keys": b"\x82\x01\x02\x03\x04", "a byte that is none": b"\xc1", "a timestamp": b"\xd7\xff" + b"\xff" * 8,
    "twice the same key": b"\x82\xa1a\x01\xa1a\x02",
}

# As the body itself these are small objects like others.
PLAIN = ("empty lists", "int keys", "twice the same key")


@pytest.mark.fault("H19")
@pytest.mark.parametrize("what", BOMBS)
def test_h19_a_bomb_in_a_header_or_a_body_is_an_error_and_no_more(trees: Trees, what: str) -> None:
    server, site, _ = echoing(trees)
    bomb = BOMBS[what]
    with RawPeer(server.addresses[0], "site-9") as peer:
        peer.join()
        before = process_facts().rss_peak_bytes
        good = encode(echo("server"))[0]
        for header in (bomb, bytes(good)[:-1] + bomb, b"\x9a" + bomb, bytes(good)[:1] + bomb + bytes(good)[1:]):
            peer.send_frames(header[:65_000], b"\x92\x90\x07")
        bodies = (bomb, b"\x92\x90" + bomb, b"\x92" + bomb + b"\x07", b"\x92\x91" + bomb)
        for number, (body, target) in enumerate(itertools.product(bodies, ("server", "site-1")), start=1000):
            reply = answered(peer, Request("site-9", target, number, "task", "echo", 30.0, {}, (body,)))
            assert reply.code == "cannot-unpack" or what in PLAIN and body == bodies[1], f"{what} was unpacked"
        assert process_facts().rss_peak_bytes < before + (64 << 20)
    assert site.request("server", "task", "echo", 1).body == 1


@pytest.mark.fault("H21")
@pytest.mark.parametrize("value", [
    -1.0, float("nan"), float("inf"), float("-inf"), 1e300, -(1 << 63), (1 << 64) - 1, "30", True, b"\1"])
def test_h21_a_deadline_that_is_no_time_is_refused(trees: Trees, value: object) -> None:
    (server,) = echoing(trees, "server")
    loop = server._open_lanes().control_loop
    with RawPeer(server.addresses[0], "site-9") as peer:
        peer.join()
        before = loop.undecoded
        header = msgpack.unpackb(bytes(encode(echo("server", timeout_s=12.5))[0]))
        changed = [value if each == 12.5 else each for each in header]
        peer.send_frames(msgpack.packb(changed), *SEVEN)
        eventually(lambda: loop.undecoded == before + 1)
        assert answered(peer, echo("server", number=4)).code == ""


@pytest.mark.fault("H21")
def test_h21_a_deadline_beyond_all_bounds_costs_nothing(trees: Trees) -> None:
    (server,) = echoing(trees, "server")
    server.handler("task", "left")(lambda request: request.left_s())
    with RawPeer(server.addresses[0], "site-9") as peer:
        peer.join()
        for number, seconds in enumerate((None, 0.0, 1e-300, 3.0e8)):
            reply = answered(peer, Request("site-9", "server", number, "task", "left", seconds, {}, SEVEN))
            assert reply.code in ("", "timed-out", "cancelled")


@pytest.mark.fault("H21")
@pytest.mark.parametrize("heartbeat_s", [0.0, 1e-300, 1e-6])
def test_h21_a_heartbeat_of_no_time_at_all_does_not_spin_the_loop(trees: Trees, heartbeat_s: float) -> None:
    (server,) = echoing(trees, "server")
    with RawPeer(server.addresses[0], "site-9") as peer:
        peer.send(Hello("site-9", b"i" * 16, Role.CHILD, heartbeat_s, (), WIRE_VERSION))
        assert isinstance(peer.receive(), Welcome)
        loop = server._open_lanes().control_loop
        (link,) = loop.ask(loop.switch.peers.links)
        assert link.heartbeat_s >= 0.01, "its loop would look after it without a pause"


@pytest.mark.fault("H21")
def test_h21_a_heartbeat_of_ten_years_is_not_waited_for(trees: Trees) -> None:
    (server,) = echoing(trees, "server")
    with RawPeer(server.addresses[0], "site-9") as peer:
        peer.send(Hello("site-9", b"i" * 16, Role.CHILD, 3.0e8, (), WIRE_VERSION))
        assert isinstance(peer.receive(), Welcome)
        loop = server._open_lanes().control_loop
        (link,) = loop.ask(loop.switch.peers.links)
        assert link.heartbeat_s == HEARTBEAT_MAX_S, "a link whose other end is gone would stand for years"


# --- too much, and round and round ------------------------------------------------------------------


@pytest.fixture
def flooded(trees: Trees) -> Iterator[tuple[Cell, list[CallFuture]]]:
    """An honest cell, and the calls of another one that floods the server with requests whose handlers wait."""
    options = Options(calls=CallOptions(handler_threads_max=4, handler_queue_max=50))
    server, site = trees.grow("server", "site-1", options=options)
    honest = trees.add(Cell("site-2", parent=server.addresses[0]))
    go_on = threading.Event()
    server.handler("task", "slow")(lambda request: go_on.wait(PATIENCE_S))
    server.handler("task", "echo")(lambda request: request.body)
    server.handler("task", "quick", inline=True)(lambda request: request.body)
    flood = [site.request_future("server", "task", "slow", number, timeout_s=PATIENCE_S) for number in range(500)]
    try:
        eventually(lambda: sum(each.done() for each in flood) >= 400, what="what is over the limit")
        yield honest, flood
    finally:
        go_on.set()
        eventually(lambda: all(each.done() for each in flood))


@pytest.mark.fault("H22")
def test_h22_what_is_too_much_of_a_flood_is_answered_busy_at_once(flooded: tuple[Cell, list[CallFuture]]) -> None:
    honest, flood = flooded
    refused = [each.exception() for each in flood if each.done()]
    assert {type(each) for each in refused} == {Busy}
    busy = refused[0]
    assert isinstance(busy, Busy) and (busy.at, busy.value > 0) == ("server", True)
    assert honest.request("server", "task", "quick", 1).body == 1


@pytest.mark.fault("H22")
def test_h22_a_flood_of_one_peer_takes_no_place_of_the_others(flooded: tuple[Cell, list[CallFuture]]) -> None:
    honest, _ = flooded
    with pytest.raises(TimedOut):  # it waits for a thread, in a place of its own
        honest.request("server", "task", "echo", 2, timeout_s=0.5)


@pytest.mark.fault("H23")
@pytest.mark.parametrize("version", [0, WIRE_VERSION + 1, WIRE_VERSION + 5, 127])
def test_h23_another_version_is_refused_in_the_greeting_with_both_named(trees: Trees, version: int) -> None:
    (server,) = trees.grow("server")
    with RawPeer(server.addresses[0], "site-1") as peer:
        answer = peer.greet(version=version)
        assert isinstance(answer, Reject)
        assert (answer.reason, answer.text) == (
            "version", f"site-1 speaks version {version}, server speaks version {WIRE_VERSION}")
    assert server.peers == []


@pytest.mark.fault("H23")
def test_h23_what_a_later_version_adds_is_ignored_and_what_it_needs_is_not(trees: Trees) -> None:
    (server,) = echoing(trees, "server")
    loop = server._open_lanes().control_loop
    with RawPeer(server.addresses[0], "site-9") as peer:
        peer.join()
        header = msgpack.unpackb(bytes(encode(echo("server", number=5))[0]))
        peer.send_frames(msgpack.packb([*header, {"new": "field"}]), *SEVEN)
        reply = peer.receive()
        assert isinstance(reply, Reply) and (reply.id, reply.code) == (5, "")
        before = loop.undecoded
        peer.send_frames(msgpack.packb([header[0], 127, *header[2:]]), *SEVEN)
        peer.send_frames(msgpack.packb([header[0] + 1, *header[1:]]), *SEVEN)
        eventually(lambda: loop.undecoded == before + 2)
        unknown = answered(peer, Request("site-9", "server", 6, "no-such", "topic", 30.0, {}, SEVEN))
        assert (unknown.code, unknown.facts["reason"]) == ("refused", "no-handler")


@pytest.mark.fault("H24")
@pytest.mark.row("A11")
def test_h24_a_message_is_never_sent_back_over_the_link_that_it_came_by() -> None:
    """A parent that believes that its child knows the way, while the child believes the same of its parent."""
    context = zmq.Context()
    with context.socket(zmq.ROUTER) as parent:
        parent.setsockopt(zmq.LINGER, 0)
        port = parent.bind_to_random_port("tcp://127.0.0.1")

        def heard(kind: type[Hello] | type[Bounce]) -> tuple[bytes, Hello | Bounce]:
            """The next message of this kind; none that was sent down may come up again before it."""
            while True:
                assert parent.poll(int(PATIENCE_S * 1000))
                routing, header, *body = parent.recv_multipart()
                message = decode(header, tuple(body), me="server")
                assert not isinstance(message, (Transit, Request)), message
                if isinstance(message, kind):
                    return routing, message

        with Cell("site-1", parent=f"tcp://127.0.0.1:{port}", listen="tcp://127.0.0.1:0"):
            routing, _ = heard(Hello)
            parent.send_multipart([routing, *encode(Welcome("server", b"i" * 16, 5.0, ()))])
            for number, target in enumerate(("site-2", "site-1.w9", "site-11", "site-2.w0.x")):
                parent.send_multipart([routing, *encode(echo(target, origin="server", number=number))])
                _, bounce = heard(Bounce)
                assert isinstance(bounce, Bounce)
                assert (bounce.origin, bounce.id, bounce.code, bounce.facts["target"]) == ("site-1", number, "no-route", target)
    context.term()


@pytest.mark.fault("H24")
@pytest.mark.row("A11")
def test_h24_a_message_that_has_come_too_far_goes_no_further(trees: Trees) -> None:
    server, _, _ = echoing(trees)
    most = LinkOptions().hops_max
    with RawPeer(server.addresses[0], "site-9") as peer:
        peer.join()
        assert answered(peer, echo("site-1.w0", number=1, hops=most - 2)).code == ""
        for hops in (most, most + 1, 127):
            peer.send(echo("site-1.w0", number=2, hops=hops))
            bounce = peer.receive()
            assert isinstance(bounce, Bounce) and (bounce.id, bounce.code) == (2, "no-route")
            assert bounce.facts["why"] == f"hops_max={most} is reached"
