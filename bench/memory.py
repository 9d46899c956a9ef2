"""How much memory does a pull take, beyond what it brings, and what may it take?

All processes are new in each round. The leaf: at its highest, beyond the object that it pulls. The origin, and a relay: how
far they grew. The arrays pass the relay either as references alone, or chunk by chunk. Beside each figure stands its bound:
two windows for the leaf, the origin, and a relay on the way of the chunks; 16 MiB for a relay of references, however much is
pulled past it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from zdl.options import PullOptions
from zdl_bench.hops import HopsQuestion, pulling
from zdl_bench.pull import MIB
from zdl_bench.question import Bench, Flag, Told, silent
from zdl_bench.report import Environment, Result
from zdl_bench.rounds import Case, Rounds, Sample, results
from zdl_bench.sizes import written
from zdl_bench.state import Load
from zdl_bench.systems import PullSystem, Way

SYSTEMS = ("zdl", "zdl_routed")
ROLES = ("leaf", "origin", "relay")
WINDOWS_BYTES = 2 * PullOptions().window_bytes_max
REFERENCES_BYTES = 16 * MIB


@dataclass(frozen=True, slots=True)
class MemoryQuestion:
    """What to measure.

    Attributes:
        size_bytes: of the arrays together.
        pulls: so many by the same leaf, one after the other.
        rounds: how often.
    """

    size_bytes: int = 1024 * MIB
    pulls: int = 5
    rounds: Rounds = Rounds(3, warm_ups=0)

    def __post_init__(self) -> None:
        if self.pulls < 1:
            raise ValueError(f"pulls must be at least 1, not {self.pulls}")


def measure(question: MemoryQuestion = MemoryQuestion(), *, told: Told = silent) -> list[Result]:
    """Measures all roles in both ways.

    Raises:
        PeerFailed: a measured process failed.
        RuntimeError: this system does not tell how much memory a process takes.
        ValueError: wrong bytes came.
    """
    rounds: list[dict[str, Mapping[str, float]]] = []
    for number in range(question.rounds.warm_ups + question.rounds.count):
        rounds.append({name: _grown(name, question) for name in SYSTEMS})
        for name, grown in rounds[-1].items():
            told(f"round {number + 1}  {name}  " + "  ".join(f"{role} {each / MIB:.3g} MiB" for role, each in grown.items()))
    environment = Environment.found()
    found: list[Result] = []
    shown = f"{question.pulls}x{written(question.size_bytes)} tcp"
    for role in ROLES:
        for name in SYSTEMS:
            bound = REFERENCES_BYTES if (role, name) == ("relay", "zdl") else WINDOWS_BYTES
            counted = [{name: Sample(each[name][role] / MIB), "bound": Sample(bound / MIB)}
                       for each in rounds[question.rounds.warm_ups:]]
            found.extend(results(Case("memory", f"{role} {name} {shown}", "MiB", "lower", ("bound",)), counted, environment))
    return found


def _grown(name: str, question: MemoryQuestion) -> dict[str, float]:
    """The most that each role grew; what is freed meanwhile is no growth."""
    recipe = next(each for each in pulling(HopsQuestion()) if each.name == name)
    system = PullSystem(recipe, load=Load("mixed", question.size_bytes), way=Way(relays=1))
    grown = dict.fromkeys(ROLES, 0.0)
    try:
        system.start()
        for _ in range(question.pulls):
            extra = system.run().extra
            if "leaf_peak_rss_bytes" not in extra:
                raise RuntimeError("this system does not tell the highest memory of a process")
            for role in ROLES:
                grown[role] = max(grown[role], extra[f"{role}_peak_rss_bytes"])
    finally:
        system.stop()
    return grown


BENCH = Bench(MemoryQuestion, measure, (
    Flag("size", "size_bytes", "Of the arrays together."),
    Flag("pulls", "pulls", "How often the same leaf pulls them.")))
