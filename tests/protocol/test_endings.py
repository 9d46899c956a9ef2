"""Endings: each end once; who pulls is told; what is read is released after that; what has changed is explained later."""

from __future__ import annotations

from zdl.errors import SourceChanged, to_wire
from zdl.options import OfferOptions
from zdl.protocol.audiences import UNLIMITED, Audience, Offer, Transaction
from zdl.protocol.effects import Outcome, Post, ReceiverSettled, Release, TransactionSettled
from zdl.protocol.endings import Endings
from zdl.protocol.messages import Ask, Denial, Verify, Withdrawn
from zdl.protocol.transactions import Transactions

T, A, B, SECRET = b"t" * 16, b"a" * 16, b"b" * 16, b"s" * 16


def opened(*names: str) -> tuple[Transactions, Endings, Transaction]:
    """One transaction with two offers, which these receivers pull; the first of them both."""
    table = Transactions("server", OfferOptions(lost_grace_s=5.0))
    offers = {each: Offer(each, SECRET, 100) for each in (A, B)}
    transaction = Transaction(T, Audience(count=2), UNLIMITED, 60.0, 60.0, 0.0, offers)
    table.open(transaction)
    for number, name in enumerate(names):
        table.begin(transaction, name, 0.0).begins(number, A, 0.0)
    transaction.receivers[names[0]].begins(9, B, 0.0)
    return table, Endings("server", OfferOptions(lost_grace_s=5.0), table), transaction


def ask(name: str, number: int) -> Ask:
    return Ask(name, "server", number, A, SECRET, 0, 10, Verify.NONE)


def test_an_end_comes_once_and_who_pulls_is_told() -> None:
    table, endings, transaction = opened("site-1", "site-2")
    assert endings.end(transaction, Outcome.DELETED, 1.0) == [
        Post(Withdrawn("server", "site-1", 0, A, "deleted")), Post(Withdrawn("server", "site-1", 9, B, "deleted")),
        Post(Withdrawn("server", "site-2", 1, A, "deleted")), Release(A), Release(B),
        TransactionSettled(T, Outcome.DELETED, (("site-1", Outcome.DELETED), ("site-2", Outcome.DELETED)))]
    assert endings.end(transaction, Outcome.EXPIRED, 2.0) == endings.settled(T) == []
    table.check()


def test_a_receiver_settles_once_with_why() -> None:
    table, endings, transaction = opened("site-1", "site-2")
    transaction.receivers["site-2"].ends(1, A)
    assert endings.give_up(transaction, "site-2", Outcome.FAILED, 1.0, "disk-full") == [
        ReceiverSettled(T, "site-2", Outcome.FAILED, "disk-full")]
    assert endings.settle(transaction, "site-2", Outcome.LOST, 2.0) == []
    assert transaction.reasons() == (("site-2", "disk-full"),)
    table.check()


def test_what_has_changed_ends_it_and_is_explained_without_what_it_was_raised_in() -> None:
    table, endings, transaction = opened("site-1", "site-2")
    table.readings.take(ask("site-2", 5))
    try:
        raise SourceChanged(ref="file", origin="server", why="it was cut off")
    except SourceChanged as error:
        told = endings.spoil(transaction, ask("site-2", 1), error, 1.0)
        assert told[:4] == [
            Post(Denial("server", "site-1", 0, *to_wire(error))), ReceiverSettled(T, "site-1", Outcome.FAILED, "source-changed"),
            ReceiverSettled(T, "site-2", Outcome.FAILED, "source-changed"), Post(Withdrawn("server", "site-1", 9, B, "failed"))]
        answer = table.tombstones.answer(ask("site-3", 7))
        assert isinstance(answer, SourceChanged) and str(answer) == str(error)
        assert answer.__traceback__ is None, "there the object would still be held"
    assert told[4:] == [Release(B)], "of the other one something is being read"
    table.readings.done(ask("site-2", 5))
    assert endings.drained(A)[0] == Release(A)
    table.check()
