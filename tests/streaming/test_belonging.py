"""Streams that belong to a workflow, and what travels in them: as messages do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from streaming.test_receiver import Counting, Noting

from zdl.cell.codes import ReturnCode
from zdl.cell.workflow import HEADER, Workflow
from zdl.errors import Cancelled, DecodeError, OptionError
from zdl.objects.typetable import TypeTable
from zdl.protocol.pushes import Opening
from zdl.refs import Ref
from zdl.streaming.api import Context, StreamContextKey
from zdl.streaming.containers import CONTAINER, ContainerFactory, ContainerProducer
from zdl.streaming.outbox import Outbox
from zdl.streaming.outflow import Outflow
from zdl.streaming.reader import Blob, StreamReader
from zdl.streaming.retriever import Retriever

from trees import Trees
from waiting import PATIENCE_S, eventually


def test_every_kind_of_stream_carries_its_workflow_to_its_receiver(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    seen: list[Workflow | None] = []
    headers: list[object] = []

    @server.streams.on_stream("a", "bytes")
    def take(stream: StreamReader) -> None:
        headers.append(dict(stream.headers))
        seen.append(stream.workflow)

    @server.streams.on_blob("a", "blob")
    def whole(blob: Blob) -> None:
        headers.append(dict(blob.headers))
        seen.append(blob.workflow)

    noting = Noting()
    noting.register(server)
    items = server.streams.subscribe("a", "short")
    with site.workflow(ttl_s=60.0) as work:
        site.streams.open("a", "bytes", "server", headers={"mine": 1}, workflow=work).close(PATIENCE_S)
        site.streams.blob("a", "blob", "server", b"x", headers={"mine": 1}, workflow=work).result(PATIENCE_S)
        assert site.streams.stream_objects("metrics", "round", {}, ["server"], Counting(2), workflow=work)[0] is ReturnCode.OK
        with site.streams.objects("a", "short", "server", workflow=work) as out:
            out.put(1)
            assert next(items) == 1
            seen.append(items.workflow)
            items.close()
        seen.append(noting.contexts[0][StreamContextKey.WORKFLOW])
        assert [each.id for each in seen if each is not None] == [work.id] * 4
        assert all(0 < each.left_s() <= 60.0 for each in seen if each is not None)
    assert headers == [{"mine": 1}] * 2
    eventually(lambda: all(each.ended.is_triggered for each in seen if each is not None), what="the end, told to the receiver")


def test_the_end_of_a_workflow_ends_its_streams_at_both_ends(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    heard: list[BaseException] = []

    @server.streams.on_stream("a", "b")
    def take(stream: StreamReader) -> None:
        try:
            stream.read()
        except Cancelled as error:
            heard.append(error)

    work, other = site.workflow(ttl_s=60.0), site.workflow(ttl_s=60.0)
    out, done = (site.streams.open("a", "b", "server", workflow=each) for each in (work, other))
    done.close(PATIENCE_S)
    other.end()
    noting = Noting()
    noting.register(server)
    endless = site.streams.stream_no_wait("metrics", "round", {}, ["server"], Counting(1 << 60), workflow=work)
    eventually(lambda: len(noting.happened) > 10)
    work.end("enough")
    with pytest.raises(Cancelled, match="its workflow is over: enough"):
        out.result(PATIENCE_S)
    rc, result = endless.result(PATIENCE_S)
    assert rc is not ReturnCode.OK and isinstance(result, dict) and isinstance(result["server"], Cancelled)
    eventually(lambda: heard and noting.happened[-1] == "return")
    begin: list[Callable[[], object]] = [
        lambda: site.streams.open("a", "b", "server", workflow=work),
        lambda: site.streams.objects("a", "b", "server", workflow=work)]
    for each in begin:
        with pytest.raises(Cancelled):
            each()
    assert isinstance(site.streams.blob("a", "b", "server", b"x", workflow=work).exception(PATIENCE_S), Cancelled)


def test_what_is_asked_for_is_streamed_in_the_workflow_of_the_question(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    owner, asker = (Retriever(cell, cell.streams, "things", "some") for cell in (server, site))
    owner.serve(lambda what, context: ContainerProducer([1, 2], context))
    with site.workflow(ttl_s=60.0) as work:
        context = asker.retrieve("server", "it", ContainerFactory(), workflow=work)
    belongs_to = context[StreamContextKey.WORKFLOW]
    assert context[CONTAINER] == [1, 2] and belongs_to is not None and belongs_to.id == work.id


def test_a_workflow_that_is_named_wrong_refuses_the_stream_and_the_name_is_no_header_of_users(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    server.streams.on_stream("a", "b")(lambda stream: None)
    for mark in ("text", b"short", 7):
        wrong = site.streams.open("a", "b", "server")
        wrong.close(PATIENCE_S)
        opening = Opening("server", "a", "b", "bytes", headers=((HEADER, mark),))
        lying = Outflow(site, opening, Outbox(site))
        eventually(lambda: lying.has_ended)
        assert isinstance(lying.error, DecodeError) and HEADER in str(lying.error)
    with pytest.raises(OptionError):
        site.streams.open("a", "b", "server", headers={HEADER: b"x"})


@dataclass(frozen=True)
class Point:
    """A class of a user's."""

    x: int
    y: int


def test_registered_classes_and_bound_refs_travel_in_streams_as_in_messages(trees: Trees) -> None:
    types = TypeTable().with_types(Point)
    server, site = trees.grow("server", "site-1", types=types)
    found: list[object] = []

    def consume(obj: object, context: Context) -> tuple[bool, object]:
        assert isinstance(obj, dict)
        ref = obj["w"]
        assert isinstance(ref, Ref)
        found.extend((float(ref.pull().sum()), context["start"], obj["at"]))
        return True, obj["at"]

    Noting(consume).register(server, resolve=False)

    class One(Counting):
        replies: list[object] = []

        def produce(self, context: Context) -> tuple[object, float | None]:
            self.made += 1
            return ({"w": np.ones(300_000), "at": Point(1, 2)}, 30) if self.made == 1 else (None, None)

        def process_replies(self, replies: object, context: Context) -> object:
            assert isinstance(replies, dict)
            found.append(replies["server"])
            return None

    rc, result = site.streams.stream_objects("metrics", "round", {"start": Point(3, 4)}, ["server"], One(1))
    assert rc is ReturnCode.OK, result
    assert found == [300_000.0, Point(3, 4), Point(1, 2), Point(1, 2)]
