"""Undisturbed: a run counts only where the host took no memory back from the machine meanwhile; see `zdl_bench.warmth`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from zdl_bench.rounds import Sample
from zdl_bench.warmth import Host

# Beyond the object: buffers of the process and of the kernel.
WARM_BYTES = 64 << 20
# Smaller loads are over long before the host takes a pass, most of the time.
SETTLED_BYTES_MIN = 64 << 20
REPEATS_MAX = 4
# Pages that the run did not need.
TAKEN_BACK_BYTES_MAX = 4 << 20


def undisturbed(run: Callable[[], Sample], *, load_bytes: int, warm: Callable[[bool], object], host: Host = Host()) -> Sample:
    """What a run gives in which the host took no memory back.

    Where it did, the run is repeated, a few times at most; ``taken_back_bytes`` among the extra tells of the last.

    Args:
        run: does the work once.
        load_bytes: how much it moves.
        warm: called before each run, to have the memory warm that it will take; with whether to wait until the host is done
            with what was free before, as before all loads that are not small.
        host: who takes memory back.
    """
    for _ in range(REPEATS_MAX):
        warm(load_bytes >= SETTLED_BYTES_MIN)
        before, began = host.taken_back_bytes(), time.monotonic()
        sample = run()
        taken = host.taken_back_bytes() - before
        if taken <= TAKEN_BACK_BYTES_MAX or time.monotonic() - began > host.pass_s:  # which no repetition would be without
            break
    return replace(sample, extra={**sample.extra, "taken_back_bytes": taken}) if taken else sample
