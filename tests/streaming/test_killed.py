"""Processes that are killed in the middle of a stream: the other end hears of it by name, in its time, and nothing is left."""

from __future__ import annotations

import threading

import pytest

from zdl.assembly import Cell
from zdl.errors import PeerLost, TimedOut, ZdlError
from zdl.options import LinkOptions, Options, StreamOptions
from zdl.streaming.reader import StreamReader

from children import Child
from trees import Trees
from waiting import PATIENCE_S, eventually

OPTIONS = Options(streams=StreamOptions(lost_timeout_s=0.5))
QUICK = "Options(streams=StreamOptions(lost_timeout_s=0.5, intakes_max=2, no_wait_max=1))"
LOST = (PeerLost, TimedOut)
# Writes a stream without end, and half of a blob.
SENDER = f"""
from zdl.protocol.pushes import Opening
from zdl.streaming.outflow import Outflow
from zdl.streaming.outbox import Outbox
cell = Cell("site-1", parent=sys.argv[1], options={QUICK})
cell.start(); cell.wait_ready()
half = Outflow(cell, Opening("server", "a", "blob", "blob", 1000), Outbox(cell))
half.put((b"x" * 500,))
out = cell.streams.open("a", "bytes", "server")
say("ready")
while True: out.write(b"x" * 1000)
"""
# Reads a stream; then its threads have something else to do, so that what comes of a blob is not read.
RECEIVER = f"""
cell = Cell("site-1", parent=sys.argv[1], options={QUICK})
cell.streams.on_stream("a", "bytes")(lambda stream: sum(len(piece) for piece in stream))
cell.streams.on_blob("a", "blob")(lambda blob: len(blob.data))
cell.start(); cell.wait_ready(); say("ready")
sys.stdin.readline()
for _ in range(2): cell.streams._hub.crew.run(threading.Event().wait)
say("busy"); stay()
"""
RELAY = """
cell = Cell("site-1", parent=sys.argv[1], listen=sys.argv[2], options=Options(links=LinkOptions(redial_max_s=0.1)))
cell.start(); cell.wait_ready(); say("ready", cell.addresses[0]); stay()
"""


def is_clean(cell: Cell) -> bool:
    """No stream is left, and no thread is busy with one."""
    return "0 streams out, 0 in" in repr(cell.pushing) and cell.streams._hub.crew._idle == len(cell.streams._hub.crew._threads)


@pytest.mark.row("X6", "T5")
def test_a_sender_that_is_killed_in_the_middle_of_bytes_and_of_a_blob_ends_both_and_leaves_nothing(
        trees: Trees, caplog: pytest.LogCaptureFixture) -> None:
    server = trees.add(Cell("server", listen="tcp://127.0.0.1:0", options=OPTIONS))
    heard: list[BaseException] = []
    taken: list[object] = []
    came = threading.Event()
    server.streams.on_blob("a", "blob")(taken.append)

    @server.streams.on_stream("a", "bytes")
    def take(stream: StreamReader) -> None:
        try:
            for _ in stream:
                came.set()
        except ZdlError as error:
            heard.append(error)
            raise

    with Child(SENDER, server.addresses[0]) as site:
        site.expect("ready")
        assert came.wait(PATIENCE_S)
        eventually(lambda: "0 streams out, 2 in" in repr(server.pushing))
    assert isinstance(eventually(lambda: heard and heard[0]), LOST)
    eventually(lambda: is_clean(server))
    assert not taken and "blob a/blob of site-1 did not come whole" in caplog.text


@pytest.mark.row("X6", "T8")
def test_a_receiver_that_is_killed_in_the_middle_of_bytes_and_of_a_blob_is_an_error_of_both(trees: Trees) -> None:
    server = trees.add(Cell("server", listen="tcp://127.0.0.1:0", options=OPTIONS))
    with Child(RECEIVER, server.addresses[0]) as site:
        site.expect("ready")
        out = server.streams.open("a", "bytes", "site-1")
        while out.bytes_consumed < 10_000:
            out.write(b"x" * 1000)
        site.say("be busy")
        site.expect("busy")
        handle = server.streams.blob("a", "blob", "site-1", bytes(64 << 20))
        eventually(lambda: "2 streams out" in repr(server.pushing))
        assert handle.running()
    with pytest.raises(PeerLost, match="site-1"):
        while True:
            out.write(b"x" * 1000)
    assert isinstance(handle.exception(PATIENCE_S), PeerLost) and handle.progress == 0
    eventually(lambda: is_clean(server))


def reading(trees: Trees, lost_timeout_s: float) -> tuple[Cell, list[ZdlError]]:
    """A server that reads streams of bytes, and what they have ended with."""
    options = Options(links=LinkOptions(redial_max_s=0.1), streams=StreamOptions(direct=False, lost_timeout_s=lost_timeout_s))
    server = trees.add(Cell("server", listen="tcp://127.0.0.1:0", options=options))
    heard: list[ZdlError] = []

    @server.streams.on_stream("a", "bytes")
    def take(stream: StreamReader) -> int:
        try:
            return sum(len(piece) for piece in stream)
        except ZdlError as error:
            heard.append(error)
            raise

    return server, heard


@pytest.mark.row("X6")
def test_a_relay_that_dies_in_the_middle_of_a_stream_ends_it_at_both_ends(trees: Trees) -> None:
    server, heard = reading(trees, 0.5)
    with Child(RELAY, server.addresses[0], "tcp://127.0.0.1:0") as relay:
        worker = trees.add(Cell("site-1.w", parent=relay.expect("ready"), options=server.options))
        out = worker.streams.open("a", "bytes", "server")
        while out.bytes_consumed < 10_000:
            out.write(b"x" * 1000)
    with pytest.raises(LOST):
        while True:
            out.write(b"x" * 1000)
    assert isinstance(eventually(lambda: heard and heard[0]), LOST)
    eventually(lambda: is_clean(server) and is_clean(worker))


@pytest.mark.row("X14")
def test_a_relay_that_dies_and_comes_back_loses_nothing_of_a_stream(trees: Trees) -> None:
    server, heard = reading(trees, PATIENCE_S)
    with Child(RELAY, server.addresses[0], "tcp://127.0.0.1:0") as relay:
        address = relay.expect("ready")
        worker = trees.add(Cell("site-1.w", parent=address, options=server.options))
        out = worker.streams.open("a", "bytes", "server")
        while out.bytes_consumed < 10_000:
            out.write(b"x" * 1000)
        for _ in range(100):
            out.write(b"y" * 1000)
    with Child(RELAY, server.addresses[0], address) as relay:
        relay.expect("ready")
        for _ in range(100):
            out.write(b"z" * 1000)
        out.finish()
        assert out.result(PATIENCE_S) == out.bytes_written
    assert not heard
