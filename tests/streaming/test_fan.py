"""One stream to many: the fastest decides, and one that sleeps paces nobody."""

from __future__ import annotations

import threading

import pytest
from streaming.test_receiver import Counting, Noting

from zdl.cell.codes import ReturnCode
from zdl.errors import Busy
from zdl.options import Options, StreamOptions
from zdl.protocol.backlog import ITEM_OVERHEAD_BYTES
from zdl.protocol.lag import WAITING_SHARE
from zdl.streaming.api import Context
from zdl.streaming.fan import Fan

from trees import Trees
from waiting import PATIENCE_S, eventually


@pytest.mark.row("X3")
def test_one_that_sleeps_is_left_behind_at_a_bound_and_the_others_get_everything(trees: Trees) -> None:
    options = Options(streams=StreamOptions(window_bytes=50_000, backlog_bytes_max=200_000, lag_timeout_s=0.2))
    server, one, two = trees.grow("server", "site-1", "site-2", options=options)
    may_wake = threading.Event()

    def sleep(obj: object, context: Context) -> tuple[bool, object]:
        may_wake.wait(PATIENCE_S)
        return True, None

    awake, asleep = Noting(), Noting(sleep)
    awake.register(one)
    asleep.register(two)
    rc, result = server.streams.stream_objects("metrics", "round", {}, ["site-1", "site-2"], Counting(10_000))
    may_wake.set()
    assert rc is ReturnCode.SERVICE_UNAVAILABLE and isinstance(result, dict) and result["site-1"] == {"rc": "ok"}
    error = result["site-2"]
    assert isinstance(error, Busy) and error.limit == "streams.backlog_bytes_max" and error.at == "site-2"
    assert awake.happened[1:10_001] == list(range(1, 10_001))
    eventually(lambda: asleep.happened[-1] == "return")
    assert Fan.__doc__


@pytest.mark.row("X3")
def test_one_that_goes_on_however_slowly_is_not_left_behind_but_paces_the_others_at_the_bound(trees: Trees) -> None:
    options = Options(streams=StreamOptions(window_bytes=50_000, backlog_bytes_max=200_000, lag_timeout_s=PATIENCE_S))
    server, one, two = trees.grow("server", "site-1", "site-2", options=options)
    may_go_on = threading.Event()

    def doze(obj: object, context: Context) -> tuple[bool, object]:
        may_go_on.wait(PATIENCE_S)
        return True, None

    quick, slow = Noting(), Noting(doze)
    quick.register(one)
    slow.register(two)
    producer = Counting(10_000)
    future = server.streams.stream_no_wait("metrics", "round", {}, ["site-1", "site-2"], producer)
    bound = int(200_000 * WAITING_SHARE)
    eventually(lambda: len(quick.happened) > bound // (ITEM_OVERHEAD_BYTES + 8))
    assert producer.made <= bound // ITEM_OVERHEAD_BYTES + 1, "no more is made than the backlog holds"
    may_go_on.set()
    assert future.result(PATIENCE_S) == (ReturnCode.OK, {"site-1": {"rc": "ok"}, "site-2": {"rc": "ok"}})
    assert quick.happened[1:10_001] == slow.happened[1:10_001] == list(range(1, 10_001))


def test_where_the_slowest_decides_nobody_is_left_behind(trees: Trees) -> None:
    options = Options(streams=StreamOptions(window_bytes=2000, backlog_bytes_max=4000))
    server, one, two = trees.grow("server", "site-1", "site-2", options=options)

    def doze(obj: object, context: Context) -> tuple[bool, object]:
        threading.Event().wait(0.0005)
        return True, None

    notings = [Noting(), Noting(doze)]
    for noting, cell in zip(notings, (one, two)):
        noting.register(cell)
    rc, _ = server.streams.stream_objects("metrics", "round", {}, ["site-1", "site-2"], Counting(300), ahead_max=16)
    assert rc is ReturnCode.OK
    assert all(noting.happened[1:301] == list(range(1, 301)) for noting in notings)
