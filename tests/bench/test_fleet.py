"""The fleet question: all cells come, all are answered, and all come back after the server was killed."""

from __future__ import annotations

import json

from zdl_bench import fleet


def test_a_small_fleet_comes_is_answered_and_comes_back() -> None:
    lines: list[str] = []
    assert fleet.main(["--cells", "8", "--asked", "40", "--rounds", "1", "--json"], lines.append) == 0
    (run,) = map(json.loads, lines)
    assert (run["cells"], run["asked"]) == (8, 40)
    assert all(run[name] > 0 for name in ("up_s", "requests_per_s", "back_s"))


def test_people_get_a_line_for_each_figure() -> None:
    lines: list[str] = []
    assert fleet.main(["--cells", "8", "--asked", "8", "--rounds", "1"], lines.append) == 0
    assert [line.split("\t")[0] for line in lines] == ["up_s", "kib_per_peer", "requests_per_s", "back_s"]
