"""Loans: what this cell lends, told to whoever asks, and ended by others where the cell allows that.

::

    zdl/loans     {"after": 32 digits or "", "count": 100} ─▶ {"loans": […], "next": where to go on, or ""}
    zdl/end-loan  {"what": "a published name, or the first digits of an id"} ─▶ {"ended": [ids]}

What is told names no secret: nobody can pull by it. To end what another cell lends is an act on that cell: it is refused unless
``offers.removable`` says that it may be done.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

from zdl.cell.cell import BareCell
from zdl.cell.messages import Request
from zdl.download.lending import Lender
from zdl.download.transaction import Transaction
from zdl.errors import OptionError, UnknownRef
from zdl.objects.externalize import find_refs
from zdl.observe.loans import HolderFacts, LoanFacts
from zdl.protocol.audiences import ReceiverFacts, TransactionFacts
from zdl.protocol.effects import Outcome
from zdl.refs import Ref

CHANNEL = "zdl"
LOANS_TOPIC = "loans"
END_TOPIC = "end-loan"
# Of one answer: with as many holders as are told of each it has about 100 KiB.
PAGE_MAX = 100
# Holders, and names of those who are waited for, that are told of one transaction.
HOLDERS_TOLD_MAX = 64
# Digits of an id that name a transaction: less are guessed, or met by chance.
DIGITS_MIN = 8


class Published:
    """What a cell gives to whoever asks for it by name.

    Threads: all methods from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the one below
        self._named: dict[str, object] = {}

    def put(self, name: str, body: object) -> None:
        """Give `body` under this name; None takes the name back."""
        with self._lock:
            if body is None:
                self._named.pop(name, None)
            else:
                self._named[name] = body

    def all(self) -> dict[str, object]:
        """By name."""
        with self._lock:
            return dict(self._named)


class Loans:
    """Tells what one cell lends.

    Threads: all methods from any thread.

    Args:
        cell: whose.
        lender: knows the transactions.
        published: what has names here.
    """

    def __init__(self, cell: BareCell, lender: Lender, published: Published) -> None:
        self._cell = cell
        self._lender = lender
        self._published = published
        cell.handler(CHANNEL, LOANS_TOPIC, resolve=False)(self._tell)
        cell.handler(CHANNEL, END_TOPIC, resolve=False)(self._end)

    def page(self, after: str = "", count: int = PAGE_MAX) -> tuple[list[LoanFacts], str]:
        """The open transactions behind this one in the order of their ids, and the id to go on from; empty at the end."""
        open_now = sorted(self._lender.transactions, key=lambda each: each.id)
        behind = [each for each in open_now if each.id.hex() > after]
        told = behind[:max(1, min(count, PAGE_MAX))]
        names = self._names()
        facts = [_loan(each, known, names) for each in told if (known := each.facts) is not None]
        return facts, told[-1].id.hex() if len(told) < len(behind) else ""

    def end(self, what: str) -> list[str]:
        """End what is published under a name, or the transaction whose id begins like this. Returns the ids of what was ended.

        Raises:
            UnknownRef: nothing open here has this name or id.
            OptionError: several have.
        """
        body = self._published.all().get(what)
        if body is not None:
            found = [each for ref in find_refs(body) if (each := self._lender.look_up(ref)) is not None]
        else:
            digits = what.rstrip("…").lower()
            found = [each for each in self._lender.transactions if len(digits) >= DIGITS_MIN and each.id.hex().startswith(digits)]
            if len(found) > 1:
                raise OptionError(name="ref", value=what, allowed=f"more digits: {len(found)} ids begin like this")
        ended = {each.id.hex(): each for each in found}
        if not ended and body is None:
            raise UnknownRef(ref=f"ref:{self._cell.fqcn}/{what}", origin=self._cell.fqcn)
        if body is not None:
            self._published.put(what, None)
        for each in ended.values():
            each.delete()
        return list(ended)

    # --- asked by other cells -------------------------------------------------------------------

    def _tell(self, request: Request) -> object:
        asked = request.body if isinstance(request.body, dict) else {}
        after, count = asked.get("after"), asked.get("count")
        facts, behind = self.page(after if isinstance(after, str) else "", count if isinstance(count, int) else PAGE_MAX)
        return {"loans": [each.plain() for each in facts], "next": behind}

    def _end(self, request: Request) -> object:
        if not self._cell.options.offers.removable:
            raise request.refused("not-allowed", "it does not let others end what it lends; its own options or command line may "
                                  "allow that: offers.removable, zdl put --removable, zdl start --removable")
        what = request.body.get("what") if isinstance(request.body, dict) else None
        try:
            return {"ended": self.end(what if isinstance(what, str) else "")}
        except (UnknownRef, OptionError) as error:
            raise request.refused("unknown-ref" if isinstance(error, UnknownRef) else "not-unique", str(error)) from error

    def _names(self) -> dict[bytes, list[str]]:
        """By offer, the names under which it is published."""
        found: dict[bytes, list[str]] = {}
        for name, body in self._published.all().items():
            for offer_id in dict.fromkeys(ref.source.offer_id for ref in find_refs(body)):
                found.setdefault(offer_id, []).append(name)
        return found


def _loan(transaction: Transaction, facts: TransactionFacts, names: Mapping[bytes, list[str]]) -> LoanFacts:
    own = dict.fromkeys(name for offer_id, _ in facts.offers for name in names.get(offer_id, ()))
    audience = facts.audience
    return LoanFacts(
        facts.id.hex(), _what(transaction.body), tuple(own), tuple(label_of(each) for each, _ in facts.offers),
        facts.offers_count, "filling" if facts.is_held else "open", facts.bytes_total, facts.age_s, facts.lease_left_s,
        tuple(_holder(each) for each in facts.receivers[:HOLDERS_TOLD_MAX]), len(facts.receivers),
        len(audience.names) or audience.count, sum(each.outcome is Outcome.FINISHED for each in facts.receivers),
        facts.waits_for[:HOLDERS_TOLD_MAX])


def _holder(facts: ReceiverFacts) -> HolderFacts:
    state = "pulling" if facts.is_pulling else "idle"
    if facts.outcome is not None:
        state = facts.outcome.value
    elif facts.is_cut_off:
        state = "cut off"
    return HolderFacts(facts.name, state, facts.bytes_confirmed, facts.bytes_served, facts.silent_s)


def label_of(offer_id: bytes) -> str:
    """As `zdl.refs.Source` names itself to people."""
    return f"ref:{offer_id[:4].hex()}…"


def _what(body: object) -> str:
    if isinstance(body, Ref):
        return f"{body.kind} {body.name}".strip()
    return "" if body is None else type(body).__name__
