from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from zdl.cli.main import main

from processes import Start, ended


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Something to lend."""
    path = tmp_path / "policy.bin"
    path.write_bytes(os.urandom(3_000_000))
    return path


def test_it_ends_when_one_has_it(run: Start, relay: str, file: Path, tmp_path: Path) -> None:
    put = run("put", file, "--parent", relay)
    ref = put.line()
    assert ref.startswith("ref:site-1.cli-") and ref.endswith("/policy.bin")
    assert ended("get", ref, "-o", tmp_path / "got", "--parent", relay).code == 0
    done = put.ended()
    assert (done.code, done.out) == (0, "")
    assert done.err == "lends 1 file, 2.86 MiB, through site-1\n"


def test_it_stays_until_so_many_have_it(run: Start, server: str, file: Path, tmp_path: Path) -> None:
    put = run("put", file, "--until", "2", "--parent", server, "--quiet")
    ref = put.line()
    assert ended("get", ref, "-o", tmp_path / "one", "--parent", server).code == 0
    assert put.process.poll() is None
    assert ended("get", ref, "-o", tmp_path / "two", "--parent", server).code == 0
    done = put.ended()
    assert (done.code, done.err) == (0, "")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes() == file.read_bytes()


def test_the_time_is_over(server: str, file: Path) -> None:
    done = ended("put", file, "--ttl", "100ms", "--parent", server)
    assert done.code == 0 and done.lines[-1].startswith("ref:cli-")
    done = ended("put", file, "--ttl", "100ms", "--until", "2", "--parent", server)
    assert done.code == 7 and done.err.splitlines()[-1] == "zdl: 0 of 2 receivers have it after 100 ms"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_it_in_order(run: Start, server: str, file: Path, number: signal.Signals, code: int) -> None:
    put = run("put", file, "--parent", server)
    put.line()
    put.signal(number)
    assert put.ended().code == code


def test_a_name_and_json(run: Start, server: str, file: Path) -> None:
    put = run("put", file, "--name", "policy/7", "--json", "--parent", server)
    said = json.loads(put.line())
    assert said["ref"].endswith("/policy/7") and said["files"] == ["policy.bin"] and said["bytes"] == 3_000_000


def test_what_cannot_be_lent_is_2(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "other").mkdir()
    twin = tmp_path / "other" / file.name
    twin.write_bytes(b"")
    for words, said in (([tmp_path / "absent"], "does not exist"), ([], "missing argument"),
                        ([file, twin], "two files are named policy.bin"), ([file, "--name", ""], "--name '' is empty"),
                        ([file, "--name", "a\nb"], "do not print"), ([file, "--ttl", "5"], "is not a duration")):
        assert main(["put", *map(str, words), "--parent", "tcp://127.0.0.1:1"]) == 2
        shown = capsys.readouterr().err
        assert said in shown and shown.count("\n") == 1


def test_a_fabric_that_is_not_there_is_4(file: Path) -> None:
    done = ended("put", file, "--parent", "tcp://127.0.0.1:1", "--timeout", "300ms")
    assert done.code == 4 and done.out == "" and "nobody answers" in done.err
