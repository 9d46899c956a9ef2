"""Transaction: the user's handle on what is lent: who has it, how it ended, and ending it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from zdl.errors import TimedOut
from zdl.protocol.effects import Outcome, ReceiverSettled, TransactionSettled


@dataclass(frozen=True, slots=True)
class TransactionOutcome:
    """How a transaction ended.

    Attributes:
        outcome: in one word.
        receivers: how it ended for each that was named or that asked.
    """

    outcome: Outcome
    receivers: dict[str, Outcome]

    @property
    def is_complete(self) -> bool:
        """Whether everybody who was counted has all of it, verified."""
        return self.outcome is Outcome.FINISHED


class Transaction:
    """What is lent together.

    Threads: all methods from any thread.

    Attributes:
        id: 16 bytes.
        body: the object that was lent, with refs in place of what is large; it may be sent to anybody.
    """

    def __init__(self, transaction_id: bytes, end: Callable[[bytes, Outcome], None]) -> None:
        self.id = transaction_id
        self.body: object = None
        self._end = end
        self._done = threading.Event()
        self._outcome: TransactionOutcome | None = None
        self._receivers: dict[str, Outcome] = {}
        self._lock = threading.Lock()  # guards the one below
        self._told: list[Callable[[], object]] = []

    def __repr__(self) -> str:
        state = self._outcome.outcome.value if self._outcome else "open"
        return f"<Transaction {self.id[:4].hex()}… {state}, {len(self._receivers)} receivers done>"

    @property
    def outcome(self) -> TransactionOutcome | None:
        """How it ended; None while it is open."""
        return self._outcome

    @property
    def receivers(self) -> dict[str, Outcome]:
        """The receivers that have come to an end so far."""
        return dict(self._receivers)

    def wait(self, timeout_s: float | None = None) -> TransactionOutcome:
        """Wait for its end.

        Raises:
            TimedOut: it is still open after `timeout_s` seconds; it stays open.
        """
        if not self._done.wait(timeout_s) or self._outcome is None:
            raise TimedOut(what="the end of a transaction", address=self.id[:4].hex(), waited_s=timeout_s or 0.0)
        return self._outcome

    def when_done(self, told: Callable[[], object]) -> None:
        """Have it called once when this has ended, now if it has; on the data lane, so it must be quick."""
        with self._lock:
            if self._outcome is None:
                self._told.append(told)
                return
        told()

    def delete(self) -> None:
        """End it: receivers that still pull are told, the objects are released."""
        self._end(self.id, Outcome.DELETED)

    def settled(self, effect: TransactionSettled) -> None:
        """For the broker: it has ended."""
        with self._lock:
            self._outcome = TransactionOutcome(effect.outcome, dict(effect.receivers))
            waiting, self._told = self._told, []
        self._done.set()
        for told in waiting:
            told()

    def receiver_settled(self, effect: ReceiverSettled) -> None:
        """For the broker: one receiver has come to its end."""
        self._receivers[effect.receiver] = effect.outcome
