"""Puller: fetches refs: finds the way to each origin, starts the pulls, waits for all of them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from zdl.cell.cell import BareCell
from zdl.cell.handlers import Raised, guarded
from zdl.cell.signal import Signal
from zdl.download.nearby import NearbySink
from zdl.errors import Cancelled, Closed, NoRoute, OriginLost, PeerLost, TimedOut, ZdlError
from zdl.options import Pace
from zdl.refs import Source

# Asked of an origin before it is dialled: where its data lane listens.
CHANNEL = "zdl"
ADDRESSES_TOPIC = "data-addresses"
# An answer is believed for so long; a cell that restarts within it is found again along the tree.
ADDRESSES_KEPT_S = 30.0
ADDRESSES_MAX = 4096
TRANSFERS_KEPT = 256
# What is left of a timeout is at least this: the origin may be known, and linked, already.
LEAST_S = 0.001
# How often a waiting thread looks whether the cell is still open.
LOOK_S = 1.0
# The way of what lies in memory that both cells share, and of a file that is read from where it lies.
MEMORY, COPIED = "memory", "copied"

Progress = Callable[[int, int], object]


class Sink(Protocol):
    """Where a pull lands; see `zdl.download.sinks`."""

    ranges: list[tuple[int, int]]

    @property
    def have(self) -> Sequence[tuple[int, int]]:
        """What is there already, and is confirmed with the rest."""

    @property
    def may_block(self) -> bool:
        """Whether `keep` may wait for a disk."""

    def view(self, offset: int, length: int) -> memoryview:
        """Writable memory for a chunk."""

    def keep(self, offset: int, view: memoryview) -> None:
        """The bytes in the view are verified."""

    def finish(self) -> None:
        """All bytes are kept: make them last. Only asked of what may block."""


@dataclass(slots=True)
class Transfer:
    """One pull, for reports.

    Attributes:
        origin: who lent it.
        label: which offer.
        bytes_total: how much was wanted.
        bytes_done: how much is verified and stored.
        way: ``memory`` (shared with the origin), ``direct``, ``routed``, or ``copied`` from a file on this host; empty before
            it is chosen.
        why: why it was not, or did not stay, direct.
        why_not_shared: why its bytes were sent, and not handed over in memory or as a file of this machine; empty where they
            were, and where nobody would expect it: few bytes, folders, parts of files, and what a cell lends to itself.
        started_at: on the monotonic clock.
        seconds: how long it took; None while it runs.
        error: how it ended, if not well.
        moved_at: when something of it came last, or it began, or ended.
    """

    origin: str
    label: str
    bytes_total: int
    bytes_done: int = 0
    way: str = ""
    why: str = ""
    why_not_shared: str = ""
    started_at: float = 0.0
    seconds: float | None = None
    error: ZdlError | None = None
    moved_at: float = 0.0


# Of pulls of which nothing was noted before they began.
NO_TRANSFERS: Mapping[Sink, Transfer] = MappingProxyType({})


@dataclass(slots=True)
class _Batch:
    """Pulls that somebody waits for together."""

    left: int
    progress: Progress | None
    transfers: list[Transfer] = field(default_factory=list)
    cancels: list[Callable[[str | ZdlError], None]] = field(default_factory=list)
    error: ZdlError | None = None
    why: str = ""
    until: float | None = None
    renew_s: float | None = None
    pace: Pace = Pace()
    put_away: Callable[[Callable[[], None]], None] | None = None
    on_done: Callable[[], object] | None = None
    done: threading.Event = field(default_factory=threading.Event)

    def reason(self) -> str:
        """Why it is to end; empty while it is not. Any thread may have set it."""
        return self.why


class Marker:
    """The one byte of an offer that only stands for something: see `zdl.download.pieces`."""

    def __init__(self) -> None:
        self.ranges: list[tuple[int, int]] = [(0, 1)]
        self.have: list[tuple[int, int]] = []

    @property
    def may_block(self) -> bool:
        """It is put away when somebody says so."""
        return True

    def view(self, offset: int, length: int) -> memoryview:
        """Any memory."""
        return memoryview(bytearray(length))

    def keep(self, offset: int, view: memoryview) -> None:
        """What it says is known."""

    def finish(self) -> None:
        """There is nothing to finish."""


class Holding:
    """A pull of a marker: begun, kept alive, and confirmed or dropped by hand.

    Threads: all methods from any thread.

    Args:
        puller: whose pull it is.
        on_settled: called when it has ended.
    """

    def __init__(self, puller: Puller, on_settled: Callable[[], object]) -> None:
        self._puller = puller
        self._landed = threading.Event()
        self._put_away: Callable[[], None] = lambda: None
        self._on_settled = on_settled
        self.batch = _Batch(1, None, put_away=self._hold, on_done=self._done)

    @property
    def error(self) -> ZdlError | None:
        """How it ended, if not well."""
        return self.batch.error

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end. Returns False when there is none in time."""
        return self.batch.done.wait(timeout_s)

    def finish(self) -> None:
        """Confirm it.

        Raises:
            DownloadError, Closed: it has ended, and not well.
        """
        while not self._landed.wait(LOOK_S):
            self._puller.check_open()
        self._put_away()
        while not self.batch.done.wait(LOOK_S):
            self._puller.check_open()
        if self.batch.error is not None:
            raise self.batch.error

    def cancel(self, why: str | ZdlError) -> None:
        """Drop it, as not wanted any more, or with the error that its receiver has failed with; nothing if it has ended."""
        self._puller.cancel(self.batch, why)

    def _done(self) -> None:
        """On the lane: it has ended."""
        self._landed.set()
        self._on_settled()

    def _hold(self, put_away: Callable[[], None]) -> None:
        """On the lane: the byte is here."""
        self._put_away = put_away
        self._landed.set()


class Puller:
    """The pulling side of a cell.

    Threads: `pull` from any thread but the loops'.

    Args:
        cell: whose lanes are used.
    """

    def __init__(self, cell: BareCell) -> None:
        self._cell = cell
        self._lock = threading.Lock()  # guards the two below
        self._addresses: dict[str, tuple[float, tuple[str, ...]]] = {}
        self._transfers: deque[Transfer] = deque(maxlen=TRANSFERS_KEPT)
        self._is_closed = False
        self._why_ending = ""

    @property
    def transfers(self) -> list[Transfer]:
        """The last pulls, the newest last."""
        with self._lock:
            return list(self._transfers)

    def note(self, source: Source, bytes_total: int) -> Transfer:
        """A transfer that is about to begin; `pull` goes on with it, or `ended` says that there will be no pull."""
        now = time.monotonic()
        transfer = Transfer(source.origin, source.label, bytes_total, started_at=now, moved_at=now)
        with self._lock:
            self._transfers.append(transfer)
        return transfer

    def ended(self, transfer: Transfer, error: ZdlError | None) -> None:
        """It is over. Who looks from another thread takes it to be so when it has its seconds: so these come last."""
        transfer.moved_at = time.monotonic()
        transfer.error = error
        transfer.seconds = transfer.moved_at - transfer.started_at

    def pull(self, wanted: Sequence[tuple[Source, Sink]], *, timeout_s: float | None, abort: Signal | None,
             progress: Progress | None, renew_s: float | None = None, transfers: Mapping[Sink, Transfer] = NO_TRANSFERS,
             pace: Pace | None = None) -> None:
        """Fetch, and return when all is verified and stored.

        Args:
            wanted: offers, and where their bytes shall go.
            timeout_s: how long it may take; None as long as bytes come.
            abort: ends it with `Cancelled`.
            progress: called with bytes done and bytes in all; from the data lane, so it must be quick.
            renew_s: whenever bytes come it may take so long from then.
            transfers: of sinks for which one is noted: what has the way `MEMORY` or `COPIED` is here already.
            pace: how fast, and who goes first; None: as the options of the cell say.

        Raises:
            DownloadError: the first pull that failed; the others are cancelled.
            TimedOut, Cancelled, Closed: nobody waits any more.
        """
        if not wanted:
            return
        started_at = time.monotonic()
        until = None if timeout_s is None else started_at + timeout_s
        batch = _Batch(len(wanted), progress, until=until, renew_s=renew_s, pace=pace or Pace())
        unlink = None if abort is None else abort.on_trigger(
            lambda: self.cancel(batch, f"its signal was triggered with {abort.value!r}"))
        is_over = False
        try:
            for source, sink in wanted:
                self._begin(batch, source, sink, abort, until, transfer=transfers.get(sink))
            is_over = self._wait(batch)
        finally:
            if unlink is not None:
                unlink()
            if not is_over:  # it is late, or who waits was interrupted
                self.cancel(batch, f"it took longer than {timeout_s} s")
        if not is_over:
            self._wait(batch, is_bounded=False)
        if isinstance(batch.error, Cancelled) and not is_over:
            raise TimedOut(what="all bytes", address=wanted[0][0].origin, waited_s=time.monotonic() - started_at)
        if batch.error is not None:
            raise batch.error

    def hold(self, source: Source, *, abort: Signal | None, on_settled: Callable[[], object]) -> Holding:
        """Begin a pull of an offer of one byte that is confirmed when somebody says so, and is kept alive until then.

        Args:
            source: the offer.
            abort: ends the search for the way to its origin; the pull goes on until `Holding.cancel`.
            on_settled: called when the pull has ended, for whatever reason; on the data lane, so it must be quick.
        """
        holding = Holding(self, on_settled)
        self._begin(holding.batch, source, Marker(), abort, None)
        return holding

    def end(self, why: str) -> None:
        """The cell is about to close: what is being copied is not gone on with."""
        self._why_ending = why

    def close(self) -> None:
        """Nothing is pulled any more, and nobody waits for it."""
        self._is_closed = True
        with self._lock:
            self._addresses.clear()

    def check_open(self) -> None:
        """Raises `Closed` when nobody settles pulls any more."""
        if self._is_closed:
            raise Closed(fqcn=self._cell.fqcn)

    # --- inside ---------------------------------------------------------------------------------

    def _wait(self, batch: _Batch, *, is_bounded: bool = True) -> bool:
        """Wait for all pulls; False when it is late. A pull that came when the cell closed is settled by nobody."""
        while True:
            until = batch.until if is_bounded else None
            left = LOOK_S if until is None else min(LOOK_S, until - time.monotonic())
            if batch.done.wait(max(left, 0.0)):
                return True
            self.check_open()
            if until is not None and until == batch.until and time.monotonic() >= until:  # else bytes have moved it
                return False

    def _begin(self, batch: _Batch, source: Source, sink: Sink, abort: Signal | None, until: float | None, *,
               transfer: Transfer | None = None) -> None:
        if transfer is None:
            transfer = self.note(source, sum(length for _, length in (*sink.ranges, *sink.have)))
        with self._lock:
            batch.transfers.append(transfer)
        try:
            if batch.reason():
                raise Cancelled(what=f"the pull of {source.label} from {source.origin}", why=batch.reason())
            addresses, why_not = self._find(source, abort, until)
            lane = self._cell.lane
        except ZdlError as error:
            self._settled(batch, transfer, error)
            return
        if isinstance(sink, NearbySink):
            sink.begin(lambda done: self._progressed(batch, transfer, done), lambda: batch.reason() or self._why_ending)
        cancel = lane.pull(
            source, sink.ranges, sink, addresses, have=sink.have,
            progressed=lambda done, _: self._progressed(batch, transfer, done),
            settled=lambda error: self._settled(batch, transfer, error),
            chosen=lambda is_direct, why: _chosen(transfer, is_direct, why if is_direct else why_not or why),
            put_away=batch.put_away, pace=batch.pace)
        batch.cancels.append(cancel)
        if batch.reason():  # the others were cancelled while this one began
            cancel(batch.reason())

    def _find(self, source: Source, abort: Signal | None, until: float | None) -> tuple[tuple[str, ...], str]:
        """Where the origin's data lane listens; or nothing, and why it is not dialled."""
        origin = source.origin
        if origin == self._cell.fqcn:
            return (), ""
        if not self._cell.options.pulls.direct:
            return (), "the option direct of this cell's pulls is off"
        with self._lock:
            kept_until, known = self._addresses.get(origin, (0.0, ()))
        now = time.monotonic()
        if now < kept_until:
            return known, ""
        timeout_s = self._cell.options.pulls.lost_timeout_s
        if until is not None:
            timeout_s = max(LEAST_S, min(timeout_s, until - now))
        try:
            told = self._cell.request(origin, CHANNEL, ADDRESSES_TOPIC, timeout_s=timeout_s, abort=abort).body
        except (Cancelled, Closed):
            raise
        except (NoRoute, PeerLost) as error:
            raise OriginLost(ref=source.label, origin=origin, bytes_total=source.bytes_total, why=str(error)) from error
        except ZdlError as error:
            return (), f"{origin} did not say where it listens: {error}"
        addresses = tuple(each for each in told if isinstance(each, str)) if isinstance(told, list) else ()
        addresses = self._reachable(addresses)
        with self._lock:
            self._addresses[origin] = (time.monotonic() + ADDRESSES_KEPT_S, addresses)
            while len(self._addresses) > ADDRESSES_MAX:
                del self._addresses[next(iter(self._addresses))]
        return addresses, ""

    def _reachable(self, addresses: Sequence[str]) -> tuple[str, ...]:
        """Those worth dialling from here: inproc only where this cell itself lives in such a context."""
        is_inproc = any(each.startswith("inproc://") for each in self._cell.data_addresses)
        return tuple(each for each in addresses if is_inproc or not each.startswith("inproc://"))

    def _progressed(self, batch: _Batch, transfer: Transfer, done: int) -> None:
        transfer.bytes_done, transfer.moved_at = done, time.monotonic()
        if batch.renew_s is not None and batch.until is not None:
            batch.until = max(batch.until, time.monotonic() + batch.renew_s)
        progress = batch.progress
        if progress is None:
            return
        bytes_done, bytes_total = (sum(each.bytes_done for each in batch.transfers),
                                   sum(each.bytes_total for each in batch.transfers))
        raised = guarded(lambda: progress(bytes_done, bytes_total))
        if isinstance(raised, Raised):  # users' code must not end the lane's work
            batch.progress = None
            self.cancel(batch, f"its progress callback raised {raised.kind}: {raised.text}")

    def _settled(self, batch: _Batch, transfer: Transfer, error: ZdlError | None) -> None:
        if transfer.way == MEMORY and error is None:  # no chunk has told of it
            self._progressed(batch, transfer, transfer.bytes_total)
        self.ended(transfer, error)
        is_first = False
        with self._lock:
            batch.left -= 1
            is_last = batch.left == 0
            if error is not None:
                is_first = batch.error is None
                batch.error = batch.error or error
                self._addresses.pop(transfer.origin, None)
        if is_first:
            self.cancel(batch, "another pull of the same batch failed")
        if is_last:
            batch.done.set()
            if batch.on_done is not None:
                batch.on_done()

    def cancel(self, batch: _Batch, why: str | ZdlError) -> None:
        """End the pulls of a batch."""
        batch.why = batch.why or str(why)
        for cancel in list(batch.cancels):
            with suppress(Closed):  # then it has been cancelled already
                cancel(why)


def _chosen(transfer: Transfer, is_direct: bool, why: str) -> None:
    if transfer.way in (MEMORY, COPIED):  # what is chosen is only how the origin hears that it is here
        return
    transfer.way = "direct" if is_direct else "routed"
    transfer.why = why or transfer.why
