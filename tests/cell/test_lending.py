"""What one message may choose about what it lends, and what its sender knows of it."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from zdl.cell.lending import NOTHING, Lending, Lent
from zdl.download.transaction import Transaction
from zdl.errors import OptionError, TimedOut
from zdl.protocol.effects import Outcome, TransactionSettled


class Ends:
    """Notes which transactions were ended."""

    def __init__(self) -> None:
        self.ended: list[tuple[bytes, Outcome]] = []

    def made(self, letter: bytes) -> Transaction:
        return Transaction(letter * 16, lambda number, outcome: self.ended.append((number[:1], outcome)))


def settle(transaction: Transaction, outcome: Outcome = Outcome.FINISHED) -> None:
    transaction.settled(TransactionSettled(transaction.id, outcome, (("site-1", outcome),)))


@pytest.mark.parametrize("lease_s", [0.0, -1.0, math.inf, math.nan, 1e12])
def test_a_lease_that_cannot_be_is_refused(lease_s: float) -> None:
    with pytest.raises(OptionError, match="lease_s"):
        Lending(lease_s=lease_s)


def test_what_lends_nothing_has_ended_and_everybody_has_it() -> None:
    assert (NOTHING.wait(0.0), NOTHING.is_complete, NOTHING.open, len(NOTHING)) == ([], True, [], 0)


def test_several_are_waited_for_together() -> None:
    first, second = Ends().made(b"a"), Ends().made(b"b")
    lent = Lent([first, second])
    settle(second, Outcome.DELETED)
    assert (list(lent), lent[0], list(lent[1:]), lent.open) == ([first, second], first, [second], [first])
    with pytest.raises(TimedOut, match=r"the end of 1 of 2 transactions from 61616161 did not come within 0.01 s"):
        lent.wait(0.01)
    settle(first)
    assert [each.outcome for each in lent.wait(0.0)] == [Outcome.FINISHED, Outcome.DELETED]
    assert not lent.is_complete and Lent([first]).is_complete
    assert repr(lent) == "<Lent: 2 transactions, 0 open>"


def test_deleting_ends_each() -> None:
    ends = Ends()
    Lent([ends.made(b"a"), ends.made(b"b")]).delete()
    assert ends.ended == [(b"a", Outcome.DELETED), (b"b", Outcome.DELETED)]


@pytest.mark.parametrize("is_before", [True, False])
def test_who_wants_to_know_of_the_end_is_told_once(is_before: bool) -> None:
    transaction = Ends().made(b"a")
    told: list[object] = []
    listen: Callable[[], None] = lambda: transaction.when_done(lambda: told.append(transaction.outcome))  # noqa: E731
    if is_before:
        listen()
    settle(transaction)
    if not is_before:
        listen()
    assert told == [transaction.outcome]
