from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from zdl.cli.output import Column, Output, Settings, output_options

from processes import ROOT, environment

COLUMNS = (Column("fqcn", "cell"), Column("bytes", "memory", lambda count: f"{count} bytes", is_number=True))
ROWS = ({"fqcn": "server", "bytes": 4, "more": ["x"]}, {"fqcn": "a\tb\x1b[31m", "bytes": 5, "more": None})
SAY = """
import sys
from zdl.cli.output import Column, Output
output = Output(is_json=False, is_quiet="quiet" in sys.argv)
output.table((Column("fqcn", "cell"), Column("bytes", "memory", lambda count: f"{count} bytes")),
             ({"fqcn": "[red]server", "bytes": 4},))
output.row({"a": 1}, people=["for people"])
output.remark("a remark")
with output.bar("pulling", 100) as bar:
    bar(100)
"""


def on_a_terminal(*arguments: str, **more: str) -> str:
    """What `SAY` shows on a terminal, stdout and stderr together."""
    main, end = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", SAY, *arguments], cwd=ROOT, stdout=end, stderr=end,
                          env=environment(**{"TERM": "xterm-256color", **more})) as process:
        os.close(end)
        shown = b""
        try:
            while piece := os.read(main, 65536):
                shown += piece
        except OSError:
            pass  # how Linux says that nobody holds the other end
    os.close(main)
    assert process.returncode == 0, shown
    return shown.decode()


def test_a_pipe_gets_tabs_under_plain_headings(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(is_json=False, is_quiet=False)
    output.table(COLUMNS, ROWS)
    output.row({"a": 1, "b": ("x", "y"), "c": None}, people=["not for pipes"])
    output.result("the path", {"path": "the path"})
    assert capsys.readouterr().out == "fqcn\tbytes\nserver\t4\na b [31m\t5\n1\tx y\t\nthe path\n"


def test_json_is_one_object_per_line_with_all_that_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(is_json=True, is_quiet=False)
    output.table(COLUMNS, ROWS)
    output.row({"a": 1}, people=["not for programs"])
    output.result("the path", {"path": "the path"})
    shown = capsys.readouterr()
    assert [json.loads(each) for each in shown.out.splitlines()] == [*ROWS, {"a": 1}, {"path": "the path"}]


def test_remarks_go_to_stderr_and_to_nobody_when_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    Output(is_json=False, is_quiet=False).remark("one\ntwo")
    Output(is_json=False, is_quiet=True).remark("three")
    assert capsys.readouterr() == ("", "one two\n")


def test_a_bar_needs_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Output(is_json=False, is_quiet=False).bar("pulling", 10) as bar:
        bar(10)
    assert capsys.readouterr() == ("", "")


def test_people_at_a_terminal_get_an_aligned_table_and_a_bar() -> None:
    shown = on_a_terminal()
    assert "\t" not in shown and "memory" in shown and "4 bytes" in shown
    assert "[red]server" in shown, "what cells are called is no markup"
    assert "for people" in shown and "a remark" in shown and "pulling" in shown
    assert "\x1b[" in shown


def test_no_color_is_honoured() -> None:
    shown = on_a_terminal(NO_COLOR="1")
    assert "4 bytes" in shown
    assert not any(f"\x1b[{code}m" in shown for code in (31, 32, 33, 34, 35, 36)) and "38;5" not in shown


def test_quiet_leaves_the_results() -> None:
    shown = on_a_terminal("quiet")
    assert "4 bytes" in shown and "a remark" not in shown and "pulling" not in shown


def test_quiet_and_verbose_may_stand_on_every_command() -> None:
    @click.command()
    @output_options
    @click.pass_context
    def command(context: click.Context, *, is_json: bool) -> None:
        click.echo(f"{Output.of(context, is_json=is_json).is_quiet} {is_json}")

    settings = Settings()
    assert CliRunner().invoke(command, ["-q", "--json"], obj=settings).output == "True True\n"
    assert (settings.is_quiet, settings.is_verbose) == (True, False)


def test_paths_are_shown_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Output(is_json=False, is_quiet=False).result(str(tmp_path), {})
    assert capsys.readouterr().out == f"{tmp_path}\n"
