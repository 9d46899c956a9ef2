"""The streaming service: names, forms, limits, relays, and what becomes of open streams when a cell closes."""

from __future__ import annotations

import threading

import pytest

from zdl.errors import Busy, Closed, NoRoute, OptionError, Refused, TimedOut
from zdl.options import Options, StreamOptions
from zdl.streaming.reader import StreamReader
from zdl.streaming.service import Streams

from trees import SCHEMES, Trees
from waiting import PATIENCE_S, eventually


@pytest.mark.parametrize("scheme", SCHEMES)
def test_streams_go_between_leaves_of_every_scheme(trees: Trees, scheme: str) -> None:
    _, one, two = trees.grow("server", "site-1", "site-2", scheme=scheme)
    two.streams.on_stream("a", "b")(lambda stream: stream.read())
    with one.streams.open("a", "b", "site-2") as out:
        out.write(b"hello")
    assert out.result() == b"hello"
    assert isinstance(one.streams, Streams) and "site-1" in repr(one.streams)


def test_a_stream_to_oneself_is_one_like_any_other(trees: Trees) -> None:
    server, = trees.grow("server")
    server.streams.on_stream("a", "b")(lambda stream: stream.read())
    with server.streams.open("a", "b", "server") as out:
        out.write(b"to me")
        out.write(b"x" * 3_000_000)
    assert out.result() == b"to me" + b"x" * 3_000_000


def test_direct_links_can_be_left_alone(trees: Trees) -> None:
    options = Options(streams=StreamOptions(direct=False))
    server, one, two = trees.grow("server", "site-1", "site-2", options=options)
    two.streams.on_stream("a", "b")(lambda stream: stream.read())
    with one.streams.open("a", "b", "site-2") as out:
        out.write(b"by the tree")
    assert out.result() == b"by the tree"
    assert not [peer for peer in two.peers if peer.fqcn == "site-1"]


def test_a_stream_that_nobody_takes_in_is_refused_by_name(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    server.streams.on_blob("a", "blob")(lambda blob: None)
    for topic, text in (("nobody", "nobody takes in streams of a/nobody"), ("blob", "takes blob, not bytes")):
        out = site.streams.open("a", topic, "server")
        with pytest.raises(Refused, match=text):
            out.close(PATIENCE_S)
    with pytest.raises(NoRoute):
        site.streams.open("a", "b", "site-9")
    with pytest.raises(OptionError):
        server.streams.on_blob("a", "blob")(lambda blob: None)
    with pytest.raises(OptionError):
        site.streams.open("a", "b", "server", size=-1)
    with pytest.raises(OptionError):
        site.streams.open("a" * 300, "b", "server")


def test_streams_in_have_a_limit_and_the_next_one_is_refused_by_its_name(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1", options=Options(streams=StreamOptions(intakes_max=2)))
    server.streams.on_stream("a", "b")(lambda stream: stream.read())
    first = [site.streams.open("a", "b", "server") for _ in range(2)]
    third = site.streams.open("a", "b", "server")
    with pytest.raises(Busy, match="intakes_max=2"):
        third.result(PATIENCE_S)
    for each in first:
        each.close(PATIENCE_S)


@pytest.mark.row("T5")
def test_no_progress_within_its_time_ends_a_stream_with_a_named_error_at_both_ends(trees: Trees) -> None:
    options = Options(streams=StreamOptions(stall_timeout_s=0.3))
    server, site = trees.grow("server", "site-1", options=options)
    may_read, heard = threading.Event(), []

    @server.streams.on_stream("a", "stuck")
    def take(stream: StreamReader) -> None:
        may_read.wait(PATIENCE_S)
        try:
            stream.read()
        except TimedOut as error:
            heard.append(error)

    out = site.streams.open("a", "stuck", "server")
    out.write(b"never read")
    with pytest.raises(TimedOut, match="progress of stream a/stuck from server did not come within 0.3"):
        out.result(PATIENCE_S)
    may_read.set()
    assert "progress of stream a/stuck" in str(eventually(lambda: heard and heard[0]))


@pytest.mark.row("T5")
def test_a_receiver_may_name_the_time_within_which_something_must_come(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    server.streams.on_stream("a", "b", idle_timeout_s=0.2)(lambda stream: stream.read())
    out = site.streams.open("a", "b", "server")
    with pytest.raises(TimedOut, match="the next item of stream a/b"):
        out.result(PATIENCE_S)


@pytest.mark.row("T11")
def test_closing_a_cell_ends_its_streams_and_both_ends_are_told(trees: Trees) -> None:
    server, one, two = trees.grow("server", "site-1", "site-2")
    begun: list[bytes] = []
    heard: list[BaseException] = []

    def take(stream: StreamReader) -> None:
        begun.append(stream.read(3))
        try:
            stream.read()
        except Closed as error:
            heard.append(error)

    server.streams.on_stream("a", "b")(take)
    one.streams.on_stream("a", "b")(take)
    outward, inward = one.streams.open("a", "b", "server"), server.streams.open("a", "b", "site-1")
    other = two.streams.open("a", "b", "server")
    outward.write(b"abc")
    inward.write(b"abc")
    eventually(lambda: len(begun) == 2)
    assert one.close() == []
    for stream in (outward, inward):
        with pytest.raises(Closed, match="site-1"):
            stream.result(PATIENCE_S)
    eventually(lambda: len(heard) == 2)
    other.write(b"goes on")
    other.close(PATIENCE_S)


def test_a_user_that_never_returns_is_told_when_the_cell_closes(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1", options=Options(close_s=0.2))
    may_end, is_there = threading.Event(), threading.Event()

    @server.streams.on_stream("a", "b")
    def take(stream: StreamReader) -> None:
        is_there.set()
        may_end.wait(PATIENCE_S)

    site.streams.open("a", "b", "server")
    assert is_there.wait(PATIENCE_S)
    assert any("streams are still running" in each for each in server.close())
    may_end.set()
