"""Chunks: read, hashed once, and compared on arrival."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

import pytest
from blake3 import blake3

from zdl.errors import OriginFailed, SourceChanged, ZdlError
from zdl.protocol.digests import Readable
from zdl.protocol.frames import QUICK_DIGEST_BYTES
from zdl.protocol.messages import Ask, Chunk, Verify
from zdl.transport.chunks import REACHED_MAX, Chunks, copied, landed

OFFER, SECRET = bytes(16), bytes(range(16))
DATA = os.urandom(1000)


class Lent(Readable):
    """A lent object that counts how often it is read, or fails."""

    may_block = False

    def __init__(self, error: Exception | None = None, *, may_block: bool = False) -> None:
        self.reads = 0
        self.notes: dict[tuple[int, int, Verify], bytes] = {}
        self.error = error
        self.may_block = may_block

    def noted(self, offset: int, length: int, verify: Verify) -> bytes | None:
        """What was given for this chunk."""
        return self.notes.get((offset, length, verify))

    def as_is(self, offset: int, length: int) -> Sequence[bytes | memoryview]:
        """In one piece."""
        return [DATA[offset:offset + length]]

    def read(self, offset: int, length: int) -> Sequence[bytes | memoryview]:
        """In two pieces."""
        self.reads += 1
        if self.error is not None:
            raise self.error
        half = offset + length // 2
        return [DATA[offset:half], memoryview(DATA)[half:offset + length]]


def ask(offset: int = 100, length: int = 50, verify: Verify = Verify.BLAKE3, origin: str = "site-1") -> Ask:
    """What a receiver sends."""
    return Ask(origin, "server", 7, OFFER, SECRET, offset, length, verify)


def lending(lent: Lent) -> Chunks:
    """The chunks of a server that lends one object."""
    chunks = Chunks("server")
    chunks.add(OFFER, lent)
    return chunks


def test_a_chunk_has_the_bytes_that_were_asked_for_and_their_digest() -> None:
    made = lending(Lent()).make(ask())
    assert isinstance(made, Chunk)
    assert b"".join(made.body) == DATA[100:150] and made.digest == blake3(DATA[100:150]).digest()
    assert (made.origin, made.target, made.id, made.offset, made.length) == ("server", "site-1", 7, 100, 50)


def test_a_chunk_that_is_not_verified_has_no_digest() -> None:
    made = lending(Lent()).make(ask(verify=Verify.NONE))
    assert isinstance(made, Chunk) and made.digest == b""
    place = bytearray(50)
    assert landed(replace(made, body=(b"x" * 50,)), memoryview(place), None, SECRET) and bytes(place) == b"x" * 50


def test_a_second_receiver_gets_the_digest_that_is_remembered() -> None:
    chunks = lending(Lent())
    first, second = chunks.make(ask()), chunks.make(ask(origin="site-2"))
    assert isinstance(first, Chunk) and isinstance(second, Chunk)
    assert first.digest is second.digest and second.target == "site-2"


def test_a_chunk_whose_digest_was_noted_is_not_looked_at_until_it_is_asked_for_again() -> None:
    """Its receiver looks; what he finds to be something else he asks for again."""
    lent = Lent()
    lent.notes[100, 50, Verify.BLAKE3] = b"noted"
    chunks = lending(lent)
    first, other, again = (chunks.make(each) for each in (ask(), ask(origin="site-2"), ask()))
    assert all(isinstance(each, Chunk) and each.digest == b"noted" for each in (first, other, again))
    assert lent.reads == 1
    chunks.make(ask(offset=150))
    assert lent.reads == 2, "of what was not noted the digest has to be made"
    chunks.make(ask(verify=Verify.NONE, origin="site-3"))
    assert lent.reads == 3, "who does not verify gets what was looked at"


def test_a_second_receiver_gets_what_the_first_ones_digest_is_of_without_a_look() -> None:
    lent = Lent()
    chunks = lending(lent)
    chunks.make(ask())
    chunks.make(ask(origin="site-2"))
    assert lent.reads == 1


def test_of_many_pulls_the_oldest_is_forgotten_and_no_more_are_known_than_the_limit() -> None:
    lent = Lent()
    chunks = lending(lent)
    for number in range(REACHED_MAX + 2):
        chunks.make(ask(origin=f"site-{number}"))
    assert lent.reads == 1
    chunks.make(ask(origin="site-0"))
    assert lent.reads == 1, "this pull is not known any more"
    chunks.make(ask(origin="site-0"))
    assert lent.reads == 2


@pytest.mark.parametrize(("error", "kind"), [
    (OSError("gone"), OriginFailed), (ValueError("odd"), OriginFailed),
    (SourceChanged(ref="r", origin="server", why="it grew"), SourceChanged)])
def test_bytes_that_cannot_be_produced_are_an_error_with_its_cause(error: Exception, kind: type[ZdlError]) -> None:
    made = lending(Lent(error)).make(ask())
    assert isinstance(made, kind) and str(error) in str(made)


def test_what_was_released_meanwhile_is_no_longer_lent() -> None:
    chunks = lending(Lent())
    chunks.release(OFFER)
    chunks.release(OFFER)
    assert isinstance(chunks.make(ask()), OriginFailed)


def test_whether_a_source_may_block_is_asked_before_it_is_read() -> None:
    assert lending(Lent(may_block=True)).may_block(ask()) and not lending(Lent()).may_block(ask())


def test_one_wrong_bit_is_seen() -> None:
    made = lending(Lent()).make(ask())
    assert isinstance(made, Chunk)
    place = bytearray(50)
    assert landed(made, memoryview(place), None, SECRET) and bytes(place) == DATA[100:150]
    wrong = bytearray(DATA[100:150])
    wrong[49] ^= 1
    assert not landed(replace(made, body=(bytes(wrong),)), memoryview(place), None, SECRET)
    assert not landed(replace(made, body=(bytes(wrong[:49]),)), memoryview(place), None, SECRET)


@pytest.mark.parametrize("parts", [[], [b"abc"], [b"abcd", b"e"]])
def test_frames_of_another_length_are_not_copied_whole(parts: list[bytes]) -> None:
    assert not copied(parts, memoryview(bytearray(4)))


def test_the_quick_digest_is_keyed_with_the_secret_of_the_ref() -> None:
    made = lending(Lent()).make(ask(verify=Verify.XXH3))
    assert isinstance(made, Chunk) and len(made.digest) == QUICK_DIGEST_BYTES
    assert landed(made, memoryview(bytearray(50)), None, SECRET)
    assert not landed(made, memoryview(bytearray(50)), None, bytes(reversed(SECRET)))
