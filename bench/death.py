"""How soon is a dead peer known?

A server and one cell below it, in processes of their own; one of them is killed, or stopped (it lives, and says nothing),
and the other one, in this process, tells when it knows. In heartbeats, so that the interval does not matter.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from statistics import median

from zdl.assembly import Cell
from zdl.options import LinkOptions, Options
from zdl_bench.fleet import CELLS, SERVER
from zdl_bench.processes import Child

HEARTBEAT_S = 0.5
SIGNALS = {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP}
KNOWN_S_MAX = 60.0


def beats_until_known(who: str, how: str) -> float:
    """Heartbeats from the signal until the other side has dropped the link.

    Args:
        who: dies, ``server`` or ``site``.
        how: of `SIGNALS`.
    """
    options = Options(links=LinkOptions(heartbeat_s=HEARTBEAT_S))
    with ExitStack() as stack:
        if who == "site":
            cell = stack.enter_context(Cell("server", listen="tcp://127.0.0.1:0", options=options))
            child = stack.enter_context(Child(CELLS))
            child.ask("start", address=cell.addresses[0], first=0, count=1, heartbeat_s=HEARTBEAT_S)
        else:
            child = stack.enter_context(Child(SERVER))
            address = child.ask("start", address="tcp://127.0.0.1:0", heartbeat_s=HEARTBEAT_S)["address"]
            cell = stack.enter_context(Cell("site-0", parent=address, options=options))
            cell.wait_ready()
        known = threading.Event()
        stack.callback(cell.tree.on_peer(lambda event: None if event.is_up or event.is_stalled else known.set()))
        pid = child.pid
        began = time.monotonic()
        os.kill(pid, SIGNALS[how])
        if not known.wait(KNOWN_S_MAX):
            raise TimeoutError(f"{who} {how}: not known after {KNOWN_S_MAX} s")
        beats = (time.monotonic() - began) / HEARTBEAT_S
        if how == "stopped":
            os.kill(pid, signal.SIGKILL)
    return beats


def main(argv: list[str], told: Callable[[str], None] = print) -> int:
    """``python -m zdl_bench.death [--rounds 7] [--json]``."""
    parser = argparse.ArgumentParser(prog="zdl_bench.death", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(argv)
    for who in ("site", "server"):
        for how in SIGNALS:
            beats = [beats_until_known(who, how) for _ in range(asked.rounds)]
            if asked.json:
                told(json.dumps({"who": who, "how": how, "median_beats": median(beats), "max_beats": max(beats)}))
            else:
                told(f"{who} {how}\t{median(beats):.2f} heartbeats\t(at most {max(beats):.2f} in {len(beats)} runs)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
