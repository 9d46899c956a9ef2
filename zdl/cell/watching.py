"""Watching: what a cell knows about its neighbours and who is below it, and whom it tells when that changes.

::

    control loop ──what happened──▶ Watching ──event──▶ Watchers ──queue of each callback──▶ threads for callbacks

A callback is called by one thread at a time, with every event in the order in which things happened. The threads are
few and for callbacks alone: news that a peer is gone must not wait behind the handlers that wait for that peer.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from zdl.cell.handlers import Pool, Raised, guarded
from zdl.errors import Busy, Closed, PeerLost, Refused, TimedOut, ZdlError
from zdl.options import CallOptions
from zdl.protocol.effects import PeerBack, PeerDown, PeerStalled, PeerUp, SubtreeDown, SubtreeFull, SubtreeUp
from zdl.protocol.messages import Role
from zdl.transport.lanes import Lanes, data_address_of, wait_until

_LOG = logging.getLogger("zdl.cell")
# Callbacks of one kind on one cell; each has at most one job with the pool at a time.
CALLBACKS_MAX = 256
# Events that wait for one callback; with subtree_max=65,536 one loss of everything below still fits.
EVENTS_MAX = 100_000


@dataclass(frozen=True, slots=True)
class PeerEvent:
    """A link of the control lane came up or ended; or its peer has stalled, or is heard again.

    Attributes:
        fqcn: the cell at the other end.
        is_up: whether the link stands.
        why: why it ended, or since when nothing came; empty when it came up.
        role: ``parent``, ``child`` or ``direct``.
        is_stalled: whether nothing came over the link for longer than it should: it is not lost, and may be soon.
        missed_count: events that this callback was too slow for, right before this one; mostly 0.
    """

    fqcn: str
    is_up: bool
    why: str
    role: str
    is_stalled: bool = False
    missed_count: int = 0


@dataclass(frozen=True, slots=True)
class SubtreeEvent:
    """A cell below this one came up, or cannot be reached any more.

    Attributes:
        fqcn: that cell.
        is_up: whether it came up.
        why: why it is gone, as told by who noticed; empty when it came up.
        by: the child of this cell that leads there, which may be that cell itself.
        missed_count: events that this callback was too slow for, right before this one; mostly 0.
    """

    fqcn: str
    is_up: bool
    why: str
    by: str
    missed_count: int = 0


Event = TypeVar("Event", bound=PeerEvent | SubtreeEvent)


class _Watcher(Generic[Event]):
    """One callback, and the events that wait for it."""

    def __init__(self, callback: Callable[[Event], object]) -> None:
        self._callback = callback
        self._lock = threading.Lock()  # guards what follows
        self._events: deque[Event] = deque()
        self._missed_count = 0
        self._is_running = False
        self._is_over = False

    def end(self) -> None:
        """Call it no more."""
        with self._lock:
            self._is_over = True
            self._events.clear()

    def tell(self, event: Event, pool: Pool) -> None:
        """Have it called soon."""
        with self._lock:
            if self._is_over:
                return
            if len(self._events) >= EVENTS_MAX:
                self._missed_count += 1
                return
            if self._missed_count:
                event, self._missed_count = replace(event, missed_count=self._missed_count), 0
            self._events.append(event)
            if self._is_running:
                return
            self._is_running = True
        try:
            pool.submit(self._work)
        except (Busy, Closed) as error:
            with self._lock:
                self._is_running = False
            _LOG.debug("= a callback has to wait: %s", error)

    def _work(self) -> None:
        """On a thread of the pool: call it with what waits."""
        while True:
            with self._lock:
                if not self._events:
                    self._is_running = False
                    return
                event = self._events.popleft()
            raised = guarded(lambda: self._callback(event))
            if isinstance(raised, Raised):
                _LOG.warning("! a callback raised for %s", event.fqcn, exc_info=raised.error)


class Watchers(Generic[Event]):
    """The callbacks for one kind of event.

    Threads: any.

    Args:
        fqcn: the cell, for errors.
        pool: where they are called.
    """

    def __init__(self, fqcn: str, pool: Pool) -> None:
        self._fqcn = fqcn
        self._pool = pool
        self._lock = threading.Lock()  # guards the list, which is replaced, never changed
        self._watchers: tuple[_Watcher[Event], ...] = ()

    def __len__(self) -> int:
        return len(self._watchers)

    def add(self, callback: Callable[[Event], object]) -> Callable[[], None]:
        """Have it called with every event from now on. Returns what takes that back; calling it twice does no harm.

        Raises:
            Busy: there are CALLBACKS_MAX.
        """
        watcher = _Watcher(callback)
        with self._lock:
            if len(self._watchers) >= CALLBACKS_MAX:
                raise Busy(limit="CALLBACKS_MAX", value=CALLBACKS_MAX, at=self._fqcn)
            self._watchers = (*self._watchers, watcher)

        def remove() -> None:
            with self._lock:
                self._watchers = tuple(each for each in self._watchers if each is not watcher)
            watcher.end()

        return remove

    def tell(self, event: Event) -> None:
        """Something has happened."""
        for watcher in self._watchers:
            watcher.tell(event, self._pool)


class Callbacks:
    """All callbacks of one cell, and the threads that call them; a service, closed with the cell.

    Args:
        fqcn: the cell.
        options: limits of its pools.
    """

    def __init__(self, fqcn: str, options: CallOptions) -> None:
        self._pool = Pool(f"zdl-watch-{fqcn}", fqcn, replace(options, handler_queue_max=4 * CALLBACKS_MAX))
        self.peers: Watchers[PeerEvent] = Watchers(fqcn, self._pool)
        self.subtree: Watchers[SubtreeEvent] = Watchers(fqcn, self._pool)

    def close(self, timeout_s: float) -> list[str]:
        """Call nobody any more."""
        running = self._pool.close(timeout_s)
        return [f"{running} callbacks are still running"] if running else []


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """A link of a cell, for reports.

    Attributes:
        fqcn: the cell at the other end.
        lane: ``control`` or ``data``.
        state: ``up``; ``stalled``: nothing came for too long; ``challenged``: another cell wants the name, and it has to
            show that it is alive; ``greeting``.
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
        callbacks: whom its users want to be told.
    """

    def __init__(self, fqcn: str, parent: str | None, lanes: Lanes, callbacks: Callbacks) -> None:
        self._fqcn = fqcn
        self._parent = parent
        self._lanes = lanes
        self._callbacks = callbacks
        self.parent_error: ZdlError | None = None
        self._waiting: dict[object, Callable[[], object]] = {}  # changed by single operations, which need no lock

    def peer_up(self, peer: PeerUp) -> None:
        """A link is up; of the parent, the data lane learns where its data lane listens."""
        _LOG.info("= %s up fqcn=%s", self._fqcn, peer.fqcn)
        if peer.is_parent:
            self.parent_error = None
            address = data_address_of(self._parent or "", peer.data_addresses)
            if address is not None:
                self._lanes.lane.parent_is_at(address)
            self._tell_waiting()
        self._callbacks.peers.tell(PeerEvent(peer.fqcn, True, "", _role(peer.is_parent, peer.role)))

    def peer_down(self, peer: PeerDown) -> None:
        """A link is down; its data link goes with it."""
        _LOG.info("= %s down fqcn=%s why=%s", self._fqcn, peer.fqcn, peer.why)
        if peer.is_parent:
            self.parent_error = PeerLost(target=peer.fqcn, lost=peer.fqcn, at=self._fqcn, why=peer.why)
        if peer.role is not Role.DIRECT:  # a data link outlives a direct one of this lane: that is ended when it is idle
            self._lanes.lane.peer_is_gone(peer.fqcn, peer.why, is_parent=peer.is_parent)
        self._callbacks.peers.tell(PeerEvent(peer.fqcn, False, peer.why, _role(peer.is_parent, peer.role)))

    def peer_stalled(self, peer: PeerStalled | PeerBack) -> None:
        """Nothing came over a link for too long; or something does again."""
        is_stalled = isinstance(peer, PeerStalled)
        why = f"nothing came for {peer.silent_s:.1f} s" if isinstance(peer, PeerStalled) else "it is heard again"
        _LOG.info("= %s %s fqcn=%s why=%s", self._fqcn, "stalled" if is_stalled else "back", peer.fqcn, why)
        known = self._lanes.control_loop.switch.peers.link(peer.link)
        role = Role.CHILD if known is None else known.role
        self._callbacks.peers.tell(PeerEvent(peer.fqcn, True, why, _role(peer.is_parent, role), is_stalled))

    def subtree(self, change: SubtreeUp | SubtreeDown | SubtreeFull) -> None:
        """A cell below this one came up or went down, or there are more than are noted."""
        match change:
            case SubtreeUp(fqcn=fqcn, by=by):
                self._callbacks.subtree.tell(SubtreeEvent(fqcn, True, "", by))
            case SubtreeDown(fqcn=fqcn, by=by, why=why):
                self._callbacks.subtree.tell(SubtreeEvent(fqcn, False, why, by))
            case SubtreeFull(value=value):
                _LOG.warning("! %s: more cells are below it than links.subtree_max=%d; the others are not noted",
                             self._fqcn, value)

    def parent_failed(self, error: ZdlError) -> None:
        """The parent could not be dialled; it is tried again."""
        _LOG.debug("! %s cannot reach its parent: %s", self._fqcn, error)
        self.parent_error = error
        self._tell_waiting()

    def wait_parent(self, timeout_s: float) -> None:
        """See `BareCell.wait_ready`."""
        if not wait_until(self.is_ready, timeout_s):
            raise self.late(timeout_s)

    def is_ready(self) -> bool:
        """Whether the parent is there, or none is needed.

        Raises:
            Refused: it does not want us.
        """
        if self._parent is None or self._lanes.control_loop.switch.routes.parent is not None:
            return True
        if isinstance(self.parent_error, Refused):
            raise self.parent_error
        return False

    def when_parent_changes(self, told: Callable[[], object]) -> Callable[[], None]:
        """Have it called, on the loop, whenever the parent is there or could not be dialled. Returns what takes that back."""
        key = object()
        self._waiting[key] = told
        return lambda: _done(self._waiting.pop(key, None))

    def late(self, waited_s: float) -> TimedOut:
        """What is said to who has waited for the parent long enough."""
        return TimedOut(what="the welcome", address=self._parent or "", waited_s=waited_s, why=str(self.parent_error or ""))

    def _tell_waiting(self) -> None:
        for told in list(self._waiting.values()):
            told()

    def peers(self) -> list[PeerInfo]:
        """The links on both lanes, as they are now."""
        found = []
        for lane, loop in (("control", self._lanes.control_loop), ("data", self._lanes.data_loop)):
            for each in loop.ask(loop.switch.peers.links):
                role = _role(each.is_parent, each.role)
                found.append(PeerInfo(each.fqcn or each.address, lane, each.state.value, role, each.address))
        return found


def _done(told: object) -> None:
    """What comes of taking it back does not matter."""


def _role(is_parent: bool, role: Role) -> str:
    return "parent" if is_parent else role.name.lower()
