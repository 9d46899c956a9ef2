"""Complaints: the first of each link is told, the rest is counted, and the count is told from time to time."""

from __future__ import annotations

import pytest

from zdl.transport.complaints import EVERY_S, FIRSTS_MAX, LINKS_MAX, Complaints


@pytest.mark.fault("H1")
def test_h1_of_a_flood_over_one_link_the_first_is_told_and_the_rest_once_in_so_long() -> None:
    complaints, lines, counted = Complaints(), 0, 0
    seconds = 100
    for number in range(1000 * seconds):
        now = number / 1000
        lines += complaints.is_worth(2, now)
        count = complaints.left_out(now)
        lines += count > 0
        counted += count
    assert lines <= 1 + seconds / EVERY_S
    assert 1 + counted + complaints.left_out_count == 1000 * seconds, "none is forgotten"


def test_each_link_is_told_of_once_for_as_long_as_it_is_there() -> None:
    complaints = Complaints()
    assert [complaints.is_worth(link, 1.0) for link in (2, 4, 2, 4)] == [True, True, False, False]
    complaints.ended(2)
    assert complaints.is_worth(2, 1.0), "another link has its number"


def test_links_that_come_and_go_do_not_fill_the_log_either() -> None:
    complaints = Complaints()
    assert sum(complaints.is_worth(link, 1.0) for link in range(1000)) == FIRSTS_MAX
    assert complaints.left_out_count == 1000 - FIRSTS_MAX
    assert complaints.is_worth(1000, 1.0 + EVERY_S)


def test_what_was_left_out_is_told_when_its_time_has_come_and_once() -> None:
    complaints = Complaints()
    complaints.is_worth(2, 1.0)
    assert complaints.left_out(100.0) == 0, "nothing was left out"
    complaints.is_worth(2, 100.0)
    complaints.is_worth(2, 101.0)
    assert complaints.left_out(100.0 + EVERY_S - 0.1) == 0
    assert complaints.left_out(100.0 + EVERY_S) == 2
    assert complaints.left_out(1000.0) == 0


def test_it_does_not_grow_without_bound() -> None:
    complaints = Complaints()
    for link in range(2 * LINKS_MAX):
        assert complaints.is_worth(link, link * EVERY_S)
    assert len(complaints._told) <= LINKS_MAX
