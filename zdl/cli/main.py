"""Main: the command ``zdl``: finds the command, runs it, and turns whatever ends it into a line and an exit code.

Commands are imported when they are called: ``zdl --help`` reads their names and what they do from `COMMANDS`.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType

import click
from click.shell_completion import shell_complete

from zdl import __version__
from zdl.cli.failing import ERROR, exit_code, line
from zdl.cli.family import unknown
from zdl.cli.output import Settings, manner_options

# What the shells' scripts set, made by click: `_ZDL_COMPLETE=bash_source zdl`.
COMPLETION = "_ZDL_COMPLETE"


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a command is, and what it does in a few words."""

    module: str
    attribute: str
    help: str


COMMANDS = MappingProxyType({
    "demo": Entry("zdl.cli.demo", "demo", "A fabric of real processes on this machine, moving a model; shows what it cost."),
    "start": Entry("zdl.cli.start", "start", "Run one cell in the foreground: a server, a relay or a worker."),
    "ls": Entry("zdl.cli.look", "ls", "List the cells of a running fabric."),
    "ping": Entry("zdl.cli.look", "ping", "Measure the round trip to a cell."),
    "report": Entry("zdl.cli.report", "report", "What cells lend and pull: who holds what, how far, waiting for whom."),
    "put": Entry("zdl.cli.put", "put", "Lend files until others have them."),
    "get": Entry("zdl.cli.get", "get", "Fetch what another cell lends, verified."),
    "ref": Entry("zdl.cli.ref", "ref", "End what a cell lends, where it allows that."),
    "bench": Entry("zdl.cli.bench", "bench", "Measure, beside raw sockets, bare pyzmq and memcpy."),
})


class LazyGroup(click.Group):
    """The group of all commands, none of which is imported before it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order in which a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name.

        Raises:
            click.UsageError: there is none; says which one may have been meant.
        """
        entry = COMMANDS.get(cmd_name)
        if entry is not None:
            command = getattr(import_module(entry.module), entry.attribute)
            assert isinstance(command, click.Command)
            _name_variables(command, f"ZDL_{cmd_name.upper()}")
            return command
        if cmd_name.startswith("-"):
            return None
        raise unknown("command", cmd_name, COMMANDS, ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands in ``--help``, from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])


def _name_variables(command: click.Command, prefix: str) -> None:
    """Give every option that has no variable one that is named after its flag: ``ZDL_START_READY_FD``.

    Click's own way to make them takes the names of the parameters, in which the units stand.
    """
    for option in command.params:
        if isinstance(option, click.Option) and not option.envvar:
            flag = max(option.opts, key=len).lstrip("-")
            option.envvar = f"{prefix}_{flag.replace('-', '_').upper()}"
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            _name_variables(below, f"{prefix}_{name.upper()}")


@click.command("zdl", cls=LazyGroup,
               context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="zdl", message="%(prog)s %(version)s")
@manner_options
def zdl() -> None:
    """Messages and very large objects between processes that are arranged as a tree.

    Every option has a variable: --out of zdl get is ZDL_GET_OUT; --parent, --timeout, --json, --quiet and --verbose are
    ZDL_PARENT, ZDL_TIMEOUT and so on for all commands.
    """
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s", level=logging.WARNING)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: without the program's name; by default what the process was given.

    Returns:
        The exit code; see `zdl.cli.failing`.
    """
    settings = Settings()
    words = list(sys.argv[1:] if argv is None else argv)
    logger = logging.getLogger("zdl")
    level = logger.level  # who calls this from a program of his own keeps his
    try:
        if COMPLETION in os.environ:
            return shell_complete(zdl, {}, "zdl", COMPLETION, os.environ[COMPLETION])
        # Not `zdl.main`: it ends the process by itself when a pipe breaks, and hides interrupts.
        with zdl.make_context("zdl", words or ["--help"], obj=settings) as context:
            code = zdl.invoke(context)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except BrokenPipeError:
        # Who read our output wants no more of it: there is nobody to tell, and nothing may be flushed at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ERROR
    except (KeyboardInterrupt, click.Abort) as interrupted:
        return exit_code(interrupted)
    except Exception as error:
        if settings.is_verbose:
            traceback.print_exception(error)
        sys.stderr.write(line(error) + "\n")
        return exit_code(error)
    finally:
        logger.setLevel(level)
