"""How fast does a cell pass a message on that lends a state dict, and how much does it grow?

Between two bare ends stands a cell whose handler sends on what it is sent, or a ROUTER of bare pyzmq; see
`zdl_bench.forward_roles`. In megabytes of message per second, from the first byte that is sent to the last that has come.
How far the forwarder has grown is counted from when it has passed on small messages, in bytes and in messages.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory

from zdl_bench.lending import lending_message
from zdl_bench.processes import Child
from zdl_bench.question import Told, silent
from zdl_bench.report import Result
from zdl_bench.rounds import Case, Rounds, Sample, System, measure as measured

MB = 1e6
CEILINGS = ("bare_pyzmq", "memcpy")
# A run of one message would be one of whatever the machine does meanwhile.
MESSAGES_COUNT = 9
# A system's name, and what its forwarder does; nothing but pass on where that is bare pyzmq.
SYSTEMS = (("zdl", "looked"), ("zdl_addressed", "addressed"), ("zdl_opened", "opened"))
# Before memory is measured: threads, imports and connections are there.
SMALL_COUNT = 20
_ROLES = "zdl_bench.forward_roles"


class ForwardSystem:
    """One forwarder and its ends; see `zdl_bench.rounds.System`."""

    def __init__(self, name: str, way: str, leaves_count: int) -> None:
        self.name = name
        self._way = way
        self._leaves_count = leaves_count
        kind = "" if way else "Bare"
        self._open = ExitStack()
        self._forwarder = Child(f"{_ROLES}:{kind}Forwarder")
        self._ends = Child(f"{_ROLES}:{kind or 'Zdl'}Ends")
        self._bytes = 0

    def start(self) -> None:
        """Starts the processes, connects them, and has small messages passed on."""
        folder = self._open.enter_context(TemporaryDirectory(prefix="zdl-bench-"))
        self._open.enter_context(self._ends)
        self._open.enter_context(self._forwarder)
        address = self._forwarder.ask("start", scheme="tcp", folder=folder, way=self._way)["address"]
        self._ends.ask("start", address=address)
        self._bytes = self._ends.ask("state", leaves_count=self._leaves_count)["message_bytes"]
        self._ends.ask("forwarded", count=SMALL_COUNT, is_small=True)
        self._forwarder.ask("meter_start")

    def run(self) -> Sample:
        """Some messages, one after the other."""
        elapsed_us = self._ends.ask("forwarded", count=MESSAGES_COUNT)["elapsed_us"]
        grown = self._forwarder.ask("meter_read")
        extra = {"message_bytes": float(self._bytes)}
        if "peak_growth_bytes" in grown:
            extra |= {"forwarder_peak_rss_bytes": grown["peak_growth_bytes"],
                      "forwarder_peak_messages": grown["peak_growth_bytes"] / self._bytes}
        return Sample(self._bytes / elapsed_us, extra)  # bytes by microsecond are megabytes by second

    def stop(self) -> None:
        """Ends the processes."""
        self._open.close()


@dataclass(slots=True)
class CopySystem:
    """The same bytes, copied once in this process."""

    leaves_count: int
    name: str = "memcpy"
    _source: bytes = b""
    _target: bytearray = field(default_factory=bytearray)

    def start(self) -> None:
        """Makes the message."""
        self._source = b"".join(lending_message(self.leaves_count, "site"))
        self._target = bytearray(self._source)

    def run(self) -> Sample:
        """Copies it."""
        began_at = time.perf_counter()
        self._target[:] = self._source
        return Sample(len(self._source) / MB / (time.perf_counter() - began_at))

    def stop(self) -> None:
        """Forgets it."""
        self._source = b""


def measure(leaves_count: int, rounds: Rounds, *, told: Told = silent) -> list[Result]:
    """Measures all ways of passing on.

    Raises:
        PeerFailed: a measured process failed, or other bytes came than were sent.
    """
    case = Case("pack", f"forward {leaves_count} leaves", "MB/s", "higher", CEILINGS)
    systems: list[System] = [ForwardSystem(name, way, leaves_count) for name, way in (*SYSTEMS, ("bare_pyzmq", ""))]
    return measured(case, [*systems, CopySystem(leaves_count)], rounds, told=told)
