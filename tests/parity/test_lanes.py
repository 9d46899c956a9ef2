"""Bulk on slow lines: what waits in a relay, and what waits behind bulk, is bounded by the window, not by the object."""

from __future__ import annotations

import statistics
import threading

import numpy as np
import psutil
import pytest

from zdl import Cancelled, Cell, OfferOptions, Options, PullOptions, Ref, Signal
from zdl_bench.shaped import HOST, Shape, ShapedLink

from children import Child
from trees import Trees, sent
from waiting import PATIENCE_S

MIB = 1 << 20
RELAY = """
with Cell("site-1", parent=sys.argv[1], listen="tcp://127.0.0.1:0", data_listen="tcp://127.0.0.1:0", advertise=sys.argv[2]) as cell:
    cell.wait_ready()
    say("control", cell.addresses[0])
    say("data", cell.data_addresses[0])
    stay()
"""


@pytest.mark.row("Z1")
def test_a_relay_before_a_line_a_hundred_times_slower_holds_no_more_than_two_windows(trees: Trees) -> None:
    (server,) = trees.grow("server")
    window = 4 * MIB
    array = np.random.default_rng(1).integers(0, 255, 24 * MIB, np.uint8)
    lent = server.downloads.lend(array)
    assert isinstance(lent.body, Ref)
    seen: list[int] = []
    with Child(RELAY, server.addresses[0], HOST) as relay, ShapedLink(Shape(0.002, 24e6, pipe_bytes=MIB)) as line:
        control, data = relay.expect("control"), relay.expect("data")
        for address in (control, data):
            line.open(address.replace(HOST, "127.0.0.1"))
        options = Options(pulls=PullOptions(direct=False, same_host=False, window_bytes_max=window))
        with Cell("site-1.w0", parent=control, options=options) as leaf:
            leaf.wait_ready(PATIENCE_S)
            memory = psutil.Process(relay.pid)
            leaf.request("site-1", "zdl", "data-addresses")
            before = memory.memory_info().rss
            found = leaf.downloads.pull(lent.body, progress=lambda done, total: seen.append(memory.memory_info().rss - before))
            assert np.array_equal(found, array)  # type: ignore[arg-type]
            assert leaf.downloads.transfers[-1].way == "routed"
    own = 4 * MIB  # what its allocator rounds up to, and code that ran for the first time
    assert max(seen) <= 2 * window + own < array.nbytes
    assert lent.wait(PATIENCE_S).is_complete


@pytest.mark.row("Z6")
def test_a_request_on_a_slow_line_does_not_wait_behind_a_pull_that_takes_all_of_it(trees: Trees) -> None:
    with ShapedLink(Shape(0.002, 10e6)) as line:
        server = trees.add(Cell("server", listen="tcp://127.0.0.1:0", data_listen="tcp://127.0.0.1:0", advertise=HOST))
        server.handler("app", "echo")(lambda request: request.body)
        for address in (*server.addresses, *server.data_addresses):
            line.open(address.replace(HOST, "127.0.0.1"))
        site = trees.add(Cell("site-1", parent=server.addresses[0], options=sent()))
        site.wait_ready(PATIENCE_S)
        lent = server.downloads.lend(np.zeros(512 * MIB, np.uint8))
        abort, begun = Signal(), threading.Event()
        done = [0]

        def came(bytes_done: int, bytes_total: int) -> None:
            done[0] = bytes_done
            if bytes_done > 2 * MIB:
                begun.set()

        def pull() -> None:
            with pytest.raises(Cancelled):
                site.downloads.pull(lent.body, abort=abort, progress=came)

        bulk = threading.Thread(target=pull)
        bulk.start()
        assert begun.wait(PATIENCE_S)
        passed = []
        for number in range(15):
            before = done[0]
            assert site.request("server", "app", "echo", number).body == number
            passed.append(done[0] - before)
        abort.trigger("enough was seen")
        bulk.join(PATIENCE_S)
        lent.delete()
    assert statistics.median(passed) <= 2 * MIB, "counted in bytes of the pull: 16 MiB and more would be in flight unbounded"


@pytest.mark.row("D21")
def test_a_window_grows_with_its_path_and_keeps_its_bound(trees: Trees) -> None:
    least, most = 64 << 10, MIB
    options = Options(pulls=PullOptions(window_bytes_min=least, window_bytes_max=most), offers=OfferOptions(same_host=False))
    server, site = trees.grow("server", "site-1", options=options)
    lent = server.downloads.lend(np.arange(4 * MIB), receivers=["site-1"])
    assert isinstance(lent.body, Ref)
    under_way: list[int] = []

    def look(done: int, total: int) -> None:
        """On the lane, which owns the windows."""
        under_way.extend(each.window.in_flight for each in site.lane._pulls._pulls.values())

    site.downloads.pull(lent.body, progress=look)
    assert max(under_way) > least, "it stays as small as it began"
    assert max(under_way) <= most
    assert lent.wait(PATIENCE_S).completed
