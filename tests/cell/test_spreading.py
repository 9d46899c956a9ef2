"""Spreading: one body for many is packed and lent once, and not lent any more when it reached nobody."""

from __future__ import annotations

import numpy as np
import pytest

from zdl.cell.answers import Answers, Notices
from zdl.cell.signal import Signal
from zdl.cell.spreading import Spreader
from zdl.errors import Cancelled, CannotPack, FqcnError, NoRoute, Refused

from trees import Trees
from waiting import PATIENCE_S, eventually

LARGE = 2 << 20


def test_a_cell_without_filters_spreads_by_it(trees: Trees) -> None:
    (server,) = trees.grow("server")
    assert isinstance(server._spreading(), Spreader)
    server.handler("task", "echo")(lambda request: request.body)
    assert isinstance(server.broadcast(["server"], "task", "echo"), Answers)
    assert isinstance(server.notice("server", "task", "echo"), Notices)


@pytest.mark.parametrize("shape", ["shared", "own"])
@pytest.mark.parametrize("targets", [["site-8", "site-9"], ["site-9"]])
def test_a_notice_that_reaches_nobody_lends_nothing(trees: Trees, shape: str, targets: list[str]) -> None:
    (server,) = trees.grow("server")
    body = np.ones(LARGE)
    sent = server.notice(targets if shape == "shared" else {each: body + 1 for each in targets}, "task", "echo", body,
                         optional=True)
    assert {type(error) for error in sent.wait_handed(PATIENCE_S).values()} == {NoRoute}
    eventually(lambda: not server.downloads.transactions)


def test_a_notice_that_reaches_some_is_lent_until_they_have_it(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    got: list[float] = []
    site.handler("task", "sum")(lambda request: got.append(request.body.sum()))  # type: ignore[attr-defined]
    server.notice(["site-1", "site-9"], "task", "sum", np.ones(LARGE), optional=True, receivers=["site-1"])
    eventually(lambda: got == [LARGE])
    assert eventually(lambda: not server.downloads.transactions)


def test_a_broadcast_whose_answers_nobody_looks_at_lends_nothing_to_nobody(trees: Trees) -> None:
    server, _ = trees.grow("server", "site-1")
    server.broadcast(["site-9", "site-1"], "task", "nothing", np.ones(LARGE), optional=True)
    server.broadcast({"site-9": np.ones(LARGE), "site-1": np.zeros(LARGE)}, "task", "nothing", optional=True)
    assert eventually(lambda: not server.downloads.transactions)


def test_one_body_that_cannot_travel_stops_them_all(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    got: list[object] = []
    site.handler("task", "take")(got.append)
    for send in (server.broadcast, server.notice):
        with pytest.raises(CannotPack):
            send({"site-1": np.ones(LARGE), "server": object()}, "task", "take")  # type: ignore[operator]
        with pytest.raises(FqcnError):
            send({"site-1": np.ones(LARGE), "a..b": 1}, "task", "take")  # type: ignore[operator]
    assert got == []
    eventually(lambda: not server.downloads.transactions)


def test_a_signal_that_was_triggered_before_ends_a_broadcast_at_once(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    let = Signal()
    site.handler("task", "wait")(lambda request: eventually(lambda: request.abort.is_triggered))
    let.trigger("before")
    answers = server.broadcast(["site-1"], "task", "wait", abort=let, timeout_s=None)
    assert isinstance(answers["site-1"].error, Cancelled)


def test_handlers_of_a_broadcast_may_report_progress(trees: Trees) -> None:
    server, one, two = trees.grow("server", "site-1", "site-2")
    heard: list[object] = []
    for cell in (one, two):
        cell.handler("task", "go")(lambda request: request.progress({"at": request.target}))
    assert all(each.is_ok for each in server.broadcast(["site-1", "site-2"], "task", "go", on_progress=heard.append).values())
    eventually(lambda: len(heard) == 2)


def test_a_refused_notice_is_told_to_one_of_many(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    sent = server.notice(["site-1", "server"], "task", "nothing", optional=True)
    eventually(lambda: len(sent.errors) == 2)
    assert all(isinstance(error, Refused) and error.reason == "no-handler" for error in sent.errors.values())
