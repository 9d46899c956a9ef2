from __future__ import annotations

import json

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


def test_the_questions_are_listed_without_being_imported(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--help"]) == 0
    told = capsys.readouterr().out
    assert all(f"  {name} " in told for name in registry.ENTRIES)
    assert bench.commands.keys().isdisjoint(registry.ENTRIES)


@pytest.mark.parametrize("words", [["pull", "--size", "much"], ["pull", "--scheme", "udp"], ["rtt", "--rounds", "0"],
                                   ["pull", "--systems", "zdl,zmq"], ["pack", "--leaves", "0"]])
def test_what_cannot_be_measured_is_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *words]) == 2
    assert capsys.readouterr().err.endswith(f"; see zdl bench {words[0]} --help\n")


def test_a_benchmark_that_is_none_is_2_and_the_nearest_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "pul"]) == 2
    assert "did you mean pull?" in capsys.readouterr().err


def test_json_is_one_line_for_each_system_with_what_was_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "pull", "--size", "64K", "--case", "mixed", "--systems", "memcpy,memcpy_fresh", "--rounds", "2",
                 "--warm-ups", "0", "--json"]) == 0
    printed = capsys.readouterr()
    rows = [json.loads(line) for line in printed.out.splitlines()]
    assert [row["system"] for row in rows] == ["memcpy", "memcpy_fresh"]
    assert rows[0]["case"] == "64KiB-mixed tcp" and rows[0]["options"]["size_bytes"] == 65536
    assert len(rows[1]["ratios"]["memcpy"]) == rows[1]["runs"] == 2
    assert "round 2/2  memcpy  " in printed.err


@pytest.mark.slow
def test_pull_measures_zdl_beside_its_ceilings() -> None:
    done = ended("bench", "pull", "--size", "16M", "--rounds", "1", "--window", "8M", "--json")
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in done.lines]
    mixed = {row["system"]: row for row in rows if row["case"].startswith("16MiB")}
    assert {"zdl", "raw_tcp", "bare_pyzmq", "memcpy"} <= mixed.keys()
    assert set(mixed["zdl"]["ratio"]) >= {"raw_tcp", "bare_pyzmq", "memcpy"}
    assert "round 1/1  zdl  " in done.err
