"""The scenarios of the ancestor's download service, as behaviour of zdl: budgets, quorum and ids, 7.3.

The numbers are those of the catalogue. Time is that of the brain here, so nothing is waited for; the same with real cells is
in ``tests/download/test_transacting.py`` (rows D14, D16) and ``test_downloads.py`` (row D20, which is 7.3.7). There is no
configuration of the process that gives budgets (7.3.4): who opens a transaction says them, or there are none.
"""

from __future__ import annotations

from typing import Any

import pytest

from zdl import LeaseEnded, OptionError, Options
from zdl.download.outcomes import TransactionOutcome
from zdl.errors import LocalProtocolError, to_wire
from zdl.options import OfferOptions
from zdl.protocol.audiences import UNLIMITED, Budgets
from zdl.protocol.effects import Effect, Outcome, Post, ReceiverSettled, Serve, TransactionSettled
from zdl.protocol.messages import Ask, Confirm, Denial, Keep, Verify
from zdl.protocol.offers import Audience, Offer, Offers

from trees import Trees
from waiting import PATIENCE_S, eventually

T, A, B, SECRET = b"t" * 16, b"a" * 16, b"b" * 16, b"s" * 16
BOTH = Audience(names=frozenset({"site-1", "site-2"}))


class Lending:
    """One transaction of two objects, open since 0 s with a lease of 600 s."""

    def __init__(self, audience: Audience = BOTH, budgets: Budgets = UNLIMITED, *, is_held: bool = False) -> None:
        self.offers = Offers("server", OfferOptions(lost_grace_s=5.0))
        lent = [Offer(each, SECRET, 100) for each in (A, B)]
        self.offers.lend(T, lent, audience, 600.0, 0.0, budgets=budgets, is_held=is_held)

    def ask(self, name: str, now: float, offer_id: bytes = A) -> list[Effect]:
        effects = self.offers.receive(Ask(name, "server", offer_id[0], offer_id, SECRET, 0, 100, Verify.NONE), now)
        for effect in effects:
            if isinstance(effect, Serve):
                self.offers.made(effect.ask, None, now)
        return effects

    def confirm(self, name: str, now: float, offer_id: bytes = A) -> list[Effect]:
        return self.offers.receive(Confirm(name, "server", offer_id[0], offer_id, SECRET, ((0, 100),)), now)

    def has(self, name: str, now: float) -> list[Effect]:
        """It pulls and confirms both."""
        return [effect for each in (A, B) for effect in (*self.ask(name, now, each), *self.confirm(name, now, each))]

    def tick(self, now: float) -> list[Effect]:
        effects = self.offers.tick(now)
        self.offers.check()
        return effects


def told(effects: list[Effect]) -> list[tuple[str, Outcome]]:
    return [(each.receiver, each.outcome) for each in effects if isinstance(each, ReceiverSettled)]


def ends(effects: list[Effect]) -> list[Outcome]:
    return [each.outcome for each in effects if isinstance(each, TransactionSettled)]


def test_7_3_1_a_receiver_that_falls_silent_fails_long_before_the_lease_and_so_does_one_whose_confirmation_is_lost() -> None:
    lending = Lending(budgets=Budgets(silence_s=10.0))
    lending.has("site-2", 1.0)
    lending.ask("site-1", 1.0)
    assert lending.offers.deadline() == 11.0 and told(lending.tick(10.9)) == []
    effects = lending.tick(11.0)
    assert told(effects) == [("site-1", Outcome.EXPIRED)] and ends(effects) == [Outcome.PARTIAL]


def test_7_3_1_what_it_says_of_one_object_counts_for_the_other_and_idle_after_one_it_fails_the_other_in_its_time() -> None:
    lending = Lending(budgets=Budgets(silence_s=10.0))
    lending.ask("site-1", 1.0, A)
    for now in (9.0, 18.0, 27.0):
        lending.offers.receive(Keep("site-1", "server", B[0], B, SECRET), now)
        assert told(lending.tick(now)) == []
    lending.confirm("site-1", 28.0, A)
    assert told(lending.tick(37.9)) == []
    assert told(lending.tick(38.0)) == [("site-1", Outcome.EXPIRED)], "it has one object, and not the other"


def test_7_3_2_who_is_named_and_never_comes_fails_at_his_time_and_who_is_not_named_is_not_missed() -> None:
    lending = Lending(budgets=Budgets(first_pull_s=20.0))
    lending.ask("site-1", 19.0)
    effects = lending.tick(20.0)
    assert told(effects) == [("site-2", Outcome.EXPIRED)] and not ends(effects)
    counted = Lending(Audience(count=2), Budgets(silence_s=20.0))
    assert counted.tick(599.0) == [], "nobody has begun, so nobody is silent"


def test_7_3_2_the_time_of_the_first_pull_begins_when_all_objects_are_there() -> None:
    lending = Lending(budgets=Budgets(first_pull_s=20.0), is_held=True)
    assert lending.tick(100.0) == []
    lending.offers.expecting.hold(T, False, 100.0)
    assert told(lending.tick(119.9)) == []
    assert told(lending.tick(120.0)) == [("site-1", Outcome.EXPIRED), ("site-2", Outcome.EXPIRED)]


def test_7_3_3_a_budget_that_ran_out_is_final_and_a_confirmation_that_came_first_is_too() -> None:
    lending = Lending(budgets=Budgets(silence_s=10.0))
    for each in (A, B):
        lending.ask("site-1", 1.0, each)
    lending.confirm("site-1", 1.0, A)
    lending.tick(11.0)
    late = LeaseEnded(ref=f"ref:{B[:4].hex()}…", origin="server", how="expired")
    assert lending.confirm("site-1", 12.0, B) == [Post(Denial("server", "site-1", B[0], *to_wire(late)))]
    assert told(lending.has("site-2", 13.0))[-1:] == [("site-2", Outcome.FINISHED)]
    lending = Lending(budgets=Budgets(silence_s=10.0))
    assert ("site-1", Outcome.FINISHED) in told(lending.has("site-1", 10.9))
    assert told(lending.tick(500.0)) == [], "it has said all that it had to say"


NO_BUDGETS: tuple[tuple[dict[str, Any], str], ...] = (
    ({"silence_s": -1.0}, "silence_s"), ({"silence_s": 0}, "silence_s"),
    ({"first_pull_s": -1.0, "receivers": ["a"]}, "first_pull_s"), ({"receivers": -1}, "receivers"),
    ({"receivers": ["a", "b"], "quorum": 3}, "quorum"), ({"quorum": 0}, "quorum"))


def test_7_3_4_and_5_budgets_and_numbers_that_cannot_be_are_refused_by_name(trees: Trees) -> None:
    (server,) = trees.grow("server")
    for given, name in NO_BUDGETS:
        with pytest.raises(OptionError) as caught:
            server.downloads.transaction(**given)
        assert caught.value.name == name and not server.downloads.transactions


@pytest.mark.parametrize(("given", "warned"), [
    ({"first_pull_s": 600.0, "receivers": ["site-1"]}, "first_pull_s=600 is no shorter than lease_s=600"),
    ({"silence_s": 20.0, "lease_s": 10.0}, "silence_s=20 is no shorter than lease_s=10"),
    ({"silence_s": 9.0, "lease_s": 10.0}, "")])
def test_7_3_4_a_budget_that_the_lease_would_outrun_is_warned_of(
        trees: Trees, caplog: pytest.LogCaptureFixture, given: dict[str, Any], warned: str) -> None:
    (server,) = trees.grow("server", options=Options(offers=OfferOptions(lease_s=600.0)))
    server.downloads.transaction(**given).delete()
    told = [each.getMessage() for each in caplog.records if each.name == "zdl.download" and "no shorter" in each.getMessage()]
    assert len(told) == bool(warned) and all(warned in each for each in told)


def test_7_3_4_without_budgets_only_the_lease_ends_it() -> None:
    lending = Lending()
    lending.ask("site-1", 1.0)
    assert lending.offers.deadline() == 600.0 or lending.tick(600.0) == []
    assert told(lending.tick(600.9)) == []


def test_7_3_5_names_say_how_many_there_are_and_one_that_is_said_twice_is_one(trees: Trees) -> None:
    server, one, two = trees.grow("server", "site-1", "site-2")
    transaction = server.downloads.transaction(receivers=["site-1", "site-2", "site-1"], quorum=2)
    ref = transaction.add(b"x" * 100)
    for cell in (one, two):
        cell.downloads.resolve(ref)
    outcome = transaction.wait(PATIENCE_S)
    assert (outcome.completed, outcome.quorum_met, len(outcome.receivers)) == (True, True, 2)


@pytest.mark.parametrize(("quorum", "is_met"), [(1, True), (2, False), (None, False)])
def test_7_3_6_a_quorum_counts_those_who_have_every_object(trees: Trees, quorum: int | None, is_met: bool) -> None:
    server, one, two = trees.grow("server", "site-1", "site-2")
    transaction = server.downloads.transaction(receivers=["site-1", "site-2"], quorum=quorum)
    refs = [transaction.add(b"x" * 100), transaction.add(b"y" * 100)]
    one.downloads.resolve(refs)
    two.downloads.resolve(refs[0])  # this one only
    eventually(lambda: transaction.receivers == {"site-1": Outcome.FINISHED}, what="the confirmation of both")
    transaction.delete()
    outcome = transaction.wait(PATIENCE_S)
    assert (outcome.completed, outcome.quorum_met, outcome.finished) == (False, is_met, ("site-1",))


def test_7_3_6_without_objects_no_quorum_is_met() -> None:
    empty = TransactionOutcome(Outcome.EXPIRED, {"site-1": Outcome.EXPIRED}, quorum=1)
    assert not empty.quorum_met and not empty.completed
    assert TransactionOutcome(Outcome.FINISHED, {"site-1": Outcome.FINISHED}).quorum_met


def test_7_3_7_an_id_is_taken_while_it_is_open_ends_or_is_remembered_and_while_a_production_of_it_hangs() -> None:
    offers = Offers("server", OfferOptions(tombstone_s=100.0, drain_s=10.0))

    def is_taken(now: float) -> bool:
        try:
            offers.lend(T, [Offer(bytes([int(now) % 256]) * 16, SECRET, 1)], Audience(), 60.0, now)
        except LocalProtocolError:
            return True
        return False

    offers.lend(T, [Offer(A, SECRET, 100)], Audience(), 60.0, 0.0)
    asked = Ask("site-1", "server", 7, A, SECRET, 0, 10, Verify.NONE)
    assert is_taken(1.0) and offers.receive(asked, 1.0) == [Serve(asked)]
    assert not ends(offers.end(T, Outcome.DELETED, 2.0)) and is_taken(3.0), "something of it is being read"
    assert ends(offers.tick(12.0)) == [Outcome.DELETED] and is_taken(13.0), "it was given up, and is read all the same"
    offers.tick(200.0)
    assert is_taken(200.0), "it is forgotten, but something of it is still being read"
    offers.made(asked, None, 201.0)
    assert not is_taken(202.0)
    offers.check()
