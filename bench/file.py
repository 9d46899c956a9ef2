"""How fast does a file come to a disk, beside cp between the same two places?

The leaf may use so much more memory than its cell takes by itself, even of mere addresses (RLIMIT_AS): much less than the
file. With ``limit="cgroup"`` the kernel counts what all of the leaf takes, the pages of the files that it writes among them, as
in a container, and so for ``cp``, too (Linux, as the superuser, control groups of version 1 or 2). The file is in the page cache,
as far as the limit lets it. ``zdl`` fetches it to a name, and has the disk keep it; beside it stand ``cp`` and
``cp_synced``, which has the disk keep it too. ``zdl_disk`` fetches to a file without a name, which need not last. Both copy,
as the file lies on the same host; ``zdl_sent`` and ``zdl_sent_disk`` have it come over the wire, verified. The memory that the
page cache will need has been used just before, for each of them alike.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

from zdl_bench.processes import Child
from zdl_bench.question import Bench, Flag, Told, silent
from zdl_bench.report import Result
from zdl_bench.rounds import Case, Rounds, Sample, measure as measured
from zdl_bench.sizes import written
from zdl_bench.systems import refuse_unknown
from zdl_bench.undisturbed import undisturbed
from zdl_bench.warmth import Host
from zdl_bench.zdl_file import LIMITS, written as make_file

GIB = 1 << 30
MIB = 1 << 20
# By a system's name, how the leaf gets the file then.
WAYS: Mapping[str, str] = MappingProxyType({
    "zdl": "file", "zdl_disk": "disk", "zdl_sent": "sent_file", "zdl_sent_disk": "sent_disk", "cp": "cp", "cp_synced": "cp_synced"})
SYSTEMS = tuple(WAYS)
CEILINGS = ("cp", "cp_synced")


@dataclass(frozen=True, slots=True)
class FileQuestion:
    """What to measure.

    Attributes:
        size_bytes: of the file.
        memory_bytes: what the leaf may use beyond what its cell takes.
        folder: where both files are.
        limit: ``addresses`` or ``cgroup``: see above.
        systems: of `SYSTEMS`; the ceilings that are left out have no ratio.
        rounds: how often.
    """

    size_bytes: int = GIB
    memory_bytes: int = 512 * MIB
    folder: str = "/var/tmp"
    limit: str = "addresses"
    systems: tuple[str, ...] = SYSTEMS
    rounds: Rounds = Rounds(5, warm_ups=1)

    def __post_init__(self) -> None:
        refuse_unknown(limit=((self.limit,), LIMITS), systems=(self.systems, SYSTEMS))
        if "cp" not in self.systems:
            raise ValueError("systems must hold cp: without it no figure says anything")


class FileSystem:
    """One way of getting the file; see `zdl_bench.rounds.System`.

    Args:
        name: of `SYSTEMS`.
        question: what is measured.
        lent: the file; in its folder it is put, too.
    """

    def __init__(self, name: str, question: FileQuestion, lent: Path) -> None:
        self.name = name
        self._question = question
        self._lent = lent
        self._open = ExitStack()
        self._leaf = Child("zdl_bench.zdl_file:Leaf")

    def start(self) -> None:
        """Starts the processes."""
        folder = self._open.enter_context(TemporaryDirectory(prefix="zdl-bench-", dir=self._lent.parent))
        origin = self._open.enter_context(Child("zdl_bench.zdl_file:Origin"))
        self._open.enter_context(self._leaf)
        address = origin.ask("start", scheme="tcp", folder=folder, path=str(self._lent))["address"]
        self._leaf.ask("start", address=address, place=str(Path(folder) / "came"), memory_bytes=self._question.memory_bytes,
                       limit=self._question.limit)

    def run(self) -> Sample:
        """Gets it once."""
        return undisturbed(self._once, load_bytes=self._question.size_bytes, warm=self._warm)

    def stop(self) -> None:
        """Ends the processes and removes the files."""
        self._open.close()

    def _warm(self, is_settled: bool) -> None:
        os.sync()  # what was written before shall not be written while one measures
        if is_settled:
            Host().wait_until_done()
        with self._lent.open("rb") as file:  # it may have left the page cache meanwhile
            while file.read(MIB):
                pass
        self._leaf.ask("warm", size_bytes=self._question.size_bytes)

    def _once(self) -> Sample:
        seen = self._leaf.ask("get", way=WAYS[self.name], path=str(self._lent))
        size_gib = self._question.size_bytes / GIB
        return Sample(size_gib / seen["elapsed_s"], {
            "leaf_peak_rss_bytes": seen.get("peak_growth_bytes", 0), "leaf_cpu_s_per_gib": seen["cpu_s"] / size_gib})


def measure(question: FileQuestion = FileQuestion(), *, told: Told = silent) -> list[Result]:
    """Measures all ways, in turns.

    Args:
        question: what, and how often.
        told: is given lines of progress.

    Raises:
        PeerFailed: a measured process failed, or other bytes came than were lent.
    """
    name = f"{written(question.size_bytes)} within {written(question.memory_bytes)} of {question.limit}"
    case = Case("file", name, "GiB/s", "higher", tuple(each for each in CEILINGS if each in question.systems))
    with TemporaryDirectory(prefix="zdl-bench-", dir=question.folder) as folder:
        lent = Path(folder) / "lent"
        make_file(lent, question.size_bytes)
        return measured(case, [FileSystem(each, question, lent) for each in question.systems], question.rounds, told=told)


BENCH = Bench(FileQuestion, measure, (
    Flag("size", "size_bytes", "Of the file."),
    Flag("memory", "memory_bytes", "What the leaf may use."),
    Flag("folder", "folder", "Where both files are."),
    Flag("limit", "limit", "What of it counts: addresses, or all that a control group counts.", LIMITS),
    Flag("systems", "systems", "Who is measured.", SYSTEMS)))
