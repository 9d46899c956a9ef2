"""What do items that a user's code produces cost, beside arrays that are there?

An origin lends 512 MiB to four leaves that pull at the same time: as items of one MiB that a `CacheableObject` produces when
they are wanted, as bytes or as arrays; and as an object of arrays of the same size, which is the ceiling. In GiB/s, all
leaves together, from the first who asks to the last who has all of it in memory. Each item must be produced once, and the
origin must keep no more than it is allowed to; a run in which that is not so is no figure.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from zdl_bench.processes import Child
from zdl_bench.question import Bench, Flag, Told, silent
from zdl_bench.report import Result
from zdl_bench.rounds import Case, Rounds, Sample, measure as measured
from zdl_bench.sizes import written
from zdl_bench.undisturbed import WARM_BYTES, undisturbed

MIB = 1 << 20
GIB = 1 << 30
SYSTEMS = ("arrays", "items_bytes", "items_arrays")
# Of these, the one whose memory at the leaves is not zdl's, which asks for huge pages, but Python's, which does not.
SMALL_PAGES = "items_bytes"
ORIGIN, LEAF = "zdl_bench.items_roles:Origin", "zdl_bench.items_roles:Leaf"


@dataclass(frozen=True, slots=True)
class ItemsQuestion:
    """What to measure.

    Attributes:
        systems: of `SYSTEMS`.
        items: how many.
        item_bytes: each.
        leaves: who pull at the same time.
        cache_bytes: what the origin may keep of what it has produced.
        rounds: how often.
    """

    systems: tuple[str, ...] = SYSTEMS
    items: int = 512
    item_bytes: int = MIB
    leaves: int = 4
    cache_bytes: int = 256 * MIB
    rounds: Rounds = Rounds()


class ItemsSystem:
    """One origin and its leaves; see `zdl_bench.rounds.System`."""

    def __init__(self, name: str, question: ItemsQuestion) -> None:
        self.name = name
        self._question = question
        self._open = ExitStack()
        self._origin = Child(ORIGIN)
        self._leaves = [Child(LEAF) for _ in range(question.leaves)]

    def start(self) -> None:
        """Starts the processes and connects them."""
        question = self._question
        self._open.enter_context(self._origin)
        address = self._origin.ask("start", kind=self.name, items=question.items, item_bytes=question.item_bytes,
                                   leaves=question.leaves, cache_bytes=question.cache_bytes)["address"]
        for number, leaf in enumerate(self._leaves):
            self._open.enter_context(leaf)
            leaf.ask("start", address=address, name=f"leaf-{number}")
        self._pool = self._open.enter_context(ThreadPoolExecutor(question.leaves))

    def run(self) -> Sample:
        """All leaves pull once.

        Raises:
            ValueError: an item was produced more than once, wrong bytes came, or too much was kept.
        """
        question = self._question
        load_bytes = question.items * question.item_bytes
        length = load_bytes * question.leaves + min(load_bytes, question.cache_bytes) + WARM_BYTES
        return undisturbed(self._once, load_bytes=load_bytes, warm=lambda is_settled: self._leaves[0].ask(
            "memory_warmed", length=length, is_huge=self.name != SMALL_PAGES, is_settled=is_settled))

    def stop(self) -> None:
        """Ends the processes, origin first."""
        self._open.close()

    def _once(self) -> Sample:
        question = self._question
        self._origin.ask("lend")
        pulled: list[dict[str, Any]] = list(self._pool.map(lambda leaf: leaf.ask("pull"), self._leaves))
        told = self._origin.ask("ended")
        for each in pulled:
            if each["count"] != question.items or each["checked"] != question.items:
                raise ValueError(f"{self.name} delivered {each['checked']} good items of {question.items}")
        if told["produced"] not in (0, question.items):
            raise ValueError(f"{question.items} items were produced {told['produced']} times")
        if told["kept_bytes"] > question.cache_bytes:
            raise ValueError(f"{told['kept_bytes']} bytes were kept, {question.cache_bytes} are allowed")
        elapsed_s = max(each["ended_at"] for each in pulled) - min(each["began_at"] for each in pulled)
        all_gib = question.items * question.item_bytes * question.leaves / GIB
        return Sample(value=all_gib / elapsed_s, extra={"origin_cpu_s_per_gib": told["cpu_s"] / all_gib,
                                                        "leaves_cpu_s_per_gib": sum(each["cpu_s"] for each in pulled) / all_gib,
                                                        "kept_bytes": told["kept_bytes"]})


def measure(question: ItemsQuestion = ItemsQuestion(), *, told: Told = silent) -> list[Result]:
    """Measures what was asked for.

    Raises:
        PeerFailed: a measured process failed.
        ValueError: see `ItemsSystem.run`.
    """
    name = f"{question.items}x{written(question.item_bytes)} to {question.leaves} tcp"
    case = Case("items", name, "GiB/s", "higher", ("arrays",))
    return measured(case, [ItemsSystem(each, question) for each in question.systems], question.rounds, told=told)


BENCH = Bench(ItemsQuestion, measure, (
    Flag("items", "items", "How many."),
    Flag("size", "item_bytes", "Of one item."),
    Flag("leaves", "leaves", "Who pull at the same time."),
    Flag("systems", "systems", "Who is measured.", SYSTEMS)))
