"""Returns: what is asked over a direct link is answered over that link.

A guest (see `zdl.protocol.peers`) says a name that nobody has checked. So nothing goes to it by that name; only the
answers to what came over this very link, told by the name and the id in them, do. Whoever really has the name, and
asks by the tree, is answered there. So it is on the control lane, too: a direct link that stands may be that of a former
life of who asks along the tree.
"""

from __future__ import annotations

from collections import OrderedDict

from zdl.protocol.link import Link, LinkTable
from zdl.protocol.messages import Kind, Role, Routed, Transit

# What begins a conversation on the control lane; of a guest everything does.
_REQUEST = Kind.REQUEST


class Returns:
    """The conversations of one lane that others have begun over direct links.

    Args:
        returns_max: how many are remembered; the oldest of more is answered along the tree.

    Attributes:
        links: the link of each, by the name of who began it and the id; mostly empty.
    """

    def __init__(self, returns_max: int) -> None:
        self._returns_max = returns_max
        self.links: OrderedDict[tuple[str, int], int] = OrderedDict()

    def note(self, link: Link, message: Routed | Transit) -> None:
        """A message came over a link, of whatever role."""
        if isinstance(message, Transit):
            return
        key = (message.origin, message.id)
        is_kept = link.role is Role.DIRECT and link.left_at is None and message.kind == _REQUEST
        if not is_kept and not link.is_guest:
            self.links.pop(key, None)
            return
        self.links[key] = link.link
        if len(self.links) > self._returns_max:
            self.links.popitem(last=False)

    def ids(self, link: int | None = None) -> tuple[int, ...]:
        """The conversations that were begun over this link, or over any."""
        return tuple(number for (_, number), by in self.links.items() if link in (None, by))

    def link_for(self, message: Routed, table: LinkTable) -> int | None:
        """The direct link that a message of ours must go by, if it belongs to one of these."""
        key = (message.target, message.id)
        number = self.links.get(key)
        if number is None:
            return None
        link = table.get(number)
        if link is not None and link.left_at is None:
            return number
        del self.links[key]
        return None

    def clear(self) -> None:
        """The cell closes."""
        self.links.clear()
