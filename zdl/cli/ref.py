"""``zdl ref``: what a cell lends, by hand: end it, where the cell allows that.

The cell is asked, and decides: it refuses unless its option ``offers.removable`` is on. Receivers that still pull are told; who has
all of it keeps what he has.
"""

from __future__ import annotations

import click

from zdl.cli.family import Family
from zdl.cli.get import Lent, RefParam
from zdl.cli.joining import joined, parent_option, timeout_option
from zdl.cli.look import listed, mapping, text
from zdl.cli.output import Output, output_options
from zdl.download.loans import CHANNEL, END_TOPIC
from zdl.errors import Refused, UnknownRef


@click.group(cls=Family)
def ref() -> None:
    """End what a cell lends."""


@ref.command()
@click.argument("refs", metavar="REF...", nargs=-1, required=True, type=RefParam())
@parent_option
@timeout_option
@output_options
@click.pass_context
def rm(context: click.Context, *, refs: tuple[Lent, ...], parent: str, timeout_s: float, is_json: bool) -> None:
    """End what a cell lends: REF is what zdl put, or zdl report refs, has printed. The cell must have been started --removable."""
    output = Output.of(context, is_json=is_json)
    with joined(parent, timeout_s=timeout_s) as here:
        for each in refs:
            try:
                told = here.cell.request(each.origin, CHANNEL, END_TOPIC, {"what": each.name}, timeout_s=timeout_s)
            except Refused as refused:
                if refused.reason == "unknown-ref":
                    raise UnknownRef(ref=f"ref:{each.origin}/{each.name}", origin=each.origin) from refused
                raise
            name = f"ref:{each.origin}/{each.name}"
            ended = [text(number) for number in listed(mapping(told.body).get("ended"))]
            output.result(name, {"ref": name, "ended": ended})
