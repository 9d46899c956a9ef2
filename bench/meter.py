"""What a process uses between two moments: seconds of CPU, and memory at its highest.

Linux keeps the highest resident size of a process (``VmHWM``) and lets the process set it back to the present one by
writing ``5`` to ``/proc/self/clear_refs`` (proc(5)). Elsewhere, and where a container forbids that, the peak is not
reported.
"""

from __future__ import annotations

import time
from pathlib import Path


class Meter:
    """CPU seconds and growth of memory of the process it lives in.

    Lifetime: `start` and `read` as often as wanted; each `read` counts from the latest `start`.
    """

    def __init__(self) -> None:
        self._cpu_s = 0.0
        self._resident_bytes: int | None = None

    def start(self) -> None:
        """Counts from here."""
        self._resident_bytes = _peak_bytes() if _peak_reset() else None
        self._cpu_s = time.process_time()

    def read(self) -> dict[str, float]:
        """Since `start`: ``cpu_s`` (user and system, all threads) and, where it can be known, ``peak_growth_bytes``
        (highest resident size minus the one at the start; mapped files and shared memory count)."""
        used: dict[str, float] = {"cpu_s": time.process_time() - self._cpu_s}
        peak_bytes = _peak_bytes()
        if self._resident_bytes is not None and peak_bytes is not None:
            used["peak_growth_bytes"] = peak_bytes - self._resident_bytes
        return used


def _peak_reset() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _peak_bytes() -> int | None:
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None
