"""The shell: frames become messages, messages feed machines, effects are performed in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest
import zmq

from zdl.errors import Busy
from zdl.options import LinkOptions
from zdl.protocol.bundle import bundled, is_bundle, unbundled
from zdl.protocol.decode import decode
from zdl.protocol.effects import Arrived, Dial, Effect, PeerUp, Post, Send
from zdl.protocol.messages import Bounce, Kind, Notice
from zdl.protocol.peers import Self
from zdl.protocol.switch import Switch
from zdl.transport.lead import FOREVER
from zdl.transport.links import Broken, Incoming, Links
from zdl.transport.shell import OUTBOX_MAX, Shell

from waiting import eventually


class Desk:
    """Writes down what it is asked to perform, and may ask for more."""

    def __init__(self) -> None:
        self.performed: list[Effect] = []
        self.more: list[Effect] = []
        self.wants_tick_at: float | None = None
        self.ticked: list[float] = []

    def takes(self, header: bytes) -> bool:
        return False

    def incoming(self, message: Incoming | None) -> None:
        raise AssertionError("it takes nothing itself")

    def perform(self, effect: Effect, now: float) -> Iterable[Effect]:
        self.performed.append(effect)
        more, self.more = self.more, []
        return more

    def tick(self, now: float) -> Iterable[Effect]:
        self.ticked.append(now)
        return []

    def deadline(self) -> float | None:
        return self.wants_tick_at

    def is_pipelined(self) -> bool:
        return False


class Lone:
    """A shell whose sockets nobody polls."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self.links = Links(context, "server", is_data=False)
        self.later: list[Broken] = []
        self.switch = Switch(Self("server", bytes(16)), LinkOptions(), watches=True)
        self.shell = Shell(self.switch, self.links, self.later.append)
        self.desk = self.shell.desk = Desk()


@pytest.fixture
def lone() -> Iterator[Lone]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    made = Lone(context)
    yield made
    made.links.close()
    context.term()


def note(target: str, *body: bytes) -> Notice:
    return Notice("server", target, 5, "task", "run", {}, tuple(body))


def test_a_message_to_oneself_goes_through_encode_and_decode(lone: Lone) -> None:
    lone.shell.act([Post(note("server", b"body"))], 1.0)
    assert lone.desk.performed == [Arrived(note("server", b"body"))]


def test_what_the_desk_asks_for_is_performed_too_before_what_comes_after(lone: Lone) -> None:
    lone.desk.more = [Post(note("server", b"second"))]
    up = PeerUp(2, "site-1", False, 0, ())  # type: ignore[arg-type]
    lone.shell.act([Post(note("server", b"first")), up], 1.0)
    assert lone.desk.performed == [Arrived(note("server", b"first")), Arrived(note("server", b"second")), up]


def test_a_message_that_cannot_leave_comes_back(lone: Lone) -> None:
    lone.shell.act([Post(note("site-1"))], 1.0)
    (arrived,) = lone.desk.performed
    assert isinstance(arrived, Arrived) and isinstance(arrived.message, Bounce)
    assert (arrived.message.of_kind, arrived.message.code) == (Kind.NOTICE, "no-route")


def test_messages_for_a_link_that_is_gone_come_back_though_its_end_cannot_be_reported_now(lone: Lone) -> None:
    def full(broken: Broken) -> None:
        raise Busy(limit="mailbox_max", value=1, at="server")

    shell = Shell(lone.switch, lone.links, full)
    desk = shell.desk = Desk()
    shell.act([Send(LINK, note("site-1")), Send(LINK, note("site-1"))], 1.0)
    with pytest.raises(Busy):
        shell.flush()
    assert [type(each.message) for each in desk.performed if isinstance(each, Arrived)] == [Bounce, Bounce]


def test_an_address_that_cannot_be_dialled_is_reported_when_all_else_is_done(lone: Lone) -> None:
    lone.shell.act([Dial(3, "tcp://no port")], 1.0)
    assert [each.link for each in lone.later] == [3]
    lone.shell.broken(lone.later[0])
    assert "0 undecodable" in repr(lone.shell)


def test_the_nearer_deadline_counts_and_without_any_there_is_none(lone: Lone) -> None:
    assert lone.shell.deadline() == FOREVER
    lone.desk.wants_tick_at = 7.0
    assert lone.shell.deadline() == 7.0
    lone.shell.tick()
    assert len(lone.desk.ticked) == 1


@pytest.mark.fault("H1")
def test_h1_messages_that_are_none_are_all_counted_and_of_each_link_the_first_is_told(
        lone: Lone, caplog: pytest.LogCaptureFixture) -> None:
    for link in (2, 2, 4, 2):
        lone.shell.receive(Incoming(link, b"\xc1", None, False))  # type: ignore[arg-type]
    lone.shell.tick()
    assert lone.shell.undecoded == 4
    told = [record.getMessage().partition(" why=") for record in caplog.records]
    assert [head for head, _, _ in told] == [
        f"! server: undecodable message from=nobody known link={link}" for link in (2, 4)]
    assert all(why for _, _, why in told)


# --- what goes together -------------------------------------------------------------------------


class Joined:
    """A lone shell with one link to a socket that reads what it sends."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], lone: Lone) -> None:
        self.lone = lone
        self.reader = context.socket(zmq.ROUTER)
        self.reader.setsockopt(zmq.LINGER, 0)
        port = self.reader.bind_to_random_port("tcp://127.0.0.1")
        lone.links.dial(LINK, f"tcp://127.0.0.1:{port}")

    def say(self, *messages: Notice) -> None:
        for each in messages:
            self.lone.shell.act([Send(LINK, each)], 1.0)

    def read(self) -> list[bytes]:
        """The frames of the next message."""
        assert self.reader.poll(30_000), "nothing came"
        return self.reader.recv_multipart()[1:]

    def incoming(self) -> Incoming:
        """The next message that comes to the shell's own socket."""
        links = self.lone.links
        (socket,) = eventually(lambda: links.pending(links.poller.sleep(0.1))[1], what="a message")
        incoming = links.receive(socket)
        assert incoming is not None
        return incoming


LINK = 1


@pytest.fixture
def joined() -> Iterator[Joined]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    made = Joined(context, Lone(context))
    yield made
    made.reader.close()
    made.lone.links.close()
    context.term()


def small(number: int) -> Notice:
    return Notice("server", "site-1", number, "task", "run", {}, (b"x",))


def test_what_is_small_waits_and_goes_as_one(joined: Joined) -> None:
    joined.say(small(1), small(2), small(3))
    assert len(joined.lone.shell.outbox[LINK]) == 3
    joined.lone.shell.flush()
    (head,) = joined.read()
    assert [decode(each, (), me="site-1") for each in unbundled(head, ())] == [small(1), small(2), small(3)]
    assert not joined.lone.shell.outbox
    assert [(each.messages_out, each.bytes_out) for each in joined.lone.shell.traffic.all()] == [(3, 0)]


def test_what_nothing_shall_wait_with_goes_at_once_and_after_what_waits(joined: Joined) -> None:
    joined.say(small(1))
    joined.lone.shell.is_holding = False
    joined.say(small(2), small(3))
    assert not joined.lone.shell.outbox
    assert [decode(joined.read()[0], (), me="site-1") for _ in range(3)] == [small(1), small(2), small(3)]


def test_one_alone_goes_as_it_is(joined: Joined) -> None:
    joined.say(small(1))
    joined.lone.shell.flush()
    (header,) = joined.read()
    assert decode(header, (), me="site-1") == small(1)


def test_what_is_large_goes_at_once_and_after_what_waits(joined: Joined) -> None:
    large = Notice("server", "site-1", 3, "task", "run", {}, (bytes(100_000), b"more"))
    joined.say(small(1), small(2), large)
    (head,) = joined.read()
    assert is_bundle(head) and len(unbundled(head, ())) == 2
    header, *body = joined.read()
    assert decode(header, tuple(body), me="site-1") == large


def test_the_outbox_is_bounded(joined: Joined) -> None:
    joined.say(*map(small, range(OUTBOX_MAX + 1)))
    assert len(joined.lone.shell.outbox[LINK]) == 1
    (head,) = joined.read()
    assert len(unbundled(head, ())) == OUTBOX_MAX


def test_what_waits_for_a_link_that_breaks_comes_back_to_its_origin(joined: Joined) -> None:
    joined.say(small(1), small(2))
    joined.lone.shell.broken(Broken(LINK, "the connection was closed"))
    bounces = [effect.message for effect in joined.lone.desk.performed if isinstance(effect, Arrived)]
    assert [(type(each), each.id) for each in bounces] == [(Bounce, 1), (Bounce, 2)]
    assert not joined.lone.shell.outbox


def test_each_message_of_a_bundle_is_taken_by_itself_and_a_false_one_is_told(
        joined: Joined, caplog: pytest.LogCaptureFixture) -> None:
    joined.say(small(1))
    joined.lone.shell.flush()
    routing, header = joined.reader.recv_multipart()
    (head,) = (bytes(frame) for frame in bundled([header, header, header]))
    taken: list[int] = []
    for each in ([head], [head, b"more"], [header]):
        joined.reader.send_multipart([routing, *each])
        calls: list[object] = []
        joined.lone.shell.take(joined.incoming(), lambda function, *arguments: calls.append(arguments))
        taken.append(len(calls))
    assert taken == [3, 0, 1]
    assert joined.lone.shell.undecoded == 1 and "a bundle does not begin like one, or has more than one frame" in caplog.text


def test_what_is_no_message_in_a_bundle_keeps_none_of_the_others_back(joined: Joined) -> None:
    joined.say(small(1))
    joined.lone.shell.flush()
    routing, header = joined.reader.recv_multipart()
    (mixed,) = (bytes(frame) for frame in bundled([b"\xc1", header, b"\xc1"]))
    joined.reader.send_multipart([routing, mixed])
    joined.lone.shell.take(joined.incoming(), lambda function, *arguments: function(*arguments))
    assert joined.lone.shell.undecoded == 2
    assert not joined.lone.links.sockets_of(LINK), "the one between them came over a link on which nobody had said HELLO"
