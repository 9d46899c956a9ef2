"""Streams: what a cell pushes and takes in: ``cell.streams``.

::

    open(), blob(), objects() ─▶ Outflow ─▶ data lane: pushes ─▶ wire ─▶ data lane: intakes ─▶ Inflow ─▶ crew: users' code

Users' code runs on the crew's threads, never on the lane. When to push and when to lend: push what is made as it goes, or what must
be taken in step with answers; lend what is there already, above all if many want it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

from zdl.cell.calling import check_headers, check_names
from zdl.cell.cell import BareCell
from zdl.cell.futures import NO_HEADERS
from zdl.cell.handlers import Raised, guarded
from zdl.cell.service import Lender
from zdl.errors import OptionError, Refused, RemoteError, TooLarge, ZdlError
from zdl.fqcn import parse
from zdl.protocol.messages import Body
from zdl.protocol.pushes import Opening
from zdl.protocol.pushing import Open
from zdl.streaming.crew import Crew
from zdl.streaming.inflow import Inflow
from zdl.streaming.outflow import Outflow, Replied
from zdl.streaming.packer import Packer
from zdl.streaming.reader import Blob, StreamReader, read_blob
from zdl.streaming.registry import Registry
from zdl.streaming.writer import BlobHandle, Bytes, StreamWriter

# Asked of a receiver before it is dialled: where its data lane listens.
CHANNEL = "zdl"
ADDRESSES_TOPIC = "data-addresses"
BYTES, BLOB, OBJECTS = "bytes", "blob", "objects"

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
        self._registry = Registry(cell.fqcn)
        options = cell.options.streams
        self._crew = Crew(cell.fqcn, options.intakes_max + options.no_wait_max)
        self._packer = Packer(cell.options, lender)
        self._end_all: Callable[[], None] = _nothing

    def __repr__(self) -> str:
        return f"<Streams of {self._cell.fqcn}: {self._registry!r}, {self._crew!r}>"

    # --- bytes ----------------------------------------------------------------------------------

    def open(self, channel: str, topic: str, target: str, *, size: int = 0,
             headers: Mapping[str, object] = NO_HEADERS) -> StreamWriter:
        """Begin a stream of bytes to a cell: a file that is written there as it is written here.

        Args:
            channel: first half of the name that the receiver has registered.
            topic: second half.
            target: FQCN of the receiver; may be this cell.
            size: how many bytes there will be, which is checked at both ends; 0: that is not known.
            headers: plain values for the receiver.

        Raises:
            NoRoute, PeerLost, TimedOut: nobody of that name answers.
            Busy: ``streams.pushes_max`` are open.
        """
        if size < 0:
            raise OptionError(name="size", value=str(size), allowed="a number of bytes, or 0")
        return self._writer(BYTES, (channel, topic, target), size, headers)

    def blob(self, channel: str, topic: str, target: str, payload: Bytes | Sequence[Bytes], *,
             headers: Mapping[str, object] = NO_HEADERS) -> BlobHandle:
        """Send bytes to a cell as one; returns at once.

        Args:
            channel: first half of the name that the receiver has registered.
            topic: second half.
            target: FQCN of the receiver.
            payload: bytes, or several that make one; it must not change until the blob has ended.
            headers: plain values for the receiver.

        Returns:
            A future: progress, cancel, result, exception, callbacks.
        """
        check_names(channel, topic)
        parts = list(payload) if not isinstance(payload, (bytes, bytearray, memoryview)) else [payload]
        size = sum(memoryview(part).nbytes for part in parts)
        handle = BlobHandle(parse(target), size, self._crew.run)
        self._crew.run(lambda: handle.send(lambda: self._writer(BLOB, (channel, topic, target), size, headers), parts))
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

            self._registry.add(channel, topic, opened)
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
        limit = self._cell.options.streams.blob_bytes_max if bytes_max is None else bytes_max

        def register(function: TakeBlob) -> TakeBlob:
            """Take it down."""
            def opened(message: Open) -> Inflow:
                """On the lane."""
                if message.bytes_total > limit:
                    raise TooLarge(what=f"the blob {message.channel}/{message.topic}", size=message.bytes_total,
                                   limit="blob_bytes_max", value=limit)
                return self._taking(message, BLOB, idle_timeout_s, lambda inflow: function(read_blob(inflow)))

            self._registry.add(channel, topic, opened)
            return function

        return register

    # --- for the cell ---------------------------------------------------------------------------

    def attach(self) -> None:
        """For the cell: its lanes are made."""
        desk = self._cell.pushing
        desk.listen(self._registry.opened)
        self._end_all = desk.close

    def close(self, timeout_s: float) -> list[str]:
        """End all streams, and say so; stop the threads."""
        self._end_all()
        running = self._crew.close(timeout_s)
        return [f"{self._cell.fqcn}: {running} consumers or producers of streams are still running"] if running else []

    # --- inside ---------------------------------------------------------------------------------

    def _writer(self, form: str, to: tuple[str, str, str], size: int, headers: Mapping[str, object]) -> StreamWriter:
        changed = threading.Condition()
        outflow = self.outflow(form, to, changed, bytes_total=size, headers=headers)
        return StreamWriter(outflow, changed, self._packer, size)

    def outflow(self, form: str, to: tuple[str, str, str], changed: threading.Condition, *, bytes_total: int = 0,
                headers: Mapping[str, object] = NO_HEADERS, context: Body = (), replied: Replied | None = None) -> Outflow:
        """For what stands on this service: one stream to one cell, when a way to it was looked for."""
        channel, topic, target = to
        check_names(channel, topic)
        if headers:
            check_headers(headers)
        name = parse(target)
        self._find_way(name)
        opening = Opening(name, channel, topic, form, bytes_total, tuple(headers.items()), context)
        return Outflow(self._cell, opening, changed, replied)

    def _find_way(self, target: str) -> None:
        """Waits until the receiver is linked directly, or cannot be, or has been waited for long enough."""
        cell = self._cell
        desk = cell.pushing
        if desk.is_direct(target):
            return
        options = cell.options.streams
        told = cell.request(target, CHANNEL, ADDRESSES_TOPIC, timeout_s=options.lost_timeout_s).body
        found = [each for each in told if isinstance(each, str)] if isinstance(told, list) and options.direct else []
        is_inproc = any(each.startswith("inproc://") for each in cell.data_addresses)
        addresses = [each for each in found if is_inproc or not each.startswith("inproc://")]
        chosen = threading.Event()
        desk.way(target, addresses, chosen.set)
        chosen.wait(cell.options.pulls.direct_timeout_s + 1.0)

    def _taking(self, message: Open, form: str, idle_timeout_s: float | None, take: Callable[[Inflow], object]) -> Inflow:
        """On the lane: what takes in a stream with a thread of its own."""
        if message.form != form:
            raise Refused(by=self._cell.fqcn, reason="no-handler",
                          text=f"{message.channel}/{message.topic} takes {form}, not {message.form}")
        inflow = Inflow(self._cell, message, lambda: None, idle_timeout_s)
        self._crew.run(lambda: self._take(inflow, take))
        return inflow

    def _take(self, inflow: Inflow, take: Callable[[Inflow], object]) -> None:
        """On a thread of the crew."""
        result = guarded(lambda: take(inflow))
        if isinstance(result, Raised):
            inflow.end(self._told(inflow, result))
            return
        try:
            body, _ = self._packer.pack(result, (inflow.origin,))
        except ZdlError as error:
            inflow.end(error)
            return
        inflow.end(None, body)

    def _told(self, inflow: Inflow, raised: Raised) -> ZdlError:
        """What a sender gets for what its receiver raised."""
        if isinstance(raised.error, ZdlError):
            return raised.error
        return RemoteError(fqcn=self._cell.fqcn, channel=inflow.channel, topic=inflow.topic, kind=raised.kind, text=raised.text)


def _nothing() -> None:
    """There is nothing to end before the cell was started."""
