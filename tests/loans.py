"""Loans: what a message lends, without a lender: its test says when and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from zdl.errors import TimedOut
from zdl.protocol.effects import Outcome


@dataclass(frozen=True)
class LoanEnd:
    """How it ended."""

    outcome: Outcome
    receivers: dict[str, Outcome]

    @property
    def is_complete(self) -> bool:
        return self.outcome is Outcome.FINISHED


class Loan:
    """A transaction as cells see it; see `zdl.cell.lending.Transaction`."""

    def __init__(self, number: bytes) -> None:
        self.id = number * (16 // len(number))
        self.outcome: LoanEnd | None = None
        self._told: list[Callable[[], object]] = []

    def wait(self, timeout_s: float | None = None) -> LoanEnd:
        if self.outcome is None:
            raise TimedOut(what="the end of a transaction", address=self.id[:4].hex(), waited_s=timeout_s or 0.0)
        return self.outcome

    def delete(self) -> None:
        self.settle(Outcome.DELETED)

    def when_done(self, told: Callable[[], object]) -> None:
        self._told.append(told)
        if self.outcome is not None:
            told()

    def settle(self, outcome: Outcome = Outcome.FINISHED) -> None:
        """It ends like this."""
        self.outcome = LoanEnd(outcome, {"site-1": outcome})
        for told in self._told:
            told()
