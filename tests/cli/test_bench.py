from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

from zdl.cli.bench import bench
from zdl.cli.main import main

from processes import ended

registry = pytest.importorskip("zdl_bench.registry")


@pytest.mark.parametrize("name", registry.ENTRIES)
def test_each_question_has_a_command_that_tells_its_flags(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", name, "--help"]) == 0
    told = capsys.readouterr().out
    assert "--rounds" in told and "--json" in told
    assert all(f"--{flag.name}" in told for flag in registry.ENTRIES[name].load().flags)


@pytest.mark.parametrize("name", registry.ENTRIES)
def test_no_two_flags_of_a_question_set_the_same(name: str) -> None:
    command = bench.get_command(click.Context(bench), name)
    assert command is not None
    names = [parameter.name for parameter in command.params]
    assert len(names) == len(set(names))


def test_the_questions_are_listed_without_being_imported(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--help"]) == 0
    told = capsys.readouterr().out
    assert all(f"  {name} " in told for name in registry.ENTRIES)
    assert bench.commands.keys().isdisjoint(registry.ENTRIES)


@pytest.mark.parametrize("words", [["pull", "--size", "much"], ["pull", "--scheme", "udp"], ["rtt", "--rounds", "0"],
                                   ["pull", "--systems", "zdl,zmq"], ["pack", "--leaves", "0"], ["pull", "--systems", "zdl"]])
def test_what_cannot_be_measured_is_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *words]) == 2
    assert capsys.readouterr().err.endswith(f"; see zdl bench {words[0]} --help\n")


def test_a_benchmark_that_is_none_is_2_and_the_nearest_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "pul"]) == 2
    assert "did you mean pull?" in capsys.readouterr().err


def test_json_is_one_line_for_each_system_with_what_was_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "pull", "--size", "64K", "--systems", "memcpy,memcpy_fresh", "--rounds", "2",
                 "--warm-ups", "0", "--json"]) == 0
    printed = capsys.readouterr()
    rows = [json.loads(line) for line in printed.out.splitlines()]
    assert [row["system"] for row in rows] == ["memcpy", "memcpy_fresh"]
    assert rows[0]["case"] == "64KiB-mixed tcp" and rows[0]["options"]["size_bytes"] == 65536
    assert len(rows[1]["ratios"]["memcpy"]) == rows[1]["runs"] == 2
    assert "round 2/2  memcpy  " in printed.err


SAVED = ("bench", "pull", "--size", "64K", "--systems", "memcpy,memcpy_fresh", "--rounds", "2", "--warm-ups", "0", "-q")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lines of a run."""
    path = tmp_path_factory.mktemp("bench") / "run.jsonl"
    assert main([*SAVED, "--out", str(path)]) == 0
    return path


def test_what_was_saved_is_shown_again_as_a_table_as_lines_and_as_rst(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "show", str(saved), "--json"]) == 0
    assert capsys.readouterr().out == saved.read_text()
    assert main(["bench", "show", str(saved)]) == 0
    assert "memcpy_fresh" in capsys.readouterr().out
    assert main(["bench", "show", str(saved), "--rst"]) == 0
    assert ".. list-table:: ``pull``: 64KiB-mixed tcp, GiB/s, higher is better, 2 rounds" in capsys.readouterr().out


def test_a_run_is_compared_with_itself_and_nothing_has_changed(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "compare", str(saved), str(saved), "--min-ratio", "1", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows and all((row["change"], row["verdict"]) == (0, "same") for row in rows)


def test_below_its_bound_is_8(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "show", str(saved), "--min-ratio", "memcpy_fresh/memcpy=0.000001"]) == 0
    assert main(["bench", "show", str(saved), "--min-ratio", "memcpy_fresh/memcpy=1000000"]) == 8
    assert "memcpy_fresh is at" in capsys.readouterr().err


def test_a_drawing_is_an_svg_or_lines(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "show", str(saved), "--plot", str(tmp_path / "out.svg")]) == 0
    assert (tmp_path / "out.svg").read_text().startswith("<svg")
    assert main(["bench", "show", str(saved), "--plot", "-"]) == 0
    assert "█" in capsys.readouterr().err
    assert main(["bench", "show", str(saved), "--plot", "out.png"]) == 2


def test_a_file_of_something_else_is_refused_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "other").write_text("{}\n")
    assert main(["bench", "show", str(tmp_path / "other")]) == 1
    assert "other:1: no line of a benchmark" in capsys.readouterr().err


def test_all_asks_those_that_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "all", "--only", "pack", "--rounds", "1", "--json", "-q"]) == 0
    assert {json.loads(line)["bench"] for line in capsys.readouterr().out.splitlines()} == {"pack"}
    assert main(["bench", "all", "--only", "pack,nothing"]) == 2


@pytest.mark.slow
def test_pull_measures_zdl_beside_its_ceilings() -> None:
    done = ended("bench", "pull", "--size", "16M", "--mix", "mixed", "--rounds", "1", "--window", "8M", "--json")
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in done.lines]
    mixed = {row["system"]: row for row in rows if row["case"].startswith("16MiB")}
    assert {"zdl", "raw_tcp", "bare_pyzmq", "memcpy"} <= mixed.keys()
    assert set(mixed["zdl"]["ratio"]) >= {"raw_tcp", "bare_pyzmq", "memcpy"}
    assert "round 1/1  zdl  " in done.err
