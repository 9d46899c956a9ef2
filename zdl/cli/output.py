"""Output: what a command says, to people, to pipes and to programs.

Results go to stdout: aligned on a terminal, tab-separated under plain headings in a pipe, one JSON object per line
with ``--json``. Remarks and progress go to stderr, and to nobody with ``--quiet``. What came from other cells is shown
without its control characters. Colours are rich's, which honours ``NO_COLOR``.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from zdl.cli.failing import one_line, printed
from zdl.cli.units import size_text

Row = Mapping[str, object]
Command = TypeVar("Command", bound=Callable[..., Any])
REFRESH_PER_S = 10


@dataclass(slots=True)
class Settings:
    """What was said before or after the command's name: ``-v`` and ``--quiet``. One per call of ``main``."""

    is_verbose: bool = False
    is_quiet: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        key: its name in rows, in JSON and in pipes.
        heading: its name for people.
        written: a value as people read it.
        is_number: aligned to the right.
    """

    key: str
    heading: str
    written: Callable[[Any], str] = str
    is_number: bool = False


class Output:
    """Where one command says things.

    Args:
        is_json: one JSON object per line on stdout.
        is_quiet: nothing but results and errors.
    """

    def __init__(self, *, is_json: bool, is_quiet: bool) -> None:
        self.is_json = is_json
        self.is_quiet = is_quiet

    @classmethod
    def of(cls, context: click.Context, *, is_json: bool) -> Output:
        """As the flags say."""
        settings = context.find_object(Settings) or Settings()
        return cls(is_json=is_json, is_quiet=settings.is_quiet)

    def result(self, text: str, facts: Row) -> None:
        """One result: `text` on a line of its own, or the facts as JSON."""
        _write(_json(facts) if self.is_json else printed(text))

    def row(self, facts: Row, *, people: Sequence[str]) -> None:
        """One thing that has happened: lines for people at a terminal, else the values of `facts`."""
        if self.is_json:
            _write(_json(facts))
        elif sys.stdout.isatty():
            for each in people:
                _write(one_line(each))
        else:
            _write("\t".join(_cell(value) for value in facts.values()))

    def table(self, columns: Sequence[Column], rows: Sequence[Row]) -> None:
        """Many results; JSON has all that a row holds, a table what the columns name."""
        if self.is_json:
            for row in rows:
                _write(_json(row))
        elif sys.stdout.isatty():
            _write_rich(columns, rows)
        else:
            _write("\t".join(column.key for column in columns))
            for row in rows:
                _write("\t".join(_cell(row[column.key]) for column in columns))

    def remark(self, text: str) -> None:
        """A line on stderr for whoever watches."""
        if not self.is_quiet:
            sys.stderr.write(one_line(text) + "\n")
            sys.stderr.flush()

    @contextmanager
    def bar(self, what: str, bytes_total: int) -> Iterator[Callable[[int], None]]:
        """A progress bar on stderr, if that is a terminal; call what it yields with the bytes done so far.

        That call only notes a number: the bar draws itself, so whoever reports progress never waits for a terminal.
        """
        if self.is_quiet or not sys.stderr.isatty():
            yield lambda done: None
            return
        from rich.console import Console
        from rich.live import Live
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        drawn = Progress(TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(binary_units=True),
                         TextColumn("{task.fields[speed]}"), TimeRemainingColumn(), auto_refresh=False)
        task = drawn.add_task(one_line(what, chars_max=40), total=bytes_total, speed="")
        done_now = [0]

        def draw() -> Progress:
            speed = drawn.tasks[0].speed
            drawn.update(task, completed=done_now[0], speed=f"{size_text(speed)}/s" if speed else "")
            return drawn

        def note(done: int) -> None:
            done_now[0] = done

        with Live(get_renderable=draw, console=Console(stderr=True), refresh_per_second=REFRESH_PER_S, transient=False):
            yield note


def output_options(command: Command) -> Command:
    """``--json``, ``--quiet`` and ``-v``, for every command."""
    option = click.option("--json", "is_json", is_flag=True, envvar="ZDL_JSON", help="One JSON object per line on stdout.")
    return option(manner_options(command))


def manner_options(command: Command) -> Command:
    """``--quiet`` and ``-v``, which may stand before and after the command's name."""
    quiet = click.option("-q", "--quiet", is_flag=True, expose_value=False, callback=_set_quiet, envvar="ZDL_QUIET",
                         help="Nothing but results and errors.")
    verbose = click.option("-v", "--verbose", is_flag=True, expose_value=False, callback=_set_verbose,
                           envvar="ZDL_VERBOSE",
                           help="What happens, and tracebacks of errors, on stderr.")
    return quiet(verbose(command))


def _set_quiet(context: click.Context, param: click.Parameter, value: bool) -> None:
    settings = context.find_object(Settings)
    if value and settings is not None:
        settings.is_quiet = True


def _set_verbose(context: click.Context, param: click.Parameter, value: bool) -> None:
    settings = context.find_object(Settings)
    if value and settings is not None:
        settings.is_verbose = True
        logging.getLogger("zdl").setLevel(logging.INFO)


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _json(facts: Row) -> str:
    return json.dumps(facts, ensure_ascii=False)


def _cell(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return " ".join(_cell(each) for each in value)
    return "" if value is None else one_line(str(value))


def _write_rich(columns: Sequence[Column], rows: Sequence[Row]) -> None:
    # Only people at a terminal pay for the import.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.heading, justify="right" if column.is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(one_line(column.written(row[column.key]))) for column in columns))
    Console(file=sys.stdout, highlight=False).print(table)
