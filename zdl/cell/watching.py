"""Watching: what a cell knows about its neighbours: whether its parent is there, and who is linked."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from zdl.errors import PeerLost, Refused, TimedOut, ZdlError
from zdl.protocol.effects import PeerDown, PeerUp
from zdl.transport.lanes import Lanes, data_address_of, wait_until

_LOG = logging.getLogger("zdl.cell")


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """A link of a cell, for reports.

    Attributes:
        fqcn: the cell at the other end.
        lane: ``control`` or ``data``.
        state: ``up``, ``suspect`` or ``greeting``.
        role: ``parent``, ``child`` or ``direct``.
        address: what was dialled; empty where the other side dialled.
    """

    fqcn: str
    lane: str
    state: str
    role: str
    address: str


class Watching:
    """The neighbours of one cell.

    Threads: what ends in ``_up``, ``_down`` or ``_failed`` on the control loop; the rest from any thread.

    Args:
        fqcn: the cell.
        parent: the address of its parent, if it has one.
        lanes: its lanes.
    """

    def __init__(self, fqcn: str, parent: str | None, lanes: Lanes) -> None:
        self._fqcn = fqcn
        self._parent = parent
        self._lanes = lanes
        self.parent_error: ZdlError | None = None

    def peer_up(self, peer: PeerUp) -> None:
        """A link is up; of the parent, the data lane learns where its data lane listens."""
        _LOG.info("= %s up fqcn=%s", self._fqcn, peer.fqcn)
        if peer.is_parent:
            self.parent_error = None
            address = data_address_of(self._parent or "", peer.data_addresses)
            if address is not None:
                self._lanes.lane.parent_is_at(address)

    def peer_down(self, peer: PeerDown) -> None:
        """A link is down; its data link goes with it."""
        _LOG.info("= %s down fqcn=%s why=%s", self._fqcn, peer.fqcn, peer.why)
        if peer.is_parent:
            self.parent_error = PeerLost(target=peer.fqcn, lost=peer.fqcn, at=self._fqcn, why=peer.why)
        self._lanes.lane.peer_is_gone(peer.fqcn, peer.why)

    def parent_failed(self, error: ZdlError) -> None:
        """The parent could not be dialled; it is tried again."""
        _LOG.debug("! %s cannot reach its parent: %s", self._fqcn, error)
        self.parent_error = error

    def wait_parent(self, timeout_s: float) -> None:
        """See `BareCell.wait_ready`."""
        if self._parent is None:
            return
        routes = self._lanes.control_loop.switch.routes
        wait_until(lambda: routes.parent is not None or isinstance(self.parent_error, Refused), timeout_s)
        if routes.parent is not None:
            return
        if isinstance(self.parent_error, Refused):
            raise self.parent_error
        raise TimedOut(what="the welcome", address=self._parent, waited_s=timeout_s, why=str(self.parent_error or ""))

    def peers(self) -> list[PeerInfo]:
        """The links on both lanes, as they are now."""
        found = []
        for lane, loop in (("control", self._lanes.control_loop), ("data", self._lanes.data_loop)):
            for each in loop.ask(loop.switch.peers.links):
                role = "parent" if each.is_parent else each.role.name.lower()
                found.append(PeerInfo(each.fqcn or each.address, lane, each.state.value, role, each.address))
        return found
