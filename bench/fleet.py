"""How many cells does one server bear?

A server, and so many cells in a few processes. ``up``: seconds until all are linked, with the server's memory per peer
beside it; ``asked``: requests in flight at once from all of them, in requests per second, none of which may be lost;
``back``: the server is killed and started again on its port: seconds until all have found it.
There is no baseline: bare sockets connect, but nobody says who they are, or that they are gone.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass

from zdl_bench.processes import Child

PROCESSES = 8  # so that no interpreter is shared by more than some hundred cells, which no fleet would do
SERVER, CELLS = "zdl_bench.fleet_roles:Server", "zdl_bench.fleet_roles:Cells"


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
    """

    cells: int
    up_s: float
    kib_per_peer: float
    asked: int
    requests_per_s: float
    back_s: float


def measure(cells: int, asked: int) -> FleetRun:
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
        os.kill(server.pid, signal.SIGKILL)
        second = stack.enter_context(Child(SERVER))
        second.ask("start", address=address)
        back = second.ask("gather", count=each * PROCESSES)
        return FleetRun(each * PROCESSES, up_s, gathered["bytes_per_peer"] / 1024, asked, requests_per_s, back["elapsed_s"])


def main(argv: list[str], told: Callable[[str], None] = print) -> int:
    """``python -m zdl_bench.fleet [--cells 1000] [--asked 10000] [--rounds 3] [--json]``."""
    parser = argparse.ArgumentParser(prog="zdl_bench.fleet", description=__doc__)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--asked", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(argv)
    runs = [measure(asked.cells, asked.asked) for _ in range(asked.rounds)]
    if asked.json:
        for run in runs:
            told(json.dumps(asdict(run)))
        return 0
    for name, unit in (("up_s", "s"), ("kib_per_peer", "KiB"), ("requests_per_s", "requests/s"), ("back_s", "s")):
        values = [getattr(run, name) for run in runs]
        told(f"{name}\t{statistics.median(values):,.2f} {unit}\t({min(values):,.2f} to {max(values):,.2f}, "
             f"{len(values)} runs of {runs[0].cells} cells)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
