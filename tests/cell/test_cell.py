"""The cell as a whole: how it begins, whom it lets in, what it says of itself, and how it ends."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest
import zmq

from zdl.assembly import Cell
from zdl.cell.cell import BareCell, PeerInfo
from zdl.errors import Closed, FqcnError, NoRoute, OptionError, PeerLost, Refused, TimedOut
from zdl.options import CallOptions, LinkOptions, Options
from zdl.protocol.encode import encode
from zdl.protocol.messages import Bounce, Cancel, Notice, Reject, Reply, Request

from chaos import Chaos
from children import Child
from rawpeer import RawPeer
from trees import Trees
from waiting import PATIENCE_S, eventually

QUICK = Options(links=LinkOptions(heartbeat_s=0.1, redial_max_s=0.1))


def undecoded(cell: Cell) -> int:
    lanes = cell._open_lanes()
    return lanes.control_loop.undecoded


# --- beginning ----------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["", "a..b", "a b", "a.a", "x" * 300])
def test_a_name_that_is_none_is_refused_before_anything_runs(name: str) -> None:
    with pytest.raises(FqcnError):
        BareCell(name, parent="tcp://127.0.0.1:1")


def test_only_the_root_has_no_parent() -> None:
    with pytest.raises(OptionError, match="only server has none"):
        BareCell("site-1")


def test_before_it_is_started_nothing_can_be_asked_of_it() -> None:
    cell = Cell("server", listen="tcp://127.0.0.1:0")
    assert repr(cell) == "<Cell server new >"
    assert (cell.addresses, cell.data_addresses) == ((), ())
    with pytest.raises(Closed):
        cell.request("server", "task", "run")
    assert cell.close() == []
    with pytest.raises(Closed):
        cell.start()


def test_starting_twice_is_starting_once(trees: Trees) -> None:
    (cell,) = trees.grow("server")
    addresses = cell.addresses
    cell.start()
    assert cell.addresses == addresses
    assert repr(cell) == f"<Cell server open {addresses[0]}>"
    cell.wait_ready(0.0)


@pytest.mark.parametrize(("listen", "text"), [
    ("tcp://0.0.0.0:0", "insecure=True"), ("tcp://10.0.0.5:0", "insecure=True"), ("nonsense", "tcp://HOST:PORT")])
def test_an_address_that_must_not_be_bound_is_refused(listen: str, text: str) -> None:
    cell = Cell("server", listen=listen)
    with pytest.raises(OptionError, match=text):
        cell.start()
    cell.close()


def test_others_are_let_in_when_asked_for() -> None:
    with Cell("server", listen="tcp://0.0.0.0:0", insecure=True) as cell:
        assert not cell.addresses[0].startswith("tcp://0.0.0.0")


def test_an_address_that_is_taken_is_refused(trees: Trees) -> None:
    (first,) = trees.grow("server")
    second = Cell("server", listen=first.addresses[0])
    with pytest.raises(OptionError, match="in use"):
        second.start()
    assert second.close() == []


def test_it_may_listen_at_several_addresses_of_several_kinds(trees: Trees) -> None:
    listen = [trees.address(scheme) for scheme in ("inproc", "ipc", "tcp")]
    server = trees.add(Cell("server", listen=listen))
    server.handler("task", "echo")(lambda request: request.body)
    for number, address in enumerate(server.addresses):
        child = trees.add(Cell(f"site-{number}", parent=address))
        assert child.request("server", "task", "echo", b"x" * 2_000_000).body == b"x" * 2_000_000
        (parent,) = [peer for peer in child.peers if (peer.lane, peer.role) == ("data", "parent")]
        assert parent.address.partition("://")[0] == address.partition("://")[0], "the data lane comes the same way"
        assert parent.state == "up"


# --- whom it lets in ----------------------------------------------------------------------------

def test_a_parent_that_is_not_there_is_told_with_the_last_cause(trees: Trees) -> None:
    with Chaos("tcp://127.0.0.1:1") as nobody:
        address = nobody.address
    with Cell("site-1", parent=address, options=QUICK) as cell:
        with pytest.raises(TimedOut, match="the welcome from") as late:
            cell.wait_ready(0.2)
        assert f"nobody answers at {address}" in late.value.why
        with pytest.raises(NoRoute) as caught:
            cell.request("server", "task", "run", timeout_s=0.2)
        assert (caught.value.target, caught.value.at) == ("server", "site-1")
        assert f"nobody answers at {address}" in caught.value.why
        assert "nobody answers" in cell.parent_error


def test_a_parent_that_comes_later_is_found(trees: Trees) -> None:
    (server,) = trees.grow("server")
    address = server.addresses[0]
    server.close()
    with Cell("site-1", parent=address, options=QUICK) as cell:
        call = cell.request_future("server", "task", "echo", 7)
        eventually(lambda: cell.parent_error)
        again = Cell("server", listen=address)
        again.handler("task", "echo")(lambda request: request.body)
        trees.add(again)
        assert call.result(PATIENCE_S).body == 7
        assert cell.parent_error == ""


def test_a_name_that_is_taken_is_refused(trees: Trees) -> None:
    server, _ = trees.grow("server", "site-1")
    with Cell("site-1", parent=server.addresses[0]) as second:
        with pytest.raises(Refused) as caught:
            second.wait_ready(PATIENCE_S)
        assert (caught.value.by, caught.value.reason) == ("server", "name-taken")
        assert second.incarnation[:8] in caught.value.text


def test_the_parents_own_name_is_refused(trees: Trees) -> None:
    (server,) = trees.grow("server")
    with Cell("server", parent=server.addresses[0]) as second:
        with pytest.raises(Refused, match="every cell of a fabric needs a name of its own"):
            second.wait_ready(PATIENCE_S)


def test_a_name_that_is_not_below_is_refused_with_one_that_would_be(trees: Trees) -> None:
    _, site = trees.grow("server", "site-1", "site-1.w0")[:2]
    with Cell("site-2.w0", parent=site.addresses[0]) as cell:
        with pytest.raises(Refused) as caught:
            cell.wait_ready(PATIENCE_S)
        assert (caught.value.by, caught.value.reason) == ("site-1", "not-below")
        assert "site-1.w0" in caught.value.text


def test_another_version_is_refused_with_both_named(trees: Trees) -> None:
    (server,) = trees.grow("server")
    with RawPeer(server.addresses[0], "site-1") as peer:
        answer = peer.greet(version=9)
        assert isinstance(answer, Reject)
        assert (answer.reason, answer.text) == ("version", "site-1 speaks version 9, server speaks version 1")


def test_a_refusal_by_the_parent_reaches_who_waits() -> None:
    context = zmq.Context()
    with context.socket(zmq.ROUTER) as router:
        port = router.bind_to_random_port("tcp://127.0.0.1")
        with Cell("site-1", parent=f"tcp://127.0.0.1:{port}") as cell:
            routing, _ = router.recv_multipart()
            router.send_multipart([routing, *encode(Reject("server", "version", "site-1 speaks 1, server speaks 2"))])
            with pytest.raises(Refused) as caught:
                cell.wait_ready(PATIENCE_S)
            assert caught.value.reason == "version"
    context.term()


def test_a_cell_that_was_killed_gets_its_place_back(trees: Trees) -> None:
    (server,) = trees.grow("server")
    program = "cell = Cell('site-1', parent=sys.argv[1]); cell.start(); cell.wait_ready(); say('ready', cell.incarnation); stay()"
    with Child(program, server.addresses[0]) as first:
        before = first.expect("ready")
        first.kill()
    with Child(program, server.addresses[0]) as second:
        assert second.expect("ready") != before
        assert server.request("site-1", "zdl", "ping").body is None


def test_a_cell_that_falls_silent_is_lost_and_comes_back(trees: Trees) -> None:
    server = trees.add(Cell("server", listen="tcp://127.0.0.1:0", options=QUICK))
    program = """
cell = Cell("site-1", parent=sys.argv[1], options=Options(links=LinkOptions(heartbeat_s=0.1, redial_max_s=0.1)))
@cell.handler("task", "wait")
def wait(request):
    say("waiting")
    threading.Event().wait()
cell.start(); cell.wait_ready(); say("ready"); stay()
"""
    with Child(program, server.addresses[0]) as child:
        child.expect("ready")
        call = server.request_future("site-1", "task", "wait", timeout_s=None)
        child.expect("waiting")
        child.stop()
        with pytest.raises(PeerLost, match="silent for"):
            call.result(PATIENCE_S)
        child._process.send_signal(signal.SIGCONT)
        eventually(lambda: any(peer.state == "up" for peer in server.peers if peer.lane == "control"))


# --- strangers ----------------------------------------------------------------------------------

def echo_tree(trees: Trees) -> tuple[Cell, ...]:
    cells = trees.grow("server", "site-1", "site-1.w0")
    for cell in cells:
        cell.handler("task", "echo")(lambda request: request.body)
    return cells


def test_who_never_says_hello_is_refused(trees: Trees) -> None:
    server, *_ = echo_tree(trees)
    with RawPeer(server.addresses[0], "site-9") as peer:
        peer.send(Request("site-9", "server", 1, "task", "echo", 5.0, {}, (b"\x92\x90\x01",)))
        answer = peer.receive()
        assert isinstance(answer, Reject)
        assert (answer.origin, answer.reason) == ("server", "not-ready")


def test_who_claims_to_be_somebody_else_is_refused(trees: Trees) -> None:
    server, site, _ = echo_tree(trees)
    heard: list[object] = []
    for cell in (server, site):
        cell.handler("task", "note")(lambda request: heard.append(request.origin))
    with RawPeer(server.addresses[0], "site-9") as peer:
        peer.join()
        for forged in ("site-1", "server", "site-1.w0", "site-99", "site-9x"):
            peer.send(Request(forged, "server", 7, "task", "echo", 5.0, {}, (b"\x92\x90\x01",)))
            bounce = peer.receive()
            assert isinstance(bounce, Bounce)
            assert (bounce.id, bounce.code, bounce.facts["reason"]) == (7, "refused", "not-allowed")
            peer.send(Notice(forged, "site-1", 8, "task", "note", {}, (b"\x92\x90\x01",)))
            assert isinstance(peer.receive(), Bounce)
        for honest in ("site-9", "site-9.w0"):
            peer.send(Notice(honest, "site-1", 9, "task", "note", {}, (b"\x92\x90\x01",)))
        eventually(lambda: len(heard) == 2)
        assert sorted(map(str, heard)) == ["site-9", "site-9.w0"]


def test_a_name_cannot_be_stolen_by_who_comes_later(trees: Trees) -> None:
    server, *_ = echo_tree(trees)
    with RawPeer(server.addresses[0], "site-1") as thief:
        answer = thief.greet()
        assert isinstance(answer, Reject) and answer.reason == "name-taken"
    assert server.request("site-1", "task", "echo", 1).body == 1


def test_a_relay_passes_on_what_it_could_not_read(trees: Trees) -> None:
    server, site, leaf = echo_tree(trees)
    garbage = (b"\xc1\xc1 no msgpack at all", bytes(100_000), b"", os.urandom(50))
    with RawPeer(server.addresses[0], "site-9") as peer:
        peer.join()
        peer.send(Request("site-9", "site-1.w0", 3, "task", "echo", 30.0, {}, garbage))
        reply = peer.receive()
        assert isinstance(reply, Reply)
        assert (reply.origin, reply.id, reply.code) == ("site-1.w0", 3, "cannot-unpack"), "the leaf opened it, nobody else"
    assert (undecoded(server), undecoded(site), undecoded(leaf)) == (0, 0, 0)


def test_a_header_that_is_no_header_is_counted_and_changes_nothing(trees: Trees) -> None:
    server, _, leaf = echo_tree(trees)
    with RawPeer(server.addresses[0], "site-9") as peer:
        peer.join()
        peer.send_frames(b"\x9a\x01\x10" + bytes(65_536 - 2))
        peer.send_frames(b"not msgpack")
        peer.send_frames(b"\x96\x01\x10\x00\xa6site-9\xa6server\xc1")
        peer.send_frames(b"")
        eventually(lambda: undecoded(server) == 4)
        peer.send(Request("site-9", "site-1.w0", 3, "task", "echo", 30.0, {}, (b"\x92\x90\x07",)))
        reply = peer.receive()
        assert isinstance(reply, Reply) and reply.code == ""
    assert leaf.request("server", "task", "echo", 1).body == 1


def test_a_storm_of_noise_does_not_hurt_honest_cells(trees: Trees) -> None:
    server, _, leaf = echo_tree(trees)
    stop, failed = threading.Event(), []

    def ask() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            if leaf.request("server", "task", "echo", number, timeout_s=PATIENCE_S).body != number:
                failed.append(number)

    thread = threading.Thread(target=ask)
    thread.start()
    with RawPeer(server.addresses[0], "site-9") as stranger, RawPeer(server.addresses[0], "site-8") as member:
        member.join()
        valid = [b"\x9a", b"\x01", b"\x10", b"\x00", b"\xa6site-8", b"\xa6server"]
        for number in range(2500):
            stranger.send_frames(*(os.urandom(number % 200) for _ in range(1 + number % 4)))
            member.send_frames(b"".join(valid[:number % 7]) + os.urandom(number % 100), os.urandom(number % 50))
        eventually(lambda: undecoded(server) > 4000)
        member.send(Request("site-8", "server", 3, "task", "echo", 30.0, {}, (b"\x92\x90\x07",)))
        while not isinstance(reply := member.receive(), Reply):
            pass
        assert reply.code == ""
    stop.set()
    thread.join()
    assert not failed
    assert len(server.peers) <= 4


def test_cancelling_what_is_not_ones_own_changes_nothing(trees: Trees) -> None:
    server, *_ = echo_tree(trees)
    with RawPeer(server.addresses[0], "site-9") as peer:
        peer.join()
        peer.send(Cancel("site-9", "server", 77))
        peer.send(Reply("site-9", "server", 78, "", {}, {}, (b"\x92\x90\x07",)))
        peer.send(Bounce("site-9", "server", 79, 16, "no-route", {}))
        peer.send(Request("site-9", "server", 3, "task", "echo", 30.0, {}, (b"\x92\x90\x07",)))
        assert isinstance(peer.receive(), Reply)


# --- what it says of itself ---------------------------------------------------------------------

def test_it_tells_its_links(trees: Trees) -> None:
    server, site, leaf = trees.grow("server", "site-1", "site-1.w0")
    eventually(lambda: len(site.peers) == 4)
    found = {(peer.fqcn, peer.lane, peer.role, peer.state) for peer in site.peers}
    assert found == {(name, lane, role, "up") for name, role in (("server", "parent"), ("site-1.w0", "child"))
                     for lane in ("control", "data")}
    parent = next(peer for peer in leaf.peers if peer.lane == "control")
    assert parent == PeerInfo("site-1", "control", "up", "parent", site.addresses[0])


def test_it_counts_what_passes(trees: Trees) -> None:
    server, site, leaf = echo_tree(trees)
    leaf.request("server", "task", "echo", b"x" * 100_000)

    def counted(name: str) -> list[int]:
        """Whole times 100,000 bytes: what else moves is small."""
        found = next(each for each in site.traffic[0] if each.fqcn == name)
        return [found.bytes_in // 100_000, found.bytes_out // 100_000]

    for name in ("server", "site-1.w0"):
        assert eventually(lambda name=name: counted(name) == [1, 1], what=f"the bytes of {name}")


def test_its_incarnation_is_its_own(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    assert len(server.incarnation) == 32
    assert server.incarnation != site.incarnation


# --- ending -------------------------------------------------------------------------------------

def test_closing_twice_is_closing_once(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    assert site.close() == []
    assert site.close() == []
    assert repr(site) == "<Cell site-1 closed >" or "closed" in repr(site)
    for call in (lambda: site.request("server", "a", "b"), lambda: site.notice("server", "a", "b"),
                 lambda: site.broadcast(["server"], "a", "b"), lambda: site.request_future("server", "a", "b"),
                 lambda: site.peers, lambda: site.downloads.lend([b"xx"]), site.wait_ready):
        with pytest.raises(Closed) as caught:
            call()
        assert caught.value.fqcn == "site-1"


def test_closing_leaves_no_thread_and_no_socket(trees: Trees) -> None:
    server, *_ = echo_tree(trees)
    path = trees.address("ipc")
    other = Cell("site-2", parent=server.addresses[0], listen=path)
    other.start()
    other.wait_ready()
    other.request("server", "task", "echo")
    names = {thread.name for thread in threading.enumerate()}
    assert {"zdl-control-site-2", "zdl-data-site-2"} <= names
    assert os.path.exists(path.removeprefix("ipc://"))
    assert other.close() == []
    assert not [thread.name for thread in threading.enumerate() if "site-2" in thread.name]
    assert not os.path.exists(path.removeprefix("ipc://"))
    eventually(lambda: all(peer.fqcn != "site-2" for peer in server.peers), what="the goodbye")


def test_closing_settles_what_waits(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    entered, go_on = threading.Semaphore(0), threading.Event()

    @server.handler("task", "wait")
    def wait(request: object) -> object:
        entered.release()
        go_on.wait(PATIENCE_S)
        return None

    caught: list[BaseException] = []

    def ask() -> None:
        try:
            site.request("server", "task", "wait", timeout_s=None)
        except Closed as error:
            caught.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    future = site.request_future("server", "task", "wait", timeout_s=None)
    assert entered.acquire(timeout=PATIENCE_S) and entered.acquire(timeout=PATIENCE_S)
    assert site.close() == []
    thread.join(PATIENCE_S)
    assert isinstance(future.exception(PATIENCE_S), Closed) and len(caught) == 1
    go_on.set()


def test_closing_waits_for_handlers_as_long_as_it_was_told(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    entered, go_on = threading.Event(), threading.Event()

    @server.handler("task", "wait")
    def wait(request: object) -> object:
        entered.set()
        go_on.wait(PATIENCE_S)
        return "done"

    site.request_future("server", "task", "wait")
    assert entered.wait(PATIENCE_S)
    assert server.close(0.05) == ["1 handlers are still running"]
    go_on.set()


def test_a_handler_may_close_its_own_cell(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    closed: list[list[str]] = []
    server.handler("task", "stop")(lambda request: closed.append(server.close()))
    site.notice("server", "task", "stop")
    eventually(lambda: closed)
    assert closed == [[]]


def test_many_cells_come_and_go(trees: Trees) -> None:
    cells = echo_tree(trees)
    server = cells[0]
    eventually(lambda: sum(len(cell.peers) for cell in cells) == 8, what="both lanes of both links, from both ends")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        with Cell("site-7", parent=server.addresses[0]) as cell:
            cell.wait_ready()
            assert cell.request("site-1.w0", "task", "echo", 1).body == 1
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= before, what="the end of their descriptors")


def test_two_cells_of_one_process_share_nothing(trees: Trees) -> None:
    one = trees.add(Cell("server", listen="tcp://127.0.0.1:0", options=Options(calls=CallOptions(timeout_s=5.0))))
    two = trees.add(Cell("server", listen="tcp://127.0.0.1:0"))
    one.handler("task", "who")(lambda request: 1)
    two.handler("task", "who")(lambda request: 2)
    assert (one.request("server", "task", "who").body, two.request("server", "task", "who").body) == (1, 2)
    one.close()
    assert two.request("server", "task", "who").body == 2


def test_what_is_said_during_the_end_is_said_or_closed(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    server.handler("task", "echo")(lambda request: request.body)
    ends: list[type] = []

    def ask() -> None:
        try:
            while True:
                site.request("server", "task", "echo", 1, timeout_s=PATIENCE_S)
        except Closed as error:
            ends.append(type(error))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    eventually(lambda: site.traffic[0][0].messages_out > 20)
    assert site.close() == []
    until = time.monotonic() + PATIENCE_S
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    assert ends == [Closed] * 4
