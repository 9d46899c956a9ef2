"""``zdl bench``: how fast it is here, beside how fast it could be; see the package ``zdl_bench`` for the method.

Each question of `zdl_bench.registry` is a command, made of what the question says about itself when it is called.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import click

from zdl.cli.output import Output, output_options
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
        close = difflib.get_close_matches(cmd_name, self.list_commands(ctx), n=1)
        raise click.UsageError(f"there is no benchmark {cmd_name!r}" + (f", did you mean {close[0]}?" if close else ""), ctx)

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


def _command(name: str, text: str, found: Any) -> click.Command:
    rounds = found.rounds()
    options: list[click.Parameter] = [
        _option(name, flag.name, flag.field, found.default(flag), text=flag.help, choices=flag.choices)
        for flag in found.flags]
    options += [_option(name, "rounds", "count", rounds.count, text="How often each system runs; they alternate."),
                _option(name, "warm-ups", "warm_ups", rounds.warm_ups, text="Rounds before them, which do not count.")]
    made = click.Command(name, callback=partial(_ask, found), params=options, help=text)
    return output_options(made)


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


def _ask(found: Any, *, is_json: bool, count: int, warm_ups: int, **fields: Any) -> None:
    from zdl_bench.report import write_json, write_table
    from zdl_bench.rounds import Rounds

    context = click.get_current_context()
    output = Output.of(context, is_json=is_json)
    try:
        question = found.asked({**fields, "rounds": Rounds(count, warm_ups)})
    except ValueError as refused:
        raise click.UsageError(str(refused), context) from refused
    results = found.found(question, told=output.remark)
    (write_json if is_json else write_table)(results, sys.stdout)
