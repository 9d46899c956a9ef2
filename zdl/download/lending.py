"""Lender: what this cell lends: opens transactions, knows those that are open, reads what may block.

::

    Lender.open ─▶ data lane: offers ─▶ Transaction ─▶ ended, held, ...: `zdl.download.changes`
                        │ a range is asked for
                        ▼
    what may block (files, users' code) is read on the threads here, all else on the lane
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import MappingProxyType
from typing import Protocol

from zdl.cell.cell import BareCell
from zdl.download.born import Born
from zdl.download.changes import Changes
from zdl.download.transaction import Terms, Transaction
from zdl.errors import Closed, OptionError, ZdlError
from zdl.objects.manifest import Range
from zdl.protocol.audiences import Audience, Offer
from zdl.protocol.digests import Readable
from zdl.protocol.effects import OfferHad, Outcome, ReceiverSettled, TransactionSettled
from zdl.protocol.messages import Ask
from zdl.refs import OFFER_ID_BYTES, SECRET_BYTES, Ref, Source

# Threads that read and write what may block; the disk and the hashing are shared by all pulls.
THREADS_MAX = 4
NO_GAPS: Mapping[int, int] = MappingProxyType({})


class Ending(Protocol):
    """What has to be done at the end of a transaction before who waits for it is told; it is called on the lane."""

    def receiver_settled(self, receiver: str, outcome: Outcome) -> None:
        """One receiver has come to an end."""

    def had(self, offer_id: bytes, receiver: str) -> None:
        """One receiver has all of one offer that is told of."""

    def ended(self, outcome: Outcome, receivers: Mapping[str, Outcome], then: Callable[[], object]) -> None:
        """All has ended; `then` tells those who wait, and must be called."""


class Lender:
    """The lending side of a cell's download service.

    Threads: all methods from any thread but the loops'.
    Lifetime: from `attach`, when the cell has its lanes, to `close`.

    Args:
        cell: whose data lane is used.

    Attributes:
        born: its arrays that lie in shared memory.
        changes: what is done to a transaction once it is open.
    """

    def __init__(self, cell: BareCell) -> None:
        self._cell = cell
        self._lock = threading.Lock()  # guards the transactions, and the audience
        self._transactions: dict[bytes, Transaction] = {}
        self._audience = Audience()
        self._drain: Callable[[float], list[str]] | None = None
        self.born = Born(cell)
        self.changes = Changes(cell)
        self._pool = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix=f"zdl-broker-{cell.fqcn}")

    @property
    def fqcn(self) -> str:
        """The cell that lends."""
        return self._cell.fqcn

    @property
    def transactions(self) -> list[Transaction]:
        """Those that have not ended."""
        with self._lock:
            return list(self._transactions.values())

    def open(self, readable: Readable, bytes_total: int, audience: Audience, lease_s: float | None, *,
             enough: tuple[Range, ...] = (), gaps: Mapping[int, int] = NO_GAPS, ending: Ending | None = None,
             secret: bytes | None = None) -> tuple[Transaction, Source]:
        """Open a transaction with one offer.

        Args:
            readable: what is lent.
            bytes_total: the length of its stream.
            audience: whose confirmation ends it.
            lease_s: what ends it when nobody asks; None for the cell's default.
            enough: ranges of the stream, each of which is as good as all of it.
            gaps: what lies between the items of the stream; see `Manifest.gaps`.
            ending: has things to do at its end.
            secret: random bytes that whoever asks must know; None: new ones.

        Raises:
            Busy: a limit is reached; nothing was opened.
        """
        offer = Offer(os.urandom(OFFER_ID_BYTES), secret or os.urandom(SECRET_BYTES), bytes_total, enough, gaps=gaps)
        transaction = self.begin(Terms(audience, lease_s), [(offer, readable)], ending=ending)
        return transaction, Source(self._cell.fqcn, offer.offer_id, offer.secret, bytes_total)

    def begin(self, terms: Terms, lent: Sequence[tuple[Offer, Readable]] = (), *, ending: Ending | None = None,
              on_served: Callable[[Ask], None] | None = None) -> Transaction:
        """Open a transaction; without an offer, until there is one, it is complete for nobody.

        Args:
            terms: of it.
            lent: its first offers, each with its object.
            ending: has things to do at its end.
            on_served: gets, on the data lane, each question that is answered; None: nobody wants to know.

        Raises:
            Busy: a limit is reached; nothing was opened.
        """
        with self._lock:  # mostly it is for the same as the last one: they are kept once for all of these
            if terms.audience == self._audience:
                terms = replace(terms, audience=self._audience)
            self._audience = terms.audience
        transaction = Transaction(os.urandom(OFFER_ID_BYTES), self.changes, terms)
        watch = _Watch(self, transaction, ending)
        transaction.has_objects = bool(lent)
        seconds = self._cell.options.offers.lease_s if terms.lease_s is None else terms.lease_s
        with self._lock:
            self._transactions[transaction.id] = transaction
        try:
            self._cell.lane.lent.lend(transaction.id, lent, terms.audience, seconds, on_settled=watch.settled,
                                      on_receiver=watch.receiver_settled, on_served=on_served, budgets=terms.budgets)
        except ZdlError:
            self._has_ended(transaction)
            raise
        return transaction

    def look_up(self, identity: str | bytes | Ref) -> Transaction | None:
        """The open transaction of this id, or of this ref."""
        number: bytes | None
        if isinstance(identity, Ref):
            offer_id = identity.source.offer_id
            number = None if identity.origin != self._cell.fqcn else self._cell.lane.lent.transaction_of(offer_id)
        elif isinstance(identity, str):
            try:
                number = bytes.fromhex(identity)
            except ValueError as error:
                raise OptionError(name="identity", value=identity, allowed="an id of 32 hexadecimal digits") from error
        else:
            number = identity
        with self._lock:
            return None if number is None else self._transactions.get(number)

    def add(self, transaction_id: bytes, readable: Readable, bytes_total: int, *, is_counted: bool = True,
            is_told: bool = False, gaps: Mapping[int, int] = NO_GAPS, secret: bytes | None = None) -> Source:
        """One more offer of an open transaction.

        Args:
            transaction_id: which one.
            readable: the object.
            bytes_total: its length.
            is_counted: whether a receiver has finished only when it has this one too; a slice that is gathered for one
                receiver out of what all have is not counted.
            is_told: whether the `Ending` is told of each receiver that has it.
            gaps: what lies between its items; see `Manifest.gaps`.
            secret: random bytes that whoever asks must know; None: new ones.

        Raises:
            Busy: a limit is reached.
            LeaseEnded: the transaction has ended.
        """
        offer = Offer(os.urandom(OFFER_ID_BYTES), secret or os.urandom(SECRET_BYTES), bytes_total, is_counted=is_counted,
                      is_told=is_told, gaps=gaps)
        self._cell.lane.lent.add(transaction_id, offer, readable)
        known = self.look_up(transaction_id)
        if known is not None:
            known.has_objects = True
        return Source(self._cell.fqcn, offer.offer_id, offer.secret, bytes_total)

    def attach(self) -> None:
        """The cell has its lanes."""
        lane = self._cell.lane
        lane.use_background(self._run)
        self._drain = lane.drain

    def drain(self, timeout_s: float) -> list[str]:
        """End what is lent, let pulls tell their origins. Returns what did not finish in time."""
        return [] if self._drain is None else self._drain(timeout_s)

    def close(self) -> None:
        """Stop the threads, after `drain`."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.born.close()
        with self._lock:
            self._transactions.clear()

    def _has_ended(self, transaction: Transaction) -> None:
        """It is not among those that are open any more."""
        with self._lock:
            self._transactions.pop(transaction.id, None)

    def _run(self, job: Callable[[], None]) -> None:
        try:
            self._pool.submit(job)
        except RuntimeError as error:
            raise Closed(fqcn=self._cell.fqcn) from error


class _Watch:
    """Hears on the data lane what becomes of one transaction."""

    __slots__ = ("_lender", "_transaction", "_ending")

    def __init__(self, lender: Lender, transaction: Transaction, ending: Ending | None) -> None:
        self._lender = lender
        self._transaction = transaction
        self._ending = ending

    def settled(self, effect: TransactionSettled) -> None:
        """It has ended."""
        self._lender._has_ended(self._transaction)  # first: who has waited for its end does not find it among those that are open
        self._transaction.concluded(effect)
        if self._ending is None:
            self._transaction.settled()
        else:
            self._ending.ended(effect.outcome, dict(effect.receivers), self._transaction.settled)

    def receiver_settled(self, effect: ReceiverSettled | OfferHad) -> None:
        """A receiver has come to an end, or has one offer."""
        if isinstance(effect, ReceiverSettled):
            self._transaction.receiver_settled(effect)
            if self._ending is not None:
                self._ending.receiver_settled(effect.receiver, effect.outcome)
        elif self._ending is not None:
            self._ending.had(effect.offer_id, effect.receiver)


def audience_of(receivers: Sequence[str] | int, targets: Sequence[str] = ()) -> Audience:
    """Receivers by name, or how many.

    Args:
        receivers: names; or a number, and then each of the targets counts as one, unless more are wanted.
        targets: to whom the message goes that lends it.

    Raises:
        OptionError: a number below 0.
    """
    if isinstance(receivers, int):
        if receivers < 0:
            raise OptionError(name="receivers", value=str(receivers), allowed="names, or a number from 0 on")
        is_counted = 0 < receivers <= len(targets)
        return Audience(count=receivers, targets=frozenset(targets) if is_counted else frozenset())
    return Audience(names=frozenset(receivers))
