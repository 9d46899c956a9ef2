"""Small requests: one at a time, each timed, and many in flight, counted."""

from __future__ import annotations

import time
from collections.abc import Callable

PAYLOAD = bytes(range(64))
PACE_S = 0.001


def timed(exchange: Callable[[], object], *, count: int) -> dict[str, float]:
    """Does one exchange after the other.

    Returns:
        ``p50_us`` and ``p99_us`` of the time each took.
    """
    clock = time.perf_counter_ns
    took: list[int] = []
    for _ in range(count):
        began = clock()
        exchange()
        took.append(clock() - began)
    took.sort()
    return {"p50_us": took[count // 2] / 1000, "p99_us": took[count * 99 // 100] / 1000}


def paced(exchange: Callable[[], object], *, count: int, meanwhile: Callable[[float], None] | None = None) -> dict[str, float]:
    """Does one exchange every `PACE_S`, as control messages come that nobody waits for in a row.

    Args:
        exchange: does one.
        count: how many.
        meanwhile: spends the time until that one; by default it is slept away.

    Returns:
        ``p50_us``, ``p99_us`` and ``max_us`` of the time each took.
    """
    wait = meanwhile or (lambda until_at: time.sleep(max(0.0, until_at - time.perf_counter())))
    took: list[float] = []
    for _ in range(count):
        began_at = time.perf_counter()
        exchange()
        took.append((time.perf_counter() - began_at) * 1e6)
        wait(began_at + PACE_S)
    took.sort()
    return {"p50_us": took[count // 2], "p99_us": took[count * 99 // 100], "max_us": took[-1]}


def counted(send: Callable[[], object], receive: Callable[[], int], *, count: int, in_flight: int) -> dict[str, float]:
    """Keeps so many requests on their way, until all are answered.

    Args:
        send: sends one request.
        receive: waits for replies; returns how many came.
        count: requests in all.
        in_flight: requests sent and not yet answered, at most.

    Returns:
        ``requests_per_s``.
    """
    began = time.perf_counter()
    sent = answered = 0
    while answered < count:
        while sent < count and sent - answered < in_flight:
            send()
            sent += 1
        answered += receive()
    return {"requests_per_s": count / (time.perf_counter() - began)}
