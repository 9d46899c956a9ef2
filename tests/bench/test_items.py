"""The question of items: each is produced once, and arrives, beside the arrays they are compared with."""

from __future__ import annotations

from zdl_bench.items import SYSTEMS, ItemsQuestion, measure
from zdl_bench.rounds import Rounds


def test_each_item_is_produced_once_and_arrives_beside_the_arrays() -> None:
    found = measure(ItemsQuestion(items=6, leaves=2, rounds=Rounds(1, warm_ups=0)))
    assert tuple(each.system for each in found) == SYSTEMS
    assert all(each.median > 0 for each in found)
    assert list(found[1].ratio) == ["arrays"]
