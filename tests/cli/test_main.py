from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from zdl import __version__
from zdl.cli.main import COMMANDS, main, zdl

from processes import ROOT, ended, environment, words_of

HEAVY = ("asyncio", "blake3", "msgpack", "numpy", "psutil", "rich", "zmq", "zdl.assembly")
SHARED = ("PARENT", "TIMEOUT", "JSON", "QUIET", "VERBOSE")
LOADED = ("import sys; from zdl.cli.main import main; main(sys.argv[1:]); "
          "print(*[x for x in {!r} if x in sys.modules], file=sys.stderr)")


@pytest.mark.parametrize("word", ["--version", "--help"])
def test_what_is_asked_most_loads_nothing_heavy(word: str) -> None:
    done = subprocess.run([sys.executable, "-c", LOADED.format(HEAVY), word], cwd=ROOT, env=environment(), text=True,
                          capture_output=True, timeout=60)
    assert done.stdout and done.stderr.split() == []


def test_version() -> None:
    done = ended("--version")
    assert (done.code, done.out, done.err) == (0, f"zdl {__version__}\n", "")


def test_without_words_it_shows_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_where_the_table_says(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert f"zdl {name}" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "said"), [
    (["gett"], "zdl: there is no command 'gett', did you mean get?; see zdl --help\n"),
    (["--nothing"], "see zdl --help\n"),
    (["get"], "zdl: missing argument 'REF'; see zdl get --help\n"),
    (["bench"], "zdl: missing command; see zdl bench --help\n"),
    (["ls"], "zdl: missing option '--parent' (env var: 'ZDL_PARENT'); write for example --parent tcp://127.0.0.1:8800; "
             "see zdl ls --help\n"),
    (["start", "boss", "b"], "see zdl start --help\n"),
    (["ping", "server", "--parent", "localhost:1"], "see zdl ping --help\n"),
    (["ls", "--parent", "tcp://127.0.0.1:1", "--timeout", "5"], "see zdl ls --help\n"),
])
def test_a_usage_error_is_one_line_and_two(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("zdl: ") and shown.err.endswith(said) and shown.err.count("\n") == 1


def test_the_trace_is_for_who_asks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["start", "worker", "a.b.b", "--parent", "tcp://127.0.0.1:1"]) == 2
    assert capsys.readouterr().err == "zdl: 'a.b.b' is not a cell name: part 'b' is repeated\n"
    for words in (["-v", "start", "worker", "a.b.b"], ["start", "worker", "a.b.b", "-v"]):
        assert main([*words, "--parent", "tcp://127.0.0.1:1"]) == 2
        assert "Traceback" in capsys.readouterr().err


def test_who_calls_it_keeps_the_level_of_his_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "zdl")
    assert main(["-v", "start", "worker", "a.b.b", "--parent", "tcp://127.0.0.1:1"]) == 2
    assert logging.getLogger("zdl").level == logging.ERROR


def _options(command: click.Command, path: str) -> Iterator[tuple[str, click.Option]]:
    """Every option of a command and of those below it, with the variable that it must have."""
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from _options(below, f"{path}_{name.upper()}")
    for option in command.params:
        if isinstance(option, click.Option):
            flag = max(option.opts, key=len).removeprefix("--").replace("-", "_").upper()
            is_shared = flag in SHARED and not path.startswith("ZDL_DEMO")
            yield f"ZDL_{flag}" if is_shared else f"{path}_{flag}", option


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_a_variable_named_after_it(name: str) -> None:
    command = zdl.get_command(click.Context(zdl), name)
    assert command is not None
    for variable, option in _options(command, f"ZDL_{name.upper()}"):
        assert option.envvar == variable


def test_a_flag_goes_before_its_variable() -> None:
    done = ended("ping", "server", ZDL_PARENT="nowhere", ZDL_PING_COUNT="many")
    assert done.code == 2 and "'many' is not a valid integer" in done.err
    done = ended("ping", "server", "--count", "1", ZDL_PARENT="nowhere", ZDL_PING_COUNT="many")
    assert done.code == 2 and "'nowhere' is not an address" in done.err


def test_a_reader_who_goes_away_is_no_error_to_tell() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(words_of("--help"), cwd=ROOT, env=environment(), stdout=write, stderr=subprocess.PIPE, timeout=60)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


def test_shells_get_their_completions() -> None:
    assert "complete" in ended(_ZDL_COMPLETE="bash_source").out
    done = ended(_ZDL_COMPLETE="bash_complete", COMP_WORDS="zdl p", COMP_CWORD="1")
    assert done.lines == ["plain,ping", "plain,put"]
