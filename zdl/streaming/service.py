"""Streams: what a cell pushes and takes in: ``cell.streams``.

::

    open(), blob(), objects() ─▶ Outflow ─▶ data lane: pushes ─▶ wire ─▶ data lane: intakes ─▶ Inflow ─▶ crew: users' code

Users' code runs on the crew's threads, never on the lane. When to push and when to lend: push what is made as it goes, or what must
be taken in step with answers; lend what is there already, above all if many want it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from weakref import WeakSet

from zdl.cell.calling import check_names
from zdl.cell.cell import BareCell
from zdl.cell.futures import NO_HEADERS
from zdl.cell.handlers import Raised, guarded
from zdl.cell.service import Lender
from zdl.cell.signal import Signal
from zdl.cell.workflow import Workflow
from zdl.errors import Busy, OptionError, RemoteError, TooLarge, ZdlError
from zdl.fqcn import parse
from zdl.protocol.pushing import Open
from zdl.streaming.aio import AioStreams
from zdl.streaming.api import ConsumerFactory, Context, ObjectProducer, StreamContextKey
from zdl.streaming.hub import OBJECTS, Hub
from zdl.streaming.inflow import Inflow
from zdl.streaming.outbox import Outbox
from zdl.streaming.reader import Blob, StreamReader, read_blob
from zdl.streaming.receiver import Callback, Consuming, Processing
from zdl.streaming.sender import Ended, ObjectWriter, opened, run, wants_replies
from zdl.streaming.subscription import Subscription
from zdl.streaming.writer import BlobHandle, Bytes, StreamWriter

_LOG = logging.getLogger("zdl.streaming")
BYTES, BLOB = "bytes", "blob"

TakeStream = Callable[[StreamReader], object]
TakeBlob = Callable[[Blob], object]


class Streams:
    """The streaming service of one cell.

    Threads: all methods from any thread but the loops'.
    Lifetime: ends with its cell; streams that are open then end at both ends, with `Closed`.

    Args:
        cell: it is mounted there.
        lender: lends what is too large for an item.
    """

    def __init__(self, cell: BareCell, lender: Lender | None = None) -> None:
        self._cell = cell
        self._fqcn = cell.fqcn  # what still runs on the crew when the cell is gone can name it
        self._options = cell.options.streams
        self._hub = Hub(cell, lender)
        self._subscriptions: WeakSet[Subscription] = WeakSet()
        self._places = threading.Semaphore(self._options.no_wait_max)

    def __repr__(self) -> str:
        return f"<Streams of {self._fqcn}: {self._hub!r}>"

    # --- bytes ----------------------------------------------------------------------------------

    def open(self, channel: str, topic: str, target: str, *, size: int = 0,
             headers: Mapping[str, object] = NO_HEADERS, workflow: Workflow | None = None) -> StreamWriter:
        """Begin a stream of bytes to a cell: a file that is written there as it is written here.

        Args:
            channel: first half of the name that the receiver has registered.
            topic: second half.
            target: FQCN of the receiver; may be this cell.
            size: how many bytes there will be, which is checked at both ends; 0: that is not known.
            headers: plain values for the receiver.
            workflow: what it belongs to, as a message does: when that is over, the stream ends at both ends.

        Raises:
            NoRoute, PeerLost, TimedOut: nobody of that name answers.
            Busy: ``streams.pushes_max`` are open.
            Cancelled: the workflow is over.
        """
        if size < 0:
            raise OptionError(name="size", value=str(size), allowed="a number of bytes, or 0")
        return self._writer(BYTES, (channel, topic, target), size, headers, workflow)

    def blob(self, channel: str, topic: str, target: str, payload: Bytes | Sequence[Bytes], *,
             headers: Mapping[str, object] = NO_HEADERS, workflow: Workflow | None = None) -> BlobHandle:
        """Send bytes to a cell as one; returns at once.

        Args:
            channel: first half of the name that the receiver has registered.
            topic: second half.
            target: FQCN of the receiver.
            payload: bytes, or several that make one; it must not change until the blob has ended.
            headers: plain values for the receiver.
            workflow: what it belongs to.

        Returns:
            A future: progress, cancel, result, exception, callbacks.
        """
        check_names(channel, topic)
        parts = list(payload) if not isinstance(payload, (bytes, bytearray, memoryview)) else [payload]
        size = sum(memoryview(part).nbytes for part in parts)
        handle = BlobHandle(parse(target), size, self._hub.crew.run)
        to = channel, topic, target
        self._hub.crew.run(lambda: handle.send(lambda: self._writer(BLOB, to, size, headers, workflow), parts))
        return handle

    def on_stream(self, channel: str, topic: str, *, idle_timeout_s: float | None = None) -> Callable[[TakeStream], TakeStream]:
        """Decorator: the function is called, on a thread of its own, with a `StreamReader` when the first bytes of a stream come.

        What it returns goes back to the sender; what it raises ends the stream there with a `RemoteError`. It need not read all.

        Args:
            channel: first half of the name.
            topic: second half; ``*`` is any.
            idle_timeout_s: no byte for so long ends the stream at both ends; None: as long as the sender lives.
        """
        def register(function: TakeStream) -> TakeStream:
            """Take it down."""
            def opened(message: Open) -> Inflow:
                """On the lane."""
                return self._taking(message, BYTES, idle_timeout_s, lambda inflow: function(StreamReader(inflow)))

            self._hub.registry.add(channel, topic, opened)
            return function

        return register

    def on_blob(self, channel: str, topic: str, *, bytes_max: int | None = None,
                idle_timeout_s: float | None = None) -> Callable[[TakeBlob], TakeBlob]:
        """Decorator: the function is called with each `Blob` that has come whole; what it returns goes back to the sender.

        Args:
            channel: first half of the name.
            topic: second half; ``*`` is any.
            bytes_max: a larger one is refused before memory is taken; by default ``streams.blob_bytes_max``.
            idle_timeout_s: no byte for so long ends it at both ends.
        """
        limit = self._options.blob_bytes_max if bytes_max is None else bytes_max

        def register(function: TakeBlob) -> TakeBlob:
            """Take it down."""
            def opened(message: Open) -> Inflow:
                """On the lane."""
                if message.bytes_total > limit:
                    raise TooLarge(what=f"the blob {message.channel}/{message.topic}", size=message.bytes_total,
                                   limit="blob_bytes_max", value=limit)
                return self._taking(message, BLOB, idle_timeout_s, lambda inflow: function(self._whole(inflow)))

            self._hub.registry.add(channel, topic, opened)
            return function

        return register

    # --- objects --------------------------------------------------------------------------------

    def stream_objects(self, channel: str, topic: str, context: Context, targets: Sequence[str], producer: ObjectProducer, *,
                       app: object = None, ahead_max: int | None = None, abort: Signal | None = None,
                       workflow: Workflow | None = None) -> Ended:
        """Stream what the producer makes to these cells, and wait for the end.

        Args:
            channel: first half of the name that the receivers have registered.
            topic: second half.
            context: what is in it travels once, with the beginning; see `zdl.streaming.api`.
            targets: FQCNs; each object is packed once for all of them.
            producer: makes the objects.
            app: the producer finds it in the context, untouched; it does not travel.
            ahead_max: how many objects are made ahead of the slowest reply; 1: each only when all have answered the one before.
                None: as fast as the fastest receiver; see `zdl.streaming.fan` for what becomes of one that lags.
            abort: triggering it ends the stream at both ends.
            workflow: what it belongs to, as a message does: when that is over, the stream ends at both ends.

        Returns:
            How it went, in one word, and: the result of `process_replies`, if that has ended it; else by target what its
            ``stream_done_cb`` returned, or the error with which the stream ended there.

        Raises:
            OptionError: targets, context or what `produce` returns are not what they must be.
            CannotPack, TooLarge: an object cannot travel; the receivers are told.
            Cancelled: the workflow is over.
            Exception: what the producer raises; the receivers are told.
        """
        if ahead_max is not None and ahead_max < 1:
            raise OptionError(name="ahead_max", value=str(ahead_max), allowed="a number from 1 on, or None")
        fan, own = opened(producer, context, lambda: self._hub.fan(
            channel, topic, context, targets, wants_replies=wants_replies(producer), workflow=workflow))
        own[StreamContextKey.APP] = app
        unlink = None if abort is None else abort.on_trigger(fan.abort)
        try:
            return run(fan, producer, own, fqcn=self._fqcn, name=f"{channel}/{topic}", ahead_max=ahead_max)
        finally:
            if unlink is not None:
                unlink()

    def stream_no_wait(self, channel: str, topic: str, context: Context, targets: Sequence[str], producer: ObjectProducer, *,
                       app: object = None, ahead_max: int | None = None, abort: Signal | None = None,
                       workflow: Workflow | None = None) -> Future[Ended]:
        """The same without waiting: the future has what `stream_objects` returns, or raises what it raises.

        Raises:
            Busy: ``streams.no_wait_max`` such streams are under way.
        """
        limit = self._options.no_wait_max
        if not self._places.acquire(blocking=False):
            raise Busy(limit="streams.no_wait_max", value=limit, at=self._fqcn)
        future: Future[Ended] = Future()

        def stream() -> None:
            """On a thread of the crew."""
            done = guarded(lambda: self.stream_objects(channel, topic, context, targets, producer, app=app, ahead_max=ahead_max,
                                                       abort=abort, workflow=workflow))
            self._places.release()
            if isinstance(done, Raised):
                future.set_exception(done.error)
            else:
                future.set_result(done)

        try:
            self._hub.crew.run(stream)
        except ZdlError:
            self._places.release()
            raise
        return future

    def objects(self, channel: str, topic: str, targets: str | Sequence[str], context: Context | None = None, *,
                workflow: Workflow | None = None) -> ObjectWriter:
        """Begin a stream of objects that is fed by hand: ``put`` them; see `stream_objects` for the arguments."""
        names = [targets] if isinstance(targets, str) else targets
        fan, _ = self._hub.fan(channel, topic, context or {}, names, wants_replies=False, workflow=workflow)
        return ObjectWriter(fan, f"{channel}/{topic}")

    def register_stream_processing(self, channel: str, topic: str, factory: ConsumerFactory, *,
                                   stream_done_cb: Callback | None = None, consumed_cb: Callback | None = None,
                                   app: object = None, resolve: bool = True, idle_timeout_s: float | None = None) -> None:
        """Streams of objects of this name are taken in by consumers of this factory.

        Args:
            channel: first half of the name.
            topic: second half; ``*`` is any.
            factory: gives each stream its consumer.
            stream_done_cb: called with the context when a stream has ended, after ``finalize``; what it returns goes back.
            consumed_cb: called with the context after each object, which is its ``StreamContextKey.ITEM``.
            app: consumers find it in the context, untouched.
            resolve: pull what objects refer to before they are consumed; False: a consumer gets `Ref` leaves.
            idle_timeout_s: no object for so long ends a stream at both ends; None: as long as its sender lives.

        Raises:
            OptionError: the name is taken.
        """
        processing = Processing(factory, stream_done_cb, consumed_cb, app, resolve, idle_timeout_s)

        def opened(message: Open) -> Inflow:
            """On the lane."""
            self._hub.check_form(message, OBJECTS)
            return Consuming(self._cell, message, processing, self._hub.crew, self._hub.packer).inflow

        self._hub.registry.add(channel, topic, opened)

    def unregister(self, channel: str, topic: str) -> None:
        """No more streams of this name are taken in; those that are open go on."""
        self._hub.registry.remove(channel, topic)

    def subscribe(self, channel: str, topic: str, *, idle_timeout_s: float | None = None) -> Subscription:
        """The objects of all streams of this name, as an iterator, plain or asynchronous.

        Raises:
            OptionError: the name is taken.
        """
        found = Subscription(self._cell, self._hub.packer, idle_timeout_s, lambda: self._hub.registry.remove(channel, topic))

        def opened(message: Open) -> Inflow:
            """On the lane."""
            self._hub.check_form(message, OBJECTS)
            return found.opened(message)

        self._hub.registry.add(channel, topic, opened)
        self._subscriptions.add(found)
        return found

    @property
    def aio(self) -> AioStreams:
        """The awaitable twins of the calls that push."""
        return AioStreams(self.open, self.objects, self.blob, self.stream_objects)

    # --- for the cell ---------------------------------------------------------------------------

    def attach(self) -> None:
        """For the cell: its lanes are made."""
        self._hub.attach()

    def close(self, timeout_s: float) -> list[str]:
        """End all streams, and say so; stop the threads."""
        for each in list(self._subscriptions):
            each.close()
        return self._hub.close(timeout_s)

    # --- inside ---------------------------------------------------------------------------------

    def _writer(self, form: str, to: tuple[str, str, str], size: int, headers: Mapping[str, object],
                workflow: Workflow | None) -> StreamWriter:
        outbox = Outbox(self._cell)
        outflow = self._hub.outflow(form, to, outbox, bytes_total=size, headers=headers, workflow=workflow)
        return StreamWriter(outflow, outbox.changed, self._hub.packer, size)

    def _taking(self, message: Open, form: str, idle_timeout_s: float | None, take: Callable[[Inflow], object]) -> Inflow:
        """On the lane: what takes in a stream with a thread of its own."""
        self._hub.check_form(message, form)
        inflow = Inflow(self._cell, message, lambda: None, idle_timeout_s)
        self._hub.crew.run(lambda: self._take(inflow, take))
        return inflow

    def _take(self, inflow: Inflow, take: Callable[[Inflow], object]) -> None:
        """On a thread of the crew."""
        result = guarded(lambda: take(inflow))
        if isinstance(result, Raised):
            inflow.end(self._told(inflow, result))
            return
        try:
            body, _ = self._hub.packer.pack(result, (inflow.origin,))
        except ZdlError as error:
            inflow.end(error)
            return
        inflow.end(None, body)

    def _whole(self, inflow: Inflow) -> Blob:
        """On a thread of the crew. Users are only called with whole blobs, so of others the log tells."""
        try:
            return read_blob(inflow)
        except ZdlError as error:
            _LOG.warning("! %s: blob %s/%s of %s did not come whole: %s", self._fqcn, inflow.channel, inflow.topic,
                         inflow.origin, error)
            raise

    def _told(self, inflow: Inflow, raised: Raised) -> ZdlError:
        """What a sender gets for what its receiver raised."""
        if isinstance(raised.error, ZdlError):
            return raised.error
        return RemoteError(fqcn=self._fqcn, channel=inflow.channel, topic=inflow.topic, kind=raised.kind, text=raised.text)
