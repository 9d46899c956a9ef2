"""Pacing: limits of bandwidth, and who yields to whom."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from zdl.options import PRIORITIES
from zdl.protocol.messages import Ask, Priority, Verify
from zdl.protocol.pacing import BURST_S, NEVER, UNDER_WAY_S, YIELD_S, Gate, Limit, Pacer, Ranks, priority_of

OFFER, SECRET = b"o" * 16, b"s" * 16
URGENT, NORMAL, LAZY = Priority


def ask(offset: int, priority: Priority = NORMAL, *, origin: str = "site-1", length: int = 1000) -> Ask:
    return Ask(origin, "server", 7, OFFER, SECRET, offset, length, Verify.NONE, 0, priority)


def test_the_names_of_priorities_are_those_of_the_options() -> None:
    assert [priority_of(name).name.lower() for name in PRIORITIES] == list(PRIORITIES)


def test_a_limit_lets_so_many_bytes_pass_in_a_second_and_a_little_at_once_after_a_pause() -> None:
    limit = Limit(1000.0)
    now = passed = 0.0
    while now < 100.0:
        limit.take(100, now)
        passed += 100
        now = max(now, limit.free_at)
    assert 0.99 * 1000 * 100 <= passed <= 1000 * 100 + 1000 * BURST_S + 100
    limit.take(10, 200.0)
    assert limit.free_at <= 200.0, "nothing is owed for what passed long ago"
    assert limit.free_at >= 200.0 - BURST_S, "what did not pass is lost but for a little"


def test_without_a_limit_everything_is_free_at_once() -> None:
    limit = Limit(NEVER)
    limit.take(1 << 40, 5.0)
    assert (limit.is_set, limit.free_at) == (False, 0.0)


def test_who_has_a_worse_priority_yields_for_as_long_as_a_better_one_is_under_way() -> None:
    ranks = Ranks()
    ranks.asked(NORMAL, 10.0)
    assert not ranks.yields(LAZY, 10.0), "nobody has said that he is of another kind than all others"
    ranks.asked(LAZY, 10.0)
    assert [ranks.yields(each, 10.1) for each in Priority] == [False, False, True]
    ranks.asked(URGENT, 10.2)
    assert [ranks.yields(each, 10.3) for each in Priority] == [False, True, True]
    assert [ranks.yields(each, 10.3 + UNDER_WAY_S) for each in Priority] == [False, False, False]


def test_a_pacer_has_a_priority_and_a_limit_of_its_own() -> None:
    pacer = Pacer(LAZY, 5000.0)
    assert (pacer.priority, pacer.limit.is_set, pacer.asked_at) == (LAZY, True, -NEVER)


def test_a_gate_without_a_limit_and_priorities_lets_everything_pass() -> None:
    gate = Gate(NEVER)
    assert all(gate.passes(ask(offset), 1.0) for offset in range(0, 100_000, 1000))
    assert (len(gate), gate.deadline(), gate.next(1.0)) == (0, None, None)


def test_at_a_gate_with_a_limit_what_is_above_it_waits_in_turn() -> None:
    gate = Gate(10_000.0)
    passed = [each for each in range(0, 10_000, 1000) if gate.passes(ask(each), 0.0)]
    assert passed == [0] and len(gate) == 9
    assert not gate.passes(ask(3000), 0.0) and len(gate) == 9, "a question that waits is not taken twice"
    found = []
    while (deadline := gate.deadline()) is not None:
        assert gate.next(deadline - 0.001) is None
        each = gate.next(deadline)
        assert each is not None
        gate.passed(each, deadline)
        gate.check()
        found.append((each.offset, round(deadline, 3)))
    assert found == [(offset, pytest.approx(offset / 10_000, abs=BURST_S + 0.001)) for offset in range(1000, 10_000, 1000)]


def test_at_a_gate_a_better_priority_passes_before_what_waits() -> None:
    gate = Gate(10_000.0)
    assert gate.passes(ask(0), 0.0)
    for offset, priority in ((1000, LAZY), (2000, NORMAL), (3000, URGENT)):
        assert not gate.passes(ask(offset, priority), 0.0)
    order = []
    now = 0.0
    while (deadline := gate.deadline()) is not None:
        now = max(now, deadline)
        each = gate.next(now)
        if each is not None:
            gate.passed(each, now)
            order.append(each.offset)
    assert order == [3000, 2000, 1000]


def test_at_a_gate_the_background_gets_a_tenth_of_a_second_s_chunk_while_others_are_served() -> None:
    gate = Gate(NEVER)
    served = {NORMAL: 0, LAZY: 0}
    for step in range(1000):  # ten seconds
        now = step / 100
        served[NORMAL] += gate.passes(ask(step * 1000), now)
        served[LAZY] += gate.passes(ask(step * 1000, LAZY, origin="site-2"), now)
        while (each := gate.next(now)) is not None:
            gate.passed(each, now)
            served[each.priority] += 1
    assert served[NORMAL] == 1000, "nobody waits for the background"
    assert 10 / YIELD_S * 0.8 <= served[LAZY] <= 10 / YIELD_S + 1, "and it does not stand still"
    assert not gate.passes(ask(0, LAZY, origin="site-3"), 10.0)
    now = 10.0 + UNDER_WAY_S
    while gate.next(now) is not None:
        pass
    assert len(gate) == 0, "alone, it is not held back"


@given(st.lists(st.tuples(st.sampled_from(list(Priority)), st.integers(0, 50), st.floats(0.0, 0.3)), max_size=60))
def test_whatever_comes_at_a_gate_is_served_once_and_none_is_forgotten(steps: list[tuple[Priority, int, float]]) -> None:
    gate = Gate(20_000.0)
    now, came, went = 0.0, set[tuple[Priority, int]](), []
    for number, (priority, _, pause_s) in enumerate(steps):
        now += pause_s
        came.add((priority, number))
        if gate.passes(ask(number * 1000, priority), now):
            went.append((priority, number))
        gate.check()
    while (deadline := gate.deadline()) is not None:
        now = max(now, deadline)
        each = gate.next(now)
        if each is not None:
            gate.passed(each, now)
            went.append((each.priority, each.offset // 1000))
        gate.check()
    assert sorted(went) == sorted(came)
