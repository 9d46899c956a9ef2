"""The workflows of one cell: made, joined by what comes, and over once, for everybody who is part of them."""

from __future__ import annotations

import math
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest
from loans import Loan

from zdl.cell.workflow import DONE, HEADER, ID_BYTES, LATE, TOLD_MAX, Workflow
from zdl.cell.workflows import Workflows
from zdl.errors import Busy, Cancelled, Closed, DecodeError, OptionError
from zdl.options import CallOptions

from waiting import PATIENCE_S, eventually

LONG_S = 1000.0
OPTIONS = CallOptions(workflows_max=2, workflow_ttl_max_s=LONG_S)


class Desk:
    """Workflows, and what they tell others."""

    def __init__(self, fail: Exception | None = None) -> None:
        self.told: list[tuple[list[str], Mapping[str, object]]] = []
        self._fail = fail
        self.workflows = Workflows("server", OPTIONS, self._tell)

    def _tell(self, targets: Sequence[str], body: Mapping[str, object]) -> None:
        if self._fail is not None:
            raise self._fail
        self.told.append((list(targets), body))


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    assert made.workflows.close(PATIENCE_S) == []


def mark(number: bytes = b"n" * ID_BYTES, ttl_s: float = 10.0) -> bytes:
    return struct.pack("!16sd", number, ttl_s)


def joined(desk: Desk, *words: object) -> Workflow:
    return desk.workflows.joined(mark(*words), time.monotonic())  # type: ignore[arg-type]


def test_it_has_a_time_and_an_id_and_is_over_once(desk: Desk) -> None:
    heard: list[object] = []
    with desk.workflows.make(10.0) as work:
        work.ended.on_trigger(lambda: heard.append(work.ended.value))
        assert 9.0 < work.left_s() <= 10.0 and len(bytes.fromhex(work.id)) == ID_BYTES
        assert "s left" in repr(work) and len(desk.workflows) == 1 and "1 open" in repr(desk.workflows)
    work.end("again")
    assert (heard, work.left_s(), len(desk.workflows)) == ([DONE], 0.0, 0)
    assert f"over: {DONE}" in repr(work)


def test_leaving_it_by_an_error_ends_it_with_that_reason(desk: Desk) -> None:
    with pytest.raises(ValueError):
        with desk.workflows.make(10.0) as work:
            raise ValueError
    assert work.ended.value == "its maker raised ValueError"


@pytest.mark.parametrize("ttl_s", [0.0, -1.0, LONG_S + 1, math.inf, math.nan])
def test_a_time_that_cannot_be_is_refused(desk: Desk, ttl_s: float) -> None:
    with pytest.raises(OptionError, match="workflow_ttl_max_s=1000"):
        desk.workflows.make(ttl_s)


def test_those_whose_time_is_over_end_by_themselves_whatever_the_order(desk: Desk) -> None:
    long, short = desk.workflows.make(LONG_S), desk.workflows.make(0.02)
    eventually(lambda: short.ended.is_triggered)
    assert (short.ended.value, long.ended.is_triggered) == (LATE, False)


def test_a_message_carries_how_long_it_has_left_and_its_targets_hear_of_the_end(desk: Desk) -> None:
    work = desk.workflows.make(10.0)
    for targets in (["site-1"], ["site-1", "site-2"]):
        (carried,) = work.carried(targets).items()
        name, value = carried
        assert name == HEADER and isinstance(value, bytes)
        number, left_s = struct.unpack("!16sd", value)
        assert number.hex() == work.id and 9.0 < left_s <= 10.0
        assert desk.workflows.lease_s(value) == left_s
    work.end("enough")
    assert desk.told == [(["site-1", "site-2"], {"id": bytes.fromhex(work.id), "why": "enough"})]
    with pytest.raises(Cancelled, match="enough"):
        work.carried(["site-3"])


def test_no_more_are_told_than_the_limit(desk: Desk) -> None:
    work = desk.workflows.make(10.0)
    work.carried([f"site-{number}" for number in range(TOLD_MAX + 1)])
    work.end()
    assert len(desk.told[0][0]) == TOLD_MAX


def test_what_comes_joins_one_workflow_by_its_id_and_the_shortest_time_counts(desk: Desk) -> None:
    first = joined(desk)
    assert joined(desk, b"n" * ID_BYTES, 500.0) is first and first.left_s() <= 10.0
    assert joined(desk, b"n" * ID_BYTES, 0.02) is first
    eventually(lambda: first.ended.is_triggered)
    late = joined(desk)
    assert late is not first and late.ended.value == LATE, "a message that comes late does not begin it anew"


def test_one_that_ended_elsewhere_ends_here_and_is_told_on(desk: Desk) -> None:
    work = joined(desk)
    work.carried(["site-1.w0"])
    desk.workflows.told(b"n" * ID_BYTES, "enough")
    assert work.ended.value == "enough"
    assert desk.told == [(["site-1.w0"], {"id": b"n" * ID_BYTES, "why": "enough"})]


def test_one_that_ended_before_its_first_message_came_is_over(desk: Desk) -> None:
    desk.workflows.told(b"m" * ID_BYTES, "enough")
    assert joined(desk, b"m" * ID_BYTES).ended.value == "enough"


@pytest.mark.parametrize(("number", "why"), [(b"short", "enough"), (b"n" * ID_BYTES, 7), (None, None)])
def test_an_end_that_is_none_ends_nothing(desk: Desk, number: object, why: object) -> None:
    work = joined(desk)
    desk.workflows.told(number, why)
    assert not work.ended.is_triggered


@pytest.mark.parametrize("value", ["text", b"", mark()[:-1], mark() + b"x", mark(b"n" * ID_BYTES, math.nan), None, 7])
def test_a_header_that_is_none_is_told(desk: Desk, value: object) -> None:
    for read in (desk.workflows.lease_s, lambda each: desk.workflows.joined(each, 0.0)):
        with pytest.raises(DecodeError, match=HEADER):
            read(value)


@pytest.mark.parametrize(("ttl_s", "left_s"), [(-5.0, 0.0), (-math.inf, 0.0), (1e300, LONG_S), (math.inf, LONG_S), (0.0, 0.0)])
def test_a_time_from_elsewhere_is_bounded_here(desk: Desk, ttl_s: float, left_s: float) -> None:
    assert desk.workflows.lease_s(mark(b"n" * ID_BYTES, ttl_s)) == left_s
    work = joined(desk, b"n" * ID_BYTES, ttl_s)
    assert work.ended.is_triggered == (left_s == 0.0) and work.left_s() <= left_s


def test_more_than_the_limit_are_busy_and_as_many_ends_are_remembered(desk: Desk) -> None:
    first, second = desk.workflows.make(10.0), desk.workflows.make(10.0)
    for make in (lambda: desk.workflows.make(1.0), lambda: joined(desk)):
        with pytest.raises(Busy, match="workflows_max"):
            make()
    for each in (first, second):
        each.end()
    for letter in (b"a", b"b", b"c"):
        desk.workflows.told(letter * ID_BYTES, "enough")
    assert not joined(desk, b"a" * ID_BYTES).ended.is_triggered
    assert joined(desk, b"c" * ID_BYTES).ended.is_triggered


def test_users_code_that_raises_keeps_nobody_from_being_told(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[int] = []
    for how in range(2):
        work = desk.workflows.make(10.0 if how else 0.02)
        work.carried(["site-1"])
        work.ended.on_trigger(lambda: heard.append(1))
        work.ended.on_trigger(lambda: heard[9])  # type: ignore[arg-type, return-value]
        if how:
            work.end()
        eventually(lambda: len(heard) == how + 1 and len(desk.told) == how + 1)
    assert "raised IndexError" in caplog.text


def test_a_callback_that_ends_its_thread_ends_no_other_workflow_late(desk: Desk) -> None:
    def leave() -> None:
        raise SystemExit

    first, second = desk.workflows.make(0.02), desk.workflows.make(0.1)
    first.ended.on_trigger(leave)
    assert eventually(lambda: first.ended.is_triggered and second.ended.is_triggered)


def test_who_cannot_be_told_does_not_matter() -> None:
    desk = Desk(Closed(fqcn="server"))
    work = desk.workflows.make(10.0)
    work.carried(["site-1"])
    work.end()
    assert work.ended.value == DONE
    desk.workflows.close(PATIENCE_S)


def test_closing_ends_those_that_are_left_here_and_takes_no_more() -> None:
    desk = Desk()
    work = desk.workflows.make(10.0)
    work.carried(["site-1"])
    assert desk.workflows.close(PATIENCE_S) == [] == desk.workflows.close(PATIENCE_S)
    assert (work.ended.value, desk.told) == ("the cell closes", [])
    with pytest.raises(Closed):
        desk.workflows.make(1.0)
    work.end()
    assert work.ended.value == "the cell closes"


def test_closing_tells_of_a_callback_that_runs() -> None:
    desk = Desk()
    entered, let_go = threading.Event(), threading.Event()
    work = desk.workflows.make(0.01)
    hold: Callable[[], None] = lambda: (entered.set(), let_go.wait(PATIENCE_S), None)[2]  # noqa: E731
    work.ended.on_trigger(hold)
    assert entered.wait(PATIENCE_S)
    assert desk.workflows.close(0.01) == ["a callback of a workflow's end is still running"]
    let_go.set()


def test_what_its_messages_lend_is_known_until_it_ends(desk: Desk) -> None:
    work = desk.workflows.make(10.0)
    transaction = Loan(b"t")
    work.lends(transaction)
    assert list(work.lent) == [transaction]
    transaction.settle()
    assert len(work.lent) == 0
