"""How long do small requests take while a pull saturates the same link?

One request every millisecond, its 99th percentile in microseconds, while the same leaf pulls arrays again and again from the
same origin. ``zdl_idle`` and ``bare_idle``: nobody pulls. ``bare_one_socket``: bare pyzmq, where requests and chunks share a
socket, as they do when nothing is done about it; ``bare_two_sockets``: each has its own. Beside the figure: the median, and how
fast the pull went meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass

from zdl_bench.exchange import PAYLOAD
from zdl_bench.pull import MIB, WINDOW_BYTES
from zdl_bench.question import Bench, Flag, Told, silent
from zdl_bench.report import Result
from zdl_bench.rounds import Case, Rounds
from zdl_bench.shaped import HOST
from zdl_bench.state import Load
from zdl_bench.systems import Exchanges, Recipe, Way, refuse_unknown

SYSTEMS = ("zdl", "zdl_idle", "bare_one_socket", "bare_two_sockets", "bare_idle")
CEILINGS = ("zdl_idle", "bare_one_socket", "bare_two_sockets", "bare_idle")


@dataclass(frozen=True, slots=True)
class MixedQuestion:
    """What to measure.

    Attributes:
        systems: of `SYSTEMS`.
        size_bytes: what is pulled again and again.
        count: requests per run.
        rtt_ms: of a shaped link between both.
        rate_bytes: per second, of that link; None: there is none.
        rounds: how often.
    """

    systems: tuple[str, ...] = SYSTEMS
    size_bytes: int = 256 * MIB
    count: int = 1000
    rtt_ms: float = 0.0
    rate_bytes: int | None = None
    rounds: Rounds = Rounds(5, warm_ups=1)

    def __post_init__(self) -> None:
        refuse_unknown(system=(self.systems, SYSTEMS))
        if self.rtt_ms and not self.rate_bytes:
            raise ValueError("a shaped link needs a rate")


def measure(question: MixedQuestion = MixedQuestion(), *, told: Told = silent) -> list[Result]:
    """Measures all systems.

    Raises:
        PeerFailed: a measured process failed.
        ValueError: a system stands without a ceiling.
    """
    shown = f"{len(PAYLOAD)}B tcp p99"
    if question.rate_bytes:
        shown += f" {question.rate_bytes * 8 / 1e6:.0f}Mbit/s {question.rtt_ms:g}ms"
    case = Case("mixed", shown, "us", "lower", CEILINGS)
    asked = Exchanges(case, "requests", {"count": question.count}, "p99_us")
    way = Way(rtt_ms=question.rtt_ms, bytes_per_s=question.rate_bytes or 0)
    return asked.measured([_recipe(name, question) for name in question.systems], question.rounds, way=way,
                          is_pinned=False, told=told)


def _recipe(name: str, question: MixedQuestion) -> Recipe:
    load = {"kind": "mixed", "size_bytes": question.size_bytes}
    Load(**load)  # type: ignore[arg-type]  # refuses what cannot be, before anything starts
    busy = {"is_busy": not name.endswith("_idle")}
    if name in ("zdl", "zdl_idle"):
        advertised = {"advertise": HOST} if question.rate_bytes else {}
        return Recipe(name, "zdl_bench.zdl_mixed", busy, {"load": load, **advertised})
    window = {"chunk_bytes": MIB, "window_bytes": WINDOW_BYTES}
    return Recipe(name, "zdl_bench.bare_mixed", {**busy, **window, "is_shared": name == "bare_one_socket"}, {"load": load})


BENCH = Bench(MixedQuestion, measure, (
    Flag("size", "size_bytes", "What is pulled again and again."),
    Flag("requests", "count", "Requests in each run."),
    Flag("systems", "systems", "Who is measured.", SYSTEMS),
    Flag("rtt-ms", "rtt_ms", "Round trip of a shaped link between them."),
    Flag("rate", "rate_bytes", "Bytes per second of that link, e.g. 10M; without it there is no such link.")))
