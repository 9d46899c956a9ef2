"""Pulls between real cells and through bad connections: the bytes each link moved, what came wrong, and who died."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

from zdl.assembly import Cell
from zdl.cell.signal import Signal
from zdl.download.puller import ADDRESSES_TOPIC, CHANNEL
from zdl.errors import Cancelled, IntegrityError, OriginLost, UnknownRef
from zdl.options import LinkOptions, Options, PullOptions
from zdl.protocol.effects import Outcome
from zdl.refs import Ref, Source

from chaos import Chaos
from children import Child
from trees import Trees, sent
from waiting import PATIENCE_S, eventually

MIB = 1 << 20
# So many questions and answers that there is time to do something to a pull while it runs.
SLOW = PullOptions(same_host=False, chunk_bytes=65536, window_bytes_min=65536, window_bytes_max=65536,
                   lost_timeout_s=1.0)
MUCH = 512 * MIB


def siblings(trees: Trees, pulls: PullOptions = PullOptions()) -> tuple[Cell, Cell, Cell]:
    """server, site-1 which lends, site-2 which pulls like this, and is sent it; only the tree links the two sites."""
    server = trees.add(Cell("server", listen="tcp://127.0.0.1:0"))
    lender = trees.add(Cell("site-1", parent=server.addresses[0]))
    puller = trees.add(Cell("site-2", parent=server.addresses[0], options=sent(Options(pulls=pulls))))
    for each in (lender, puller):
        wait_for_data_lane(each)
    return server, lender, puller


def wait_for_data_lane(cell: Cell) -> None:
    """Until its data lane is linked to its parent too, so that no pull dials the parent a second time."""
    eventually(lambda: ("data", "parent", "up") in {(each.lane, each.role, each.state) for each in cell.peers})


def lent_by(cell: Cell, array: object, receivers: int = 1) -> Ref:
    ref = cell.downloads.lend(array, receivers=receivers).body
    assert isinstance(ref, Ref)
    return ref


def moved(cell: Cell) -> dict[str, tuple[int, int]]:
    """Bytes in and out on the data lane, by peer."""
    return {each.fqcn: (each.bytes_in, each.bytes_out) for each in cell.snapshot().traffic if each.lane == "data"}


def listens_at(cell: Cell, *addresses: str) -> None:
    """What it says when it is asked where its data lane is."""
    cell.handler(CHANNEL, ADDRESSES_TOPIC, inline=True)(lambda request: list(addresses))


# --- the way ------------------------------------------------------------------------------------

@pytest.mark.row("A9")
def test_a_sibling_is_dialled_and_the_parent_moves_nothing(trees: Trees) -> None:
    server, lender, puller = siblings(trees)
    array = np.arange(MIB)
    assert np.array_equal(puller.downloads.pull(lent_by(lender, array)), array)  # type: ignore[arg-type]
    transfer = puller.downloads.transfers[-1]
    assert (transfer.way, transfer.why, transfer.bytes_done, transfer.error) == ("direct", "", array.nbytes, None)
    assert moved(puller)["site-1"] == (array.nbytes, 0)
    assert set(moved(server).values()) == {(0, 0)}
    assert ("site-1", "direct") in {(each.fqcn, each.role) for each in puller.peers if each.lane == "data"}


@pytest.mark.row("A9")
def test_who_may_not_dial_pulls_along_the_tree_and_says_why(trees: Trees) -> None:
    server, lender, puller = siblings(trees, PullOptions(direct=False))
    array = np.arange(MIB)
    assert np.array_equal(puller.downloads.pull(lent_by(lender, array)), array)  # type: ignore[arg-type]
    transfer = puller.downloads.transfers[-1]
    assert (transfer.way, transfer.bytes_done) == ("routed", array.nbytes)
    assert "direct" in transfer.why
    assert moved(server)["site-1"] == (array.nbytes, 0)
    assert moved(server)["site-2"] == (0, array.nbytes)


def test_the_routed_way_leads_through_a_relay_too(trees: Trees) -> None:
    server, relay = trees.grow("server", "site-1")[:2]
    relay.close()
    relay = trees.add(Cell("site-2", parent=server.addresses[0], listen="tcp://127.0.0.1:0"))
    leaf = trees.add(Cell("site-2.w0", parent=relay.addresses[0], options=sent(Options(pulls=PullOptions(direct=False)))))
    wait_for_data_lane(relay)
    wait_for_data_lane(leaf)
    array = np.arange(2 * MIB)
    assert np.array_equal(leaf.downloads.pull(lent_by(server, array)), array)  # type: ignore[arg-type]
    assert leaf.downloads.transfers[-1].way == "routed"
    assert moved(relay) == {"server": (array.nbytes, 0), "site-2.w0": (0, array.nbytes)}


def test_a_link_that_breaks_is_replaced_by_the_way_along_the_tree(trees: Trees) -> None:
    # A chunk that the lender sends while it does not know yet that the connection is gone is asked for again after this.
    server, lender, puller = siblings(trees, PullOptions(retry_s=0.5))
    array = np.arange(4 * MIB)
    with Chaos(lender.data_addresses[0]) as chaos:
        listens_at(lender, chaos.address)
        chaos.back.hold(8 * MIB)
        found: list[Any] = []
        ref = lent_by(lender, array)
        thread = threading.Thread(target=lambda: found.append(puller.downloads.pull(ref)))
        thread.start()
        eventually(lambda: chaos.back.is_holding)
        chaos.refuse()
        chaos.reset()
        chaos.back.release()
        thread.join(PATIENCE_S)
    assert found and np.array_equal(found[0], array)
    transfer = puller.downloads.transfers[-1]
    assert transfer.way == "routed" and "the link to site-1 was lost" in transfer.why
    assert moved(server)["site-1"][0] > 0


@pytest.mark.row("Z4")
def test_a_chunk_that_came_wrong_is_fetched_again(trees: Trees) -> None:
    _, lender, puller = siblings(trees)
    array = np.arange(MIB)
    with Chaos(lender.data_addresses[0]) as chaos:
        listens_at(lender, chaos.address)
        chaos.back.flip([MIB + MIB // 2, 3 * MIB + MIB // 2])
        assert np.array_equal(puller.downloads.pull(lent_by(lender, array)), array)  # type: ignore[arg-type]
        twice = 2 * puller.options.pulls.chunk_bytes_min  # a chunk is as long as the path carries in 10 ms
        assert chaos.back.passed > array.nbytes + twice, "no chunk came twice"
        assert puller.downloads.transfers[-1].way == "direct"


def test_what_comes_wrong_again_and_again_ends_the_pull(trees: Trees) -> None:
    _, lender, puller = siblings(trees, PullOptions(bad_chunks_max=2))
    with Chaos(lender.data_addresses[0]) as chaos:
        listens_at(lender, chaos.address)
        chaos.back.flip(range(MIB // 2, 64 * MIB, 100_000))
        with pytest.raises(IntegrityError) as caught:
            puller.downloads.pull(lent_by(lender, np.zeros(MIB)))
    assert (caught.value.origin, caught.value.attempts) == ("site-1", 2)


# --- how it is ended ----------------------------------------------------------------------------

def test_a_signal_ends_a_pull(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1", options=Options(pulls=SLOW))
    lent = server.downloads.lend(np.zeros(MUCH, np.uint8))
    abort = Signal()
    with pytest.raises(Cancelled) as caught:
        site.downloads.resolve(lent.body, abort=abort, progress=lambda done, total: abort.trigger("enough"))
    assert caught.value.why == "its signal was triggered with 'enough'"
    eventually(lambda: lent.receivers == {"site-1": Outcome.CANCELLED})
    with pytest.raises(Cancelled):  # a signal that has been triggered before
        site.downloads.resolve(lent.body, abort=abort)
    lent.delete()


@pytest.mark.row("P1")
def test_progress_only_grows_and_ends_with_all(trees: Trees) -> None:
    server, one, site = trees.grow("server", "site-1", "site-2", same_host=False)
    bodies = [cell.downloads.lend(np.zeros(5 * MIB, np.uint8)).body for cell in (server, one)]
    seen: list[tuple[int, int]] = []
    site.downloads.resolve(bodies, progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen) and len(seen) >= 10
    assert seen[-1] == (10 * MIB, 10 * MIB)


def test_one_pull_of_several_that_fails_ends_all(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1", options=Options(pulls=SLOW))
    good = lent_by(server, np.zeros(MUCH, np.uint8))
    bad = Ref(Source("server", bytes(16), bytes(16), 100), 0, 0, 100, "bytes")
    with pytest.raises(UnknownRef):
        site.downloads.resolve({"good": good, "bad": bad})
    assert sorted(type(each.error).__name__ for each in site.downloads.transfers) == ["Cancelled", "UnknownRef"]


# --- death --------------------------------------------------------------------------------------

ORIGIN = """
cell = Cell("site-1", parent=sys.argv[1])
cell.start()
cell.wait_ready(30.0)
lent = cell.downloads.lend(np.zeros(1 << 29, np.uint8))
cell.downloads.publish("w", lent.body)
say("ready")
stay()
"""


@pytest.mark.row("D18")
@pytest.mark.parametrize("is_direct", [True, False])
def test_the_death_of_an_origin_ends_its_pulls_soon(trees: Trees, is_direct: bool) -> None:
    pulls = PullOptions(chunk_bytes=65536, window_bytes_min=65536, window_bytes_max=65536, lost_timeout_s=1.0,
                        direct=is_direct, same_host=False)
    server = trees.add(Cell("server", listen="tcp://127.0.0.1:0", options=Options(links=LinkOptions(heartbeat_s=0.5))))
    site = trees.add(Cell("site-2", parent=server.addresses[0], options=Options(pulls=pulls)))
    has_begun = threading.Event()
    ends: list[tuple[OriginLost, float]] = []

    def pull(ref: object) -> None:
        try:
            site.downloads.resolve(ref, progress=lambda done, total: has_begun.set())
        except OriginLost as error:
            ends.append((error, time.monotonic()))

    with Child(ORIGIN, server.addresses[0]) as child:
        child.expect("ready")
        thread = threading.Thread(target=pull, args=[site.downloads.find("site-1", "w")])
        thread.start()
        assert has_begun.wait(PATIENCE_S)
        child.kill()
        killed_at = time.monotonic()
        thread.join(PATIENCE_S)
    ((error, ended_at),) = ends
    assert error.origin == "site-1" and 0 < error.bytes_done < error.bytes_total == 1 << 29
    assert error.why
    # lost_timeout_s, and half a heartbeat's worth of noticing; the rest is the machine's.
    assert ended_at - killed_at < 1.0 + 0.5 + 1.5
