"""Outflow: gathered items, room, replies, one end."""

from __future__ import annotations

import threading

import pytest
from flows import joined

from zdl.errors import TimedOut, TooLarge
from zdl.options import Options, StreamOptions
from zdl.streaming.outflow import wait_for

from trees import Trees
from waiting import PATIENCE_S, eventually

SMALL = Options(streams=StreamOptions(window_bytes=4096, item_bytes_max=10_000))


def test_items_come_in_order_and_their_replies_go_back(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    out, inflow, replies = joined(server, site)
    for number in range(1000):
        out.put((b"%d" % number,))
    out.finish()
    taken = []
    while (item := inflow.take(PATIENCE_S)) is not None:
        taken.append(item[0])
        inflow.consumed(item, (b"re",) + item)
    assert taken == [b"%d" % number for number in range(1000)] and inflow.context == (b"context",)
    inflow.end(None, (b"result",))
    eventually(lambda: out.has_ended)
    assert out.result == (b"result",) and replies == [(b"re", each) for each in taken]
    assert out.consumed == 1000 and out.bytes_waiting == 0
    assert "ended" in repr(out) and "ended" in repr(inflow)


def test_there_is_room_for_a_window_and_again_when_half_of_it_is_consumed(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1", options=SMALL)
    out, inflow, _ = joined(server, site)
    count = 0
    while out.has_room:
        out.put((b"x" * 448,))
        count += 1
    assert count == 8
    for left in range(7, -1, -1):
        item = inflow.take(PATIENCE_S)
        assert item is not None
        inflow.consumed(item)
        inflow.report()
        eventually(lambda: out.consumed == 8 - left)
        assert out.has_room == (left < 4)
    out.cancel("enough")


def test_an_item_over_the_limit_is_refused_here(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1", options=SMALL)
    out, _, _ = joined(server, site)
    with pytest.raises(TooLarge, match="item_bytes_max=10000"):
        out.put((b"x" * 10_001,))
    out.cancel("enough")
    eventually(lambda: out.has_ended)
    out.put((b"late",))
    assert out.put_count == 0


def test_to_wait_has_a_bound() -> None:
    with pytest.raises(TimedOut, match="room from server did not come within"):
        wait_for(threading.Condition(), lambda: False, 0.01, "room", "server")
