"""Lending: what a message may choose about what it lends, and what its sender knows of it afterwards.

A message lends at most one transaction, which is opened when all of it has been packed. Its receivers are those to whom the
message goes, unless others are named, and it shares the fate of the message::

    it cannot be delivered ──────▶ ended at once: undeliverable
    to one of many it cannot ────▶ that one is not waited for
    the way to one is lost ──────▶ that one is waited for as long as for a receiver that is cut off
    it is there ─────────────────▶ ended when all receivers have it, or nobody has used it for `lease_s`
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, overload

from zdl.errors import OptionError, TimedOut
from zdl.options import PackOptions
from zdl.protocol.effects import Outcome

# Ten years; longer than any process lives.
LEASE_S_MAX = 10.0 * 365 * 86400
# Transactions named in an error.
SHOWN_MAX = 4


class Ended(Protocol):
    """How a transaction ended: in one word, and for each receiver."""

    @property
    def outcome(self) -> Outcome: ...

    @property
    def receivers(self) -> Mapping[str, Outcome]: ...

    @property
    def is_complete(self) -> bool: ...


class Transaction(Protocol):
    """What one message lends; see `zdl.download.transaction.Transaction`."""

    @property
    def id(self) -> bytes: ...

    @property
    def outcome(self) -> Ended | None: ...

    def wait(self, timeout_s: float | None = None) -> Ended: ...
    def delete(self) -> None: ...
    def when_done(self, told: Callable[[], object]) -> None: ...


OnLent = Callable[[Transaction], object]


@dataclass(frozen=True, slots=True)
class Lending:
    """How one message lends; nothing of it is remembered for the next one.

    Attributes:
        packing: from what size on arrays and bytes travel beside the message or by reference, and whether they may be lent at
            all (``PackOptions(lends=False)``: everything travels in the message itself); None: as the cell's options say.
        lease_s: what nobody pulls, keeps or confirms for so long is not lent any more; None: as long as the message's workflow
            has left, at least ``offers.lease_min_s``, and without a workflow ``offers.lease_s``.
        on_lent: called once, on the handler pool, with the transaction of the message when that has ended, however that was:
            see its ``outcome``. Never called for a message that lends nothing.
    """

    packing: PackOptions | None = None
    lease_s: float | None = None
    on_lent: OnLent | None = None

    def __post_init__(self) -> None:
        if self.lease_s is not None and not 0 < self.lease_s <= LEASE_S_MAX:
            raise OptionError(name="lease_s", value=str(self.lease_s), allowed=f"seconds above 0 and up to {LEASE_S_MAX:.0f}")


class Lent(Sequence[Transaction]):
    """What messages have lent: transactions that one can wait for together; empty where everything travelled by itself.

    Threads: all methods from any thread, but `wait` not from an inline handler.
    """

    __slots__ = ("_transactions",)

    def __init__(self, transactions: Sequence[Transaction] = ()) -> None:
        self._transactions = tuple(transactions)

    def __repr__(self) -> str:
        return f"<Lent: {len(self._transactions)} transactions, {len(self.open)} open>"

    def __len__(self) -> int:
        return len(self._transactions)

    def __iter__(self) -> Iterator[Transaction]:
        return iter(self._transactions)

    @overload
    def __getitem__(self, index: int) -> Transaction: ...
    @overload
    def __getitem__(self, index: slice) -> Lent: ...

    def __getitem__(self, index: int | slice) -> Transaction | Lent:
        found = self._transactions[index]
        return Lent(found) if isinstance(found, tuple) else found

    @property
    def open(self) -> list[Transaction]:
        """Those that have not ended."""
        return [each for each in self._transactions if each.outcome is None]

    @property
    def is_complete(self) -> bool:
        """Whether all have ended, and everybody has everything."""
        return all(each.outcome is not None and each.outcome.is_complete for each in self._transactions)

    def wait(self, timeout_s: float | None = None) -> list[Ended]:
        """Wait until all have ended; how, in their order.

        Raises:
            TimedOut: some are still open after `timeout_s` seconds; they stay open.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        found = []
        for each in self._transactions:
            try:
                found.append(each.wait(None if until is None else max(0.0, until - time.monotonic())))
            except TimedOut as late:
                raise self.late(timeout_s) from late
        return found

    def delete(self) -> None:
        """End them: receivers that still pull are told, the objects are released."""
        for each in self._transactions:
            each.delete()

    def late(self, waited_s: float | None) -> TimedOut:
        """What is said to who has waited long enough."""
        left = self.open
        return TimedOut(what=f"the end of {len(left)} of {len(self)} transactions",
                        address=", ".join(each.id[:4].hex() for each in left[:SHOWN_MAX]), waited_s=waited_s or 0.0)


# What a message that lends nothing has lent.
NOTHING = Lent()
