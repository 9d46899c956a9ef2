"""The question of passing on: whatever the forwarder does with the message, the same bytes come."""

from __future__ import annotations

import os

import pytest

from zdl_bench.forward import CEILINGS, SYSTEMS, ForwardSystem, measure
from zdl_bench.rounds import Rounds


def test_what_is_taken_out_and_packed_again_comes_as_it_was_sent() -> None:
    opened = ForwardSystem(*SYSTEMS[-1], 500)
    try:
        opened.start()
        found = opened.run()
    finally:
        opened.stop()
    assert found.value > 0 and found.extra["message_bytes"] > 10_000


@pytest.mark.system
@pytest.mark.skipif("ZDL_SYSTEM" not in os.environ, reason="it starts many processes: ZDL_SYSTEM=1")
def test_each_way_of_passing_on_has_a_figure_beside_its_ceilings_and_says_how_far_it_grew() -> None:
    found = {result.system: result for result in measure(2000, Rounds(1, 0))}
    assert list(found) == [*(name for name, _ in SYSTEMS), *CEILINGS]
    assert all(set(found[name].ratio) == set(CEILINGS) and found[name].median > 0 for name, _ in SYSTEMS)
    assert {result.extra.get("message_bytes", 0.0) > 50_000 for result in found.values() if result.system != "memcpy"} == {True}
