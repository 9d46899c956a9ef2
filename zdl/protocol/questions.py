"""Questions: what becomes of a receiver's question for a chunk: it passes the gate, takes its turn to be read, or is denied.

::

    ASK ──▶ gate: limit, priority ──▶ turn: its share of what is being read ──▶ Serve
              └─ waits ─▶ tick ─┘       ├─ LATER: when something else of its receiver is read
                                        ├─ TWICE: it is being answered
                                        └─ FULL: denied

Who asked is remembered by the number of his pull, for when a chunk comes back.
"""

from __future__ import annotations

from collections import OrderedDict
from sys import intern

from zdl.errors import Busy, ZdlError, to_wire
from zdl.options import OfferOptions
from zdl.protocol.audiences import Receiver, Transaction
from zdl.protocol.effects import Effect, Outcome, Post, Serve
from zdl.protocol.messages import Ask, Confirm, Denial, Drop, Keep
from zdl.protocol.pacing import WAITING_MAX, Gate
from zdl.protocol.readings import Turn
from zdl.protocol.transactions import Transactions

# Pulls whose receiver is remembered, for when a chunk comes back. More than a cell has under way (``pulls_max``).
PULLERS_MAX = 20_000


class Questions:
    """The questions for chunks that one cell is asked.

    Args:
        me: our FQCN.
        options: limits.
        transactions: what is lent.
    """

    def __init__(self, me: str, options: OfferOptions, transactions: Transactions) -> None:
        self._me = me
        self._options = options
        self._all = transactions
        self._gate = Gate(options.bwlimit_bytes_per_s)
        self._pullers: OrderedDict[int, tuple[bytes, str]] = OrderedDict()

    def puller(self, pull_id: int) -> tuple[bytes, str]:
        """The transaction and the receiver of a pull that has asked; empty if it is not remembered."""
        return self._pullers.get(pull_id, (b"", ""))

    def forget(self, pull_id: int) -> None:
        """A pull is over."""
        self._pullers.pop(pull_id, None)

    def ask(self, transaction: Transaction, receiver: Receiver, ask: Ask, now: float) -> list[Effect]:
        """A question that may be answered."""
        if self._gate.is_full:
            return denial(self._me, ask, Busy(limit="WAITING_MAX", value=WAITING_MAX, at=self._me))
        if not self._gate.passes(ask, now):
            self._begin(transaction, receiver, ask, now)
            return []
        return self._read(transaction, receiver, ask, now)

    def tick(self, now: float) -> list[Effect]:
        """What has waited at the gate may be read now, if somebody still wants it."""
        effects: list[Effect] = []
        while (ask := self._gate.next(now)) is not None:
            transaction = self._all.by_offer.get(ask.offer_id)
            receiver = None if transaction is None else transaction.receivers.get(ask.origin)
            is_wanted = receiver is not None and receiver.pulls.get((ask.id, ask.offer_id)) is not None
            if transaction is not None and receiver is not None and is_wanted:
                self._gate.passed(ask, now)
                told = self._read(transaction, receiver, ask, now)
                if told and not isinstance(told[0], Serve):  # it is denied, and its pull over
                    receiver.ends(ask.id, ask.offer_id)
                effects += told
        return effects

    def deadline(self) -> float | None:
        """When `tick` is wanted next."""
        return self._gate.deadline()

    def check(self) -> None:
        """All invariants; for simulation."""
        self._gate.check()

    def _read(self, transaction: Transaction, receiver: Receiver, ask: Ask, now: float) -> list[Effect]:
        turn = self._all.readings.take(ask)
        if turn is Turn.FULL:
            return denial(self._me, ask, Busy(limit="serving_bytes_max", value=self._options.serving_bytes_max, at=self._me))
        self._begin(transaction, receiver, ask, now)
        if turn is Turn.TWICE:
            return []
        receiver.bytes_served += ask.length
        return [Serve(ask)] if turn is Turn.NOW else []

    def _begin(self, transaction: Transaction, receiver: Receiver, ask: Ask, now: float) -> None:
        """The receiver has asked for something that it will get."""
        is_back = receiver.outcome not in (None, Outcome.FINISHED)
        if is_back:
            receiver.comes_again()
        if (ask.id, ask.offer_id) not in receiver.pulls:
            self._pullers[ask.id] = transaction.id, intern(ask.origin)
            if len(self._pullers) > PULLERS_MAX:
                self._pullers.popitem(last=False)
        receiver.begins(ask.id, transaction.offers[ask.offer_id].offer_id, now)  # our own id: that of the message is not kept
        if is_back:
            self._all.look_at(transaction)


def denial(me: str, message: Ask | Confirm | Keep | Drop, error: ZdlError) -> list[Effect]:
    """What tells a receiver that he does not get it."""
    return [Post(Denial(me, message.origin, message.id, *to_wire(error)))]
