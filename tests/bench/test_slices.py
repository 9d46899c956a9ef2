"""The question of slices: what comes over the sockets is what was asked for, and little more."""

from __future__ import annotations

import os

import pytest

from zdl_bench.rounds import Rounds
from zdl_bench.slices import BARE, BOUND, WIRE_MAX, SlicesQuestion, SliceSystem, measure

SIZE_BYTES = 16 << 20


def test_an_eighth_of_an_array_brings_little_more_than_an_eighth_of_its_bytes() -> None:
    rows = SliceSystem("rows", SlicesQuestion(SIZE_BYTES).side)
    try:
        rows.start()
        assert 1.0 <= rows.run().extra["wire_ratio"] <= WIRE_MAX
    finally:
        rows.stop()


@pytest.mark.system
@pytest.mark.skipif("ZDL_SYSTEM" not in os.environ, reason="it starts many processes: ZDL_SYSTEM=1")
def test_eighths_by_rows_and_by_columns_stand_beside_their_bound_and_bare_sockets() -> None:
    found = measure(SlicesQuestion(SIZE_BYTES, Rounds(1, 0)))
    parts = ("zdl_rows", "zdl_columns")
    assert [(each.case.split()[0], each.system) for each in found] == [
        *(("bytes", name) for name in (*parts, BOUND)), *(("speed", name) for name in (*parts, BARE))]
    assert all(1.0 <= each.median <= WIRE_MAX for each in found[:2])


def test_an_array_that_has_no_eighths_is_refused() -> None:
    for size in (0, 1 << 21, (1 << 20) + 4, 36):
        with pytest.raises(ValueError, match="multiple of 8"):
            SlicesQuestion(size)
