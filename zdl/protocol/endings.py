"""Endings: how what is lent comes to its end: for one receiver, one offer, all of it.

Who is told, what is released when, what is remembered. When that happens is decided in `zdl.protocol.offers`, where the
diagrams stand.
"""

from __future__ import annotations

from collections.abc import Sequence

from zdl.errors import ZdlError, from_wire, to_wire
from zdl.options import OfferOptions
from zdl.protocol.audiences import Receiver, Transaction
from zdl.protocol.effects import Effect, Outcome, Post, ReceiverSettled, Release, TransactionSettled
from zdl.protocol.messages import Ask, Denial, Withdrawn
from zdl.protocol.transactions import Transactions


class Endings:
    """Brings transactions of one table to their end.

    Args:
        me: our FQCN.
        options: limits and times.
        transactions: the table.
    """

    def __init__(self, me: str, options: OfferOptions, transactions: Transactions) -> None:
        self._me = me
        self._options = options
        self._all = transactions

    def settle(self, transaction: Transaction, name: str, outcome: Outcome, now: float) -> list[Effect]:
        """One receiver has come to an end; it may be the end of all."""
        receiver = transaction.receivers[name]
        if receiver.outcome is not None:
            return []
        receiver.outcome, receiver.cut_off_at = outcome, None
        why = receiver.why if outcome is Outcome.FAILED else ""
        return [ReceiverSettled(transaction.id, name, outcome, why), *self.conclude(transaction, now)]

    def give_up(self, transaction: Transaction, name: str, outcome: Outcome | None, now: float, why: str = "") -> list[Effect]:
        """A pull of a receiver is over without its bytes; with its last one the receiver has come to this end.

        A pull that was not heard for `lost_grace_s` is over too: its last word was lost, or its life has ended.
        """
        receiver = transaction.receivers[name]
        if outcome is not None:
            receiver.gives_up(outcome, why)
        heard_at = receiver.pull_heard_at
        if receiver.gave_up is None or receiver.outcome is not None:
            return []
        if heard_at is not None and now < heard_at + self._options.lost_grace_s:
            self._all.look_at(transaction)
            return []
        return self.settle(transaction, name, receiver.gave_up, now)

    def conclude(self, transaction: Transaction, now: float) -> list[Effect]:
        """See whether its receivers have brought a transaction to its end, or abandoned it."""
        verdict = transaction.verdict()
        if verdict is not None:
            return self.end(transaction, verdict, now)
        if not transaction.is_abandoned():
            transaction.abandoned_at = None
        elif transaction.abandoned_at is None:
            transaction.abandoned_at = now
            self._all.look_at(transaction)
        return []

    def end(self, transaction: Transaction, outcome: Outcome, now: float) -> list[Effect]:
        """It ends like this: receivers are told, what is not being read is released, and then it settles."""
        if self._all.open_ones.pop(transaction.id, None) is None:
            return []
        transaction.outcome = outcome
        self._all.ending[transaction.id] = transaction
        self._all.calendar.forget(transaction.id)
        effects = self.take_back(transaction, list(transaction.offers), outcome, now)
        for name in transaction.receivers:
            known = self._all.by_name[name]
            del known[transaction.id]
            if not known:
                del self._all.by_name[name]
        self._all.tombstones.ended(transaction.id, now)
        if any(self._all.released_later.get(offer_id) == transaction.id for offer_id in transaction.offers):
            self._all.calendar.wake(transaction.id, now + self._options.drain_s)
            return effects
        return effects + self.settled(transaction.id)

    def spoil(self, transaction: Transaction, ask: Ask, error: ZdlError, now: float) -> list[Effect]:
        """What is lent is not what it was, and never will be again: all who pull it hear why, and who asks later.

        Args:
            transaction: it ends.
            ask: the question with which this was found out; who asked was told.
            error: the change.
            now: the time.
        """
        transaction.why = error.code
        effects: list[Effect] = []
        for name, receiver in transaction.receivers.items():
            pulls = sorted(number for (number, offer_id), heard_at in receiver.pulls.items()
                           if heard_at is not None and offer_id == ask.offer_id)
            effects += [Post(Denial(self._me, name, number, *to_wire(error))) for number in pulls
                        if (name, number) != (ask.origin, ask.id)]
            for number in pulls:
                receiver.ends(number, ask.offer_id)
            if pulls and receiver.outcome is None:
                receiver.outcome, receiver.why, receiver.cut_off_at = Outcome.FAILED, error.code, None
                effects.append(ReceiverSettled(transaction.id, name, Outcome.FAILED, error.code))
        effects += self.end(transaction, Outcome.PARTIAL if transaction.finished() else Outcome.FAILED, now)
        # Without what it was raised in: there the object is still at hand.
        self._all.tombstones.explain(ask.offer_id, from_wire(*to_wire(error), at=self._me))
        return effects

    def take_back(self, transaction: Transaction, offer_ids: Sequence[bytes], outcome: Outcome, now: float) -> list[Effect]:
        """These offers end: who pulls them is told; they are released, now or when nothing is read of them."""
        effects: list[Effect] = []
        for name, receiver in transaction.receivers.items():
            effects += [Post(Withdrawn(self._me, name, number, offer_id, outcome.value))
                        for (number, offer_id), heard_at in sorted(receiver.pulls.items(), key=lambda each: each[0])
                        if heard_at is not None and offer_id in offer_ids]
            receiver.pulls = {key: at for key, at in receiver.pulls.items() if key[1] not in offer_ids}
        finished = frozenset(transaction.finished())
        others = transaction.audience.names | transaction.receivers.keys() if transaction.audience.is_closed else None
        for offer_id in offer_ids:
            del self._all.by_offer[offer_id]
            self._all.tombstones.put(transaction.id, transaction.offers[offer_id], outcome.value, finished=finished, others=others,
                                     now=now)
            self._all.readings.drop(offer_id)
            if self._all.readings.is_read(offer_id):
                self._all.released_later[offer_id] = transaction.id
            else:
                effects.append(Release(offer_id))
        return effects

    def drained(self, offer_id: bytes) -> list[Effect]:
        """Something was read of an offer that has ended: with the last of that it is released."""
        transaction_id = self._all.released_later.get(offer_id)
        if transaction_id is None or self._all.readings.is_read(offer_id):
            return []
        del self._all.released_later[offer_id]
        effects: list[Effect] = [Release(offer_id)]
        if transaction_id in self._all.released_later.values():
            return effects
        return effects + self.settled(transaction_id)

    def settled(self, transaction_id: bytes) -> list[Effect]:
        """It has ended, and nothing is waited for any more; nothing if it is open, or has settled."""
        transaction = self._all.ending.pop(transaction_id, None)
        if transaction is None:
            return []
        self._all.calendar.forget(transaction_id)
        assert transaction.outcome is not None
        done = tuple((name, each.bytes_confirmed) for name, each in sorted(transaction.receivers.items()))
        return [TransactionSettled(transaction_id, transaction.outcome, transaction.told(transaction.outcome), done,
                                   transaction.reasons(), transaction.why)]

    def look(self, transaction: Transaction, now: float) -> list[Effect]:
        """Its moment has come: the lease, a receiver that is cut off or silent, or nobody who is active."""
        if transaction.deadline <= now:
            return self.end(transaction, Outcome.EXPIRED, now)
        options, budgets = self._options, transaction.budgets
        effects: list[Effect] = []
        if budgets.first_pull_s is not None and transaction.waits_since + budgets.first_pull_s <= now and not transaction.is_held:
            for name in sorted(transaction.audience.names - transaction.receivers.keys()):
                self._all.begin(transaction, name, now)
                effects += self.settle(transaction, name, Outcome.EXPIRED, now)
                if transaction.outcome is not None:
                    return effects
        for name, receiver in list(transaction.receivers.items()):
            if receiver.outcome is None and receiver.cut_off_at is not None and receiver.cut_off_at + options.lost_grace_s <= now:
                effects += self.settle(transaction, name, Outcome.LOST, now)
            elif receiver.outcome is None and budgets.silence_s is not None and receiver.heard_at + budgets.silence_s <= now:
                effects += self._withdraw_from(name, receiver)
                effects += self.settle(transaction, name, Outcome.EXPIRED, now)
            elif receiver.gave_up is not None:
                effects += self.give_up(transaction, name, None, now)
            if transaction.outcome is not None:  # the last one that counts has ended it
                return effects
        if transaction.abandoned_at is not None and transaction.abandoned_at + options.lost_grace_s <= now:
            effects += self.end(transaction, Outcome.PARTIAL if transaction.finished() else Outcome.FAILED, now)
        return effects

    def _withdraw_from(self, name: str, receiver: Receiver) -> list[Effect]:
        """One receiver's time is up: its pulls are told."""
        told: list[Effect] = [
            Post(Withdrawn(self._me, name, number, offer_id, Outcome.EXPIRED.value))
            for (number, offer_id), heard_at in receiver.pulls.items() if heard_at is not None]
        receiver.pulls = {key: None for key in receiver.pulls}
        return told
