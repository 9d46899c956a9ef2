"""Pending: what waits for the parent leaves in its order, or not at all. The whole is in ``test_switch.py``."""

from __future__ import annotations

from zdl.protocol.messages import Cancel, Notice, Request
from zdl.protocol.pending import WAIT_S, WAITING_MAX, Pending


def request(number: int = 7, timeout_s: float | None = 5.0, target: str = "site-2") -> Request:
    return Request("site-1", target, number, "c", "t", timeout_s, {})


def notice(number: int) -> Notice:
    return Notice("site-1", "site-2", number, "c", "t", {})


def test_all_leave_in_their_order_and_requests_say_how_much_of_their_time_is_left() -> None:
    made = Pending()
    for each in (notice(1), request(2), request(3, None)):
        made.add(each, 10.0)
    assert made.released(12.0) == [notice(1), request(2, 3.0), request(3, None)]
    assert len(made) == 0 and made.deadline() is None


def test_each_waits_as_long_as_somebody_waits_for_its_answer() -> None:
    made = Pending()
    for each in (notice(1), request(2)):
        made.add(each, 10.0)
    assert made.deadline() == 15.0 and made.expired(14.9) == []
    assert made.expired(15.0) == [request(2)]
    assert made.deadline() == 10.0 + WAIT_S and made.expired(10.0 + WAIT_S) == [notice(1)]


def test_a_cancellation_takes_its_request_with_it_and_no_other() -> None:
    made = Pending()
    for each in (request(7), request(7, target="site-3"), request(8)):
        made.add(each, 10.0)
    made.add(Cancel("site-1", "site-2", 7), 10.0)
    assert [(each.target, each.id) for each in made.released(10.0)] == [("site-3", 7), ("site-2", 8)]
    made.add(Cancel("site-1", "site-2", 7), 11.0)
    assert made.released(11.0) == [Cancel("site-1", "site-2", 7)], "its request had left before"


def test_there_is_a_limit() -> None:
    made = Pending()
    for number in range(WAITING_MAX):
        assert not made.is_full
        made.add(notice(number), 0.0)
    assert made.is_full
    made.clear()
    assert not made.is_full and len(made) == 0
