"""The calling side behind filters: what it hands on, and what it makes of what comes."""

from __future__ import annotations

import concurrent.futures
import threading
import time

import numpy as np
import pytest

from zdl.cell.filtering import FilteringCaller
from zdl.cell.filters import Filters
from zdl.cell.futures import Sending
from zdl.cell.messages import Reply, Request
from zdl.cell.signal import Signal
from zdl.errors import Cancelled, OptionError, TimedOut
from zdl.options import Options, PackOptions

from trees import Trees
from waiting import PATIENCE_S, eventually

LARGE = 2 << 20


def test_a_cell_uses_it_only_while_it_has_filters(trees: Trees) -> None:
    (server,) = trees.grow("server")
    server.handler("task", "echo")(lambda request: request.body)
    assert not isinstance(server._asking(), FilteringCaller)
    keep = server.filters.outgoing_request("task", "*")(lambda message: None)
    assert isinstance(server._asking(), FilteringCaller) and isinstance(server._spreading(), FilteringCaller)
    assert server.request("server", "task", "echo", 1).body == 1
    server.filters.remove(keep)
    assert not isinstance(server._spreading(), FilteringCaller)


class Noting:
    """A calling side that sends nothing and keeps what it was told to."""

    def __init__(self) -> None:
        self.sent: list[Sending] = []

    def request(self, target: str, channel: str, topic: str, body: object, sending: Sending) -> Reply:
        self.sent.append(sending)
        return Reply.of_body(target, None, {}, PackOptions())


def test_a_timeout_counts_the_time_that_filters_take() -> None:
    filters, caller = Filters("server", lambda headers: None), Noting()
    began_at = ended_at = 0.0

    @filters.outgoing_request("task", "*")
    def slow(message: object) -> None:
        nonlocal began_at, ended_at
        began_at = ended_at = time.monotonic()
        while ended_at == began_at:  # however little that is: it is counted to the last bit
            ended_at = time.monotonic()

    behind = FilteringCaller("server", Options(), caller=caller, spreader=None, filters=filters)  # type: ignore[arg-type]
    behind.request("site-1", "task", "run", None, Sending(timeout_s=10.0))
    (sending,) = caller.sent
    assert sending.timeout_s is not None and 0 < sending.timeout_s <= 10.0 - (ended_at - began_at)


@pytest.mark.parametrize("timeout_s", [0, -2.0])
def test_a_wrong_call_is_found_before_a_filter_sees_it(trees: Trees, timeout_s: float) -> None:
    (server,) = trees.grow("server")
    seen: list[object] = []
    server.filters.outgoing_request("task", "*")(lambda message: seen.append(message))
    with pytest.raises(OptionError):
        server.request("server", "task", "echo", timeout_s=timeout_s)
    with pytest.raises(OptionError):
        server.request_future("server", "task", "echo", timeout_s=timeout_s)
    assert seen == []


def test_abort_and_timeout_end_calls_behind_filters(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    let_go = threading.Event()
    aborted: list[object] = []

    @server.handler("task", "wait")
    def wait(request: Request) -> object:
        request.abort.on_trigger(lambda: aborted.append(request.abort.value))
        return let_go.wait(PATIENCE_S)

    site.filters.incoming_reply("task", "*")(lambda message: None)
    abort = Signal()
    future = site.request_future("server", "task", "wait", abort=abort, timeout_s=None)
    answers = site.broadcast(["server"], "task", "wait", abort=abort, timeout_s=None)
    eventually(lambda: len(server._life.answerer._aborts) == 2)  # type: ignore[union-attr]
    abort.trigger("enough")
    assert isinstance(future.exception(PATIENCE_S), Cancelled) and isinstance(answers["server"].error, Cancelled)
    with pytest.raises(TimedOut):
        site.request("server", "task", "wait", timeout_s=0.1)
    eventually(lambda: len(aborted) == 3)
    let_go.set()


def test_a_future_behind_filters_may_be_waited_for_from_a_callback(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    server.handler("task", "make")(lambda request: np.ones(LARGE))
    site.filters.incoming_reply("task", "*")(lambda message: None)
    done: list[float] = []
    future = site.request_future("server", "task", "make", timeout_s=PATIENCE_S)
    future.add_done_callback(lambda ended: done.append(ended.result().body.sum()))  # type: ignore[attr-defined]
    concurrent.futures.wait([future], PATIENCE_S)
    eventually(lambda: done)
    assert done == [LARGE]
