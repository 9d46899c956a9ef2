"""The question of passing on: whatever the forwarder does with the message, the same bytes come."""

from __future__ import annotations

from zdl_bench.forward import CEILINGS, SYSTEMS, measure
from zdl_bench.rounds import Rounds


def test_each_way_of_passing_on_has_a_figure_beside_its_ceilings_and_says_how_far_it_grew() -> None:
    found = {result.system: result for result in measure(2000, Rounds(1, 0))}
    assert list(found) == [*(name for name, _ in SYSTEMS), *CEILINGS]
    assert all(set(found[name].ratio) == set(CEILINGS) and found[name].median > 0 for name, _ in SYSTEMS)
    assert {result.extra.get("message_bytes", 0.0) > 50_000 for result in found.values() if result.system != "memcpy"} == {True}
