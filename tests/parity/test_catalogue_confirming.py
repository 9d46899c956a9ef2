"""The scenarios of the ancestor's download service, as behaviour of zdl: confirming and cancelling, 7.2.

The numbers are those of the catalogue. 7.2.6 (a switch, and fleets of old and new) has nothing here: all of zdl confirms, and
cells of different wire versions refuse each other. Where the order of single messages matters the brain is asked itself.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from zdl import Cancelled, Cell, LeaseEnded, Ref, Signal
from zdl.download.consumer import Consumer
from zdl.download.downloadable import Downloadable, Produced, ProduceRC, State
from zdl.options import OfferOptions
from zdl.protocol.effects import Effect, Outcome, Post, ReceiverSettled, Release, Serve, TransactionSettled
from zdl.protocol.messages import Ask, Confirm, Confirmed, Denial, Drop, Verify
from zdl.protocol.offers import Audience, Offer, Offers

from children import Child
from trees import Trees
from waiting import PATIENCE_S, eventually

T, A, B, SECRET = b"t" * 16, b"a" * 16, b"b" * 16, b"s" * 16


class Numbers(Downloadable):
    """The numbers below `base_obj`; `before` is called with each question."""

    def __init__(self, count: int = 3, before: Any = lambda at: None) -> None:
        super().__init__(count)
        self.before = before
        self.story: list[str] = []

    def produce(self, state: State, requester: str) -> Produced:
        at = state.get("at", 0)
        self.before(at)
        self.story.append(f"produced {at}")
        return (ProduceRC.OK, at, {"at": at + 1}) if at < self.base_obj else (ProduceRC.EOF, None, {})

    def downloaded_to_one(self, to_receiver: str, status: str) -> None:
        self.story.append(f"{to_receiver} {status}")

    def release(self) -> None:
        self.story.append("release")


class Noted(Consumer):
    """`at_end` is called when all pieces are there, `with_each` with each of them."""

    def __init__(self, at_end: Any = lambda: None, with_each: Any = lambda data: None) -> None:
        self.at_end, self.with_each = at_end, with_each
        self.failures: list[str] = []

    def consume(self, ref_id: str, state: State, data: Any) -> State:
        self.with_each(data)
        return state

    def download_completed(self, ref_id: str) -> None:
        self.at_end()

    def download_failed(self, ref_id: str, reason: str) -> None:
        self.failures.append(reason)


@pytest.fixture
def three(trees: Trees) -> tuple[Cell, ...]:
    return trees.grow("server", "site-1", "site-2", same_host=False)


def lent(cell: Cell, *objects: object, **how: Any) -> tuple[Any, list[Any]]:
    with cell.downloads.transaction(**how) as transaction:
        return transaction, [transaction.add(each) for each in objects]


# --- the brain: one message after the other ---------------------------------------------------------

def lending(audience: Audience, *offer_ids: bytes) -> Offers:
    offers = Offers("server", OfferOptions())
    offers.lend(T, [Offer(each, SECRET, 100) for each in offer_ids or (A,)], audience, 60.0, 0.0)
    return offers


def ask(offers: Offers, name: str, now: float, *, offer_id: bytes = A, number: int = 7) -> list[Effect]:
    effects = offers.receive(Ask(name, "server", number, offer_id, SECRET, 0, 100, Verify.NONE), now)
    for effect in effects:
        if isinstance(effect, Serve):
            assert offers.made(effect.ask, None, now) == []
    return effects


def confirm(offers: Offers, name: str, now: float, *, offer_id: bytes = A, number: int = 7, secret: bytes = SECRET) -> list[Effect]:
    return offers.receive(Confirm(name, "server", number, offer_id, secret, ((0, 100),)), now)


def ended(effects: list[Effect]) -> list[TransactionSettled]:
    return [each for each in effects if isinstance(each, TransactionSettled)]


NAMED = Audience(names=frozenset({"site-1"}))


def test_7_2_1_what_is_served_is_not_yet_had_and_the_confirmation_ends_it_at_once() -> None:
    offers = lending(NAMED)
    ask(offers, "site-1", 1.0)
    facts = offers.transactions.facts(T, 1.0)
    assert facts is not None and (facts.receivers[0].outcome, facts.receivers[0].bytes_served) == (None, 100)
    (settled,) = ended(confirm(offers, "site-1", 2.0))
    assert settled.outcome is Outcome.FINISHED


def test_7_2_2_a_failure_that_is_told_after_all_was_served_counts_and_a_late_question_opens_nothing_again() -> None:
    offers = lending(NAMED)
    ask(offers, "site-1", 1.0)
    told = offers.receive(Drop("site-1", "server", 7, A, SECRET, "consumer-failed"), 2.0)
    assert ReceiverSettled(T, "site-1", Outcome.FAILED, "consumer-failed") in told and ended(told)[0].outcome is Outcome.FAILED
    offers = lending(Audience(count=2))
    ask(offers, "site-1", 1.0)
    confirm(offers, "site-1", 2.0)
    ask(offers, "site-1", 3.0)
    offers.receive(Drop("site-1", "server", 7, A, SECRET, "disk-full"), 4.0)
    facts = offers.transactions.facts(T, 4.0)
    assert facts is not None and facts.receivers[0].outcome is Outcome.FINISHED, "the first confirmation is final"


def test_7_2_3_a_confirmation_that_nobody_waits_for_or_of_another_life_changes_nothing() -> None:
    offers = lending(NAMED)
    before = offers.transactions.facts(T, 1.0)
    assert confirm(offers, "site-1", 1.0) == [], "it has never asked"
    (denied,) = confirm(offers, "site-1", 1.0, secret=b"w" * 16)
    assert isinstance(denied, Post) and isinstance(denied.message, Denial) and denied.message.code == "unknown-ref"
    assert before is not None and before.receivers == ()
    ask(offers, "site-1", 2.0, number=7)
    assert confirm(offers, "site-1", 3.0, number=99) == [], "the number of another life"
    assert len(offers) == 1
    assert ended(confirm(offers, "site-1", 4.0, number=7))


def test_7_2_4_strangers_do_not_complete_it_and_who_is_missed_is_not_made_up_for() -> None:
    offers = lending(Audience(names=frozenset({"site-1", "site-2"})))
    for name in ("site-1", "stranger-1", "stranger-2"):
        ask(offers, name, 1.0)
        assert not ended(confirm(offers, name, 2.0))
    (settled,) = ended(offers.end(T, Outcome.DELETED, 3.0))
    assert settled.outcome is Outcome.DELETED and dict(settled.receivers)["site-2"] is Outcome.DELETED


def test_7_2_5_a_confirmation_of_what_is_unknown_is_answered_and_who_never_confirmed_has_not_got_it() -> None:
    offers = lending(NAMED)
    ((answer),) = confirm(offers, "site-1", 1.0, offer_id=B)
    assert isinstance(answer, Post) and isinstance(answer.message, Denial)
    ask(offers, "site-1", 1.0)
    (settled,) = ended(offers.tick(61.0))
    assert (settled.outcome, dict(settled.receivers)) == (Outcome.EXPIRED, {"site-1": Outcome.EXPIRED})


def test_7_2_7_the_last_confirmations_end_it_once_and_a_deletion_before_them_is_not_overwritten() -> None:
    both = Audience(names=frozenset({"site-1", "site-2"}))
    offers = lending(both)
    for name in both.names:
        ask(offers, name, 1.0)
    ends = [ended(confirm(offers, name, 2.0)) for name in ("site-1", "site-2", "site-2", "site-1")]
    assert [len(each) for each in ends] == [0, 1, 0, 0]
    offers = lending(NAMED)
    ask(offers, "site-1", 1.0)
    assert ended(offers.end(T, Outcome.DELETED, 2.0))[0].outcome is Outcome.DELETED
    assert not ended(confirm(offers, "site-1", 3.0)) and len(offers) == 0


def test_7_2_8_of_several_objects_the_confirmation_of_the_last_one_ends_it() -> None:
    offers = lending(NAMED, A, B)
    for offer_id, number in ((A, 7), (B, 8)):
        ask(offers, "site-1", 1.0, offer_id=offer_id, number=number)
    assert not ended(confirm(offers, "site-1", 2.0, offer_id=B, number=8))
    effects = confirm(offers, "site-1", 3.0, offer_id=A, number=7)
    assert effects[0] == Post(Confirmed("server", "site-1", 7)) and effects[-3:-1] == [Release(A), Release(B)]
    assert ended(effects)[0].outcome is Outcome.FINISHED


def test_7_2_10_who_never_began_cannot_give_up_and_of_several_only_the_one_who_did_has() -> None:
    both = Audience(names=frozenset({"site-1", "site-2"}))
    offers = lending(both, A, B)
    ask(offers, "site-1", 1.0, number=7)
    told = offers.receive(Drop("site-1", "server", 7, A, SECRET, "cancelled"), 2.0)
    assert ReceiverSettled(T, "site-1", Outcome.CANCELLED) in told and not ended(told)
    facts = offers.transactions.facts(T, 2.0)
    assert facts is not None and [each.name for each in facts.receivers] == ["site-1"]


# --- real cells -------------------------------------------------------------------------------------

def test_7_2_1_it_ends_on_no_thread_of_the_lanes_nor_of_a_handler(three: tuple[Cell, ...]) -> None:
    server, one, _ = three
    threads: list[str] = []
    transaction, (ref,) = lent(server, np.arange(1000), on_done=lambda *_: threads.append(threading.current_thread().name))
    one.downloads.pull(ref)
    transaction.wait(PATIENCE_S)
    assert len(threads) == 1 and threads[0].startswith("zdl-produce-server")


def test_7_2_9_success_is_confirmed_when_the_consumer_has_it_and_not_if_it_could_not_take_it(three: tuple[Cell, ...]) -> None:
    server, one, two = three
    transaction, (ref,) = lent(server, Numbers(), receivers=["site-1", "site-2"])
    seen: list[dict[str, Outcome]] = []
    one.downloads.pull(ref, consumer=Noted(lambda: seen.append(transaction.receivers)))
    assert seen == [{}], "not before"

    def no_room() -> None:
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        two.downloads.pull(ref, consumer=Noted(no_room))
    outcome = transaction.wait(PATIENCE_S)
    assert dict(outcome.receivers) == {"site-1": Outcome.FINISHED, "site-2": Outcome.FAILED}
    assert dict(outcome.errors) == {"site-2": "consumer-failed"}


def test_7_2_9_what_the_origin_could_not_make_is_a_failure_of_that_receiver(three: tuple[Cell, ...]) -> None:
    server, one, _ = three

    def bad(at: int) -> None:
        if at == 2:
            raise ValueError("no")

    transaction, (ref,) = lent(server, Numbers(5, bad), receivers=["site-1"])
    noted = Noted()
    with pytest.raises(Exception, match="failed to produce"):
        one.downloads.pull(ref, consumer=noted)
    assert len(noted.failures) == 1
    assert dict(transaction.wait(PATIENCE_S).errors) == {"site-1": "origin-failed"}


def test_7_2_10_who_aborts_has_given_up_all_objects_and_a_running_production_drains_before_the_release(
        three: tuple[Cell, ...]) -> None:
    server, one, _ = three
    runs, goes_on, abort = threading.Event(), threading.Event(), Signal()

    def before(at: int) -> None:
        if at == 2:
            runs.set()
            goes_on.wait(PATIENCE_S)

    numbers = Numbers(5, before)
    transaction, (ref, other) = lent(server, numbers, b"x" * 100, receivers=["site-1"])
    threading.Thread(target=lambda: (runs.wait(PATIENCE_S), abort.trigger("enough"))).start()
    with pytest.raises(Cancelled):
        one.downloads.pull(ref, consumer=Noted(), abort=abort)
    eventually(lambda: transaction.has_ended)
    assert transaction.receivers == {"site-1": Outcome.CANCELLED} and "release" not in numbers.story
    goes_on.set()
    assert transaction.wait(PATIENCE_S).outcome is Outcome.FAILED
    eventually(lambda: numbers.story[-1] == "release")
    assert numbers.story.index("produced 2") < numbers.story.index("release")
    with pytest.raises(LeaseEnded):
        one.downloads.pull(other)


ORIGIN = """
with Cell("site-9", parent=sys.argv[1]) as cell:
    cell.wait_ready(30.0)
    cell.downloads.publish("it", cell.downloads.lend(np.zeros(32 << 20, np.uint8)).body)
    say("ready")
    stay()
"""


def test_7_2_10_an_abort_that_cannot_be_told_ends_the_pull_all_the_same(three: tuple[Cell, ...]) -> None:
    server, one, _ = three
    with Child(ORIGIN, server.addresses[0]) as child:
        child.expect("ready")
        ref, abort = one.downloads.find("site-9", "it"), Signal()

        def progress(done: int, total: int) -> None:
            if not abort.is_triggered:
                child.stop()
                abort.trigger("enough")

        with pytest.raises(Cancelled):
            one.downloads.pull(ref, abort=abort, progress=progress)
        child.go_on()


@pytest.mark.parametrize("at", [0, 1])
def test_7_2_10_an_abort_with_the_first_piece_is_told_too(three: tuple[Cell, ...], at: int) -> None:
    server, one, _ = three
    transaction, (ref,) = lent(server, Numbers(50), receivers=["site-1"])
    abort = Signal()
    with pytest.raises(Cancelled):
        one.downloads.pull(ref, consumer=Noted(with_each=lambda data: abort.trigger("x") if data == at else None), abort=abort)
    assert dict(transaction.wait(PATIENCE_S).receivers) == {"site-1": Outcome.CANCELLED}


def test_7_2_10_who_has_it_all_does_not_give_up_afterwards(three: tuple[Cell, ...]) -> None:
    server, one, two = three
    transaction, (ref,) = lent(server, np.arange(1000), receivers=["site-1", "site-2"])
    abort = Signal()
    one.downloads.pull(ref, abort=abort)
    abort.trigger("late")
    two.downloads.pull(ref)
    assert transaction.wait(PATIENCE_S).is_complete
    assert isinstance(ref, Ref)
