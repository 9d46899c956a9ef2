"""Redial: for ever, with a growing pause, half of it spread."""

from __future__ import annotations

from zdl.errors import PeerLost
from zdl.options import LinkOptions
from zdl.protocol.redial import Redial

OPTIONS = LinkOptions(redial_min_s=0.1, redial_max_s=2.0)
ERROR = PeerLost(target="server", lost="server", at="site-1", why="the connection was closed")


def pauses(incarnation: bytes, count: int) -> list[float]:
    redial = Redial(incarnation, OPTIONS)
    found = []
    for _ in range(count):
        redial.failed(ERROR, 100.0)
        assert redial.at is not None
        found.append(redial.at - 100.0)
    return found


def test_nothing_is_planned_before_something_has_failed() -> None:
    redial = Redial(b"\x00" * 16, OPTIONS)
    assert (redial.address, redial.at, redial.error) == ("", None, None)
    assert not redial.is_due(1e9)


def test_each_pause_is_twice_the_one_before_up_to_the_longest() -> None:
    assert [round(each, 9) for each in pauses(b"\xff" * 16, 7)] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


def test_half_of_a_pause_is_spread_by_the_incarnation() -> None:
    assert [round(each, 9) for each in pauses(b"\x00" * 16, 6)] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0]
    assert pauses(bytes(range(16)), 30) == pauses(bytes(range(16)), 30), "the same start spreads alike each time"


def test_after_thousands_of_tries_the_pause_is_still_a_number() -> None:
    assert pauses(b"\xff" * 16, 3000)[-1] == 2.0


def test_it_is_due_once_and_not_before_its_time() -> None:
    redial = Redial(b"\xff" * 16, OPTIONS)
    redial.failed(ERROR, 100.0)
    assert not redial.is_due(100.05)
    assert redial.is_due(100.1)
    assert not redial.is_due(100.2)
    assert redial.error is ERROR


def test_success_begins_the_pauses_anew_and_forgets_the_error() -> None:
    redial = Redial(b"\xff" * 16, OPTIONS)
    for _ in range(4):
        redial.failed(ERROR, 0.0)
    redial.succeeded()
    assert redial.error is None
    redial.failed(ERROR, 100.0)
    assert redial.at is not None and round(redial.at, 9) == 100.1
