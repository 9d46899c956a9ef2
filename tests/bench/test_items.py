"""The question of items: each is produced once, and arrives, beside the arrays they are compared with."""

from __future__ import annotations

import json

import pytest

from zdl_bench import items


def test_each_item_is_produced_once_and_arrives_beside_the_arrays(capsys: pytest.CaptureFixture[str]) -> None:
    assert items.main(["--items", "6", "--size", "1M", "--leaves", "2", "--rounds", "1", "--warm-ups", "0", "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["system"] for each in found] == ["arrays", "items_bytes", "items_arrays"]
    assert all(each["median"] > 0 for each in found)
    assert list(found[1]["ratio"]) == ["arrays"]
