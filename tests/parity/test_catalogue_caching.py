"""The scenarios of the ancestor's download service, as behaviour of zdl: cacheable objects and their release, 7.6.

The numbers are those of the catalogue. Receivers are counted by identity, so no repeated question drops what another one needs.
"""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import numpy as np
import pytest

from zdl import Cell
from zdl.download.cacheable import CacheableObject
from zdl.download.downloadable import ProduceRC
from zdl.errors import LeaseEnded
from zdl.protocol.effects import Outcome

from trees import Trees
from waiting import PATIENCE_S, eventually

SIZE = 1000


class Held:
    """A large thing that can be watched."""

    def __init__(self, count: int) -> None:
        self.count = count


class Items(CacheableObject):
    """So many items of 1,000 bytes, one in each piece; notes what it made."""

    def __init__(self, held: Held, max_chunk_size: int = 1) -> None:
        super().__init__(held, max_chunk_size)
        self.made: list[int] = []
        self.is_bad = False

    def get_item_count(self) -> int:
        return int(self.base_obj.count)

    def produce_item(self, index: int) -> bytes:
        if self.is_bad:
            raise ValueError("gone")
        self.made.append(index)
        return bytes([index]) * SIZE


def items(count: int = 3, max_chunk_size: int = 1, receivers: int = 2) -> Items:
    made = Items(Held(count), max_chunk_size)
    made.expect_receivers((), receivers)
    made.set_transaction("tx", "ref")
    return made


@pytest.fixture
def three(trees: Trees) -> tuple[Cell, ...]:
    return trees.grow("server", "site-1", "site-2")


# --- the object alone -----------------------------------------------------------------------------

def test_7_6_first_next_and_end() -> None:
    made, state, found = items(), {}, []
    while True:
        rc, data, state = made.produce(state, "site-1")
        if rc != ProduceRC.OK:
            break
        found += data
    assert rc == ProduceRC.EOF and found == [bytes([index]) * SIZE for index in range(3)] and made.made == [0, 1, 2]


@pytest.mark.parametrize(("max_chunk_size", "in_each"), [(0, [1] * 5), (1, [1] * 5), (SIZE * 2 + 1, [2, 2, 1]), (10**6, [5])])
def test_7_6_items_are_packed_up_to_the_maximum_and_one_that_is_larger_goes_alone(max_chunk_size: int, in_each: list[int]) -> None:
    made, state, counts = items(5, max_chunk_size), {}, []
    while (piece := made.produce(state, "site-1"))[0] == ProduceRC.OK:
        counts.append(len(piece[1]))
        state = piece[2]
    assert counts == in_each


def test_7_6_an_item_is_made_once_kept_for_the_others_and_dropped_when_all_have_it() -> None:
    made = items()
    _, _, after = made.produce({}, "site-1")
    assert made.cached_bytes == SIZE
    made.produce({}, "site-2")
    assert made.made == [0]
    for _ in range(3):
        made.consumed(after, "site-1")  # asked again, acknowledged again
    assert made.cached_bytes == SIZE, "one receiver is one, however often it says so"
    made.consumed(after, "site-2")
    assert made.cached_bytes == 0


def test_7_6_all_have_it_clears_and_clearing_twice_keeps_the_source() -> None:
    made = items()
    made.produce({}, "site-1")
    made.downloaded_to_all()
    made.clear_cache()
    assert made.cached_bytes == 0 and made.base_obj is not None
    assert made.produce({}, "site-2")[1] == [bytes(SIZE)] and made.made == [0, 0], "it can still be made"


def test_7_6_a_release_drops_the_source_once_whoever_does_it_and_afterwards_there_is_an_error() -> None:
    made = items()
    watched = weakref.ref(made.base_obj)
    threads = [threading.Thread(target=made.release) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert made.base_obj is None and gc.collect() >= 0 and watched() is None and made.cached_bytes == 0
    with pytest.raises(LeaseEnded, match="released"):
        made.produce({}, "site-1")


# --- in its transaction ---------------------------------------------------------------------------

@pytest.mark.parametrize("how", ["finished", "failed", "deleted", "expired", "closed"])
def test_7_6_at_every_end_the_callback_sees_the_object_and_nobody_holds_it_after_the_release(trees: Trees, how: str) -> None:
    server, one = trees.grow("server", "site-1")
    cell, puller = (one, server) if how == "closed" else (server, one)
    held = Held(3)
    watched = weakref.ref(held)
    seen: list[Any] = []

    def done(tx_id: str, status: str, objects: list[Any]) -> None:
        seen.append((status, objects[0].count, gc.collect() >= 0 and watched() is not None))

    made = Items(held)
    del held
    lease_s = 0.3 if how == "expired" else 60.0
    with cell.downloads.transaction(receivers=[puller.fqcn], lease_s=lease_s, on_done=done) as transaction:
        ref = transaction.add(made)
    if how == "failed":
        made.is_bad = True
        with pytest.raises(Exception, match="failed to produce"):
            puller.downloads.pull(ref)
    elif how == "finished":
        assert len(puller.downloads.pull(ref)) == 3  # type: ignore[arg-type]
    elif how == "deleted":
        transaction.delete()
    elif how == "closed":
        cell.close()
    assert transaction.wait(PATIENCE_S).outcome is Outcome(how)
    status = {"expired": "timeout", "deleted": "deleted", "closed": "deleted"}.get(how, "finished")
    assert seen == [(status, 3, True)]
    eventually(lambda: made.base_obj is None and gc.collect() >= 0 and watched() is None, what="the release")


def test_7_6_items_may_be_arrays_and_come_as_they_are(three: tuple[Cell, ...]) -> None:
    class Arrays(Items):
        def produce_item(self, index: int) -> Any:
            return np.full(1000, index)

    server, one, two = three
    transaction = server.downloads.lend(Arrays(Held(4), 10**6), receivers=2)
    for cell in (one, two):
        (found,) = cell.downloads.pull(transaction.body)  # type: ignore[misc]
        assert [int(each[0]) for each in found] == [0, 1, 2, 3]
    assert transaction.wait(PATIENCE_S).completed
