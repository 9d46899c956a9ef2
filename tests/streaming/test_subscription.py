"""The short way: for item in a subscription, plain or on an event loop."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from zdl.errors import Cancelled, OptionError
from zdl.options import Options, StreamOptions
from zdl.streaming.subscription import Subscription

from trees import Trees
from waiting import eventually


def test_objects_of_all_streams_of_a_name_come_one_by_one(trees: Trees) -> None:
    server, one, two = trees.grow("server", "site-1", "site-2")
    with server.streams.subscribe("metrics", "round") as items:
        assert isinstance(items, Subscription)
        outs = [site.streams.objects("metrics", "round", "server") for site in (one, two)]
        for number, out in enumerate(outs):
            out.put({"n": number})
            assert (next(items), items.origin) == ({"n": number}, f"site-{number + 1}")
    assert [out.close() for out in outs] == [{"server": None}] * 2


def test_a_subscription_that_is_closed_ends_its_loop_and_its_streams(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    items = server.streams.subscribe("metrics", "round")
    seen: list[object] = []
    reading = threading.Thread(target=lambda: seen.extend(items))
    reading.start()
    out = site.streams.objects("metrics", "round", "server")
    out.put(1)
    eventually(lambda: seen == [1])
    items.close()
    reading.join(30.0)
    assert not reading.is_alive()
    assert out.close() == {"server": None}
    again = server.streams.subscribe("metrics", "round")
    with pytest.raises(OptionError):
        server.streams.subscribe("metrics", "round")
    again.close()


def test_a_stream_that_breaks_off_is_noted_and_the_others_go_on(trees: Trees) -> None:
    server, one, two = trees.grow("server", "site-1", "site-2")
    with server.streams.subscribe("metrics", "round") as items:
        broken = one.streams.objects("metrics", "round", "server")
        broken.put("first")
        assert next(items) == "first"
        broken.cancel("enough")
        other = two.streams.objects("metrics", "round", "server")
        other.put("second")
        assert next(items) == "second"
        eventually(lambda: items._take() is None and items.failures)
        assert isinstance(items.failures[0], Cancelled)


def test_who_reads_slowly_holds_the_sender_back(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1", options=Options(streams=StreamOptions(window_bytes=10_000)))
    with server.streams.subscribe("metrics", "round") as items:
        out = site.streams.objects("metrics", "round", "server")
        put: list[int] = []

        def send() -> None:
            for number in range(100):
                out.put(b"x" * 1000)
                put.append(number)

        sending = threading.Thread(target=send)
        sending.start()
        eventually(lambda: len(put) >= 9)
        assert len(put) < 20
        for _ in range(100):
            assert next(items) == b"x" * 1000
        sending.join(30.0)
        assert len(put) == 100


def test_an_event_loop_reads_it_too_and_large_leaves_are_there(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")

    async def read() -> list[float]:
        sums: list[float] = []
        with server.streams.subscribe("metrics", "round") as items:
            out = await asyncio.to_thread(site.streams.objects, "metrics", "round", "server")
            for number in range(3):
                await asyncio.to_thread(out.put, np.full(300_000, number, np.float64))
            async for item in items:
                assert isinstance(item, np.ndarray)
                sums.append(float(item.sum()))
                if len(sums) == 3:
                    break
        return sums

    assert asyncio.run(read()) == [0.0, 3e5, 6e5]


def test_closing_the_cell_ends_the_loop(trees: Trees) -> None:
    server, = trees.grow("server")
    items = server.streams.subscribe("metrics", "round")
    reading = threading.Thread(target=lambda: list(items))
    reading.start()
    server.close()
    reading.join(30.0)
    assert not reading.is_alive()
