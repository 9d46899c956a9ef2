"""CacheableObject alone: packing by a maximum, one production for all, and what is kept for whom."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from zdl.download.cacheable import CACHE_BYTES_MAX, CacheableObject
from zdl.download.downloadable import DownloadStatus, ProduceRC, State, TransactionDoneStatus
from zdl.errors import LeaseEnded, OptionError

from waiting import PATIENCE_S


class Letters(CacheableObject):
    """Items of given sizes; counts how often each is produced."""

    def __init__(self, sizes: list[int], max_chunk_size: int, *, knows_sizes: bool = False,
                 cache_bytes_max: int = CACHE_BYTES_MAX) -> None:
        super().__init__(sizes, max_chunk_size, cache_bytes_max=cache_bytes_max)
        self.knows_sizes = knows_sizes
        self.produced: list[int] = []
        self.prefetched: list[int] = []
        self.entered = threading.Event()
        self.let_go = threading.Event()
        self.let_go.set()

    def get_item_count(self) -> int:
        return len(self.base_obj)

    def get_item_size(self, index: int) -> int | None:
        return self.base_obj[index] if self.knows_sizes else None

    def prefetch_item(self, index: int) -> None:
        self.prefetched.append(index)

    def produce_item(self, index: int) -> Any:
        self.produced.append(index)
        self.entered.set()
        assert self.let_go.wait(PATIENCE_S)
        return bytes([index]) * self.base_obj[index]


def chunks_of(letters: Letters, receiver: str = "site-1") -> list[tuple[int, int]]:
    """The ranges of all chunks, consumed as they come."""
    found: list[tuple[int, int]] = []
    state: State = {}
    while True:
        code, data, state = letters.produce(state, receiver)
        if code == ProduceRC.EOF:
            return found
        assert code == ProduceRC.OK
        assert [each[:1] for each in data] == [bytes([state["start"] + at]) for at in range(state["count"])]
        found.append((state["start"], state["count"]))
        letters.consumed(state, receiver)


# --- packing ------------------------------------------------------------------------------------

@pytest.mark.row("O1")
@pytest.mark.parametrize(("sizes", "most", "chunks"), [
    ([1, 1, 1, 1], 3, [(0, 2), (2, 2)]),      # a further item only while all together are below the maximum
    ([1, 1, 1, 1], 4, [(0, 3), (3, 1)]),
    ([2, 9, 1, 1], 4, [(0, 1), (1, 1), (2, 2)]),  # an item above it travels alone
    ([1, 1], 0, [(0, 1), (1, 1)]),            # 0: each alone
    ([], 10, []),
])
@pytest.mark.parametrize("knows_sizes", [False, True])
def test_O1_items_are_packed_by_a_maximum_size(sizes: list[int], most: int, chunks: list[tuple[int, int]],
                                               knows_sizes: bool) -> None:
    letters = Letters(sizes, most, knows_sizes=knows_sizes)
    assert chunks_of(letters) == chunks
    assert sorted(letters.produced) == list(range(len(sizes)))


def test_where_sizes_are_known_no_item_is_produced_to_learn_that_it_does_not_fit() -> None:
    letters = Letters([2, 2, 2], 3, knows_sizes=True)
    letters.produce({}, "site-1")
    assert letters.produced == [0]
    unknown = Letters([2, 2, 2], 3)
    unknown.produce({}, "site-1")
    assert unknown.produced == [0, 1]
    unknown.produce({"start": 0, "count": 1}, "site-1")
    assert unknown.produced == [0, 1, 2], "the one that did not fit was kept"


def test_it_is_told_what_will_soon_be_wanted() -> None:
    letters = Letters([2] * 5, 0)
    letters.produce({}, "site-1")
    assert letters.prefetched == [1, 2]
    letters.produce({"start": 3, "count": 1}, "site-1")
    assert letters.prefetched == [1, 2]


@pytest.mark.parametrize("state", [{"start": -1, "count": 1}, {"start": 0, "count": 9}, {"start": "0"}, {"start": 4, "count": 0},
                                   {"start": True}])
def test_a_state_that_is_none_of_ours_is_refused_with_its_name(state: State) -> None:
    letters = Letters([1, 1, 1], 0)
    with pytest.raises(OptionError, match="0 to the 3 items"):
        letters.produce(state, "site-1")
    letters.consumed(state, "site-1")  # who lies about what it has hurts nobody
    assert letters.produce({}, "site-1")[1] == [b"\0"]


def test_sizes_below_zero_are_refused() -> None:
    with pytest.raises(OptionError, match="max_chunk_size"):
        Letters([1], -1)
    with pytest.raises(OptionError, match="cache_bytes_max"):
        Letters([1], 1, cache_bytes_max=-1)


# --- one production for all ---------------------------------------------------------------------

@pytest.mark.row("D25")
def test_D25_who_wants_an_item_that_is_being_produced_waits_for_that_one() -> None:
    letters = Letters([5], 10)
    letters.let_go.clear()
    got: list[Any] = []
    threads = [threading.Thread(target=lambda: got.append(letters.produce({}, "site-1")[1][0])) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert letters.entered.wait(PATIENCE_S)
    letters.let_go.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert letters.produced == [0] and len(got) == 8
    assert all(each is got[0] for each in got)


def test_what_raises_is_raised_for_all_who_wait_and_tried_anew_by_the_next() -> None:
    class Bad(Letters):
        def produce_item(self, index: int) -> Any:
            item = super().produce_item(index)
            if len(self.produced) == 1:
                raise ValueError("the disk is gone")
            return item

    bad = Bad([1], 10)
    with pytest.raises(ValueError, match="the disk is gone"):
        bad.produce({}, "site-1")
    assert bad.produce({}, "site-1")[1] == [b"\0"]


# --- the cache ----------------------------------------------------------------------------------

@pytest.mark.row("O2")
def test_O2_an_item_is_kept_until_all_who_are_named_have_consumed_it() -> None:
    letters = Letters([4, 4], 0)
    letters.expect_receivers({"site-1", "site-2"}, 1)
    assert chunks_of(letters, "site-1") == [(0, 1), (1, 1)]
    assert letters.cached_bytes == 8
    assert chunks_of(letters, "a-stranger") == [(0, 1), (1, 1)]
    assert (letters.cached_bytes, letters.produced) == (8, [0, 1])
    first = letters.produce({}, "site-2")[2]
    letters.consumed(first, "site-1")  # the same one again counts once
    assert letters.cached_bytes == 8
    letters.consumed(first, "site-2")
    assert letters.cached_bytes == 4
    assert chunks_of(letters, "site-2") == [(0, 1), (1, 1)]
    assert (letters.cached_bytes, letters.produced) == (0, [0, 1, 0])


@pytest.mark.row("O2")
def test_O2_where_receivers_are_only_counted_different_ones_are() -> None:
    letters = Letters([4], 0)
    letters.expect_receivers((), 2)
    assert chunks_of(letters, "site-1") == chunks_of(letters, "site-1") == [(0, 1)]
    assert letters.cached_bytes == 4
    chunks_of(letters, "site-2")
    assert (letters.cached_bytes, letters.produced) == (0, [0])


@pytest.mark.row("O2")
def test_O2_no_more_is_kept_than_the_bound_and_what_the_slowest_wants_next_stays() -> None:
    letters = Letters([4] * 10, 0, cache_bytes_max=12)
    letters.expect_receivers({"fast", "slow"}, 1)
    chunks_of(letters, "fast")
    assert letters.cached_bytes == 12
    chunks_of(letters, "slow")
    assert letters.produced == [*range(10), *range(3, 10)], "the first three were kept"
    assert letters.cached_bytes == 0


@pytest.mark.row("O2")
def test_O2_who_is_ahead_waits_for_the_slower_ones_to_make_room_and_not_for_one_that_hangs() -> None:
    letters = Letters([4] * 10, 0, cache_bytes_max=12)
    letters.expect_receivers({"fast", "slow"}, 1)
    slow_state: State = {}
    got: list[list[tuple[int, int]]] = []
    thread = threading.Thread(target=lambda: got.append(chunks_of(letters, "fast")))
    thread.start()
    for _ in range(10):
        slow_state = letters.produce(slow_state, "slow")[2]
        letters.consumed(slow_state, "slow")
    thread.join(PATIENCE_S)
    assert sorted(letters.produced) == list(range(10)) and len(got[0]) == 10, "each was produced once"
    alone = Letters([4] * 40, 0, cache_bytes_max=12)
    alone.expect_receivers({"fast", "hangs"}, 1)
    began = threading.Thread(target=lambda: got.append(chunks_of(alone, "fast")))
    began.start()
    began.join(PATIENCE_S / 3)
    assert not began.is_alive(), "it waited for the one that hangs once, and not for each item"


def test_who_will_want_nothing_more_is_not_waited_for() -> None:
    named, counted = Letters([4], 0), Letters([4], 0)
    named.expect_receivers({"site-1", "site-2"}, 1)
    counted.expect_receivers((), 2)
    for letters in (named, counted):
        chunks_of(letters, "site-1")
        assert letters.cached_bytes == 4
        letters.without("site-2")
        assert letters.cached_bytes == 0


def test_where_nobody_is_counted_items_are_kept_within_the_bound_until_the_end() -> None:
    letters = Letters([4] * 3, 0, cache_bytes_max=8)
    letters.expect_receivers((), 0)
    chunks_of(letters, "site-1")
    assert letters.cached_bytes == 8
    letters.transaction_done("tx", TransactionDoneStatus.DELETED)
    assert letters.cached_bytes == 0


@pytest.mark.row("O3")
def test_O3_a_cleared_cache_is_produced_anew_and_what_was_released_says_so() -> None:
    letters = Letters([4], 0)
    letters.expect_receivers((), 2)
    letters.set_transaction("tx", "ref-1")
    letters.produce({}, "site-1")
    letters.clear_cache()
    letters.clear_cache()
    assert (letters.cached_bytes, letters.base_obj) == (0, [4])
    assert letters.produce({}, "site-1")[1] == [b"\0" * 4]
    assert letters.produced == [0, 0]
    letters.downloaded_to_one("site-1", DownloadStatus.SUCCESS)
    letters.downloaded_to_all()
    letters.transaction_done("tx", TransactionDoneStatus.FINISHED)
    assert letters.produce({}, "site-1")[1] == [b"\0" * 4], "between the end and the release"
    assert letters.cached_bytes == 0
    letters.release()
    letters.release()
    assert letters.base_obj is None
    with pytest.raises(LeaseEnded, match="ref-1 of this cell is no longer lent: released"):
        letters.produce({}, "site-1")


def test_what_was_being_produced_when_the_cache_was_cleared_is_not_kept() -> None:
    letters = Letters([4], 0)
    letters.let_go.clear()
    thread = threading.Thread(target=lambda: letters.produce({}, "site-1"))
    thread.start()
    assert letters.entered.wait(PATIENCE_S)
    letters.clear_cache()
    letters.let_go.set()
    thread.join(PATIENCE_S)
    assert letters.cached_bytes == 0
