"""How fast does a leaf get arrays from an origin, and what does it cost?

Two cases. ``mixed``: the arrays of a model, in GiB/s. ``equal``: 5,000 arrays of 4 KiB, in milliseconds for all. Timed
at the leaf from the asking to named arrays in memory that is allocated meanwhile, as zdl does it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass

from zdl_bench.destination import KINDS
from zdl_bench.endpoints import SCHEMES
from zdl_bench.report import Result, write_json, write_table
from zdl_bench.rounds import Case, Rounds, measure as measured
from zdl_bench.sizes import parsed, written
from zdl_bench.state import Load
from zdl_bench.systems import PullSystem, Recipe

MIB = 1 << 20
CASES = ("mixed", "equal")
ITEMS = 5000
ITEM_BYTES = 4096
SYSTEMS = ("zdl", "zdl_quick", "zdl_unverified", "bare_pyzmq", "bare_pyzmq_best", "raw_tcp", "raw_tcp_best", "memcpy",
           "memcpy_fresh")
CEILINGS = ("raw_tcp", "raw_tcp_best", "bare_pyzmq", "bare_pyzmq_best", "memcpy")
# A piece that stays in the cache between the kernel's two copies (data-plane.md, bulk).
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
            told: Callable[[str], None] = lambda line: None) -> list[Result]:
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


def _measured(question: PullQuestion, kind: str, *, told: Callable[[str], None]) -> list[Result]:
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


def main(argv: list[str]) -> int:
    """``python -m zdl_bench.pull [--size 512M] [--chunk 1M] [--window 8M] [--scheme tcp] [--rounds 7] [--json]``."""
    parser = argparse.ArgumentParser(prog="zdl_bench.pull", description=__doc__)
    parser.add_argument("--size", type=parsed, default=PullQuestion().size_bytes, help="of the mixed arrays")
    parser.add_argument("--chunk", type=parsed, default=PullQuestion().chunk_bytes)
    parser.add_argument("--window", type=parsed, default=None, help="without it zdl tunes its own")
    parser.add_argument("--scheme", choices=SCHEMES, default="tcp")
    parser.add_argument("--case", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    parser.add_argument("--destination", choices=KINDS, default=PullQuestion().destination,
                        help="memory of the baselines")
    parser.add_argument("--rounds", type=int, default=Rounds().count)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(argv)
    question = PullQuestion(cases=tuple(asked.case), systems=tuple(asked.systems), scheme=asked.scheme,
                            size_bytes=asked.size, chunk_bytes=asked.chunk, window_bytes=asked.window,
                            destination=asked.destination, rounds=Rounds(asked.rounds))
    found = measure(question, told=lambda line: print(line, file=sys.stderr))
    (write_json if asked.json else write_table)(found, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
