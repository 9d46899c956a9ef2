"""``zdl report``: what the cells of a running fabric lend and pull: who holds what, how old, how far, waiting for whom.

The cells are found as ``zdl ls`` finds them, each of which tells of its pulls and of users' code that runs; then all of them are
asked at once for what they lend, page by page. A cell that does not answer is named, and the command ends with 7.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import click

from zdl.assembly import Cell
from zdl.cli.failing import Partial, one_line
from zdl.cli.family import Family
from zdl.cli.joining import Joined, joined, parent_option, timeout_option
from zdl.cli.look import Walk, listed, mapping, number, text
from zdl.cli.output import Column, Output, output_options
from zdl.cli.units import DURATION, duration_text, size_text
from zdl.download.loans import CHANNEL, DIGITS_MIN, LOANS_TOPIC
from zdl.errors import ZdlError
from zdl.fqcn import ROOT, parse

Command = TypeVar("Command", bound=Callable[..., Any])
Facts = Mapping[str, object]
# What of one cell is shown: its transactions are limited to so many by default, ten times over.
LOANS_MAX = 100_000
# A transfer that is under way and has not moved for so long is shown as stalled; fifteen signs of life.
STALLED_S = 30.0
# States in which something is expected to move.
MOVING = frozenset({"pulling", "cut off"})
NAMES_SHOWN_MAX = 4


def _names(names: Sequence[str]) -> str:
    more = len(names) - NAMES_SHOWN_MAX
    return ", ".join(names[:NAMES_SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")


def _age(seconds: float | None) -> str:
    return "" if seconds is None else duration_text(seconds)


REF_COLUMNS = (
    Column("ref", "ref"),
    Column("what", "what"),
    Column("bytes_total", "size", size_text, is_number=True),
    Column("age_s", "age", _age, is_number=True),
    Column("lease_left_s", "lease left", _age, is_number=True),
    Column("state", "state"),
    Column("held_by", "held by", _names),
    Column("have_it", "have it"),
    Column("waits_for", "waits for", _names),
)
TRANSFER_COLUMNS = (
    Column("fqcn", "cell"),
    Column("side", "side"),
    Column("peer", "with"),
    Column("ref", "ref"),
    Column("state", "state"),
    Column("bytes_done", "done", size_text, is_number=True),
    Column("bytes_total", "of", size_text, is_number=True),
    Column("age_s", "age", _age, is_number=True),
    Column("silent_s", "silent", _age, is_number=True),
    Column("way", "way"),
    Column("note", "note"),
)


@dataclass(slots=True)
class Found:
    """What the cells have said.

    Attributes:
        facts: by cell, about itself, and its pulls.
        loans: by cell, what it lends.
        errors: by cell, why it said nothing.
    """

    facts: dict[str, Facts]
    loans: dict[str, list[Facts]]
    errors: dict[str, ZdlError]


@click.group(cls=Family)
def report() -> None:
    """Show what the cells of a running fabric lend and pull."""


def _asking(command: Command) -> Command:
    pattern = click.argument("pattern", default="*")
    root = click.option("--root", default=ROOT, show_default=True, help="The cell to begin with.")
    return pattern(root(parent_option(timeout_option(output_options(command)))))


@report.command()
@_asking
@click.pass_context
def refs(context: click.Context, *, pattern: str, root: str, parent: str, timeout_s: float, is_json: bool) -> None:
    """What the cells that match PATTERN lend: how old it is, who holds it, who has it, who is waited for."""
    with joined(parent, timeout_s=timeout_s) as here:
        found = ask(here, pattern, root=parse(root), timeout_s=timeout_s)
    rows = [ref_row(fqcn, each) for fqcn, loans in found.loans.items() for each in loans]
    Output.of(context, is_json=is_json).table(REF_COLUMNS, sorted(rows, key=lambda row: (row["fqcn"], -_seconds(row["age_s"]))))
    _check(found)


@report.command()
@_asking
@click.option("--ended", "has_ended", is_flag=True, help="The last pulls that have ended, and receivers that have it all, too.")
@click.option("--stalled-after", "stalled_s", type=DURATION, default=STALLED_S, show_default="30s",
              help="What is under way and has not moved for so long is shown as stalled.")
@click.pass_context
def transfers(context: click.Context, *, pattern: str, root: str, has_ended: bool, stalled_s: float, parent: str, timeout_s: float,
              is_json: bool) -> None:
    """What moves between cells, as its origin and as its receiver see it, and users' code that runs for it."""
    with joined(parent, timeout_s=timeout_s) as here:
        found = ask(here, pattern, root=parse(root), timeout_s=timeout_s)
    rows = [row for fqcn in found.facts for row in transfer_rows(
        fqcn, found.facts[fqcn], found.loans.get(fqcn, []), has_ended=has_ended, stalled_s=stalled_s)]
    Output.of(context, is_json=is_json).table(TRANSFER_COLUMNS, rows)
    _check(found)


def ask(here: Joined, pattern: str, *, root: str, timeout_s: float) -> Found:
    """Find the cells from the root down, and ask those whose names match for what they lend.

    Raises:
        ZdlError: the root does not answer.
    """
    walk = Walk(here.cell, timeout_s)
    walk.walk([root])
    if root in walk.errors:
        raise walk.errors[root]
    facts = {name: walk.facts[name] for name in sorted(walk.facts) if fnmatchcase(name, pattern)}
    errors = {name: error for name, error in walk.errors.items() if fnmatchcase(name, pattern)}
    loans = loans_of(here.cell, list(facts), errors, timeout_s=timeout_s)
    return Found(facts, loans, errors)


def loans_of(cell: Cell, names: Sequence[str], errors: dict[str, ZdlError], *, timeout_s: float) -> dict[str, list[Facts]]:
    """What these cells lend; in `errors` goes why one of them did not say."""
    found: dict[str, list[Facts]] = {name: [] for name in names}
    after = dict.fromkeys(names, "")
    while after:
        answers = cell.broadcast({name: {"after": at} for name, at in after.items()}, CHANNEL, LOANS_TOPIC, timeout_s=timeout_s)
        for name, answer in answers.items():
            at = after.pop(name)
            try:
                told = mapping(answer.body)
            except ZdlError as error:
                errors[name] = error
                continue
            found[name] += [each for each in map(mapping, listed(told.get("loans"))) if each]
            behind = text(told.get("next"))
            if behind > at and len(found[name]) < LOANS_MAX:  # else it would be asked for ever
                after[name] = behind
    return found


def ref_row(fqcn: str, loan: Facts) -> dict[str, object]:
    """One transaction as a row; what a cell says may be anything."""
    holders = [mapping(each) for each in listed(loan.get("holders"))]
    held_by = [text(each.get("fqcn")) for each in holders if text(each.get("state")) in ("pulling", "idle", "cut off")]
    wanted, finished = number(loan.get("wanted")), number(loan.get("finished"))
    waits_for = [text(each) for each in listed(loan.get("waits_for"))]
    if not waits_for and wanted > finished:
        waits_for = [f"any {wanted - finished}"]
    return {"fqcn": fqcn, "ref": f"ref:{fqcn}/{text(loan.get('id'))[:DIGITS_MIN]}", "what": _what(loan),
            "bytes_total": number(loan.get("bytes_total")), "age_s": _seconds(loan.get("age_s")),
            "lease_left_s": _seconds(loan.get("lease_left_s")), "state": text(loan.get("state")), "held_by": held_by,
            "have_it": f"{finished} of {wanted}" if wanted else f"{finished}", "waits_for": waits_for, "id": text(loan.get("id")),
            "names": [text(each) for each in listed(loan.get("names"))], "refs": [text(each) for each in listed(loan.get("refs"))],
            "refs_count": number(loan.get("refs_count")), "holders": [dict(each) for each in holders],
            "holders_count": number(loan.get("holders_count"))}


def transfer_rows(fqcn: str, facts: Facts, loans: Sequence[Facts], *, has_ended: bool, stalled_s: float) -> Iterator[
        dict[str, object]]:
    """One cell's transfers: what it lends, receiver by receiver; what it pulls; and users' code that runs for who pulls."""
    for loan in loans:
        label = (text(next(iter(listed(loan.get("refs"))), "")) or f"ref:{text(loan.get('id'))[:DIGITS_MIN]}…")
        base = {"fqcn": fqcn, "side": "lends", "ref": label, "bytes_total": number(loan.get("bytes_total")),
                "age_s": _seconds(loan.get("age_s")), "way": "", "note": _what(loan)}
        begun = set()
        for holder in map(mapping, listed(loan.get("holders"))):
            peer, state, silent_s = text(holder.get("fqcn")), text(holder.get("state")), _seconds(holder.get("silent_s"))
            begun.add(peer)
            if has_ended or state in ("pulling", "idle", "cut off"):
                yield _row(base, peer=peer, state=_state(state, silent_s, stalled_s), bytes_done=number(holder.get("bytes_done")),
                           silent_s=silent_s)
        for peer in map(text, listed(loan.get("waits_for"))):
            if peer not in begun:
                yield _row(base, peer=peer, state="awaited", bytes_done=0, silent_s=None)
    for pull in map(mapping, listed(facts.get("transfers"))):
        is_over = pull.get("seconds") is not None
        if is_over and not has_ended:
            continue
        ended = "failed" if pull.get("error") else "done"
        silent_s = _seconds(pull.get("silent_s"))
        yield {"fqcn": fqcn, "side": "pulls", "peer": text(pull.get("origin")), "ref": text(pull.get("label")),
               "state": ended if is_over else _state("pulling", silent_s, stalled_s), "bytes_done": number(pull.get("bytes_done")),
               "bytes_total": number(pull.get("bytes_total")), "age_s": _seconds(pull.get("age_s")), "silent_s": silent_s,
               "way": text(pull.get("way")), "note": text(pull.get("error")) or text(pull.get("why"))}
    for code in map(mapping, listed(facts.get("running"))):
        yield {"fqcn": fqcn, "side": "runs", "peer": "", "ref": "", "state": "running", "bytes_done": 0, "bytes_total": 0,
               "age_s": _seconds(code.get("age_s")), "silent_s": None, "way": "", "note": text(code.get("what"))}


def _row(base: Mapping[str, object], **more: object) -> dict[str, object]:
    both = {**base, **more}
    return {column.key: both[column.key] for column in TRANSFER_COLUMNS}


def _state(state: str, silent_s: float, stalled_s: float) -> str:
    return "stalled" if state in MOVING and silent_s >= stalled_s else state


def _what(loan: Facts) -> str:
    names = ", ".join(text(each) for each in listed(loan.get("names")))
    what = text(loan.get("what"))
    return f"{what} as {names}".strip() if names and not what.endswith(names) else what


def _seconds(value: object) -> float:
    """A time that somebody else says."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else 0.0


def _check(found: Found) -> None:
    """Raises `Partial` when a cell has said nothing."""
    if found.errors:
        first = next(iter(found.errors.items()))
        told = one_line(str(first[1]), chars_max=200)
        raise Partial(f"{len(found.errors)} of {len(found.errors) + len(found.facts)} cells did not say: {first[0]}: {told}")
