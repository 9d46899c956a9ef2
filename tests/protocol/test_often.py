"""The short way of decoding says what the long way says, or leaves it to the long way."""

from __future__ import annotations

from dataclasses import replace

import msgpack
import pytest

from zdl.errors import DecodeError
from zdl.protocol.decode import decode
from zdl.protocol.encode import encode
from zdl.protocol.messages import Ask, Chunk, Confirm, Message, Priority, Reply, Request, Routed, Transit, Verify
from zdl.protocol.often import often

ME, OTHER = "server", "site-1"
OFFER, SECRET, DIGEST = b"o" * 16, b"s" * 16, b"d" * 32
SHORT: tuple[Routed, ...] = (
    Request(OTHER, ME, 1, "task", "train", 3.5, {}, (b"body",)),
    Request(OTHER, ME, 2, "task", "train", None, {}, (b"x" * 600, b"y"), hops=3),
    Reply(OTHER, ME, 3, "", {}, {}, (b"answer",)),
    Chunk(OTHER, ME, 4, 1 << 40, 1 << 20, Verify.BLAKE3, DIGEST, (b"z" * 100,)),
    Chunk(OTHER, ME, 5, 0, 0, Verify.NONE, b"", ()),
    Ask(OTHER, ME, 6, OFFER, SECRET, 7, 8, Verify.NONE, hops=2),
)
ASK_AT = {"offer_id": 6, "secret": 7, "offset": 8, "length": 9, "verify": 10}
CHUNK_AT = {"offset": 6, "length": 7, "verify": 8, "digest": 9}


def frames(message: Message) -> tuple[bytes, tuple[bytes, ...]]:
    """The header and the frames behind it."""
    header, *body = (bytes(part) for part in encode(message))
    return header, tuple(body)


def short(header: bytes, body: tuple[bytes, ...], me: str = ME) -> Message | Transit | None:
    """What the short way says."""
    return often(msgpack.unpackb(header, use_list=False), header, body, me)


@pytest.mark.parametrize("message", SHORT, ids=lambda each: type(each).__name__)
def test_what_comes_often_goes_the_short_way_and_comes_out_as_it_went_in(message: Routed) -> None:
    header, body = frames(message)
    assert short(header, body) == decode(header, body, me=ME) == message


@pytest.mark.parametrize("message", SHORT, ids=lambda each: type(each).__name__)
def test_what_is_for_another_cell_is_passed_on_unread(message: Routed) -> None:
    header, body = frames(message)
    passing = short(header, body, me="site-2")
    assert isinstance(passing, Transit) and (passing.header, passing.body, passing.target) == (header, body, ME)


def test_other_kinds_take_the_long_way() -> None:
    header, body = frames(Confirm(OTHER, ME, 1, OFFER, SECRET, ((0, 1),)))
    assert short(header, body) is None
    assert isinstance(decode(header, body, me=ME), Confirm)


def test_positions_of_a_later_version_take_the_long_way_and_are_passed_over() -> None:
    for message in SHORT[3:]:
        header, body = frames(message)
        known = [int(Priority.NORMAL)] if isinstance(message, Ask) else []  # a position added later that is left out here
        longer = msgpack.packb([*msgpack.unpackb(header), *known, "later"])
        assert short(longer, body) is None
        assert decode(longer, body, me=ME) == message


@pytest.mark.parametrize(("message", "at", "value"), [
    *((SHORT[5], at, value) for at, value in (
        (ASK_AT["offer_id"], b"o" * 15), (ASK_AT["secret"], "s" * 16), (ASK_AT["offset"], -1), (ASK_AT["offset"], True),
        (ASK_AT["length"], 1 << 57), (ASK_AT["length"], 1.0), (ASK_AT["verify"], 9), (ASK_AT["verify"], None))),
    *((SHORT[3], at, value) for at, value in (
        (CHUNK_AT["offset"], 1 << 57), (CHUNK_AT["length"], "1"), (CHUNK_AT["verify"], -1), (CHUNK_AT["digest"], b"d" * 31),
        (CHUNK_AT["digest"], None))),
    *((message, at, value) for message in SHORT for at, value in ((2, 128), (3, 7), (3, ""), (5, -1), (0, 2))),
])
def test_what_is_not_quite_right_is_left_to_the_long_way_which_refuses_it(message: Routed, at: int, value: object) -> None:
    header, body = frames(replace(message, hops=0))
    positions = msgpack.unpackb(header)
    positions[at] = value
    wrong = msgpack.packb(positions)
    assert short(wrong, body) is None
    with pytest.raises(DecodeError):
        decode(wrong, body, me=ME)


def test_a_question_with_a_body_is_no_question_of_the_short_way() -> None:
    header, _ = frames(SHORT[5])
    assert short(header, (b"more",)) is None
