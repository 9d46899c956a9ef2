"""How soon is a dead peer known?

A server and one cell below it, in processes of their own; one of them is killed, or stopped (it lives, and says nothing),
and the other one, in this process, tells when it knows. In heartbeats, so that the interval does not matter.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass

from zdl.assembly import Cell
from zdl.options import LinkOptions, Options
from zdl_bench.fleet import CELLS, SERVER
from zdl_bench.processes import Child
from zdl_bench.question import Bench, Told, silent
from zdl_bench.report import Environment, Result
from zdl_bench.rounds import Case, Rounds, Sample, results

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


@dataclass(frozen=True, slots=True)
class DeathQuestion:
    """What to measure: each way in which each side can die.

    Attributes:
        rounds: how often.
    """

    rounds: Rounds = Rounds(7, warm_ups=0)


def measure(question: DeathQuestion = DeathQuestion(), *, told: Told = silent) -> list[Result]:
    """Measures all of them.

    Raises:
        PeerFailed: a process failed.
        TimeoutError: a death was not known.
    """
    environment = Environment.found()
    found: list[Result] = []
    for who in ("site", "server"):
        for how in SIGNALS:
            beats = [beats_until_known(who, how) for _ in range(question.rounds.warm_ups + question.rounds.count)]
            told(f"{who} {how}  {max(beats):.3g} heartbeats at most")
            case = Case("death", f"{who} {how}", "heartbeats", "lower", ())
            found.extend(results(case, [{"zdl": Sample(each)} for each in beats[question.rounds.warm_ups:]], environment))
    return found


BENCH = Bench(DeathQuestion, measure)
