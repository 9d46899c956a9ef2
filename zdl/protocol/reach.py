"""Reach: what a pull thinks of its origin: whether there is a way to it, and whether it lives.

::

    reached ──lose_way(): what was asked came back──▶ NO WAY ──has_news(): a chunk of it lands──▶ reached
                                                        │
                                                        ├─ lost_timeout_s later ───────────────▶ lost
                                                        └─ is_dead, and bounces go on: DEATH_S ─▶ lost
    is_dead:  its direct link has broken (is_broken), and the tree has lost it too (is_told_lost)
    suspect:  the tree has lost it, its direct link stands; nothing comes over that for SUSPECT_S ─▶ the link is left

What follows from that is decided in `zdl.protocol.pulls`, where the diagram of a pull stands.
"""

from __future__ import annotations

from dataclasses import dataclass

from zdl.options import PullOptions

# An origin whose direct link is broken and that the tree has lost too is dead, if it is not back by now: one that lives
# dials its parent again after 0.05 to 0.1 s, and then after pauses that double; this outlasts the first five.
DEATH_S = 2.0
# The tree must have said so of a question that is no older: silence may be that of a relay on the way.
BOUNCES_S = 1.0
# How long nothing may come over a direct link while the tree says that its origin is gone; at most half of lost_timeout_s.
SUSPECT_S = 2.0
# Pause before a chunk that bounced is asked for again: time for a relay to come back.
BOUNCED_S = 0.25


@dataclass(slots=True)
class Reach:
    """Whether one origin can be reached, for all that one pull knows.

    Attributes:
        no_way_since: since when every question has come back; None: there is a way.
        no_way_at: when the last one came back.
        no_way_why: what was said of that.
        suspect_at: since when the tree says that it is gone, though its direct link stands; None: nobody says so.
        bounced_at: when a question came back last, and
        bouncing_since: since when they do so without a pause.
        is_broken: its direct link has ended by itself.
        is_told_lost: the tree has said that it has lost it.
    """

    no_way_since: float | None = None
    no_way_at: float = 0.0
    no_way_why: str = ""
    suspect_at: float | None = None
    bounced_at: float = float("-inf")
    bouncing_since: float = float("inf")
    is_broken: bool = False
    is_told_lost: bool = False

    @property
    def is_dead(self) -> bool:
        """Whether its direct link has broken, and the tree has lost it, and says so when it is asked."""
        return self.is_broken and self.is_told_lost

    def lost_at(self, options: PullOptions) -> float | None:
        """When the origin counts as lost, unless a way to it is found before."""
        if self.no_way_since is None:
            return None
        dead_at = self.bouncing_since + min(DEATH_S, options.lost_timeout_s)
        return dead_at if self.is_dead and self.bounced_at >= dead_at - BOUNCES_S else self.no_way_since + options.lost_timeout_s

    def detour_at(self, options: PullOptions, progress_at: float) -> float | None:
        """When the direct link is left, unless something comes over it before."""
        if self.suspect_at is None:
            return None
        return max(self.suspect_at, progress_at) + min(SUSPECT_S, options.lost_timeout_s / 2)

    def has_way_again(self, options: PullOptions, now: float) -> bool:
        """Where there is no way, every question comes back: none came back for long, so the origin is only slow."""
        return now >= self.no_way_at + max(options.lost_timeout_s / 2, 2 * BOUNCED_S)

    def bounced(self, now: float) -> None:
        """A question has come back. Only such as come back one after the other, without a pause, say that there is no origin."""
        if now > self.bounced_at + BOUNCES_S:
            self.bouncing_since = now
        self.bounced_at = now

    def lose_way(self, options: PullOptions, why: str, now: float) -> None:
        """What was asked came back, or cannot come."""
        if self.no_way_since is None or self.has_way_again(options, now):
            self.no_way_since = now
        self.no_way_at, self.no_way_why = now, why

    def has_news(self) -> None:
        """The origin is heard: whatever was thought of it, it lives."""
        self.no_way_since = self.suspect_at = None
        self.is_broken = self.is_told_lost = False
