"""The fleet question: all cells come, all are answered, and all come back after the server was killed."""

from __future__ import annotations

import pytest

from zdl_bench.fleet import FIGURES, FleetQuestion, measure
from zdl_bench.rounds import Rounds


def test_a_small_fleet_comes_is_answered_and_comes_back() -> None:
    found = measure(FleetQuestion(cells=8, asked=40, rounds=Rounds(1, warm_ups=0)))
    assert [each.case for each in found] == [f"8 cells {name}" for name, *_ in FIGURES]
    assert all(each.median > 0 for each in found if each.unit != "KiB")


def test_fewer_cells_than_processes_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 8"):
        FleetQuestion(cells=7)
