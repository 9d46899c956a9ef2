"""``zdl start``: one cell in the foreground, from being ready to the last goodbye.

Whoever starts it learns that it is ready, and where it listens, from one line of JSON on ``--ready-fd`` or in
``--ready-file``. SIGTERM drains it: it takes no more, finishes what runs within ``--grace``, says goodbye, and exits with
0; a second signal ends it at once.
"""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from zdl.assembly import Cell
from zdl.cli.ending import Ending, Endings, Interrupted
from zdl.cli.failing import INTERRUPTED
from zdl.cli.joining import ADDRESS, timeout_option
from zdl.cli.output import Output, output_options
from zdl.cli.units import DURATION
from zdl.options import OfferOptions, Options, PullOptions

# What a server or relay listens on when nobody said: reachable from this machine only, at a free port.
LISTEN = "tcp://127.0.0.1:0"
GRACE_S = 5.0
STDIN = 0
# Those are not ours to close.
_STANDARD_DESCRIPTORS = 3


@dataclass(frozen=True, slots=True)
class Start:
    """What was asked for; see the options of `start`."""

    role: str
    name: str
    listen: tuple[str, ...]
    parent: str | None
    data_listen: tuple[str, ...]
    load: str | None
    insecure: bool
    advertise: str | None
    is_removable: bool
    same_host: bool
    ready_fd: int | None
    ready_file: Path | None
    until_eof: bool
    grace: float
    timeout_s: float
    is_json: bool


@click.command()
@click.argument("role", type=click.Choice(("server", "relay", "worker")))
@click.argument("name")
@click.option("--listen", type=ADDRESS, multiple=True, metavar="URL",
              help=f"Where cells below connect; may be repeated. A server or relay takes {LISTEN} by default.")
@click.option("--parent", type=ADDRESS, envvar="ZDL_PARENT", show_envvar=True,
              help="The address of the cell above; a server has none.")
@click.option("--data-listen", type=ADDRESS, multiple=True, metavar="URL",
              help="Where objects are pulled from; by default beside --listen.")
@click.option("--load", metavar="MODULE:FUNCTION",
              help="Call this function with the cell before it starts, to register handlers.")
@click.option("--insecure", is_flag=True, help="Listen where other machines can connect, though there are no keys.")
@click.option("--advertise", metavar="HOST",
              help="What other machines call this one, where that is not what --listen binds: they dial HOST, same ports.")
@click.option("--removable", "is_removable", is_flag=True, help="Let other cells end what this one lends: zdl ref rm.")
@click.option("--same-host/--no-same-host", default=True, show_default=True,
              help="Whether what it pulls on this machine comes in shared memory, or is sent all the same.")
@click.option("--ready-fd", type=click.IntRange(min=0), help="When ready, write a line of JSON to this descriptor.")
@click.option("--ready-file", type=click.Path(dir_okay=False, path_type=Path),
              help="The same, to a file that is there while the cell is.")
@click.option("--until-eof", is_flag=True, help="End when the standard input ends.")
@click.option("--grace", type=DURATION, default=GRACE_S, show_default="5s",
              help="How long what runs may go on after SIGTERM.")
@timeout_option
@output_options
@click.pass_context
def start(context: click.Context, /, **asked: Any) -> int:
    """Run one cell, named NAME, in the foreground: a server (the root), a relay, or a worker (a leaf)."""
    wanted = Start(**asked)
    if wanted.role != "server" and wanted.parent is None:
        raise click.UsageError(f"a {wanted.role} needs --parent, the address of the cell above it", context)
    if wanted.role == "server" and wanted.parent is not None:
        if context.get_parameter_source("parent") is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError("a server is the root and has no --parent; start a relay", context)
    if wanted.ready_fd is not None and not is_given(wanted.ready_fd):
        raise click.UsageError(f"--ready-fd {wanted.ready_fd}: this process was given no such descriptor to write to", context)
    return serve(wanted, Output.of(context, is_json=wanted.is_json))


def serve(wanted: Start, output: Output) -> int:
    """Run the cell until something ends it. Returns the exit code.

    Raises:
        TimedOut, Refused: its parent is not there, or does not want it.
        OptionError: an address cannot or must not be bound.
    """
    is_root = wanted.role == "server"
    listen = wanted.listen or (() if wanted.role == "worker" else (LISTEN,))
    with Endings() as endings, ExitStack() as undo:
        try:
            cell = Cell(wanted.name, parent=None if is_root else wanted.parent, listen=listen,
                        data_listen=wanted.data_listen, insecure=wanted.insecure, advertise=wanted.advertise,
                        options=Options(offers=OfferOptions(removable=wanted.is_removable),
                                        pulls=PullOptions(same_host=wanted.same_host)))
            if wanted.load is not None:
                loaded(wanted.load)(cell)
            undo.callback(_close, cell, wanted.grace, output)
            if wanted.ready_file is not None:
                undo.callback(wanted.ready_file.unlink, missing_ok=True)
                wanted.ready_file.unlink(missing_ok=True)  # what a former self left says nothing about this one
            cell.start()
            cell.wait_ready(wanted.timeout_s)
            endings.collect()
            _announce(cell, wanted, output)
            if wanted.until_eof:
                endings.put_at_eof(STDIN)
            ending = endings.wait()
        except Interrupted as early:
            ending = early.ending
    return INTERRUPTED if ending is Ending.INTERRUPTED else 0


def is_given(descriptor: int) -> bool:
    """Whether whoever started this process left it this descriptor to write to; those that are its own are not inherited."""
    try:
        mode = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE
    except OSError:
        return False
    return mode != os.O_RDONLY and os.get_inheritable(descriptor)


def loaded(spec: str) -> Callable[[Cell], object]:
    """The function that ``module:function`` names; the current folder is searched first.

    Raises:
        click.UsageError: there is no such module, or no such function in it.
    """
    module_name, _, function_name = spec.partition(":")
    if not module_name or not function_name.isidentifier():
        raise click.UsageError(f"--load {spec!r} is not MODULE:FUNCTION; write for example --load train:register")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise click.UsageError(f"--load {spec}: {module_name} needs {error.name}, which is not installed") from error
        raise click.UsageError(f"--load {spec}: there is no module {error.name}, in {os.getcwd()} or installed") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        what = "no function" if function is None else "something that cannot be called"
        raise click.UsageError(f"--load {spec}: {module.__file__ or module_name} has {what} of the name {function_name}")
    return function  # type: ignore[no-any-return]


def ready_facts(cell: Cell) -> Mapping[str, object]:
    """What whoever started the cell wants to know."""
    return {"fqcn": cell.fqcn, "addresses": list(cell.addresses), "data_addresses": list(cell.data_addresses),
            "pid": os.getpid()}


def _announce(cell: Cell, wanted: Start, output: Output) -> None:
    facts = ready_facts(cell)
    line = (json.dumps(facts) + "\n").encode()
    if wanted.ready_fd is not None:
        os.write(wanted.ready_fd, line)
        if wanted.ready_fd >= _STANDARD_DESCRIPTORS:
            os.close(wanted.ready_fd)
    if wanted.ready_file is not None:
        part = wanted.ready_file.with_name(f".{wanted.ready_file.name}.{os.getpid()}")
        part.write_bytes(line)
        part.replace(wanted.ready_file)
    where = f" at {' '.join(cell.addresses)}" if cell.addresses else ""
    people = [f"{cell.fqcn} is ready{where}"]
    if cell.addresses:
        people.append(f"next: {shlex.join(['zdl', 'start', 'worker', f'{cell.fqcn}.w0', '--parent', cell.addresses[0]])}")
    output.row(facts, people=people)


def _close(cell: Cell, grace_s: float, output: Output) -> None:
    for each in cell.close(grace_s):
        output.remark(f"{cell.fqcn}: {each}")
