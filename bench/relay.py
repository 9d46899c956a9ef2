"""What does a relay cost a small message, and how many can it pass on per second?

Both ends are bare sockets in one process; between them stands a cell, or a ROUTER of bare pyzmq. ``latency``: one way
through the relay, one message after the other. ``throughput``: many on their way, in messages per second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from zdl_bench.endpoints import SCHEMES
from zdl_bench.exchange import PAYLOAD
from zdl_bench.question import Bench, Flag, Told, silent
from zdl_bench.report import Result
from zdl_bench.rounds import Case, Rounds
from zdl_bench.systems import Exchanges, Recipe, Way, refuse_unknown

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
        refuse_unknown(scheme=((self.scheme,), SCHEMES))


def measure(question: RelayQuestion = RelayQuestion(), *, told: Told = silent) -> list[Result]:
    """Measures both cases.

    Raises:
        PeerFailed: a measured process failed.
    """
    many = Case("relay", f"{len(PAYLOAD)}B x{question.in_flight} {question.scheme}", "messages/s", "higher", CEILINGS)
    cases = (Exchanges.single("relay", question.scheme, CEILINGS, count=question.latency_count),
             Exchanges.many(many, command="throughput", count=question.throughput_count, in_flight=question.in_flight))
    results: list[Result] = []
    for each in cases:
        results.extend(each.measured(RECIPES.values(), question.rounds, way=Way(question.scheme), told=told))
    return results


BENCH = Bench(RelayQuestion, measure, (Flag("scheme", "scheme", "How they are linked.", SCHEMES),))
