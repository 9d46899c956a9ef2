"""What is printed: the JSON lines of cli.md to the letter, and the table."""

from __future__ import annotations

import io
import json
import os

import pytest

from zdl_bench.report import HEADINGS, Environment, Result, json_line, write_json, write_table

HERE = Environment(cpu="a cpu", cores=2, python="3.11.7", zmq="4.3.5", commit="abc1234", memory_bytes=8 << 30, kernel="Linux 6.18",
                   pyzmq="27.3.0", numpy="2.4")
RESULT = Result(bench="pull", case="512MiB-mixed tcp", system="zdl", unit="GiB/s", better="higher", median=4.2123456,
                min=4.02, max=4.33, runs=7, ratio={"raw_tcp": 0.91, "bare_pyzmq": 0.96},
                extra={"origin_cpu_s_per_gib": 0.31, "leaf_peak_rss_bytes": 1081344.0}, env=HERE,
                values=(4.2123456, 4.02), ratios={"raw_tcp": (0.9, 0.92)}, cv=0.031, ratio_cv={"raw_tcp": 0.02},
                options={"size_bytes": 1 << 29}, curve=((0.5, 1024),))


class Terminal(io.StringIO):
    """Text that is written to a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_json_line_has_the_fields_of_the_specification_in_their_order() -> None:
    assert json_line(RESULT) == (
        '{"bench": "pull", "case": "512MiB-mixed tcp", "system": "zdl", "unit": "GiB/s", "better": "higher", '
        '"median": 4.2123, "min": 4.02, "max": 4.33, "runs": 7, "ratio": {"raw_tcp": 0.91, "bare_pyzmq": 0.96}, '
        '"extra": {"origin_cpu_s_per_gib": 0.31, "leaf_peak_rss_bytes": 1081344}, '
        '"env": {"cpu": "a cpu", "cores": 2, "python": "3.11.7", "zmq": "4.3.5", "commit": "abc1234", '
        '"memory_bytes": 8589934592, "kernel": "Linux 6.18", "pyzmq": "27.3.0", "numpy": "2.4"}, '
        '"values": [4.2123, 4.02], "ratios": {"raw_tcp": [0.9, 0.92]}, "cv": 0.031, "ratio_cv": {"raw_tcp": 0.02}, '
        '"options": {"size_bytes": 536870912}, "curve": [[0.5, 1024]], "schema": 1}')


def test_a_line_that_was_saved_is_read_again() -> None:
    line = json_line(RESULT)
    assert json_line(Result.parsed(line)) == line


@pytest.mark.parametrize("line", ["", "{}", "no json", json_line(RESULT).replace('"schema": 1', '"schema": 2')])
def test_a_line_of_something_else_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="no line of a benchmark|of schema 2"):
        Result.parsed(line)


def test_json_is_one_object_per_line_and_nothing_else() -> None:
    stream = io.StringIO()
    write_json([RESULT, RESULT], stream)
    lines = stream.getvalue().splitlines()
    assert [json.loads(line)["system"] for line in lines] == ["zdl", "zdl"]


def test_a_table_is_tab_separated_where_no_terminal_is() -> None:
    stream = io.StringIO()
    write_table([RESULT], stream)
    head, headings, row = stream.getvalue().splitlines()
    assert head == "# cpu=a cpu cores=2 memory=8GiB Linux 6.18 python=3.11.7 zmq=4.3.5 commit=abc1234"
    assert headings.split("\t") == list(HEADINGS)
    assert row.split("\t") == ["512MiB-mixed tcp", "zdl", "4.21", "4.02", "4.33", "GiB/s", "7", "3%",
                               "raw_tcp → 0.91 ±2%  bare_pyzmq → 0.96",
                               "origin_cpu_s_per_gib=0.31  leaf_peak_rss_bytes=1,081,344"]


def test_a_table_on_a_terminal_is_aligned_and_has_no_tabs() -> None:
    stream = Terminal()
    write_table([RESULT], stream)
    text = stream.getvalue()
    assert "zdl" in text and "4.21" in text and "\t" not in text


def test_no_results_print_nothing() -> None:
    stream = io.StringIO()
    write_table([], stream)
    assert stream.getvalue() == ""


def test_the_environment_names_this_machine() -> None:
    found = Environment.found()
    assert 1 <= found.cores <= (os.cpu_count() or 1)
    assert found.cpu and found.commit
    assert found.zmq.count(".") == 2
