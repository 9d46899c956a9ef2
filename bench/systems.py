"""What can be run in a round: leaf processes, the origin process they pull from or call, and relays between them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from zdl_bench.exchange import PAYLOAD
from zdl_bench.processes import Child
from zdl_bench.question import Told, silent
from zdl_bench.report import Result
from zdl_bench.rounds import Case, Rounds, Sample, measure
from zdl_bench.shaped import HOST
from zdl_bench.state import Load
from zdl_bench.undisturbed import WARM_BYTES, undisturbed

GIB = 1 << 30
SHAPER = "zdl_bench.shaped:Shaper"
BEHIND = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a system is made.

    Attributes:
        name: in results.
        module: holds the classes ``Leaf`` and, unless it works alone, ``Origin``.
        settings: keyword arguments of the leaf's ``start``.
        origin_settings: the same of the origin's.
        alone: there is no origin; the leaf makes what it needs.
        relay: role of those between leaf and origin, if there shall be any: ``module:Class``.
        is_named: leaves are given a ``name``, below that of their relay.
    """

    name: str
    module: str
    settings: Mapping[str, Any]
    origin_settings: Mapping[str, Any] = field(default_factory=dict)
    alone: bool = False
    relay: str = ""
    is_named: bool = False


@dataclass(frozen=True, slots=True)
class Way:
    """What lies between a leaf and its origin.

    Attributes:
        scheme: of all sockets.
        relays: in a row.
        rtt_ms: of a shaped link.
        bytes_per_s: of that link; 0: there is none.
    """

    scheme: str = "tcp"
    relays: int = 0
    rtt_ms: float = 0.0
    bytes_per_s: int = 0


def refuse_wrong_bytes(system: str, *, came: int, lent: int) -> None:
    """Raises `ValueError` unless the checksums agree: a figure of bytes that did not arrive is no figure."""
    if came != lent:
        raise ValueError(f"{system} delivered wrong bytes: their checksum is {came:#x}, not {lent:#x}")


class Between:
    """The processes between a leaf and its origin.

    Lifetime: as that of the stack they are started with.
    """

    def __init__(self, recipe: Recipe, way: Way) -> None:
        self._recipe = recipe
        self._way = way
        self._shaper = Child(SHAPER) if way.bytes_per_s else None
        self._relays = [Child(recipe.relay) for _ in range(way.relays)]
        # A cell's name is below that of its parent.
        self.leaf_name = ".".join([*(f"relay-{number}" for number in range(way.relays)), "leaf"])

    def start(self, opened: ExitStack, bound: Mapping[str, Any], *, folder: str) -> str:
        """Puts all of them in a row. Returns where the leaf shall dial.

        Args:
            opened: stops them.
            bound: what the origin said of where it listens.
            folder: for unix sockets.
        """
        address = str(bound["address"])
        if self._shaper is not None:
            opened.enter_context(self._shaper)
            self._shaper.ask("start", rtt_ms=self._way.rtt_ms, bytes_per_s=self._way.bytes_per_s)
            # A cell advertises the address of the link; what is behind it is what it listens at.
            for each in (*bound.get("data_addresses", ()), address):
                address = self._shaper.ask("open", address=each.replace(HOST, BEHIND))["address"]
        for number, relay in enumerate(self._relays):
            opened.enter_context(relay)
            place = Path(folder, f"relay-{number}")
            place.mkdir()
            address = relay.ask("start", address=address, scheme=self._way.scheme, folder=str(place),
                                name=".".join(f"relay-{each}" for each in range(number + 1)))["address"]
            relay.ask("meter_start")
        return address

    def read(self) -> dict[str, float]:
        """What the relays have used since they were started: the most that one of them grew."""
        seen = [relay.ask("meter_read") for relay in self._relays]
        grown = [each["peak_growth_bytes"] for each in seen if "peak_growth_bytes" in each]
        return {"relay_peak_rss_bytes": max(grown)} if grown else {}


class PullSystem:
    """Moves one load from an origin to its leaves, which pull at the same time; see `zdl_bench.rounds.System`.

    The unit of its values is GiB/s, of all leaves together, or, with ``in_ms``, milliseconds for the whole load.
    """

    def __init__(self, recipe: Recipe, *, load: Load, way: Way = Way(), leaves: int = 1, in_ms: bool = False) -> None:
        self.name = recipe.name
        self._recipe = recipe
        self._load = load
        self._way = way
        self._in_ms = in_ms
        self._open = ExitStack()
        self._leaves = [Child(f"{recipe.module}:Leaf") for _ in range(leaves)]
        self._origin = None if recipe.alone else Child(f"{recipe.module}:Origin")
        self._between = Between(recipe, way)
        self._pool = ThreadPoolExecutor(leaves)
        self._checksum = 0
        self._lent: dict[str, float] = {}

    def start(self) -> None:
        """Starts the processes and has the state made."""
        recipe, load = self._recipe, asdict(self._load)
        self._open.callback(self._pool.shutdown)
        for leaf in self._leaves:
            self._open.enter_context(leaf)
        if self._origin is None:
            self._checksum = [leaf.ask("start", load=load, **recipe.settings)["checksum"] for leaf in self._leaves][0]
            return
        folder = self._open.enter_context(TemporaryDirectory(prefix="zdl-bench-"))
        self._open.enter_context(self._origin)
        lent = self._origin.ask("start", load=load, scheme=self._way.scheme, folder=folder, **recipe.origin_settings)
        self._checksum = lent["checksum"]
        if "lend_s" in lent:
            self._lent = {"lend_s_per_gib": lent["lend_s"] * GIB / load["size_bytes"]}
        address = self._between.start(self._open, lent, folder=folder)
        for number, leaf in enumerate(self._leaves):
            named = {"name": f"{self._between.leaf_name}-{number}"} if recipe.is_named else {}
            leaf.ask("start", address=address, **recipe.settings, **named)

    def run(self) -> Sample:
        """All leaves pull once; ``extra`` holds CPU seconds per GiB and, of pairs, memory: how far the origin grew, how far
        the leaf that grew most did at its highest beyond the object itself (far below 0 where malloc still had an earlier
        one's), and how far a relay has grown since it was started.

        Raises:
            ValueError: other bytes came than were lent.
        """
        length = self._load.size_bytes * len(self._leaves) + WARM_BYTES
        return undisturbed(self._once, load_bytes=self._load.size_bytes, warm=lambda is_settled: self._leaves[0].ask(
            "memory_warmed", length=length, is_settled=is_settled))

    def _once(self) -> Sample:
        if self._origin is not None:
            self._origin.ask("meter_start")
        pulled = list(self._pool.map(lambda leaf: leaf.ask("pull"), self._leaves))
        size_gib = self._load.size_bytes * len(self._leaves) / GIB
        elapsed_s = max(each["ended_at"] for each in pulled) - min(each["began_at"] for each in pulled)
        extra = {"leaf_cpu_s_per_gib": sum(each["cpu_s"] for each in pulled) / size_gib}
        if self._origin is not None:
            lent = self._origin.ask("meter_read")
            extra |= {"origin_cpu_s_per_gib": lent["cpu_s"] / size_gib, **self._lent}
            if "peak_growth_bytes" in lent:
                grown = max(each["peak_growth_bytes"] for each in pulled)
                extra["leaf_peak_rss_bytes"] = grown - self._load.size_bytes
                extra["origin_peak_rss_bytes"] = lent["peak_growth_bytes"]
            extra |= self._between.read()
        for leaf in self._leaves:
            refuse_wrong_bytes(self.name, came=leaf.ask("checked")["checksum"], lent=self._checksum)
        return Sample(value=elapsed_s * 1000 if self._in_ms else size_gib / elapsed_s, extra=extra,
                      curve=tuple((at_s, done) for at_s, done in pulled[0]["curve"]))

    def stop(self) -> None:
        """Ends the processes, leaves last."""
        self._open.close()


def two_cores() -> tuple[int | None, int | None]:
    """A core for each of two processes, where the system lets us choose and there are two."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return (cores[0], cores[1]) if len(cores) > 1 else (None, None)


class EchoSystem:
    """Small requests from a leaf to an origin; see `zdl_bench.rounds.System`.

    Each run calls one command of the leaf; ``value_name`` picks the figure among what it returns, the rest is extra.

    Pinned, each end has a core of its own, as two machines would. Otherwise the system sometimes runs both on one core,
    which halves the time of whoever does little between two messages, and then again does not.
    """

    def __init__(self, recipe: Recipe, *, command: str, arguments: Mapping[str, Any], value_name: str, way: Way = Way(),
                 is_pinned: bool = True) -> None:
        self.name = recipe.name
        self._recipe = recipe
        self._way = way
        self._command = command
        self._arguments = arguments
        self._value_name = value_name
        self._open = ExitStack()
        leaf_core, origin_core = two_cores() if is_pinned else (None, None)
        self._leaf = Child(f"{recipe.module}:Leaf", core=leaf_core)
        self._origin = Child(f"{recipe.module}:Origin", core=origin_core)
        self._between = Between(recipe, way)

    def start(self) -> None:
        """Starts the processes and connects them."""
        recipe = self._recipe
        folder = self._open.enter_context(TemporaryDirectory(prefix="zdl-bench-"))
        self._open.enter_context(self._leaf)
        self._open.enter_context(self._origin)
        bound = self._origin.ask("start", scheme=self._way.scheme, folder=folder, **recipe.origin_settings)
        named = {"name": self._between.leaf_name} if recipe.is_named else {}
        address = self._between.start(self._open, bound, folder=folder)
        self._leaf.ask("start", address=address, **recipe.settings, **named)

    def run(self) -> Sample:
        """Calls the leaf's command once."""
        seen = self._leaf.ask(self._command, **self._arguments)
        value = seen.pop(self._value_name)
        return Sample(value=value, extra=seen)

    def stop(self) -> None:
        """Ends the processes, origin first."""
        self._open.close()


@dataclass(frozen=True, slots=True)
class Exchanges:
    """One case of small messages: which command of the leaf is called, and which of its figures counts.

    Attributes:
        case: as it is reported.
        command: of the leaf.
        arguments: of the command.
        value_name: the figure.
    """

    case: Case
    command: str
    arguments: Mapping[str, Any]
    value_name: str

    @classmethod
    def single(cls, bench: str, shown: str, ceilings: tuple[str, ...], *, count: int) -> Exchanges:
        """One message after the other: microseconds."""
        case = Case(bench, f"{len(PAYLOAD)}B {shown}", "us", "lower", ceilings)
        return cls(case, "latency", {"count": count}, "p50_us")

    @classmethod
    def many(cls, case: Case, *, command: str, count: int, in_flight: int) -> Exchanges:
        """Many on their way at once: messages per second."""
        return cls(case, command, {"count": count, "in_flight": in_flight}, "requests_per_s")

    def measured(self, recipes: Iterable[Recipe], rounds: Rounds, *, way: Way = Way(), is_pinned: bool = True,
                 told: Told = silent) -> list[Result]:
        """Has each system do it."""
        systems = [EchoSystem(recipe, way=way, command=self.command, arguments=self.arguments, value_name=self.value_name,
                              is_pinned=is_pinned) for recipe in recipes]
        return measure(self.case, systems, rounds, told=told)


def refuse_unknown(**given: tuple[Sequence[object], Sequence[object]]) -> None:
    """Raises `ValueError` for what is not allowed.

    Args:
        given: by name, what is wanted and what is allowed.
    """
    for name, (values, allowed) in given.items():
        for value in values:
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}, not {value!r}")
