"""Producing with real cells: users' code at the origin, at its best and at its worst."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import numpy as np
import pytest

from zdl.assembly import Cell
from zdl.download.cacheable import CacheableObject
from zdl.download.consumer import ItemConsumer, Pieces
from zdl.download.consuming import Consuming, PieceConsumer
from zdl.download.downloadable import Downloadable, Produced, ProduceRC, State
from zdl.download.pieces import PRODUCE_TOPIC, Question
from zdl.download.producing import Producing
from zdl.errors import DecodeError, LeaseEnded, OriginFailed, Refused, UnknownRef
from zdl.options import OfferOptions, Options
from zdl.protocol.effects import Outcome
from zdl.refs import Ref

from trees import Trees
from waiting import PATIENCE_S, eventually

MIB = 1 << 20


class Numbers(Downloadable):
    """The numbers below `base_obj`, notes the calls of its hooks."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.calls: list[tuple[object, ...]] = []

    def set_transaction(self, tx_id: str, ref_id: str) -> None:
        self.calls.append(("set_transaction", len(tx_id), len(ref_id)))

    def produce(self, state: State, requester: str) -> Produced:
        at = state.get("at", 0)
        if at >= self.base_obj:
            return ProduceRC.EOF, None, {}
        return ProduceRC.OK, at, {"at": at + 1}

    def downloaded_to_one(self, to_receiver: str, status: str) -> None:
        self.calls.append(("one", to_receiver, status))

    def downloaded_to_all(self) -> None:
        self.calls.append(("all",))

    def transaction_done(self, transaction_id: str, status: str) -> None:
        self.calls.append(("done", status))

    def release(self) -> None:
        self.calls.append(("release",))
        super().release()


class Blocks(CacheableObject):
    """Items of one MiB; counts how often each is produced."""

    def __init__(self, count: int, max_chunk_size: int = 4 * MIB, **how: int) -> None:
        super().__init__(count, max_chunk_size, **how)
        self.produced: list[int] = []
        self.cached: list[int] = []

    def get_item_count(self) -> int:
        return int(self.base_obj)

    def produce_item(self, index: int) -> bytes:
        self.produced.append(index)
        self.cached.append(self.cached_bytes)
        return bytes([index % 251]) * MIB


class Firsts(ItemConsumer):
    """The first byte of each item."""

    def consume_items(self, items: list[Any], result: Any) -> Any:
        assert all(len(each) == MIB and each == each[:1] * MIB for each in items)
        return (result or []) + [each[0] for each in items]


@pytest.fixture
def three(trees: Trees) -> tuple[Cell, ...]:
    return trees.grow("server", "site-1", "site-2", "site-1.leaf")


def ref_of(transaction: Any) -> Ref:
    assert isinstance(transaction.body, Ref)
    return transaction.body


@pytest.mark.row("D1")
def test_D1_its_pieces_come_in_order_and_its_hooks_are_called(three: tuple[Cell, ...]) -> None:
    server, one, _, leaf = three
    numbers = Numbers(1000)
    lent = server.downloads.lend(numbers, receivers=["site-1", "site-1.leaf"])
    assert (ref_of(lent).kind, ref_of(lent).origin) == ("object", "server")
    assert one.downloads.pull(ref_of(lent)) == list(range(1000))
    eventually(lambda: len(numbers.calls) == 2)
    assert leaf.downloads.pull(ref_of(lent)) == list(range(1000))
    assert lent.wait(PATIENCE_S).outcome is Outcome.FINISHED
    eventually(lambda: numbers.calls[-1] == ("release",))
    assert numbers.calls == [("set_transaction", 32, 32), ("one", "site-1", "success"), ("one", "site-1.leaf", "success"),
                             ("all",), ("done", "finished"), ("release",)]


def test_a_ref_of_it_travels_and_stays_a_ref_until_a_consumer_pulls_it(three: tuple[Cell, ...]) -> None:
    server, one, _, leaf = three
    lent = server.downloads.lend(Numbers(3))

    @leaf.handler("task", "train")
    def train(request: Any) -> object:
        return leaf.downloads.pull(request.body["numbers"])

    assert one.request("site-1.leaf", "task", "train", {"numbers": lent.body}).body == [0, 1, 2]
    assert lent.wait(PATIENCE_S).is_complete


@pytest.mark.row("D25", "O1", "O2")
def test_D25_O2_items_wanted_by_several_at_once_are_produced_once_and_dropped_when_all_have_them(
        three: tuple[Cell, ...]) -> None:
    server, *receivers = three
    blocks = Blocks(40)
    lent = server.downloads.lend(blocks, receivers=[each.fqcn for each in receivers])
    results: dict[str, Any] = {}

    def pull(cell: Cell) -> None:
        taken = cell.downloads.pull(ref_of(lent), consumer=Firsts())
        assert isinstance(taken, Firsts)
        results[cell.fqcn] = taken.result

    threads = [threading.Thread(target=pull, args=(cell,)) for cell in receivers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert lent.wait(PATIENCE_S).is_complete
    assert results == {each.fqcn: list(range(40)) for each in receivers}
    assert sorted(blocks.produced) == list(range(40))
    eventually(lambda: blocks.base_obj is None)
    assert blocks.cached_bytes == 0


@pytest.mark.row("O2")
def test_O2_no_more_is_kept_for_a_receiver_that_comes_later_than_the_bound(three: tuple[Cell, ...]) -> None:
    server, one, two, _ = three
    blocks = Blocks(32, cache_bytes_max=8 * MIB)
    lent = server.downloads.lend(blocks, receivers=["site-1", "site-2"])
    for cell in (one, two):
        taken = cell.downloads.pull(ref_of(lent), consumer=Firsts())
        assert isinstance(taken, Firsts) and taken.result == list(range(32))
    assert max(blocks.cached) <= 8 * MIB
    assert sorted(set(blocks.produced)) == list(range(32)) and blocks.produced.count(0) == 1
    assert len(blocks.produced) <= 32 + 24, "what was kept is not produced again"


@pytest.mark.row("O4")
def test_O4_an_object_without_items_has_an_empty_result(three: tuple[Cell, ...]) -> None:
    lent = three[0].downloads.lend(Blocks(0))
    taken = three[1].downloads.pull(ref_of(lent), consumer=Firsts())
    assert isinstance(taken, Firsts) and (taken.result, taken.error) == ([], "")
    assert lent.wait(PATIENCE_S).is_complete


@pytest.mark.row("O1")
def test_O1_an_item_of_any_size_and_of_any_type_travels(three: tuple[Cell, ...]) -> None:
    class Mixed(CacheableObject):
        items = ("text", 40 * MIB, {"w": np.arange(3 * MIB, dtype=np.float32), "tied": None}, np.zeros(0))

        def get_item_count(self) -> int:
            return len(self.items)

        def produce_item(self, index: int) -> Any:
            item = self.items[index]
            return b"x" * item if isinstance(item, int) else item

    lent = three[0].downloads.lend(Mixed(None, 5))
    (text,), (large,), (weights,), (nothing,) = three[3].downloads.pull(ref_of(lent))  # type: ignore[misc]
    assert text == "text" and large == b"x" * (40 * MIB) and nothing.shape == (0,)
    assert np.array_equal(weights["w"], Mixed.items[2]["w"]) and weights["w"].flags.writeable  # type: ignore[index]


# --- users' code at its worst -------------------------------------------------------------------

@pytest.mark.fault("P11")
@pytest.mark.row("D11")
@pytest.mark.parametrize("at", [0, 1, 700])
def test_P11_D11_a_producer_that_raises_is_told_by_name_and_all_is_released(three: tuple[Cell, ...], at: int) -> None:
    class Bad(Numbers):
        def produce(self, state: State, requester: str) -> Produced:
            if state.get("at", 0) == at:
                raise ValueError("the layer is gone")
            return super().produce(state, requester)

    server, one, *_ = three
    bad = Bad(1000)
    lent = server.downloads.lend(bad, receivers=["site-1"])
    with pytest.raises(OriginFailed, match="server failed to produce .*: ValueError: the layer is gone"):
        one.downloads.pull(ref_of(lent))
    assert lent.wait(PATIENCE_S).outcome is Outcome.FAILED
    eventually(lambda: bad.calls[-1] == ("release",))
    assert bad.calls[1:] == [("one", "site-1", "failed"), ("done", "finished"), ("release",)]
    assert one.downloads.pull(ref_of(server.downloads.lend(Numbers(3)))) == [0, 1, 2], "the service lives on"


def test_a_receiver_that_failed_may_try_again(three: tuple[Cell, ...]) -> None:
    class Once(Numbers):
        def produce(self, state: State, requester: str) -> Produced:
            if not self.calls[1:]:
                self.calls.append(("raised",))
                raise ValueError("not yet")
            return super().produce(state, requester)

    server, one, *_ = three
    once = Once(2)
    lent = server.downloads.lend(once)
    with pytest.raises(OriginFailed, match="not yet"):
        one.downloads.pull(ref_of(lent))
    assert one.downloads.pull(ref_of(lent)) == [0, 1]
    assert lent.wait(PATIENCE_S).is_complete
    eventually(lambda: once.calls[-1] == ("release",))
    assert once.calls[2:] == [("one", "site-1", "success"), ("all",), ("done", "finished"), ("release",)]


@pytest.mark.row("D11")
def test_D11_a_producer_that_hangs_keeps_only_its_own_receivers_and_stands_in_the_report(three: tuple[Cell, ...]) -> None:
    class Stuck(Numbers):
        let_go = threading.Event()

        def produce(self, state: State, requester: str) -> Produced:
            assert self.let_go.wait(PATIENCE_S)
            return super().produce(state, requester)

    server, one, two, _ = three
    stuck = Stuck(1)
    lent = server.downloads.lend(stuck)
    got: list[object] = []
    thread = threading.Thread(target=lambda: got.append(one.downloads.pull(ref_of(lent))))
    thread.start()
    running = eventually(lambda: server.downloads.running)[0]
    assert running.what.startswith("production of ref:") and running.age_s >= 0.0
    assert server.snapshot().running[0].what == running.what
    assert one.downloads.pull(ref_of(server.downloads.lend(Numbers(3)))) == [0, 1, 2]
    assert two.downloads.pull(ref_of(server.downloads.lend(Numbers(3)))) == [0, 1, 2]
    stuck.let_go.set()
    thread.join(PATIENCE_S)
    assert got == [[0]]


def test_who_waits_for_a_slow_producer_waits_for_longer_than_his_request_does(trees: Trees) -> None:
    class Slow(Numbers):
        let_go = threading.Event()

        def produce(self, state: State, requester: str) -> Produced:
            assert self.let_go.wait(PATIENCE_S)
            return super().produce(state, requester)

    server, one = trees.grow("server", "site-1")
    slow = Slow(1)
    lent = server.downloads.lend(slow)
    pieces = Pieces()
    consuming = Consuming(request_timeout_s=0.9, retries=0)
    downloads = one.downloads
    thread = threading.Thread(target=PieceConsumer(one, downloads._puller, ref_of(lent), pieces, consuming).run)
    thread.start()
    eventually(lambda: server.downloads.running and server.downloads.running[0].age_s > 2.0)
    slow.let_go.set()
    thread.join(PATIENCE_S)
    assert pieces.pieces == [0]


@pytest.mark.row("D11")
def test_D11_every_hook_may_call_the_broker_back(three: tuple[Cell, ...]) -> None:
    server, one, *_ = three
    made: list[Any] = []

    class Busy(Numbers):
        def again(self) -> None:
            lent = server.downloads.lend(Numbers(2), receivers=0)
            made.append(lent)
            lent.delete()
            assert lent.wait(PATIENCE_S).outcome is Outcome.DELETED

        def set_transaction(self, tx_id: str, ref_id: str) -> None:
            self.again()
            super().set_transaction(tx_id, ref_id)

        def produce(self, state: State, requester: str) -> Produced:
            self.again()
            return super().produce(state, requester)

        def downloaded_to_one(self, to_receiver: str, status: str) -> None:
            self.again()
            super().downloaded_to_one(to_receiver, status)

        def downloaded_to_all(self) -> None:
            self.again()

        def transaction_done(self, transaction_id: str, status: str) -> None:
            self.again()

        def release(self) -> None:
            self.again()
            super().release()

    busy = Busy(2)
    lent = server.downloads.lend(busy)
    assert one.downloads.pull(ref_of(lent)) == [0, 1]
    assert lent.wait(PATIENCE_S).is_complete
    eventually(lambda: busy.calls[-1] == ("release",))
    assert len(made) == 1 + 3 + 4
    assert server.downloads.transactions == []


def test_what_set_transaction_raises_is_raised_and_nothing_is_lent(three: tuple[Cell, ...]) -> None:
    class Bad(Numbers):
        def set_transaction(self, tx_id: str, ref_id: str) -> None:
            raise RuntimeError("not today")

    with pytest.raises(RuntimeError, match="not today"):
        three[0].downloads.lend(Bad(1))
    eventually(lambda: three[0].downloads.transactions == [])


@pytest.mark.row("D19")
def test_D19_deleted_while_it_produces_it_is_released_when_that_is_done_and_the_receiver_is_told_at_once(
        three: tuple[Cell, ...]) -> None:
    class Stuck(Numbers):
        let_go = threading.Event()

        def produce(self, state: State, requester: str) -> Produced:
            assert self.let_go.wait(PATIENCE_S)
            self.calls.append(("produced", self.base_obj))
            return super().produce(state, requester)

    server, one, *_ = three
    stuck = Stuck(1)
    lent = server.downloads.lend(stuck, receivers=["site-1"])
    heard: list[BaseException] = []

    def pull() -> None:
        try:
            one.downloads.pull(ref_of(lent))
        except LeaseEnded as error:
            heard.append(error)

    thread = threading.Thread(target=pull)
    thread.start()
    eventually(lambda: server.downloads.running)
    lent.delete()
    thread.join(PATIENCE_S)
    assert "no longer lent: deleted" in str(heard[0])
    assert lent.outcome is None and len(stuck.calls) == 1
    stuck.let_go.set()
    assert lent.wait(PATIENCE_S).outcome is Outcome.DELETED
    eventually(lambda: stuck.calls[-1] == ("release",))
    assert stuck.calls[1:] == [("produced", 1), ("one", "site-1", "failed"), ("done", "deleted"), ("release",)]


@pytest.mark.row("D22")
def test_D22_what_is_wanted_next_is_produced_before_it_is_asked_for_within_a_bound(trees: Trees) -> None:
    options = Options(offers=OfferOptions(produce_bytes_max=2 * MIB))
    server, one = trees.grow("server", "site-1", options=options)
    blocks = Blocks(100, max_chunk_size=0)
    lent = server.downloads.lend(blocks)

    class Slow(Firsts):
        entered = threading.Event()
        let_go = threading.Event()

        def consume_items(self, items: list[Any], result: Any) -> Any:
            self.entered.set()
            assert self.let_go.wait(PATIENCE_S)
            return super().consume_items(items, result)

    slow = Slow()
    thread = threading.Thread(target=lambda: one.downloads.pull(ref_of(lent), consumer=slow))
    thread.start()
    assert slow.entered.wait(PATIENCE_S)
    # One answer is being consumed, one waits for it, one is made ahead: of two items each.
    eventually(lambda: len(blocks.produced) == 6 and not server.downloads.running)
    slow.let_go.set()
    thread.join(PATIENCE_S)
    assert slow.result == [each % 251 for each in range(100)]


@pytest.mark.row("D5")
def test_D5_when_the_cell_closes_every_object_is_told_and_released(trees: Trees) -> None:
    server, one = trees.grow("server", "site-1")
    begun, unseen = Numbers(2), Numbers(2)
    first, second = server.downloads.lend(begun, receivers=2), server.downloads.lend(unseen, receivers=["site-9"])
    one.downloads.pull(ref_of(first))
    server.close()
    assert begun.calls[1:] == [("one", "site-1", "success"), ("done", "deleted"), ("release",)]
    assert unseen.calls[1:] == [("one", "site-9", "failed"), ("done", "deleted"), ("release",)]
    assert (first.wait(0).outcome, second.wait(0).outcome) == (Outcome.CLOSED, Outcome.CLOSED)


def test_a_cell_closes_although_a_producer_hangs_and_says_so(trees: Trees) -> None:
    class Stuck(Numbers):
        let_go = threading.Event()

        def produce(self, state: State, requester: str) -> Produced:
            self.let_go.wait(PATIENCE_S)
            return super().produce(state, requester)

    server, one = trees.grow("server", "site-1")
    stuck = Stuck(1)
    lent = server.downloads.lend(stuck)
    heard: list[BaseException] = []

    def pull() -> None:
        try:
            one.downloads.pull(ref_of(lent))
        except Exception as error:
            heard.append(error)

    thread = threading.Thread(target=pull)
    thread.start()
    eventually(lambda: server.downloads.running)
    left = server.close(0.3)
    assert any("production of ref:" in each and "still runs" in each for each in left), left
    thread.join(PATIENCE_S)
    assert len(heard) == 1
    stuck.let_go.set()


# --- several objects ----------------------------------------------------------------------------

@pytest.mark.row("D4")
def test_D4_each_object_of_a_transaction_is_told_of_its_own_receivers_when_they_have_it(three: tuple[Cell, ...]) -> None:
    server, one, two, _ = three
    first, second = Numbers(2), Numbers(3)
    with server.downloads.transaction(receivers=["site-1", "site-2"]) as lent:
        refs = [lent.add(first), lent.add(second)]
    assert all(isinstance(ref, Ref) for ref in refs)
    assert one.downloads.pull(refs[0]) == [0, 1]
    eventually(lambda: first.calls[1:] == [("one", "site-1", "success")])
    assert second.calls[1:] == []
    assert two.downloads.pull(refs[0]) == [0, 1]
    eventually(lambda: first.calls[2:] == [("one", "site-2", "success"), ("all",)])
    assert lent.outcome is None
    assert two.downloads.pull(refs[1]) == [0, 1, 2]
    eventually(lambda: second.calls[1:] == [("one", "site-2", "success")])
    assert one.downloads.pull(refs[1]) == [0, 1, 2]
    assert lent.wait(PATIENCE_S).is_complete
    eventually(lambda: second.calls[-1] == ("release",))
    assert second.calls[1:] == [("one", "site-2", "success"), ("one", "site-1", "success"), ("all",), ("done", "finished"),
                                ("release",)]


# --- strangers ----------------------------------------------------------------------------------

def test_who_does_not_know_the_secret_hears_no_more_than_that_there_is_no_such_ref(three: tuple[Cell, ...]) -> None:
    server, one, *_ = three
    ref = ref_of(server.downloads.lend(Numbers(1), receivers=0))
    assert isinstance(server.downloads._producing, Producing)

    def asked(**changed: object) -> Any:
        question = Question(ref.source.offer_id, ref.source.secret, b"t" * 16, 0, 0, None).plain()
        return one.request("server", "zdl", PRODUCE_TOPIC, {**question, **changed}).body

    closed = server.downloads.transaction(receivers=["site-2"], closed=True)
    other = closed.add(Numbers(1))
    assert isinstance(other, Ref)
    assert asked(offer=other.source.offer_id, secret=other.source.secret)["error"][0] == Refused.code
    closed.delete()
    assert asked()[0] is None
    assert asked(secret=b"x" * 16)["error"][0] == UnknownRef.code
    assert asked(offer=b"x" * 16)["error"][0] == UnknownRef.code
    assert asked(number="one")["error"][0] == DecodeError.code


# --- memory -------------------------------------------------------------------------------------

@pytest.mark.row("D5")
@pytest.mark.parametrize("end", ["finished", "deleted", "expired"])
def test_D5_after_the_end_nobody_holds_the_object_or_what_it_has_produced(trees: Trees, end: str) -> None:
    server, one = trees.grow("server", "site-1")
    blocks: Blocks | None = Blocks(6)
    watched = weakref.ref(blocks)
    lent = server.downloads.lend(blocks, receivers=1 if end == "finished" else 0, lease_s=0.5 if end == "expired" else 60.0)
    blocks = None
    assert isinstance(one.downloads.pull(ref_of(lent), consumer=Firsts()), Firsts)
    if end == "deleted":
        lent.delete()
    assert lent.wait(PATIENCE_S).outcome.value == end

    def is_freed() -> bool:
        gc.collect()
        return watched() is None

    eventually(is_freed, what="the end of the object")
    assert server.downloads.transactions == [] and lent.outcome is not None
