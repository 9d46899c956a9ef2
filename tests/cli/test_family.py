"""Commands below a command: who calls none, or one that is none, hears what there is."""

from __future__ import annotations

import click
import pytest

from zdl.cli.family import unknown
from zdl.cli.main import main


@pytest.mark.parametrize(("words", "said"), [
    (["report"], "zdl: missing command: refs or transfers; see zdl report --help\n"),
    (["ref"], "zdl: missing command: rm; see zdl ref --help\n"),
    (["report", "ref"], "zdl: there is no command 'ref', did you mean refs?; see zdl report --help\n"),
    (["report", "cells"], "zdl: there is no command 'cells'; see zdl report --help\n"),
    (["report", "--nothing"], "zdl: no such option '--nothing'; see zdl report --help\n"),
])
def test_what_there_is_is_said_in_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert capsys.readouterr() == ("", said)


def test_help_says_the_whole_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "who is waited for" in shown and "…" not in shown and "..." not in shown.split("Commands:")[1]


def test_the_nearest_name_is_suggested() -> None:
    context = click.Context(click.Command("x"))
    assert str(unknown("benchmark", "pul", ["pull", "rtt"], context)) == "there is no benchmark 'pul', did you mean pull?"
    assert str(unknown("benchmark", "zzz", ["pull", "rtt"], context)) == "there is no benchmark 'zzz'"
