"""A stream of bytes and a blob, as their receiver sees them."""

from __future__ import annotations

import pytest

from zdl.assembly import Cell
from zdl.errors import Closed, StreamError, TooLarge, ZdlError
from zdl.protocol.pushes import Opening
from zdl.streaming.outbox import Outbox
from zdl.streaming.outflow import Outflow
from zdl.streaming.reader import Blob, StreamReader

from trees import Trees
from waiting import PATIENCE_S, eventually


@pytest.mark.row("T1")
def test_the_callback_starts_with_the_first_bytes_and_reads_as_they_come(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    seen: list[bytes] = []
    facts: list[object] = []

    @server.streams.on_stream("logs", "tail")
    def take(stream: StreamReader) -> str:
        facts.append((stream.origin, stream.channel, stream.topic, dict(stream.headers), stream.bytes_total))
        while piece := stream.read(4):
            seen.append(piece)
        return f"{stream.bytes_read} bytes"

    with site.streams.open("logs", "tail", "server", headers={"level": "info"}) as out:
        out.write(b"one")
        eventually(lambda: seen == [b"one"], what="the first bytes, before there are others")
        out.write(b"twofour")
        eventually(lambda: seen == [b"one", b"twof", b"our"])
    assert out.result() == "10 bytes"
    assert facts == [("site-1", "logs", "tail", {"level": "info"}, 0)]


def test_a_reader_is_read_piece_by_piece_into_memory_or_whole(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")

    @server.streams.on_stream("a", "*")
    def take(stream: StreamReader) -> object:
        if stream.topic == "pieces":
            return [bytes(piece) for piece in stream]
        if stream.topic == "whole":
            return stream.read(), stream.read(), stream.read(5), stream.read(0)
        place = bytearray(4)
        counts = []
        while count := stream.readinto(place):
            counts.append(bytes(place[:count]))
        return counts, stream.readinto(bytearray())

    found = {}
    for topic in ("pieces", "whole", "into"):
        with site.streams.open("a", topic, "server") as out:
            out.write(b"abcdef")
            out.write(b"")
            out.write(memoryview(b"gh"))
        found[topic] = out.result()
    assert found["pieces"] in ([b"abcdef", b"gh"], (b"abcdef", b"gh"))
    assert found["whole"] == (b"abcdefgh", b"", b"", b"")
    assert found["into"] == ([b"abcd", b"ef", b"gh"], 0)


@pytest.mark.row("T2")
def test_a_blob_comes_as_one(trees: Trees) -> None:
    server, one, two = trees.grow("server", "site-1", "site-2")
    blobs: list[Blob] = []
    two.streams.on_blob("x", "y")(blobs.append)
    data = bytes(range(256)) * 10_000
    assert one.streams.blob("x", "y", "site-2", data).result(PATIENCE_S) is None
    assert blobs[0].data == data and (blobs[0].origin, blobs[0].channel, blobs[0].topic) == ("site-1", "x", "y")


@pytest.mark.row("T9")
def test_a_declared_size_is_checked_before_memory_is_taken_and_against_what_came(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    taken: list[int] = []
    server.streams.on_blob("x", "y", bytes_max=100)(lambda blob: taken.append(len(blob.data)))
    server.streams.on_stream("x", "stream")(lambda stream: taken.append(len(stream.read())))
    error = site.streams.blob("x", "y", "server", b"x" * 101).exception(PATIENCE_S)
    assert isinstance(error, TooLarge) and (error.size, error.value, error.limit) == (101, 100, "blob_bytes_max")
    assert site.streams.blob("x", "y", "server", b"x" * 100).exception(PATIENCE_S) is None and taken == [100]
    huge = declared(site, "y", 1 << 50, "blob")
    eventually(lambda: huge.has_ended)
    assert isinstance(huge.error, TooLarge), "nothing of that size is ever asked of the system"
    for form, topic, sizes in (("blob", "y", (0, 5, 7)), ("bytes", "stream", (5, 7))):
        for size in sizes:
            lying = declared(site, topic, size, form)
            lying.put((b"sixsix",))
            lying.finish()
            eventually(lambda: lying.has_ended)
            assert isinstance(lying.error, StreamError), f"{form} of 6 bytes, declared as {size}"
    assert taken == [100]


def declared(cell: Cell, topic: str, size: int, form: str) -> Outflow:
    """A sender that says whatever it likes."""
    return Outflow(cell, Opening("server", "x", topic, form, size), Outbox(cell))


def test_the_end_of_the_sender_ends_a_read(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    heard: list[BaseException] = []

    @server.streams.on_stream("logs", "tail")
    def take(stream: StreamReader) -> None:
        try:
            stream.read()
        except ZdlError as error:
            heard.append(error)

    eventually(lambda: [each.state for each in site.peers] == ["up", "up"], what="the data lane")
    out = site.streams.open("logs", "tail", "server")
    out.write(b"abc")
    site.close()
    eventually(lambda: heard)
    assert isinstance(heard[0], Closed), "it closed, and said so"
