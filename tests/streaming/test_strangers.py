"""Senders who do not keep to the rules, by hand on the wire: doubled, early, stale, too much, and what is no stream at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from streaming.test_receiver import KEY, Noting

from zdl.assembly import Cell
from zdl.errors import Cancelled, DecodeError, Refused, RemoteProtocolError, ZdlError, from_wire, to_wire
from zdl.options import Options, StreamOptions
from zdl.protocol.encode import encode
from zdl.protocol.items import gather
from zdl.protocol.messages import Body
from zdl.protocol.pushes import FIRST_CREDIT_BYTES
from zdl.protocol.pushing import End, Ended, Halt, Items, Open, Taken
from zdl.streaming.packer import Packer

from rawpeer import RawPeer
from trees import Trees
from waiting import eventually

ME, SERVER, NUMBER = "site-1", "server", 7


class Stranger:
    """A sender by hand, linked to the data lane of a server that consumes streams named metrics/round."""

    def __init__(self, peer: RawPeer, server: Cell) -> None:
        self.peer = peer
        self.server = server
        self.noting = Noting(lambda obj, context: (True, f"re {obj}"))
        self.noting.register(server)
        self._packer = Packer(server.options, None)

    def open(self, form: str = "objects", topic: str = "round", body: Body = ()) -> None:
        self.peer.send(Open(ME, SERVER, NUMBER, "metrics", topic, form, 0, {}, body))

    def items(self, first: int, *objects: object, heard: int = 0) -> None:
        self.peer.send(Items(ME, SERVER, NUMBER, first, heard, gather([self._packer.pack(each, ())[0] for each in objects])))

    def end(self, count: int) -> None:
        self.peer.send(End(ME, SERVER, NUMBER, count))

    def taken(self, consumed: int) -> Taken:
        """Waits until so many are consumed, as the server says."""
        while True:
            message = self.peer.receive()
            assert isinstance(message, Taken), message
            if message.consumed >= consumed:
                return message

    def ended(self) -> ZdlError | None:
        """The server's last word."""
        while not isinstance(message := self.peer.receive(), Ended):
            assert isinstance(message, Taken), message
        return from_wire(message.code, dict(message.facts), at=SERVER) if message.code else None

    def is_clean(self) -> bool:
        """Nothing of it is left."""
        return " 0 in" in repr(self.server.pushing) and self.noting.happened[-1:] == ["return"]


@contextmanager
def joined(trees: Trees, options: Options | None = None) -> Iterator[Stranger]:
    server = trees.add(Cell(SERVER, listen="tcp://127.0.0.1:0", options=options))
    with RawPeer(server.data_addresses[0], ME) as peer:
        peer.join()
        yield Stranger(peer, server)


@pytest.mark.row("X14")
def test_a_doubled_first_message_gaps_and_stale_numbers_change_nothing(trees: Trees) -> None:
    with joined(trees) as stranger:
        stranger.open()
        stranger.open()
        stranger.items(0, "a", "b")
        stranger.items(0, "a", "b")
        stranger.open()
        stranger.items(5, "f")
        stranger.items(1, "b", "c")
        stranger.taken(3)
        stranger.items(0, "a")
        stranger.end(9)
        stranger.items(3, "d")
        stranger.taken(4)
        stranger.end(4)
        assert stranger.ended() is None
        eventually(stranger.is_clean)
        assert stranger.noting.happened == ["get", "a", "b", "c", "d", "finalize", "done", "return"]
        stranger.open()
        stranger.items(4, "e")
        stranger.end(4)
        assert [stranger.ended() for _ in range(3)] == [None] * 3, "what has ended is told its end again, and begins nothing"
        assert len(stranger.noting.contexts) == 1


def test_what_misses_something_is_asked_for_it_and_what_never_comes_is_given_up(trees: Trees) -> None:
    with joined(trees, Options(streams=StreamOptions(silent_timeout_s=0.5))) as stranger:
        stranger.open()
        stranger.items(3, "d")
        while not stranger.taken(0).again:
            pass
        error = stranger.ended()
        assert type(error).__name__ == "TimedOut" and "any word about stream metrics/round" in str(error)
        eventually(stranger.is_clean)
        assert stranger.noting.happened == ["get", "finalize", "done", "return"]


def test_items_and_ends_of_no_stream_are_refused_by_name(trees: Trees) -> None:
    with joined(trees) as stranger:
        stranger.items(0, "a")
        stranger.end(1)
        for _ in range(2):
            error = stranger.ended()
            assert isinstance(error, Refused) and error.reason == "not-open"
        assert not stranger.noting.happened


def test_an_end_before_the_beginning_keeps_the_stream_from_beginning(trees: Trees) -> None:
    with joined(trees) as stranger:
        stranger.peer.send(Halt(ME, SERVER, NUMBER, *to_wire(Cancelled(what="it", why="no longer wanted"))))
        stranger.open()
        stranger.items(0, "a")
        stranger.peer.send(Open(ME, SERVER, NUMBER + 1, "metrics", "nobody", "objects", 0, {}))
        error = stranger.ended()
        assert isinstance(error, Refused) and error.reason == "no-handler", "the first answer is about the other stream"
        assert not stranger.noting.happened and " 0 in" in repr(stranger.server.pushing)


@pytest.mark.row("X6")
def test_one_that_breaks_off_is_finalized_with_the_reason(trees: Trees) -> None:
    with joined(trees) as stranger:
        stranger.open()
        stranger.items(0, "a")
        stranger.taken(1)
        stranger.peer.send(Halt(ME, SERVER, NUMBER, *to_wire(Cancelled(what="it", why="no longer wanted"))))
        eventually(stranger.is_clean)
        assert isinstance(stranger.noting.contexts[0][KEY.ERROR], Cancelled)


@pytest.mark.row("T4")
def test_who_sends_more_than_it_has_credit_for_is_told_so_and_has_ended(trees: Trees) -> None:
    with joined(trees, Options(streams=StreamOptions(window_bytes=1000))) as stranger:
        stranger.noting._consume = lambda obj, context: (context[KEY.END_STREAM] is not None, None)
        half = b"x" * (FIRST_CREDIT_BYTES // 2)
        stranger.open()
        stranger.peer.send(Items(ME, SERVER, NUMBER, 0, 0, gather([(half,)] * 9)))
        assert isinstance(stranger.ended(), RemoteProtocolError)
        eventually(stranger.is_clean)


@pytest.mark.parametrize(("body", "error_class"), [((b"\xc1",), DecodeError), ((b"\x91\x05",), DecodeError),
                                                   ((b"\x91\xc4\x01\xff",), ZdlError)])
def test_what_is_no_item_ends_the_stream_with_an_error_that_says_so(
        trees: Trees, body: tuple[bytes, ...], error_class: type[ZdlError]) -> None:
    with joined(trees) as stranger:
        stranger.open()
        stranger.peer.send(Items(ME, SERVER, NUMBER, 0, 0, body))
        assert isinstance(stranger.ended(), error_class)
        eventually(stranger.is_clean)
        assert stranger.noting.happened == ["get", "finalize", "done", "return"]


def test_a_stream_of_less_than_no_bytes_is_no_message_and_the_next_one_is_taken(trees: Trees) -> None:
    with joined(trees) as stranger:
        header, *body = encode(Open(ME, SERVER, NUMBER, "metrics", "round", "blob", 77, {}))
        assert header.count(b"\x4d") == 1
        stranger.peer.send_frames(header.replace(b"\x4d", b"\xff"), *body)
        stranger.open()
        stranger.items(0, "a")
        stranger.end(1)
        assert stranger.ended() is None
        eventually(stranger.is_clean)


def test_a_context_that_is_none_ends_the_stream_before_a_consumer_is_asked_for(trees: Trees) -> None:
    with joined(trees) as stranger:
        stranger.open(body=(b"garbage",))
        assert type(stranger.ended()).__name__ == "CannotUnpack"
        assert not stranger.noting.happened and " 0 in" in repr(stranger.server.pushing)
