"""How many cells does one server bear?

A server, and so many cells in a few processes. ``up``: seconds until all are linked, with the server's memory per peer
beside it; ``asked``: requests in flight at once from all of them, in requests per second, none of which may be lost;
``back``: the server is killed and started again on its port: seconds until all have found it; ``closed``: seconds that
``close()`` of that server takes, beside its peers, which lose it at that moment.
There is no baseline: bare sockets connect, but nobody says who they are, or that they are gone.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

from zdl_bench.processes import Child
from zdl_bench.question import Bench, Flag, Told, silent
from zdl_bench.report import Environment, Result
from zdl_bench.rounds import Case, Rounds, Sample, results

PROCESSES = 8  # so that no interpreter is shared by more than some hundred cells, which no fleet would do
SERVER, CELLS = "zdl_bench.fleet_roles:Server", "zdl_bench.fleet_roles:Cells"
# The name of each figure, the field that has it, its unit, and which way it is better.
FIGURES = (("up", "up_s", "s", "lower"), ("memory of a peer", "kib_per_peer", "KiB", "lower"),
           ("asked at once", "requests_per_s", "requests/s", "higher"), ("back", "back_s", "s", "lower"),
           ("closed", "closed_s", "s", "lower"))


@dataclass(frozen=True, slots=True)
class FleetRun:
    """What one run has shown.

    Attributes:
        cells: so many.
        up_s: from the start of the first to the link of the last, opening them included.
        kib_per_peer: growth of the server's resident memory.
        asked: requests in flight at once.
        requests_per_s: answered, while all were in flight.
        back_s: from the new server's start to the link of the last.
        closed_s: what the end of that server took.
    """

    cells: int
    up_s: float
    kib_per_peer: float
    asked: int
    requests_per_s: float
    back_s: float
    closed_s: float


def one_run(cells: int, asked: int) -> FleetRun:
    """One run.

    Raises:
        PeerFailed: a process failed, or not every cell, or not every answer, came.
    """
    each = cells // PROCESSES
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(PROCESSES + 1))
        fleet = [stack.enter_context(Child(CELLS)) for _ in range(PROCESSES)]
        server = stack.enter_context(Child(SERVER))
        address = server.ask("start", address="tcp://127.0.0.1:0")["address"]
        began = time.perf_counter()
        opened = [pool.submit(child.ask, "start", address=address, first=number * each, count=each)
                  for number, child in enumerate(fleet)]
        gathered = server.ask("gather", count=each * PROCESSES)
        up_s = time.perf_counter() - began
        for future in opened:
            future.result()
        began = time.perf_counter()
        answers = [pool.submit(child.ask, "ask", count=asked // PROCESSES) for child in fleet]
        answered = sum(future.result()["answered"] for future in answers)
        requests_per_s = answered / (time.perf_counter() - began)
        if answered != asked // PROCESSES * PROCESSES:
            raise RuntimeError(f"{answered} of {asked} requests were answered")
        server.kill()
        second = stack.enter_context(Child(SERVER))
        second.ask("start", address=address)
        back = second.ask("gather", count=each * PROCESSES)
        closed = second.ask("close")
        for child in fleet:  # else a thousand cells say goodbye one by one, which takes longer than all that is asked
            child.kill()
        return FleetRun(each * PROCESSES, up_s, gathered["bytes_per_peer"] / 1024, asked, requests_per_s, back["elapsed_s"],
                        closed["elapsed_s"])


@dataclass(frozen=True, slots=True)
class FleetQuestion:
    """What to measure.

    Attributes:
        cells: so many.
        asked: requests in flight at once.
        rounds: how often.
    """

    cells: int = 1000
    asked: int = 10_000
    rounds: Rounds = Rounds(3, warm_ups=0)

    def __post_init__(self) -> None:
        if self.cells < PROCESSES or self.asked < PROCESSES:
            raise ValueError(f"cells and asked must be at least {PROCESSES}, not {self.cells} and {self.asked}")


def measure(question: FleetQuestion = FleetQuestion(), *, told: Told = silent) -> list[Result]:
    """Measures all figures, each of which is a case.

    Raises:
        PeerFailed: a process failed, or not every cell, or not every answer, came.
    """
    runs: list[FleetRun] = []
    for number in range(question.rounds.warm_ups + question.rounds.count):
        runs.append(one_run(question.cells, question.asked))
        told(f"run {number + 1}  up {runs[-1].up_s:.3g} s  back {runs[-1].back_s:.3g} s  closed {runs[-1].closed_s:.3g} s")
    environment = Environment.found()
    found: list[Result] = []
    for name, field, unit, better in FIGURES:
        case = Case("fleet", f"{runs[0].cells} cells {name}", unit, better, ())
        counted = [{"zdl": Sample(getattr(run, field))} for run in runs[question.rounds.warm_ups:]]
        found.extend(results(case, counted, environment))
    return found


BENCH = Bench(FleetQuestion, measure, (
    Flag("cells", "cells", "How many there are."),
    Flag("asked", "asked", "Requests in flight at once.")))
