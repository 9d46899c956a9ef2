"""How long does a small request take, and how many are answered per second?

Three cases, all with 64 bytes. ``latency``: one request after the other, the median of all in microseconds, and the 99th
percentile beside it. ``throughput``: 64 requests in flight, in requests per second. ``callers``: 32 threads, each of which
waits for its reply before it asks again, beside one thread of the baselines with as many in flight.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from zdl_bench.endpoints import SCHEMES
from zdl_bench.exchange import PAYLOAD
from zdl_bench.report import Result, write_json, write_table
from zdl_bench.rounds import Case, Rounds, measure as measured
from zdl_bench.systems import EchoSystem, Recipe

CASES = ("latency", "throughput", "callers")
CEILINGS = ("raw_tcp", "bare_pyzmq")
RECIPES: Mapping[str, Recipe] = {recipe.name: recipe for recipe in (
    Recipe("zdl", "zdl_bench.zdl_rtt", {"topic": "pool"}),
    Recipe("zdl_inline", "zdl_bench.zdl_rtt", {"topic": "inline"}),
    Recipe("bare_pyzmq", "zdl_bench.bare_rtt", {}),
    Recipe("raw_tcp", "zdl_bench.raw_rtt", {}),
)}
SYSTEMS = tuple(RECIPES)


@dataclass(frozen=True, slots=True)
class RttQuestion:
    """What to measure.

    Attributes:
        cases: of `CASES`.
        systems: of `SYSTEMS`; ``raw_tcp`` is a unix socket if the scheme is ``ipc``.
        scheme: ``tcp`` or ``ipc``.
        latency_count: requests per run, one after the other.
        throughput_count: requests per run with many in flight.
        in_flight: so many.
        callers: threads that ask.
        rounds: how often.
        is_pinned: whether each end has a core of its own.
    """

    cases: tuple[str, ...] = CASES
    systems: tuple[str, ...] = SYSTEMS
    scheme: str = "tcp"
    latency_count: int = 2000
    throughput_count: int = 20_000
    in_flight: int = 64
    callers: int = 32
    rounds: Rounds = Rounds()
    is_pinned: bool = True

    def __post_init__(self) -> None:
        for name, values, allowed in (("case", self.cases, CASES), ("system", self.systems, SYSTEMS),
                                      ("scheme", (self.scheme,), SCHEMES)):
            for value in values:
                if value not in allowed:
                    raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")


def measure(question: RttQuestion = RttQuestion(), *,
            told: Callable[[str], None] = lambda line: None) -> list[Result]:
    """Measures every case asked for.

    Args:
        question: what, and how often.
        told: is given lines of progress.

    Raises:
        PeerFailed: a measured process failed.
        ValueError: a system stands without a ceiling.
    """
    results: list[Result] = []
    for kind in question.cases:
        results.extend(_measured(question, kind, told=told))
    return results


def _measured(question: RttQuestion, kind: str, *, told: Callable[[str], None]) -> list[Result]:
    arguments = {"count": question.latency_count}
    case = Case("rtt", f"{len(PAYLOAD)}B {question.scheme}", "us", "lower", CEILINGS)
    value_name = "p50_us"
    if kind == "throughput":
        arguments = {"count": question.throughput_count, "in_flight": question.in_flight}
        case = Case("rtt", f"{len(PAYLOAD)}B x{question.in_flight} {question.scheme}", "requests/s", "higher", CEILINGS)
        value_name = "requests_per_s"
    if kind == "callers":
        arguments = {"count": question.throughput_count, "in_flight": question.callers}
        case = Case("rtt", f"{len(PAYLOAD)}B {question.callers} callers {question.scheme}", "requests/s", "higher", CEILINGS)
        value_name = "requests_per_s"
    systems = [EchoSystem(RECIPES[name], scheme=question.scheme, command=kind, arguments=arguments,
                          value_name=value_name, is_pinned=question.is_pinned) for name in question.systems]
    return measured(case, systems, question.rounds, told=told)


def main(argv: list[str]) -> int:
    """``python -m zdl_bench.rtt [--scheme tcp] [--in-flight 64] [--rounds 7] [--unpinned] [--json]``."""
    parser = argparse.ArgumentParser(prog="zdl_bench.rtt", description=__doc__)
    parser.add_argument("--scheme", choices=SCHEMES, default="tcp")
    parser.add_argument("--in-flight", type=int, default=RttQuestion().in_flight)
    parser.add_argument("--case", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    parser.add_argument("--rounds", type=int, default=Rounds().count)
    parser.add_argument("--unpinned", action="store_true", help="let the system choose the cores of both ends")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(argv)
    question = RttQuestion(cases=tuple(asked.case), systems=tuple(asked.systems), scheme=asked.scheme,
                           in_flight=asked.in_flight, rounds=Rounds(asked.rounds), is_pinned=not asked.unpinned)
    found = measure(question, told=lambda line: print(line, file=sys.stderr))
    (write_json if asked.json else write_table)(found, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
