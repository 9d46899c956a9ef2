"""How fast does a leaf get arrays from an origin, and what does it cost?

Two cases. ``mixed``: the arrays of a model, in GiB/s. ``equal``: 5,000 arrays of 4 KiB, in milliseconds for all. Timed
at the leaf from the asking to named arrays in memory that is allocated meanwhile, as zdl does it.
"""

from __future__ import annotations

from dataclasses import dataclass

from zdl_bench.destination import KINDS
from zdl_bench.endpoints import SCHEMES
from zdl_bench.question import Bench, Flag, Told, silent
from zdl_bench.report import Result
from zdl_bench.rounds import Case, Rounds, measure as measured
from zdl_bench.sizes import written
from zdl_bench.state import Load
from zdl_bench.systems import PullSystem, Recipe

MIB = 1 << 20
CASES = ("mixed", "equal")
ITEMS = 5000
ITEM_BYTES = 4096
SYSTEMS = ("zdl", "zdl_quick", "zdl_unverified", "bare_pyzmq", "bare_pyzmq_best", "raw_tcp", "raw_tcp_best", "memcpy",
           "memcpy_fresh")
CEILINGS = ("raw_tcp", "raw_tcp_best", "bare_pyzmq", "bare_pyzmq_best", "memcpy")
# A piece that stays in the cache between the kernel's two copies.
RAW_PIECE_BYTES = 256 * 1024
# The best of 128 KiB to 1 MiB with the congestion control below, by 5 % over 256 KiB; see `zdl_bench.raw_tcp`.
BEST_PIECE_BYTES = 512 * 1024
# Every Linux has it and lets every user choose it.
BEST_CONGESTION = "reno"
# What a system without a window that tunes itself gets; eight chunks of 1 MiB fill one host's pipe.
WINDOW_BYTES = 8 * MIB


@dataclass(frozen=True, slots=True)
class PullQuestion:
    """What to measure.

    Attributes:
        cases: of `CASES`.
        systems: of `SYSTEMS`; ``raw_tcp`` is a unix socket if the scheme is ``ipc``.
        scheme: ``tcp`` or ``ipc``.
        size_bytes: of the mixed arrays together.
        chunk_bytes: one frame of zdl and of bare pyzmq.
        window_bytes: asked for and not here; None lets zdl tune it and gives bare pyzmq `WINDOW_BYTES`.
        destination: memory of the baselines; only ``aligned`` is fresh in every round, see `zdl_bench.destination`.
        rounds: how often.
    """

    cases: tuple[str, ...] = CASES
    systems: tuple[str, ...] = SYSTEMS
    scheme: str = "tcp"
    size_bytes: int = 512 * MIB
    chunk_bytes: int = MIB
    window_bytes: int | None = None
    destination: str = "aligned"
    rounds: Rounds = Rounds()

    def __post_init__(self) -> None:
        for name, values, allowed in (("case", self.cases, CASES), ("system", self.systems, SYSTEMS),
                                      ("scheme", (self.scheme,), SCHEMES),
                                      ("destination", (self.destination,), KINDS)):
            for value in values:
                if value not in allowed:
                    raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")


def measure(question: PullQuestion = PullQuestion(), *,
            told: Told = silent) -> list[Result]:
    """Measures every case asked for.

    Args:
        question: what, and how often.
        told: is given lines of progress.

    Raises:
        PeerFailed: a measured process failed.
        ValueError: a system delivered wrong bytes, or stands without a ceiling.
    """
    results: list[Result] = []
    for kind in question.cases:
        results.extend(_measured(question, kind, told=told))
    return results


def _measured(question: PullQuestion, kind: str, *, told: Told) -> list[Result]:
    if kind == "mixed":
        load = Load(kind, question.size_bytes)
        case = Case("pull", f"{written(load.size_bytes)}-mixed {question.scheme}", "GiB/s", "higher", CEILINGS)
    else:
        load = Load(kind, ITEMS * ITEM_BYTES, items=ITEMS)
        case = Case("pull", f"{ITEMS}x{written(ITEM_BYTES)} {question.scheme}", "ms", "lower", CEILINGS)
    systems = [PullSystem(_recipe(name, question), load=load, scheme=question.scheme, in_ms=case.unit == "ms")
               for name in question.systems]
    return measured(case, systems, question.rounds, told=told)


def _recipe(name: str, question: PullQuestion) -> Recipe:
    chunk_bytes, destination = question.chunk_bytes, question.destination
    bare = {"chunk_bytes": chunk_bytes, "window_bytes": question.window_bytes or WINDOW_BYTES,
            "destination": destination}
    match name:
        case "zdl" | "zdl_quick" | "zdl_unverified":
            verify = {"zdl": "blake3", "zdl_quick": "xxh3"}.get(name, "none")
            return Recipe(name, "zdl_bench.zdl_pull",
                          {"chunk_bytes": chunk_bytes, "window_bytes": question.window_bytes, "verify": verify})
        case "bare_pyzmq":
            return Recipe(name, "zdl_bench.bare_zmq", bare)
        case "bare_pyzmq_best":
            return Recipe(name, "zdl_bench.bare_zmq", {**bare, "is_primed": True}, {"congestion": BEST_CONGESTION})
        case "raw_tcp":
            return Recipe(name, "zdl_bench.raw_tcp", {"piece_bytes": RAW_PIECE_BYTES, "destination": destination})
        case "raw_tcp_best":
            return Recipe(name, "zdl_bench.raw_tcp", {"piece_bytes": BEST_PIECE_BYTES, "destination": destination},
                          {"congestion": BEST_CONGESTION})
        case "memcpy" | "memcpy_fresh":
            settings = {"fresh": name == "memcpy_fresh", "destination": destination}
            return Recipe(name, "zdl_bench.memcpy", settings, alone=True)
    raise ValueError(f"system must be one of {', '.join(SYSTEMS)}, not {name!r}")


BENCH = Bench(PullQuestion, measure, (
    Flag("size", "size_bytes", "Of the mixed arrays together."),
    Flag("chunk", "chunk_bytes", "One piece on the wire."),
    Flag("window", "window_bytes", "How much is asked for and not yet here, e.g. 4M; without it zdl tunes its own."),
    Flag("scheme", "scheme", "How they are linked.", SCHEMES),
    Flag("case", "cases", "What is pulled.", CASES),
    Flag("systems", "systems", "Who is measured.", SYSTEMS),
    Flag("destination", "destination", "Memory of the baselines.", KINDS)))
