"""The roles of `zdl_bench.stream`: a server that pushes, and sites that take in; and the same over bare pyzmq."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import msgpack
import numpy as np
import zmq

from zdl.assembly import Cell
from zdl.streaming.api import ConsumerFactory, Context, ObjectConsumer, ObjectProducer
from zdl.streaming.reader import StreamReader
from zdl.streaming.writer import StreamWriter
from zdl_bench.bare_router import BareRouter
from zdl_bench.bare_zmq import Socket, opened
from zdl_bench.endpoints import listening
from zdl_bench.exchange import PAYLOAD, timed
from zdl_bench.meter import Meter
from zdl_bench.role import SENT, CellRole

CHANNEL = "bench"
SERVER = "server"
TIMEOUT_S = 100.0
MIB = 1 << 20
# What a stream of bytes is written from, again and again: larger than the caches.
BLOCK_BYTES = 64 * MIB
# So often a slow reader reads: as many bytes as make its speed.
SLOW_READS_PER_S = 20


def row(number: int, payload: bytes) -> dict[str, object]:
    """An object as somebody streams it who streams what he computes."""
    return {"step": number, "loss": 0.5, "row": payload}


def payload_of(object_bytes: int) -> bytes:
    """What fills a row up to so many bytes."""
    return bytes(object_bytes - len(msgpack.packb(row(1 << 20, b""))) - 2)


class Rows(ObjectProducer):
    """Makes rows."""

    def __init__(self, count: int, payload: bytes) -> None:
        self._left = count
        self._payload = payload

    def produce(self, context: Context) -> tuple[object, float | None]:
        """The next one."""
        self._left -= 1
        return (row(self._left, self._payload), None) if self._left >= 0 else (None, None)


class Server(CellRole):
    """A cell that pushes to its sites."""

    def __init__(self) -> None:
        super().__init__()
        self._cell: Cell | None = None
        self._meter = Meter()
        self._closing: threading.Thread | None = None
        self._ends: dict[str, object] = {}
        self._held: StreamWriter | None = None

    def start(self, *, scheme: str, folder: str) -> dict[str, str]:
        """Listens; returns where."""
        cell = self._cell = self._open.enter_context(Cell(SERVER, listen=listening(scheme, folder=folder)))
        self._block = memoryview(bytes(BLOCK_BYTES))
        self._meter.start()
        self._arrays: dict[str, np.ndarray[Any, Any]] = {}
        return {"address": cell.addresses[0]}

    def put(self, *, count: int, object_bytes: int, targets: Sequence[str]) -> dict[str, float]:
        """Put rows by hand; returns when the first one was, without waiting for the end: see `ended`."""
        assert self._cell is not None
        payload = payload_of(object_bytes)
        out = self._cell.streams.objects(CHANNEL, "short" if len(targets) == 1 else "rows", targets)
        began_at = time.monotonic()
        for number in range(count):
            out.put(row(number, payload))
        self._end(lambda: self._ends.update(out.close()))
        return {"began_at": began_at}

    def produce(self, *, count: int, object_bytes: int, targets: Sequence[str]) -> dict[str, float]:
        """The long way: by a producer."""
        assert self._cell is not None
        cell, rows = self._cell, Rows(count, payload_of(object_bytes))
        began_at = time.monotonic()
        cell.streams.stream_objects(CHANNEL, "rows", {}, list(targets), rows)
        return {"began_at": began_at}

    def write(self, *, size_bytes: int, topic: str) -> dict[str, float]:
        """A stream of bytes to the first site, to its end."""
        assert self._cell is not None
        began_at = time.monotonic()
        with self._cell.streams.open(CHANNEL, topic, "site-0", size=size_bytes) as out:
            for at in range(0, size_bytes, BLOCK_BYTES):
                out.write(self._block[:min(BLOCK_BYTES, size_bytes - at)])
        return {"began_at": began_at}

    def lend(self, *, size_bytes: int) -> None:
        """Arrays of that size in all, for the first site."""
        assert self._cell is not None
        if not self._arrays:
            each = min(BLOCK_BYTES, size_bytes)
            self._arrays = {str(number): np.zeros(each, np.uint8) for number in range(size_bytes // each)}
        lent = self._cell.downloads.lend(self._arrays, receivers=["site-0"])
        self._cell.downloads.publish("arrays", lent.body)

    def hold(self) -> None:
        """Write to a slow reader, without end, until `let_go`."""
        assert self._cell is not None
        held = self._held = self._cell.streams.open(CHANNEL, "slow", "site-0")

        def write() -> None:
            """Until it is cancelled."""
            try:
                while True:
                    held.write(self._block[:MIB])
            except Exception as error:  # of the cancelled stream
                self._ends["slow"] = repr(error)

        self._closing = threading.Thread(target=write)
        self._closing.start()

    def ask(self, *, count: int) -> dict[str, float]:
        """Requests to the first site, one after the other; and how far a writer is ahead of its reader."""
        assert self._cell is not None
        cell, held = self._cell, self._held
        seen = timed(lambda: cell.request("site-0", CHANNEL, "echo", PAYLOAD, timeout_s=TIMEOUT_S), count=count)
        if held is not None:
            seen["ahead_bytes"] = held.bytes_written - held.bytes_consumed
        return seen

    def let_go(self) -> None:
        """The slow reader's stream ends."""
        assert self._held is not None and self._closing is not None
        self._held.cancel()
        self._closing.join(TIMEOUT_S)
        self._held = self._closing = None

    def ended(self) -> dict[str, Any]:
        """When all that was put has ended everywhere: what each said, and how far memory has grown since the cell was opened."""
        if self._closing is not None:
            self._closing.join(TIMEOUT_S)
        ends, self._ends, self._closing = {name: repr(end) for name, end in self._ends.items()}, {}, None
        return {"ends": ends, **self._meter.read()}

    def _end(self, close: Any) -> None:
        self._closing = threading.Thread(target=close)
        self._closing.start()


class Counting(ObjectConsumer):
    """Counts rows; a sleeper does so when it is woken."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._count = 0

    def consume(self, obj: object, context: Context) -> tuple[bool, object]:
        """One more."""
        self._site.may_go_on.wait()
        assert isinstance(obj, dict) and len(obj["row"]) > 0
        self._count += 1
        return True, None

    def finalize(self, context: Context) -> None:
        """All of them."""
        self._site.done(self._count)


class Site(ConsumerFactory):
    """A cell that takes in what its server pushes."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._cell: Cell | None = None
        self._ended = threading.Event()
        self.may_go_on = threading.Event()
        self._count = 0
        self._ended_at = 0.0
        self._slow: StreamReader | None = None
        self._is_slow = threading.Event()

    def start(self, *, address: str, name: str) -> None:
        """Connects."""
        cell = self._cell = self._open.enter_context(Cell(name, parent=address, options=SENT))
        self.may_go_on.set()
        cell.streams.register_stream_processing(CHANNEL, "rows", self)
        cell.streams.on_stream(CHANNEL, "bytes")(self._read)
        cell.streams.on_stream(CHANNEL, "kept")(self._keep)
        cell.streams.on_stream(CHANNEL, "slow")(self._read_slowly)
        cell.handler(CHANNEL, "echo")(lambda request: request.body)
        self._items = cell.streams.subscribe(CHANNEL, "short")
        threading.Thread(target=self._loop, name="loop", daemon=True).start()
        cell.wait_ready(TIMEOUT_S)

    def get_consumer(self, context: Context) -> ObjectConsumer:
        """One for each stream."""
        return Counting(self)

    def expect(self, *, count: int) -> None:
        """So many rows will come over the short way."""
        self._expected, self._came = count, 0
        self._ended.clear()

    def sleep(self) -> None:
        """Consume nothing until `wake`."""
        self.may_go_on.clear()

    def wake(self) -> None:
        """Go on."""
        self.may_go_on.set()

    def ended(self) -> dict[str, float]:
        """When the stream had ended here, on the clock that all processes of a machine share, and how many came."""
        if not self._ended.wait(TIMEOUT_S):
            raise ValueError(f"no stream has ended within {TIMEOUT_S} s")
        self._ended.clear()
        return {"ended_at": self._ended_at, "count": self._count}

    def expect_slow(self) -> None:
        """The next stream that is read slowly is the one that `read` tells of."""
        self._is_slow.clear()

    def read(self) -> dict[str, float]:
        """How far the slow reader is, and when."""
        if not self._is_slow.wait(TIMEOUT_S) or self._slow is None:
            raise ValueError(f"no slow reader has begun within {TIMEOUT_S} s")
        return {"bytes": self._slow.bytes_read, "at": time.monotonic()}

    def pull(self) -> dict[str, float]:
        """The arrays that the server lends; how long it took."""
        assert self._cell is not None
        body = self._cell.downloads.find(SERVER, "arrays")
        meter, began = Meter(), time.perf_counter()
        meter.start()
        arrays = self._cell.downloads.resolve(body)
        assert isinstance(arrays, dict)
        return {"elapsed_s": time.perf_counter() - began, "cpu_s": meter.read()["cpu_s"],
                "count": sum(each.nbytes for each in arrays.values())}

    def done(self, count: int) -> None:
        """A stream has ended here."""
        self._count, self._ended_at = count, time.monotonic()
        self._ended.set()

    def stop(self) -> None:
        """Closes the cell."""
        self.may_go_on.set()
        self._open.close()

    def _loop(self) -> None:
        """The short way."""
        for obj in self._items:
            assert isinstance(obj, dict) and len(obj["row"]) > 0
            self._came += 1
            if self._came == self._expected:
                self.done(self._came)

    def _read(self, stream: StreamReader) -> None:
        self.done(sum(piece.nbytes for piece in stream))

    def _keep(self, stream: StreamReader) -> None:
        kept = memoryview(np.empty(stream.bytes_total, np.uint8))
        at = 0
        while count := stream.readinto(kept[at:]):
            at += count
        self.done(at)

    def _read_slowly(self, stream: StreamReader) -> None:
        """At a million bytes a second."""
        self._slow = stream
        self._is_slow.set()
        began, pause = time.monotonic(), threading.Event()
        for number in range(1, 1 << 40):
            left = 1_000_000 // SLOW_READS_PER_S
            while left:
                left -= len(stream.read(left))
            pause.wait(max(0.0, began + number / SLOW_READS_PER_S - time.monotonic()))


class BareServer:
    """A DEALER that sends rows as fast as it can."""

    def __init__(self) -> None:
        self._context: zmq.Context[Socket] = zmq.Context()
        self._dealer: Socket | None = None

    def start(self, *, address: str) -> None:
        """Connects."""
        self._dealer = opened(self._context, zmq.DEALER)
        self._dealer.connect(address)

    def put(self, *, count: int, object_bytes: int) -> dict[str, float]:
        """All of them; ``elapsed_s`` until the other end has all."""
        dealer, payload = self._dealer, payload_of(object_bytes)
        assert dealer is not None
        began = time.perf_counter()
        dealer.send(b"%d" % count)
        for number in range(count):
            dealer.send(msgpack.packb(row(number, payload)))
        came = int(dealer.recv())
        return {"elapsed_s": time.perf_counter() - began, "count": came}

    def stop(self) -> None:
        """Closes the connection."""
        if self._dealer is not None:
            self._dealer.close()
        self._context.term()


def _count(router: Socket) -> None:
    while True:
        sender = router.recv()
        count = int(router.recv())
        came = 0
        while came < count:
            router.recv()
            obj = msgpack.unpackb(router.recv())
            came += len(obj["row"]) > 0
        router.send(sender, zmq.SNDMORE)
        router.send(b"%d" % came)


BareSite = partial(BareRouter, _count)
