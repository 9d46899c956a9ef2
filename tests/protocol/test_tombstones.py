"""Tombstones: who comes late hears how it ended, a stranger does not, and asking does not prolong the memory."""

from __future__ import annotations

from zdl.errors import LeaseEnded, UnknownRef
from zdl.protocol.audiences import Offer
from zdl.protocol.messages import Ask, Confirm, Drop, Verify
from zdl.protocol.tombstones import Tombstones

A, B, T, SECRET = b"a" * 16, b"b" * 16, b"t" * 16, b"s" * 16
LABEL = f"ref:{A[:4].hex()}…"


def ask(origin: str, secret: bytes = SECRET) -> Ask:
    return Ask(origin, "server", 7, A, secret, 0, 1, Verify.BLAKE3)


def stones(others: frozenset[str] | None) -> Tombstones:
    known = Tombstones("server", 1800.0, 2)
    known.put(T, Offer(A, SECRET, 100), "finished", finished=frozenset({"site-1"}), others=others, now=0.0)
    known.ended(T, 0.0)
    return known


def test_who_had_it_all_is_told_again_that_this_is_noted() -> None:
    known = stones(None)
    assert known.answer(Confirm("site-1", "server", 7, A, SECRET, ((0, 100),))) is None
    assert known.answer(Drop("site-9", "server", 7, A, SECRET, "cancelled")) is None
    late = known.answer(Confirm("site-2", "server", 7, A, SECRET, ((0, 100),)))
    assert isinstance(late, LeaseEnded) and (late.ref, late.how) == (LABEL, "finished")


def test_a_stranger_learns_no_more_than_that_there_is_no_such_offer() -> None:
    known = stones(frozenset({"site-2"}))
    assert isinstance(known.answer(ask("site-2")), LeaseEnded)
    for stranger in (ask("site-9"), ask("site-2", b"w" * 16)):
        assert isinstance(known.answer(stranger), UnknownRef)


def test_half_an_hour_is_half_an_hour_however_often_one_asks() -> None:
    known = stones(None)
    for now in (600.0, 1200.0, 1799.9):
        known.tick(now)
        assert isinstance(known.answer(ask("site-1")), LeaseEnded) and known.remembers(T) and A in known
    known.tick(1800.0)
    assert isinstance(known.answer(ask("site-1")), UnknownRef) and not known.remembers(T) and known.deadline() is None


def test_no_more_than_the_limit_are_remembered() -> None:
    known = stones(None)
    for number in (1, 2):
        known.put(T, Offer(bytes([number]) * 16, SECRET, 1), "deleted", finished=frozenset(), others=None, now=1.0)
    assert A not in known and b"\1" * 16 in known
