"""The shell: frames become messages, messages feed machines, effects are performed in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest
import zmq

from zdl.options import LinkOptions
from zdl.protocol.effects import Arrived, Dial, Effect, PeerUp, Post
from zdl.protocol.messages import Bounce, Kind, Notice
from zdl.protocol.peers import Self
from zdl.protocol.switch import Switch
from zdl.transport.lead import FOREVER
from zdl.transport.links import Broken, Incoming, Links
from zdl.transport.shell import Shell


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
