"""Links: connections as numbers: who dialled is odd, who was accepted is even, what ends is told."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import zmq

from zdl.errors import NoRoute, OptionError
from zdl.transport.links import Broken, Incoming, Links, Socket

from chaos import Chaos
from trees import SCHEMES, Trees
from waiting import PATIENCE_S

DIALLED = 1


class Pair:
    """A lane that listens and one that dials; a descriptor that nobody writes to."""

    def __init__(self, stack: ExitStack) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        stack.callback(context.term)
        self.listener = Links(context, "server", is_data=False)
        self.dialler = Links(context, "site-1", is_data=False)
        stack.callback(self.listener.close)
        stack.callback(self.dialler.close)
        self.reader, self.writer = os.pipe()
        stack.callback(os.close, self.reader)
        stack.callback(os.close, self.writer)
        self.listener.wake_by(self.reader)
        self.dialler.wake_by(self.reader)

    def wait(self, links: Links, timeout_s: float) -> tuple[bool, list[Broken], list[Socket]]:
        """As a loop waits: whether the descriptor was readable, what broke, which sockets have messages."""
        broken, readable = links.pending()
        if broken or readable:
            return False, broken, readable
        descriptors = links.poller.sleep(timeout_s)
        return self.reader in descriptors, *links.pending(descriptors)

    def hear(self, links: Links) -> list[Broken | Incoming]:
        """What happens next there: at least one thing."""
        happened: list[Broken | Incoming] = []
        while not happened:
            is_woken, broken, readable = self.wait(links, PATIENCE_S)
            assert not is_woken
            happened += broken
            happened += [each for each in map(links.receive, readable) if each is not None]
        return happened

    def message(self, links: Links) -> Incoming:
        (incoming,) = self.hear(links)
        assert isinstance(incoming, Incoming)
        return incoming

    def join(self, address: str) -> int:
        """Dial, and say something each way; returns the number of the accepted link."""
        assert self.dialler.dial(DIALLED, self.listener.bind(address, is_insecure=False)) is None
        assert self.dialler.send(DIALLED, [b"hello"]) is None
        incoming = self.message(self.listener)
        assert (incoming.header, incoming.rest()) == (b"hello", ())
        assert self.listener.send(incoming.link, [b"welcome"]) is None
        answer = self.message(self.dialler)
        assert (answer.link, answer.header, answer.rest()) == (DIALLED, b"welcome", ())
        return incoming.link


@pytest.fixture
def pair(trees: Trees) -> Iterator[Pair]:  # closed before its addresses are looked for
    with ExitStack() as stack:
        yield Pair(stack)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_frames_arrive_as_they_were_sent(pair: Pair, trees: Trees, scheme: str) -> None:
    link = pair.join(trees.address(scheme))
    assert link == 2
    big = os.urandom(200_000)
    assert pair.dialler.send(DIALLED, [b"head", memoryview(big), b"", b"small"]) is None
    incoming = pair.message(pair.listener)
    assert (incoming.link, incoming.header) == (link, b"head")
    assert [bytes(part) for part in incoming.rest()] == [big, b"", b"small"]


def test_frames_are_received_into_place(pair: Pair) -> None:
    link = pair.join("tcp://127.0.0.1:0")
    data = os.urandom(300_000)
    pair.listener.send(link, [b"head", data[:100_000], data[100_000:]])
    into = bytearray(300_000)
    assert pair.message(pair.dialler).into(memoryview(into))
    assert into == data


def test_pieces_are_told_in_order_right_after_they_were_put_into_place(pair: Pair) -> None:
    link = pair.join("tcp://127.0.0.1:0")
    data = os.urandom(600_000)
    pair.listener.send(link, [b"head", data[:300_000], b"", data[300_000:]])
    into, told = bytearray(600_000), bytearray()
    assert pair.message(pair.dialler).into(memoryview(into), told.extend)
    assert into == told == data


@pytest.mark.parametrize("told", [None, bytes], ids=["untold", "told"])
@pytest.mark.parametrize("sizes", [(299_999,), (300_001,), (300_000, 1), (1, 300_000), (400_000, 400_000), ()])
def test_what_does_not_fit_is_dropped_whole(
        pair: Pair, sizes: tuple[int, ...], told: Callable[[memoryview], object] | None) -> None:
    link = pair.join("tcp://127.0.0.1:0")
    pair.listener.send(link, [b"head", *(bytes(size) for size in sizes)])
    pair.listener.send(link, [b"next"])
    incoming = pair.message(pair.dialler)
    assert not incoming.into(memoryview(bytearray(300_000)), told)
    incoming.discard()
    assert pair.message(pair.dialler).header == b"next"


def test_what_nobody_wants_is_discarded(pair: Pair) -> None:
    link = pair.join("tcp://127.0.0.1:0")
    pair.listener.send(link, [b"head", b"x" * 100, b"", b"y" * 100_000])
    pair.listener.send(link, [b"next"])
    pair.message(pair.dialler).discard()
    assert pair.message(pair.dialler).header == b"next"


@pytest.mark.parametrize("scheme", ["tcp", "ipc"])
def test_both_sides_learn_that_a_connection_has_ended(pair: Pair, trees: Trees, scheme: str) -> None:
    link = pair.join(trees.address(scheme))
    pair.dialler.hang(DIALLED)
    assert pair.hear(pair.listener) == [Broken(link, "the connection was closed")]
    pair.listener.hang(link)
    problem = pair.listener.send(link, [b"late"])
    assert isinstance(problem, NoRoute) and "closed" in problem.why


def test_a_connection_that_breaks_on_the_way_is_told_on_both_sides(pair: Pair) -> None:
    address = pair.listener.bind("tcp://127.0.0.1:0", is_insecure=False)
    with Chaos(address) as chaos:
        pair.dialler.dial(DIALLED, chaos.address)
        pair.dialler.send(DIALLED, [b"hello"])
        link = pair.message(pair.listener).link
        chaos.reset()
        assert pair.hear(pair.dialler) == [Broken(DIALLED, "the connection was closed")]
        assert pair.hear(pair.listener) == [Broken(link, "the connection was closed")]


def test_an_address_where_nobody_listens_is_told(pair: Pair) -> None:
    with Chaos("tcp://127.0.0.1:1") as chaos:
        address = chaos.address
    assert pair.dialler.dial(DIALLED, address) is None
    assert pair.hear(pair.dialler) == [Broken(DIALLED, f"nobody answers at {address}")]


@pytest.mark.fault("N14")
def test_n14_a_name_that_does_not_resolve_is_told_as_soon_as_it_was_looked_up(pair: Pair) -> None:
    address = "tcp://no-such-host.invalid:8800"
    assert pair.dialler.dial(DIALLED, address) is None
    assert pair.hear(pair.dialler) == [Broken(DIALLED, f"{address} cannot be dialled: does its name resolve?")]


@pytest.mark.parametrize("address", ["nonsense", "tcp://", "http://127.0.0.1:1"])
def test_what_cannot_be_dialled_at_all_is_told_at_once(pair: Pair, address: str) -> None:
    problem = pair.dialler.dial(DIALLED, address)
    assert problem is not None and address in problem.why
    pair.dialler.hang(DIALLED)


def test_a_link_that_is_not_there_cannot_be_sent_on(pair: Pair) -> None:
    problem = pair.dialler.send(77, [b"x"])
    assert isinstance(problem, NoRoute)
    assert problem.at == "site-1"
    pair.dialler.hang(77)


def test_an_address_that_is_refused_is_refused_before_a_socket_is_made(pair: Pair) -> None:
    with pytest.raises(OptionError):
        pair.listener.bind("tcp://0.0.0.0:0", is_insecure=False)
    assert repr(pair.listener) == "<Links of server: 0 dialled, 0 accepted, bound []>"


def test_two_addresses_are_one_set_of_links(pair: Pair, trees: Trees) -> None:
    pair.join("tcp://127.0.0.1:0")
    second = pair.listener.bind(trees.address("ipc"), is_insecure=False)
    pair.dialler.dial(3, second)
    pair.dialler.send(3, [b"hello"])
    assert pair.message(pair.listener).link == 4
    assert "2 dialled" in repr(pair.dialler) and "2 accepted" in repr(pair.listener)


def test_the_descriptor_of_the_mailbox_wakes_it(pair: Pair) -> None:
    os.write(pair.writer, b"x")
    assert pair.wait(pair.listener, PATIENCE_S) == (True, [], [])
    os.read(pair.reader, 1)
    assert pair.wait(pair.listener, 0.0) == (False, [], [])
