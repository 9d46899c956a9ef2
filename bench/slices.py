"""What does an eighth of a lent array cost: its rows, and its columns, beside an array of that size?

``bytes``: what came over the leaf's sockets, with all framing, by the bytes of the part; the ceiling is what zdl promises.
``speed``: in GiB/s of the part, rows lie in one piece, columns are gathered by the origin. Beside them bare pyzmq pulls an array
that is as large as the part. Each part is compared with numpy's.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import isqrt
from tempfile import TemporaryDirectory

from zdl_bench.processes import Child
from zdl_bench.pull import PullQuestion, recipe
from zdl_bench.question import Bench, Flag, Told, silent
from zdl_bench.report import Environment, Result
from zdl_bench.rounds import Case, Rounds, Sample, System, played, results
from zdl_bench.sizes import written
from zdl_bench.slices_roles import EIGHTH, PARTS
from zdl_bench.state import Load
from zdl_bench.systems import PullSystem

MIB = 1 << 20
GIB = 1 << 30
BARE = "bare_pyzmq"
BOUND = "bound"
WIRE_MAX = 1.05
_ITEMSIZE = 4


@dataclass(frozen=True, slots=True)
class SlicesQuestion:
    """What to measure.

    Attributes:
        size_bytes: of the array; its sides are alike, and a multiple of eight.
        rounds: how often.
    """

    size_bytes: int = 256 * MIB
    rounds: Rounds = Rounds()

    def __post_init__(self) -> None:
        if self.side % EIGHTH or self.side ** 2 * _ITEMSIZE != self.size_bytes or not self.side:
            raise ValueError(f"size_bytes must be 4 times the square of a multiple of {EIGHTH}, not {self.size_bytes}")

    @property
    def side(self) -> int:
        """Of the array."""
        return isqrt(self.size_bytes // _ITEMSIZE)


class SliceSystem:
    """Pulls one kind of eighth; see `zdl_bench.rounds.System`."""

    def __init__(self, part: str, side: int) -> None:
        self.name = f"zdl_{part}"
        self._part = part
        self._side = side
        self._open = ExitStack()
        self._leaf = Child("zdl_bench.slices_roles:Leaf")

    def start(self) -> None:
        """Starts the processes and connects them."""
        folder = self._open.enter_context(TemporaryDirectory(prefix="zdl-bench-"))
        origin = self._open.enter_context(Child("zdl_bench.slices_roles:Origin"))
        self._open.enter_context(self._leaf)
        address = origin.ask("start", scheme="tcp", folder=folder, side=self._side)["address"]
        self._leaf.ask("start", address=address, side=self._side)

    def run(self) -> Sample:
        """Once."""
        self._leaf.ask("memory_warmed", length=self._side ** 2 * _ITEMSIZE // EIGHTH)
        seen = self._leaf.ask("pull", part=self._part)
        return Sample(seen["part_bytes"] / GIB / seen["elapsed_s"], {"wire_ratio": seen["wire_bytes"] / seen["part_bytes"]})

    def stop(self) -> None:
        """Ends the processes."""
        self._open.close()


def measure(question: SlicesQuestion = SlicesQuestion(), *, told: Told = silent) -> list[Result]:
    """Measures both kinds of eighths.

    Raises:
        PeerFailed: a measured process failed, or other numbers came than were lent.
    """
    bare = PullSystem(recipe(BARE, PullQuestion()), load=Load("single", question.size_bytes // EIGHTH))
    systems: list[System] = [*(SliceSystem(part, question.side) for part in PARTS), bare]
    rounds = played(systems, question.rounds, told=told)
    name = f"1/{EIGHTH} of {written(question.size_bytes)} tcp"
    wire = [{**{each: Sample(found.extra["wire_ratio"]) for each, found in seen.items() if each != BARE}, BOUND: Sample(WIRE_MAX)}
            for seen in rounds]
    speed = [{each: replace(found, extra={}) if each != BARE else found for each, found in seen.items()} for seen in rounds]
    environment = Environment.found()
    return [*results(Case("slices", f"bytes {name}", "bytes/byte", "lower", (BOUND,)), wire, environment),
            *results(Case("slices", f"speed {name}", "GiB/s", "higher", (BARE,)), speed, environment)]


BENCH = Bench(SlicesQuestion, measure, (Flag("size", "size_bytes", "Of the array."),))
