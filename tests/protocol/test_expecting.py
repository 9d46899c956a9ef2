"""Expecting: what is held is complete for nobody; who is excused, or missed and does not come, is not waited for."""

from __future__ import annotations

import pytest

from zdl.options import OfferOptions
from zdl.protocol.effects import Effect, Outcome, ReceiverSettled, Release, Serve, TransactionSettled
from zdl.protocol.expecting import Expecting
from zdl.protocol.messages import Ask, Confirm, Verify
from zdl.protocol.offers import Audience, Offer, Offers

T, T2, A, SECRET, TOTAL = b"t" * 16, b"u" * 16, b"a" * 16, b"s" * 16, 1000


def lending(audience: Audience) -> Offers:
    """Offers with one transaction of one offer, open since 0 s."""
    offers = Offers("server", OfferOptions(lost_grace_s=5.0, receivers_max=2))
    assert isinstance(offers.expecting, Expecting)
    offers.lend(T, [Offer(A, SECRET, TOTAL)], audience, 60.0, 0.0)
    return offers


def served(offers: Offers, origin: str, now: float) -> None:
    """It asks, and what it asked for is made at once."""
    ask = Ask(origin, "server", 7, A, SECRET, 0, 100, Verify.BLAKE3)
    assert offers.receive(ask, now) == [Serve(ask)]
    assert offers.made(ask, None, now) == []
    offers.check()


def confirmed(offers: Offers, origin: str, now: float) -> list[Effect]:
    """It asks, and then has all of it."""
    served(offers, origin, now)
    effects = offers.receive(Confirm(origin, "server", 7, A, SECRET, ((0, TOTAL),)), now)
    offers.check()
    return effects


def settled(outcome: Outcome, *receivers: tuple[str, Outcome]) -> TransactionSettled:
    return TransactionSettled(T, outcome, receivers)


def test_what_is_held_is_complete_for_nobody_until_all_is_there() -> None:
    offers = lending(Audience(count=1))
    assert offers.expecting.hold(T, True, 0.0) == []
    assert len(confirmed(offers, "site-1", 1.0)) == 2
    assert offers.expecting.hold(T, False, 2.0)[-1] == settled(Outcome.FINISHED, ("site-1", Outcome.FINISHED))
    assert offers.expecting.hold(T, True, 3.0) == [], "it has ended"


def test_who_is_excused_is_not_waited_for() -> None:
    offers = lending(Audience(count=3))
    for origin in ("site-1", "site-2"):
        served(offers, origin, 1.0)
    confirmed(offers, "site-1", 2.0)
    assert offers.expecting.excuse(T, 1, 3.0) == [], "one is not there yet"
    assert settled(Outcome.FINISHED, ("site-1", Outcome.FINISHED), ("site-2", Outcome.FINISHED)) in confirmed(
        offers, "site-2", 4.0)
    assert offers.expecting.excuse(T, 1, 5.0) == []


def test_when_all_others_have_it_already_the_excuse_is_the_end() -> None:
    offers = lending(Audience(count=2))
    served(offers, "site-1", 1.0)
    confirmed(offers, "site-1", 2.0)
    assert settled(Outcome.FINISHED, ("site-1", Outcome.FINISHED)) in offers.expecting.excuse(T, 1, 3.0)


def test_the_last_one_cannot_be_excused_nor_those_with_names_nor_nobody() -> None:
    for audience in (Audience(count=2), Audience(names=frozenset({"site-1"})), Audience(count=0)):
        offers = lending(audience)
        assert offers.expecting.excuse(T, 9, 1.0) == [] and len(offers) == 1


def test_a_target_whose_way_was_lost_and_that_does_not_ask_in_time_is_lost() -> None:
    offers = lending(Audience(count=1, targets=frozenset({"site-1"})))
    assert offers.expecting.miss(T, "site-1", 1.0) == []
    offers.check()
    assert offers.tick(5.9) == []
    assert offers.tick(6.0) == [ReceiverSettled(T, "site-1", Outcome.LOST), Release(A),
                                settled(Outcome.FAILED, ("site-1", Outcome.LOST))]
    assert offers.expecting.miss(T, "site-1", 7.0) == [], "it has ended"


def test_a_target_that_asks_in_time_was_not_lost() -> None:
    offers = lending(Audience(count=1, targets=frozenset({"site-1"})))
    offers.expecting.miss(T, "site-1", 1.0)
    served(offers, "site-1", 5.0)
    assert offers.tick(30.0) == []
    assert settled(Outcome.FINISHED, ("site-1", Outcome.FINISHED)) in confirmed(offers, "site-1", 31.0)


def test_lost_targets_are_not_waited_for_when_the_others_have_it() -> None:
    offers = lending(Audience(count=2, targets=frozenset({"site-1", "site-2"})))
    offers.expecting.miss(T, "site-2", 1.0)
    served(offers, "site-1", 2.0)
    assert offers.tick(6.0) == [ReceiverSettled(T, "site-2", Outcome.LOST)], "site-1 pulls"
    assert settled(Outcome.PARTIAL, ("site-1", Outcome.FINISHED), ("site-2", Outcome.LOST)) in confirmed(offers, "site-1", 7.0)


def test_who_pulls_in_the_place_of_a_lost_target_is_waited_for() -> None:
    offers = lending(Audience(count=1, targets=frozenset({"site-1"})))
    served(offers, "site-1.w0", 0.5)  # the target has passed it on
    offers.expecting.miss(T, "site-1", 1.0)
    assert offers.tick(6.0) == [ReceiverSettled(T, "site-1", Outcome.LOST)]
    assert any(isinstance(each, TransactionSettled) and each.outcome is Outcome.FINISHED
               for each in confirmed(offers, "site-1.w0", 9.0))


@pytest.mark.parametrize("audience", [Audience(count=2), Audience(count=0), Audience(names=frozenset({"site-2"}))])
def test_who_is_no_target_is_not_missed(audience: Audience) -> None:
    offers = lending(audience)
    assert offers.expecting.miss(T, "site-1", 1.0) == [] and offers.expecting.miss(T2, "site-1", 1.0) == []
    assert offers.tick(59.0) == [] and len(offers) == 1


def test_a_named_receiver_that_is_missed_comes_to_its_end() -> None:
    offers = lending(Audience(names=frozenset({"site-1", "site-2"})))
    offers.expecting.miss(T, "site-2", 1.0)
    served(offers, "site-1", 2.0)
    confirmed(offers, "site-1", 3.0)
    assert settled(Outcome.PARTIAL, ("site-1", Outcome.FINISHED), ("site-2", Outcome.LOST)) in offers.tick(6.0)
