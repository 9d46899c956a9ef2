"""Passing by: what the first frame of a message for somebody else says."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from zdl.cell.passing_by import Passed, PassingBy, facts_of
from zdl.errors import NoRoute
from zdl.protocol.decode import decode
from zdl.protocol.effects import PassedOn
from zdl.protocol.encode import encode
from zdl.protocol.messages import Cancel, Notice, Request, Routed, Transit

from trees import Trees


def transit(message: Routed) -> Transit:
    header, *body = encode(message)
    assert isinstance(header, bytes)
    seen = decode(header, tuple(body), me="server")
    assert isinstance(seen, Transit)
    return seen


def test_the_facts_are_those_of_the_header() -> None:
    request = transit(Request("site-1", "site-2", 7, "task", "run", 5.0, {"secret": 1}, (b"body", memoryview(b"more")), 2))
    assert facts_of(request, None) == Passed("request", "site-1", "site-2", 7, 2, "task", "run", 8, None)
    error = NoRoute(target="site-2", at="server")
    assert facts_of(transit(Notice("site-1", "site-2", 8, "log", "line", {})), error) == Passed(
        "notice", "site-1", "site-2", 8, 0, "log", "line", 0, error)
    assert facts_of(transit(Cancel("site-1", "site-2", 9)), None).kind == "cancel"


@pytest.mark.parametrize("size", [0, 100, 2000])
def test_the_length_of_a_body_is_told_wherever_it_stands(size: int) -> None:
    notice = Notice("site-1", "site-2", 8, "log", "line", {}, (bytes(size),))
    assert facts_of(transit(notice), None).body_bytes == size


def test_a_kind_of_a_later_version_is_told_by_its_number() -> None:
    later = Transit(31, 0, "site-1", "site-2", 7, b"\x96\x01\x1f\x00\xa6site-1\xa6site-2\x07")
    assert facts_of(later, None) == Passed("kind 31", "site-1", "site-2", 7, 0, "", "", 0, None)


def test_an_observer_that_raises_keeps_no_other_from_being_told(trees: Trees, caplog: pytest.LogCaptureFixture) -> None:
    (server,) = trees.grow("server")
    seen: list[Passed] = []
    jobs: list[Callable[[], None]] = []
    passing_by = PassingBy()
    assert passing_by.dropped_count == 0
    passing_by.add(lambda passed: 1 / 0)
    passing_by.add(seen.append)
    loop = server._open_lanes().control_loop
    passing_by.begin(jobs.append, loop, 10)
    assert loop.switch.tells_transit
    passing_by.seen(PassedOn(transit(Cancel("site-1", "site-2", 9)), None))
    with caplog.at_level(logging.WARNING, "zdl.cell"):
        jobs[0]()
    assert [each.id for each in seen] == [9] and "raised ZeroDivisionError" in caplog.text
