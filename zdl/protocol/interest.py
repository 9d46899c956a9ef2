"""Interest: who has sent over which link, to be told when it is lost; and which losses we were told of ourselves.

A LOST that comes twice (a network may double messages) says nothing new; but what was asked of us in between, by
the next life of who was lost, would end with it.
"""

from __future__ import annotations

from collections import OrderedDict

from zdl.protocol.messages import NO_REQUEST, Kind, Lost, Transit
from zdl.protocol.trace import untraced

# How long, and how many, losses are remembered.
TOLD_S = 1.0
TOLD_MAX = 256
# Those whose ids tell who waits behind a link for the answer to which requests.
_AWAITED = frozenset({int(Kind.REQUEST), int(Kind.WAITING)})


class Interest:
    """What one lane remembers of those whose messages it has passed on.

    Args:
        interest_max: how many origins are remembered per link; those that have sent last.
    """

    def __init__(self, interest_max: int) -> None:
        self._interest_max = interest_max
        self._told: OrderedDict[tuple[str, str, bool, int], float] = OrderedDict()
        self._by_link: dict[int, OrderedDict[str, tuple[int, int]]] = {}

    def remember(self, link: int, message: Transit, came_by: int) -> None:
        """A message goes on over `link`."""
        origins = self._by_link.get(link)
        if origins is None:
            origins = self._by_link[link] = OrderedDict()
        origin = message.origin
        known = origins.get(origin)
        last_id = NO_REQUEST if known is None else known[1]
        if message.id > last_id and untraced(message.of_kind) in _AWAITED:
            last_id = message.id
        if known is None or known[0] != came_by or known[1] != last_id:
            origins[origin] = came_by, last_id
        origins.move_to_end(origin)
        if known is None and len(origins) > self._interest_max:
            origins.popitem(last=False)

    def lost(self, link: int) -> list[tuple[str, int, int]]:
        """The link is lost: who has sent over it, by which link that came, and the id of the last request."""
        return [(origin, *known) for origin, known in self._by_link.pop(link, {}).items()]

    def is_old(self, message: Lost, now: float) -> bool:
        """Whether we were told the same just before."""
        key = (message.origin, message.name, message.beyond, message.id)
        told_at = self._told.get(key)
        self._told[key] = now
        self._told.move_to_end(key)
        if len(self._told) > TOLD_MAX:
            self._told.popitem(last=False)
        return told_at is not None and now < told_at + TOLD_S

    def clear(self) -> None:
        """The cell closes."""
        self._by_link.clear()

    def links(self) -> set[int]:
        """The links that have led somewhere; for simulation."""
        return set(self._by_link)
