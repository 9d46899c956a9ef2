from __future__ import annotations

import json

import pytest

from zdl.cli.bench import ROUNDS, SCHEMES
from zdl.cli.main import main

from processes import ended

pytest.importorskip("zdl_bench")


def test_defaults_are_those_of_the_benchmarks() -> None:
    from zdl_bench import endpoints, pull
    from zdl_bench.rounds import Rounds

    assert (SCHEMES, ROUNDS) == (endpoints.SCHEMES, Rounds().count)
    assert (pull.PullQuestion().size_bytes, pull.PullQuestion().chunk_bytes) == (512 << 20, 1 << 20)


@pytest.mark.parametrize("words", [["pull", "--size", "much"], ["pull", "--scheme", "udp"], ["rtt", "--rounds", "0"]])
def test_what_cannot_be_measured_is_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *words]) == 2
    assert capsys.readouterr().err.endswith(f"; see zdl bench {words[0]} --help\n")


@pytest.mark.slow
def test_pull_measures_zdl_beside_its_ceilings() -> None:
    done = ended("bench", "pull", "--size", "16M", "--rounds", "1", "--window", "8M", "--json")
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in done.lines]
    mixed = {row["system"]: row for row in rows if row["case"].startswith("16MiB")}
    assert {"zdl", "raw_tcp", "bare_pyzmq", "memcpy"} <= mixed.keys()
    assert set(mixed["zdl"]["ratio"]) >= {"raw_tcp", "bare_pyzmq", "memcpy"}
    assert "round 1/1  zdl  " in done.err
