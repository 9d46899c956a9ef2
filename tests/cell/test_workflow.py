"""One workflow by itself: how long it has left, what carries it, and that it is over once."""

from __future__ import annotations

import struct
import time

import pytest

from zdl.cell.workflow import HEADER, LATE, Workflow, read_mark
from zdl.errors import Cancelled, DecodeError

NUMBER = b"n" * 16


def made(left_s: float, ends: list[str] | None = None) -> Workflow:
    return Workflow(NUMBER, time.monotonic() + left_s, lambda workflow, why: None if ends is None else ends.append(why))


def test_what_is_carried_is_read_again() -> None:
    (value,) = made(50.0).carried(["site-1"]).values()
    number, left_s = read_mark(value)
    assert number == NUMBER and 49.0 < left_s <= 50.0


def test_a_workflow_whose_time_is_over_carries_nothing_though_nobody_has_ended_it_yet() -> None:
    with pytest.raises(Cancelled, match=LATE):
        made(-1.0).carried(["site-1"])


def test_less_time_counts_and_more_does_not() -> None:
    workflow = made(50.0)
    for left_s in (100.0, 20.0, 30.0):
        workflow.hurry(time.monotonic() + left_s)
    assert 19.0 < workflow.left_s() <= 20.0


def test_who_ends_it_is_who_knows_it() -> None:
    ends: list[str] = []
    with made(50.0, ends):
        assert ends == []
    assert ends == ["it is done"]


@pytest.mark.parametrize("value", [None, "text", b"", struct.pack("!16sd", NUMBER, float("nan"))])
def test_what_is_no_header_is_told(value: object) -> None:
    with pytest.raises(DecodeError, match=HEADER):
        read_mark(value)
