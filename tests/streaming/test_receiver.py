"""Consumers: every object once and in order, and the guaranteed order of the ends."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from zdl.assembly import Cell
from zdl.cell.codes import ReturnCode
from zdl.errors import Closed, PeerLost, RemoteError, TimedOut
from zdl.options import Options, StreamOptions
from zdl.streaming.api import ConsumerFactory, Context, ObjectConsumer, ObjectProducer, StreamContextKey
from zdl.streaming.receiver import Consuming, Processing

from children import Child
from trees import Trees
from waiting import PATIENCE_S, eventually

KEY = StreamContextKey


class Counting(ObjectProducer):
    """Makes numbers."""

    def __init__(self, count: int, timeout_s: float | None = 30) -> None:
        self.left = count
        self.made = 0
        self.timeout_s = timeout_s

    def produce(self, context: Context) -> tuple[object, float | None]:
        if self.made == self.left:
            return None, None
        self.made += 1
        return self.made, self.timeout_s


class Noting(ObjectConsumer, ConsumerFactory):
    """Takes down all that happens to it, in order."""

    def __init__(self, consume: Callable[[object, Context], tuple[bool, object]] | None = None) -> None:
        self.happened: list[object] = []
        self.contexts: list[Context] = []
        self._consume = consume
        self.raises_in: str = ""

    def _note(self, what: object) -> None:
        self.happened.append(what)
        if what == self.raises_in:
            raise ValueError(f"in {what}")

    def get_consumer(self, context: Context) -> ObjectConsumer:
        self.contexts.append(context)
        self._note("get")
        return self

    def consume(self, obj: object, context: Context) -> tuple[bool, object]:
        self._note(obj)
        return (True, None) if self._consume is None else self._consume(obj, context)

    def finalize(self, context: Context) -> None:
        self._note("finalize")

    def return_consumer(self, consumer: ObjectConsumer, context: Context) -> None:
        assert consumer is self
        self._note("return")

    def done(self, context: Context) -> object:
        self._note("done")
        return {"rc": str(context[KEY.RC])}

    def register(self, cell: Cell, **more: object) -> None:
        cell.streams.register_stream_processing(
            "metrics", "round", self, stream_done_cb=self.done, **more)  # type: ignore[arg-type]


@pytest.mark.row("X5")
def test_the_ends_come_in_their_order_and_the_result_goes_back(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    noting = Noting()
    noting.register(server)
    rc, result = site.streams.stream_objects("metrics", "round", {}, ["server"], Counting(3))
    assert (rc, result) == (ReturnCode.OK, {"server": {"rc": "ok"}})
    eventually(lambda: len(noting.happened) == 7)
    assert noting.happened == ["get", 1, 2, 3, "finalize", "done", "return"]


@pytest.mark.row("X5")
@pytest.mark.parametrize(("point", "happened"), [
    ("get", ["get"]), (2, ["get", 1, 2, "finalize", "done", "return"]),
    ("finalize", ["get", 1, 2, 3, "finalize", "done", "return"]), ("done", ["get", 1, 2, 3, "finalize", "done", "return"]),
])
def test_a_consumer_that_raises_anywhere_ends_its_stream_and_no_other(trees: Trees, point: str, happened: list[object]) -> None:
    server, site = trees.grow("server", "site-1")
    noting = Noting()
    noting.raises_in = point
    noting.register(server)
    rc, result = site.streams.stream_objects("metrics", "round", {}, ["server"], Counting(3))
    assert rc is ReturnCode.PROCESS_EXCEPTION and isinstance(result, dict)
    error = result["server"]
    assert isinstance(error, RemoteError) and (error.kind, error.text) == ("ValueError", f"in {point}")
    eventually(lambda: len(noting.happened) == len(happened))
    assert noting.happened == happened
    noting.raises_in = ""
    assert site.streams.stream_objects("metrics", "round", {}, ["server"], Counting(3))[0] is ReturnCode.OK


@pytest.mark.row("X4")
def test_the_context_is_sent_once_and_shared_on_each_side_and_app_never_travels(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    app_here, app_there = object(), object()
    seen: list[object] = []

    def consume(obj: object, context: Context) -> tuple[bool, object]:
        context["count"] = context.get("count", 0) + 1
        seen.append((context["run"], context["count"], context[KEY.APP], context[KEY.ORIGIN], context[KEY.CHANNEL]))
        return True, None

    Noting(consume).register(server, app=app_there)

    class Producing(Counting):
        def produce(self, context: Context) -> tuple[object, float | None]:
            assert context[KEY.APP] is app_here
            context["run"] = "changed here only"
            return super().produce(context)

    context = {"run": "r1"}
    rc, _ = site.streams.stream_objects("metrics", "round", context, ["server"], Producing(2), app=app_here)
    assert rc is ReturnCode.OK and context["run"] == "changed here only"
    assert seen == [("r1", 1, app_there, "site-1", "metrics"), ("r1", 2, app_there, "site-1", "metrics")]


@pytest.mark.row("X7")
@pytest.mark.parametrize("how", ["reply", "function"])
def test_a_consumer_may_end_its_stream_normally(trees: Trees, how: str) -> None:
    server, site = trees.grow("server", "site-1")

    def consume(obj: object, context: Context) -> tuple[bool, object]:
        if obj == 3 and how == "function":
            context[KEY.END_STREAM]()
        return obj != 3 or how == "function", f"re {obj}"

    noting = Noting(consume)
    noting.register(server)
    rc, result = site.streams.stream_objects("metrics", "round", {}, ["server"], Counting(10_000))
    assert (rc, result) == (ReturnCode.OK, {"server": {"rc": "ok"}})
    eventually(lambda: len(noting.happened) == 7)
    assert noting.happened == ["get", 1, 2, 3, "finalize", "done", "return"]


@pytest.mark.row("X9")
def test_a_callback_comes_after_each_consumed_item(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    items: list[object] = []
    Noting().register(server, consumed_cb=lambda context: items.append(context[KEY.ITEM]))
    site.streams.stream_objects("metrics", "round", {}, ["server"], Counting(5))
    assert items == [1, 2, 3, 4, 5]


@pytest.mark.row("X14")
def test_thousands_of_items_come_once_and_in_order_over_a_relay(trees: Trees) -> None:
    options = Options(streams=StreamOptions(direct=False))
    _, one, two = trees.grow("server", "site-1", "site-2", options=options)
    noting = Noting()
    noting.register(two)
    assert one.streams.stream_objects("metrics", "round", {}, ["site-2"], Counting(5000))[0] is ReturnCode.OK
    eventually(lambda: noting.happened[-1] == "return")
    assert noting.happened == ["get", *range(1, 5001), "finalize", "done", "return"]


def test_large_leaves_of_objects_travel_as_refs_and_are_there_when_they_are_consumed(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    sums: list[float] = []

    def consume(obj: object, context: Context) -> tuple[bool, object]:
        assert isinstance(obj, dict)
        sums.append(float(obj["w"].sum()))
        return True, {"grad": obj["w"] * 2}

    Noting(consume).register(server)

    class Arrays(ObjectProducer):
        made, grads = 0, 0.0

        def produce(self, context: Context) -> tuple[object, float | None]:
            self.made += 1
            return ({"w": np.full(300_000, self.made, np.float64)}, 30) if self.made <= 3 else (None, None)

        def process_replies(self, replies: object, context: Context) -> object:
            assert isinstance(replies, dict)
            self.grads += float(replies["server"]["grad"].sum())
            return None

    arrays = Arrays()
    assert site.streams.stream_objects("metrics", "round", {}, ["server"], arrays)[0] is ReturnCode.OK
    assert sums == [3e5, 6e5, 9e5] and arrays.grads == 3.6e6
    eventually(lambda: not site.downloads.transactions)


def test_a_factory_that_blocks_holds_up_no_other_stream(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    may_give = threading.Event()

    class Blocking(Noting):
        def get_consumer(self, context: Context) -> ObjectConsumer:
            if context.get("blocks"):
                may_give.wait(PATIENCE_S)
            return super().get_consumer(context)

    Blocking().register(server)
    slow = site.streams.stream_no_wait("metrics", "round", {"blocks": True}, ["server"], Counting(3))
    assert site.streams.stream_objects("metrics", "round", {}, ["server"], Counting(3))[0] is ReturnCode.OK
    assert not slow.done()
    may_give.set()
    assert slow.result(PATIENCE_S)[0] is ReturnCode.OK


def test_what_is_no_consumer_or_no_pair_is_an_error_that_names_it(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")

    class Nobody(Noting):
        def get_consumer(self, context: Context) -> ObjectConsumer:
            return None  # type: ignore[return-value]

    Nobody().register(server)
    _, result = site.streams.stream_objects("metrics", "round", {}, ["server"], Counting(1))
    assert isinstance(result, dict) and "get_consumer returned NoneType" in str(result["server"])
    wrong = Noting(lambda obj, context: True)  # type: ignore[arg-type, return-value]
    server.streams.register_stream_processing("metrics", "pair", wrong)
    _, result = site.streams.stream_objects("metrics", "pair", {}, ["server"], Counting(1))
    assert isinstance(result, dict) and "consume returned bool, not a pair" in str(result["server"])
    assert Consuming.__doc__ and Processing.__doc__


@pytest.mark.row("X6")
def test_an_item_that_takes_too_long_ends_the_stream_and_the_consumer_is_finalized(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    may_go_on = threading.Event()

    def consume(obj: object, context: Context) -> tuple[bool, object]:
        may_go_on.wait(PATIENCE_S)
        return True, None

    noting = Noting(consume)
    noting.register(server)
    rc, result = site.streams.stream_objects("metrics", "round", {}, ["server"], Counting(3, timeout_s=0.2))
    assert rc is ReturnCode.TIMEOUT and isinstance(result, dict) and isinstance(result["server"], TimedOut)
    eventually(lambda: "0 in" in repr(server.pushing), what="the news that the sender has given up")
    may_go_on.set()
    eventually(lambda: noting.happened[-1] == "return")
    assert noting.happened[-3:] == ["finalize", "done", "return"] and isinstance(noting.contexts[0][KEY.ERROR], TimedOut)


QUICK = "Options(streams=StreamOptions(lost_timeout_s=0.5))"
SENDER = f"""
from zdl.streaming.api import ObjectProducer
class Endless(ObjectProducer):
    def produce(self, context): return b"x" * 1000, 30
cell = Cell("site-1", parent=sys.argv[1], options={QUICK})
cell.start(); cell.wait_ready(); say("ready")
cell.streams.stream_objects("metrics", "round", {{}}, ["server"], Endless())
"""
RECEIVER = f"""
cell = Cell("site-1", parent=sys.argv[1], options={QUICK})
cell.start(); cell.wait_ready()
items = cell.streams.subscribe("metrics", "round")
say("ready")
for item in items: pass
"""


@pytest.mark.row("X6")
def test_a_sender_that_is_killed_ends_its_stream_at_the_receiver(trees: Trees) -> None:
    server = trees.add(Cell("server", listen="tcp://127.0.0.1:0", options=Options(streams=StreamOptions(lost_timeout_s=0.5))))
    noting = Noting()
    noting.register(server)
    with Child(SENDER, server.addresses[0]) as site:
        site.expect("ready")
        eventually(lambda: len(noting.happened) > 100)
    eventually(lambda: noting.happened[-1] == "return")
    assert noting.happened[-3:] == ["finalize", "done", "return"]
    assert isinstance(noting.contexts[0][KEY.ERROR], (PeerLost, TimedOut))


@pytest.mark.row("X6")
def test_a_receiver_that_is_killed_ends_the_stream_at_its_sender(trees: Trees) -> None:
    server = trees.add(Cell("server", listen="tcp://127.0.0.1:0", options=Options(streams=StreamOptions(lost_timeout_s=0.5))))
    with Child(RECEIVER, server.addresses[0]) as site:
        site.expect("ready")
        producer = Counting(1 << 60)
        future = server.streams.stream_no_wait("metrics", "round", {}, ["site-1"], producer)
        eventually(lambda: producer.made > 1000 or future.done())
    rc, result = future.result(PATIENCE_S)
    assert rc is not ReturnCode.OK and isinstance(result, dict) and isinstance(result["site-1"], PeerLost)


@pytest.mark.row("X6")
def test_a_cell_that_closes_in_the_middle_ends_its_consumers_in_order(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    noting = Noting()
    noting.register(server)
    future = site.streams.stream_no_wait("metrics", "round", {}, ["server"], Counting(1 << 60))
    eventually(lambda: len(noting.happened) > 100)
    assert server.close() == []
    rc, result = future.result(PATIENCE_S)
    assert isinstance(result, dict) and isinstance(result["server"], (Closed, PeerLost)) and rc is not ReturnCode.OK
    assert noting.happened[-3:] == ["finalize", "done", "return"]
