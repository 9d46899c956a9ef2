"""Leaving: a direct link ends without losing a word that is on its way.

::

    one side                                    the other
      │ LEAVE ──────────────────────────────────▶ │   has heard all that was said, and says nothing more either
      │ ◀────────────────────────────────── LEAVE │   has heard all that was said: the link can end
      │ LEAVE, is_done ─────────────────────────▶ │   so it ends here too

What is said after a LEAVE goes along the tree. A link that breaks before it is done may have lost something.
"""

from __future__ import annotations

from zdl.protocol.effects import Effect, Hang, PeerDown, Send
from zdl.protocol.link import Link, LinkTable, State
from zdl.protocol.messages import Leave, Role


def leave(me: str, table: LinkTable, link: Link, why: str, now: float) -> list[Effect]:
    """Say nothing more over this link, if it is a direct one that is up."""
    if not link.has_name or link.role is not Role.DIRECT:
        return []
    link.left_at = now
    table.forget_name(link)
    return [Send(link.link, Leave(me, False)), PeerDown(link.link, link.fqcn, False, why, link.role, True)]


def left(me: str, table: LinkTable, link: Link, message: Leave, now: float) -> list[Effect]:
    """The other side says nothing more over this link."""
    if link.role is not Role.DIRECT or link.state is State.GREETING or link.is_guest:
        return []
    if link.left_at is None:
        return leave(me, table, link, "the other side has left the direct link", now)
    table.remove(link)
    return [*([] if message.is_done else [Send(link.link, Leave(me, True))]), Hang(link.link)]
