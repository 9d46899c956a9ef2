"""Side links: a pull over several connections, which come when they are wanted and go with what needs them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from zdl.assembly import Cell
from zdl.cell.signal import Signal
from zdl.errors import Cancelled
from zdl.options import Options, Pace, PullOptions
from zdl.transport.sidelinks import SideLinks

from chaos import Chaos
from trees import Trees
from waiting import PATIENCE_S, eventually

MIB = 1 << 20
THREE = Options(pulls=PullOptions(
    lanes=3, same_host=False, chunk_bytes=MIB // 4, chunk_bytes_min=MIB // 4, window_bytes_min=2 * MIB))


def test_a_cell_that_pulls_nothing_has_none(trees: Trees) -> None:
    (server,) = trees.grow("server")
    links = server.lane._sides
    assert isinstance(links, SideLinks)
    assert (links.deadline(), links.tick(1e9), links.forget("site-1", 0.0), links.failed(1, 0.0)) == (None, [], [], [])


def guests(cell: Cell) -> int:
    """How many links of its data lane lead nowhere."""
    peers = cell.lane._loop.switch.peers
    return sum(link.is_guest for link in peers.links())


def sides(cell: Cell) -> int:
    """How many side links it has dialled."""
    return sum(link.is_side for link in cell.lane._loop.switch.peers.links())


@pytest.mark.parametrize("names", [("server", "site-1"), ("server", "site-1", "site-2")])
def test_a_pull_is_spread_over_as_many_connections_as_the_options_say(trees: Trees, names: tuple[str, ...]) -> None:
    cells = trees.grow(*names, options=THREE)
    origin, receiver = cells[-2], cells[-1]
    array = np.arange(4 * MIB)
    lent = origin.downloads.lend(array, receivers=1)
    before = guests(origin)
    seen: list[int] = []
    found = receiver.downloads.pull(lent.body, progress=lambda done, total: seen.append(sides(receiver)))
    assert np.array_equal(found, array)  # type: ignore[arg-type]
    assert lent.wait(PATIENCE_S).is_complete
    assert receiver.downloads.transfers[-1].way == "direct"
    eventually(lambda: sides(receiver) == 2 and guests(origin) - before in (2, 3))  # the way that leads there may be one


def up(site: Cell) -> tuple[int, ...]:
    """The side links that its pulls ask over."""
    return tuple(site.lane._pulls._asking.sides.get("server", ()))


@contextmanager
def slowly_pulled(server: Cell, site: Cell) -> Iterator[Chaos]:
    """The link over which a pull goes on until the end of the block; as long as it does there are side links."""
    lent, abort = server.downloads.lend(np.zeros(64 * MIB, np.uint8)), Signal()

    def pull_slowly() -> None:
        with pytest.raises(Cancelled):
            site.downloads.pull(lent.body, pace=Pace(bwlimit_bytes_per_s=MIB / 4), abort=abort)

    with Chaos(server.data_addresses[0]) as link:
        server.handler("zdl", "data-addresses", inline=True)(lambda request: [link.address])
        slow = threading.Thread(target=pull_slowly)
        slow.start()
        try:
            yield link
        finally:
            abort.trigger("enough was seen")
            slow.join(PATIENCE_S)
    lent.delete()


def test_a_connection_that_breaks_costs_no_byte(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1", options=replace(THREE, pulls=replace(THREE.pulls, lanes=4)))
    array = np.arange(2 * MIB)
    lent = server.downloads.lend(array)
    with slowly_pulled(server, site) as link:
        eventually(lambda: len(up(site)) == 3)
        link.back.hold(link.back.passed + MIB)
        found: list[object] = []
        pull = threading.Thread(target=lambda: found.append(site.downloads.pull(lent.body)))
        pull.start()
        eventually(lambda: link.back.is_holding)
        link.refuse()
        link.reset()
        pull.join(PATIENCE_S)
        assert np.array_equal(found[0], array)  # type: ignore[arg-type]
        assert site.downloads.transfers[-1].way == "direct", "the way that leads there stands"
    assert lent.wait(PATIENCE_S).is_complete


def test_connections_that_broke_are_dialled_again_while_the_pull_goes_on(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1", options=THREE)
    with slowly_pulled(server, site) as link:
        before = eventually(lambda: up(site) if len(up(site)) == 2 else ())
        link.reset()
        after = eventually(lambda: up(site) if len(up(site)) == 2 and not set(up(site)) & set(before) else ())
        assert sides(site) == len(after)
