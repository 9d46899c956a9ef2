"""Routes: which link leads to a cell, from names alone.

In this order: the target itself; from above the target, the longest linked prefix of its name, and
nothing else (a cell that stands above the target must know the way down, so asking upwards would only
loop); from elsewhere, the longest linked prefix, the root, the parent, the nearest linked cell above. Never
back over the link that a message came by.
"""

from __future__ import annotations

from zdl.fqcn import ROOT, ancestors, is_ancestor

# Targets whose next hop is known without looking for it.
KNOWN_MAX = 4096


class Routes:
    """The table of one lane of one cell."""

    def __init__(self, me: str, *, root: str = ROOT) -> None:
        self._me = me
        self._root = root
        self._links: dict[str, int] = {}
        self._parent: int | None = None
        self._known: dict[str, int | None] = {}  # what was found since the links changed

    def add(self, fqcn: str, link: int, *, is_parent: bool) -> None:
        """A link to this cell is up."""
        self._known.clear()
        self._links[fqcn] = link
        if is_parent:
            self._parent = link

    def remove(self, fqcn: str, link: int) -> None:
        """The link is down."""
        self._known.clear()
        if self._links.get(fqcn) == link:
            del self._links[fqcn]
        if self._parent == link:
            self._parent = None

    @property
    def parent(self) -> int | None:
        """The link to the parent, if it is up."""
        return self._parent

    def is_direct(self, target: str) -> bool:
        """Whether the target itself is linked."""
        return target in self._links

    def next_hop(self, target: str, *, came_by: int | None = None) -> int | None:
        """The link that leads to `target`, or None."""
        if came_by is not None:
            return self._find(target, came_by)
        if target in self._known:
            return self._known[target]
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        found = self._known[target] = self._find(target, None)
        return found

    def _find(self, target: str, came_by: int | None) -> int | None:
        direct = self._links.get(target)
        if direct is not None and direct != came_by:
            return direct
        is_above = is_ancestor(self._me, target, root=self._root)
        prefix, dot, _ = target.rpartition(".")
        while dot:
            link = self._links.get(prefix)
            leads_down = not is_above or is_ancestor(self._me, prefix, root=self._root)
            if link is not None and link != came_by and leads_down:
                return link
            prefix, dot, _ = prefix.rpartition(".")
        if is_above:
            return None
        for link in (self._links.get(self._root), self._parent):
            if link is not None and link != came_by:
                return link
        above = map(self._links.get, ancestors(self._me, root=self._root))
        return next((link for link in above if link is not None and link != came_by), None)

    def check(self) -> None:
        """All invariants; for simulation."""
        assert self._me not in self._links, "a route to oneself"
        assert self._parent is None or self._parent in self._links.values()
