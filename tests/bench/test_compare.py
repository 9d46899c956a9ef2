"""Two runs beside each other, bounds, drawings and tables of what was saved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from zdl_bench.compare import Bound, below, changes, loaded
from zdl_bench.drawing import svg, text_bars
from zdl_bench.report import Environment, Result, json_line
from zdl_bench.tables import rst

HERE = Environment(cpu="a cpu", cores=2, python="3.11", zmq="4.3.5", commit="abc")
FAST = Result(bench="pull", case="1MiB <mixed>", system="zdl", unit="GiB/s", better="higher", median=4, min=3, max=5, runs=4,
              ratio={"raw_tcp": 0.8}, extra={"leaf_peak_rss_bytes": 3 << 20}, env=HERE, ratio_cv={"raw_tcp": 0.02},
              curve=((0.1, 100), (0.2, 1 << 20)))
SLOW = replace(FAST, bench="rtt", unit="us", better="lower", ratio={"raw_tcp": 2.0}, curve=(), extra={})


def test_a_ratio_that_moves_beyond_its_noise_is_better_or_worse_whichever_way_the_unit_counts() -> None:
    after = [replace(FAST, ratio={"raw_tcp": 0.9}), replace(SLOW, ratio={"raw_tcp": 2.5})]
    faster, slower = changes([FAST, SLOW], after)
    assert (faster.verdict, round(faster.change, 3)) == ("better", 0.125)
    assert (slower.verdict, round(slower.change, 3)) == ("worse", -0.2)
    assert changes([FAST], [replace(FAST, ratio={"raw_tcp": 0.81})])[0].verdict == "same"
    assert changes([FAST], [replace(FAST, case="other")]) == []


@pytest.mark.parametrize(("text", "bound"), [("0.9", Bound("zdl", "", 0.9)), ("memcpy=2", Bound("zdl", "memcpy", 2)),
                                             ("zdl_quick/bare_pyzmq=0.94", Bound("zdl_quick", "bare_pyzmq", 0.94))])
def test_a_bound_is_read(text: str, bound: Bound) -> None:
    assert Bound.parsed(text) == bound


@pytest.mark.parametrize("text", ["", "fast", "zdl/raw_tcp", "raw_tcp="])
def test_a_bound_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a bound is written"):
        Bound.parsed(text)


def test_below_a_bound_is_told_and_so_is_a_bound_for_which_nothing_was_measured() -> None:
    assert below([Bound("zdl", "", 0.5)], [FAST, SLOW]) == []
    assert below([Bound("zdl", "raw_tcp", 0.7)], [FAST, SLOW]) == ["rtt 1MiB <mixed>: zdl is at 0.5 of raw_tcp, not 0.7"]
    assert below([Bound("zdl_quick", "", 1)], [FAST]) == ["zdl_quick was not measured beside any ceiling"]


def test_of_what_was_saved_twice_the_last_counts(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.write_text(json_line(FAST) + "\n" + json_line(replace(FAST, median=9)) + "\n")
    (found,) = loaded(path)
    assert found.median == 9


def test_a_drawing_has_a_bar_for_each_ratio_and_a_curve_for_each_pull() -> None:
    drawn = svg([FAST, SLOW])
    assert drawn.count("<polyline") == 1 and drawn.count("zdl → raw_tcp") == 2
    assert "&lt;mixed&gt;" in drawn and ">0.80<" in drawn and ">0.50<" in drawn
    assert list(text_bars([FAST], width=10)) == ["pull 1MiB <mixed>", "  zdl → raw_tcp  ████        0.80"]


def test_a_table_tells_where_it_was_made_and_what_each_system_had() -> None:
    text = rst([FAST, SLOW])
    assert text.startswith("================\nFigures of a run") and "\na cpu, 2 cores" in text and "commit ``abc``" in text
    assert "   * - ``zdl``\n     - 4 (3 … 5)\n     - 0%\n     - 0.80 ±2%\n     - 3 MiB\n" in text
