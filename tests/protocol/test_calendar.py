"""Calendar: who wants to be looked at next, however often that moves."""

from __future__ import annotations

from zdl.protocol.calendar import STALE_MIN, Calendar


def test_keys_are_due_in_the_order_of_their_moments_and_each_once() -> None:
    calendar = Calendar()
    assert (calendar.deadline(), calendar.due(9.0)) == (None, [])
    for key, when in ((b"a", 3.0), (b"b", 1.0), (b"c", 2.0)):
        calendar.wake(key, when)
    assert calendar.deadline() == 1.0
    assert calendar.due(2.0) == [b"b", b"c"]
    assert (calendar.deadline(), calendar.due(9.0), calendar.deadline()) == (3.0, [b"a"], None)


def test_an_earlier_moment_counts_and_a_later_one_does_not() -> None:
    calendar = Calendar()
    calendar.wake(b"a", 5.0)
    calendar.wake(b"a", 2.0)
    calendar.wake(b"a", 7.0)
    assert (calendar.at(b"a"), calendar.due(2.0), calendar.due(9.0)) == (2.0, [b"a"], [])


def test_what_is_forgotten_is_not_due() -> None:
    calendar = Calendar()
    calendar.wake(b"a", 1.0)
    calendar.forget(b"a")
    assert (calendar.deadline(), calendar.due(9.0), len(calendar)) == (None, [], 0)


def test_what_came_and_went_leaves_no_entries() -> None:
    calendar = Calendar()
    for number in range(100_000):
        calendar.wake(number.to_bytes(4, "big"), 600.0)
        calendar.forget(number.to_bytes(4, "big"))
    assert len(calendar._heap) <= STALE_MIN + 1
