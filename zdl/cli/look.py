"""``zdl ls`` and ``zdl ping``: look at a running fabric.

``ls`` asks the root for its snapshot, then all its children at once for theirs, and so on down the tree. A cell that
does not answer is shown with the reason; what stands below it is asked for by nobody. ``ls --names`` asks one cell for
the names below it, which it was told along the tree, and nobody else. ``ls --peers`` shows the links of each cell in place
of the cell, and ``ls --way TARGET`` asks each cell shown how its messages to that one go, and why so.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase

import click

from zdl.assembly import BELOW_TOPIC, SNAPSHOT_TOPIC, WAY_TOPIC, Cell
from zdl.cell.messages import Answer, Route
from zdl.cell.tree import CHANNEL, PING_TOPIC
from zdl.cli.joining import joined, parent_option, timeout_option
from zdl.cli.output import Column, Output, output_options
from zdl.cli.units import duration_text, size_text
from zdl.errors import FqcnError, ZdlError
from zdl.fqcn import ROOT, is_ancestor, parse, parts

NAMES = (Column("fqcn", "cell"),)

# A fabric larger than this is looked at with a pattern further down, or by its metrics.
CELLS_MAX = 100_000

COLUMNS = (
    Column("fqcn", "cell"),
    Column("state", "state"),
    Column("links_count", "links", is_number=True),
    Column("below_count", "below", is_number=True),
    Column("addresses", "address", lambda addresses: addresses[0] if addresses else ""),
    Column("rss_bytes", "memory", lambda count: size_text(count) if count else "", is_number=True),
    Column("lent_count", "lent", is_number=True),
    Column("error", "last error"),
)
# The way to one cell stands before the last error, which may be long.
WAY_COLUMNS = (
    *COLUMNS[:2],
    Column("way", "way"),
    Column("via", "via"),
    Column("why", "why not directly"),
    *COLUMNS[2:],
)
PEER_COLUMNS = (
    Column("fqcn", "cell"),
    Column("peer", "peer"),
    Column("role", "role"),
    Column("state", "state"),
    Column("address", "address"),
)


@dataclass(frozen=True, slots=True)
class Peer:
    """One control link of a cell, as that cell sees it.

    Attributes:
        peer: the cell at the other end; an address while that has not said its name.
        role: ``parent``, ``child`` or ``direct``.
        state: ``up``, ``stalled``, ``challenged`` or ``greeting``.
        address: what was dialled; empty where the other side dialled.
    """

    peer: str
    role: str
    state: str
    address: str


@dataclass(frozen=True, slots=True)
class Seen:
    """One cell, as ``zdl ls`` shows it.

    Attributes:
        fqcn: its name.
        state: ``up`` or ``stalled``, as the cell above sees it; ``unreachable``.
        links_count: its control links, without the one to who asks.
        below_count: how many cells are below it, at any depth, the one that asks among them.
        addresses: where it listens.
        rss_bytes: memory of its process.
        lent_count: open transactions.
        pid: of its process.
        error: why it cannot reach its parent, or why it cannot be reached.
        peers: its control links, without the one to who asks.
        way: with ``--way``, how its messages to that cell go: the role of the link, as in ``peers``, or ``self`` or ``none``.
        via: the cell at the other end of that link.
        why: why not directly.
    """

    fqcn: str
    state: str
    links_count: int = 0
    below_count: int = 0
    addresses: tuple[str, ...] = ()
    rss_bytes: int = 0
    lent_count: int = 0
    pid: int = 0
    error: str = ""
    peers: tuple[Peer, ...] = ()
    way: str = ""
    via: str = ""
    why: str = ""


# --- ls -----------------------------------------------------------------------------------------


@click.command()
@click.argument("pattern", default="*")
@click.option("--root", default=ROOT, show_default=True, help="The cell to begin with.")
@click.option("--names", "is_names", is_flag=True, help="Only the names below --root, as it knows them; asks no other cell.")
@click.option("--peers", "are_peers", is_flag=True, help="The links of each cell, with their roles and states.")
@click.option("--way", "way_to", metavar="TARGET", help="How the messages of each cell to TARGET go, and why not directly.")
@parent_option
@timeout_option
@output_options
@click.pass_context
def ls(context: click.Context, *, pattern: str, root: str, is_names: bool, are_peers: bool, way_to: str | None, parent: str,
       timeout_s: float, is_json: bool) -> None:
    """List the cells whose names match PATTERN (by default all), from the root down."""
    output = Output.of(context, is_json=is_json)
    target = None if way_to is None else parse(way_to)
    if is_names + are_peers + (target is not None) > 1:
        raise click.UsageError("--names, --peers and --way answer different questions: ask one at a time")
    with joined(parent, timeout_s=timeout_s) as here:
        if is_names:
            names = names_below(here.cell, parse(root), timeout_s=timeout_s)
            output.table(NAMES, [{"fqcn": name} for name in names if fnmatchcase(name, pattern)])
            return
        first = Walk(here.cell, timeout_s)
        first.walk([parse(root)])
        error = first.errors.get(root)
        if error is not None:
            first.walk([here.dialled])  # cut off from the root, one still wants to see where one is
        shown = [name for name in first.seen if fnmatchcase(name, pattern)]
        if target is not None:
            first.ask_way(shown, target)
    seen = [first.seen[name] for name in sorted(shown, key=lambda name: (name != root, parts(name)))]
    if are_peers:
        output.table(PEER_COLUMNS, [{"fqcn": each.fqcn, **asdict(peer)} for each in seen for peer in each.peers])
    else:
        output.table(COLUMNS if target is None else WAY_COLUMNS, [_row(each, has_way=target is not None) for each in seen])
    if error is not None:
        raise error


def _row(seen: Seen, *, has_way: bool) -> dict[str, object]:
    row = asdict(seen)
    return row if has_way else {name: value for name, value in row.items() if name not in ("way", "via", "why")}


def names_below(cell: Cell, root: str, *, timeout_s: float) -> list[str]:
    """The cells below `root`, as it was told along the tree, but for the one that asks.

    Raises:
        NoRoute: there is no such cell.
    """
    told = listed(cell.request(root, CHANNEL, BELOW_TOPIC, timeout_s=timeout_s).body)
    return [name for name in told if isinstance(name, str) and name != cell.fqcn]


class Walk:
    """A walk down the tree.

    Args:
        cell: who asks.
        timeout_s: how long each level may take to answer.

    Attributes:
        seen: the cells, in the order in which they answered.
        facts: what each of those that answered said of itself, as it came: it may be anything.
        errors: why the others did not.
    """

    def __init__(self, cell: Cell, timeout_s: float) -> None:
        self._cell = cell
        self._timeout_s = timeout_s
        self.seen: dict[str, Seen] = {}
        self.facts: dict[str, Mapping[str, object]] = {}
        self.errors: dict[str, ZdlError] = {}

    def walk(self, roots: Sequence[str]) -> None:
        """Ask these cells and all below them, level by level."""
        level = {name: "up" for name in roots if name not in self.seen}
        while level and len(self.seen) < CELLS_MAX:
            answers = self._cell.broadcast(list(level), CHANNEL, SNAPSHOT_TOPIC, timeout_s=self._timeout_s)
            below: dict[str, str] = {}
            for name, answer in answers.items():
                below.update(self._note(name, level[name], answer))
            level = {name: state for name, state in below.items() if name not in self.seen and name != self._cell.fqcn}

    def ask_way(self, names: Sequence[str], target: str) -> None:
        """Ask those of these cells that have answered how their messages to the target go."""
        asked = [name for name in names if name not in self.errors]
        answers = self._cell.broadcast(asked, CHANNEL, WAY_TOPIC, target, timeout_s=self._timeout_s)
        for name, answer in answers.items():
            try:
                facts = mapping(answer.body)
                way, via, why = (text(facts.get(key)) for key in ("role", "via", "why"))
            except ZdlError as error:
                way, via, why = "", "", str(error)
            self.seen[name] = replace(self.seen[name], way=way, via=via, why=why)

    def _note(self, name: str, state: str, answer: Answer) -> dict[str, str]:
        """What a cell said; returns its children and the states of their links."""
        try:
            facts = mapping(answer.body)
        except ZdlError as error:
            self.errors[name] = error
            self.seen[name] = Seen(name, "unreachable", error=str(error))
            return {}
        self.facts[name] = facts
        links = [mapping(each) for each in listed(facts.get("links"))]
        control = [each for each in links if each.get("lane") == "control" and each.get("fqcn") != self._cell.fqcn]
        process = mapping(facts.get("process"))
        addresses = tuple(each for each in listed(facts.get("addresses")) if isinstance(each, str))
        self.seen[name] = Seen(name, state, len(control), number(facts.get("below_count")), addresses,
                               number(process.get("rss_bytes")), number(facts.get("lent_count")),
                               number(process.get("pid")), text(facts.get("parent_error")),
                               tuple(map(_peer, control)))
        return dict(_children(name, control))


def _children(above: str, links: Iterable[Mapping[str, object]]) -> Iterable[tuple[str, str]]:
    """The names below a cell, with the states of their links; a cell speaks for what is below it, and no more."""
    for each in links:
        if each.get("role") != "child":
            continue
        try:
            name = parse(each.get("fqcn"))
        except FqcnError:
            continue
        if is_ancestor(above, name):
            yield name, text(each.get("state"))


def _peer(facts: Mapping[str, object]) -> Peer:
    return Peer(*(text(facts.get(key)) for key in ("fqcn", "role", "state", "address")))


# What other cells say may be anything.

def mapping(value: object) -> Mapping[str, object]:
    """A mapping, or an empty one."""
    return value if isinstance(value, dict) else {}


def listed(value: object) -> Sequence[object]:
    """A list, or an empty one."""
    return value if isinstance(value, (list, tuple)) else ()


def number(value: object) -> int:
    """A whole number, or 0."""
    return value if isinstance(value, int) else 0


def text(value: object) -> str:
    """A text, or an empty one."""
    return value if isinstance(value, str) else ""


# --- ping ---------------------------------------------------------------------------------------


@click.command()
@click.argument("cell")
@click.option("--count", type=click.IntRange(1, 1_000_000), default=4, show_default=True, help="How many round trips.")
@click.option("--trace", "is_traced", is_flag=True, help="Show the way there and the way back.")
@parent_option
@timeout_option
@output_options
@click.pass_context
def ping(context: click.Context, *, cell: str, count: int, is_traced: bool, parent: str, timeout_s: float,
         is_json: bool) -> None:
    """Measure the round trip to CELL, from here by way of --parent."""
    output = Output.of(context, is_json=is_json)
    target = parse(cell)
    with joined(parent, timeout_s=timeout_s) as here:
        # One more, which is not counted: what is traced takes a little longer.
        route = here.cell.tree.route(target, timeout_s) if is_traced else None
        seconds, hops = round_trips(here.cell, target, count=count, timeout_s=timeout_s)
    facts = {"fqcn": target, "count": count, "hops": hops, "min_us": _us(min(seconds)),
             "median_us": _us(statistics.median(seconds)), "max_us": _us(max(seconds))}
    times = f"min {duration_text(min(seconds))}  median {duration_text(statistics.median(seconds))}  " \
            f"max {duration_text(max(seconds))}"
    people = [f"{target}  {count} round trips over {hops} hop{'s' * (hops != 1)}  {times}"]
    if route is not None:
        facts |= {"there": list(route.there), "back": list(route.back)}
        people += _ways(route)
    output.row(facts, people=people)


def round_trips(cell: Cell, target: str, *, count: int, timeout_s: float) -> tuple[list[float], int]:
    """How long each of `count` requests took, one after the other, in seconds; and over how many cells they went.

    Raises:
        NoRoute: there is no such cell.
    """
    seconds = []
    hops = 0
    for _ in range(count):
        began = time.perf_counter()
        hops = cell.request(target, CHANNEL, PING_TOPIC, timeout_s=timeout_s).hops
        seconds.append(time.perf_counter() - began)
    return seconds, hops


def _ways(route: Route) -> list[str]:
    return [f"there  {' → '.join(route.there)}", f"back   {' → '.join(route.back)}"]


def _us(seconds: float) -> float:
    return round(seconds * 1e6, 1)
