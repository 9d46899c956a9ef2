"""Dialling: how the chunks of a pull come: straight from the origin, or along the tree.

For each origin that is wanted and not yet linked, its addresses are dialled one after the other::

    choose ──no address, or not allowed──────────────▶ routed, and why
       ├──a direct link stands──────────────────────▶ direct
       └──Try address 1 ──up───────────────────────▶ direct
              └──failed──▶ Try address 2 … ──none left─▶ routed, and why
              └──direct_timeout_s over─────────────────▶ routed, and why (the dialling goes on, for later pulls)

Which link a chunk takes is decided by the routes alone; this machine only decides what to wait for, and
remembers the reason, which is part of the transfer's report.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from zdl.errors import ZdlError


@dataclass(frozen=True, slots=True)
class Try:
    """Dial this address; who answers must be `origin`."""

    origin: str
    address: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """The pull may begin. `why` says why not directly; empty when direct."""

    pull_id: int
    is_direct: bool
    why: str


@dataclass(slots=True)
class _Dialled:
    """One origin that is being dialled."""

    addresses: deque[str]
    since: float
    waiting: dict[int, float] = field(default_factory=dict)
    why: str = ""


class Dialling:
    """Which of one cell's pulls go straight to their origins.

    Args:
        direct_timeout_s: how long a pull waits for a direct link.
    """

    def __init__(self, direct_timeout_s: float) -> None:
        self._direct_timeout_s = direct_timeout_s
        self._dialling: dict[str, _Dialled] = {}

    def choose(self, pull_id: int, origin: str, addresses: Sequence[str], *, is_linked: bool,
               now: float) -> list[Try | Chosen]:
        """A pull wants to begin; `addresses` is empty where the direct way is not to be tried."""
        if is_linked:
            return [Chosen(pull_id, True, "")]
        known = self._dialling.get(origin)
        if known is None:
            if not addresses:
                return [Chosen(pull_id, False, f"{origin} has no address that could be dialled from here")]
            rest = deque(addresses)
            first = rest.popleft()
            self._dialling[origin] = _Dialled(rest, now, {pull_id: now + self._direct_timeout_s})
            return [Try(origin, first)]
        known.waiting[pull_id] = now + self._direct_timeout_s
        return []

    def linked(self, origin: str) -> list[Try | Chosen]:
        """The direct link is up."""
        known = self._dialling.pop(origin, None)
        return [] if known is None else [Chosen(pull_id, True, "") for pull_id in known.waiting]

    def failed(self, origin: str, error: ZdlError) -> list[Try | Chosen]:
        """The address that was tried leads nowhere."""
        known = self._dialling.get(origin)
        if known is None:
            return []
        known.why = str(error)
        if known.addresses:
            return [Try(origin, known.addresses.popleft())]
        del self._dialling[origin]
        return [Chosen(pull_id, False, known.why) for pull_id in known.waiting]

    def tick(self, now: float) -> list[Try | Chosen]:
        """Pulls that have waited long enough go along the tree."""
        chosen: list[Try | Chosen] = []
        for origin, known in self._dialling.items():
            late = [pull_id for pull_id, until in known.waiting.items() if until <= now]
            for pull_id in late:
                del known.waiting[pull_id]
                why = known.why or f"no direct link to {origin} within {self._direct_timeout_s:.3g} s"
                chosen.append(Chosen(pull_id, False, why))
        return chosen

    def deadline(self) -> float | None:
        """When `tick` is wanted next."""
        return min((until for known in self._dialling.values() for until in known.waiting.values()), default=None)
