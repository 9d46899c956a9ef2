"""How fast does a leaf get arrays from an origin, and what does it cost?

``mixed``: the arrays of a model, in GiB/s; ``single``: one array; ``equal``: many of one small size, in milliseconds for all.
Timed at the leaf from the asking to named arrays in memory that is allocated meanwhile, as zdl does it. The question
``many`` is the last of these alone; ``fanout`` has several leaves pull the same arrays at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from zdl_bench.destination import KINDS
from zdl_bench.endpoints import SCHEMES
from zdl_bench.question import Bench, Flag, Told, silent
from zdl_bench.report import Result
from zdl_bench.rounds import Case, Rounds, measure as measured
from zdl_bench.shaped import HOST
from zdl_bench.sizes import written
from zdl_bench.state import KINDS as MIXES, Load
from zdl_bench.systems import PullSystem, Recipe, Way, refuse_unknown

MIB = 1 << 20
PULL_SCHEMES = (*SCHEMES, "local")
SYSTEMS = ("zdl", "zdl_quick", "zdl_unverified", "bare_pyzmq", "bare_pyzmq_best", "raw_tcp", "raw_tcp_best", "raw_tcp_many",
           "memcpy", "memcpy_fresh")
DEFAULT_SYSTEMS = tuple(name for name in SYSTEMS if name != "raw_tcp_many")
CEILINGS = ("raw_tcp", "raw_tcp_best", "raw_tcp_many", "bare_pyzmq", "bare_pyzmq_best", "memcpy", "memcpy_fresh")
VERIFIED = {"zdl": "blake3", "zdl_quick": "xxh3", "zdl_unverified": "none"}
# What the origin notes of what it lends is what its leaves verify with. Unverified, nobody looks at the bytes: neither the
# receiver, nor the origin whether they still are what was lent.
NOTED = {"zdl": {"digest": "blake3"}, "zdl_quick": {"digest": "xxh3"}, "zdl_unverified": {"guard": "none"}}
# When zdl's origin lends: once, and the same to every pull, told in ``lend_s_per_gib``; or anew for each, while that is timed.
LENDINGS = ("once", "each")
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
        mix: which arrays, of `zdl_bench.state.KINDS`; one case each.
        systems: of `SYSTEMS`; ``raw_tcp`` is a unix socket if the scheme is ``ipc``.
        scheme: ``tcp``, ``ipc``, or ``local``: zdl hands over memory of the same machine, all others use tcp.
        size_bytes: of the mixed arrays together, or of the single one.
        items: how many, if ``equal``.
        item_bytes: each, if ``equal``.
        leaves: who pull at once.
        chunk_bytes: one frame of zdl and of bare pyzmq.
        window_bytes: asked for and not here; None lets zdl tune it and gives bare pyzmq `WINDOW_BYTES`.
        destination: memory of the baselines; only ``aligned`` is fresh in every round, see `zdl_bench.destination`.
        rtt_ms: of a shaped link between origin and leaf.
        rate_bytes: per second, of that link; None: there is none.
        connections: of ``raw_tcp_many``.
        lend: when zdl's origin does, of `LENDINGS`.
        rounds: how often.
        bench: the question's name.
    """

    mix: tuple[str, ...] = ("mixed",)
    systems: tuple[str, ...] = DEFAULT_SYSTEMS
    scheme: str = "tcp"
    size_bytes: int = 512 * MIB
    items: int = 5000
    item_bytes: int = 4096
    leaves: int = 1
    chunk_bytes: int = MIB
    window_bytes: int | None = None
    destination: str = "aligned"
    rtt_ms: float = 0.0
    rate_bytes: int | None = None
    connections: int = 4
    lend: str = "once"
    rounds: Rounds = Rounds()
    bench: str = "pull"

    def __post_init__(self) -> None:
        refuse_unknown(mix=(self.mix, MIXES), system=(self.systems, SYSTEMS), scheme=((self.scheme,), PULL_SCHEMES),
                       destination=((self.destination,), KINDS), lend=((self.lend,), LENDINGS))
        if min(self.leaves, self.connections, self.items) < 1:
            raise ValueError("leaves, connections and items must be at least 1")
        if self.rate_bytes and self.scheme != "tcp":
            raise ValueError("a shaped link is tcp")
        if self.rtt_ms and not self.rate_bytes:
            raise ValueError("a shaped link needs a rate")


def measure(question: PullQuestion = PullQuestion(), *, told: Told = silent) -> list[Result]:
    """Measures every case asked for.

    Args:
        question: what, and how often.
        told: is given lines of progress.

    Raises:
        PeerFailed: a measured process failed.
        ValueError: a system delivered wrong bytes, or stands without a ceiling.
    """
    results: list[Result] = []
    for kind in question.mix:
        results.extend(_measured(question, kind, told=told))
    return results


def _measured(question: PullQuestion, kind: str, *, told: Told) -> list[Result]:
    if kind == "equal":
        load = Load(kind, question.items * question.item_bytes, items=question.items)
        name, unit, better = f"{question.items}x{written(question.item_bytes)}", "ms", "lower"
    else:
        load = Load(kind, question.size_bytes)
        name, unit, better = f"{written(question.size_bytes)}-{kind}", "GiB/s", "higher"
    name += f" {question.scheme}" + (f" to {question.leaves}" if question.leaves > 1 else "")
    if question.rate_bytes:
        name += f" {question.rate_bytes * 8 / 1e6:.0f}Mbit/s {question.rtt_ms:g}ms"
    scheme = "tcp" if question.scheme == "local" else question.scheme
    way = Way(scheme, rtt_ms=question.rtt_ms, bytes_per_s=question.rate_bytes or 0)
    systems = [PullSystem(recipe(each, question), load=load, way=way, leaves=question.leaves, in_ms=unit == "ms")
               for each in question.systems]
    return measured(Case(question.bench, name, unit, better, CEILINGS), systems, question.rounds, told=told)


def recipe(name: str, question: PullQuestion) -> Recipe:
    """How the system of that name is made, as the question says."""
    destination = question.destination
    bare = {"chunk_bytes": question.chunk_bytes, "window_bytes": question.window_bytes or WINDOW_BYTES,
            "destination": destination}
    match name:
        case "zdl" | "zdl_quick" | "zdl_unverified":
            lending = {"advertise": HOST, "lend": question.lend} if question.rate_bytes else {"lend": question.lend}
            lending |= NOTED[name]
            return Recipe(name, "zdl_bench.zdl_pull", {"pulls": _pulls(question, verify=VERIFIED[name])}, lending, is_named=True)
        case "bare_pyzmq":
            return Recipe(name, "zdl_bench.bare_zmq", bare)
        case "bare_pyzmq_best":
            return Recipe(name, "zdl_bench.bare_zmq", {**bare, "is_primed": True}, {"congestion": BEST_CONGESTION})
        case "raw_tcp":
            return Recipe(name, "zdl_bench.raw_tcp", {"piece_bytes": RAW_PIECE_BYTES, "destination": destination})
        case "raw_tcp_best" | "raw_tcp_many":
            connections = question.connections if name == "raw_tcp_many" else 1
            return Recipe(name, "zdl_bench.raw_tcp",
                          {"piece_bytes": BEST_PIECE_BYTES, "destination": destination, "connections": connections},
                          {"congestion": BEST_CONGESTION})
        case "memcpy" | "memcpy_fresh":
            settings = {"fresh": name == "memcpy_fresh", "destination": destination}
            return Recipe(name, "zdl_bench.memcpy", settings, alone=True)
    raise ValueError(f"system must be one of {', '.join(SYSTEMS)}, not {name!r}")


def _pulls(question: PullQuestion, *, verify: str) -> dict[str, Any]:
    """The options of zdl's leaf."""
    pulls: dict[str, Any] = {"chunk_bytes": question.chunk_bytes, "verify": verify, "same_host": question.scheme == "local"}
    if question.window_bytes:
        pulls |= {"window_bytes_min": question.window_bytes, "window_bytes_max": question.window_bytes}
    return pulls


_HOW = (Flag("chunk", "chunk_bytes", "One piece on the wire."),
        Flag("window", "window_bytes", "How much is asked for and not yet here, e.g. 4M; without it zdl tunes its own."),
        Flag("scheme", "scheme", "How they are linked; local: zdl hands over memory, all others use tcp.", PULL_SCHEMES),
        Flag("systems", "systems", "Who is measured.", SYSTEMS),
        Flag("lend", "lend", "When zdl's origin lends: once, before; or for each pull, while that is timed.", LENDINGS),
        Flag("destination", "destination", "Memory of the baselines.", KINDS))
BENCH = Bench(PullQuestion, measure, (
    Flag("size", "size_bytes", "Of the mixed arrays together, or of the single one."),
    Flag("mix", "mix", "Which arrays.", MIXES),
    *_HOW,
    Flag("rtt-ms", "rtt_ms", "Round trip of a shaped link between them."),
    Flag("rate", "rate_bytes", "Bytes per second of that link, e.g. 119M for 1 Gbit/s; without it there is no such link."),
    Flag("connections", "connections", "Of raw_tcp_many.")))
MANY = Bench(partial(PullQuestion, mix=("equal",), bench="many"), measure, (
    Flag("items", "items", "How many arrays."),
    Flag("size", "item_bytes", "Of each."),
    *_HOW))
FANOUT = Bench(partial(PullQuestion, size_bytes=128 * MIB, leaves=4, bench="fanout"), measure, (
    Flag("leaves", "leaves", "Who pull at once."),
    Flag("size", "size_bytes", "What each of them pulls."),
    *_HOW))
