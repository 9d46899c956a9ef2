"""Expecting: what a transaction still waits for: offers that its lender has yet to add, receivers that may not come any more.

::

                    held ◀──hold(True)── OPEN ──excuse(n)──▶ n receivers fewer are waited for; never fewer than one
                      │                   │ ▲ │
    nothing completes │                   │ │ └──miss(name)──▶ cut off: LOST after lost_grace_s, unless it asks before
                      └───hold(False)─────┼─┘
                                          ▼
                     what its receivers have come to is looked at anew: it may be the end

The states of a transaction, and of a receiver in it, stand in `zdl.protocol.offers`.
"""

from __future__ import annotations

from dataclasses import replace

from zdl.options import OfferOptions
from zdl.protocol.effects import Effect
from zdl.protocol.endings import Endings
from zdl.protocol.transactions import Transactions


class Expecting:
    """Whom and what the transactions of one table wait for, as their lender learns it.

    Args:
        options: limits.
        transactions: the table.
        endings: what follows from it.
    """

    def __init__(self, options: OfferOptions, transactions: Transactions, endings: Endings) -> None:
        self._options = options
        self._all = transactions
        self._ends = endings

    def hold(self, transaction_id: bytes, is_held: bool, now: float) -> list[Effect]:
        """Offers are still to come, and nothing is complete; or they are not any more."""
        transaction = self._all.get(transaction_id)
        if transaction is None:
            return []
        transaction.is_held, transaction.waits_since = is_held, now
        self._all.look_at(transaction)
        return self._ends.conclude(transaction, now)

    def excuse(self, transaction_id: bytes, count: int, now: float) -> list[Effect]:
        """So many of the receivers that are counted will not come: they are not waited for. Those with names are; one always is."""
        transaction = self._all.get(transaction_id)
        if transaction is None or transaction.audience.names or transaction.audience.count == 0:
            return []
        transaction.audience = replace(transaction.audience, count=max(1, transaction.audience.count - count))
        return self._ends.conclude(transaction, now)

    def miss(self, transaction_id: bytes, name: str, now: float) -> list[Effect]:
        """The way to this target was lost while its answer was waited for: unless it asks in time, it is lost too."""
        transaction = self._all.get(transaction_id)
        if transaction is None or name not in transaction.audience.names | transaction.audience.targets:
            return []
        if name not in transaction.receivers and len(transaction.receivers) < self._options.receivers_max:
            self._all.begin(transaction, name, now)
        if name in transaction.receivers:
            self._all.cut_off(transaction, name, now)
        return []
