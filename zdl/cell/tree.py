"""Tree: ``cell.tree``: who is below a cell, who is linked to it, who can be reached, which way; and news of these.

What is below is told along the tree (`zdl.protocol.subtree`) and at hand without a question. Whether a cell can be
reached is asked of that cell, over the wire, as any request would go.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from zdl.cell.futures import Sending
from zdl.cell.life import Life
from zdl.cell.messages import Reply, Route
from zdl.cell.watching import Callbacks, PeerEvent, SubtreeEvent
from zdl.errors import NoRoute, Refused, RemoteError, ZdlError
from zdl.fqcn import parse
from zdl.options import CallOptions
from zdl.protocol.switch import Way
from zdl.transport.control import Control
from zdl.transport.lanes import Lanes

# What every cell answers, to any cell of its fabric.
CHANNEL = "zdl"
PING_TOPIC = "ping"
# A cell that is there answers within milliseconds; one that stands still is not worth a longer wait.
ASK_S = 5.0


@dataclass(frozen=True, slots=True)
class Reach:
    """Whether a cell can be reached; true in a condition when it can.

    Attributes:
        fqcn: that cell.
        is_reachable: whether it has answered.
        error: why not: mostly `NoRoute`, which names the cell that could not go on, `PeerLost` or `TimedOut`.
        seconds: how long the answer took.
        hops: how many cells passed the answer on.
    """

    fqcn: str
    is_reachable: bool
    error: ZdlError | None
    seconds: float
    hops: int

    def __bool__(self) -> bool:
        return self.is_reachable

    @property
    def why(self) -> str:
        """Why not, as a sentence; empty when it can be reached."""
        return "" if self.error is None else str(self.error)


class Tree:
    """What one cell knows of the tree around it.

    Threads: any. Callbacks run on threads of their own, never on a loop, one event at a time and in order.

    Args:
        fqcn: the cell.
        options: limits of its pools.
        life: what runs for it.
    """

    def __init__(self, fqcn: str, options: CallOptions, life: Life) -> None:
        self._fqcn = fqcn
        self._life = life
        self.callbacks = Callbacks(fqcn, options)
        life.services.append(self.callbacks)

    def __repr__(self) -> str:
        known = "" if self._life.caller is None else f", {len(self._control.subtree)} cells below"
        return f"<Tree of {self._fqcn}{known}>"

    # --- what is at hand ------------------------------------------------------------------------

    def below(self) -> tuple[str, ...]:
        """The names of all cells below this one, sorted; news of a change takes some tens of milliseconds per level."""
        return tuple(sorted(self._lanes.control_loop.ask(self._control.subtree.names)))

    @property
    def below_count(self) -> int:
        """How many cells are below this one."""
        return len(self._control.subtree)

    @property
    def left_out_count(self) -> int:
        """How many names from below were not noted so far, because ``links.subtree_max`` were known."""
        return self._control.subtree.left_out

    def is_peer(self, fqcn: str) -> bool:
        """Whether this cell has a link to that one now: its parent, a child, or one that is linked directly."""
        name = parse(fqcn)
        loop = self._lanes.control_loop
        return loop.ask(lambda: loop.switch.peers.up(name) is not None)

    def way(self, fqcn: str) -> Way:
        """How a message of this cell to that one goes now: over which link, and why not directly.

        Nothing is sent. Many messages to a cell that is not linked have a direct link asked for: ``links.direct``.

        Raises:
            FqcnError: the name is not one.
            Closed: this cell is not open.
        """
        name = parse(fqcn)
        loop = self._lanes.control_loop
        return loop.ask(lambda: loop.switch.way_of(name, time.monotonic()))

    # --- what is asked --------------------------------------------------------------------------

    def is_reachable(self, fqcn: str, timeout_s: float = ASK_S) -> Reach:
        """Ask that cell whether it is there; whatever answer it gives, it is.

        Raises:
            FqcnError: the name is not one.
            Closed: this cell is not open.
        """
        name = parse(fqcn)
        began = time.monotonic()
        try:
            reply = self._ping(name, Sending(timeout_s, resolve=False))
        except ZdlError as error:
            if self._life.caller is None:
                raise
            return not_replied(name, error, time.monotonic() - began)
        return Reach(name, True, None, time.monotonic() - began, reply.hops)

    def route(self, fqcn: str, timeout_s: float = ASK_S) -> Route:
        """The way of a message to that cell, and of its answer, as those who passed them on wrote it down.

        Raises:
            NoRoute, PeerLost, TimedOut: it cannot be reached.
            FqcnError: the name is not one.
        """
        return route_of(self._ping(parse(fqcn), Sending(timeout_s, resolve=False, trace=True)))

    # --- what is told ---------------------------------------------------------------------------

    def on_peer(self, callback: Callable[[PeerEvent], object]) -> Callable[[], None]:
        """Have it called whenever a link of this cell comes up, ends, or stalls; may be called before the cell is started.

        Returns:
            What takes that back.
        """
        return self.callbacks.peers.add(callback)

    def on_subtree(self, callback: Callable[[SubtreeEvent], object]) -> Callable[[], None]:
        """Have it called whenever a cell below this one comes up or goes down; may be called before the cell is started.

        To miss nobody, register it first and look at `below` then.

        Returns:
            What takes that back.
        """
        return self.callbacks.subtree.add(callback)

    # --- inside ---------------------------------------------------------------------------------

    @property
    def _lanes(self) -> Lanes:
        if self._life.lanes is None or self._life.caller is None:
            raise self._life.error()
        return self._life.lanes

    @property
    def _control(self) -> Control:
        control = self._lanes.control
        assert control is not None
        return control

    def _ping(self, name: str, sending: Sending) -> Reply:
        caller = self._life.caller
        if caller is None:
            raise self._life.error()
        return caller.request(name, CHANNEL, PING_TOPIC, None, sending)


def not_replied(name: str, error: ZdlError, seconds: float) -> Reach:
    """What a failed ping says: an error that was made by the cell that was asked is an answer, too."""
    match error:
        case RemoteError(fqcn=by) | Refused(by=by, reason="no-handler") if by == name:
            return Reach(name, True, None, seconds, 0)
        case _:
            return Reach(name, False, error, seconds, 0)


def route_of(reply: Reply) -> Route:
    """The way of a traced ping.

    Raises:
        NoRoute: who answered did not write it down.
    """
    if reply.route is None:
        raise NoRoute(target=reply.origin, at=reply.origin, why="its answer does not say which way it came")
    return reply.route
