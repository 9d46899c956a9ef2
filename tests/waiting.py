"""How tests wait for what another thread or process brings about: by a condition, never by a pause."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")
LOOK_S = 0.002
# Long enough for a machine that does ten other things; nobody waits for it unless the test fails.
PATIENCE_S = 30.0


def eventually(condition: Callable[[], Value], timeout_s: float = PATIENCE_S, what: str = "the condition") -> Value:
    """What `condition` returns as soon as that is true; an `AssertionError` when it does not become true."""
    until = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < until, f"{what} did not come true within {timeout_s} s"
        time.sleep(LOOK_S)
    return value
