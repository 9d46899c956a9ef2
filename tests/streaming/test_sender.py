"""Producers: many targets, replies in order, and every end as the sender sees it."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import pytest
from streaming.test_receiver import Counting, Noting

from zdl.cell.codes import ReturnCode
from zdl.cell.signal import Signal
from zdl.errors import Busy, Cancelled, CannotPack, NoRoute, OptionError, Refused, RemoteError, StreamError
from zdl.options import Options, StreamOptions
from zdl.streaming.api import Context, ObjectProducer, StreamContextKey
from zdl.streaming.sender import ObjectWriter, run

from trees import Trees
from waiting import PATIENCE_S, eventually


def test_a_producer_is_finalized_whatever_happens(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    Noting().register(server)
    ends: list[str] = []

    class Ending(Counting):
        def finalize(self, context: Context) -> None:
            ends.append("end")

    class Raising(Ending):
        def produce(self, context: Context) -> tuple[object, float | None]:
            raise ValueError("mine")

    site.streams.stream_objects("metrics", "round", {}, ["server"], Ending(2))
    with pytest.raises(ValueError):
        site.streams.stream_objects("metrics", "round", {}, ["server"], Raising(2))
    assert ends == ["end", "end"]


@pytest.mark.row("X5")
@pytest.mark.parametrize(("context", "targets", "error"), [({"of": object()}, ["server"], CannotPack), ({}, [], OptionError)])
def test_a_producer_whose_stream_cannot_be_opened_is_finalized_too(
        trees: Trees, context: dict[str, object], targets: list[str], error: type[Exception]) -> None:
    _, site = trees.grow("server", "site-1")
    ends: list[object] = []

    class Ending(Counting):
        def finalize(self, context: Context) -> None:
            ends.append(context)

    with pytest.raises(error):
        site.streams.stream_objects("metrics", "round", context, targets, Ending(2))
    assert ends == [context]


@pytest.mark.row("X5")
@pytest.mark.parametrize("also_in", ["", "produce", "signal"])
def test_a_finalize_that_raises_is_the_error_of_a_stream_that_had_none(
        trees: Trees, caplog: pytest.LogCaptureFixture, also_in: str) -> None:
    server, site = trees.grow("server", "site-1")
    noting, signal = Noting(), Signal()
    noting.register(server)

    class Raising(Counting):
        def produce(self, context: Context) -> tuple[object, float | None]:
            if self.made == 2 and also_in == "produce":
                raise ValueError("in produce")
            if self.made == 2 and also_in == "signal":
                signal.trigger("enough")
            return super().produce(context)

        def finalize(self, context: Context) -> None:
            raise LookupError("in finalize")

    with pytest.raises(ValueError if also_in == "produce" else LookupError, match="in "):
        site.streams.stream_objects("metrics", "round", {}, ["server"], Raising(3), abort=signal)
    eventually(lambda: noting.happened[-1:] == ["return"])
    error = noting.contexts[0][StreamContextKey.ERROR]
    assert isinstance(error, {"": type(None), "produce": RemoteError, "signal": Cancelled}[also_in])
    assert ("in finalize" in caplog.text) == (also_in == "produce"), "of two errors the log has the second"
    eventually(lambda: "0 streams out" in repr(site.pushing))


class Replied(Counting):
    """Keeps the replies, and may end the stream by its verdict."""

    def __init__(self, count: int, verdicts: Mapping[int, object] | None = None) -> None:
        super().__init__(count)
        self.replies: list[Mapping[str, object]] = []
        self.ahead = 0
        self._verdicts = verdicts or {}

    def process_replies(self, replies: Mapping[str, object], context: Context) -> object:
        self.replies.append(replies)
        self.ahead = max(self.ahead, self.made - len(self.replies))
        return self._verdicts.get(len(self.replies))


def echo(obj: object, context: Context) -> tuple[bool, object]:
    return True, f"re {obj}"


@pytest.mark.row("X1", "X3")
def test_many_targets_and_the_producer_sees_every_reply_to_each_object_in_order(trees: Trees) -> None:
    server, one, two = trees.grow("server", "site-1", "site-2")
    for cell in (one, two):
        Noting(echo).register(cell)
    producer = Replied(50)
    rc, result = server.streams.stream_objects("metrics", "round", {}, ["site-1", "site-2"], producer)
    assert rc is ReturnCode.OK and result == {"site-1": {"rc": "ok"}, "site-2": {"rc": "ok"}}
    assert producer.replies == [{"site-1": f"re {n}", "site-2": f"re {n}"} for n in range(1, 51)]
    assert callable(run)


@pytest.mark.row("X3")
def test_its_verdict_ends_the_stream_well_or_not(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    noting = Noting(echo)
    noting.register(server)
    assert site.streams.stream_objects("metrics", "round", {}, ["server"], Replied(100, {3: "enough"})) == (
        ReturnCode.OK, "enough")
    eventually(lambda: noting.happened[-1] == "return")
    assert noting.contexts[0][StreamContextKey.RC] is ReturnCode.OK
    rc, verdict = site.streams.stream_objects("metrics", "round", {}, ["server"], Replied(1 << 60, {2: False}))
    assert rc is ReturnCode.PROCESS_EXCEPTION and verdict is False
    eventually(lambda: isinstance(noting.contexts[1].get(StreamContextKey.ERROR), StreamError))


def test_a_producer_that_wants_every_reply_before_it_goes_on_gets_that(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    Noting(echo).register(server)
    step_by_step, ahead = Replied(20), Replied(500)
    site.streams.stream_objects("metrics", "round", {}, ["server"], step_by_step, ahead_max=1)
    site.streams.stream_objects("metrics", "round", {}, ["server"], ahead)
    assert step_by_step.ahead == 0 and len(step_by_step.replies) == 20
    assert ahead.ahead > 0 and len(ahead.replies) == 500


@pytest.mark.row("X2")
@pytest.mark.parametrize("timeout_s", [5, 2.5, None])
def test_the_timeout_of_an_item_is_an_int_or_a_float_or_the_default(trees: Trees, timeout_s: float | None) -> None:
    server, site = trees.grow("server", "site-1")
    Noting().register(server)
    assert site.streams.stream_objects("metrics", "round", {}, ["server"], Counting(2, timeout_s))[0] is ReturnCode.OK


@pytest.mark.row("X2")
@pytest.mark.parametrize("produced", [(1, 0), (1, -1), (1, "5"), (1, True), 1, (1, 2, 3)])
def test_what_is_no_pair_or_no_timeout_is_refused_and_both_ends_are_told(trees: Trees, produced: object) -> None:
    server, site = trees.grow("server", "site-1")
    noting = Noting()
    noting.register(server)

    class Wrong(ObjectProducer):
        def produce(self, context: Context) -> tuple[object, float | None]:
            return produced  # type: ignore[return-value]

    with pytest.raises(OptionError, match="metrics/round"):
        site.streams.stream_objects("metrics", "round", {}, ["server"], Wrong())
    eventually(lambda: noting.happened[-1:] == ["return"])


def test_one_that_fails_does_not_end_the_stream_of_the_others(trees: Trees) -> None:
    server, one, two = trees.grow("server", "site-1", "site-2")
    Noting(echo).register(one)
    failing = Noting(echo)
    failing.raises_in = 2  # type: ignore[assignment]
    failing.register(two)
    producer = Replied(4)
    rc, result = server.streams.stream_objects("metrics", "round", {}, ["site-1", "site-2", "site-9"], producer, ahead_max=1)
    assert rc is ReturnCode.PROCESS_EXCEPTION and isinstance(result, dict)
    assert result["site-1"] == {"rc": "ok"}
    assert isinstance(result["site-2"], RemoteError) and isinstance(result["site-9"], NoRoute)
    assert [each["site-1"] for each in producer.replies] == ["re 1", "re 2", "re 3", "re 4"]
    assert producer.replies[0]["site-2"] == "re 1" and isinstance(producer.replies[3]["site-2"], RemoteError)


@pytest.mark.row("X6")
@pytest.mark.parametrize("where", ["produce", "replies", "pack"])
def test_a_producer_that_raises_tells_both_ends(trees: Trees, where: str) -> None:
    server, site = trees.grow("server", "site-1")
    noting = Noting(echo)
    noting.register(server)

    class Raising(Counting):
        def produce(self, context: Context) -> tuple[object, float | None]:
            if self.made == 2 and where == "produce":
                raise ValueError("mine")
            return (object(), 5) if self.made == 2 and where == "pack" else super().produce(context)

        def process_replies(self, replies: Mapping[str, object], context: Context) -> object:
            if where == "replies":
                raise ValueError("mine")
            return None

    with pytest.raises(CannotPack if where == "pack" else ValueError):
        site.streams.stream_objects("metrics", "round", {}, ["server"], Raising(1 << 60))
    eventually(lambda: noting.happened[-1:] == ["return"])
    error = noting.contexts[0][StreamContextKey.ERROR]
    assert isinstance(error, CannotPack if where == "pack" else RemoteError)


@pytest.mark.row("X6")
def test_a_signal_ends_it_at_both_ends(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    noting = Noting()
    noting.register(server)
    signal = Signal()
    future = site.streams.stream_no_wait("metrics", "round", {}, ["server"], Counting(1 << 60), abort=signal)
    eventually(lambda: len(noting.happened) > 10)
    signal.trigger("enough")
    assert future.result(PATIENCE_S) == (ReturnCode.ABORT_RUN, None)
    eventually(lambda: noting.happened[-1] == "return")
    assert isinstance(noting.contexts[0][StreamContextKey.ERROR], Cancelled)


@pytest.mark.row("X8")
def test_streams_that_are_not_waited_for_have_a_limit(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1", options=Options(streams=StreamOptions(no_wait_max=2)))
    may_go_on = threading.Event()

    def wait(obj: object, context: Context) -> tuple[bool, object]:
        may_go_on.wait(PATIENCE_S)
        return True, None

    Noting(wait).register(server)
    futures = [site.streams.stream_no_wait("metrics", "round", {}, ["server"], Counting(1)) for _ in range(2)]
    with pytest.raises(Busy, match="no_wait_max=2"):
        site.streams.stream_no_wait("metrics", "round", {}, ["server"], Counting(1))
    may_go_on.set()
    assert [future.result(PATIENCE_S)[0] for future in futures] == [ReturnCode.OK] * 2
    assert site.streams.stream_no_wait("metrics", "round", {}, ["server"], Counting(1)).result(PATIENCE_S)[0] is ReturnCode.OK


def test_a_stream_that_nobody_processes_is_refused(trees: Trees) -> None:
    _, site = trees.grow("server", "site-1")
    rc, result = site.streams.stream_objects("metrics", "nobody", {}, ["server"], Counting(1))
    assert isinstance(result, dict) and isinstance(result["server"], Refused) and rc is ReturnCode.PROCESS_EXCEPTION


@pytest.mark.parametrize(("targets", "context", "ahead_max"), [
    ([], {}, None), ("server", {}, None), (["server", "server"], {}, None), (["server"], [], None), (["server"], {}, 0)])
def test_arguments_that_cannot_be_are_refused_before_anything_is_sent(
        trees: Trees, targets: object, context: object, ahead_max: int | None) -> None:
    _, site = trees.grow("server", "site-1")
    with pytest.raises(OptionError):
        site.streams.stream_objects("metrics", "round", context, targets, Counting(1),  # type: ignore[arg-type]
                                    ahead_max=ahead_max)


def test_objects_may_be_put_by_hand(trees: Trees) -> None:
    server, one, two = trees.grow("server", "site-1", "site-2")
    notings = [Noting(), Noting()]
    for noting, cell in zip(notings, (one, two)):
        noting.register(cell)
    with server.streams.objects("metrics", "round", ["site-1", "site-2"], {"run": 1}) as out:
        assert isinstance(out, ObjectWriter)
        for number in range(100):
            out.put(number)
    assert notings[0].happened[1:101] == notings[1].happened[1:101] == list(range(100))
    out = server.streams.objects("metrics", "round", "site-1")
    out.put(1)
    out.cancel()
    with pytest.raises(Cancelled):
        out.close()
    with pytest.raises(Cancelled):
        out.put(2)
