"""The loop: polls, decodes, feeds, acts; and nothing that comes in, or goes wrong, ends it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress

import pytest
import zmq

from zdl.errors import Busy, Closed
from zdl.options import LinkOptions
from zdl.protocol.effects import Arrived, Dial, Effect, PeerDown, PeerUp, Post, Send
from zdl.protocol.frames import WIRE_VERSION
from zdl.protocol.messages import Bounce, Goodbye, Heartbeat, Hello, Notice, Reject, Role, Welcome
from zdl.protocol.peers import Self
from zdl.protocol.switch import Switch
from zdl.transport.links import Incoming, Links
from zdl.transport.loop import Loop
from zdl.transport.mailbox import Mailbox

from rawpeer import RawPeer
from waiting import PATIENCE_S, eventually


class Recorder:
    """A desk that writes down what it is asked to perform."""

    def __init__(self) -> None:
        self.performed: list[Effect] = []
        self.wants_tick_at: float | None = None
        self.ticks = 0

    def takes(self, header: bytes) -> bool:
        return False

    def incoming(self, message: Incoming | None) -> None:
        raise AssertionError("it takes nothing itself")

    def perform(self, effect: Effect, now: float) -> Iterable[Effect]:
        self.performed.append(effect)
        return []

    def tick(self, now: float) -> Iterable[Effect]:
        self.ticks += 1
        self.wants_tick_at = None
        return []

    def deadline(self) -> float | None:
        return self.wants_tick_at

    def arrived(self) -> list[object]:
        return [each.message for each in self.performed if isinstance(each, Arrived)]


class Lone:
    """One loop with its desk, and the address where it listens."""

    def __init__(self, fqcn: str, stack: ExitStack) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        stack.callback(context.term)
        links = Links(context, fqcn, is_data=False)
        self.address = links.bind("tcp://127.0.0.1:0", is_insecure=False)
        self.desk = Recorder()
        self.loop = Loop(f"zdl-control-{fqcn}", Switch(Self(fqcn, bytes(16)), LinkOptions(), watches=True), links,
                         Mailbox(fqcn, 1000))
        self.loop.start(self.desk)
        stack.callback(lambda: self.loop.stop(10.0))


@pytest.fixture
def server() -> Iterator[Lone]:
    with ExitStack() as stack:
        yield Lone("server", stack)


@pytest.fixture
def peer(server: Lone) -> Iterator[RawPeer]:
    with RawPeer(server.address, "site-1") as made:
        yield made


def note(origin: str, target: str, *body: bytes) -> Notice:
    return Notice(origin, target, 5, "task", "run", {}, tuple(body))


def test_a_message_for_the_cell_reaches_its_desk(server: Lone, peer: RawPeer) -> None:
    peer.join()
    peer.send(note("site-1", "server", b"body", b""))
    eventually(server.desk.arrived)
    assert server.desk.arrived() == [note("site-1", "server", b"body", b"")]
    assert isinstance(server.desk.performed[0], PeerUp)


def test_a_message_for_another_cell_goes_on_with_one_hop_more(server: Lone, peer: RawPeer) -> None:
    peer.join()
    with RawPeer(server.address, "site-2") as other:
        other.join()
        peer.send(note("site-1", "site-2.w0", b"\x00garbage", b""))
        passed = other.receive()
        assert (passed.origin, passed.target, passed.hops, passed.body) == (  # type: ignore[union-attr]
            "site-1", "site-2.w0", 1, (b"\x00garbage", b""))
    assert server.desk.arrived() == []
    assert server.loop.switch.counts.forwarded == 1


def test_a_message_that_leads_nowhere_comes_back(server: Lone, peer: RawPeer) -> None:
    peer.join()
    peer.send(note("site-1", "site-9"))
    bounce = peer.receive()
    assert isinstance(bounce, Bounce)
    assert (bounce.id, bounce.code, bounce.facts["at"]) == (5, "no-route", "server")


def test_who_has_not_said_hello_is_told_to(server: Lone, peer: RawPeer) -> None:
    peer.send(note("site-1", "server"))
    answer = peer.receive()
    assert isinstance(answer, Reject)
    assert answer.reason == "not-ready"
    peer.join()


def test_what_does_not_decode_is_counted_and_the_link_lives_on(server: Lone, peer: RawPeer) -> None:
    peer.join()
    peer.send_frames(b"nonsense", b"x" * 100_000, b"")
    peer.send_frames(b"")
    peer.send_frames(b"\x96" + bytes(70_000))
    peer.send_frames(*[b"\x96\x01\x12\x00\xa1x\xa1y\x05"] + [b""] * 4097)
    peer.send(note("site-1", "server"))
    eventually(server.desk.arrived)
    assert server.loop.undecoded == 4


def test_a_piece_of_work_that_fails_ends_nothing_else(server: Lone, logged_errors: list[str]) -> None:
    def stumble() -> None:
        raise RuntimeError("stumbled")

    server.loop.mailbox.put(stumble)
    eventually(lambda: logged_errors)
    assert server.loop.ask(lambda: 7) == 7
    assert len(logged_errors) == 1 and "RuntimeError: stumbled" in logged_errors[0]
    logged_errors.clear()


def test_it_ticks_when_its_desk_wants_it(server: Lone) -> None:
    def want() -> None:
        server.desk.wants_tick_at = time.monotonic()

    server.loop.mailbox.put(want)
    assert eventually(lambda: server.desk.ticks == 1)


def test_a_connection_that_another_thread_began_is_noticed_although_the_loop_sleeps(server: Lone) -> None:
    with ExitStack() as stack:
        site = Lone("site-1", stack)
        hello = Hello("site-1", bytes(range(16)), Role.CHILD, 5.0, (), WIRE_VERSION)
        eventually(lambda: site.loop.mailbox.is_asleep)
        # Below the brain, so that no deadline of its wakes the loop.
        site.loop.submit(site.loop.act, [Dial(1, server.address), Send(1, hello)], 0.0)
        assert eventually(lambda: any(each.messages_in for each in site.loop.traffic()), what="the welcome")


def test_it_counts_what_moves_per_peer(server: Lone, peer: RawPeer) -> None:
    peer.join()
    peer.send(note("site-1", "server", b"x" * 1000, b"y" * 500))
    eventually(server.desk.arrived)
    server.loop.mailbox.put(server.loop.do, lambda now: [Post(note("server", "site-1", b"z" * 70_000))])
    assert isinstance(peer.receive(), Notice)
    eventually(lambda: server.loop.traffic()[0].bytes_out)
    (traffic,) = server.loop.traffic()
    assert (traffic.fqcn, traffic.bytes_in, traffic.bytes_out) == ("site-1", 1500, 70_000)
    peer.send(Goodbye("site-1", "done"))
    eventually(lambda: isinstance(server.desk.performed[-2], PeerDown))
    (traffic,) = server.loop.traffic()
    assert (traffic.fqcn, traffic.bytes_in, traffic.bytes_out) == ("site-1", 1500, 70_000), "it is kept after the end"


def test_it_says_goodbye_and_takes_no_more(server: Lone, peer: RawPeer) -> None:
    peer.join()
    assert "running" in repr(server.loop)
    assert server.loop.stop(30.0)
    assert isinstance(peer.receive(), Goodbye)
    with pytest.raises(Closed):
        server.loop.ask(lambda: 1)
    assert server.loop.stop(30.0), "a second time changes nothing"
    assert "stopped" in repr(server.loop)


def test_a_question_to_a_loop_that_is_ending_is_answered_or_closed(server: Lone) -> None:
    answers: list[object] = []

    def ask() -> None:
        try:
            while True:
                server.loop.ask(lambda: 1)
        except Closed as error:
            answers.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert server.loop.stop(30.0)
    for thread in threads:
        thread.join(30.0)
    assert len(answers) == 4


def test_a_connection_that_never_said_anything_useful_is_forgotten_when_it_ends(server: Lone) -> None:
    for number in range(20):
        with RawPeer(server.address, "site-1") as stranger:
            stranger.send_frames(b"nonsense")
            eventually(lambda: server.loop.undecoded > number)
    assert eventually(lambda: ", 0 accepted" in server.loop.ask(lambda: repr(server.loop.links)))


def test_heartbeats_are_a_sign_of_life_and_nothing_else(server: Lone, peer: RawPeer) -> None:
    welcome = peer.join()
    assert isinstance(welcome, Welcome)
    peer.send(Heartbeat("site-1"))
    peer.send(note("site-1", "server"))
    eventually(server.desk.arrived)
    assert len(server.desk.arrived()) == 1


def test_a_dead_link_that_is_sent_to_very_often_is_heard_out_once(server: Lone, peer: RawPeer) -> None:
    peer.join()
    link = server.loop.ask(lambda: server.loop.switch.peers.up("site-1"))
    assert link is not None
    queued: list[int] = []

    def send_to_the_dead() -> None:
        """On the loop, which does not look at its sockets meanwhile."""
        peer.close()
        eventually(lambda: server.loop.links.send(link.link, [b"x"]) is not None, what="libzmq's word that it is gone")
        for _ in range(500):
            server.loop.act([Send(link.link, note("server", "site-1"))], 0.0)
            queued.append(len(server.loop.mailbox.waiting))

    server.loop.submit(send_to_the_dead)
    eventually(lambda: any(isinstance(each, PeerDown) for each in server.desk.performed), what="the end of the link")
    assert queued == [1] * 500
    assert sum(isinstance(each, PeerDown) for each in server.desk.performed) == 1


def test_a_full_mailbox_keeps_no_effect_from_being_performed_and_no_dead_link_from_being_noticed(
        server: Lone, peer: RawPeer) -> None:
    peer.join()
    with RawPeer(server.address, "site-2") as other:
        other.join()
        one, two = (server.loop.ask(lambda: server.loop.switch.peers.up(name)) for name in ("site-1", "site-2"))
        assert one is not None and two is not None

        def send_to_both() -> None:
            peer.close()
            eventually(lambda: server.loop.links.send(one.link, [b"x"]) is not None, what="libzmq's word that it is gone")
            with suppress(Busy):
                while True:
                    server.loop.mailbox.put(int)
            server.loop.act([Send(one.link, note("server", "site-1")), Send(two.link, note("server", "site-2"))], 0.0)

        server.loop.submit(send_to_both)
        assert other.receive() == note("server", "site-2")
        eventually(lambda: any(isinstance(each, PeerDown) for each in server.desk.performed), what="the end of the link")


def test_a_loop_whose_mailbox_is_full_is_stopped_all_the_same(server: Lone) -> None:
    held, go_on = threading.Event(), threading.Event()
    done: list[int] = []

    def hold() -> None:
        held.set()
        go_on.wait(PATIENCE_S)

    holder = threading.Thread(target=lambda: server.loop.submit(hold))
    holder.start()
    assert held.wait(PATIENCE_S)
    with suppress(Busy):
        while True:
            server.loop.submit(int)
    with pytest.raises(Busy):
        server.loop.submit(int)
    server.loop.mailbox.insist(done.append, 1)
    assert server.loop.stop(0.0) is False
    go_on.set()
    holder.join(PATIENCE_S)
    assert server.loop.stop(PATIENCE_S) and done == [1]
