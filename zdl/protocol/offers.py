"""Offers: what this cell lends, to whom, and until when.

An **offer** is one virtual byte stream. Offers that end together are a **transaction**, which has a
lease and an audience: receivers by name, or how many. Per transaction::

            lend()
              │
            OPEN ──every counted receiver has confirmed every byte──▶ FINISHED
              ├──every named receiver has come to some end──────────▶ PARTIAL, or FAILED if none confirmed
              ├──all that are counted have it or are lost, see below▶ PARTIAL, or FAILED if none confirmed
              ├──lease ran out, nobody asked, kept or confirmed─────▶ EXPIRED
              └──end(how): deleted, undeliverable, closed───────────▶ how

and per receiver in it::

    unseen ──ASK, KEEP──▶ ACTIVE ──CONFIRM covers all──▶ FINISHED   (absorbing)
                            ├──DROP of its last pull───▶ CANCELLED ─┐ a new ASK makes it ACTIVE
                            └──cut off for lost_grace_s▶ LOST ──────┘ again; a CONFIRM of all FINISHED

Receivers that are counted have no names, so that others may come in the place of one that is lost; unless they are the
**targets** of a message: when the way to one of those is lost it is not replaced by anybody, and the transaction ends when as
many as are counted have all of it or are lost targets, and nobody is pulling.

A receiver that had begun and not ended when the others had brought the transaction to its end is told as
PARTIAL if it had confirmed something, else as FAILED.

Each ASK, KEEP or CONFIRM moves the lease on; time alone never ends what a busy receiver uses. With the
end, in this order: receivers still pulling are told (WITHDRAWN), the objects are released, the
transaction settles. How an offer ended is remembered (a tombstone), so that who asks late hears which
end it had, and a receiver whose CONFIRMED was lost hears it again.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from zdl.errors import Busy, DecodeError, LeaseEnded, LocalProtocolError, UnknownRef, ZdlError, to_wire
from zdl.options import CHUNK_BYTES_MAX, OfferOptions
from zdl.protocol.effects import Effect, Outcome, Post, ReceiverSettled, Release, Serve, TransactionSettled, Unreachable
from zdl.protocol.messages import Ask, Bounce, Confirm, Confirmed, Denial, Drop, Keep, Kind, Withdrawn
from zdl.protocol.ranges import Range, contains, covers, union
from zdl.protocol.switch import concerns

# What cannot be told in the words of the tree above: a receiver that has begun and not ended.
_ENDS = frozenset({Outcome.FINISHED, Outcome.CANCELLED, Outcome.LOST})


@dataclass(frozen=True, slots=True)
class Offer:
    """One offer as the lender makes it: `offer_id` and `secret` are 16 random bytes each.

    Attributes:
        enough: ranges of it, each of which is as good as all of it: the same object in another form.
    """

    offer_id: bytes
    secret: bytes = field(repr=False)
    bytes_total: int
    enough: tuple[Range, ...] = ()

    def is_had(self, confirmed: Sequence[Range]) -> bool:
        """Whether who has confirmed these joined ranges has the object."""
        return covers(confirmed, self.bytes_total) or any(contains(confirmed, each) for each in self.enough)


@dataclass(frozen=True, slots=True)
class Audience:
    """Whose confirmation ends a transaction.

    Attributes:
        names: these receivers, each; or
        count: any so many different ones; 0 means that only the lease or the lender ends it.
        targets: to whom the message went that lends it, if these are who is counted.
    """

    names: frozenset[str] = frozenset()
    count: int = 1
    targets: frozenset[str] = frozenset()


@dataclass(slots=True)
class Receiver:
    """One receiver of a transaction."""

    outcome: Outcome | None = None
    has_dropped: bool = False
    pull_ids: set[tuple[int, bytes]] = field(default_factory=set)
    confirmed: dict[bytes, tuple[Range, ...]] = field(default_factory=dict)
    bytes_served: int = 0
    cut_off_at: float | None = None


@dataclass(slots=True)
class Transaction:
    """Offers that end together."""

    id: bytes
    audience: Audience
    lease_s: float
    deadline: float
    offers: dict[bytes, Offer]
    receivers: dict[str, Receiver] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tombstone:
    """How an offer ended, and who had it."""

    secret: bytes = field(repr=False)
    how: str
    finished: frozenset[str]
    until: float


class Offers:
    """All that one cell lends.

    Args:
        me: our FQCN.
        options: limits and times.
    """

    def __init__(self, me: str, options: OfferOptions) -> None:
        self._me = me
        self._options = options
        self._transactions: dict[bytes, Transaction] = {}
        self._by_offer: dict[bytes, Transaction] = {}
        self._tombstones: OrderedDict[bytes, Tombstone] = OrderedDict()
        self._next_look: float | None = None

    def __len__(self) -> int:
        return len(self._transactions)

    def is_pulled_from(self) -> bool:
        """Whether a receiver has begun and not come to an end."""
        return any(receiver.pull_ids and receiver.outcome is not Outcome.LOST
                   for each in self._transactions.values() for receiver in each.receivers.values())

    # --- commands -------------------------------------------------------------------------------

    def lend(self, transaction_id: bytes, lent: Sequence[Offer], audience: Audience, lease_s: float,
             now: float) -> None:
        """Open a transaction.

        Raises:
            Busy: a limit is reached; nothing was opened.
            LocalProtocolError: an id that was used before.
        """
        options = self._options
        if len(self._transactions) >= options.transactions_max:
            raise Busy(limit="transactions_max", value=options.transactions_max, at=self._me)
        if len(self._by_offer) + len(lent) > options.offers_max:
            raise Busy(limit="offers_max", value=options.offers_max, at=self._me)
        if len(audience.names) > options.receivers_max:
            raise Busy(limit="receivers_max", value=options.receivers_max, at=self._me)
        used = any(each.offer_id in self._by_offer or each.offer_id in self._tombstones for each in lent)
        if used or transaction_id in self._transactions:
            raise LocalProtocolError(what="an id of an offer or a transaction was used before")
        offers = {each.offer_id: each for each in lent}
        transaction = Transaction(transaction_id, audience, lease_s, now + lease_s, offers)
        self._transactions[transaction_id] = transaction
        for each in lent:
            self._by_offer[each.offer_id] = transaction
        self._look_at(transaction.deadline)

    def end(self, transaction_id: bytes, outcome: Outcome, now: float) -> list[Effect]:
        """The lender ends it; nothing if it has ended."""
        transaction = self._transactions.get(transaction_id)
        return [] if transaction is None else self._end(transaction, outcome, now)

    def excuse(self, transaction_id: bytes, count: int, now: float) -> list[Effect]:
        """So many of the receivers that are counted will not come: they are not waited for. Those with names are; one always is."""
        transaction = self._transactions.get(transaction_id)
        if transaction is None or transaction.audience.names or transaction.audience.count == 0:
            return []
        transaction.audience = replace(transaction.audience, count=max(1, transaction.audience.count - count))
        return self._judge(transaction, now)

    def miss(self, transaction_id: bytes, name: str, now: float) -> list[Effect]:
        """The way to this target was lost while its answer was waited for: unless it asks in time, it is lost too."""
        transaction = self._transactions.get(transaction_id)
        if transaction is None or name not in transaction.audience.names | transaction.audience.targets:
            return []
        if name not in transaction.receivers and len(transaction.receivers) < self._options.receivers_max:
            transaction.receivers[name] = Receiver()
        self._cut_off_from(transaction, lambda each, _: each == name, now)
        return []

    def fail(self, ask: Ask, error: ZdlError) -> list[Effect]:
        """The bytes that were asked for cannot be produced: their receiver is told, and its pull is over."""
        transaction = self._by_offer.get(ask.offer_id)
        if transaction is not None and ask.origin in transaction.receivers:
            transaction.receivers[ask.origin].pull_ids.discard((ask.id, ask.offer_id))
        return self._deny(ask, error)

    def close(self, now: float) -> list[Effect]:
        """End all."""
        effects: list[Effect] = []
        for transaction in list(self._transactions.values()):
            effects += self._end(transaction, Outcome.CLOSED, now)
        return effects

    # --- the world ------------------------------------------------------------------------------

    def receive(self, message: Ask | Confirm | Keep | Drop | Bounce | Unreachable, now: float) -> list[Effect]:
        """A receiver asks, confirms, keeps or drops; or is cut off."""
        match message:
            case Unreachable():
                self._cut_off(lambda name, _: name != self._me and concerns(message, name), now)
                return []
            case Bounce():  # a chunk could not be delivered
                pull_id = message.id
                if message.of_kind == Kind.CHUNK:
                    self._cut_off(lambda _, receiver: any(number == pull_id for number, _ in receiver.pull_ids), now)
                return []
        transaction = self._by_offer.get(message.offer_id)
        if transaction is None or not hmac.compare_digest(transaction.offers[message.offer_id].secret, message.secret):
            return self._late(message, now)
        self._renew(transaction, now)
        receiver = transaction.receivers.get(message.origin)
        if receiver is None:
            if len(transaction.receivers) >= self._options.receivers_max:
                return self._deny(message, Busy(limit="receivers_max", value=self._options.receivers_max, at=self._me))
            receiver = transaction.receivers[message.origin] = Receiver()
        receiver.cut_off_at = None
        match message:
            case Ask():
                return self._ask(transaction, receiver, message)
            case Confirm():
                return self._confirm(transaction, receiver, message, now)
            case Keep():
                return []
            case Drop():
                receiver.pull_ids.discard((message.id, message.offer_id))
                receiver.has_dropped = True
                done: list[Effect] = [Post(Confirmed(self._me, message.origin, message.id))]
                if receiver.pull_ids:  # its other pulls go on
                    return done
                return done + self._settle_receiver(transaction, message.origin, Outcome.CANCELLED, now)

    def tick(self, now: float) -> list[Effect]:
        """Ends what nobody uses, forgets old tombstones."""
        if self._next_look is None or now < self._next_look:
            return []
        effects: list[Effect] = []
        for transaction in list(self._transactions.values()):
            if transaction.deadline <= now:
                effects += self._end(transaction, Outcome.EXPIRED, now)
            else:
                effects += self._bury(transaction, now)
        while self._tombstones and next(iter(self._tombstones.values())).until <= now:
            self._tombstones.popitem(last=False)
        times = [min(each.deadline, self._wants_look_at(each)) for each in self._transactions.values()]
        if self._tombstones:
            times.append(next(iter(self._tombstones.values())).until)
        self._next_look = min(times, default=None)
        return effects

    def deadline(self) -> float | None:
        """When `tick` is wanted next; leases may have moved on by then."""
        return self._next_look

    def check(self) -> None:
        """All invariants; for simulation."""
        for transaction in self._transactions.values():
            assert all(self._by_offer[offer_id] is transaction for offer_id in transaction.offers)
            assert self._next_look is not None and self._next_look <= transaction.deadline
            for receiver in transaction.receivers.values():
                assert receiver.outcome is None or receiver.outcome in _ENDS
        assert len(self._by_offer) == sum(len(transaction.offers) for transaction in self._transactions.values())
        assert not self._by_offer.keys() & self._tombstones.keys()

    # --- inside ---------------------------------------------------------------------------------

    def _ask(self, transaction: Transaction, receiver: Receiver, ask: Ask) -> list[Effect]:
        total = transaction.offers[ask.offer_id].bytes_total
        if not 0 < ask.length <= CHUNK_BYTES_MAX or ask.offset + ask.length > total:
            return self._deny(ask, DecodeError(
                what=f"bytes {ask.offset}+{ask.length} are not a chunk of an offer of {total} bytes"))
        if receiver.outcome is not Outcome.FINISHED:
            receiver.outcome = None
        receiver.pull_ids.add((ask.id, ask.offer_id))
        receiver.bytes_served += ask.length
        return [Serve(ask)]

    def _confirm(self, transaction: Transaction, receiver: Receiver, confirm: Confirm, now: float) -> list[Effect]:
        have = receiver.confirmed.get(confirm.offer_id, ())
        receiver.confirmed[confirm.offer_id] = union([*have, *confirm.ranges])
        receiver.pull_ids.discard((confirm.id, confirm.offer_id))
        effects: list[Effect] = [Post(Confirmed(self._me, confirm.origin, confirm.id))]
        if all(lent.is_had(receiver.confirmed.get(offer_id, ())) for offer_id, lent in transaction.offers.items()):
            if receiver.outcome is not Outcome.FINISHED:  # it has all, whatever was thought of it before
                receiver.outcome = None
            effects += self._settle_receiver(transaction, confirm.origin, Outcome.FINISHED, now)
        elif receiver.has_dropped and not receiver.pull_ids:
            effects += self._settle_receiver(transaction, confirm.origin, Outcome.CANCELLED, now)
        return effects

    def _settle_receiver(self, transaction: Transaction, name: str, outcome: Outcome, now: float) -> list[Effect]:
        receiver = transaction.receivers[name]
        if receiver.outcome is not None:
            return []
        receiver.outcome, receiver.cut_off_at = outcome, None
        effects: list[Effect] = [ReceiverSettled(transaction.id, name, outcome)]
        return effects + self._judge(transaction, now)

    def _judge(self, transaction: Transaction, now: float) -> list[Effect]:
        """Ends it when those that count have come to their ends."""
        names, count, targets = transaction.audience.names, transaction.audience.count, transaction.audience.targets
        finished = {each for each, state in transaction.receivers.items() if state.outcome is Outcome.FINISHED}
        if names:
            if names <= finished:
                return self._end(transaction, Outcome.FINISHED, now)
            if all(each in transaction.receivers and transaction.receivers[each].outcome in _ENDS for each in names):
                return self._end(transaction, Outcome.PARTIAL if names & finished else Outcome.FAILED, now)
        elif count:
            if len(finished) >= count:
                return self._end(transaction, Outcome.FINISHED, now)
            lost = {each for each in targets & transaction.receivers.keys()
                    if transaction.receivers[each].outcome is Outcome.LOST}
            is_pulled = any(each.outcome is None for each in transaction.receivers.values())
            if lost and len(finished) + len(lost) >= count and not is_pulled:
                return self._end(transaction, Outcome.PARTIAL if finished else Outcome.FAILED, now)
        return []

    def _cut_off(self, concerned: Callable[[str, Receiver], bool], now: float) -> None:
        for transaction in self._transactions.values():
            self._cut_off_from(transaction, concerned, now)

    def _cut_off_from(self, transaction: Transaction, concerned: Callable[[str, Receiver], bool], now: float) -> None:
        for name, receiver in transaction.receivers.items():
            if receiver.outcome is None and receiver.cut_off_at is None and concerned(name, receiver):
                receiver.cut_off_at = now
                self._look_at(now + self._options.lost_grace_s)

    def _bury(self, transaction: Transaction, now: float) -> list[Effect]:
        """Settles the receivers that have been cut off for too long."""
        effects: list[Effect] = []
        for name, receiver in transaction.receivers.items():
            if transaction.id not in self._transactions:  # the last one that counts has ended it
                break
            if receiver.cut_off_at is not None and receiver.cut_off_at + self._options.lost_grace_s <= now:
                effects += self._settle_receiver(transaction, name, Outcome.LOST, now)
        return effects

    def _wants_look_at(self, transaction: Transaction) -> float:
        cut_off = [receiver.cut_off_at + self._options.lost_grace_s for receiver in transaction.receivers.values()
                   if receiver.cut_off_at is not None]
        return min(cut_off, default=transaction.deadline)

    def _end(self, transaction: Transaction, outcome: Outcome, now: float) -> list[Effect]:
        del self._transactions[transaction.id]
        finished = frozenset(name for name, each in transaction.receivers.items() if each.outcome is Outcome.FINISHED)
        effects: list[Effect] = []
        for name, receiver in transaction.receivers.items():
            effects += [Post(Withdrawn(self._me, name, number, offer_id, outcome.value))
                        for number, offer_id in sorted(receiver.pull_ids)]
        for offer_id, lent in transaction.offers.items():
            del self._by_offer[offer_id]
            until = now + self._options.tombstone_s
            self._tombstones[offer_id] = Tombstone(lent.secret, outcome.value, finished, until)
            effects.append(Release(offer_id))
        while len(self._tombstones) > self._options.tombstones_max:
            self._tombstones.popitem(last=False)
        self._look_at(now + self._options.tombstone_s)
        told = tuple((name, each.outcome or _unended(each, outcome))
                     for name, each in sorted(transaction.receivers.items()))
        missing = tuple((name, outcome) for name in sorted(transaction.audience.names - transaction.receivers.keys()))
        return [*effects, TransactionSettled(transaction.id, outcome, told + missing)]

    def _late(self, message: Ask | Confirm | Keep | Drop, now: float) -> list[Effect]:
        """Nothing of that name is lent to somebody with that secret."""
        stone = self._tombstones.get(message.offer_id)
        label = f"ref:{message.offer_id[:4].hex()}…"
        if stone is None or not hmac.compare_digest(stone.secret, message.secret):
            return self._deny(message, UnknownRef(ref=label, origin=self._me))
        if isinstance(message, Drop) or (isinstance(message, Confirm) and message.origin in stone.finished):
            return [Post(Confirmed(self._me, message.origin, message.id))]
        return self._deny(message, LeaseEnded(ref=label, origin=self._me, how=stone.how))

    def _deny(self, message: Ask | Confirm | Keep | Drop, error: ZdlError) -> list[Effect]:
        return [Post(Denial(self._me, message.origin, message.id, *to_wire(error)))]

    def _renew(self, transaction: Transaction, now: float) -> None:
        transaction.deadline = max(transaction.deadline, now + transaction.lease_s)

    def _look_at(self, when: float) -> None:
        self._next_look = when if self._next_look is None else min(self._next_look, when)


def _unended(receiver: Receiver, outcome: Outcome) -> Outcome:
    """What is told of a receiver that had begun and not ended when its transaction ended like this."""
    if outcome in (Outcome.FINISHED, Outcome.PARTIAL, Outcome.FAILED):
        return Outcome.PARTIAL if receiver.confirmed else Outcome.FAILED
    return outcome
