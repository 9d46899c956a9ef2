"""``zdl bench``: how fast it is here, beside how fast it could be; see the package ``zdl_bench`` for the method."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from zdl.cli.output import Output, output_options
from zdl.cli.units import SIZE

Command = TypeVar("Command", bound=Callable[..., Any])
SCHEMES = ("tcp", "ipc")
ROUNDS = 7


@click.group(no_args_is_help=False)
def bench() -> None:
    """Measure, beside raw sockets, bare pyzmq and memcpy in the same run."""


def _round_options(command: Command) -> Command:
    scheme = click.option("--scheme", type=click.Choice(SCHEMES), default=SCHEMES[0], show_default=True)
    rounds = click.option("--rounds", type=click.IntRange(1, 1000), default=ROUNDS, show_default=True,
                          help="How often each system runs; they alternate.")
    return scheme(rounds(command))


@bench.command()
@_round_options
@output_options
@click.pass_context
def rtt(context: click.Context, *, scheme: str, rounds: int, is_json: bool) -> None:
    """How long a request of 64 bytes takes, and how many are answered per second."""
    from zdl_bench import rtt as question
    from zdl_bench.rounds import Rounds

    output = Output.of(context, is_json=is_json)
    _show(question.measure(question.RttQuestion(scheme=scheme, rounds=Rounds(rounds)), told=output.remark), output)


@bench.command()
@_round_options
@output_options
@click.pass_context
def relay(context: click.Context, *, scheme: str, rounds: int, is_json: bool) -> None:
    """What a cell on the way costs a message of 64 bytes, and how many it passes on per second."""
    from zdl_bench import relay as question
    from zdl_bench.rounds import Rounds

    output = Output.of(context, is_json=is_json)
    _show(question.measure(question.RelayQuestion(scheme=scheme, rounds=Rounds(rounds)), told=output.remark), output)


@bench.command()
@click.option("--size", type=SIZE, default="512M", show_default=True, help="Of the arrays together.")
@click.option("--chunk", type=SIZE, default="1M", show_default=True, help="One piece on the wire.")
@click.option("--window", type=SIZE,
              help="How much is asked for and not yet here, e.g. 4M; without it zdl tunes its own.")
@_round_options
@output_options
@click.pass_context
def pull(context: click.Context, *, size: int, chunk: int, window: int | None, scheme: str, rounds: int,
         is_json: bool) -> None:
    """How fast a leaf gets arrays from an origin, and what that costs both."""
    from zdl_bench import pull as question
    from zdl_bench.rounds import Rounds

    output = Output.of(context, is_json=is_json)
    asked = question.PullQuestion(scheme=scheme, size_bytes=size, chunk_bytes=chunk, window_bytes=window,
                                  rounds=Rounds(rounds))
    _show(question.measure(asked, told=output.remark), output)


def _show(results: Any, output: Output) -> None:
    from zdl_bench.report import write_json, write_table

    (write_json if output.is_json else write_table)(results, sys.stdout)
