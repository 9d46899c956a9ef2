"""Transactions: the table of what one cell lends: what is open, what ends, what is still read, and when to look at what.

`zdl.protocol.offers` hears the world and decides what happens; the diagrams stand there. How it ends is
`zdl.protocol.endings`.
"""

from __future__ import annotations

from collections.abc import Iterator
from sys import intern

from zdl.options import OfferOptions
from zdl.protocol.audiences import Offer, Receiver, Transaction, TransactionFacts
from zdl.protocol.calendar import Calendar
from zdl.protocol.effects import Outcome
from zdl.protocol.readings import Readings
from zdl.protocol.tombstones import Tombstones


class Transactions:
    """What one cell lends.

    Args:
        me: our FQCN.
        options: limits and times.

    Attributes:
        open_ones: by their ids.
        ending: those of which something is still being read.
        released_later: offers that have ended and are still read, with their transactions.
        by_offer: the open transaction of each offer.
        by_name: the open transactions that each receiver has begun with.
        tombstones: what has ended.
        readings: what is being read.
        calendar: when to look at which.
    """

    def __init__(self, me: str, options: OfferOptions) -> None:
        self._options = options
        self.open_ones: dict[bytes, Transaction] = {}
        self.ending: dict[bytes, Transaction] = {}
        self.released_later: dict[bytes, bytes] = {}
        self.by_offer: dict[bytes, Transaction] = {}
        self.by_name: dict[str, dict[bytes, Transaction]] = {}
        self.tombstones = Tombstones(me, options.tombstone_s, options.tombstones_max)
        self.readings = Readings(options.serving_bytes_max)
        self.calendar = Calendar()

    def __len__(self) -> int:
        return len(self.open_ones) + len(self.ending)

    def __iter__(self) -> Iterator[Transaction]:
        return iter(list(self.open_ones.values()))

    def get(self, transaction_id: bytes) -> Transaction | None:
        """An open one."""
        return self.open_ones.get(transaction_id)

    def facts(self, transaction_id: bytes, now: float) -> TransactionFacts | None:
        """What is known of an open transaction; None: it has ended."""
        transaction = self.open_ones.get(transaction_id)
        return None if transaction is None else TransactionFacts.of(transaction, now)

    def holding(self, offer_id: bytes) -> bytes | None:
        """The open transaction that an offer belongs to, by its id."""
        transaction = self.by_offer.get(offer_id)
        return None if transaction is None else transaction.id

    @property
    def is_pulled_from(self) -> bool:
        """Whether a receiver has begun and not come to an end."""
        return any(receiver.is_pulling and receiver.outcome is not Outcome.LOST
                   for each in self for receiver in each.receivers.values())

    def is_taken(self, transaction_id: bytes) -> bool:
        """Whether something remembers this id: it is open, ends, has ended lately, or is still read."""
        return (transaction_id in self.open_ones or transaction_id in self.ending or self.tombstones.remembers(transaction_id)
                or transaction_id in self.released_later.values())

    def is_offer_taken(self, offer_id: bytes) -> bool:
        """The same for the id of an offer."""
        return offer_id in self.by_offer or offer_id in self.tombstones or offer_id in self.released_later

    def open(self, transaction: Transaction) -> None:
        """A new one, with its offers."""
        self.open_ones[transaction.id] = transaction
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

    def cut_off(self, transaction: Transaction, name: str, now: float) -> None:
        """A receiver has no way to us."""
        receiver = transaction.receivers[name]
        if receiver.outcome is None and receiver.cut_off_at is None:
            receiver.cut_off_at = now
            self.look_at(transaction)

    # --- time -----------------------------------------------------------------------------------

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
        for transaction in self.open_ones.values():
            assert all(self.by_offer[offer_id] is transaction for offer_id in transaction.offers)
            wakes_at = self.calendar.at(transaction.id)
            assert wakes_at is not None and wakes_at <= self.wants_look_at(transaction), "nobody looks when its time comes"
            assert transaction.outcome is None
            assert all(transaction.id in self.by_name[name] for name in transaction.receivers)
        assert all(each.outcome is not None and each.id not in self.open_ones for each in self.ending.values())
        assert len(self.by_offer) == sum(len(each.offers) for each in self.open_ones.values())
        assert sum(map(len, self.by_name.values())) == sum(len(each.receivers) for each in self.open_ones.values())
        assert all(self.readings.is_read(offer_id) for offer_id in self.released_later), "nobody will release it"
        self.tombstones.check(self.by_offer)
        self.readings.check()
