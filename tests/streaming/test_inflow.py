"""Inflow: what comes, what is waited for, and the end that the other side has made."""

from __future__ import annotations

import pytest
from flows import joined

from zdl.errors import StreamError, TimedOut
from zdl.streaming.inflow import Inflow

from trees import Trees
from waiting import PATIENCE_S, eventually


def test_the_end_of_one_side_is_an_error_at_the_other(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    out, inflow, _ = joined(server, site)
    out.fail(StreamError(what="broken"))
    eventually(lambda: inflow.has_work)
    with pytest.raises(StreamError, match="broken"):
        inflow.take()
    inflow.end(None)
    assert isinstance(out.error, StreamError)


def test_to_wait_for_an_item_has_a_bound(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    out, inflow, _ = joined(server, site)
    assert isinstance(inflow, Inflow) and not inflow.has_work
    with pytest.raises(TimedOut, match="the next item of stream a/b"):
        inflow.take(0.01)
    out.cancel("enough")
    eventually(lambda: inflow.has_work)


def test_who_takes_small_items_slowly_is_seen_to_go_on_while_others_wait(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    out, inflow, _ = joined(server, site)
    for _ in range(5):
        out.put((b"small",))
    eventually(lambda: len(inflow._items) == 5)
    for number in range(1, 4):
        item = inflow.take(PATIENCE_S)
        assert item is not None
        inflow._reported_at = 0.0  # as if it had taken long
        inflow.consumed(item)
        eventually(lambda: out.consumed == number)
    out.cancel("enough")
    eventually(lambda: out.has_ended)
