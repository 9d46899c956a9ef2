"""Offers: lent until its receivers have confirmed, its lease has run out, or the lender ends it; released once."""

from __future__ import annotations

import dataclasses

import pytest

from zdl.errors import (
    Busy,
    DecodeError,
    LeaseEnded,
    LocalProtocolError,
    OriginFailed,
    Refused,
    SourceChanged,
    UnknownRef,
    ZdlError,
    to_wire,
)
from zdl.options import CHUNK_BYTES_MAX, OfferOptions
from zdl.protocol.audiences import ABOUT_TO
from zdl.protocol.effects import Effect, OfferHad, Outcome, Post, ReceiverSettled, Release, Serve, TransactionSettled, Unreachable
from zdl.protocol.messages import Ask, Bounce, Confirm, Confirmed, Denial, Drop, Keep, Kind, Verify, Withdrawn
from zdl.protocol.offers import RELEASED, Audience, Offer, Offers

OPTIONS = OfferOptions(transactions_max=2, offers_max=3, receivers_max=2, lost_grace_s=5.0, tombstone_s=100.0,
                       tombstones_max=2)
T, T2 = b"t" * 16, b"u" * 16
A, B, C = b"a" * 16, b"b" * 16, b"c" * 16
SECRET, WRONG = b"s" * 16, b"w" * 16
TOTAL = 1000


def lending(*offer_ids: bytes, audience: Audience = Audience(count=1), lease_s: float = 60.0, total: int = TOTAL,
            options: OfferOptions = OPTIONS) -> Offers:
    """Offers with one transaction, open since 0 s."""
    offers = Offers("server", options)
    offers.lend(T, [Offer(each, SECRET, total) for each in offer_ids or (A,)], audience, lease_s, 0.0)
    offers.check()
    return offers


def ask(origin: str = "site-1", offer_id: bytes = A, *, number: int = 7, offset: int = 0, length: int = 100,
        secret: bytes = SECRET) -> Ask:
    return Ask(origin, "server", number, offer_id, secret, offset, length, Verify.BLAKE3)


def confirm(origin: str = "site-1", offer_id: bytes = A, *ranges: tuple[int, int], number: int = 7) -> Confirm:
    return Confirm(origin, "server", number, offer_id, SECRET, ranges or ((0, TOTAL),))


def drop(origin: str = "site-1", offer_id: bytes = A, *, number: int = 7, why: str = "cancelled") -> Drop:
    return Drop(origin, "server", number, offer_id, SECRET, why)


def keep(origin: str = "site-1", offer_id: bytes = A) -> Keep:
    return Keep(origin, "server", 7, offer_id, SECRET)


def noted(origin: str = "site-1", number: int = 7) -> Post:
    return Post(Confirmed("server", origin, number))


def denial(error: ZdlError, origin: str = "site-1", number: int = 7) -> list[Effect]:
    return [Post(Denial("server", origin, number, *to_wire(error)))]


def served(offers: Offers, message: Ask, now: float) -> list[Effect]:
    """It asks, and what it asked for is made at once."""
    effects = offers.receive(message, now)
    for effect in effects:
        if isinstance(effect, Serve):
            assert offers.made(effect.ask, None, now) == []
    return effects


def answered(offers: Offers, message: Confirm, now: float) -> list[Effect]:
    """It asks for a first byte, unless nothing is lent there, and confirms."""
    if message.ranges:
        served(offers, Ask(message.origin, "server", message.id, message.offer_id, SECRET, 0, 1, Verify.BLAKE3), now)
    return offers.receive(message, now)


def settled(outcome: Outcome, *receivers: tuple[str, Outcome], reasons: tuple[tuple[str, str], ...] = (),
            why: str = "") -> TransactionSettled:
    return TransactionSettled(T, outcome, receivers, reasons=reasons, why=why)


def label(offer_id: bytes = A) -> str:
    return f"ref:{offer_id[:4].hex()}…"


# --- lending ------------------------------------------------------------------------------------


def test_what_is_lent_is_served_to_who_shows_the_secret() -> None:
    offers = lending()
    assert served(offers, ask(), 1.0) == [Serve(ask())]
    assert (len(offers), offers.transactions.is_pulled_from) == (1, True)
    offers.check()


def test_asking_twice_is_harmless() -> None:
    offers = lending()
    assert served(offers, ask(), 1.0) == served(offers, ask(), 1.0) == [Serve(ask())]


def test_who_shows_a_wrong_secret_learns_no_more_than_who_asks_for_what_is_not_there() -> None:
    offers = lending()
    unknown = denial(UnknownRef(ref=label(), origin="server"))
    assert served(offers, ask(secret=WRONG), 1.0) == unknown
    assert served(offers, ask(offer_id=B), 1.0) == denial(UnknownRef(ref=label(B), origin="server"))
    offers.end(T, Outcome.DELETED, 2.0)
    assert served(offers, ask(secret=WRONG), 3.0) == unknown
    assert not offers.transactions.is_pulled_from


@pytest.mark.parametrize(("offset", "length"), [(0, 0), (0, CHUNK_BYTES_MAX + 1), (990, 11), (1001, 1)])
def test_a_range_that_is_no_chunk_of_the_offer_is_denied(offset: int, length: int) -> None:
    error = DecodeError(what=f"bytes {offset}+{length} are not a chunk of an offer of {TOTAL} bytes")
    assert lending().receive(ask(offset=offset, length=length), 1.0) == denial(error)


def test_the_largest_chunk_and_the_last_byte_are_served() -> None:
    offers = lending(total=CHUNK_BYTES_MAX + 1)
    whole, last = ask(length=CHUNK_BYTES_MAX), ask(offset=CHUNK_BYTES_MAX, length=1)
    assert [*served(offers, whole, 1.0), *served(offers, last, 1.0)] == [Serve(whole), Serve(last)]


def test_limits_are_told_by_name_and_nothing_is_opened_at_them() -> None:
    offers = lending(A, B)
    for lent, audience, limit in (
            ([Offer(C, SECRET, 1), Offer(b"d" * 16, SECRET, 1)], Audience(), "offers_max"),
            ([Offer(C, SECRET, 1)], Audience(names=frozenset("xyz")), "receivers_max")):
        with pytest.raises(Busy) as caught:
            offers.lend(T2, lent, audience, 60.0, 0.0)
        assert (caught.value.limit, caught.value.at) == (limit, "server")
    offers.lend(T2, [Offer(C, SECRET, 1)], Audience(), 60.0, 0.0)
    with pytest.raises(Busy, match="transactions_max"):
        offers.lend(b"v" * 16, [], Audience(), 60.0, 0.0)
    offers.check()


def test_an_id_is_used_once_even_after_its_end() -> None:
    offers = lending()
    with pytest.raises(LocalProtocolError):
        offers.lend(T, [Offer(B, SECRET, 1)], Audience(), 60.0, 0.0)
    with pytest.raises(LocalProtocolError):
        offers.lend(T2, [Offer(A, SECRET, 1)], Audience(), 60.0, 0.0)
    offers.end(T, Outcome.DELETED, 1.0)
    with pytest.raises(LocalProtocolError):
        offers.lend(T2, [Offer(A, SECRET, 1)], Audience(), 60.0, 2.0)


def test_no_more_receivers_than_the_limit_are_remembered() -> None:
    offers = lending(audience=Audience(count=0))
    for name in ("site-1", "site-2"):
        served(offers, ask(name), 1.0)
    assert served(offers, ask("site-3"), 1.0) == denial(Busy(limit="receivers_max", value=2, at="server"), "site-3")
    assert served(offers, ask("site-2"), 1.0) == [Serve(ask("site-2"))]


def test_secrets_are_not_shown() -> None:
    assert "737373" not in repr(Offer(A, SECRET, 1)) and "ssss" not in repr(Offer(A, SECRET, 1))


# --- finishing ----------------------------------------------------------------------------------


def test_a_receiver_that_has_confirmed_everything_has_finished_and_ends_the_transaction() -> None:
    offers = lending()
    served(offers, ask(), 1.0)
    assert answered(offers, confirm(), 2.0) == [
        noted(), ReceiverSettled(T, "site-1", Outcome.FINISHED), Release(A),
        settled(Outcome.FINISHED, ("site-1", Outcome.FINISHED))]
    assert len(offers) == 0
    offers.check()


def test_a_part_is_noted_and_finishes_nothing() -> None:
    offers = lending()
    assert answered(offers, confirm("site-1", A, (0, 500)), 1.0) == [noted()]
    assert answered(offers, confirm("site-1", A, (500, 500), number=8), 2.0)[:2] == [
        noted(number=8), ReceiverSettled(T, "site-1", Outcome.FINISHED)]


def test_every_offer_of_the_transaction_must_be_confirmed_by_the_same_receiver() -> None:
    offers = lending(A, B)
    assert answered(offers, confirm("site-1", A), 1.0) == [noted()]
    assert answered(offers, confirm("site-2", B), 1.0) == [noted("site-2")]
    assert answered(offers, confirm("site-1", B), 2.0) == [
        noted(), ReceiverSettled(T, "site-1", Outcome.FINISHED), Release(A), Release(B),
        settled(Outcome.FINISHED, ("site-1", Outcome.FINISHED), ("site-2", Outcome.PARTIAL))]


def test_an_empty_offer_is_confirmed_with_no_range() -> None:
    offers = lending(total=0)
    assert offers.receive(Confirm("site-1", "server", 7, A, SECRET, ()), 1.0)[-1] == settled(
        Outcome.FINISHED, ("site-1", Outcome.FINISHED))


def test_a_counted_audience_counts_different_receivers() -> None:
    offers = lending(audience=Audience(count=2))
    assert answered(offers, confirm(), 1.0) == [noted(), ReceiverSettled(T, "site-1", Outcome.FINISHED)]
    assert answered(offers, confirm(), 1.0) == [noted()], "said again, noted again, counted once"
    assert answered(offers, confirm("site-2"), 2.0)[-1] == settled(
        Outcome.FINISHED, ("site-1", Outcome.FINISHED), ("site-2", Outcome.FINISHED))


def test_a_target_that_is_lost_while_it_pulls_ends_it_too_and_one_of_those_that_are_only_counted_does_not() -> None:
    for audience, expected in ((Audience(count=1, targets=frozenset({"site-1"})), 0), (Audience(count=1), 1)):
        offers = lending(audience=audience)
        served(offers, ask(), 1.0)
        offers.receive(Unreachable("server", "site-1", False, "lost"), 2.0)
        offers.tick(7.0)
        assert len(offers) == expected


def test_a_named_audience_waits_for_each_name() -> None:
    offers = lending(audience=Audience(names=frozenset({"site-1", "site-2"})))
    assert answered(offers, confirm(), 1.0) == [noted(), ReceiverSettled(T, "site-1", Outcome.FINISHED)]
    assert answered(offers, confirm("site-2"), 2.0)[-1] == settled(
        Outcome.FINISHED, ("site-1", Outcome.FINISHED), ("site-2", Outcome.FINISHED))


def test_who_is_not_named_does_not_count() -> None:
    offers = lending(audience=Audience(names=frozenset({"site-2"})))
    assert answered(offers, confirm(), 1.0) == [noted(), ReceiverSettled(T, "site-1", Outcome.FINISHED)]
    assert len(offers) == 1


def test_an_audience_of_nobody_is_ended_by_the_lender_only() -> None:
    offers = lending(audience=Audience(count=0))
    answered(offers, confirm(), 1.0)
    assert len(offers) == 1
    assert offers.end(T, Outcome.DELETED, 2.0) == [Release(A), settled(Outcome.DELETED, ("site-1", Outcome.FINISHED))]


def test_a_receiver_that_had_begun_when_the_others_finished_is_told_and_not_counted() -> None:
    offers = lending()
    served(offers, ask("site-2", number=9), 1.0)
    served(offers, ask("site-2", number=8), 1.0)
    assert answered(offers, confirm(), 2.0) == [
        noted(), ReceiverSettled(T, "site-1", Outcome.FINISHED),
        Post(Withdrawn("server", "site-2", 8, A, "finished")), Post(Withdrawn("server", "site-2", 9, A, "finished")),
        Release(A), settled(Outcome.FINISHED, ("site-1", Outcome.FINISHED), ("site-2", Outcome.FAILED))]


def test_a_receiver_that_finished_may_pull_again_and_has_still_finished() -> None:
    offers = lending(audience=Audience(count=2))
    answered(offers, confirm(), 1.0)
    assert served(offers, ask(number=8), 2.0) == [Serve(ask(number=8))]
    assert offers.receive(drop(number=8), 3.0) == [noted(number=8)]
    assert offers.end(T, Outcome.DELETED, 4.0)[-1] == settled(Outcome.DELETED, ("site-1", Outcome.FINISHED))


def test_a_second_pull_of_a_receiver_that_finished_is_told_of_the_end_too() -> None:
    offers = lending(audience=Audience(count=2))
    served(offers, ask(number=7), 1.0)
    served(offers, ask(number=8), 1.0)
    answered(offers, confirm(number=7), 2.0)
    assert Post(Withdrawn("server", "site-1", 8, A, "finished")) in answered(offers, confirm("site-2"), 3.0)


# --- dropping -----------------------------------------------------------------------------------


def test_a_receiver_that_drops_its_only_pull_is_cancelled() -> None:
    offers = lending()
    served(offers, ask(), 1.0)
    assert offers.receive(drop(), 2.0) == [noted(), ReceiverSettled(T, "site-1", Outcome.CANCELLED)]
    assert (len(offers), offers.transactions.is_pulled_from) == (1, False)


def test_a_receiver_that_drops_one_of_its_pulls_goes_on_with_the_others() -> None:
    offers = lending(A, B, audience=Audience(names=frozenset({"site-1"})))
    served(offers, ask("site-1", A, number=7), 1.0)
    served(offers, ask("site-1", B, number=8), 1.0)
    assert offers.receive(drop("site-1", A, number=7), 2.0) == [noted()]
    assert served(offers, ask("site-1", B, number=8), 2.1) == [Serve(ask("site-1", B, number=8))]
    assert answered(offers, confirm("site-1", B, number=8), 3.0) == [
        noted(number=8), ReceiverSettled(T, "site-1", Outcome.CANCELLED), Release(A), Release(B),
        settled(Outcome.FAILED, ("site-1", Outcome.CANCELLED))]


@pytest.mark.parametrize(("why", "outcome", "told"), [
    ("cancelled", Outcome.CANCELLED, ""), ("closed", Outcome.CANCELLED, ""), ("", Outcome.CANCELLED, ""),
    ("disk-full", Outcome.FAILED, "disk-full"), ("consumer-failed", Outcome.FAILED, "consumer-failed"),
    ("a code of some later version", Outcome.FAILED, "remote")])
def test_a_receiver_that_drops_with_an_error_has_failed_and_its_code_is_told(why: str, outcome: Outcome, told: str) -> None:
    offers = lending(audience=Audience(names=frozenset({"site-1"})))
    served(offers, ask(), 1.0)
    assert offers.receive(drop(why=why), 2.0) == [
        noted(), ReceiverSettled(T, "site-1", outcome, told), Release(A),
        settled(Outcome.FAILED, ("site-1", outcome), reasons=(("site-1", told),) if told else ())]


@pytest.mark.parametrize("first", ["cancelled", "disk-full"])
def test_of_several_pulls_that_end_together_the_one_that_failed_is_told(first: str) -> None:
    offers = lending(A, B)
    for number, offer_id in ((7, A), (8, B)):
        served(offers, ask("site-1", offer_id, number=number), 1.0)
    assert offers.receive(drop("site-1", A, number=7, why=first), 2.0) == [noted()]
    second = "disk-full" if first == "cancelled" else "cancelled"
    assert offers.receive(drop("site-1", B, number=8, why=second), 2.0)[-1] == ReceiverSettled(
        T, "site-1", Outcome.FAILED, "disk-full")


def test_a_failure_of_before_is_forgotten_when_the_receiver_comes_again() -> None:
    offers = lending()
    served(offers, ask(), 1.0)
    offers.receive(drop(why="disk-full"), 2.0)
    served(offers, ask(number=8), 3.0)
    assert offers.receive(drop(number=8), 4.0)[-1] == ReceiverSettled(T, "site-1", Outcome.CANCELLED)
    assert offers.end(T, Outcome.DELETED, 5.0)[-1] == settled(Outcome.DELETED, ("site-1", Outcome.CANCELLED))


# --- what has changed ---------------------------------------------------------------------------


def test_what_has_changed_is_lent_no_more_and_all_who_have_to_do_with_it_hear_why() -> None:
    offers = lending(A, B, audience=Audience(count=3), options=dataclasses.replace(OPTIONS, receivers_max=5))
    changed = SourceChanged(ref="file", origin="server", why="it was cut off")
    answered(offers, confirm("site-1"), 1.0)
    for name, number in (("site-2", 7), ("site-2", 8), ("site-3", 9)):
        served(offers, ask(name, number=number), 1.0)
    served(offers, ask("site-4", B, number=1), 1.0)
    offers.receive(ask("site-2", number=7, offset=100), 2.0)
    assert offers.made(ask("site-2", number=7, offset=100), changed, 3.0) == [
        *denial(changed, "site-2", 7), *denial(changed, "site-2", 8),
        ReceiverSettled(T, "site-2", Outcome.FAILED, "source-changed"),
        *denial(changed, "site-3", 9), ReceiverSettled(T, "site-3", Outcome.FAILED, "source-changed"),
        Post(Withdrawn("server", "site-4", 1, B, "failed")), Release(A), Release(B),
        settled(Outcome.FAILED, ("site-1", Outcome.PARTIAL), ("site-2", Outcome.FAILED), ("site-3", Outcome.FAILED),
                ("site-4", Outcome.FAILED), why="source-changed",
                reasons=(("site-2", "source-changed"), ("site-3", "source-changed")))]
    assert served(offers, ask("site-5"), 4.0) == denial(changed, "site-5")
    assert served(offers, ask("site-5", B), 4.0) == denial(LeaseEnded(ref=label(B), origin="server", how="failed"), "site-5")
    offers.check()


def test_what_has_changed_while_more_of_it_is_read_is_released_after_that() -> None:
    offers = lending(audience=Audience(names=frozenset({"site-1"})))
    changed = SourceChanged(ref="file", origin="server", why="it was cut off")
    for offset in (0, 100):
        assert offers.receive(ask(offset=offset), 1.0) == [Serve(ask(offset=offset))]
    assert offers.made(ask(), changed, 2.0) == [*denial(changed), ReceiverSettled(T, "site-1", Outcome.FAILED, "source-changed")]
    assert offers.made(ask(offset=100), changed, 3.0) == [*denial(changed), Release(A), settled(
        Outcome.FAILED, ("site-1", Outcome.FAILED), reasons=(("site-1", "source-changed"),), why="source-changed")]


def test_when_every_named_receiver_has_come_to_some_end_the_transaction_is_partial_or_failed() -> None:
    both = Audience(names=frozenset({"site-1", "site-2"}))
    offers = lending(audience=both)
    answered(offers, confirm(), 1.0)
    assert offers.receive(drop("site-2"), 2.0)[-1] == settled(
        Outcome.PARTIAL, ("site-1", Outcome.FINISHED), ("site-2", Outcome.CANCELLED))
    offers = lending(audience=both)
    offers.receive(drop(), 1.0)
    assert offers.receive(drop("site-2"), 2.0)[-1] == settled(
        Outcome.FAILED, ("site-1", Outcome.CANCELLED), ("site-2", Outcome.CANCELLED))


def test_a_receiver_that_asks_again_after_a_drop_is_active_again() -> None:
    offers = lending()
    served(offers, ask(), 1.0)
    offers.receive(drop(), 2.0)
    assert served(offers, ask(number=8), 3.0) == [Serve(ask(number=8))]
    assert ReceiverSettled(T, "site-1", Outcome.FINISHED) in answered(offers, confirm(number=8), 4.0)


def test_bytes_that_cannot_be_produced_are_denied_and_their_pull_is_over() -> None:
    offers = lending()
    served(offers, ask(), 1.0)
    failed = OriginFailed(ref=label(), origin="server", why="OSError: gone")
    assert offers.receive(ask(), 1.5) == [Serve(ask())]
    assert offers.made(ask(), failed, 2.0) == [*denial(failed), ReceiverSettled(T, "site-1", Outcome.FAILED, "origin-failed")]
    assert not offers.transactions.is_pulled_from
    offers.end(T, Outcome.DELETED, 2.0)
    assert offers.made(ask(), failed, 2.0) == denial(failed)


# --- leases -------------------------------------------------------------------------------------


def test_a_lease_that_nobody_renews_runs_out() -> None:
    offers = lending(lease_s=60.0)
    assert (offers.deadline(), offers.tick(59.9)) == (60.0, [])
    assert offers.tick(60.0) == [Release(A), settled(Outcome.EXPIRED)]
    offers.check()


@pytest.mark.parametrize("message", [ask(), keep(), confirm("site-1", A, (0, 1))])
def test_asking_keeping_and_confirming_renew_the_lease(message: Ask | Keep | Confirm) -> None:
    offers = lending(lease_s=60.0)
    if isinstance(message, Ask):
        served(offers, message, 50.0)
    else:
        offers.receive(message, 50.0)
    assert offers.tick(60.0) == []
    assert offers.deadline() == 110.0
    assert offers.tick(110.0)[-1] == settled(
        Outcome.EXPIRED, ("site-1", Outcome.EXPIRED))


def test_a_message_with_a_wrong_secret_renews_nothing() -> None:
    offers = lending(lease_s=60.0)
    served(offers, ask(secret=WRONG), 50.0)
    assert offers.tick(60.0)[-1] == settled(Outcome.EXPIRED)


def test_names_that_never_came_are_told_with_the_end() -> None:
    offers = lending(audience=Audience(names=frozenset({"site-2", "site-1"})), lease_s=60.0)
    answered(offers, confirm(), 1.0)
    assert offers.tick(61.0)[-1] == settled(
        Outcome.EXPIRED, ("site-1", Outcome.FINISHED), ("site-2", Outcome.EXPIRED))


# --- receivers that are cut off -----------------------------------------------------------------


LOSS = Unreachable("server", "site-1", False, "closed")


def test_a_receiver_that_is_cut_off_for_too_long_is_lost() -> None:
    offers = lending()
    served(offers, ask(), 1.0)
    assert offers.receive(LOSS, 2.0) == []
    assert (offers.deadline(), offers.tick(6.9)) == (7.0, [])
    assert offers.tick(7.0) == [ReceiverSettled(T, "site-1", Outcome.LOST)]
    assert not offers.transactions.is_pulled_from
    offers.check()
    assert offers.deadline() == 12.0
    assert offers.tick(12.0)[1:] == [Release(A), settled(Outcome.FAILED, ("site-1", Outcome.LOST))], "nobody came instead"


def test_a_receiver_that_comes_back_in_time_is_not_lost() -> None:
    offers = lending()
    served(offers, ask(), 1.0)
    offers.receive(LOSS, 2.0)
    offers.receive(keep(), 6.0)
    assert offers.tick(7.0) == []


def test_the_grace_is_counted_from_the_first_news() -> None:
    offers = lending()
    served(offers, ask(), 1.0)
    offers.receive(LOSS, 2.0)
    offers.receive(LOSS, 4.0)
    assert offers.tick(7.0) == [ReceiverSettled(T, "site-1", Outcome.LOST)]


def test_a_lost_receiver_that_asks_again_or_confirms_everything_was_not_lost_for_good() -> None:
    for message in (ask(), confirm()):
        offers = lending(audience=Audience(count=2))
        served(offers, ask(), 1.0)
        offers.receive(LOSS, 2.0)
        offers.tick(7.0)
        if isinstance(message, Ask):
            served(offers, message, 8.0)
        else:
            offers.receive(message, 8.0)
        effects = answered(offers, confirm(), 9.0) if isinstance(message, Ask) else []
        told = offers.end(T, Outcome.DELETED, 10.0)[-1]
        assert told == settled(Outcome.DELETED, ("site-1", Outcome.FINISHED))
        assert not effects or effects[-1] == ReceiverSettled(T, "site-1", Outcome.FINISHED)


def test_a_loss_concerns_all_below_it_and_beyond_it_all_others() -> None:
    offers = lending(audience=Audience(count=0))
    served(offers, ask("site-1.job"), 1.0)
    offers.receive(LOSS, 2.0)
    assert offers.tick(7.0) == [ReceiverSettled(T, "site-1.job", Outcome.LOST)]
    offers = lending(audience=Audience(count=0))
    served(offers, ask("site-1"), 1.0)
    offers.receive(Unreachable("server", "server", True, "closed"), 2.0)
    assert offers.tick(7.0) == [ReceiverSettled(T, "site-1", Outcome.LOST)]


def test_this_cell_as_its_own_receiver_is_never_cut_off() -> None:
    offers = lending()
    served(offers, ask("server"), 1.0)
    offers.receive(Unreachable("site-1", "site-1", True, "closed"), 2.0)
    assert offers.tick(7.0) == []


def test_a_chunk_that_comes_back_cuts_off_the_receiver_of_that_pull() -> None:
    offers = lending(audience=Audience(count=0))
    served(offers, ask("site-1", number=7), 1.0)
    served(offers, ask("site-2", number=8), 1.0)
    offers.receive(Bounce("server", "server", 7, int(Kind.CHUNK), "no-route", {}), 2.0)
    offers.receive(Bounce("server", "server", 8, int(Kind.DENIAL), "no-route", {}), 2.0)
    assert offers.tick(7.0) == [ReceiverSettled(T, "site-1", Outcome.LOST)]


def test_when_the_last_named_receiver_is_lost_the_transaction_ends_once() -> None:
    offers = lending(audience=Audience(names=frozenset({"site-1"})))
    for name in ("site-1", "site-2"):
        served(offers, ask(name), 1.0)
    offers.receive(Unreachable("server", "server", True, "closed"), 2.0)
    effects = offers.tick(7.0)
    assert effects[0] == ReceiverSettled(T, "site-1", Outcome.LOST)
    assert effects[-2:] == [Release(A), settled(Outcome.FAILED, ("site-1", Outcome.LOST), ("site-2", Outcome.FAILED))]
    assert sum(isinstance(each, TransactionSettled) for each in effects) == 1


# --- the end ------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", [Outcome.DELETED, Outcome.UNDELIVERABLE, Outcome.CLOSED])
def test_the_lender_ends_it_in_a_fixed_order(outcome: Outcome) -> None:
    offers = lending(A, B)
    served(offers, ask("site-1", B), 1.0)
    assert offers.end(T, outcome, 2.0) == [
        Post(Withdrawn("server", "site-1", 7, B, outcome.value)), Release(A), Release(B),
        settled(outcome, ("site-1", outcome))]
    assert offers.end(T, outcome, 3.0) == []
    assert offers.end(T2, outcome, 3.0) == []


def test_closing_ends_all() -> None:
    offers = lending()
    offers.lend(T2, [Offer(B, SECRET, 1)], Audience(), 60.0, 0.0)
    assert [each for each in offers.close(1.0) if isinstance(each, TransactionSettled)] == [
        settled(Outcome.CLOSED), TransactionSettled(T2, Outcome.CLOSED, ())]
    assert len(offers) == 0


@pytest.mark.parametrize("message", [ask(), keep(), confirm()])
def test_who_comes_late_hears_how_it_ended(message: Ask | Keep | Confirm) -> None:
    offers = lending()
    offers.end(T, Outcome.DELETED, 1.0)
    assert offers.receive(message, 2.0) == denial(LeaseEnded(ref=label(), origin="server", how="deleted"))


def test_a_confirmation_that_is_repeated_after_the_end_is_noted_again() -> None:
    offers = lending()
    answered(offers, confirm(), 1.0)
    assert answered(offers, confirm(), 2.0) == [noted()]
    assert answered(offers, confirm("site-2"), 2.0) == denial(
        LeaseEnded(ref=label(), origin="server", how="finished"), "site-2")


def test_a_drop_after_the_end_is_noted() -> None:
    offers = lending()
    offers.end(T, Outcome.DELETED, 1.0)
    assert offers.receive(drop(), 2.0) == [noted()]


def test_ends_are_remembered_for_their_time() -> None:
    offers = lending()
    offers.end(T, Outcome.DELETED, 1.0)
    offers.tick(100.9)
    assert served(offers, ask(), 100.9) == denial(LeaseEnded(ref=label(), origin="server", how="deleted"))
    assert offers.tick(101.0) == []
    assert served(offers, ask(), 101.0) == denial(UnknownRef(ref=label(), origin="server"))
    assert offers.deadline() is None
    assert offers.tick(102.0) == []


def test_no_more_ends_than_the_limit_are_remembered() -> None:
    offers = lending(A, B, C)
    offers.end(T, Outcome.DELETED, 1.0)
    assert served(offers, ask(), 2.0) == denial(UnknownRef(ref=label(), origin="server"))
    assert served(offers, ask(offer_id=B), 2.0) == denial(LeaseEnded(ref=label(B), origin="server", how="deleted"))


# --- who wants only a part ----------------------------------------------------------------------


def release(origin: str = "site-1", offer_id: bytes = A) -> Drop:
    return Drop(origin, "server", 0, offer_id, SECRET, RELEASED)


def test_a_receiver_that_has_what_it_wants_counts_as_one_that_has_come_to_its_end() -> None:
    offers = lending(audience=Audience(count=2))
    served(offers, ask(), 1.0)
    offers.receive(confirm("site-1", A, (0, 100)), 1.0)
    assert offers.receive(release(), 2.0) == [noted(number=0), ReceiverSettled(T, "site-1", Outcome.PARTIAL)]
    served(offers, ask("site-2"), 3.0)
    assert offers.receive(confirm("site-2"), 3.0) == [
        noted("site-2"), ReceiverSettled(T, "site-2", Outcome.FINISHED), Release(A),
        settled(Outcome.PARTIAL, ("site-1", Outcome.PARTIAL), ("site-2", Outcome.FINISHED))]
    offers.check()


def test_one_that_still_pulls_is_released_with_the_last_of_its_pulls() -> None:
    offers = lending()
    served(offers, ask(number=7), 1.0)
    assert offers.receive(release(), 2.0) == [noted(number=0)]
    assert offers.receive(confirm("site-1", A, (0, 100)), 3.0)[-1] == settled(Outcome.PARTIAL, ("site-1", Outcome.PARTIAL))


@pytest.mark.parametrize("before", [Outcome.CANCELLED, Outcome.LOST])
def test_one_that_had_given_up_or_was_lost_may_say_that_it_will_not_come_again(before: Outcome) -> None:
    offers = lending()
    served(offers, ask(), 1.0)
    if before is Outcome.CANCELLED:
        offers.receive(drop(), 1.0)
    else:
        offers.receive(Unreachable("server", "site-1", False, "lost"), 1.0)
        offers.tick(7.0)
    assert len(offers) == 1
    assert offers.receive(release(), 8.0)[-1] == settled(Outcome.PARTIAL, ("site-1", Outcome.PARTIAL))


def test_one_that_asks_again_after_all_is_waited_for_and_may_have_all() -> None:
    offers = lending(audience=Audience(names=frozenset({"site-1", "site-2"})))
    offers.receive(release(), 1.0)
    served(offers, ask(), 2.0)
    assert offers.receive(confirm(), 3.0)[-1] == ReceiverSettled(T, "site-1", Outcome.FINISHED)
    assert offers.receive(release("site-2"), 4.0)[-1] == settled(
        Outcome.PARTIAL, ("site-1", Outcome.FINISHED), ("site-2", Outcome.PARTIAL))


def test_what_is_made_of_an_offer_needs_its_secret_and_renews_its_lease() -> None:
    offers = lending(lease_s=60.0)
    offers.use(keep(), 50.0)
    assert offers.tick(100.0) == [] and len(offers) == 1
    with pytest.raises(UnknownRef):
        offers.use(dataclasses.replace(keep(), secret=WRONG), 50.0)
    offers.end(T, Outcome.DELETED, 101.0)
    with pytest.raises(LeaseEnded, match="deleted"):
        offers.use(keep(), 102.0)
    closed = lending(audience=Audience(names=frozenset({"site-2"}), is_closed=True))
    with pytest.raises(Refused):
        closed.use(keep(), 1.0)


def about_to(origin: str = "site-1") -> Keep:
    return Keep(origin, "server", ABOUT_TO, A, SECRET)


def is_pulled(offers: Offers) -> list[bool]:
    facts = offers.transactions.facts(T, 1.0)
    assert facts is not None
    return [each.is_pulling for each in facts.receivers]


def test_who_is_about_to_pull_counts_as_one_who_does_until_he_begins_or_gives_up() -> None:
    offers = lending(audience=Audience(names=frozenset({"site-1", "site-2"})))
    assert is_pulled(offers) == []
    offers.use(about_to(), 1.0, is_pull=True)
    offers.check()
    assert is_pulled(offers) == [True]
    assert offers.receive(keep(), 2.0) == [] and is_pulled(offers) == [True]
    assert offers.receive(confirm("site-1", A, (0, 400)), 3.0) == [noted()]
    assert is_pulled(offers) == [False], "of the one that was about to nothing is left"
    offers.use(about_to(), 4.0, is_pull=True)
    told = offers.receive(drop(number=ABOUT_TO), 5.0)
    assert ReceiverSettled(T, "site-1", Outcome.CANCELLED) in told and is_pulled(offers) == [False]


# --- news of single offers ----------------------------------------------------------------------

def test_a_lender_who_wants_to_know_is_told_once_of_each_receiver_that_has_all_of_an_offer() -> None:
    offers = Offers("server", OPTIONS)
    offers.lend(T, [Offer(A, SECRET, TOTAL, is_told=True), Offer(B, SECRET, TOTAL)], Audience(count=1), 60.0, 0.0)
    assert answered(offers, confirm("site-1", A, (0, 400)), 1.0) == [noted()]
    assert answered(offers, confirm("site-1", A, (400, 600), number=8), 1.0) == [noted(number=8), OfferHad(T, A, "site-1")]
    assert answered(offers, confirm("site-1", A, (0, TOTAL), number=9), 1.0) == [noted(number=9)]
    assert answered(offers, confirm("site-1", B, number=10), 2.0) == [
        noted(number=10), ReceiverSettled(T, "site-1", Outcome.FINISHED), Release(A), Release(B),
        settled(Outcome.FINISHED, ("site-1", Outcome.FINISHED))]


# --- exactly all --------------------------------------------------------------------------------


def test_a_few_bytes_that_are_missing_are_missing_and_what_lies_between_items_is_not() -> None:
    offers = Offers("server", OPTIONS)
    offers.lend(T, [Offer(A, SECRET, 228, gaps={100: 28})], Audience(), 60.0, 0.0)
    served(offers, ask(), 1.0)
    assert offers.receive(confirm("site-1", A, (128, 100)), 1.0) == [noted()]
    served(offers, ask(), 1.0)
    assert offers.receive(confirm("site-1", A, (0, 48), (64, 36)), 1.0) == [noted()], "bytes 48 to 63 are missing"
    served(offers, ask(), 1.0)
    assert offers.receive(confirm("site-1", A, (48, 16)), 1.0)[-1] == settled(Outcome.FINISHED, ("site-1", Outcome.FINISHED))
