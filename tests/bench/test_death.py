"""The question of death: whoever dies, in whichever way, the other side gets to know."""

from __future__ import annotations

from zdl_bench.death import DeathQuestion, measure
from zdl_bench.rounds import Rounds


def test_each_death_is_known_to_the_other_side() -> None:
    found = measure(DeathQuestion(Rounds(1, warm_ups=0)))
    assert [each.case for each in found] == ["site killed", "site stopped", "server killed", "server stopped"]
    assert all(each.median > 0 for each in found)
