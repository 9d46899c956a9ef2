"""Parting: the data links of peers that have said goodbye on the control lane, until all they have said over them is heard.

The goodbye of one lane may overtake the last words of the other, the ends of streams among them. So such a link is not ended at
once: most often its own goodbye, or the end of its connection, comes within a millisecond.
"""

from __future__ import annotations

from zdl.protocol.redial import SAID_GOODBYE
from zdl.transport.sockets import LINGER_MS

# After this nothing comes any more: a socket that is closed may take so long to hand over what was sent; and some more.
PARTING_S = LINGER_MS / 1000 + 0.2


class Parting:
    """The links that are to be ended soon.

    Threads: on the loop.
    """

    def __init__(self) -> None:
        self._links: dict[int, tuple[float, str]] = {}

    def __repr__(self) -> str:
        return f"<Parting: {len(self._links)} links>"

    def is_awaited(self, link: int, why: str, now: float) -> bool:
        """Whether the last words of a peer that is gone are waited for; not those of one that was lost."""
        if not why.startswith(SAID_GOODBYE):
            return False
        self._links.setdefault(link, (now + PARTING_S, why))
        return True

    def due(self, now: float) -> list[tuple[int, str]]:
        """The links that have been waited for long enough, and why they end; those that have ended by themselves among them."""
        found = [(link, why) for link, (until, why) in self._links.items() if until <= now]
        for link, _ in found:
            del self._links[link]
        return found

    def deadline(self) -> float | None:
        """When `due` is wanted next."""
        return min((until for until, _ in self._links.values()), default=None)
