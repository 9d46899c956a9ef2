"""All questions can be asked as they are, and each flag sets a field that there is."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

import pytest

from zdl_bench.question import Bench
from zdl_bench.registry import ENTRIES


@pytest.mark.parametrize("name", ENTRIES)
def test_each_question_has_a_default_for_each_flag(name: str) -> None:
    bench = ENTRIES[name].load()
    assert isinstance(bench, Bench)
    question = bench.asked({})
    assert is_dataclass(question)
    names = {field.name for field in fields(question)}
    assert {flag.field for flag in bench.flags} | {"rounds"} <= names
    assert bench.asked({flag.field: bench.default(flag) for flag in bench.flags}) == question
    assert bench.rounds().count >= 1
