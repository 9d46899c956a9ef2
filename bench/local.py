"""How fast does a leaf get arrays from an origin on the same machine, and what do several leaves take?

All systems pull the same state, and alternate. ``zdl_tcp``: over sockets, into memory that was touched before; the same memory
is copied into by ``zdl_copied_first`` (a new offer in each round: its origin copies it into a segment that was used before) and
``zdl_copied`` (it is there already). ``zdl_in_place_first``, ``zdl_in_place`` and ``zdl_born`` (arrays that lie in shared memory
from the beginning) use it where it is. ``memcpy`` copies within one process. The figure of several leaves is how much
memory they have for themselves, in per cent of the state.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from zdl_bench.processes import Child
from zdl_bench.question import Bench, Flag, Told, silent
from zdl_bench.report import Environment, Result
from zdl_bench.rounds import Case, Rounds, Sample, measure as measured, results
from zdl_bench.sizes import written
from zdl_bench.state import Load
from zdl_bench.systems import GIB, PullSystem, Recipe, refuse_unknown, refuse_wrong_bytes
from zdl_bench.undisturbed import WARM_BYTES, undisturbed

MIB = 1 << 20
SYSTEMS = ("zdl_tcp", "zdl_copied_first", "zdl_copied", "zdl_in_place_first", "zdl_in_place", "zdl_born", "memcpy")
# What several leaves may take for themselves, in per cent.
MEMORY_PERCENT_MAX = 5.0


@dataclass(frozen=True, slots=True)
class LocalQuestion:
    """What to measure.

    Attributes:
        systems: of `SYSTEMS`.
        size_bytes: of the state.
        leaves: of the figure of memory; 0 leaves it out.
        rounds: how often.
    """

    systems: tuple[str, ...] = SYSTEMS
    size_bytes: int = 512 * MIB
    leaves: int = 4
    rounds: Rounds = Rounds()

    def __post_init__(self) -> None:
        refuse_unknown(system=(self.systems, SYSTEMS))
        if self.leaves < 0:
            raise ValueError(f"leaves must be at least 0, not {self.leaves}")


class LocalSystem:
    """One origin and one leaf; see `zdl_bench.rounds.System`."""

    def __init__(self, name: str, load: Load) -> None:
        self.name = name
        self._load = load
        self._open = ExitStack()
        self._origin, self._leaf = Child("zdl_bench.zdl_local:Origin"), Child("zdl_bench.zdl_local:Leaf")
        self._checksum = 0

    def start(self) -> None:
        """Starts both, and pulls once."""
        load = asdict(self._load)
        lent = self._open.enter_context(self._origin).ask("start", load=load, is_born=self.name == "zdl_born")
        self._checksum = lent["checksum"]
        self._open.enter_context(self._leaf).ask("start", address=lent["address"], name="leaf", load=load, same_host=(
            self.name != "zdl_tcp"), is_copied=self.name in ("zdl_tcp", "zdl_copied_first", "zdl_copied"))
        self._leaf.ask("pull")

    def run(self) -> Sample:
        """The leaf pulls once, into memory that both have had before.

        Raises:
            ValueError: other bytes came than were lent, or another way.
        """
        return undisturbed(self._once, load_bytes=self._load.size_bytes, warm=lambda is_settled: self._leaf.ask(
            "memory_warmed", length=WARM_BYTES, is_settled=is_settled))

    def stop(self) -> None:
        """Ends both."""
        self._open.close()

    def _once(self) -> Sample:
        if self.name.endswith("_first"):
            self._origin.ask("lend")
        seen = self._leaf.ask("pull")
        refuse_other_way(self.name, **{each: seen[each] for each in ("way", "why")})
        refuse_wrong_bytes(self.name, came=self._leaf.ask("checked")["checksum"], lent=self._checksum)
        return Sample(self._load.size_bytes / GIB / seen["elapsed_s"], extra={"pull_ms": seen["elapsed_s"] * 1000})


def refuse_other_way(name: str, *, way: str, why: str) -> None:
    """Raises `ValueError` for a figure of something else than its name says."""
    wanted = "direct" if name == "zdl_tcp" else "memory"
    if way != wanted:
        raise ValueError(f"{name} was pulled {way} and not {wanted}: {why}")


def measure(question: LocalQuestion = LocalQuestion(), *, told: Told = silent) -> list[Result]:
    """Measures the speed, and the memory of several leaves.

    Raises:
        PeerFailed: a measured process failed.
        ValueError: wrong bytes came, or by another way.
    """
    load = Load("mixed", question.size_bytes)
    memcpy = Recipe("memcpy", "zdl_bench.memcpy", {"fresh": False, "destination": "aligned"}, alone=True)
    systems = [PullSystem(memcpy, load=load) if name == "memcpy" else LocalSystem(name, load) for name in question.systems]
    shown = f"{written(question.size_bytes)}-mixed"
    ceilings = tuple(name for name in ("zdl_tcp", "memcpy") if name in question.systems)
    found = measured(Case("local", shown, "GiB/s", "higher", ceilings), systems, question.rounds, told=told)
    if question.leaves:
        taken = _memory_percent(load, question.leaves)
        told(f"memory of {question.leaves} leaves  {taken:.3g} %")
        case = Case("local", f"memory of {question.leaves} leaves {shown}", "%", "lower", ("bound",))
        found += results(case, [{"zdl_in_place": Sample(max(taken, 0.001)), "bound": Sample(MEMORY_PERCENT_MAX)}],
                         Environment.found())
    return found


def _memory_percent(load: Load, leaves: int) -> float:
    """What leaves that use it in place have of it for themselves alone, all together."""
    with ExitStack() as opened:
        lent = opened.enter_context(Child("zdl_bench.zdl_local:Origin")).ask("start", load=asdict(load), is_born=False)
        own = 0
        for number in range(leaves):
            leaf = opened.enter_context(Child("zdl_bench.zdl_local:Leaf"))
            leaf.ask("start", address=lent["address"], name=f"leaf-{number}", load=asdict(load), same_host=True, is_copied=False)
            leaf.ask("pull")
            refuse_wrong_bytes("zdl_in_place", came=leaf.ask("checked")["checksum"], lent=lent["checksum"])
            own += written_bytes(leaf.pid)
        return own * 100 / load.size_bytes


def written_bytes(pid: int) -> int:
    """How much of the segments that a process has mapped is its own: pages that it has written to."""
    total, is_segment = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text(encoding="ascii", errors="replace").splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            is_segment = "memfd:zdl-" in line
        elif is_segment and words[0] == "Anonymous:":
            total += int(words[1]) * 1024
    return total


BENCH = Bench(LocalQuestion, measure, (
    Flag("size", "size_bytes", "Of the state."),
    Flag("systems", "systems", "Who is measured.", SYSTEMS),
    Flag("leaves", "leaves", "Whose memory is looked at; 0: nobody's.")))
