"""Offers: what this cell lends, to whom, and until when.

An **offer** is one virtual byte stream. Offers that end together are a **transaction**, which has a
lease and an audience: receivers by name, or how many. Per transaction::

            lend()      add(), withdraw(): offers come and go; hold() … seal(): until then nothing is complete
              │
            OPEN ──every counted receiver has confirmed every byte of what is counted──▶ FINISHED
              ├──every named receiver has come to some end──────────▶ PARTIAL, or FAILED if none confirmed
              ├──all that are counted have it or are lost, see below▶ PARTIAL, or FAILED if none confirmed
              ├──so many as are counted have begun and ended, nobody
              │  is active, and nobody came for lost_grace_s────────▶ PARTIAL, or FAILED if none confirmed
              ├──what is lent has changed, as was found when it was read▶ PARTIAL if one has finished, else FAILED
      ├──lease ran out, nobody asked, kept or confirmed─────▶ EXPIRED
              └──end(how): deleted, undeliverable, closed───────────▶ how
                   │
                ENDING: nobody is served; what is being read is waited for, drain_s at most ──▶ settled

and per receiver in it::

    unseen ──ASK, KEEP──▶ ACTIVE ──CONFIRM covers all──▶ FINISHED   (absorbing)
      │                     ├──a budget ran out────────▶ EXPIRED    (absorbing)
      │                     ├──DROP, "released"────────▶ PARTIAL ───┐
      │                     ├──DROP of its last pull───▶ CANCELLED ─┤
      │                     ├──the same, with an error─▶ FAILED ────┤
      │                     ├──its last pull was denied▶ FAILED ────┤ a new ASK makes it ACTIVE
      │                     └──cut off for lost_grace_s▶ LOST ──────┘ again; a CONFIRM of all FINISHED
      └──first_pull_s ran out, if named──▶ EXPIRED

Receivers that are counted have no names, so that others may come in the place of one that is lost; unless they are the
**targets** of a message: when the way to one of those is lost it is not replaced by anybody, and the transaction ends when as
many as are counted have all of it or are lost targets, and nobody is pulling.

A receiver that wants only a part (slices, some items) says so by a DROP whose reason is `RELEASED`, when it has that part.
It counts then as one that has come to its end: a transaction whose receivers are counted ends when so many have all or
have released, as PARTIAL if one of them has not all.

A receiver that had begun and not ended when the others had brought the transaction to its end is told as
PARTIAL if it had confirmed something, else as FAILED.

Each ASK, KEEP or CONFIRM moves the lease on; time alone never ends what a busy receiver uses. With the
end, in this order: receivers still pulling are told (WITHDRAWN), the objects are released as soon as nothing
is read of them, the transaction settles. A production that never returns is given up after drain_s: the
transaction settles, and what is still being read is released when that is over. How an offer ended is
remembered (`zdl.protocol.tombstones`), and no id is used twice while it is.

A question that is being answered already is not answered twice. What one receiver has asked for and is not read
yet is bounded by ``serving_bytes_max``: more of it waits for its turn, as much again; what is above that is denied.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from zdl.errors import (
    WIRE_CLASSES,
    Busy,
    Cancelled,
    Closed,
    DecodeError,
    LeaseEnded,
    LocalProtocolError,
    Refused,
    RemoteError,
    SourceChanged,
    ZdlError,
    from_wire,
)
from zdl.options import CHUNK_BYTES_MAX, OfferOptions
from zdl.protocol.audiences import UNLIMITED, Audience, Budgets, Offer, Receiver, Transaction
from zdl.protocol.effects import Effect, OfferHad, Outcome, Post, Serve, Unreachable
from zdl.protocol.endings import Endings
from zdl.protocol.expecting import Expecting
from zdl.protocol.messages import Ask, Bounce, Confirm, Confirmed, Drop, Keep, Kind
from zdl.protocol.questions import Questions, denial
from zdl.protocol.ranges import Range, grown, union
from zdl.protocol.switch import concerns
from zdl.protocol.transactions import Transactions

__all__ = ["Audience", "Budgets", "Offer", "Offers"]

FromReceiver = Ask | Confirm | Keep | Drop
# Why a receiver drops an offer of which it has all that it wants.
RELEASED = "released"
# Why a receiver drops what it could have gone on with; whatever else it says is an error of its own.
_UNWANTED = frozenset({"", RELEASED, Cancelled.code, Closed.code})
_CODES = frozenset(each.code for each in WIRE_CLASSES)


class Offers:
    """All that one cell lends.

    Attributes:
        transactions: what is open now; read only.
        expecting: whom and what each of these waits for, as their lender learns it.

    Args:
        me: our FQCN.
        options: limits and times.
    """

    def __init__(self, me: str, options: OfferOptions) -> None:
        self._me = me
        self._options = options
        self._all = self.transactions = Transactions(me, options)
        self._ends = Endings(me, options, self._all)
        self.expecting = Expecting(options, self._all, self._ends)
        self._questions = Questions(me, options, self._all)

    def __len__(self) -> int:
        return len(self._all)

    # --- commands -------------------------------------------------------------------------------

    def lend(self, transaction_id: bytes, lent: Sequence[Offer], audience: Audience, lease_s: float, now: float, *,
             budgets: Budgets = UNLIMITED, is_held: bool = False) -> None:
        """Open a transaction. One without an offer that is counted is not complete, whoever confirms what.

        Raises:
            Busy: a limit is reached; nothing was opened.
            LocalProtocolError: an id that was used before.
        """
        options = self._options
        if len(self._all) >= options.transactions_max:
            raise Busy(limit="transactions_max", value=options.transactions_max, at=self._me)
        if len(audience.names) > options.receivers_max:
            raise Busy(limit="receivers_max", value=options.receivers_max, at=self._me)
        if self._all.is_taken(transaction_id):
            raise LocalProtocolError(what="the id of a transaction was used before")
        self._may_lend(lent)
        self._all.open(Transaction(transaction_id, audience, budgets, lease_s, now + lease_s, now,
                                   {each.offer_id: each for each in lent}, is_held=is_held, opened_at=now))

    def add(self, transaction_id: bytes, offer: Offer, now: float) -> None:
        """One more offer of an open transaction; a receiver that had all before has not any more, if it is counted.

        Raises:
            Busy: a limit is reached.
            LeaseEnded: the transaction has ended.
            LocalProtocolError: an id that was used before.
        """
        transaction = self._all.get(transaction_id)
        if transaction is None:
            raise LeaseEnded(ref=f"transaction:{transaction_id[:4].hex()}…", origin=self._me, how="it has ended")
        self._may_lend([offer])
        self._renew(transaction, now)
        self._all.add(transaction, offer)

    def withdraw(self, offer_id: bytes, how: Outcome, now: float) -> list[Effect]:
        """An offer of an open transaction ends alone: who pulls it is told, it is released; the others go on.

        Without its last offer that is counted a transaction is as it was before its first one: open, and not complete.
        """
        transaction = self._all.by_offer.get(offer_id)
        if transaction is None:
            return []
        effects = self._ends.take_back(transaction, [offer_id], how, now)
        del transaction.offers[offer_id]
        for name, receiver in list(transaction.receivers.items()):
            receiver.confirmed.pop(offer_id, None)
            if transaction.outcome is None and transaction.has_all(receiver):
                effects += self._ends.settle(transaction, name, Outcome.FINISHED, now)
            elif transaction.outcome is None:
                effects += self._ends.give_up(transaction, name, None, now)
        return effects

    def end(self, transaction_id: bytes, outcome: Outcome, now: float) -> list[Effect]:
        """The lender ends it; nothing if it has ended."""
        transaction = self._all.get(transaction_id)
        return [] if transaction is None else self._ends.end(transaction, outcome, now)

    def use(self, keep: Keep, now: float, *, is_pull: bool = False) -> None:
        """Something else is made of an offer, for somebody who asks: its lease is renewed.

        Args:
            keep: what he could have said.
            now: the time.
            is_pull: whether he will have pulled it then: it counts as said.

        Raises:
            UnknownRef, LeaseEnded, Refused: it is not lent to him, or no more.
        """
        transaction = self._all.by_offer.get(keep.offer_id)
        if transaction is None or not hmac.compare_digest(transaction.offers[keep.offer_id].secret, keep.secret):
            error = self._all.tombstones.answer(keep)
        else:
            error = _objection(transaction, keep, transaction.receivers.get(keep.origin), self._options.receivers_max)
            self._renew(transaction, now)
        if error is not None:
            raise error
        if is_pull:
            self.receive(keep, now)

    def made(self, ask: Ask, error: ZdlError | None, now: float) -> list[Effect]:
        """What `Serve` asked for is read, and on its way; or cannot be produced: its receiver is told, its pull is over.

        What has changed cannot be lent any more, to nobody: its transaction ends.
        """
        effects: list[Effect] = [Serve(each) for each in self._all.readings.done(ask)]
        if error is not None:
            effects += denial(self._me, ask, error)
        transaction = self._all.by_offer.get(ask.offer_id)
        if transaction is None:
            return effects + self._ends.drained(ask.offer_id)
        if isinstance(error, SourceChanged):
            return effects + self._ends.spoil(transaction, ask, error, now)
        receiver = transaction.receivers.get(ask.origin)
        if error is not None and receiver is not None:
            receiver.ends(ask.id, ask.offer_id)
            effects += self._ends.give_up(transaction, ask.origin, Outcome.FAILED, now, error.code)
        return effects

    def close(self, now: float) -> list[Effect]:
        """End all, and wait for no production: nobody will be there to hear that it has come back."""
        return [effect for transaction in self._all for effect in (
            *self._ends.end(transaction, Outcome.CLOSED, now), *self._ends.settled(transaction.id))]

    # --- the world ------------------------------------------------------------------------------

    def receive(self, message: FromReceiver | Bounce | Unreachable, now: float) -> list[Effect]:
        """A receiver asks, confirms, keeps or drops; or is cut off."""
        match message:
            case Unreachable():
                for name in [name for name in self._all.by_name if name != self._me and concerns(message, name)]:
                    for each in self._all.by_name[name].values():
                        self._all.cut_off(each, name, now)
                return []
            case Bounce():
                return self._bounced(message, now) if message.of_kind == Kind.CHUNK else []
        transaction = self._all.by_offer.get(message.offer_id)
        if transaction is None or not hmac.compare_digest(transaction.offers[message.offer_id].secret, message.secret):
            error = self._all.tombstones.answer(message)
            return self._note(message) if error is None else denial(self._me, message, error)
        receiver = transaction.receivers.get(message.origin)
        refusal = _objection(transaction, message, receiver, self._options.receivers_max)
        if refusal is not None:
            return denial(self._me, message, refusal)
        if receiver is None:
            receiver = self._all.begin(transaction, message.origin, now)
        self._renew(transaction, now)
        receiver.heard_at, receiver.cut_off_at, transaction.abandoned_at = now, None, None
        match message:
            case Ask():
                return self._ask(transaction, receiver, message, now)
            case Confirm():
                return self._confirm(transaction, receiver, message, now)
            case Keep():
                receiver.begins(message.id, transaction.offers[message.offer_id].offer_id, now)
                return []
            case Drop():
                receiver.ends(message.id, message.offer_id)
                if message.why == RELEASED:
                    receiver.release()
                outcome = Outcome.CANCELLED if message.why in _UNWANTED else Outcome.FAILED
                why = message.why if message.why in _CODES else RemoteError.code
                return self._note(message) + self._ends.give_up(transaction, message.origin, outcome, now, why)

    def tick(self, now: float) -> list[Effect]:
        """Ends what nobody uses, forgets old tombstones."""
        effects: list[Effect] = []
        for transaction_id in self._all.calendar.due(now):
            transaction = self._all.get(transaction_id)
            if transaction is None:  # it ends, and a production of it does not return
                effects += self._ends.settled(transaction_id)
                continue
            effects += self._ends.look(transaction, now)
            if transaction.outcome is None:
                self._all.look_at(transaction)
        self._all.tombstones.tick(now)
        return effects + self._questions.tick(now)

    def deadline(self) -> float | None:
        """When `tick` is wanted next; leases may have moved on by then."""
        times = (self._all.calendar.deadline(), self._all.tombstones.deadline(), self._questions.deadline())
        return min((each for each in times if each is not None), default=None)

    def check(self) -> None:
        """All invariants; for simulation."""
        self._all.check()
        self._questions.check()

    # --- inside ---------------------------------------------------------------------------------

    def _may_lend(self, lent: Sequence[Offer]) -> None:
        most = self._options.offers_max
        if len(self._all.by_offer) + len(lent) > most:
            raise Busy(limit="offers_max", value=most, at=self._me)
        if any(self._all.is_offer_taken(each.offer_id) for each in lent):
            raise LocalProtocolError(what="the id of an offer was used before")

    def _ask(self, transaction: Transaction, receiver: Receiver, ask: Ask, now: float) -> list[Effect]:
        total = transaction.offers[ask.offer_id].bytes_total
        if not 0 < ask.length <= CHUNK_BYTES_MAX or ask.offset + ask.length > total:
            return denial(self._me, ask, DecodeError(
                what=f"bytes {ask.offset}+{ask.length} are not a chunk of an offer of {total} bytes"))
        return self._questions.ask(transaction, receiver, ask, now)

    def _confirm(self, transaction: Transaction, receiver: Receiver, confirm: Confirm, now: float) -> list[Effect]:
        offer, have = transaction.offers[confirm.offer_id], receiver.confirmed.get(confirm.offer_id, ())
        joined = union([*have, *grown(confirm.ranges, offer.gaps)])
        if (confirm.id, confirm.offer_id) not in receiver.pulls and offer.bytes_total:
            return self._note(confirm) if joined == have else []  # of another life, or never asked for: not believed
        receiver.confirmed[offer.offer_id] = joined  # our own id: that of the message is not kept
        receiver.ends(confirm.id, confirm.offer_id)
        self._questions.forget(confirm.id)  # no chunk of it is on its way any more
        told = self._note(confirm) + _had(transaction, confirm, have, joined)
        if not transaction.has_all(receiver):
            return told + self._ends.give_up(transaction, confirm.origin, None, now)
        if receiver.outcome is not Outcome.FINISHED:  # it has all, whatever was thought of it before
            receiver.outcome = None
        return told + self._ends.settle(transaction, confirm.origin, Outcome.FINISHED, now)

    def _bounced(self, bounce: Bounce, now: float) -> list[Effect]:
        """A chunk could not be delivered: its receiver is cut off; or, where a queue was full, may ask again soon."""
        transaction_id, name = self._questions.puller(bounce.id)
        transaction = self._all.get(transaction_id)
        if transaction is None:
            return []
        error = from_wire(bounce.code, dict(bounce.facts), at=bounce.origin)
        if isinstance(error, Busy):
            return [Post(Bounce(self._me, name, bounce.id, int(Kind.ASK), bounce.code, bounce.facts))]
        self._all.cut_off(transaction, name, now)
        return []

    def _note(self, message: FromReceiver) -> list[Effect]:
        return [Post(Confirmed(self._me, message.origin, message.id))]

    def _renew(self, transaction: Transaction, now: float) -> None:
        transaction.deadline = max(transaction.deadline, now + transaction.lease_s)


def _had(transaction: Transaction, confirm: Confirm, before: Sequence[Range], now_had: Sequence[Range]) -> list[Effect]:
    """What the lender is told when a receiver has all of an offer for the first time, if he wants to know."""
    offer = transaction.offers[confirm.offer_id]
    is_news = offer.is_told and offer.is_had(now_had) and not offer.is_had(before)
    return [OfferHad(transaction.id, offer.offer_id, confirm.origin)] if is_news else []


def _objection(transaction: Transaction, message: FromReceiver, receiver: Receiver | None, most: int) -> ZdlError | None:
    """Why this receiver may not have it."""
    audience, me = transaction.audience, message.target
    if receiver is not None and receiver.outcome is Outcome.EXPIRED:
        return LeaseEnded(ref=f"ref:{message.offer_id[:4].hex()}…", origin=me, how=Outcome.EXPIRED.value)
    if audience.is_closed and message.origin not in audience.names:
        return Refused(by=me, reason="not-allowed", text="it is lent to others by name")
    if receiver is None and message.origin not in audience.names:
        # Those who were named have a place, however many others come.
        strangers = len(transaction.receivers) - len(audience.names & transaction.receivers.keys())
        if strangers + len(audience.names) >= most:
            return Busy(limit="receivers_max", value=most, at=me)
    return None
