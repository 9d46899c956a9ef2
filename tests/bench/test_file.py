"""The question of files: each way brings the file, beside cp."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zdl_bench.file import SYSTEMS, FileQuestion, measure
from zdl_bench.report import Result
from zdl_bench.rounds import Rounds


def measured(folder: Path, *systems: str) -> list[Result]:
    """What is found of these, once, of a small file."""
    found = measure(FileQuestion(3 << 20, folder=str(folder), systems=systems, rounds=Rounds(1, warm_ups=0)))
    assert [each.system for each in found] == list(systems) and list(folder.iterdir()) == []
    return found


def test_what_is_measured_stands_beside_cp_and_leaves_nothing(tmp_path: Path) -> None:
    found = measured(tmp_path, "zdl", "cp")
    assert all(each.median > 0 for each in found) and set(found[0].ratio) == {"cp"}


@pytest.mark.system
@pytest.mark.skipif("ZDL_SYSTEM" not in os.environ, reason="it starts many processes: ZDL_SYSTEM=1")
def test_each_way_is_measured_beside_cp_and_leaves_nothing(tmp_path: Path) -> None:
    found = measured(tmp_path, *SYSTEMS)
    assert all(each.median > 0 for each in found) and set(found[0].ratio) == {"cp", "cp_synced"}


def test_what_says_nothing_is_refused() -> None:
    for wrong in ({"limit": "pages"}, {"systems": ("zdl", "mv")}, {"systems": ("zdl",)}):
        with pytest.raises(ValueError, match="must"):
            FileQuestion(**wrong)  # type: ignore[arg-type]
