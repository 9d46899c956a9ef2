"""Interest: who has sent over a link, by which way, and the last request that may have gone with it."""

from __future__ import annotations

from zdl.protocol.interest import TOLD_MAX, TOLD_S, Interest
from zdl.protocol.messages import NO_REQUEST, Kind, Lost, Transit


def passed(origin: str, number: int, kind: Kind = Kind.REQUEST) -> Transit:
    return Transit(int(kind), 0, origin, "x", number, b"")


def test_each_origin_is_told_once_with_its_last_request_and_the_way_that_it_came() -> None:
    made = Interest(10)
    for number, came_by in ((70, 2), (71, 4)):
        made.remember(6, passed("site-1", number), came_by)
    made.remember(6, passed("site-2", 5, Kind.REPLY), 8)
    assert made.links() == {6}
    assert made.lost(6) == [("site-1", 4, 71), ("site-2", 8, NO_REQUEST)]
    assert made.lost(6) == [] and made.links() == set()


def test_other_kinds_change_the_way_and_not_the_request() -> None:
    made = Interest(10)
    made.remember(6, passed("site-1", 70), 2)
    for kind, number in ((Kind.CANCEL, 99), (Kind.REPLY, 1 << 63), (Kind.WAITING, 65)):
        made.remember(6, passed("site-1", number, kind), 4)
    assert made.lost(6) == [("site-1", 4, 70)]


def test_who_waits_although_its_requests_went_another_way_is_told_too() -> None:
    made = Interest(10)
    made.remember(6, passed("site-1", 80, Kind.WAITING), 2)
    assert made.lost(6) == [("site-1", 2, 80)]


def test_those_that_sent_last_are_remembered() -> None:
    made = Interest(2)
    for name in ("a", "b", "a", "c"):
        made.remember(6, passed(name, 7), 2)
    assert [origin for origin, _, _ in made.lost(6)] == ["a", "c"]
    made.remember(6, passed("a", 7), 2)
    made.clear()
    assert made.lost(6) == []


def test_the_same_loss_told_twice_is_old_for_a_while() -> None:
    made, lost = Interest(10), Lost("server", "site-1", 70, "site-2", False, "closed")
    assert not made.is_old(lost, 1.0)
    assert made.is_old(lost, 1.5)
    assert not made.is_old(Lost("server", "site-1", 71, "site-2", False, "closed"), 1.5), "a later request went with it"
    assert not made.is_old(lost, 1.5 + TOLD_S)


def test_only_so_many_losses_are_remembered() -> None:
    made = Interest(10)
    for number in range(TOLD_MAX + 1):
        assert not made.is_old(Lost("server", "site-1", number, "site-2", False, ""), 1.0)
    assert not made.is_old(Lost("server", "site-1", 0, "site-2", False, ""), 1.0)
