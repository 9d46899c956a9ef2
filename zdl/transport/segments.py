"""Segments: the memory of one cell that others of this machine map, and what it has mapped of theirs.

::

    take ──▶ filled, sealed, handed over ──▶ give_back ──▶ idle ──┬─ nobody has it any more: the next `take` gets it
                                                                 └─ segments_kept_s over, or room is needed: gone

Memory that was touched before takes a copy at 19 GiB/s, fresh memory at 1.2 to 2: so what is given back is kept for a while. It
is used again where the kernel says that nobody else has it open or mapped (`Segment.is_free`), or where the one who asks is
the only one to whom it was given, and says himself that he reads it no more. All segments together are bounded, and
what the machine has left is looked at before one is made: without memory a process is killed, and does not get an error.

The other side keeps **views**: a mapping of somebody else's segment costs a page fault for every 64 KiB when it is read for
the first time, so who copies out of one keeps the mapping for a moment, the last one of each origin.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from zdl.errors import Busy, TooLarge
from zdl.options import OfferOptions
from zdl.transport.handover import Handover, taken
from zdl.transport.shm import Segment, check_sealed, mapped_private, mapped_shared, room_bytes

# How long a mapping is kept by who copies out of it: for the next pull of a loop, and no longer.
VIEW_KEPT_S = 2.0
VIEWS_MAX = 16
# How often something that waits for the kernel's word is asked for again.
LOOK_S = 0.1


@dataclass(slots=True)
class _Idle:
    """A segment that nothing is lent in."""

    segment: Segment
    until: float


@dataclass(slots=True)
class _Given:
    """To whom a segment was given; `keeper`: the only one, who copies out of it, and says when he reads it no more."""

    keeper: str = ""
    is_to_others: bool = False


@dataclass(slots=True)
class _View:
    """The last segment of one origin that was copied out of; `is_alone`: nobody else was given it, as its origin said."""

    id: bytes
    offer_id: bytes
    is_alone: bool
    memory: memoryview
    until: float


class Segments:
    """The segments of one cell.

    Threads: all methods from any thread.

    Args:
        fqcn: the cell.
        options: the bound, and how long what is idle is kept.
        host: who may share with it says the same; see `zdl.transport.place.host`.
        room: how much memory one segment may take now.
        view_kept_s: how long a mapping is kept by who copies out of it.

    Attributes:
        host: as given.
        handover: how segments get to others.
    """

    def __init__(self, fqcn: str, options: OfferOptions, *, host: str, room: Callable[[], int] = room_bytes,
                 view_kept_s: float = VIEW_KEPT_S) -> None:
        self.host = host
        self._fqcn = fqcn
        self._options = options
        self._room = room
        self._view_kept_s = view_kept_s
        self._lock = threading.Lock()  # guards all below
        self._given: dict[bytes, _Given] = {}
        self._idle: deque[_Idle] = deque()
        self._bytes = 0
        self._views: dict[str, _View] = {}
        self._waiting: list[Callable[[], bool]] = []
        self._is_closed = False
        self.handover = Handover(fqcn, self._look)

    def __repr__(self) -> str:
        return f"<Segments of {self._fqcn}: {self._bytes} bytes, {len(self._idle)} idle>"

    @property
    def nbytes(self) -> int:
        """What all segments of this cell take together, those that are idle too."""
        with self._lock:
            return self._bytes

    # --- what is lent ---------------------------------------------------------------------------

    def take(self, size: int, *, asker: str = "", unread: frozenset[bytes] = frozenset(), beside: int = 0) -> Segment:
        """A segment of at least so many bytes: one that is sealed, and all of it was written; or a fresh one.

        Args:
            size: in bytes.
            asker: for whom it will be filled.
            unread: segments that he keeps mapped, by id, and does not read now.
            beside: so much memory more is about to be needed on this machine.

        Raises:
            Busy: ``segments_bytes_max`` is reached.
            TooLarge: the machine, or a control group, has not so much memory left.
            OSError: the system says no.
        """
        need = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        most = self._options.segments_bytes_max
        with self._lock:
            for idle in self._idle:
                if need <= idle.segment.size <= 2 * need and self._may_write(idle.segment, asker, unread):
                    self._idle.remove(idle)
                    self._given[idle.segment.id] = _Given()
                    return idle.segment
            while self._idle and self._bytes + need > most:
                self._drop(self._idle.popleft().segment)
            if self._bytes + need > most:
                raise Busy(limit="segments_bytes_max", value=most, at=self._fqcn)
            self._bytes += need
        is_made = False
        try:
            room = self._room()
            if need + beside > room:
                raise TooLarge(what="a segment of memory for this host", size=need, limit="free memory", value=room)
            segment = Segment.made(need, self._fqcn)
            is_made = True
        finally:
            if not is_made:
                self._forget(need)
        with self._lock:
            self._given[segment.id] = _Given()
        return segment

    def give(self, segments: Sequence[Segment], receiver: str, *, is_kept: bool) -> list[int]:
        """Descriptors of these for a receiver; `is_kept`: he copies out of them, and says when he reads them no more.

        Raises:
            OSError: this process has too many descriptors.
        """
        found: list[int] = []
        is_whole = False
        try:
            for segment in segments:
                with self._lock:
                    given = self._given[segment.id]
                    if is_kept and given.keeper in ("", receiver):
                        given.keeper = receiver
                    else:
                        given.is_to_others = True
                found.append(segment.opened())
            is_whole = True
            return found
        finally:
            for descriptor in () if is_whole else found:
                os.close(descriptor)

    def is_alone(self, segments: Sequence[Segment], receiver: str) -> bool:
        """Whether these were given to nobody but a receiver who keeps them."""
        with self._lock:
            given = [self._given[each.id] for each in segments if each.id in self._given]
        return all(not each.is_to_others and each.keeper in ("", receiver) for each in given)

    def give_back(self, segment: Segment) -> None:
        """Nothing is lent in it any more. What is not sealed was not filled, and is of no use."""
        with self._lock:
            if self._is_closed or not segment.is_sealed:
                self._drop(segment)
                return
            self._idle.append(_Idle(segment, time.monotonic() + self._options.segments_kept_s))
        self._wake()

    def drop(self, segment: Segment) -> None:
        """It is used by nobody here any more, and is not kept."""
        with self._lock:
            self._drop(segment)

    def watch(self, look: Callable[[], bool]) -> None:
        """Have something looked after by the thread, again and again until it says True. It must not block or raise."""
        with self._lock:
            self._waiting.append(look)
        self._wake()

    # --- what others lend -----------------------------------------------------------------------

    def unread(self, origin: str, offer_id: bytes) -> frozenset[bytes]:
        """Segments of an origin that are mapped here, and that nobody reads. Whoever asks is the only one who reads them next.

        Of another offer's segment the origin may want to make use; where others have it too, it can as soon as we let go of it.
        """
        with self._lock:
            view = self._views.get(origin)
            if view is not None and view.offer_id != offer_id and not view.is_alone:
                view = self._views.pop(origin) and None
            return frozenset() if view is None else frozenset({view.id})

    def fetch(self, address: str, ticket: bytes, secret: bytes, *, count: int, timeout_s: float) -> list[int]:
        """Descriptors of segments of an origin; see `zdl.transport.handover.taken`."""
        return taken(address, ticket, secret, count=count, timeout_s=timeout_s)

    def mapped(self, descriptor: int, size: int) -> memoryview:
        """Somebody else's segment, copy-on-write, for as long as there are views of it; see `zdl.transport.shm`.

        Raises:
            OSError: it cannot be trusted, or not be mapped.
        """
        check_sealed(descriptor, size)
        return mapped_private(descriptor, size)

    def view(self, origin: str, offer_id: bytes, segment_id: bytes, descriptor: int, *, size: int, is_alone: bool) -> memoryview:
        """The same, to be read only, by the one who asked with what `unread` says; it is kept for a moment after that.

        Raises:
            OSError: it cannot be trusted, or not be mapped.
        """
        check_sealed(descriptor, size)
        with self._lock:
            known = self._views.pop(origin, None)
        memory = mapped_shared(descriptor, size) if known is None or known.id != segment_id else known.memory
        view = _View(segment_id, offer_id, is_alone, memory, time.monotonic() + self._view_kept_s)
        with self._lock:
            if not self._is_closed and len(self._views) < VIEWS_MAX:
                self._views[origin] = view
        self._wake()
        return memory

    # --- its end --------------------------------------------------------------------------------

    def close(self, timeout_s: float) -> bool:
        """Let go of everything, and end the thread. Returns whether it ended in time."""
        with self._lock:
            self._is_closed = True
            self._views.clear()
            self._waiting.clear()
            while self._idle:
                self._drop(self._idle.popleft().segment)
        return self.handover.close(timeout_s)

    # --- inside ---------------------------------------------------------------------------------

    def _may_write(self, segment: Segment, asker: str, unread: frozenset[bytes]) -> bool:
        """With the lock."""
        given = self._given[segment.id]
        return segment.is_free() or (not given.is_to_others and given.keeper == asker and segment.id in unread)

    def _look(self, now: float) -> float | None:
        """On the thread: what is idle for too long goes. Returns when it looks again."""
        gone: list[object] = []  # unmapping takes 25 ms per GiB, and nobody shall wait for the lock as long
        with self._lock:
            while self._idle and self._idle[0].until <= now:
                segment = self._idle.popleft().segment
                self._uncount(segment)
                gone.append(segment)
            for origin in [origin for origin, view in self._views.items() if view.until <= now]:
                gone.append(self._views.pop(origin))
            times = [each.until for each in self._idle] + [each.until for each in self._views.values()]
            waiting = list(self._waiting)
        gone.clear()
        done = [look for look in waiting if look()]
        with self._lock:
            self._waiting = [look for look in self._waiting if look not in done]
            if self._waiting:
                times.append(now + LOOK_S)
        return min(times, default=None)

    def _wake(self) -> None:
        with suppress(OSError):  # without the thread what is idle is kept until room is needed, or until the end
            self.handover.wake()

    def _forget(self, size: int) -> None:
        with self._lock:
            self._bytes -= size

    def _drop(self, segment: Segment) -> None:
        """With the lock."""
        self._uncount(segment)
        segment.close()

    def _uncount(self, segment: Segment) -> None:
        """With the lock."""
        if self._given.pop(segment.id, None) is not None:
            self._bytes -= segment.size
