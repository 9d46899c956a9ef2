"""Silence: what it means when nothing comes over a link; and saying something, so that others need not ask.

::

    UP ──nothing for suspect_beats──▶ STALLED ──nothing for dead_beats──▶ the link is ended
     ▲                                  │
     └──────────any frame───────────────┘

A peer that stalls is stopped or cut off, and may come back; one that is lost does not, over this link.
"""

from __future__ import annotations

from zdl.options import LinkOptions
from zdl.protocol.effects import Effect, PeerBack, PeerStalled, Send
from zdl.protocol.link import Link, LinkTable, State
from zdl.protocol.messages import Heartbeat


class Silence:
    """The heartbeats of one lane.

    Args:
        me: our FQCN.
        options: how often, and how long is too long.
    """

    def __init__(self, me: str, options: LinkOptions) -> None:
        self._me = me
        self._options = options
        self._back: list[int] = []

    def is_too_long(self, link: Link, now: float) -> bool:
        """Whether the peer counts as lost."""
        return now - link.heard_at >= self._options.dead_beats * link.heartbeat_s

    def look_at(self, link: Link, now: float) -> list[Effect]:
        """Whether a peer has stalled, and whether it has to hear from us."""
        effects: list[Effect] = []
        silence = now - link.heard_at
        if link.state is State.UP and silence >= self._options.suspect_beats * link.heartbeat_s:
            link.state = State.STALLED
            if link.has_name:
                effects.append(PeerStalled(link.link, link.fqcn, link.is_parent, silence))
        if now - link.said_at >= self._options.heartbeat_s:
            link.said_at = now
            effects.append(Send(link.link, Heartbeat(self._me)))
        return effects

    def ended(self, link: Link) -> None:
        """Something came over a link whose peer had stalled; the next tick says so."""
        if link.has_name:
            self._back.append(link.link)

    def returned(self, table: LinkTable) -> list[Effect]:
        """The peers that had stalled and were heard since this was asked."""
        links = [link for link in map(table.get, self._back) if link is not None and link.has_name]
        self._back.clear()
        return [PeerBack(link.link, link.fqcn, link.is_parent) for link in links]
