"""Rerouting: what the pulls of one cell hear of the links that lead to their origins.

::

    a way is lost or changes ─▶ changed()       what was asked over it is asked again, over what there is
    the tree loses an origin ─▶ suspect()       its direct link may stand like a dead man's: `zdl.protocol.reach`
    a side link comes, goes ──▶ side_is_up(), side_is_down()   a pull that is spread asks over one more, or one less

The states of a pull, and of a chunk in it, stand in `zdl.protocol.pulls`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from zdl.protocol.asking import Asking, doubted
from zdl.protocol.effects import Effect
from zdl.protocol.fetching import Pull, State


class Rerouting:
    """What leads from one cell to the origins of its pulls.

    Args:
        pulls: all of them, by number; another machine's, and only looked at here.
        asking: asks for what is wanted.
    """

    def __init__(self, pulls: Mapping[int, Pull], asking: Asking) -> None:
        self._pulls = pulls
        self._asking = asking

    def suspect(self, origin: str, now: float) -> None:
        """The tree has lost an origin to which there is a direct link; it may be that link that stands, or the origin is gone."""
        for pull in self._pulls.values():
            if pull.source.origin == origin and pull.reach.suspect_at is None and not pull.is_over:
                pull.reach.suspect_at, pull.reach.is_told_lost = now, True

    def changed(self, origin: str, now: float, *, is_direct: bool = False, is_broken: bool = False) -> list[Effect]:
        """The link that led to `origin` is gone: what was asked is asked again, over another direct one or what there is.

        `is_broken`: it was a direct one, and the connection has ended by itself.
        """
        effects: list[Effect] = []
        for pull in self._pulling(origin):
            pull.doubt_all()
            pull.window.forget_path()
            pull.spread.forget_path()
            pull.is_direct, pull.reach.suspect_at = is_direct, None
            pull.reach.is_broken = pull.reach.is_broken or is_broken
            effects += self._asking.fill(pull, now)
        return effects

    def side_is_up(self, origin: str, link: int, now: float) -> list[Effect]:
        """There is another link to an origin, for pulls that are spread."""
        self._asking.sides.setdefault(origin, []).append(link)
        return [effect for pull in self._pulling(origin) for effect in self._asking.fill(pull, now)]

    def side_is_down(self, origin: str, link: int, now: float) -> list[Effect]:
        """It is gone: what was asked over it is asked again over the others."""
        self._asking.lose_side(origin, link)
        return [effect for pull in self._pulls.values() if pull.state is State.PULLING and doubted(pull, link)
                for effect in self._asking.fill(pull, now)]

    def _pulling(self, origin: str) -> Iterator[Pull]:
        """Those that ask this origin for bytes."""
        return (pull for pull in self._pulls.values() if pull.source.origin == origin and pull.state is State.PULLING)
