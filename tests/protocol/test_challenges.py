"""Challenges: an incumbent shows that it is alive, or makes way. What peers do with it is in ``test_peers.py``."""

from __future__ import annotations

from zdl.options import LinkOptions
from zdl.protocol.challenges import Challenges
from zdl.protocol.effects import Hang, Send
from zdl.protocol.link import LinkTable, State, accepted
from zdl.protocol.messages import Heartbeat, Hello, Reject, Role

OPTIONS = LinkOptions(challenge_s=1.0)


def hello(incarnation: bytes) -> Hello:
    return Hello("site-1", incarnation * 16, Role.CHILD, 2.0, (), 1)


def begun() -> tuple[Challenges, LinkTable]:
    """A challenge of link 2 by link 4, since 5 s."""
    table, made = LinkTable(), Challenges("server", OPTIONS)
    old = accepted(2, hello(b"1"), 0.0, is_guest=False)
    table.add(old)
    assert made.challenge(old, 4, hello(b"2"), 5.0) == [Send(2, Heartbeat("server", True))]
    assert old.state is State.CHALLENGED and len(made) == 1
    return made, table


def test_an_incumbent_has_its_time_and_can_answer_before() -> None:
    made, table = begun()
    old = table.get(2)
    assert made.deadline() == 6.0 and made.due(table, 5.9) == []
    assert made.due(table, 6.0) == [(old, False)]
    made.answered(2)
    made.answered(99)
    assert made.due(table, 5.1) == [(old, True)]


def test_who_wins_keeps_the_name_and_the_newcomer_is_told() -> None:
    made, table = begun()
    old = table.get(2)
    assert old is not None
    reject, hang = made.won(old)
    assert isinstance(reject, Send) and isinstance(reject.message, Reject) and hang == Hang(4)
    assert made.won(old) == [] and made.deadline() is None


def test_a_newcomer_that_goes_away_ends_its_own_challenge_only() -> None:
    made, table = begun()
    made.withdrawn(6, table)
    assert made.against(2) is not None
    made.withdrawn(4, table)
    old = table.get(2)
    assert made.against(2) is None and old is not None and old.state is State.UP


def test_the_end_of_a_challenge_tells_who_waited() -> None:
    made, _ = begun()
    ended = made.end(2)
    assert ended is not None and ended.newcomer == 4 and made.end(2) is None


def test_a_cell_that_closes_hangs_up_on_who_waits() -> None:
    made, _ = begun()
    assert made.close() == [Hang(4)] and len(made) == 0
