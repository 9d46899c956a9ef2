"""What one message may choose about what it lends, and what its sender knows of it."""

from __future__ import annotations

import math

import pytest
from loans import Loan

from zdl.cell.lending import NOTHING, Lending, Lent
from zdl.errors import OptionError, TimedOut
from zdl.protocol.effects import Outcome


@pytest.mark.parametrize("lease_s", [0.0, -1.0, math.inf, math.nan, 1e12])
def test_a_lease_that_cannot_be_is_refused(lease_s: float) -> None:
    with pytest.raises(OptionError, match="lease_s"):
        Lending(lease_s=lease_s)


def test_what_lends_nothing_has_ended_and_everybody_has_it() -> None:
    assert (NOTHING.wait(0.0), NOTHING.is_complete, NOTHING.open, len(NOTHING)) == ([], True, [], 0)


def test_several_are_waited_for_together() -> None:
    first, second = Loan(b"a"), Loan(b"b")
    lent = Lent([first, second])
    second.delete()
    assert (list(lent), lent[0], list(lent[1:]), lent.open) == ([first, second], first, [second], [first])
    with pytest.raises(TimedOut, match=r"the end of 1 of 2 transactions from 61616161 did not come within 0.01 s"):
        lent.wait(0.01)
    first.settle()
    assert [each.outcome for each in lent.wait(0.0)] == [Outcome.FINISHED, Outcome.DELETED]
    assert not lent.is_complete and Lent([first]).is_complete
    assert repr(lent) == "<Lent: 2 transactions, 0 open>"


def test_deleting_ends_each() -> None:
    lent = Lent([Loan(b"a"), Loan(b"b")])
    lent.delete()
    assert [each.outcome for each in lent.wait(0.0)] == [Outcome.DELETED] * 2
