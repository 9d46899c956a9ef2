"""Audiences: what follows for a transaction from what its receivers have come to."""

from __future__ import annotations

import pytest

from zdl.protocol.audiences import PULLS_REMEMBERED, UNLIMITED, Audience, Offer, Receiver, Transaction, TransactionFacts
from zdl.protocol.effects import Outcome

A, B = b"a" * 16, b"b" * 16
ALL = {A: ((0, 100),)}


def transaction(audience: Audience, **outcomes: Outcome | None) -> Transaction:
    made = Transaction(b"t" * 16, audience, UNLIMITED, 60.0, 60.0, 0.0, {A: Offer(A, b"s" * 16, 100)})
    made.receivers = {name: Receiver(0.0, outcome) for name, outcome in outcomes.items()}
    return made


@pytest.mark.parametrize(("audience", "outcomes", "verdict"), [
    (Audience(count=1), {}, None),
    (Audience(count=1), {"a": Outcome.FINISHED}, Outcome.FINISHED),
    (Audience(count=2), {"a": Outcome.FINISHED, "b": Outcome.LOST}, None),
    (Audience(count=0), {"a": Outcome.FINISHED}, None),
    (Audience(names=frozenset("ab")), {"a": Outcome.FINISHED, "c": Outcome.FINISHED}, None),
    (Audience(names=frozenset("ab")), {"a": Outcome.FINISHED, "b": Outcome.FINISHED}, Outcome.FINISHED),
    (Audience(names=frozenset("ab")), {"a": Outcome.FINISHED, "b": Outcome.EXPIRED}, Outcome.PARTIAL),
    (Audience(names=frozenset("ab")), {"a": Outcome.FAILED, "b": Outcome.LOST, "c": Outcome.FINISHED}, Outcome.FAILED),
    (Audience(names=frozenset("ab")), {"a": Outcome.FAILED, "b": None}, None)])
def test_the_verdict_follows_from_the_receivers(audience: Audience, outcomes: dict[str, Outcome | None],
                                                verdict: Outcome | None) -> None:
    made = transaction(audience, **outcomes)
    assert made.verdict() is verdict
    made.is_held = True
    assert made.verdict() is None, "offers are still to come"


def test_it_is_abandoned_when_as_many_as_are_counted_have_ended_and_nobody_is_active() -> None:
    assert not transaction(Audience(count=1)).is_abandoned()
    assert transaction(Audience(count=1), a=Outcome.LOST).is_abandoned()
    assert not transaction(Audience(count=1), a=Outcome.LOST, b=None).is_abandoned()
    assert not transaction(Audience(count=2), a=Outcome.LOST).is_abandoned()
    assert not transaction(Audience(count=0), a=Outcome.LOST).is_abandoned()
    assert not transaction(Audience(names=frozenset("a")), a=Outcome.LOST).is_abandoned()


def test_only_what_is_counted_must_be_had_and_nothing_is_never_all() -> None:
    made = transaction(Audience(count=1))
    receiver = Receiver(0.0, confirmed=dict(ALL))
    made.offers[B] = Offer(B, b"s" * 16, 50, is_counted=False)
    assert made.has_all(receiver)
    del made.offers[A]
    assert not made.has_all(receiver)


def test_no_more_pulls_that_are_over_are_remembered_than_the_limit() -> None:
    receiver = Receiver(0.0)
    for number in range(PULLS_REMEMBERED + 50):
        receiver.begins(number, A, float(number))
        receiver.ends(number, A)
    assert len(receiver.pulls) == PULLS_REMEMBERED and not receiver.is_pulling and (0, A) not in receiver.pulls
    receiver.begins(1000, A, 9.0)
    assert receiver.is_pulling and receiver.pull_heard_at == 9.0


def test_facts_tell_how_far_each_receiver_is() -> None:
    made = transaction(Audience(count=2), a=None)
    made.receivers["a"].confirmed = dict(ALL)
    facts = TransactionFacts.of(made, 10.0)
    assert (facts.bytes_total, facts.lease_left_s, facts.receivers[0].bytes_confirmed, facts.receivers[0].silent_s) == (
        100, 50.0, 100, 10.0)
