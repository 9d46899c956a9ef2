"""A stream of bytes and a blob, as their sender sees them."""

from __future__ import annotations

import threading

import pytest

from zdl.errors import Cancelled, LocalProtocolError, RemoteError, StreamError, TimedOut
from zdl.streaming.reader import Blob, StreamReader
from zdl.streaming.writer import PIECE_BYTES, BlobHandle, pieces

from trees import Trees
from waiting import PATIENCE_S, eventually


def test_bytes_are_cut_into_pieces_and_only_what_may_change_is_copied() -> None:
    data = b"x" * (2 * PIECE_BYTES + 5)
    cut = pieces(data)
    assert [len(each) for each in cut] == [PIECE_BYTES, PIECE_BYTES, 5]
    assert all(isinstance(each, memoryview) and each.obj is data for each in cut)
    changing = bytearray(b"abc" * 10_000)
    taken, = pieces(changing)
    changing[:3] = b"xyz"
    assert bytes(taken[:3]) == b"abc"
    assert pieces(b"") == [] and [bytes(each) for each in pieces(memoryview(b"abcdef")[::2])] == [b"ace"]


@pytest.mark.row("T4")
def test_a_slow_reader_holds_the_writer_back_and_no_request(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    may_read = threading.Event()

    @server.streams.on_stream("logs", "tail")
    def take(stream: StreamReader) -> int:
        may_read.wait(PATIENCE_S)
        return len(stream.read())

    server.handler("a", "echo")(lambda request: request.body)
    total = 40 * PIECE_BYTES
    with site.streams.open("logs", "tail", "server") as out:
        writing = threading.Thread(target=lambda: [out.write(b"x" * PIECE_BYTES) for _ in range(40)])
        writing.start()
        window = site.options.streams.window_bytes
        eventually(lambda: out.bytes_written >= window - PIECE_BYTES)
        assert site.request("server", "a", "echo", "quick").body == "quick"
        assert out.bytes_written <= window + PIECE_BYTES and writing.is_alive()
        may_read.set()
        writing.join(PATIENCE_S)
    assert out.result(PATIENCE_S) == total and out.bytes_consumed == total and out.done


@pytest.mark.row("T10")
def test_what_its_receiver_raises_reaches_the_writer(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")

    @server.streams.on_stream("logs", "tail")
    def take(stream: StreamReader) -> None:
        stream.read(1)
        raise ValueError("no room")

    out = site.streams.open("logs", "tail", "server")
    with pytest.raises(RemoteError, match="ValueError in server, handler logs/tail: no room"):
        while True:
            out.write(b"x" * 1000)
    with pytest.raises(RemoteError):
        out.close()


def test_a_receiver_that_has_enough_ends_the_stream_with_its_result(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    server.streams.on_stream("logs", "tail")(lambda stream: stream.read(3).decode())
    out = site.streams.open("logs", "tail", "server")
    out.write(b"abcdef")
    assert out.result(PATIENCE_S) == "abc"
    with pytest.raises(StreamError, match="wants no more"):
        out.write(b"ghi")
    out.close()


def test_a_writer_that_raises_breaks_off_and_the_receiver_hears_why(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    heard: list[BaseException] = []

    @server.streams.on_stream("logs", "tail")
    def take(stream: StreamReader) -> None:
        try:
            stream.read()
        except Cancelled as error:
            heard.append(error)
            raise

    with pytest.raises(RuntimeError), site.streams.open("logs", "tail", "server") as out:
        out.write(b"abc")
        raise RuntimeError("mine")
    assert "its writer raised RuntimeError" in str(eventually(lambda: heard and heard[0]))
    with pytest.raises(LocalProtocolError, match="closed"):
        out.write(b"abc")


def test_a_declared_size_holds_at_the_writer(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    heard: list[BaseException] = []

    @server.streams.on_stream("logs", "tail")
    def take(stream: StreamReader) -> None:
        try:
            stream.read()
        except StreamError as error:
            heard.append(error)

    out = site.streams.open("logs", "tail", "server", size=5)
    with pytest.raises(LocalProtocolError, match="6 bytes are more than the 5"):
        out.write(b"abcdef")
    out.write(b"abc")
    with pytest.raises(StreamError, match="3 of 5 bytes were written"):
        out.close()
    eventually(lambda: heard)


def test_a_result_that_is_not_there_yet_times_out_and_the_stream_goes_on(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    server.streams.on_stream("logs", "tail")(lambda stream: stream.read())
    out = site.streams.open("logs", "tail", "server")
    with pytest.raises(TimedOut):
        out.result(0.01)
    out.write(b"abc")
    out.finish()
    assert out.result(PATIENCE_S) == b"abc"


@pytest.mark.row("T8")
def test_a_blob_has_a_handle_with_progress_size_cancel_result_exception_and_callbacks(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    may_take = threading.Event()

    @server.streams.on_blob("model", "weights")
    def take(blob: Blob) -> object:
        may_take.wait(PATIENCE_S)
        return {"got": len(blob.data), "of": blob.origin, "round": blob.headers["round"]}

    payload = [b"a" * 3_000_000, bytearray(b"b" * 10), memoryview(b"c")]
    handle = site.streams.blob("model", "weights", "server", payload, headers={"round": 3})
    ends: list[BlobHandle] = []
    handle.add_done_callback(ends.append)
    assert handle.bytes_total == 3_000_011 and handle.running() and not handle.cancelled()
    with pytest.raises(TimedOut):
        handle.result(0.01)
    eventually(lambda: handle.progress >= 2_000_000)
    may_take.set()
    assert handle.result(PATIENCE_S) == {"got": 3_000_011, "of": "site-1", "round": 3}
    assert handle.exception() is None and handle.done() and handle.progress == handle.bytes_total
    eventually(lambda: ends == [handle])
    late: list[BlobHandle] = []
    handle.add_done_callback(late.append)
    eventually(lambda: late == [handle])
    assert not handle.cancel()


def test_a_blob_that_is_cancelled_says_so_at_both_ends(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    server.streams.on_stream("model", "weights")(lambda stream: None)
    ended: list[BaseException] = []

    @server.streams.on_blob("model", "large")
    def take(blob: Blob) -> None:
        raise AssertionError("it never comes whole")

    assert not ended
    handle = site.streams.blob("model", "large", "server", [b"x" * (1 << 20)] * 64)
    assert handle.cancel("no longer wanted")
    assert isinstance(handle.exception(PATIENCE_S), Cancelled) and handle.cancelled()


def test_a_done_callback_that_raises_hurts_nobody(trees: Trees, logged_errors: list[str]) -> None:
    server, site = trees.grow("server", "site-1")
    server.streams.on_blob("a", "b")(lambda blob: len(blob.data))
    handle = site.streams.blob("a", "b", "server", b"xyz")

    def callback(handle: BlobHandle) -> None:
        raise ValueError("mine")

    handle.add_done_callback(callback)
    assert handle.result(PATIENCE_S) == 3
    eventually(lambda: logged_errors)
    assert "mine" in logged_errors[0]
    logged_errors.clear()
    assert site.streams.blob("a", "b", "server", b"").result(PATIENCE_S) == 0
