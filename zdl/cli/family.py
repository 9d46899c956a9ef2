"""Family: commands below a command, and what is said where none, or none of such a name, is called."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import click


def unknown(what: str, name: str, names: Iterable[str], context: click.Context) -> click.UsageError:
    """The error for a name that is none; says which one may have been meant."""
    close = difflib.get_close_matches(name, list(names), n=1)
    return click.UsageError(f"there is no {what} {name!r}" + (f", did you mean {close[0]}?" if close else ""), context)


class Family(click.Group):
    """A few commands below one: ``zdl report refs``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does.

        Raises:
            click.UsageError: there is nothing; says what there could be.
        """
        if not args and not ctx.resilient_parsing:
            raise click.UsageError(f"missing command: {' or '.join(self.list_commands(ctx))}", ctx)
        return super().parse_args(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name.

        Raises:
            click.UsageError: there is none; says which one may have been meant.
        """
        found = super().get_command(ctx, cmd_name)
        if found is None and not cmd_name.startswith("-"):
            raise unknown("command", cmd_name, self.commands, ctx)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands in ``--help``, each with its whole sentence."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.get_short_help_str(limit=200)) for name, command in self.commands.items()])
