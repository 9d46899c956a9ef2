"""Tombstones: how offers ended, remembered for a while, so that who asks late hears which end it had.

A receiver whose CONFIRMED was lost hears it again; one that fell behind hears how the offer ended; a stranger, who shows
no secret or for whom it never was, learns no more than that there is no such offer. Asking does not prolong the memory.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from zdl.errors import LeaseEnded, UnknownRef, ZdlError
from zdl.protocol.audiences import Offer
from zdl.protocol.messages import Ask, Confirm, Drop, Keep


@dataclass(frozen=True, slots=True)
class Tombstone:
    """How an offer ended.

    Attributes:
        transaction_id: what it belonged to.
        secret: who shows it is answered.
        how: it ended.
        finished: who had it all.
        others: who else it was for, or had begun; None: whoever shows the secret.
        until: when it is forgotten.
        error: of ours, that ended it; None: it ended as things do.
    """

    transaction_id: bytes
    secret: bytes = field(repr=False)
    how: str
    finished: frozenset[str]
    others: frozenset[str] | None
    until: float
    error: ZdlError | None = None


class Tombstones:
    """The ends of one cell's offers.

    Args:
        me: our FQCN.
        kept_s: how long one is remembered.
        kept_max: how many.
    """

    def __init__(self, me: str, kept_s: float, kept_max: int) -> None:
        self._me = me
        self._kept_s = kept_s
        self._kept_max = kept_max
        self._by_offer: OrderedDict[bytes, Tombstone] = OrderedDict()
        self._transactions: OrderedDict[bytes, float] = OrderedDict()

    def __contains__(self, offer_id: bytes) -> bool:
        return offer_id in self._by_offer

    def remembers(self, transaction_id: bytes) -> bool:
        """Whether a transaction of this id has ended lately."""
        return transaction_id in self._transactions

    def ended(self, transaction_id: bytes, now: float) -> None:
        """A transaction has ended: its id stays taken."""
        self._transactions[transaction_id] = now + self._kept_s
        while len(self._transactions) > self._kept_max:
            self._transactions.popitem(last=False)

    def put(self, transaction_id: bytes, lent: Offer, how: str, *, finished: frozenset[str], others: frozenset[str] | None,
            now: float) -> None:
        """An offer has ended."""
        until = now + self._kept_s
        self._by_offer[lent.offer_id] = Tombstone(transaction_id, lent.secret, how, finished, others, until)
        while len(self._by_offer) > self._kept_max:
            self._by_offer.popitem(last=False)

    def explain(self, offer_id: bytes, error: ZdlError) -> None:
        """Who asks for it from now on hears this."""
        stone = self._by_offer.get(offer_id)
        if stone is not None:
            self._by_offer[offer_id] = replace(stone, error=error)

    def answer(self, message: Ask | Confirm | Keep | Drop) -> ZdlError | None:
        """What is said about an offer that is not lent: an error, or None: it is noted, as it was before."""
        stone = self._by_offer.get(message.offer_id)
        label = f"ref:{message.offer_id[:4].hex()}…"
        if stone is None or not hmac.compare_digest(stone.secret, message.secret):
            return UnknownRef(ref=label, origin=self._me)
        if isinstance(message, Drop) or (isinstance(message, Confirm) and message.origin in stone.finished):
            return None
        if stone.others is not None and message.origin not in stone.others and message.origin not in stone.finished:
            return UnknownRef(ref=label, origin=self._me)
        return stone.error or LeaseEnded(ref=label, origin=self._me, how=stone.how)

    def tick(self, now: float) -> None:
        """Forgets what is old."""
        while self._by_offer and next(iter(self._by_offer.values())).until <= now:
            self._by_offer.popitem(last=False)
        while self._transactions and next(iter(self._transactions.values())) <= now:
            self._transactions.popitem(last=False)

    def deadline(self) -> float | None:
        """When `tick` is wanted next."""
        times = []
        if self._by_offer:
            times.append(next(iter(self._by_offer.values())).until)
        if self._transactions:
            times.append(next(iter(self._transactions.values())))
        return min(times, default=None)

    def check(self, lent: Iterable[bytes]) -> None:
        """All invariants; for simulation."""
        assert not self._by_offer.keys() & set(lent), "an offer is lent and has ended"
