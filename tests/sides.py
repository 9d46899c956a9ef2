"""Sides: the lanes of one cell without the cell: what its desks report is written down."""

from __future__ import annotations

from contextlib import ExitStack

from zdl.errors import ZdlError
from zdl.options import Options
from zdl.protocol.effects import PeerBack, PeerDown, PeerStalled, PeerUp, SubtreeDown, SubtreeFull, SubtreeUp, Unreachable
from zdl.protocol.messages import Notice, Request
from zdl.transport.control import ControlEvents
from zdl.transport.lanes import Lanes

from waiting import eventually


class Side:
    """Both lanes of one cell.

    Args:
        stack: closes it.
        fqcn: its name.
        parent: the side above.
        options: of the cell.
    """

    def __init__(self, stack: ExitStack, fqcn: str, parent: Side | None = None, options: Options | None = None) -> None:
        self.fqcn = fqcn
        self.handled: list[Request | Notice] = []
        self.aborted: list[tuple[str, int]] = []
        self.undelivered: list[int] = []
        self.ups: list[PeerUp] = []
        self.downs: list[PeerDown] = []
        self.stalls: list[PeerStalled | PeerBack] = []
        self.lost: list[Unreachable] = []
        self.subtree: list[SubtreeUp | SubtreeDown | SubtreeFull] = []
        self.failures: list[ZdlError] = []
        self.lanes = Lanes(fqcn, parent=parent.address if parent else None, listen=("tcp://127.0.0.1:0",), data_listen=(),
                           is_insecure=False, options=options or Options())
        self.control = self.lanes.prepare(fqcn, ControlEvents(
            handle=self.handled.append, abort=lambda *who: self.aborted.append(who), undelivered=self.undelivered.append,
            peer_up=self._up, peer_down=self.downs.append, peer_stalled=self.stalls.append, unreachable=self.lost.append,
            subtree=self.subtree.append,
            parent_failed=self.failures.append, tick=lambda now: None, deadline=lambda: None))
        self.lanes.start(self.control)
        stack.callback(self.lanes.close, 5.0)
        if parent is not None:
            eventually(lambda: self.lanes.data_loop.switch.routes.parent is not None)

    @property
    def address(self) -> str:
        """Where it can be dialled."""
        return self.lanes.addresses[0]

    def _up(self, peer: PeerUp) -> None:
        self.ups.append(peer)
        if peer.is_parent:
            self.lanes.lane.parent_is_at(peer.data_addresses[0])
