"""The question of death: whoever dies, in whichever way, the other side gets to know."""

from __future__ import annotations

import json

from zdl_bench import death


def test_each_death_is_known_to_the_other_side() -> None:
    lines: list[str] = []
    assert death.main(["--rounds", "1", "--json"], lines.append) == 0
    found = [json.loads(line) for line in lines]
    assert [(each["who"], each["how"]) for each in found] == [
        ("site", "killed"), ("site", "stopped"), ("server", "killed"), ("server", "stopped")]
    assert all(0 < each["median_beats"] <= each["max_beats"] for each in found)
