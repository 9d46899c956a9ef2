"""Those who read a subscription, or consume, and raise, block or stop: the stream ends for its sender by name, the others go on."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest
from streaming.test_receiver import KEY, Counting, Noting

from zdl.assembly import Cell
from zdl.cell.codes import ReturnCode
from zdl.errors import Closed, DownloadError, Refused, RemoteError, StreamError, TimedOut
from zdl.options import Options, StreamOptions
from zdl.streaming.api import Context, ObjectConsumer
from zdl.streaming.sender import ObjectWriter

from trees import Trees
from waiting import PATIENCE_S, eventually

STALL = Options(streams=StreamOptions(stall_timeout_s=0.3))


def ended(out: ObjectWriter) -> BaseException:
    """What somebody hears who puts on and on."""
    with pytest.raises(Exception) as caught:
        while True:
            out.put("more")
    return caught.value


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_loop_that_raises_after_any_object_ends_its_streams_for_their_senders(trees: Trees, count: int) -> None:
    server, site = trees.grow("server", "site-1")
    items = server.streams.subscribe("a", "b")
    out = site.streams.objects("a", "b", "server")
    out.put(0)
    with pytest.raises(ValueError, match="mine"), items:
        for number, item in enumerate(items):
            assert item == number
            if number == count:
                raise ValueError("mine")
            out.put(number + 1)
    assert isinstance(ended(out), StreamError)
    again = site.streams.objects("a", "b", "server")
    with pytest.raises(Refused, match="nobody takes in streams of a/b"):
        again.close()
    eventually(lambda: "0 streams out, 0 in" in repr(server.pushing))


def test_a_loop_that_blocks_times_its_stream_out_and_takes_the_next_one(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1", options=STALL)
    may_go_on = threading.Event()
    seen: list[object] = []
    items = server.streams.subscribe("a", "b")

    def read() -> None:
        for item in items:
            seen.append(item)
            may_go_on.wait(PATIENCE_S)

    reading = threading.Thread(target=read)
    reading.start()
    out = site.streams.objects("a", "b", "server")
    out.put("first")
    assert isinstance(ended(out), TimedOut)
    eventually(lambda: " 0 in" in repr(server.pushing), what="the news that the sender has given up")
    other = site.streams.objects("a", "b", "server")
    other.put("second", timeout_s=PATIENCE_S)
    may_go_on.set()
    eventually(lambda: "second" in seen and items.failures)
    assert isinstance(items.failures[0], TimedOut) and "more" not in seen
    items.close()
    reading.join(PATIENCE_S)


def test_a_loop_that_stops_without_a_word_times_its_stream_out(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1", options=STALL)
    items = server.streams.subscribe("a", "b")

    def read() -> None:
        for item in items:
            if item == 1:
                break

    reading = threading.Thread(target=read)
    reading.start()
    out = site.streams.objects("a", "b", "server")
    for number in range(3):
        out.put(number)
    assert isinstance(ended(out), TimedOut)
    items.close()
    reading.join(PATIENCE_S)
    assert not reading.is_alive()


def test_a_subscription_that_is_closed_while_its_reader_works_ends_its_streams(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    items = server.streams.subscribe("a", "b")
    out = site.streams.objects("a", "b", "server")
    out.put(1)
    assert next(items) == 1
    items.close()
    with pytest.raises(StopIteration):
        next(items)
    assert isinstance(ended(out), StreamError)


def test_an_object_whose_leaves_are_not_to_be_had_ends_its_stream_and_no_other(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    with server.streams.subscribe("a", "b") as items:
        out, other = (site.streams.objects("a", "b", "server") for _ in range(2))
        out.put(np.ones(300_000))
        for each in eventually(lambda: site.downloads.transactions):
            each.delete()
        eventually(lambda: not site.downloads.transactions)
        other.put("second")
        assert next(items) == "second"
        assert isinstance(items.failures[0], DownloadError)
        assert isinstance(ended(out), DownloadError)


def test_a_factory_that_never_returns_ends_its_stream_in_time_and_is_cleaned_up_when_it_does(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    may_give = threading.Event()

    class Blocking(Noting):
        def get_consumer(self, context: Context) -> ObjectConsumer:
            may_give.wait(PATIENCE_S)
            return super().get_consumer(context)

    noting = Blocking()
    noting.register(server)
    rc, result = site.streams.stream_objects("metrics", "round", {}, ["server"], Counting(3, timeout_s=0.2))
    assert rc is ReturnCode.TIMEOUT and isinstance(result, dict) and isinstance(result["server"], TimedOut)
    eventually(lambda: " 0 in" in repr(server.pushing), what="the news that the sender has given up")
    may_give.set()
    eventually(lambda: noting.happened[-1:] == ["return"])
    assert noting.happened == ["get", "finalize", "done", "return"]
    assert isinstance(noting.contexts[0][KEY.ERROR], TimedOut)


def test_a_consumer_whose_return_raises_is_logged_and_the_next_stream_is_taken(
        trees: Trees, logged_errors: list[str]) -> None:
    server, site = trees.grow("server", "site-1")
    noting = Noting()
    noting.raises_in = "return"
    noting.register(server)
    assert site.streams.stream_objects("metrics", "round", {}, ["server"], Counting(1))[0] is ReturnCode.OK
    eventually(lambda: logged_errors)
    assert "in return" in logged_errors.pop()
    assert KEY.END_STREAM not in noting.contexts[0]
    noting.raises_in = ""
    assert site.streams.stream_objects("metrics", "round", {}, ["server"], Counting(1))[0] is ReturnCode.OK


def test_callbacks_that_raise_end_their_stream_with_their_error(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    noting = Noting()

    def raise_it(context: Context) -> object:
        raise ValueError("in a callback")

    noting.register(server, consumed_cb=raise_it)
    _, result = site.streams.stream_objects("metrics", "round", {}, ["server"], Counting(3))
    assert isinstance(result, dict) and isinstance(result["server"], RemoteError) and result["server"].text == "in a callback"
    eventually(lambda: noting.happened[-1] == "return")
    assert noting.happened == ["get", 1, "finalize", "done", "return"]


@pytest.mark.row("T11")
@pytest.mark.parametrize("who", ["sender", "receiver"])
def test_a_cell_that_closes_in_the_middle_of_a_blob_ends_it_at_both_ends(trees: Trees, who: str) -> None:
    options = Options(streams=StreamOptions(intakes_max=1, no_wait_max=1))
    server = trees.grow("server", options=options)[0]
    site = trees.add(type(server)("site-1", parent=server.addresses[0]))
    may_go_on = threading.Event()
    server.streams.on_blob("a", "b")(lambda blob: len(blob.data))
    for _ in range(2):  # so that what comes is not read
        server.streams._hub.crew.run(lambda: may_go_on.wait(PATIENCE_S) and None)
    handle = site.streams.blob("a", "b", "server", bytes(64 << 20))
    eventually(lambda: " 1 in" in repr(server.pushing))
    (site if who == "sender" else server).close(0.1)
    error = handle.exception(PATIENCE_S)
    assert isinstance(error, Closed) and error.fqcn == (site if who == "sender" else server).fqcn
    may_go_on.set()


def test_what_still_waits_for_a_thread_when_its_cell_is_gone_ends_without_a_word(trees: Trees, logged_errors: list[str]) -> None:
    server = Cell("server", listen="tcp://127.0.0.1:0", options=Options(streams=StreamOptions(intakes_max=1, no_wait_max=1)))
    server.start()
    site = trees.add(Cell("site-1", parent=server.addresses[0]))
    may_go_on, crew, desk, gone = threading.Event(), server.streams._hub.crew, server.pushing, weakref.ref(server)
    server.streams.on_blob("a", "b")(lambda blob: len(blob.data))
    for _ in range(2):
        crew.run(lambda: may_go_on.wait(PATIENCE_S) and None)
    handle = site.streams.blob("a", "b", "server", bytes(64 << 20))
    eventually(lambda: " 1 in" in repr(desk))
    server.close(0.1)
    assert isinstance(handle.exception(PATIENCE_S), Closed)
    del server
    eventually(lambda: gc.collect() >= 0 and gone() is None)
    may_go_on.set()
    assert crew.close(PATIENCE_S) == 0 and not logged_errors


def test_a_blob_that_nobody_takes_is_refused(trees: Trees) -> None:
    _, site = trees.grow("server", "site-1")
    assert isinstance(site.streams.blob("a", "b", "server", b"x").exception(PATIENCE_S), Refused)
