"""Routes: which link leads to a cell, from names alone.

In this order: the target itself; from above the target, the longest linked prefix of its name, and
nothing else (a cell that stands above the target must know the way down, so asking upwards would only
loop); from elsewhere, the longest linked prefix, the root, the parent, the nearest linked cell above. Never
back over the link that a message came by.

A **direct** link leads to its peer alone, and only messages of this cell: who is at its other end need not pass
anything on, nor believe that somebody else sends it.
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
        self._direct: dict[str, int] = {}
        self._parent: int | None = None
        self._known: dict[str, int | None] = {}  # what was found since the links changed

    def add(self, fqcn: str, link: int, *, is_parent: bool, is_direct: bool = False) -> None:
        """A link to this cell is up."""
        self._known.clear()
        if is_direct:
            self._direct[fqcn] = link
            return
        self._links[fqcn] = link
        if is_parent:
            self._parent = link

    def remove(self, fqcn: str, link: int) -> None:
        """The link is down."""
        self._known.clear()
        if self._direct.get(fqcn) == link:
            del self._direct[fqcn]
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
        return target in self._links or target in self._direct

    def direct(self, target: str) -> int | None:
        """The direct link to the target, if there is one."""
        return self._direct.get(target)

    def neighbour(self, target: str) -> int | None:
        """The link of the tree to the target itself, if there is one."""
        return self._links.get(target)

    def next_hop(self, target: str, *, came_by: int | None = None) -> int | None:
        """The link that leads to `target`, or None; without `came_by` for a message of this cell."""
        if came_by is not None:
            return self._find(target, came_by)
        if target in self._known:
            return self._known[target]
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        own = self._direct.get(target)
        found = self._known[target] = own if own is not None else self._find(target, None)
        return found

    def by_tree(self, target: str) -> int | None:
        """The link of the tree that leads to `target`, or None, for a message of this cell."""
        return self._find(target, None)

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
        assert self._me not in self._links and self._me not in self._direct, "a route to oneself"
        assert self._parent is None or self._parent in self._links.values()
