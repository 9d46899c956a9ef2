"""Changes: what is done to a transaction once it is open, by its handle, by the message that lent it, by who makes its pieces.

::

    Transaction.delete, seal, facts ─┐
    MessageScope: undeliverable, ... ┼─▶ Changes ─▶ data lane ─▶ offers
    Produced: its leaves are had     ┘       └─ the lane is closed: all of it has ended already, and nothing is to do
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

from zdl.cell.cell import BareCell
from zdl.errors import Closed
from zdl.protocol.audiences import TransactionFacts
from zdl.protocol.effects import Effect, Outcome
from zdl.protocol.offers import Offers
from zdl.refs import Source


class Changes:
    """What one cell has done to what it lends; each of these does nothing when the transaction has ended.

    Threads: all methods from any thread but the loops'.

    Args:
        cell: whose data lane is used.
    """

    def __init__(self, cell: BareCell) -> None:
        self._cell = cell

    def facts(self, transaction_id: bytes) -> TransactionFacts | None:
        """What is known of a transaction now; None: it has ended."""
        with suppress(Closed):  # then everything that was lent has ended
            return self._cell.lane.lent.facts(transaction_id)
        return None

    def end(self, transaction_id: bytes, outcome: Outcome) -> None:
        """End a transaction."""
        self._do(lambda offers, now: offers.end(transaction_id, outcome, now))

    def withdraw(self, source: Source) -> None:
        """End one offer, and not its transaction: who pulls it is told, its object is let go."""
        self._do(lambda offers, now: offers.withdraw(source.offer_id, Outcome.DELETED, now))

    def hold(self, transaction_id: bytes, *, is_held: bool) -> None:
        """Offers of a transaction are still to come, and nothing is complete; or they are not any more."""
        self._do(lambda offers, now: offers.expecting.hold(transaction_id, is_held, now))

    def excuse(self, transaction_id: bytes, count: int) -> None:
        """So many of the receivers that are counted will not come."""
        self._do(lambda offers, now: offers.expecting.excuse(transaction_id, count, now))

    def miss(self, transaction_id: bytes, target: str) -> None:
        """The way to this target of a message was lost."""
        self._do(lambda offers, now: offers.expecting.miss(transaction_id, target, now))

    def _do(self, command: Callable[[Offers, float], Iterable[Effect]]) -> None:
        with suppress(Closed):  # then everything that was lent has ended
            self._cell.lane.lent.change(command)
