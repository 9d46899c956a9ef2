"""Transactions: offers come and go, budgets run out, productions are waited for; and each end comes once, in its order."""

from __future__ import annotations

import pytest

from zdl.errors import Busy, LeaseEnded, LocalProtocolError, OriginFailed, Refused, UnknownRef, ZdlError, to_wire
from zdl.options import OfferOptions
from zdl.protocol.audiences import Transaction
from zdl.protocol.effects import Effect, Outcome, Post, ReceiverSettled, Release, Serve, TransactionSettled, Unreachable
from zdl.protocol.messages import Ask, Bounce, Confirm, Confirmed, Denial, Drop, Keep, Kind, Verify, Withdrawn
from zdl.protocol.offers import Audience, Budgets, Offer, Offers
from zdl.protocol.transactions import Transactions

OPTIONS = OfferOptions(lost_grace_s=5.0, tombstone_s=100.0, drain_s=30.0, serving_bytes_max=250)
T, A, B, C, SECRET = b"t" * 16, b"a" * 16, b"b" * 16, b"c" * 16, b"s" * 16
BOTH = Audience(names=frozenset({"site-1", "site-2"}))


def lending(audience: Audience = Audience(count=1), budgets: Budgets = Budgets(), *lent: Offer) -> Offers:
    offers = Offers("server", OPTIONS)
    offers.lend(T, lent or [Offer(A, SECRET, 100)], audience, 60.0, 0.0, budgets=budgets)
    return offers


def ask(origin: str = "site-1", offer_id: bytes = A, *, number: int = 7, offset: int = 0, length: int = 100) -> Ask:
    return Ask(origin, "server", number, offer_id, SECRET, offset, length, Verify.BLAKE3)


def served(offers: Offers, message: Ask, now: float) -> None:
    assert offers.receive(message, now) == [Serve(message)]
    assert offers.made(message, None, now) == []
    offers.check()


def confirmed(offers: Offers, now: float, origin: str = "site-1", offer_id: bytes = A, *, number: int = 7,
              length: int = 100) -> list[Effect]:
    served(offers, ask(origin, offer_id, number=number, length=1), now)
    effects = offers.receive(Confirm(origin, "server", number, offer_id, SECRET, ((0, length),)), now)
    offers.check()
    return effects


def denied(error: ZdlError, origin: str = "site-1", number: int = 7) -> Post:
    return Post(Denial("server", origin, number, *to_wire(error)))


def ended(outcome: Outcome, *receivers: tuple[str, Outcome]) -> TransactionSettled:
    return TransactionSettled(T, outcome, receivers)


# --- offers come and go -------------------------------------------------------------------------


def test_a_transaction_without_offers_is_complete_for_nobody() -> None:
    offers = Offers("server", OPTIONS)
    offers.lend(T, [], Audience(count=1), 60.0, 0.0)
    assert offers.tick(59.0) == []
    assert offers.tick(60.0) == [ended(Outcome.EXPIRED)]


def test_an_offer_that_is_added_must_be_had_too() -> None:
    offers = lending(Audience(count=2))
    assert ReceiverSettled(T, "site-1", Outcome.FINISHED) in confirmed(offers, 1.0)
    offers.add(T, Offer(B, SECRET, 50), 2.0)
    offers.check()
    assert len(confirmed(offers, 3.0, "site-2")) == 1
    assert ReceiverSettled(T, "site-2", Outcome.FINISHED) in confirmed(offers, 3.0, "site-2", B, number=8, length=50)
    assert confirmed(offers, 4.0, "site-1", B, number=8, length=50)[-1].__class__ is TransactionSettled


def test_what_is_not_counted_is_served_and_waited_for_by_nobody() -> None:
    offers = lending()
    offers.add(T, Offer(B, SECRET, 50, is_counted=False), 1.0)
    served(offers, ask("site-1", B, number=9, length=50), 2.0)
    assert confirmed(offers, 3.0)[1:] == [
        ReceiverSettled(T, "site-1", Outcome.FINISHED), Post(Withdrawn("server", "site-1", 9, B, "finished")),
        Release(A), Release(B), ended(Outcome.FINISHED, ("site-1", Outcome.FINISHED))]


def test_an_offer_that_is_withdrawn_ends_alone() -> None:
    offers = lending()
    offers.add(T, Offer(B, SECRET, 50), 1.0)
    served(offers, ask("site-1", B, number=9, length=50), 2.0)
    assert offers.withdraw(B, Outcome.DELETED, 3.0) == [Post(Withdrawn("server", "site-1", 9, B, "deleted")), Release(B)]
    assert offers.withdraw(B, Outcome.DELETED, 3.0) == []
    offers.check()
    gone = LeaseEnded(ref=f"ref:{B[:4].hex()}…", origin="server", how="deleted")
    assert offers.receive(ask("site-1", B), 4.0) == [denied(gone)]
    with pytest.raises(LocalProtocolError):
        offers.add(T, Offer(B, SECRET, 50), 4.0)
    assert ended(Outcome.FINISHED, ("site-1", Outcome.FINISHED)) in confirmed(offers, 5.0)


def test_who_has_all_that_is_left_after_a_withdrawal_has_finished_and_nobody_when_nothing_is_left() -> None:
    offers = lending(Audience(count=1), Budgets(), Offer(A, SECRET, 100), Offer(B, SECRET, 50))
    confirmed(offers, 1.0)
    assert ended(Outcome.FINISHED, ("site-1", Outcome.FINISHED)) in offers.withdraw(B, Outcome.DELETED, 2.0)
    offers = lending()
    assert offers.withdraw(A, Outcome.DELETED, 2.0) == [Release(A)]
    assert len(offers) == 1
    offers.check()


def test_nothing_is_added_to_what_has_ended() -> None:
    offers = lending()
    offers.end(T, Outcome.DELETED, 1.0)
    with pytest.raises(LeaseEnded):
        offers.add(T, Offer(B, SECRET, 50), 2.0)


def test_while_it_is_held_nothing_is_complete() -> None:
    offers = lending()
    assert offers.expecting.hold(T, True, 0.0) == []
    assert len(confirmed(offers, 1.0)) == 2
    assert offers.expecting.hold(T, False, 2.0) == [Release(A), ended(Outcome.FINISHED, ("site-1", Outcome.FINISHED))]
    assert offers.expecting.hold(T, False, 2.0) == []


def test_no_id_is_used_twice_while_anything_remembers_it() -> None:
    offers = lending()
    offers.receive(ask(), 1.0)
    offers.end(T, Outcome.DELETED, 2.0)
    for now in (2.0, 50.0, 101.9):
        offers.tick(now)
        with pytest.raises(LocalProtocolError):
            offers.lend(T, [], Audience(), 60.0, now)
    offers.tick(102.0)
    with pytest.raises(LocalProtocolError):
        offers.lend(T, [], Audience(), 60.0, 102.0)
    assert offers.made(ask(), None, 103.0) == [Release(A)], "it was read all the time"
    offers.lend(T, [Offer(A, SECRET, 1)], Audience(), 60.0, 103.0)
    offers.check()


# --- budgets ------------------------------------------------------------------------------------


def test_a_named_receiver_that_never_pulls_has_expired_when_its_time_is_up() -> None:
    offers = lending(BOTH, Budgets(first_pull_s=10.0))
    confirmed(offers, 9.0)
    assert offers.tick(10.0) == [
        ReceiverSettled(T, "site-2", Outcome.EXPIRED), Release(A),
        ended(Outcome.PARTIAL, ("site-1", Outcome.FINISHED), ("site-2", Outcome.EXPIRED))]


def test_a_receiver_that_falls_silent_has_expired_long_before_the_lease_and_for_good() -> None:
    offers = lending(BOTH, Budgets(silence_s=10.0))
    served(offers, ask(), 1.0)
    offers.receive(Keep("site-1", "server", 7, A, SECRET), 8.0)
    assert offers.tick(17.9) == []
    assert offers.tick(18.0) == [
        Post(Withdrawn("server", "site-1", 7, A, "expired")), ReceiverSettled(T, "site-1", Outcome.EXPIRED)]
    offers.check()
    late = LeaseEnded(ref=f"ref:{A[:4].hex()}…", origin="server", how="expired")
    assert offers.receive(Confirm("site-1", "server", 7, A, SECRET, ((0, 100),)), 19.0) == [denied(late)]
    assert offers.receive(ask(), 19.0) == [denied(late)]
    assert ended(Outcome.PARTIAL, ("site-1", Outcome.EXPIRED), ("site-2", Outcome.FINISHED)) in confirmed(offers, 20.0, "site-2")


def test_what_is_said_about_one_offer_counts_for_all_of_a_transaction() -> None:
    offers = lending(BOTH, Budgets(silence_s=10.0), Offer(A, SECRET, 100), Offer(B, SECRET, 50))
    served(offers, ask(), 1.0)
    for now in (8.0, 16.0, 24.0):
        offers.receive(Keep("site-1", "server", 8, B, SECRET), now)
        assert offers.tick(now) == []


# --- who may have it ----------------------------------------------------------------------------


def test_a_stranger_is_refused_where_the_audience_is_closed_and_renews_nothing() -> None:
    offers = lending(Audience(names=frozenset({"site-1"}), is_closed=True))
    refused = Refused(by="server", reason="not-allowed", text="it is lent to others by name")
    assert offers.receive(ask("site-9"), 50.0) == [denied(refused, "site-9")]
    assert offers.tick(60.0)[-1] == ended(Outcome.EXPIRED, ("site-1", Outcome.EXPIRED))
    assert offers.receive(ask("site-9"), 61.0) == [denied(
        UnknownRef(ref=f"ref:{A[:4].hex()}…", origin="server"), "site-9")], "and learns nothing later either"


def test_strangers_take_no_place_of_those_who_are_named() -> None:
    offers = Offers("server", OfferOptions(receivers_max=2))
    offers.lend(T, [Offer(A, SECRET, 100)], Audience(names=frozenset({"site-1"})), 60.0, 0.0)
    served(offers, ask("site-8"), 1.0)
    assert offers.receive(ask("site-9"), 1.0) == [denied(Busy(limit="receivers_max", value=2, at="server"), "site-9")]
    assert ended(Outcome.FINISHED, ("site-1", Outcome.FINISHED), ("site-8", Outcome.FAILED)) in confirmed(offers, 2.0)


def test_a_confirmation_of_a_pull_that_never_asked_is_not_believed() -> None:
    offers = lending()
    stale = Confirm("site-1", "server", 99, A, SECRET, ((0, 100),))
    assert offers.receive(stale, 1.0) == []
    served(offers, ask(), 2.0)
    assert offers.receive(stale, 2.0) == [], "the nonce of another life"
    offers.receive(Keep("site-1", "server", 99, A, SECRET), 3.0)
    assert offers.receive(stale, 3.0)[-1] == ended(Outcome.FINISHED, ("site-1", Outcome.FINISHED))


# --- what a receiver has lost --------------------------------------------------------------------


def test_a_named_receiver_that_is_denied_does_not_leave_the_transaction_to_its_lease() -> None:
    offers = lending(Audience(names=frozenset({"site-1"})))
    offers.receive(ask(), 1.0)
    failed = OriginFailed(ref="ref", origin="server", why="ValueError: no")
    assert offers.made(ask(), failed, 2.0) == [
        denied(failed), ReceiverSettled(T, "site-1", Outcome.FAILED, "origin-failed"), Release(A),
        TransactionSettled(T, Outcome.FAILED, (("site-1", Outcome.FAILED),), reasons=(("site-1", "origin-failed"),))]


def test_a_counted_audience_that_has_failed_is_waited_for_a_little_longer() -> None:
    offers = lending()
    offers.receive(ask(), 1.0)
    offers.made(ask(), OriginFailed(ref="ref", origin="server", why="no"), 2.0)
    assert (offers.tick(6.9), offers.deadline()) == ([], 7.0)
    assert offers.tick(7.0) == [Release(A), TransactionSettled(
        T, Outcome.FAILED, (("site-1", Outcome.FAILED),), reasons=(("site-1", "origin-failed"),))]


def test_who_asks_again_in_time_has_not_abandoned_it() -> None:
    offers = lending()
    served(offers, ask(), 1.0)
    offers.receive(Drop("site-1", "server", 7, A, SECRET, "cancelled"), 2.0)
    served(offers, ask(number=8), 6.0)
    assert offers.tick(7.0) == []
    assert confirmed(offers, 20.0, number=8)[-1] == ended(Outcome.FINISHED, ("site-1", Outcome.FINISHED))


def test_a_pull_whose_last_word_was_lost_is_over_when_nothing_is_heard_of_it() -> None:
    offers = lending(Audience(names=frozenset({"site-1"})))
    served(offers, ask(number=7), 1.0)  # its life ends, and nobody says so
    served(offers, ask(number=8), 3.0)
    drop = Drop("site-1", "server", 8, A, SECRET, "cancelled")
    assert offers.receive(drop, 4.0) == [Post(Confirmed("server", "site-1", 8))]
    offers.check()
    assert offers.tick(6.0)[0] == ReceiverSettled(T, "site-1", Outcome.CANCELLED)


def test_a_chunk_that_finds_a_full_queue_is_asked_for_again_soon_and_nobody_is_lost() -> None:
    offers = lending()
    served(offers, ask(), 1.0)
    code, facts = to_wire(Busy(limit="queue", value=9, at="server"))
    assert offers.receive(Bounce("server", "server", 7, int(Kind.CHUNK), code, facts), 2.0) == [
        Post(Bounce("server", "site-1", 7, int(Kind.ASK), code, facts))]
    assert offers.tick(20.0) == []
    assert offers.receive(Bounce("server", "server", 99, int(Kind.CHUNK), code, facts), 2.0) == []


def test_losses_concern_only_those_who_are_there_and_active() -> None:
    offers = lending(Audience(count=3))
    served(offers, ask("site-1"), 1.0)
    served(offers, ask("site-2"), 1.0)
    offers.receive(Unreachable("server", "site-2", False, "closed"), 2.0)
    assert offers.tick(7.0) == [ReceiverSettled(T, "site-2", Outcome.LOST)]
    offers.check()


# --- productions --------------------------------------------------------------------------------


def test_what_is_read_is_not_released_before_it_is_done() -> None:
    offers = lending()
    offers.add(T, Offer(B, SECRET, 50), 1.0)
    assert offers.receive(ask(), 2.0) == [Serve(ask())]
    assert offers.end(T, Outcome.DELETED, 3.0) == [Post(Withdrawn("server", "site-1", 7, A, "deleted")), Release(B)]
    assert len(offers) == 1
    offers.check()
    assert offers.made(ask(), None, 4.0) == [Release(A), ended(Outcome.DELETED, ("site-1", Outcome.DELETED))]
    assert len(offers) == 0


def test_a_production_that_never_returns_does_not_keep_the_end_from_those_who_wait() -> None:
    offers = lending()
    offers.receive(ask(), 2.0)
    offers.end(T, Outcome.DELETED, 3.0)
    assert offers.deadline() == 33.0
    assert offers.tick(33.0) == [ended(Outcome.DELETED, ("site-1", Outcome.DELETED))]
    offers.check()
    assert offers.made(ask(), None, 500.0) == [Release(A)]
    offers.check()


def test_at_the_close_of_a_cell_nothing_is_waited_for() -> None:
    offers = lending()
    offers.receive(ask(), 2.0)
    assert offers.close(3.0) == [
        Post(Withdrawn("server", "site-1", 7, A, "closed")), ended(Outcome.CLOSED, ("site-1", Outcome.CLOSED))]


def test_a_question_is_answered_once_at_a_time_and_more_than_a_share_waits() -> None:
    offers = lending(Audience(count=1), Budgets(), Offer(A, SECRET, 1000))
    assert offers.receive(ask(), 1.0) == [Serve(ask())]
    assert offers.receive(ask(), 1.5) == []
    assert offers.receive(ask(offset=100), 1.0) == [Serve(ask(offset=100))]
    waiting = [ask(offset=200), ask(offset=300)]
    assert [offers.receive(each, 1.0) for each in waiting] == [[], []]
    assert offers.receive(ask(offset=400), 1.0) == [denied(Busy(limit="serving_bytes_max", value=250, at="server"))]
    assert offers.made(ask(), None, 2.0) == [Serve(waiting[0])]
    offers.check()


# --- the table ----------------------------------------------------------------------------------


def test_ten_thousand_transactions_are_not_looked_at_for_the_sake_of_one() -> None:
    table = Transactions("server", OPTIONS)
    for number in range(10_000):
        key = number.to_bytes(16, "big")
        table.open(Transaction(key, Audience(), Budgets(), 60.0, 60.0 + number, 0.0, {}))
    assert table.calendar.due(60.0) == [bytes(16)]
    assert table.calendar.deadline() == 61.0


def test_facts_are_of_open_transactions() -> None:
    offers = lending()
    served(offers, ask(), 1.0)
    facts = offers.transactions.facts(T, 11.0)
    assert facts is not None and facts.bytes_total == 100
    assert [(each.name, each.is_pulling, each.silent_s) for each in facts.receivers] == [("site-1", True, 10.0)]
    offers.end(T, Outcome.DELETED, 12.0)
    assert offers.transactions.facts(T, 12.0) is None
