"""Meters: each byte counts once, each receiver and object has its own events, and the end is told once."""

from __future__ import annotations

from zdl.download.meters import Meters
from zdl.observe.progress import TransferProgress
from zdl.protocol.effects import Outcome
from zdl.protocol.messages import Ask, Verify

A = b"a" * 16


def ask(offset: int, origin: str = "site-1") -> Ask:
    return Ask(origin, "server", 7, A, bytes(16), offset, 1000, Verify.BLAKE3)


def test_what_is_asked_for_twice_counts_once() -> None:
    events: list[TransferProgress] = []
    meters = Meters(events.append, 1e-9)
    meters.transaction_id = "t"
    for offset in (0, 1000, 0, 1000, 2000):
        meters.served(ask(offset))
    assert [(each.state, each.bytes_done) for each in events] == [("start", 1000), ("active", 2000), ("active", 3000)]
    meters.finished("site-1")
    meters.ended({"site-1": Outcome.DELETED})
    assert [(each.state, each.tx_id, each.ref_id) for each in events[3:]] == [("completed", "t", A.hex())]


def test_each_end_has_its_word() -> None:
    events: list[TransferProgress] = []
    meters = Meters(events.append, 1e-9)
    outcomes = {"a": Outcome.FINISHED, "b": Outcome.LOST, "c": Outcome.DELETED, "d": Outcome.EXPIRED, "e": Outcome.CANCELLED}
    for name in outcomes:
        meters.consumed(name, "ref", 10, 1)
    meters.ended({**outcomes, "never came": Outcome.EXPIRED})
    assert {each.receiver_id: each.state for each in events[5:]} == {
        "a": "completed", "b": "failed", "c": "aborted", "d": "failed", "e": "aborted"}
