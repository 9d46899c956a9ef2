"""Warmth: whether the machine really has the memory that a run is about to take.

In a virtual machine whose free pages go back to its host (free page reporting), the first touch of such a page is a fault
at the host. Measured: to touch 512 MiB takes 27 ms, or 1.1 s when they have been free for some seconds; and while the
host takes pages back, whoever runs is two to four times slower (pulls of 0.8 instead of 2–3 GiB/s). Which run that hits
is chance. So, before a run, as much memory as it will take is touched and given back, at a time when the host is not about
to take any; and a run in which it did so all the same does not count and is repeated (`zdl_bench.undisturbed`), whatever it
gave.

The kernel takes a pass about two seconds after memory was freed, and tells of the bytes only where it has the counter below.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zdl_bench.destination import advised, plain

REPORTED = Path("/sys/module/page_reporting/parameters/reported_kib")
# A pass comes 2.0–2.2 s after the one before it or after memory was freed: after so long without one, none is due.
PASS_S = 2.3
STEP_S = 0.02
# Where others free memory all the time there is never such a moment.
WAIT_S_MAX = 8.0


@dataclass(frozen=True, slots=True)
class Host:
    """Who takes free memory back from this machine.

    Attributes:
        reported: where the kernel tells how much, in KiB; it need not.
        pass_s: after so long without a pass none is due.
        wait_s_max: for such a moment.
        pause: what is done between two looks.
    """

    reported: Path = REPORTED
    pass_s: float = PASS_S
    wait_s_max: float = WAIT_S_MAX
    pause: Callable[[float], object] = time.sleep

    def taken_back_bytes(self) -> int:
        """How much it has taken back since the machine was started; 0 where the kernel does not tell."""
        with suppress(OSError, ValueError):
            return int(self.reported.read_text(encoding="ascii")) * 1024
        return 0

    def wait_until_done(self) -> None:
        """Waits until no pass is due, if the kernel tells of them."""
        began = since = time.monotonic()
        seen = self.taken_back_bytes()
        while seen and (now := time.monotonic()) - since < self.pass_s and now - began < self.wait_s_max:
            self.pause(STEP_S)
            found = self.taken_back_bytes()
            if found != seen:
                seen, since = found, now


def memory_warmed(length: int, *, is_huge: bool = True, is_settled: bool = False, host: Host = Host()) -> None:
    """Touches so many bytes and gives them back: they stay fresh to the process that is measured, not to the machine.

    Args:
        length: bytes.
        is_huge: whether they lie on huge pages. Small ones are found in other places: in the gaps that are too small for huge
            ones, of which the machine may have gigabytes.
        is_settled: whether they are given back when the host is done with what was free before.
        host: who takes them.
    """
    arena = np.frombuffer(advised(length) if is_huge else plain(length), np.uint8)
    arena[::mmap.PAGESIZE] = 1
    if is_settled:
        host.wait_until_done()
