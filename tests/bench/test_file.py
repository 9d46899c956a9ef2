"""The question of files: each way brings the file, beside cp."""

from __future__ import annotations

from pathlib import Path

import pytest

from zdl_bench.file import SYSTEMS, FileQuestion, measure
from zdl_bench.rounds import Rounds


def test_each_way_is_measured_beside_cp_and_leaves_nothing(tmp_path: Path) -> None:
    found = measure(FileQuestion(3 << 20, folder=str(tmp_path), rounds=Rounds(1, warm_ups=0)))
    assert [each.system for each in found] == list(SYSTEMS)
    assert all(each.median > 0 for each in found) and set(found[0].ratio) == {"cp", "cp_synced"}
    assert list(tmp_path.iterdir()) == []


def test_what_says_nothing_is_refused() -> None:
    for wrong in ({"limit": "pages"}, {"systems": ("zdl", "mv")}, {"systems": ("zdl",)}):
        with pytest.raises(ValueError, match="must"):
            FileQuestion(**wrong)  # type: ignore[arg-type]
