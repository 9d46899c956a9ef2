"""Readings: no question is answered twice at once, and no receiver has more than its share read."""

from __future__ import annotations

from zdl.protocol.messages import Ask, Verify
from zdl.protocol.readings import Readings, Turn

A, B = b"a" * 16, b"b" * 16


def ask(offset: int, origin: str = "site-1", offer_id: bytes = A, length: int = 100) -> Ask:
    return Ask(origin, "server", 7, offer_id, bytes(16), offset, length, Verify.BLAKE3)


def test_a_question_that_is_being_answered_is_not_answered_twice() -> None:
    readings = Readings(1000)
    assert (readings.take(ask(0)), readings.take(ask(0))) == (Turn.NOW, Turn.TWICE)
    assert readings.is_read(A) and not readings.is_read(B)
    assert readings.done(ask(0)) == []
    assert not readings.is_read(A)
    assert readings.take(ask(0)) is Turn.NOW, "its answer may have been lost"
    readings.check()


def test_what_is_above_the_share_waits_for_its_turn_and_as_much_again_is_too_much() -> None:
    readings = Readings(200)
    turns = [readings.take(ask(offset)) for offset in (0, 100, 200, 300, 400)]
    assert turns == [Turn.NOW, Turn.NOW, Turn.LATER, Turn.LATER, Turn.FULL]
    assert readings.take(ask(200)) is Turn.TWICE
    assert readings.take(ask(0, "site-2")) is Turn.NOW, "the share of another one"
    readings.check()
    assert readings.done(ask(0)) == [ask(200)]
    assert readings.done(ask(0)) == []
    assert readings.done(ask(100)) == [ask(300)]
    readings.check()


def test_one_chunk_is_always_read_however_large() -> None:
    readings = Readings(10)
    assert readings.take(ask(0)) is Turn.NOW
    assert readings.take(ask(100, length=10)) is Turn.LATER
    assert readings.done(ask(0)) == [ask(100, length=10)]


def test_what_waits_of_an_offer_that_ended_is_not_read() -> None:
    readings = Readings(100)
    readings.take(ask(0))
    for each in (ask(100, length=50), ask(0, offer_id=B, length=50)):
        readings.take(each)
    readings.drop(A)
    assert readings.done(ask(0)) == [ask(0, offer_id=B, length=50)]
    readings.check()
