"""Sides: further links to origins, beside the one that leads there, for pulls that are spread over several.

A side link is dialled as a direct one is, by the same addresses, and has no name and leads nowhere: questions are put on it one
by one, and are answered over it. All pulls from one origin share its side links; there are as many as the pull needs that needs
most. When none needs them any more they stay for a while, for the next. One that breaks, or cannot be dialled by any address, is
dialled again after a pause, as long as it is wanted; the pause grows while this goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

IDLE_S = 5.0
# The first pause and the longest one; who breaks no more for that long begins with the first again.
AGAIN_S, AGAIN_MAX_S = 0.5, 30.0
# A number that names a side link to its origin: that of a link that was given up may be used again.
MARK_BYTES = 16


@dataclass(frozen=True, slots=True)
class SideDial:
    """Dial this address once more; who answers must be `origin`."""

    origin: str
    address: str
    mark: bytes


@dataclass(frozen=True, slots=True)
class SideHang:
    """Give up a side link."""

    link: int


@dataclass(slots=True)
class _Origin:
    """What is known of one origin."""

    addresses: tuple[str, ...]
    wanted: dict[int, int] = field(default_factory=dict)
    up: dict[int, bytes] = field(default_factory=dict)
    dialling: dict[int, bytes] = field(default_factory=dict)
    idle_at: float | None = None
    tried: int = 0  # addresses that did not answer, one after the other
    pause_s: float = AGAIN_S
    broke_at: float | None = None
    again_at: float | None = None

    @property
    def lacking(self) -> int:
        """How many are wanted, and neither there nor dialled."""
        return max(0, max(self.wanted.values(), default=0) - len(self.up) - len(self.dialling))

    def breaks(self, now: float) -> None:
        """There are less than are wanted, and no address that would be tried now."""
        if self.again_at is not None:
            return
        is_new = self.broke_at is None or now > self.broke_at + AGAIN_MAX_S
        self.pause_s = AGAIN_S if is_new else min(2 * self.pause_s, AGAIN_MAX_S)
        self.broke_at, self.again_at = now, now + self.pause_s


class Sides:
    """The side links of one cell."""

    def __init__(self) -> None:
        self._origins: dict[str, _Origin] = {}
        self._by_link: dict[int, str] = {}

    def links(self, origin: str) -> tuple[int, ...]:
        """Those that are up."""
        known = self._origins.get(origin)
        return () if known is None else tuple(known.up)

    def want(self, pull_id: int, origin: str, count: int, addresses: Sequence[str], now: float) -> list[SideDial | SideHang]:
        """A pull wants to be spread over so many links, the one that leads there among them; over one: it needs none."""
        known = self._origins.get(origin)
        if known is None:
            if count <= 1 or not addresses:
                return []
            known = self._origins[origin] = _Origin(tuple(addresses))
        if count > 1:
            known.wanted[pull_id] = count - 1
        else:
            known.wanted.pop(pull_id, None)
        known.idle_at = None if known.wanted else now + IDLE_S
        most = max(known.wanted.values(), default=len(known.up))
        steps: list[SideDial | SideHang] = [SideHang(link) for link in [*known.up][most:]] if known.wanted else []
        return [*steps, *self.missing(origin)]

    def missing(self, origin: str) -> list[SideDial]:
        """What is to be dialled, because it is wanted and not there."""
        known = self._origins.get(origin)
        if known is None or known.again_at is not None:
            return []
        used = {*known.up.values(), *known.dialling.values()}
        marks = (number.to_bytes(MARK_BYTES, "big") for number in range(1, known.lacking + len(used) + 1))
        free = (mark for mark in marks if mark not in used)
        return [SideDial(origin, known.addresses[known.tried], next(free)) for _ in range(known.lacking)]

    def dialled(self, step: SideDial, link: int) -> None:
        """It has this number."""
        self._by_link[link] = step.origin
        self._origins[step.origin].dialling[link] = step.mark

    def up(self, link: int) -> str | None:
        """It is welcomed. Returns its origin; None: nobody wants it any more."""
        known = self._of(link)
        if known is None:
            return None
        known.up[link] = known.dialling.pop(link)
        known.tried = 0
        return self._by_link[link]

    def down(self, link: int, now: float) -> str | None:
        """It is gone; or was never up, then the next is dialled by another address. Returns its origin if it was one of these."""
        known = self._of(link)
        if known is None:
            return None
        was_up = known.up.pop(link, None) is not None
        if not was_up:
            known.dialling.pop(link, None)
            known.tried = (known.tried + 1) % len(known.addresses)
        if known.lacking and (was_up or known.tried == 0):
            known.breaks(now)
        return self._by_link.pop(link)

    def forget(self, origin: str) -> list[SideDial | SideHang]:
        """The link that leads there is gone: so is what stands beside it."""
        known = self._origins.pop(origin, None)
        links = [] if known is None else [*known.up, *known.dialling]
        for link in links:
            del self._by_link[link]
        return [SideHang(link) for link in links]

    def tick(self, now: float) -> list[SideDial | SideHang]:
        """What nobody has needed for a while is given up, and what broke a while ago is dialled again."""
        idle = [origin for origin, known in self._origins.items() if known.idle_at is not None and known.idle_at <= now]
        steps = [step for origin in idle for step in self.forget(origin)]
        for origin, known in self._origins.items():
            if known.again_at is not None and known.again_at <= now:
                known.again_at = None
                steps += self.missing(origin)
        return steps

    def deadline(self) -> float | None:
        """When `tick` is wanted next."""
        return min((at for each in self._origins.values() for at in (each.idle_at, each.again_at) if at is not None), default=None)

    def check(self) -> None:
        """All invariants; for simulation."""
        assert {link: origin for origin, each in self._origins.items() for link in (*each.up, *each.dialling)} == self._by_link
        for each in self._origins.values():
            marks = [*each.up.values(), *each.dialling.values()]
            assert len(set(marks)) == len(marks), "two links with one mark"
            assert each.wanted or each.idle_at is not None, "nobody would end it"

    def _of(self, link: int) -> _Origin | None:
        origin = self._by_link.get(link)
        return None if origin is None else self._origins[origin]
