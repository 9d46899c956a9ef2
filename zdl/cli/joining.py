"""Joining: how a command becomes a cell of a running fabric, for as long as it runs.

All it is given is an address. It does not know the name of the cell there, and must have a name below it. So it dials
with a name of one part, ``cli-1a2b3c4d``. The root of the fabric welcomes that name. Any other cell refuses it as
``not-below`` and says its own name; then the command joins as ``<that name>.cli-1a2b3c4d``.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from zdl.assembly import Cell
from zdl.cli.units import DURATION, SIZE, size_text
from zdl.errors import Refused
from zdl.options import BWLIMIT_MIN_BYTES_PER_S, UNLIMITED_BYTES_PER_S, Options

Command = TypeVar("Command", bound=Callable[..., Any])
# How long a cell that is there may take to say so; what `BareCell.wait_ready` gives it.
TIMEOUT_S = 10.0
_TAG_BYTES = 4


@dataclass(frozen=True, slots=True)
class Joined:
    """A place in a fabric.

    Attributes:
        cell: ours.
        dialled: the name of the cell above it, whose address was given.
    """

    cell: Cell
    dialled: str


class Address(click.ParamType):  # type: ignore[type-arg]
    """Where a cell of another process can be dialled, or can listen."""

    name = "url"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The address as it stands.

        Raises:
            click.BadParameter: it has no known scheme, or no port.
        """
        text = str(value).strip()
        scheme, _, rest = text.partition("://")
        port = rest.rpartition(":")[2]
        is_tcp = scheme == "tcp" and ":" in rest and (port.isdigit() or port == "*")
        if not is_tcp and not (scheme == "ipc" and rest.startswith("/")):
            self.fail(f"{text!r} is not an address; write for example tcp://127.0.0.1:8800 or ipc:///run/zdl/server",
                      param, ctx)
        return text


ADDRESS = Address()


def parent_option(command: Command) -> Command:
    """``--parent URL``, needed: the cell to join."""
    return click.option("--parent", type=ADDRESS, envvar="ZDL_PARENT", required=True, show_envvar=True,
                        help="The address of a cell of the fabric.")(command)


def timeout_option(command: Command) -> Command:
    """``--timeout``: how long others may take to answer."""
    return click.option("--timeout", "timeout_s", type=DURATION, default=TIMEOUT_S, show_default="10s",
                        envvar="ZDL_TIMEOUT", show_envvar=True,
                        help="How long a cell may take to answer.")(command)


def bwlimit_option(command: Command) -> Command:
    """``--bwlimit SIZE``: bytes in a second."""
    def checked(context: click.Context, param: click.Parameter, value: int | None) -> float:
        """As the options want it."""
        if value is not None and value < BWLIMIT_MIN_BYTES_PER_S:
            raise click.BadParameter(f"{size_text(value)} in a second is less than {size_text(BWLIMIT_MIN_BYTES_PER_S)}")
        return UNLIMITED_BYTES_PER_S if value is None else float(value)

    return click.option("--bwlimit", "bwlimit", metavar="SIZE", type=SIZE, callback=checked,
                        help="Move no more than this in a second, e.g. 10M.")(command)


@contextmanager
def joined(parent: str, *, timeout_s: float, options: Options | None = None) -> Iterator[Joined]:
    """Join below the cell at this address, and leave at the end.

    Args:
        parent: the address.
        timeout_s: how long that may take.
        options: of our cell.

    Raises:
        TimedOut: nobody welcomes us there; says why the last try failed.
        Refused: that cell does not want us.
    """
    until = time.monotonic() + timeout_s
    own = f"cli-{secrets.token_hex(_TAG_BYTES)}"
    with ExitStack() as stack:
        try:
            cell = stack.enter_context(_welcomed(own, parent, until, options))
        except Refused as refused:
            if refused.reason != "not-below":
                raise
            cell = stack.enter_context(_welcomed(f"{refused.by}.{own}", parent, until, options))
        yield Joined(cell, next((each.fqcn for each in cell.peers if each.role == "parent" and each.lane == "control"), ""))


@contextmanager
def _welcomed(fqcn: str, parent: str, until: float, options: Options | None) -> Iterator[Cell]:
    cell = Cell(fqcn, parent=parent, options=options)
    try:
        cell.start()
        cell.wait_ready(max(0.0, until - time.monotonic()))
        yield cell
    finally:
        cell.close()
