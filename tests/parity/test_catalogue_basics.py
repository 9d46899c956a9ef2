"""The scenarios of the ancestor's download service, as behaviour of zdl: the basics, 7.1.

The numbers are those of the catalogue. What differs on purpose: how an offer ended is remembered for every end, not only for
the good one (7.1.9), and there is one service per cell, so nothing is registered or forgotten (7.1.7).
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from zdl import Cell, LeaseEnded, OriginFailed, Ref, TransferProgress, UnknownRef, ZdlError
from zdl.download.downloadable import Downloadable, Produced, ProduceRC, State
from zdl.options import OfferOptions, Options
from zdl.protocol.effects import Outcome

from trees import Trees
from waiting import PATIENCE_S, eventually

SITES = ("site-1", "site-2")


class Words(Downloadable):
    """Three words; notes which of its hooks were called, and for whom it should fail."""

    def __init__(self, *bad: str) -> None:
        super().__init__(["a", "b", "c"])
        self.bad = bad
        self.story: list[tuple[str, ...]] = []

    def produce(self, state: State, requester: str) -> Produced:
        if requester in self.bad:
            return ProduceRC.ERROR, "not for you", {}
        at = state.get("at", 0)
        return (ProduceRC.OK, "abc"[at], {"at": at + 1}) if at < 3 else (ProduceRC.EOF, None, {})

    def downloaded_to_one(self, to_receiver: str, status: str) -> None:
        self.story.append(("one", to_receiver, status))

    def downloaded_to_all(self) -> None:
        self.story.append(("all",))

    def transaction_done(self, transaction_id: str, status: str) -> None:
        self.story.append(("done", status))

    def release(self) -> None:
        self.story.append(("release",))
        super().release()


@pytest.fixture
def three(trees: Trees) -> tuple[Cell, ...]:
    return trees.grow("server", *SITES)


def lent(cell: Cell, *objects: object, **how: Any) -> tuple[Any, list[Ref]]:
    """A transaction with these objects."""
    with cell.downloads.transaction(**how) as transaction:
        refs = [transaction.add(each) for each in objects]
    assert all(isinstance(each, Ref) for each in refs)
    return transaction, refs  # type: ignore[return-value]


def error_of(cell: Cell, ref: Ref) -> ZdlError:
    with pytest.raises(ZdlError) as caught:
        cell.downloads.pull(ref)
    return caught.value


def test_7_1_1_objects_are_added_found_by_their_refs_and_asked_for_by_names_of_ones_own(three: tuple[Cell, ...]) -> None:
    server, one, _ = three
    transaction, refs = lent(server, Words(), np.arange(10), b"x" * 100)
    for ref in refs:
        assert server.downloads.info(ref) is transaction is server.downloads.info(transaction.id)
    server.downloads.publish("mine", refs[0])
    assert one.downloads.pull(one.downloads.find("server", "mine")) == ["a", "b", "c"]
    for ref in refs[1:]:
        one.downloads.pull(ref)
    assert transaction.wait(PATIENCE_S).is_complete and server.downloads.info(refs[0]) is None


def test_7_1_2_each_receiver_is_told_of_once_and_all_at_the_last_or_never_where_nobody_is_counted(
        three: tuple[Cell, ...]) -> None:
    server, one, two = three
    told = [("one", "site-1", "success"), ("one", "site-2", "success")]
    cases: tuple[tuple[Any, list[tuple[str, ...]]], ...] = (
        (2, [("all",), ("done", "finished")]), (list(SITES), [("all",), ("done", "finished")]), (0, [("done", "deleted")]))
    for receivers, end in cases:
        words = Words()
        transaction, (ref,) = lent(server, words, receivers=receivers)
        for cell in (one, one, two):
            cell.downloads.pull(ref)
        if receivers == 0:
            eventually(lambda: len(words.story) == 2)
            transaction.delete()
        transaction.wait(PATIENCE_S)
        eventually(lambda: words.story[-1:] == [("release",)])
        assert words.story == [*told, *end, ("release",)]


@pytest.mark.parametrize(("how", "status"), [("complete", "finished"), ("lease", "timeout"), ("delete", "deleted")])
def test_7_1_3_and_5_the_done_callback_comes_last_and_may_lend_the_same_object_again(
        three: tuple[Cell, ...], how: str, status: str) -> None:
    server, one, _ = three
    words, again = Words(), []

    def done(tx_id: str, told: str, objects: list[Any]) -> None:
        words.story.append(("callback", told))
        with pytest.raises(LeaseEnded):
            transaction.add(b"too late")
        again.append(lent(server, "".join(objects[0]).encode()))

    transaction, (ref,) = lent(server, words, on_done=done, lease_s=0.1 if how == "lease" else 60.0)
    if how == "complete":
        one.downloads.pull(ref)
    elif how == "delete":
        transaction.delete()
    transaction.wait(PATIENCE_S)
    eventually(lambda: words.story[-1:] == [("release",)])
    assert words.story[-3:] == [("done", status), ("callback", status), ("release",)]
    (second, (other,)), = again
    assert one.downloads.pull(other) == b"abc" and second.wait(PATIENCE_S).is_complete


def test_7_1_4_what_is_added_while_it_is_deleted_is_lent_or_refused_and_no_ref_is_left_over(three: tuple[Cell, ...]) -> None:
    server, one, _ = three
    for _ in range(10):
        transaction, begin = server.downloads.transaction(), threading.Barrier(3, timeout=PATIENCE_S)
        added: list[Ref] = []
        refused: list[BaseException] = []

        def add(obj: object, transaction: Any = transaction, begin: threading.Barrier = begin) -> None:
            begin.wait()
            try:
                added.append(transaction.add(obj))
            except LeaseEnded as error:
                refused.append(error)

        threads = [threading.Thread(target=add, args=(each,)) for each in (Words(), b"x" * 100)]
        for thread in threads:
            thread.start()
        begin.wait()
        transaction.delete()
        for thread in threads:
            thread.join(PATIENCE_S)
        transaction.wait(PATIENCE_S)
        assert len(added) + len(refused) == 2
        for ref in added:
            assert server.downloads.info(ref) is None and isinstance(error_of(one, ref), (LeaseEnded, UnknownRef))
    eventually(lambda: not server.downloads.transactions)


def test_7_1_6_an_object_may_ask_the_service_while_it_is_added(three: tuple[Cell, ...]) -> None:
    server, one, _ = three
    seen: list[object] = []

    class Asks(Words):
        def set_transaction(self, tx_id: str, ref_id: str) -> None:
            found = server.downloads.info(tx_id)
            assert found is not None and found.facts is not None
            seen.append(found.facts.audience.count)

    transaction, (ref,) = lent(server, Asks(), receivers=2)
    assert seen == [2]
    for cell in three[1:]:
        cell.downloads.pull(ref)
    assert transaction.wait(PATIENCE_S).is_complete


def test_7_1_8_a_receiver_that_completes_again_and_again_is_one(three: tuple[Cell, ...]) -> None:
    server, one, two = three
    words = Words()
    transaction, (ref,) = lent(server, words, receivers=2)
    for _ in range(5):
        one.downloads.pull(ref)
    eventually(lambda: transaction.receivers == {"site-1": Outcome.FINISHED})
    assert transaction.outcome is None and words.story == [("one", "site-1", "success")]
    two.downloads.pull(ref)
    assert transaction.wait(PATIENCE_S).is_complete


def test_7_1_9_after_the_end_each_who_comes_back_hears_how_it_was(trees: Trees) -> None:
    names = ("site-1", "site-2", "site-3")
    server, one, two, three = trees.grow("server", *names)
    transaction, (ref,) = lent(server, Words("site-2"), receivers=["site-1", "site-2"], closed=True)
    one.downloads.pull(ref)
    assert isinstance(error_of(two, ref), OriginFailed)
    assert dict(transaction.wait(PATIENCE_S).receivers) == {"site-1": Outcome.FINISHED, "site-2": Outcome.FAILED}
    heard: list[ZdlError] = []
    threads = [threading.Thread(target=lambda: heard.append(error_of(one, ref))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert len(heard) == 20 and all(isinstance(each, LeaseEnded) and each.how == "partial" for each in heard)
    assert isinstance(error_of(two, ref), LeaseEnded) and isinstance(error_of(three, ref), UnknownRef)


@pytest.mark.parametrize("how", ["deleted", "expired"])
def test_7_1_9_of_a_bad_end_is_told_too_and_forgotten_in_its_time(trees: Trees, how: str) -> None:
    server, one = trees.grow("server", "site-1", options=Options(offers=OfferOptions(tombstone_s=0.5)))
    transaction, (ref,) = lent(server, np.arange(10), lease_s=0.1 if how == "expired" else 60.0)
    if how == "deleted":
        transaction.delete()
    assert transaction.wait(PATIENCE_S).outcome.value == how
    eventually(lambda: isinstance(error_of(one, ref), UnknownRef), what="it is forgotten, however often it is asked for")


def test_7_1_10_callbacks_that_raise_do_not_hurt_who_pulls(three: tuple[Cell, ...]) -> None:
    class Raises(Words):
        def downloaded_to_one(self, to_receiver: str, status: str) -> None:
            super().downloaded_to_one(to_receiver, status)
            raise RuntimeError("one")

        def downloaded_to_all(self) -> None:
            super().downloaded_to_all()
            raise RuntimeError("all")

        def transaction_done(self, transaction_id: str, status: str) -> None:
            super().transaction_done(transaction_id, status)
            raise RuntimeError("done")

        def release(self) -> None:
            super().release()
            raise RuntimeError("release")

    def done(*_: object, **__: object) -> None:
        raise RuntimeError("callback")

    server, one, two = three
    words = Raises()
    transaction, (ref,) = lent(server, words, receivers=2, on_done=done, on_progress=done)
    for cell in (one, two):
        assert cell.downloads.pull(ref) == ["a", "b", "c"]
    assert transaction.wait(PATIENCE_S).is_complete
    eventually(lambda: len(words.story) == 5)
    other, (after,) = lent(server, Words())
    assert one.downloads.pull(after) == ["a", "b", "c"] and other.wait(PATIENCE_S).is_complete


def test_7_1_11_and_12_progress_adds_up_per_receiver_and_each_hears_its_own_end(three: tuple[Cell, ...]) -> None:
    server, one, two = three
    events: list[TransferProgress] = []
    transaction, refs = lent(server, np.zeros(3_000_000, np.uint8), Words("site-2"), receivers=list(SITES),
                             on_progress=events.append, progress_interval_s=1e-9)
    for cell in (one, two):
        cell.downloads.pull(refs[0])
    one.downloads.pull(refs[1])
    assert isinstance(error_of(two, refs[1]), OriginFailed)
    transaction.wait(PATIENCE_S)
    last = {(each.receiver_id, each.ref_id): each for each in events}
    array, words = (ref.source.offer_id.hex() for ref in refs)
    assert [last[site, array].bytes_done for site in SITES] == [3_000_000, 3_000_000]
    assert (last["site-1", words].items_done, last["site-1", words].state) == (3, "completed")
    assert last["site-2", words].state == "failed"


def test_7_1_12_who_had_begun_when_it_is_deleted_is_aborted(three: tuple[Cell, ...]) -> None:
    server, one, _ = three
    events: list[TransferProgress] = []
    transaction, refs = lent(server, b"x" * 100, b"y" * 100, receivers=list(SITES), on_progress=events.append,
                             progress_interval_s=1e-9)
    one.downloads.pull(refs[0])
    eventually(lambda: events)
    transaction.delete()
    transaction.wait(PATIENCE_S)
    assert {(each.receiver_id, each.state) for each in events if each.is_end} == {("site-1", "aborted")}
