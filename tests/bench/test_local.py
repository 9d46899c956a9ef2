"""The question of one machine: each way brings the state, beside tcp and memcpy, and by the way that it says."""

from __future__ import annotations

import mmap
import os

import pytest

from zdl_bench.local import SYSTEMS, LocalQuestion, measure, refuse_other_way, written_bytes
from zdl_bench.rounds import Rounds


def test_each_way_is_measured_beside_tcp() -> None:
    systems = ("zdl_tcp", "zdl_copied_first")
    found = measure(LocalQuestion(systems, size_bytes=8 << 20, leaves=0, rounds=Rounds(1, warm_ups=0)))
    assert [each.system for each in found] == list(systems) and set(systems) < set(SYSTEMS)
    assert all(each.median > 0 for each in found) and set(found[1].ratio) == {"zdl_tcp"}


def test_a_state_that_comes_another_way_is_no_figure() -> None:
    refuse_other_way("zdl_tcp", way="direct", why="")
    with pytest.raises(ValueError, match="was pulled direct and not memory: no memory"):
        refuse_other_way("zdl_in_place", way="direct", why="no memory")


def test_what_a_process_has_for_itself_is_what_it_has_written() -> None:
    page = mmap.PAGESIZE
    descriptor = os.memfd_create("zdl-bench")
    os.ftruncate(descriptor, 4 * page)
    mine = mmap.mmap(descriptor, 4 * page, flags=mmap.MAP_PRIVATE)
    os.close(descriptor)
    assert mine[3 * page] == 0 and written_bytes(os.getpid()) == 0
    mine[page] = 1
    assert written_bytes(os.getpid()) == page


def test_what_cannot_be_measured_is_refused() -> None:
    for wrong in ({"systems": ("other",)}, {"leaves": -1}):
        with pytest.raises(ValueError):
            LocalQuestion(**wrong)  # type: ignore[arg-type]
