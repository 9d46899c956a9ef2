"""What can be run in a round: a leaf process, and the origin process it pulls from or calls."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from tempfile import TemporaryDirectory
from typing import Any

from zdl_bench.exchange import PAYLOAD
from zdl_bench.processes import Child
from zdl_bench.question import Told, silent
from zdl_bench.report import Result
from zdl_bench.rounds import Case, Rounds, Sample, measure
from zdl_bench.state import Load

GIB = 1 << 30
# Beyond the object: buffers of the process and of the kernel.
WARM_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a system is made.

    Attributes:
        name: in results.
        module: holds the classes ``Leaf`` and, unless it works alone, ``Origin``.
        settings: keyword arguments of the leaf's ``start``.
        origin_settings: the same of the origin's.
        alone: there is no origin; the leaf makes what it needs.
    """

    name: str
    module: str
    settings: Mapping[str, Any]
    origin_settings: Mapping[str, Any] = field(default_factory=dict)
    alone: bool = False


def refuse_wrong_bytes(system: str, *, came: int, lent: int) -> None:
    """Raises `ValueError` unless the checksums agree: a figure of bytes that did not arrive is no figure."""
    if came != lent:
        raise ValueError(f"{system} delivered wrong bytes: their checksum is {came:#x}, not {lent:#x}")


class PullSystem:
    """Moves one load from an origin to a leaf; see `zdl_bench.rounds.System`.

    The unit of its values is GiB/s or, with ``in_ms``, milliseconds for the whole load.
    """

    def __init__(self, recipe: Recipe, *, load: Load, scheme: str, in_ms: bool = False) -> None:
        self.name = recipe.name
        self._recipe = recipe
        self._load = load
        self._scheme = scheme
        self._in_ms = in_ms
        self._open = ExitStack()
        self._leaf = Child(f"{recipe.module}:Leaf")
        self._origin = None if recipe.alone else Child(f"{recipe.module}:Origin")
        self._checksum = 0

    def start(self) -> None:
        """Starts the processes and has the state made."""
        self._open.enter_context(self._leaf)
        load = asdict(self._load)
        if self._origin is None:
            self._checksum = self._leaf.ask("start", load=load, **self._recipe.settings)["checksum"]
            return
        folder = self._open.enter_context(TemporaryDirectory(prefix="zdl-bench-"))
        self._open.enter_context(self._origin)
        lent = self._origin.ask("start", load=load, scheme=self._scheme, folder=folder,
                                **self._recipe.origin_settings)
        self._checksum = lent["checksum"]
        self._leaf.ask("start", address=lent["address"], **self._recipe.settings)

    def run(self) -> Sample:
        """Pulls once; ``extra`` holds CPU seconds per GiB and, of pairs, memory: how far the origin grew, and how far
        the leaf grew at its highest beyond the object itself (far below 0 where malloc still had an earlier one's).

        Raises:
            ValueError: other bytes came than were lent.
        """
        self._leaf.ask("memory_warmed", length=self._load.size_bytes + WARM_BYTES)
        if self._origin is not None:
            self._origin.ask("meter_start")
        pulled = self._leaf.ask("pull")
        refuse_wrong_bytes(self.name, came=pulled["checksum"], lent=self._checksum)
        size_gib = self._load.size_bytes / GIB
        extra = {"leaf_cpu_s_per_gib": pulled["cpu_s"] / size_gib}
        if self._origin is not None:
            lent = self._origin.ask("meter_read")
            extra["origin_cpu_s_per_gib"] = lent["cpu_s"] / size_gib
            if "peak_growth_bytes" in pulled:
                extra["leaf_peak_rss_bytes"] = pulled["peak_growth_bytes"] - self._load.size_bytes
            if "peak_growth_bytes" in lent:
                extra["origin_peak_rss_bytes"] = lent["peak_growth_bytes"]
        elapsed_s = pulled["elapsed_s"]
        return Sample(value=elapsed_s * 1000 if self._in_ms else size_gib / elapsed_s, extra=extra)

    def stop(self) -> None:
        """Ends the processes, origin first."""
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

    def __init__(self, recipe: Recipe, *, scheme: str, command: str, arguments: Mapping[str, Any],
                 value_name: str, is_pinned: bool = True) -> None:
        self.name = recipe.name
        self._recipe = recipe
        self._scheme = scheme
        self._command = command
        self._arguments = arguments
        self._value_name = value_name
        self._open = ExitStack()
        leaf_core, origin_core = two_cores() if is_pinned else (None, None)
        self._leaf = Child(f"{recipe.module}:Leaf", core=leaf_core)
        self._origin = Child(f"{recipe.module}:Origin", core=origin_core)

    def start(self) -> None:
        """Starts the processes and connects them."""
        folder = self._open.enter_context(TemporaryDirectory(prefix="zdl-bench-"))
        self._open.enter_context(self._leaf)
        self._open.enter_context(self._origin)
        bound = self._origin.ask("start", scheme=self._scheme, folder=folder, **self._recipe.origin_settings)
        self._leaf.ask("start", address=bound["address"], **self._recipe.settings)

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
    arguments: Mapping[str, int]
    value_name: str

    @classmethod
    def single(cls, bench: str, scheme: str, ceilings: tuple[str, ...], *, count: int) -> Exchanges:
        """One message after the other: microseconds."""
        case = Case(bench, f"{len(PAYLOAD)}B {scheme}", "us", "lower", ceilings)
        return cls(case, "latency", {"count": count}, "p50_us")

    @classmethod
    def many(cls, case: Case, *, command: str, count: int, in_flight: int) -> Exchanges:
        """Many on their way at once: messages per second."""
        return cls(case, command, {"count": count, "in_flight": in_flight}, "requests_per_s")

    def measured(self, recipes: Iterable[Recipe], rounds: Rounds, *, scheme: str, is_pinned: bool = True,
                 told: Told = silent) -> list[Result]:
        """Has each system do it."""
        systems = [EchoSystem(recipe, scheme=scheme, command=self.command, arguments=self.arguments,
                              value_name=self.value_name, is_pinned=is_pinned) for recipe in recipes]
        return measure(self.case, systems, rounds, told=told)
