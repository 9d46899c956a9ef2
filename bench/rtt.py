"""How long does a small request take, and how many are answered per second?

Three cases, all with 64 bytes. ``latency``: one request after the other, the median of all in microseconds, and the 99th
percentile beside it. ``throughput``: 64 requests in flight, in requests per second. ``callers``: 32 threads, each of which
waits for its reply before it asks again, beside one thread of the baselines with as many in flight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from zdl_bench.endpoints import SCHEMES
from zdl_bench.exchange import PAYLOAD
from zdl_bench.question import Bench, Flag, Told, silent
from zdl_bench.report import Result
from zdl_bench.rounds import Case, Rounds
from zdl_bench.systems import Exchanges, Recipe, Way, refuse_unknown

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
        refuse_unknown(case=(self.cases, CASES), system=(self.systems, SYSTEMS), scheme=((self.scheme,), SCHEMES))


def measure(question: RttQuestion = RttQuestion(), *,
            told: Told = silent) -> list[Result]:
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
        results.extend(_exchanges(question, kind).measured([RECIPES[name] for name in question.systems], question.rounds,
                                                           way=Way(question.scheme), is_pinned=question.is_pinned, told=told))
    return results


def _exchanges(question: RttQuestion, kind: str) -> Exchanges:
    if kind == "latency":
        return Exchanges.single("rtt", question.scheme, CEILINGS, count=question.latency_count)
    in_flight = question.callers if kind == "callers" else question.in_flight
    shown = f"{in_flight} callers" if kind == "callers" else f"x{in_flight}"
    case = Case("rpc", f"{len(PAYLOAD)}B {shown} {question.scheme}", "requests/s", "higher", CEILINGS)
    return Exchanges.many(case, command=kind, count=question.throughput_count, in_flight=in_flight)


_FLAGS = (Flag("scheme", "scheme", "How they are linked.", SCHEMES),
          Flag("systems", "systems", "Who is measured.", SYSTEMS),
          Flag("in-flight", "in_flight", "Requests on their way at once, if many."),
          Flag("callers", "callers", "Threads that ask at once, if many."),
          Flag("pinned", "is_pinned", "Whether each end has a core of its own, or the system chooses."))
BENCH = Bench(partial(RttQuestion, cases=("latency",)), measure, _FLAGS)
RPC = Bench(partial(RttQuestion, cases=("throughput", "callers")), measure, _FLAGS)
