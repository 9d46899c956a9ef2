"""``zdl bench``: how fast it is here, beside how fast it could be; see the package ``zdl_bench`` for the method.

Each question of `zdl_bench.registry` is a command, made of what the question says about itself when it is called.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import click

from zdl.cli.failing import Below
from zdl.cli.family import unknown
from zdl.cli.output import Column, Output, output_options
from zdl.cli.units import SIZE


class Questions(click.Group):
    """The group of all questions, none of which is imported before it is asked."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the tables."""
        from zdl_bench.registry import ENTRIES

        return [*ENTRIES, *self.commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command that asks this question.

        Raises:
            click.UsageError: there is none; says which one may have been meant.
        """
        from zdl_bench.registry import ENTRIES

        if cmd_name in self.commands:
            return self.commands[cmd_name]
        if cmd_name in ENTRIES:
            return _command(cmd_name, ENTRIES[cmd_name].help, ENTRIES[cmd_name].load())
        if cmd_name.startswith("-"):
            return None
        raise unknown("benchmark", cmd_name, self.list_commands(ctx), ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The questions in ``--help``, from the table."""
        from zdl_bench.registry import ENTRIES

        with formatter.section("Commands"):
            formatter.write_dl([*((name, entry.help) for name, entry in ENTRIES.items()),
                                *((name, command.get_short_help_str(limit=100)) for name, command in self.commands.items())])


@click.group(cls=Questions, no_args_is_help=False)
def bench() -> None:
    """Measure, beside raw sockets, bare pyzmq and memcpy in the same run."""


class Words(click.ParamType):  # type: ignore[type-arg]
    """Several words of a list, with commas between them."""

    name = "words"

    def __init__(self, choices: Sequence[str]) -> None:
        self._choices = choices

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """``"a,b"`` → ``("a", "b")``; a tuple stays what it is.

        Raises:
            click.BadParameter: one of them is not allowed.
        """
        words = tuple(value) if isinstance(value, (tuple, list)) else tuple(str(value).replace(",", " ").split())
        wrong = [word for word in words if self._choices and word not in self._choices]
        if wrong or not words:
            self.fail(f"{', '.join(wrong) or 'nothing'} is not among {', '.join(self._choices)}", param, ctx)
        return words


class AtLeast(click.ParamType):  # type: ignore[type-arg]
    """A bound of a ratio."""

    name = "[[system/]ceiling=]ratio"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See `zdl_bench.compare.Bound.parsed`."""
        from zdl_bench.compare import Bound

        try:
            return Bound.parsed(str(value)) if isinstance(value, str) else value
        except ValueError as refused:
            self.fail(str(refused), param, ctx)


@dataclass(frozen=True, slots=True)
class Ending:
    """What is done with results beside printing them: where lines and a drawing go, and the bounds."""

    out: str | None
    plot: str | None
    least: tuple[Any, ...]


def _drawable(context: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value and value != "-" and not value.endswith(".svg"):
        raise click.BadParameter(f"{value!r} is no drawing; write a name that ends with .svg, or -", context, param)
    return value


def _with_ending(command: click.Command) -> click.Command:
    prefix = f"ZDL_BENCH_{command.name}_".upper()
    command.params += [
        click.Option(["--out"], type=click.Path(dir_okay=False), envvar=f"{prefix}OUT",
                     help="Append the JSON lines to this file too; zdl bench show reads it."),
        click.Option(["--plot"], metavar="FILE.svg|-", callback=_drawable, envvar=f"{prefix}PLOT",
                     help="Draw the ratios, and what came when; with - only the ratios, on stderr."),
        click.Option(["--min-ratio", "least"], type=AtLeast(), multiple=True, envvar=f"{prefix}MIN_RATIO",
                     help="End with 8 if a ratio is below it, where 1 is as good as the ceiling: 0.9 means zdl beside all, "
                          "bare_pyzmq=0.9 beside that one, zdl_quick/bare_pyzmq=0.9 that system.")]
    return output_options(command)


def _command(name: str, text: str, found: Any) -> click.Command:
    rounds = found.rounds()
    options: list[click.Parameter] = [
        _option(name, flag.name, flag.field, found.default(flag), text=flag.help, choices=flag.choices)
        for flag in found.flags]
    options += [_option(name, "rounds", "rounds_count", rounds.count, text="How often each system runs; they alternate."),
                _option(name, "warm-ups", "rounds_warm_ups", rounds.warm_ups, text="Rounds before them, which do not count.")]
    made = click.Command(name, callback=partial(_ask, found), params=options, help=text)
    return _with_ending(made)


def _option(command: str, name: str, field: str, default: object, *, text: str, choices: Sequence[str] = ()) -> click.Option:
    """One flag; its kind follows from the field's name and its default, see `zdl_bench.question.Flag`."""
    written = f"--{name}/--no-{name}" if isinstance(default, bool) else f"--{name}"
    kind: Any = type(default)
    if isinstance(default, tuple):
        kind = Words(choices)
    elif field.endswith("_bytes"):
        kind = SIZE
    elif choices:
        kind = click.Choice(choices)
    return click.Option([field, written], type=kind, default=_typed(default, is_size=kind is SIZE), help=text, show_default=True,
                        envvar=f"ZDL_BENCH_{command}_{name}".upper().replace("-", "_"))


def _typed(default: object, *, is_size: bool) -> object:
    """The default as somebody would type it, so that ``--help`` shows it in that way."""
    from zdl_bench.sizes import written

    if isinstance(default, tuple):
        return ",".join(map(str, default))
    return written(default) if is_size and isinstance(default, int) else default


def _ask(found: Any, *, is_json: bool, rounds_count: int, rounds_warm_ups: int, out: str | None, plot: str | None,
         least: Sequence[Any], **fields: Any) -> None:
    from zdl_bench.rounds import NoCeiling, Rounds

    context = click.get_current_context()
    output = Output.of(context, is_json=is_json)
    try:
        question = found.asked({**fields, "rounds": Rounds(rounds_count, rounds_warm_ups)})
    except ValueError as refused:
        raise click.UsageError(str(refused), context) from refused
    try:
        results = found.found(question, told=output.remark)
    except NoCeiling as refused:
        raise click.UsageError(f"--systems: {refused}", context) from refused
    _shown(results, output, Ending(out, plot, tuple(least)))


# --- all of them, and what was saved ---------------------------------------------------------------


@_with_ending
@bench.command("all")
@click.option("--only", type=Words(()), default=None, help="These questions, with commas between them; otherwise all.")
@click.option("--rounds", "count", type=click.IntRange(1, 1000), help="Of each; otherwise as many as each has by itself.")
@click.pass_context
def ask_all(context: click.Context, *, only: Sequence[str] | None, count: int | None, is_json: bool, out: str | None,
            plot: str | None, least: Sequence[Any]) -> None:
    """Ask all questions, as they are without flags, in one report."""
    from zdl_bench.registry import ENTRIES

    for name in only or ():
        if name not in ENTRIES:
            raise unknown("benchmark", name, ENTRIES, context)
    output = Output.of(context, is_json=is_json)
    results: list[Any] = []
    for name in only or ENTRIES:
        found = ENTRIES[name].load()
        rounds = found.rounds()
        if count is not None:
            rounds = replace(rounds, count=count, warm_ups=min(count, rounds.warm_ups))
        output.remark(f"{name}: {ENTRIES[name].help}")
        results += found.found(found.asked({"rounds": rounds}), told=output.remark)
    _shown(results, output, Ending(out, plot, tuple(least)))


@_with_ending
@bench.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("--rst", is_flag=True, help="As tables of reStructuredText, for documentation.")
@click.pass_context
def show(context: click.Context, *, files: Sequence[str], rst: bool, is_json: bool, out: str | None, plot: str | None,
         least: Sequence[Any]) -> None:
    """Show what --json or --out has saved, as if it had just been measured."""
    from zdl_bench.compare import loaded
    from zdl_bench.tables import rst as tables

    results = [each for file in files for each in _read(loaded, file)]
    if rst:
        click.echo(tables(results))
    else:
        _shown(results, Output.of(context, is_json=is_json), Ending(out, plot, tuple(least)))


@bench.command()
@click.argument("before", type=click.Path(exists=True, dir_okay=False))
@click.argument("after", type=click.Path(exists=True, dir_okay=False))
@click.option("--min-ratio", "least", type=click.FloatRange(min=0),
              help="End with 8 if a ratio fell below so much of what it was.")
@output_options
@click.pass_context
def compare(context: click.Context, *, before: str, after: str, least: float | None, is_json: bool) -> None:
    """How the ratios of two saved runs differ, and whether that may be chance."""
    from zdl_bench.compare import changes, loaded

    output = Output.of(context, is_json=is_json)
    found = changes(_read(loaded, before), _read(loaded, after))
    if not found:
        raise click.UsageError("the two runs have no ratio in common", context)
    columns = (Column("bench", "bench"), Column("case", "case"), Column("system", "system"), Column("ceiling", "beside"),
               Column("before", "before", "{:.3g}".format, is_number=True),
               Column("after", "after", "{:.3g}".format, is_number=True),
               Column("change", "change", "{:+.1%}".format, is_number=True),
               Column("noise", "noise", "{:.1%}".format, is_number=True), Column("verdict", "verdict"))
    output.table(columns, [{column.key: getattr(each, column.key) for column in columns} for each in found])
    fallen = [each for each in found if least is not None and each.after < least * each.before]
    if fallen:
        raise Below("; ".join(f"{each.bench} {each.case}: {each.system} beside {each.ceiling} is at "
                              f"{each.after / each.before:.2f} of what it was, not {least:g}" for each in fallen))


def _shown(results: Sequence[Any], output: Output, ending: Ending) -> None:
    """Prints, saves, draws and judges them.

    Raises:
        Below: a ratio is below its bound.
    """
    from zdl_bench.compare import below
    from zdl_bench.drawing import svg, text_bars
    from zdl_bench.report import write_json, write_table

    (write_json if output.is_json else write_table)(results, sys.stdout)
    if ending.out:
        with open(ending.out, "a", encoding="utf-8") as file:
            write_json(results, file)
    if ending.plot == "-":
        for each in text_bars(results):
            sys.stderr.write(each + "\n")
    elif ending.plot:
        with open(ending.plot, "w", encoding="utf-8") as file:
            file.write(svg(results))
    missed = below(ending.least, results)
    if missed:
        raise Below("; ".join(missed))


def _read(loaded: Callable[[str], list[Any]], path: str) -> list[Any]:
    try:
        return loaded(path)
    except ValueError as refused:
        raise click.ClickException(str(refused)) from refused
