"""What does a relay cost a small message, and how many can it pass on per second?

Both ends are bare sockets in one process; between them stands a cell, or a ROUTER of bare pyzmq. ``latency``: one way
through the relay, one message after the other. ``throughput``: many on their way, in messages per second.
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

CASES = ("latency", "throughput")
CEILINGS = ("bare_pyzmq",)
RECIPES: Mapping[str, Recipe] = {recipe.name: recipe for recipe in (
    Recipe("zdl", "zdl_bench.zdl_relay", {}),
    Recipe("bare_pyzmq", "zdl_bench.bare_relay", {}),
)}
SYSTEMS = tuple(RECIPES)


@dataclass(frozen=True, slots=True)
class RelayQuestion:
    """What to measure.

    Attributes:
        scheme: ``tcp`` or ``ipc``.
        latency_count: messages per run, one after the other.
        throughput_count: messages per run with many on their way.
        in_flight: so many.
        rounds: how often.
    """

    scheme: str = "tcp"
    latency_count: int = 2000
    throughput_count: int = 50_000
    in_flight: int = 512
    rounds: Rounds = Rounds()

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise ValueError(f"scheme must be one of {', '.join(SCHEMES)}, not {self.scheme!r}")


def measure(question: RelayQuestion = RelayQuestion(), *, told: Callable[[str], None] = lambda line: None) -> list[Result]:
    """Measures both cases.

    Raises:
        PeerFailed: a measured process failed.
    """
    results: list[Result] = []
    for kind in CASES:
        results.extend(_measured(question, kind, told=told))
    return results


def _measured(question: RelayQuestion, kind: str, *, told: Callable[[str], None]) -> list[Result]:
    arguments = {"count": question.latency_count}
    case = Case("relay", f"{len(PAYLOAD)}B {question.scheme}", "us", "lower", CEILINGS)
    value_name = "p50_us"
    if kind == "throughput":
        arguments = {"count": question.throughput_count, "in_flight": question.in_flight}
        case = Case("relay", f"{len(PAYLOAD)}B x{question.in_flight} {question.scheme}", "messages/s", "higher", CEILINGS)
        value_name = "requests_per_s"
    systems = [EchoSystem(recipe, scheme=question.scheme, command=kind, arguments=arguments, value_name=value_name)
               for recipe in RECIPES.values()]
    return measured(case, systems, question.rounds, told=told)


def main(argv: list[str]) -> int:
    """``python -m zdl_bench.relay [--scheme tcp] [--rounds 7] [--json]``."""
    parser = argparse.ArgumentParser(prog="zdl_bench.relay", description=__doc__)
    parser.add_argument("--scheme", choices=SCHEMES, default="tcp")
    parser.add_argument("--rounds", type=int, default=Rounds().count)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(argv)
    question = RelayQuestion(scheme=asked.scheme, rounds=Rounds(asked.rounds))
    found = measure(question, told=lambda line: print(line, file=sys.stderr))
    (write_json if asked.json else write_table)(found, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
