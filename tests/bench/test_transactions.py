"""The question of transactions: every case is answered, beside what is promised."""

from __future__ import annotations

import pytest

from zdl_bench.rounds import Rounds
from zdl_bench.transactions import CASES, TransactionsQuestion, measure
from zdl_bench.transactions_roles import Leaves, Origin


def test_every_case_is_answered_beside_its_promise() -> None:
    found = measure(TransactionsQuestion(count=8, leaves=2, idle_s=0.01, expiring=3, times=2, rounds=Rounds(1, 0)))
    systems: dict[str, list[str]] = {}
    for each in found:
        systems.setdefault(each.case.rpartition(",")[0], []).append(each.system)
    assert [(name, of[0]) for name, of in systems.items()] == [(case.name, case.ceilings[0]) for case in CASES]
    assert all(len(of) > 1 for of in systems.values())


def test_the_origin_counts_the_receivers_that_have_begun() -> None:
    origin, leaves = Origin(), Leaves()
    try:
        names = leaves.start(address=origin.start()["address"], count=2)["names"]
        origin.open(count=3, receivers=names)
        assert origin.memory()["receivers"] == 0
        leaves.begin_all(count=3)
        assert origin.memory()["receivers"] == 6
    finally:
        leaves.stop()
        origin.stop()


@pytest.mark.parametrize("wrong", [{"count": 0}, {"leaves": 0}, {"idle_s": 0.0}])
def test_nothing_cannot_be_measured(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TransactionsQuestion(**wrong)  # type: ignore[arg-type]
