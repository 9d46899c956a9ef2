"""Consuming: the receiver's side of what is lent piece by piece: asks, and feeds a `Consumer`.

::

    caller's thread   ask ahead ─▶ wait for the next answer ─▶ consume its pieces ─▶ … ─▶ download_completed ─▶ confirm
    handler pool             answers come, their large leaves are pulled

The marker (`zdl.download.pieces`) is pulled beside it: it tells the origin that this receiver has begun and lives, tells the
receiver when the object is no longer lent, and is confirmed in the end.
"""

from __future__ import annotations

import copy
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field

from zdl.cell.cell import BareCell
from zdl.cell.handlers import Raised, guarded
from zdl.cell.messages import Reply
from zdl.cell.signal import Signal
from zdl.download.consumer import Consumer
from zdl.download.downloadable import ProduceRC, State
from zdl.download.fetching import Fetcher
from zdl.download.patience import Limits
from zdl.download.pieces import PRODUCE_TOPIC, TOKEN_BYTES, Piece, Question, frames_of, pieces_of
from zdl.download.puller import CHANNEL, Holding, Puller
from zdl.download.retries import Retries
from zdl.download.sizes import bytes_of
from zdl.errors import (
    Cancelled,
    Closed,
    ConsumerFailed,
    NoRoute,
    OptionError,
    OriginFailed,
    OriginLost,
    PeerLost,
    Stalled,
    TimedOut,
    UnknownRef,
    ZdlError,
)
from zdl.objects.externalize import find_refs, replace_refs
from zdl.objects.unpack import unpack
from zdl.observe.progress import ABORTED, COMPLETED, FAILED, INTERVAL_S, ProgressMeter, TransferProgress
from zdl.refs import Ref, Source

_LOG = logging.getLogger("zdl.download")
# Answers that are asked for before the one that is being consumed is done: one comes while another is consumed.
DEPTH = 2
RETRIES = 3
# Why an object is unknown, the marker's answer says; it is on its way when this is found out.
WHY_S = 1.0

OnProgress = Callable[[TransferProgress], object]


@dataclass(frozen=True, slots=True)
class Consuming:
    """What one download may choose.

    Attributes:
        timeout_s: for all of it; None: as long as the origin makes pieces.
        request_timeout_s: for one answer, begun anew while the origin says that it is being made.
        retries: how often an answer is asked for again, in a row; the count begins anew with each answer.
        abort: ends it with `Cancelled`.
        on_progress: gets `TransferProgress`, on the thread that pulls.
        progress_interval_s: between two of them.
    """

    timeout_s: float | None = None
    request_timeout_s: float | None = None
    retries: int = RETRIES
    abort: Signal | None = None
    on_progress: OnProgress | None = None
    progress_interval_s: float = INTERVAL_S

    def __post_init__(self) -> None:
        if isinstance(self.retries, bool) or not isinstance(self.retries, int) or self.retries < 0:
            raise OptionError(name="retries", value=repr(self.retries), allowed="a number, 0 or more")


@dataclass(slots=True)
class _Slot:
    """An answer that was asked for."""

    pieces: list[Piece] | None = None
    error: BaseException | None = None


@dataclass(slots=True)
class _Download:
    """What is known of one download while it lasts; the slots are guarded by `changed`."""

    source: Source
    token: bytes
    until: float | None
    stop: Signal = field(default_factory=Signal)
    changed: threading.Condition = field(default_factory=threading.Condition)
    slots: dict[int, _Slot] = field(default_factory=dict)
    consumed: int = 0
    bytes_done: int = 0


class PieceConsumer:
    """Pulls one object piece by piece, on the thread that calls.

    Args:
        cell: whose lanes are used.
        puller: pulls the marker and the large leaves.
        ref: of kind ``object``.
        consumer: the user's.
        consuming: what he chose.
    """

    def __init__(self, cell: BareCell, puller: Puller, ref: Ref, consumer: Consumer, consuming: Consuming) -> None:
        self._cell = cell
        self._puller = puller
        self._consumer = consumer
        self._consuming = consuming
        self._ref_id = ref.source.offer_id.hex()
        until = None if consuming.timeout_s is None else time.monotonic() + consuming.timeout_s
        self._download = _Download(ref.source, os.urandom(TOKEN_BYTES), until)
        self._meter = ProgressMeter(consuming.on_progress or (lambda event: None), tx_id="", ref_id=self._ref_id,
                                    receiver_id=cell.fqcn, interval_s=consuming.progress_interval_s)

    def run(self) -> None:
        """Pull and consume all of it.

        Raises:
            DownloadError: which of them says what happened.
            TimedOut, Cancelled, Closed: nobody waits any more.
            Exception: what the consumer raised.
        """
        download, abort = self._download, self._consuming.abort
        unlink = None if abort is None else abort.on_trigger(lambda: download.stop.trigger(abort.value))
        wake = download.stop.on_trigger(self._wake)
        marker = self._puller.hold(download.source, abort=download.stop, on_settled=lambda: download.stop.trigger("marker"))
        raised = guarded(lambda: self._consumed(marker))
        wake()
        if unlink is not None:
            unlink()
        if isinstance(raised, Raised):
            self._failed(raised.error, marker)
            raise raised.error

    # --- inside ---------------------------------------------------------------------------------

    def _consumed(self, marker: Holding) -> None:
        self._meter.advance(0, 0, time.monotonic())
        self._consume_all(marker)
        self._consumer.download_completed(self._ref_id)
        self._say_over(is_noted=True)  # before the end is confirmed, over another lane: what is told of the end is all of it
        marker.finish()
        self._meter.end(COMPLETED, time.monotonic())

    def _failed(self, error: BaseException, marker: Holding) -> None:
        """All who have to do with it hear that it failed, whatever one of them says to that."""
        reason = str(error) or type(error).__name__
        is_aborted = isinstance(error, Cancelled)
        marker.cancel(self._failure(error) or reason)
        self._download.stop.trigger(reason)
        self._say_over()
        told = guarded(lambda: self._consumer.download_failed(self._ref_id, reason))
        if isinstance(told, Raised):
            _LOG.warning("! download_failed raised %s: %s", told.kind, told.text, exc_info=told.error)
        guarded(lambda: self._meter.end(ABORTED if is_aborted else FAILED, time.monotonic()))

    def _failure(self, error: BaseException) -> ZdlError | None:
        """As what the origin hears of it; None: nobody has failed, it is not wanted any more."""
        if isinstance(error, (Cancelled, TimedOut, Closed)) or not isinstance(error, Exception):
            return None
        if isinstance(error, ZdlError):
            return error
        source = self._download.source
        return ConsumerFailed(ref=source.label, origin=source.origin, why=f"{type(error).__name__}: {error}")

    def _say_over(self, *, is_noted: bool = False) -> None:
        """The origin may forget what it has made for this download; `is_noted`: and has noted it when this returns."""
        question, origin = self._question(self._download.consumed, None, is_over=True).plain(), self._download.source.origin
        with suppress(ZdlError):  # it will hear of it by the marker
            if is_noted:
                self._cell.request(origin, CHANNEL, PRODUCE_TOPIC, question, optional=True, resolve=False,
                                   timeout_s=self._cell.options.pulls.lost_timeout_s)
            else:
                self._cell.notice(origin, CHANNEL, PRODUCE_TOPIC, question, optional=True)

    def _consume_all(self, marker: Holding) -> None:
        consumer, download = self._consumer, self._download
        is_pipelined = bool(consumer.supports_pipelining)
        state: State = {}
        asked = 0
        while True:
            number = download.consumed
            while asked < number + (DEPTH if is_pipelined else 1):
                self._ask(asked, None if is_pipelined else state)
                asked += 1
            pieces = self._take(number, None if is_pipelined else state, marker)
            for code, data, new in pieces:
                self._check(marker)
                if code == ProduceRC.ERROR:
                    raise OriginFailed(ref=download.source.label, origin=download.source.origin, why=str(data))
                if code != ProduceRC.EOF:
                    state = self._consume(new, data, is_pipelined=is_pipelined)
            download.consumed = number + 1
            if not pieces or pieces[-1][0] != ProduceRC.OK:
                return

    def _consume(self, state: State, data: object, *, is_pipelined: bool) -> State:
        given = copy.deepcopy(state) if is_pipelined else state
        new = self._consumer.consume(self._ref_id, given, data)
        if not isinstance(new, dict):
            raise TypeError(f"consume must return a dict as its state, not {type(new).__name__}")
        if is_pipelined and new != state:
            raise ValueError("consume has changed the state; a consumer that does must have supports_pipelining = False")
        nbytes = bytes_of(data)
        self._download.bytes_done += nbytes
        self._meter.advance(nbytes, 1, time.monotonic())
        return new

    # --- asking ---------------------------------------------------------------------------------

    def _question(self, number: int, state: State | None, *, is_over: bool = False) -> Question:
        source = self._download.source
        return Question(source.offer_id, source.secret, self._download.token, number, self._download.consumed, state, is_over)

    def _ask(self, number: int, state: State | None) -> None:
        """Ask for an answer; it lands in its slot."""
        download = self._download
        slot = _Slot()
        with download.changed:
            download.slots[number] = slot
        timeout_s = self._consuming.request_timeout_s
        seconds = self._cell.options.calls.timeout_s if timeout_s is None else timeout_s
        try:
            future = self._cell.request_future(download.source.origin, CHANNEL, PRODUCE_TOPIC,
                                               self._question(number, state).plain(), timeout_s=seconds, abort=download.stop)
        except ZdlError as error:
            self._land(slot, error)
            return
        future.add_done_callback(lambda done: self._arrived(slot, done))

    def _arrived(self, slot: _Slot, done: Future[Reply]) -> None:
        """On the handler pool: unpack, and pull what is large."""
        pieces = guarded(lambda: self._opened(done.result()))
        self._land(slot, pieces.error if isinstance(pieces, Raised) else pieces)

    def _land(self, slot: _Slot, landed: list[Piece] | BaseException) -> None:
        with self._download.changed:
            if isinstance(landed, BaseException):
                slot.error = landed
            else:
                slot.pieces = landed
            self._download.changed.notify_all()

    def _opened(self, reply: Reply) -> list[Piece]:
        """The pieces of an answer, with their large leaves; refs that users have put into pieces stay refs."""
        origin = self._download.source.origin
        lent, frames = frames_of(reply.body, origin)
        body = unpack(frames, options=self._cell.options.packing, types=self._cell.types)
        found = find_refs(body) if lent is not None else []
        own = [ref for ref in found if ref.source.offer_id == lent and ref.origin == origin]
        if own:
            fetched = Fetcher(self._cell, self._puller).fetch(own, {}, Limits(abort=self._download.stop))
            body = replace_refs(body, {**{ref: ref for ref in found}, **fetched})
        return pieces_of(body, origin)

    # --- waiting --------------------------------------------------------------------------------

    def _wake(self) -> None:
        with self._download.changed:
            self._download.changed.notify_all()

    def _take(self, number: int, state: State | None, marker: Holding) -> list[Piece]:
        """The pieces of an answer, asked for again where that may help."""
        retries = Retries(self._consuming.retries)
        while True:
            slot = self._landed(number, marker)
            if slot.pieces is not None:
                return slot.pieces
            assert slot.error is not None
            pause_s = retries.failed(slot.error)
            if pause_s is None:
                break
            _LOG.info("! answer %d of %s: %s", number, self._download.source.label, slot.error)
            self._pause(pause_s, marker)
            self._ask(number, state)
        self._check(marker)
        if isinstance(slot.error, UnknownRef):
            marker.wait(WHY_S)
            self._check(marker)
        raise self._final(slot.error) from slot.error

    def _landed(self, number: int, marker: Holding) -> _Slot:
        """The slot of an answer, when it is there."""
        download = self._download
        with download.changed:
            slot = download.slots[number]
            left_s = None if download.until is None else max(0.0, download.until - time.monotonic())
            download.changed.wait_for(lambda: slot.pieces is not None or slot.error is not None
                                      or download.stop.is_triggered, left_s)
            if slot.pieces is not None:
                del download.slots[number]
                return slot
        self._check(marker)
        return slot

    def _pause(self, pause_s: float, marker: Holding) -> None:
        download = self._download
        with download.changed:
            download.changed.wait_for(lambda: download.stop.is_triggered, pause_s)
        self._check(marker)

    def _check(self, marker: Holding) -> None:
        """Raises why this download is to end, if it is."""
        download, abort = self._download, self._consuming.abort
        what = f"the pull of {download.source.label} from {download.source.origin}"
        if abort is not None and abort.is_triggered:
            raise Cancelled(what=what, why=f"its signal was triggered with {abort.value!r}")
        if marker.error is not None:
            raise marker.error
        if download.until is not None and time.monotonic() >= download.until:
            raise TimedOut(what="all pieces", address=download.source.origin, waited_s=self._consuming.timeout_s or 0.0)

    def _final(self, error: BaseException) -> BaseException:
        """What the last try ended with, as users know it."""
        source = self._download.source
        if isinstance(error, (NoRoute, PeerLost)):
            return OriginLost(ref=source.label, origin=source.origin, bytes_done=self._download.bytes_done, why=str(error))
        if isinstance(error, TimedOut):
            return Stalled(ref=source.label, origin=source.origin, bytes_done=self._download.bytes_done, waited_s=error.waited_s)
        return error
