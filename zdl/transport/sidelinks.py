"""Side links: the shell of `zdl.protocol.sides`: dials and gives up further links to origins, and tells the pulls of them.

Threads: all methods on the lane.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from zdl.protocol.effects import Effect, SideDown, SideUp, SpreadOver
from zdl.protocol.pulls import Pulls
from zdl.protocol.sides import SideDial, SideHang, Sides
from zdl.protocol.switch import Switch


class SideLinks:
    """The side links of one cell.

    Args:
        switch: of the data lane.
        pulls: of the cell.
    """

    def __init__(self, switch: Switch, pulls: Pulls) -> None:
        self._switch = switch
        self._rerouting = pulls.rerouting
        self._sides = Sides()

    def spread(self, effect: SpreadOver, addresses: Sequence[str], now: float) -> list[Effect]:
        """A pull is to be spread over so many links.

        Args:
            effect: how many.
            addresses: of the origin's data lane; the first is that by which it is reached already.
            now: the time.
        """
        return self._take(self._sides.want(effect.pull_id, effect.origin, effect.count, addresses, now), now)

    def settled(self, pull_id: int, origin: str, now: float) -> list[Effect]:
        """A pull is over."""
        return self._take(self._sides.want(pull_id, origin, 1, (), now), now)

    def perform(self, effect: SideUp | SideDown, now: float) -> list[Effect]:
        """A side link is up, or gone."""
        if isinstance(effect, SideUp):
            origin = self._sides.up(effect.link)
            return [] if origin is None else self._rerouting.side_is_up(origin, effect.link, now)
        self._sides.down(effect.link, now)
        return self._rerouting.side_is_down(effect.fqcn, effect.link, now)

    def failed(self, link: int, now: float) -> list[Effect]:
        """A link could not be dialled; it may have been one of these, then another address is tried."""
        origin = self._sides.down(link, now)
        return [] if origin is None else self._take(self._sides.missing(origin), now)

    def forget(self, origin: str, now: float) -> list[Effect]:
        """The link that leads there is gone."""
        return self._take(self._sides.forget(origin), now)

    def tick(self, now: float) -> list[Effect]:
        """Time passed."""
        return self._take(self._sides.tick(now), now)

    def deadline(self) -> float | None:
        """When `tick` is wanted next."""
        return self._sides.deadline()

    def _take(self, steps: Iterable[SideDial | SideHang], now: float) -> list[Effect]:
        effects: list[Effect] = []
        for step in steps:
            if isinstance(step, SideDial):
                link, dialled = self._switch.peers.dial(step.address, expected=step.origin, now=now, token=step.mark, is_side=True)
                self._sides.dialled(step, link)
                effects += dialled
            else:
                effects += self._switch.hang(step.link, "it is not needed any more", now)
        return effects
