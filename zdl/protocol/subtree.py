"""Subtree: which cells are below this one, as its children tell, and what this one tells its parent.

A child tells its parent over the control link who came up or went down below it (`Below`): after the welcome all that
are there, later the changes, one message at a time. The next one leaves when the parent has noted the last one, and what
happens meanwhile is collected; so a storm of a thousand joins is a few messages at each level, and a slow parent is
not flooded. A message that is not noted within a heartbeat is said again, the same one: its serial tells. ::

    up the tree     what changed is collected ──subtree_batch_s──▶ BELOW n ──noted──▶ BELOW n + 1 …
                                                       ▲              │
                                                       └──a heartbeat─┘  not noted: said again
    in the parent   BELOW n, n expected ──▶ down, then up, noted;   n less ──▶ noted again;   n more ──▶ not heard

A cell is below this one as long as at least one child leads there; one that has moved from child to child is there all
the time, whoever speaks first. When the link to a child ends, all that only it led to go down with it. A cell that went
down and came up again before its parent was told is told as both, so nobody takes a new start for the old one.

A child may speak only of names below its own. Names beyond ``subtree_max`` are not noted: `SubtreeFull` says so
once, `left_out` counts them. Messages pass without a look at any of this.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from zdl.options import LinkOptions
from zdl.protocol.effects import Effect, PeerDown, PeerUp, Send, SubtreeDown, SubtreeFull, SubtreeUp
from zdl.protocol.frames import BELOW_BYTES_MAX, BELOW_NAMES_MAX, BELOW_WHY_CHARS_MAX
from zdl.protocol.messages import Below, Role

# A name or a reason in a message: what stands before it, and what stands around both.
_AROUND_BYTES = 4
# `SubtreeFull` is said again when it was true no more by this part.
_ROOM = 0.9


@dataclass(slots=True)
class _Child:
    """A link to a child, and the cells that it leads to, the child among them."""

    fqcn: str
    alone: tuple[int]
    expected: int = 0
    names: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Uplink:
    """The link to the parent.

    Attributes:
        link: its number.
        told: who the parent knows to be up, once it has noted what is on its way.
        changed: who has changed since, with the reason of the last end.
        batch_at: when that is told.
        serial: of the next message.
        on_its_way: the message that is not noted yet.
        repeat_at: when it is said again.
    """

    link: int
    told: set[str] = field(default_factory=set)
    changed: dict[str, str] = field(default_factory=dict)
    batch_at: float = 0.0
    serial: int = 0
    on_its_way: Below | None = None
    repeat_at: float = 0.0


class Subtree:
    """What is below one cell.

    Args:
        me: our FQCN.
        options: limits and intervals.

    Attributes:
        due: when `tick` is wanted next.
        left_out: how many names were not noted for want of room.
        refused: how many names a child spoke of that are not below it.
    """

    def __init__(self, me: str, options: LinkOptions) -> None:
        self._me = me
        self._options = options
        self._links_to: dict[str, tuple[int, ...]] = {}
        self._children: dict[int, _Child] = {}
        self._up: _Uplink | None = None
        self._is_full = False
        self.due: float | None = None
        self.left_out = 0
        self.refused = 0

    def __len__(self) -> int:
        return len(self._links_to)

    def names(self) -> tuple[str, ...]:
        """The cells below this one, in no order."""
        return tuple(self._links_to)

    # --- the verbs ------------------------------------------------------------------------------

    def peer_up(self, peer: PeerUp, now: float) -> list[Effect]:
        """A link is up: to a child, which is below us now; or to the parent, which is told all that is."""
        effects: list[Effect] = []
        if peer.is_parent:
            self._up = _Uplink(peer.link, changed=dict.fromkeys(self._links_to, ""), batch_at=now)
            effects = self._say(self._up, now)
        elif peer.role is Role.CHILD:
            child = self._children[peer.link] = _Child(peer.fqcn, (peer.link,))
            effects = self._add(peer.link, child, peer.fqcn, now)
        self._schedule()
        return effects

    def peer_down(self, peer: PeerDown, now: float) -> list[Effect]:
        """A link is down; who was below it alone is below us no more."""
        effects: list[Effect] = []
        if self._up is not None and peer.link == self._up.link:
            self._up = None
        child = self._children.get(peer.link)
        if child is not None:
            behind = f"it is behind {child.fqcn}: {peer.why}"
            for name in sorted(child.names, key=lambda name: (name != child.fqcn, name)):
                effects += self._remove(peer.link, child, name, now, why=peer.why if name == child.fqcn else behind)
            del self._children[peer.link]
        self._schedule()
        return effects

    def receive(self, link: int, message: Below, now: float) -> list[Effect]:
        """A child speaks of what is below it; or the parent has noted what we said."""
        up = self._up
        effects: list[Effect] = []
        if up is not None and link == up.link:
            if up.on_its_way is not None and message.serial == up.on_its_way.serial:
                up.on_its_way = None
                effects = self._say(up, now) if up.batch_at <= now else []
        elif (child := self._children.get(link)) is not None and message.serial <= child.expected:
            if message.serial == child.expected:
                child.expected += 1
                effects = self._heed(link, child, message, now)
            effects.append(Send(link, Below(self._me, message.serial)))
        self._schedule()
        return effects

    def tick(self, now: float) -> list[Effect]:
        """Tells the parent what was collected, or what it has not noted yet."""
        up = self._up
        effects: list[Effect] = []
        if up is not None and up.on_its_way is not None and up.repeat_at <= now:
            up.repeat_at = now + self._options.heartbeat_s
            effects = [Send(up.link, up.on_its_way)]
        elif up is not None and up.on_its_way is None and up.batch_at <= now:
            effects = self._say(up, now)
        self._schedule()
        return effects

    def deadline(self) -> float | None:
        """When `tick` is wanted next."""
        return self.due

    def check(self) -> None:
        """All invariants; for simulation."""
        assert len(self._links_to) <= self._options.subtree_max
        led = {(name, link) for name, links in self._links_to.items() for link in links}
        assert led == {(name, link) for link, child in self._children.items() for name in child.names}
        assert all(links and len(set(links)) == len(links) for links in self._links_to.values())
        if self._up is not None:
            assert self._up.told ^ set(self._links_to) <= set(self._up.changed), "a change that is never told"
            assert self.due is not None or not self._up.changed, "nobody says what has changed"

    # --- inside ---------------------------------------------------------------------------------

    def _heed(self, link: int, child: _Child, message: Below, now: float) -> list[Effect]:
        effects: list[Effect] = []
        below = child.fqcn + "."
        for name, why in message.down:
            if name in child.names and name != child.fqcn:
                effects += self._remove(link, child, name, now, why=why)
        for name in message.up:
            if not name.startswith(below):
                self.refused += 1
            elif name not in child.names:
                effects += self._add(link, child, name, now)
        return effects

    def _add(self, link: int, child: _Child, name: str, now: float) -> list[Effect]:
        others = self._links_to.get(name)
        if others is None and len(self._links_to) >= self._options.subtree_max:
            self.left_out += 1
            was_full, self._is_full = self._is_full, True
            return [] if was_full else [SubtreeFull(self._options.subtree_max)]
        child.names.add(name)
        self._links_to[name] = child.alone if others is None else (*others, link)
        if others is not None:
            return []
        self._note(name, "", now)
        return [SubtreeUp(name, child.fqcn)]

    def _remove(self, link: int, child: _Child, name: str, now: float, *, why: str) -> list[Effect]:
        child.names.discard(name)
        others = tuple(each for each in self._links_to[name] if each != link)
        if others:
            self._links_to[name] = others
            return []
        del self._links_to[name]
        self._is_full = self._is_full and len(self._links_to) > self._options.subtree_max * _ROOM
        self._note(name, why, now)
        return [SubtreeDown(name, child.fqcn, why)]

    def _note(self, name: str, why: str, now: float) -> None:
        """The parent shall hear of this name."""
        up = self._up
        if up is None:
            return
        if not up.changed:
            up.batch_at = now + self._options.subtree_batch_s
        up.changed[name] = why or up.changed.get(name, "")

    def _say(self, up: _Uplink, now: float) -> list[Effect]:
        """As much of what has changed as goes into one message."""
        down: list[tuple[str, str]] = []
        came: list[str] = []
        size = 0
        while up.changed and max(len(down), len(came)) < BELOW_NAMES_MAX and size < BELOW_BYTES_MAX:
            name = next(iter(up.changed))
            why = up.changed.pop(name)[:BELOW_WHY_CHARS_MAX]
            if name in up.told:  # if it is up, it has come up again
                up.told.discard(name)
                down.append((name, why))
                size += len(name) + len(why.encode()) + 2 * _AROUND_BYTES
            if name in self._links_to:
                up.told.add(name)
                came.append(name)
                size += len(name) + _AROUND_BYTES
        if not down and not came:
            return []
        up.on_its_way = Below(self._me, up.serial, tuple(down), tuple(came))
        up.serial += 1
        up.repeat_at = now + self._options.heartbeat_s
        return [Send(up.link, up.on_its_way)]

    def _schedule(self) -> None:
        up = self._up
        if up is None:
            self.due = None
        elif up.on_its_way is not None:
            self.due = up.repeat_at
        else:
            self.due = up.batch_at if up.changed else None
