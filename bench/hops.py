"""What do relays cost, that stand between a leaf and its origin?

``zdl``: the relays pass on a reference, and the leaf pulls straight from the origin; ``zdl_routed``: the chunks take the way
through all relays too. Beside them ``bare_proxy``: as many of libzmq's own proxies (C code), through which the leaf of bare
pyzmq asks for its chunks. In GiB/s; and a request of 64 bytes and its reply through all of them, in microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from zdl_bench.endpoints import SCHEMES
from zdl_bench.pull import MIB, WINDOW_BYTES
from zdl_bench.question import Bench, Flag, Told, silent
from zdl_bench.report import Result
from zdl_bench.rounds import Case, Rounds, measure as measured
from zdl_bench.sizes import written
from zdl_bench.state import Load
from zdl_bench.systems import Exchanges, PullSystem, Recipe, Way, refuse_unknown

RELAYS_MAX = 3
CASES = ("pull", "rtt")
CEILINGS = ("bare_proxy",)
_CELL, _PROXY = "zdl_bench.zdl_pull:Relay", "zdl_bench.bare_chain:Relay"


@dataclass(frozen=True, slots=True)
class HopsQuestion:
    """What to measure.

    Attributes:
        cases: of `CASES`.
        relays: one case for each number, from one to so many.
        scheme: ``tcp`` or ``ipc``.
        size_bytes: of the arrays together.
        verify: of zdl.
        count: requests per run.
        rounds: how often.
    """

    cases: tuple[str, ...] = CASES
    relays: int = 1
    scheme: str = "tcp"
    size_bytes: int = 256 * MIB
    verify: str = "auto"
    count: int = 1000
    rounds: Rounds = Rounds()

    def __post_init__(self) -> None:
        refuse_unknown(case=(self.cases, CASES), scheme=((self.scheme,), SCHEMES))
        if not 1 <= self.relays <= RELAYS_MAX:
            raise ValueError(f"relays must be from 1 to {RELAYS_MAX}, not {self.relays}")


def pulling(question: HopsQuestion) -> list[Recipe]:
    """The systems that pull."""
    bare = {"chunk_bytes": MIB, "window_bytes": WINDOW_BYTES, "destination": "aligned", "is_primed": True}
    pulls = {"verify": question.verify, "same_host": False}
    return [Recipe("zdl", "zdl_bench.zdl_pull", {"pulls": pulls}, relay=_CELL, is_named=True),
            Recipe("zdl_routed", "zdl_bench.zdl_pull", {"pulls": pulls, "direct": False}, relay=_CELL, is_named=True),
            Recipe("bare_proxy", "zdl_bench.bare_zmq", bare, relay=_PROXY)]


def measure(question: HopsQuestion = HopsQuestion(), *, told: Told = silent) -> list[Result]:
    """Measures both cases with each number of relays.

    Raises:
        PeerFailed: a measured process failed.
        ValueError: wrong bytes came.
    """
    results: list[Result] = []
    for relays in range(1, question.relays + 1):
        way = Way(question.scheme, relays=relays)
        shown = f"{question.scheme} {relays} relay{'s' if relays > 1 else ''}"
        if "pull" in question.cases:
            load = Load("mixed", question.size_bytes)
            case = Case("hops", f"{written(load.size_bytes)}-mixed {shown}", "GiB/s", "higher", CEILINGS)
            systems = [PullSystem(recipe, load=load, way=way) for recipe in pulling(question)]
            results.extend(measured(case, systems, question.rounds, told=told))
        if "rtt" in question.cases:
            recipes = [Recipe("zdl", "zdl_bench.zdl_rtt", {"topic": "pool", "direct": False}, relay=_CELL, is_named=True),
                       Recipe("bare_proxy", "zdl_bench.bare_rtt", {}, relay=_PROXY)]
            asked = Exchanges.single("hops", shown, CEILINGS, count=question.count)
            results.extend(asked.measured(recipes, question.rounds, way=way, told=told))
    return results


BENCH = Bench(HopsQuestion, measure, (
    Flag("relays", "relays", "Cases with one relay up to so many."),
    Flag("case", "cases", "What goes through them.", CASES),
    Flag("size", "size_bytes", "Of the arrays together."),
    Flag("verify", "verify", "Of zdl: auto, blake3, xxh3 or none."),
    Flag("scheme", "scheme", "How they are linked.", SCHEMES)))
