"""Redial: for ever, with a growing pause, half of it spread."""

from __future__ import annotations

from zdl.errors import PeerLost, Refused
from zdl.options import LinkOptions
from zdl.protocol.redial import CLOSED_DOUBLINGS, Redial

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


def test_before_any_cause_is_known_it_names_the_address_and_since_when_it_is_dialled() -> None:
    redial = Redial(b"\xff" * 16, OPTIONS)
    assert redial.why(1.0) == "", "nothing is dialled"
    redial.dialled("tcp://gone:8800", 100.0)
    assert redial.why(100.5) == (
        "tcp://gone:8800 has been dialled for 0.5 s and has not answered yet: check the address, and that the cell there runs")


def test_the_last_cause_comes_first_and_the_time_counts_from_the_first_try() -> None:
    redial = Redial(b"\xff" * 16, OPTIONS)
    redial.dialled("tcp://gone:8800", 100.0)
    redial.failed(ERROR, 103.0)
    redial.dialled("tcp://gone:8800", 104.0)
    assert redial.why(105.0) == (
        "server is lost, says site-1: the connection was closed; tcp://gone:8800 has been dialled for 5.0 s: "
        "check the address, and that the cell there runs")
    redial.succeeded()
    assert redial.why(106.0) == ""
    redial.failed(ERROR, 200.0)
    assert "for 1.0 s" in redial.why(201.0), "it counts from the loss"


def test_who_is_refused_hears_why_and_not_to_check_the_address() -> None:
    redial = Redial(b"\xff" * 16, OPTIONS)
    redial.dialled("tcp://server:8800", 100.0)
    redial.failed(Refused(by="server", reason="name-taken", text="another site-1"), 100.1)
    assert redial.why(101.0) == "server refused (name-taken): another site-1"


def test_what_was_wrong_with_another_address_says_nothing_about_a_new_one() -> None:
    redial = Redial(b"\xff" * 16, OPTIONS)
    redial.dialled("tcp://old:8800", 100.0)
    redial.failed(ERROR, 103.0)
    redial.dialled("tcp://new:8800", 104.0)
    assert redial.error is None
    assert redial.why(105.0).startswith("tcp://new:8800 has been dialled for 1.0 s and has not answered yet")


def test_of_an_address_that_never_answered_the_cause_alone_is_told() -> None:
    redial = Redial(b"\xff" * 16, OPTIONS)
    address = "tcp://server:8800"
    redial.dialled(address, 100.0)
    redial.failed(PeerLost(target=address, lost=address, at="site-1", why=f"nobody answers at {address}"), 100.1)
    assert redial.why(101.0) == (
        "nobody answers at tcp://server:8800; tcp://server:8800 has been dialled for 1.0 s: "
        "check the address, and that the cell there runs")


def test_a_parent_that_has_closed_is_given_time_to_come_back_and_one_that_was_lost_is_not() -> None:
    redial = Redial(b"\xff" * 16, OPTIONS)
    redial.failed(PeerLost(target="server", lost="server", at="site-1", why="it said goodbye: closed"), 100.0)
    assert redial.at == 100.0 + 0.1 * 2 ** CLOSED_DOUBLINGS
    redial.failed(ERROR, 101.0)
    assert redial.at == 101.0 + 0.1 * 2 ** (CLOSED_DOUBLINGS + 1)
    redial.succeeded()
    redial.failed(ERROR, 102.0)
    assert redial.at == 102.1


def test_while_it_rests_nothing_is_planned_until_the_parent_is_dialled_or_there() -> None:
    redial = Redial(b"\xff" * 16, OPTIONS)
    redial.failed(ERROR, 100.0)
    redial.rest()
    assert redial.is_resting and redial.at is None
    redial.failed(ERROR, 101.0)
    assert redial.at is None and redial.error is ERROR and not redial.is_due(1e9)
    redial.dialled("tcp://server:1", 102.0)
    redial.failed(ERROR, 103.0)
    assert redial.at is not None
    redial.rest()
    redial.wake()
    redial.failed(ERROR, 104.0)
    assert redial.at is not None and not redial.is_resting
