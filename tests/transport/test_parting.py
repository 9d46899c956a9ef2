"""Who said goodbye is waited for a little, who was lost is not."""

from __future__ import annotations

from zdl.protocol.redial import SAID_GOODBYE
from zdl.transport.parting import PARTING_S, Parting


def test_the_link_of_one_that_said_goodbye_is_due_a_little_later_and_once() -> None:
    parting, why = Parting(), f"{SAID_GOODBYE}: closed"
    assert parting.deadline() is None and not parting.due(0.0)
    assert parting.is_awaited(2, why, 1.0) and parting.is_awaited(2, why, 1.1)
    assert parting.deadline() == 1.0 + PARTING_S and "1 links" in repr(parting)
    assert not parting.due(1.0)
    assert parting.due(1.0 + PARTING_S) == [(2, why)] and not parting.due(9.0)


def test_the_link_of_one_that_was_lost_ends_at_once() -> None:
    parting = Parting()
    assert not parting.is_awaited(2, "the connection was cut", 1.0) and parting.deadline() is None
