"""Transactions: the table of what one cell lends, and how it ends: for one receiver, one offer, all of it.

`zdl.protocol.offers` hears the world and decides what happens; the diagrams stand there. This file knows what follows:
who is told, what is released when, what is remembered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from sys import intern

from zdl.options import OfferOptions
from zdl.protocol.audiences import Offer, Receiver, Transaction
from zdl.protocol.calendar import Calendar
from zdl.protocol.effects import Effect, Outcome, Post, ReceiverSettled, Release, TransactionSettled
from zdl.protocol.messages import Withdrawn
from zdl.protocol.readings import Readings
from zdl.protocol.tombstones import Tombstones


class Transactions:
    """What one cell lends.

    Args:
        me: our FQCN.
        options: limits and times.
    """

    def __init__(self, me: str, options: OfferOptions) -> None:
        self._me = me
        self._options = options
        self._open: dict[bytes, Transaction] = {}
        self._ending: dict[bytes, Transaction] = {}
        self._released_later: dict[bytes, bytes] = {}
        self.by_offer: dict[bytes, Transaction] = {}
        self.by_name: dict[str, dict[bytes, Transaction]] = {}
        self.tombstones = Tombstones(me, options.tombstone_s, options.tombstones_max)
        self.readings = Readings(options.serving_bytes_max)
        self.calendar = Calendar()

    def __len__(self) -> int:
        return len(self._open) + len(self._ending)

    def __iter__(self) -> Iterator[Transaction]:
        return iter(list(self._open.values()))

    def get(self, transaction_id: bytes) -> Transaction | None:
        """An open one."""
        return self._open.get(transaction_id)

    def is_taken(self, transaction_id: bytes) -> bool:
        """Whether something remembers this id: it is open, ends, has ended lately, or is still read."""
        return (transaction_id in self._open or transaction_id in self._ending or self.tombstones.remembers(transaction_id)
                or transaction_id in self._released_later.values())

    def is_offer_taken(self, offer_id: bytes) -> bool:
        """The same for the id of an offer."""
        return offer_id in self.by_offer or offer_id in self.tombstones or offer_id in self._released_later

    def open(self, transaction: Transaction) -> None:
        """A new one, with its offers."""
        self._open[transaction.id] = transaction
        for offer_id in transaction.offers:
            self.by_offer[offer_id] = transaction
        self.look_at(transaction)

    def add(self, transaction: Transaction, offer: Offer) -> None:
        """One more offer; who had all before has not any more, if it is counted."""
        transaction.offers[offer.offer_id] = offer
        self.by_offer[offer.offer_id] = transaction
        for receiver in transaction.receivers.values() if offer.is_counted else ():
            if receiver.outcome is Outcome.FINISHED:
                receiver.outcome = None
        self.look_at(transaction)

    def begin(self, transaction: Transaction, name: str, now: float) -> Receiver:
        """A receiver is heard for the first time, or counted without that."""
        name = intern(name)  # it stands in many transactions, and comes with every message as another text
        receiver = transaction.receivers[name] = Receiver(now)
        self.by_name.setdefault(name, {})[transaction.id] = transaction
        self.look_at(transaction)
        return receiver

    # --- ends -----------------------------------------------------------------------------------

    def settle(self, transaction: Transaction, name: str, outcome: Outcome, now: float) -> list[Effect]:
        """One receiver has come to an end; it may be the end of all."""
        receiver = transaction.receivers[name]
        if receiver.outcome is not None:
            return []
        receiver.outcome, receiver.cut_off_at = outcome, None
        return [ReceiverSettled(transaction.id, name, outcome), *self.conclude(transaction, now)]

    def give_up(self, transaction: Transaction, name: str, outcome: Outcome | None, now: float) -> list[Effect]:
        """A pull of a receiver is over without its bytes; with its last one the receiver has come to this end.

        A pull that was not heard for `lost_grace_s` is over too: its last word was lost, or its life has ended.
        """
        receiver = transaction.receivers[name]
        receiver.gave_up = receiver.gave_up or outcome
        heard_at = receiver.pull_heard_at
        if receiver.gave_up is None or receiver.outcome is not None:
            return []
        if heard_at is not None and now < heard_at + self._options.lost_grace_s:
            self.look_at(transaction)
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
            self.look_at(transaction)
        return []

    def end(self, transaction: Transaction, outcome: Outcome, now: float) -> list[Effect]:
        """It ends like this: receivers are told, what is not being read is released, and then it settles."""
        if self._open.pop(transaction.id, None) is None:
            return []
        transaction.outcome = outcome
        self._ending[transaction.id] = transaction
        self.calendar.forget(transaction.id)
        effects = self.take_back(transaction, list(transaction.offers), outcome, now)
        for name in transaction.receivers:
            known = self.by_name[name]
            del known[transaction.id]
            if not known:
                del self.by_name[name]
        self.tombstones.ended(transaction.id, now)
        if any(self._released_later.get(offer_id) == transaction.id for offer_id in transaction.offers):
            self.calendar.wake(transaction.id, now + self._options.drain_s)
            return effects
        return effects + self.settled(transaction.id)

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
            del self.by_offer[offer_id]
            self.tombstones.put(transaction.id, transaction.offers[offer_id], outcome.value, finished=finished, others=others,
                                now=now)
            self.readings.drop(offer_id)
            if self.readings.is_read(offer_id):
                self._released_later[offer_id] = transaction.id
            else:
                effects.append(Release(offer_id))
        return effects

    def drained(self, offer_id: bytes) -> list[Effect]:
        """Something was read of an offer that has ended: with the last of that it is released."""
        transaction_id = self._released_later.get(offer_id)
        if transaction_id is None or self.readings.is_read(offer_id):
            return []
        del self._released_later[offer_id]
        effects: list[Effect] = [Release(offer_id)]
        if transaction_id in self._released_later.values():
            return effects
        return effects + self.settled(transaction_id)

    def settled(self, transaction_id: bytes) -> list[Effect]:
        """It has ended, and nothing is waited for any more; nothing if it is open, or has settled."""
        transaction = self._ending.pop(transaction_id, None)
        if transaction is None:
            return []
        self.calendar.forget(transaction_id)
        assert transaction.outcome is not None
        done = tuple((name, each.bytes_confirmed) for name, each in sorted(transaction.receivers.items()))
        return [TransactionSettled(transaction_id, transaction.outcome, transaction.told(transaction.outcome), done)]

    # --- time -----------------------------------------------------------------------------------

    def look(self, transaction: Transaction, now: float) -> list[Effect]:
        """Its moment has come: the lease, a receiver that is cut off or silent, or nobody who is active."""
        if transaction.deadline <= now:
            return self.end(transaction, Outcome.EXPIRED, now)
        options, budgets = self._options, transaction.budgets
        effects: list[Effect] = []
        if budgets.first_pull_s is not None and transaction.waits_since + budgets.first_pull_s <= now and not transaction.is_held:
            for name in sorted(transaction.audience.names - transaction.receivers.keys()):
                self.begin(transaction, name, now)
                effects += self.settle(transaction, name, Outcome.EXPIRED, now)
                if transaction.outcome is not None:
                    return effects
        for name, receiver in list(transaction.receivers.items()):
            if receiver.outcome is None and receiver.cut_off_at is not None and receiver.cut_off_at + options.lost_grace_s <= now:
                effects += self.settle(transaction, name, Outcome.LOST, now)
            elif receiver.outcome is None and budgets.silence_s is not None and receiver.heard_at + budgets.silence_s <= now:
                effects += self._withdraw_from(transaction, name, receiver)
                effects += self.settle(transaction, name, Outcome.EXPIRED, now)
            elif receiver.gave_up is not None:
                effects += self.give_up(transaction, name, None, now)
            if transaction.outcome is not None:  # the last one that counts has ended it
                return effects
        if transaction.abandoned_at is not None and transaction.abandoned_at + options.lost_grace_s <= now:
            effects += self.end(transaction, Outcome.PARTIAL if transaction.finished() else Outcome.FAILED, now)
        return effects

    def look_at(self, transaction: Transaction) -> None:
        """Something about it has changed: see when it wants to be looked at."""
        self.calendar.wake(transaction.id, self.wants_look_at(transaction))

    def wants_look_at(self, transaction: Transaction) -> float:
        """The next moment at which time alone changes something."""
        grace_s, budgets = self._options.lost_grace_s, transaction.budgets
        when = transaction.deadline
        if transaction.abandoned_at is not None:
            when = min(when, transaction.abandoned_at + grace_s)
        if budgets.first_pull_s is not None and not transaction.is_held and (
                transaction.audience.names - transaction.receivers.keys()):
            when = min(when, transaction.waits_since + budgets.first_pull_s)
        for receiver in transaction.receivers.values():
            if receiver.outcome is not None:
                continue
            if receiver.cut_off_at is not None:
                when = min(when, receiver.cut_off_at + grace_s)
            if budgets.silence_s is not None:
                when = min(when, receiver.heard_at + budgets.silence_s)
            if receiver.gave_up is not None:
                when = min(when, (receiver.pull_heard_at or 0.0) + grace_s)
        return when

    def check(self) -> None:
        """All invariants; for simulation."""
        for transaction in self._open.values():
            assert all(self.by_offer[offer_id] is transaction for offer_id in transaction.offers)
            wakes_at = self.calendar.at(transaction.id)
            assert wakes_at is not None and wakes_at <= self.wants_look_at(transaction), "nobody looks when its time comes"
            assert transaction.outcome is None
            assert all(transaction.id in self.by_name[name] for name in transaction.receivers)
        assert all(each.outcome is not None and each.id not in self._open for each in self._ending.values())
        assert len(self.by_offer) == sum(len(each.offers) for each in self._open.values())
        assert sum(map(len, self.by_name.values())) == sum(len(each.receivers) for each in self._open.values())
        assert all(self.readings.is_read(offer_id) for offer_id in self._released_later), "nobody will release it"
        self.tombstones.check(self.by_offer)
        self.readings.check()

    def _withdraw_from(self, transaction: Transaction, name: str, receiver: Receiver) -> list[Effect]:
        """One receiver's time is up: its pulls are told."""
        told: list[Effect] = [
            Post(Withdrawn(self._me, name, number, offer_id, Outcome.EXPIRED.value))
            for (number, offer_id), heard_at in receiver.pulls.items() if heard_at is not None]
        receiver.pulls = {key: None for key in receiver.pulls}
        return told
