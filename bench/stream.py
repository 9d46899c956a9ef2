"""How fast is what is pushed, and what does a slow receiver do to others?

Four cases, each beside what it is to be compared with in the same rounds. ``objects``: rows of 1 KiB to one consumer, put by hand
and taken by a loop (``zdl``) or made by a producer for a consumer (``zdl_producer``), beside bare pyzmq that packs and unpacks
the same rows. ``fan``: the same rows to seven consumers, alone and beside an eighth that sleeps, until the seven have all; what
the sender grew by is the extra. ``bytes``: a stream of 1 GiB that is read (``zdl``) or read into memory that is there
(``zdl_kept``), beside arrays of that size that are pulled. ``held``: small requests over the link on which a reader takes a
million bytes a second from a writer that never stops, beside the same requests on an idle link; the 99th percentile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

from zdl_bench.endpoints import SCHEMES
from zdl_bench.processes import Child
from zdl_bench.question import Bench, Flag, Told, silent
from zdl_bench.report import Result
from zdl_bench.rounds import Case, Rounds, Sample, System, measure as measured
from zdl_bench.sizes import written

MIB = 1 << 20
GIB = 1 << 30
CASES = ("objects", "fan", "bytes", "held")
SYSTEMS = ("bare_pyzmq", "zdl", "zdl_producer", "zdl_alone", "zdl_one_sleeps", "zdl_pull", "zdl_kept", "zdl_idle", "zdl_beside")
AWAKE = 7
ROLES = "zdl_bench.stream_roles"


@dataclass(frozen=True, slots=True)
class StreamQuestion:
    """What to measure.

    Attributes:
        cases: of `CASES`.
        systems: of `SYSTEMS`; those that a case has.
        scheme: ``tcp`` or ``ipc``.
        count: objects of one run.
        object_bytes: each.
        size_bytes: of one stream of bytes.
        requests: of one run of ``held``.
        rounds: how often.
    """

    cases: tuple[str, ...] = CASES
    systems: tuple[str, ...] = SYSTEMS
    scheme: str = "tcp"
    count: int = 100_000
    object_bytes: int = 1024
    size_bytes: int = GIB
    requests: int = 10_000
    rounds: Rounds = Rounds()

    def __post_init__(self) -> None:
        for name, values, allowed in (("case", self.cases, CASES), ("system", self.systems, SYSTEMS),
                                      ("scheme", (self.scheme,), SCHEMES)):
            for value in values:
                if value not in allowed:
                    raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")


class Cells:
    """A server and its sites, each a process; see `zdl_bench.rounds.System`, whose `run` is given."""

    def __init__(self, name: str, scheme: str, run: Callable[[Cells], Sample], *, sites: int = 1) -> None:
        self.name = name
        self._scheme = scheme
        self._run = run
        self._open = ExitStack()
        self.server = Child(f"{ROLES}:Server")
        self.sites = [Child(f"{ROLES}:Site") for _ in range(sites)]

    def start(self) -> None:
        """Starts the processes and connects them."""
        folder = self._open.enter_context(TemporaryDirectory(prefix="zdl-bench-"))
        self._open.enter_context(self.server)
        address = self.server.ask("start", scheme=self._scheme, folder=folder)["address"]
        for number, site in enumerate(self.sites):
            self._open.enter_context(site)
            site.ask("start", address=address, name=f"site-{number}")

    def run(self) -> Sample:
        """Once."""
        return self._run(self)

    def stop(self) -> None:
        """Ends the processes, sites first."""
        self._open.close()


class Bare:
    """Rows over bare pyzmq."""

    name = "bare_pyzmq"

    def __init__(self, question: StreamQuestion) -> None:
        self._question = question
        self._open = ExitStack()
        self._site, self._server = Child(f"{ROLES}:BareSite"), Child(f"{ROLES}:BareServer")

    def start(self) -> None:
        """Starts the processes and connects them."""
        folder = self._open.enter_context(TemporaryDirectory(prefix="zdl-bench-"))
        self._open.enter_context(self._site)
        self._open.enter_context(self._server)
        self._server.ask("start", address=self._site.ask("start", scheme=self._question.scheme, folder=folder)["address"])

    def run(self) -> Sample:
        """All rows once."""
        question = self._question
        done = self._server.ask("put", count=question.count, object_bytes=question.object_bytes)
        _refuse_loss(self.name, came=done["count"], sent=question.count)
        return Sample(question.count / done["elapsed_s"])

    def stop(self) -> None:
        """Ends the processes."""
        self._open.close()


def measure(question: StreamQuestion = StreamQuestion(), *, told: Told = silent) -> list[Result]:
    """Measures every case asked for.

    Raises:
        PeerFailed: a measured process failed.
        ValueError: something did not arrive.
    """
    results: list[Result] = []
    for kind in question.cases:
        case, systems = _PLANS[kind](question)
        chosen = [each for each in systems if each.name in question.systems]
        results.extend(measured(case, chosen, question.rounds, told=told))
    return results


def _objects(question: StreamQuestion) -> tuple[Case, list[System]]:
    case = Case("stream", f"{question.count}x{written(question.object_bytes)} {question.scheme}", "objects/s", "higher",
                ("bare_pyzmq",))

    def run(cells: Cells) -> Sample:
        """To one consumer."""
        cells.sites[0].ask("expect", count=question.count)
        how = "put" if cells.name == "zdl" else "produce"
        began_at = cells.server.ask(how, count=question.count, object_bytes=question.object_bytes, targets=["site-0"])["began_at"]
        done = cells.sites[0].ask("ended")
        used = cells.server.ask("ended")
        _refuse_loss(cells.name, came=done["count"], sent=question.count)
        return Sample(question.count / (done["ended_at"] - began_at), _grown(used))

    return case, [Bare(question), *(Cells(name, question.scheme, run) for name in ("zdl", "zdl_producer"))]


def _fan(question: StreamQuestion) -> tuple[Case, list[System]]:
    case = Case("stream", f"{question.count}x{written(question.object_bytes)} to {AWAKE} {question.scheme}", "objects/s", "higher",
                ("zdl_alone",))

    def run(cells: Cells) -> Sample:
        """Until those that are awake have all; then the others wake up."""
        awake, asleep = cells.sites[:AWAKE], cells.sites[AWAKE:]
        for each in asleep:
            each.ask("sleep")
        began_at = cells.server.ask("put", count=question.count, object_bytes=question.object_bytes,
                                    targets=[f"site-{number}" for number in range(len(cells.sites))])["began_at"]
        done = [each.ask("ended") for each in awake]
        for each in asleep:
            each.ask("wake")
        used = cells.server.ask("ended")
        for each in asleep:
            each.ask("ended")
        for told in done:
            _refuse_loss(cells.name, came=told["count"], sent=question.count)
        return Sample(question.count / (max(each["ended_at"] for each in done) - began_at), _grown(used))

    return case, [Cells("zdl_alone", question.scheme, run, sites=AWAKE),
                  Cells("zdl_one_sleeps", question.scheme, run, sites=AWAKE + 1)]


def _bytes(question: StreamQuestion) -> tuple[Case, list[System]]:
    size = question.size_bytes
    case = Case("stream", f"{written(size)} of bytes {question.scheme}", "GiB/s", "higher", ("zdl_pull",))

    def pull(cells: Cells) -> Sample:
        """Arrays."""
        cells.server.ask("lend", size_bytes=size)
        done = cells.sites[0].ask("pull")
        _refuse_loss(cells.name, came=done["count"], sent=size)
        return Sample(size / GIB / done["elapsed_s"])

    def push(cells: Cells) -> Sample:
        """A stream."""
        topic = "bytes" if cells.name == "zdl" else "kept"
        sent = cells.server.ask("write", size_bytes=size, topic=topic)
        done = cells.sites[0].ask("ended")
        _refuse_loss(cells.name, came=done["count"], sent=size)
        return Sample(size / GIB / (done["ended_at"] - sent["began_at"]), _grown(cells.server.ask("ended")))

    return case, [Cells("zdl_pull", question.scheme, pull), *(Cells(name, question.scheme, push) for name in ("zdl", "zdl_kept"))]


def _held(question: StreamQuestion) -> tuple[Case, list[System]]:
    case = Case("stream", f"requests beside 1 MB/s {question.scheme}", "us", "lower", ("zdl_idle",))

    def run(cells: Cells) -> Sample:
        """Requests, with or without a stream beside them."""
        is_idle = cells.name == "zdl_idle"
        if is_idle:
            seen = cells.server.ask("ask", count=question.requests)
            return Sample(seen.pop("p99_us"), seen)
        cells.sites[0].ask("expect_slow")
        cells.server.ask("hold")
        before = cells.sites[0].ask("read")
        seen = cells.server.ask("ask", count=question.requests)
        after = cells.sites[0].ask("read")
        cells.server.ask("let_go")
        seen["read_per_s"] = (after["bytes"] - before["bytes"]) / (after["at"] - before["at"])
        return Sample(seen.pop("p99_us"), seen)

    return case, [Cells(name, question.scheme, run) for name in ("zdl_idle", "zdl_beside")]


_PLANS: Mapping[str, Callable[[StreamQuestion], tuple[Case, list[System]]]] = {
    "objects": _objects, "fan": _fan, "bytes": _bytes, "held": _held}


def _grown(used: Mapping[str, Any]) -> dict[str, float]:
    return {"server_peak_bytes": used["peak_growth_bytes"]} if "peak_growth_bytes" in used else {}


def _refuse_loss(system: str, *, came: int, sent: int) -> None:
    if came != sent:
        raise ValueError(f"{system} delivered {came} of {sent}")


BENCH = Bench(StreamQuestion, measure, (
    Flag("cases", "cases", "Which.", CASES),
    Flag("count", "count", "Objects of one run."),
    Flag("object-size", "object_bytes", "Of one object."),
    Flag("size", "size_bytes", "Of one stream of bytes."),
    Flag("requests", "requests", "Beside one slow reader."),
    Flag("scheme", "scheme", "Of the sockets.", SCHEMES),
    Flag("systems", "systems", "Who is measured.", SYSTEMS)))
