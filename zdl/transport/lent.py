"""Lent: what services lend through the data lane: its machine, its objects, and who is told how it ended.

Threads: commands come from any thread and go through the loop; the others run on it, asked by the desk of the lane.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from zdl.errors import Closed, ZdlError
from zdl.options import OfferOptions
from zdl.protocol.audiences import UNLIMITED, Audience, Budgets, Offer, TransactionFacts
from zdl.protocol.digests import Readable
from zdl.protocol.effects import Effect, OfferHad, Post, ReceiverSettled, TransactionSettled
from zdl.protocol.messages import Ask, Chunk, Keep, Verify
from zdl.protocol.offers import Offers
from zdl.transport.chunks import Chunks
from zdl.transport.loop import Loop


@dataclass(frozen=True, slots=True)
class _Watch:
    """Whom to tell about a transaction."""

    settled: Callable[[TransactionSettled], None]
    receiver: Callable[[ReceiverSettled | OfferHad], None]
    served: Callable[[Ask], None] | None = None


class Lent:
    """What one cell lends.

    Args:
        fqcn: the cell.
        options: limits and times.
        loop: of the data lane.
    """

    def __init__(self, fqcn: str, options: OfferOptions, loop: Loop) -> None:
        self.offers = Offers(fqcn, options)
        self.chunks = Chunks(fqcn)
        self._loop = loop
        self._watches: dict[bytes, _Watch] = {}
        self._tellers: dict[bytes, Callable[[Ask], None]] = {}
        self._background: Callable[[Callable[[], None]], None] | None = None
        self._on_release: Callable[[bytes], None] = lambda offer_id: None

    # --- from any thread ------------------------------------------------------------------------

    def use_background(self, run: Callable[[Callable[[], None]], None]) -> None:
        """Who reads what may block."""
        self._background = run

    def on_release(self, told: Callable[[bytes], None]) -> None:
        """Who is told, on the lane, of each offer that nobody may pull any more."""
        self._on_release = told

    def lend(self, transaction_id: bytes, lent: Sequence[tuple[Offer, Readable]], audience: Audience, lease_s: float, *,
             on_settled: Callable[[TransactionSettled], None], on_receiver: Callable[[ReceiverSettled | OfferHad], None],
             on_served: Callable[[Ask], None] | None = None, budgets: Budgets = UNLIMITED) -> None:
        """Open a transaction. The callbacks run on the lane, so they must only hand over.

        Args:
            transaction_id: 16 bytes that were not used before.
            lent: its first offers, each with its object.
            audience: whose confirmation ends it.
            lease_s: what ends it when nobody asks.
            on_settled: it has ended; the last word.
            on_receiver: one receiver has come to an end, or has an offer that is told of.
            on_served: what a receiver has asked for goes out; None: nobody wants to know.
            budgets: how long it waits for a single receiver.

        Raises:
            Busy: a limit is reached; nothing was opened.
        """
        watch = _Watch(on_settled, on_receiver, on_served)

        def begin() -> None:
            """On the lane: the machine first; it may refuse."""
            offers = [each for each, _ in lent]
            self.offers.lend(transaction_id, offers, audience, lease_s, time.monotonic(), budgets=budgets)
            self._watches[transaction_id] = watch
            for each, readable in lent:
                self._take(each, readable, watch)

        self._loop.ask(begin)

    def add(self, transaction_id: bytes, offer: Offer, readable: Readable) -> None:
        """One more offer of an open transaction.

        Raises:
            Busy: a limit is reached.
            LeaseEnded: it has ended.
        """
        def begin() -> None:
            """On the lane: the machine first; it may refuse."""
            self.offers.add(transaction_id, offer, time.monotonic())
            self._take(offer, readable, self._watches[transaction_id])

        self._loop.ask(begin)

    def facts(self, transaction_id: bytes) -> TransactionFacts | None:
        """What is known of an open transaction now; None: it has ended."""
        return self._loop.ask(lambda: self.offers.transactions.facts(transaction_id, time.monotonic()))

    def readable(self, keep: Keep, *, is_pull: bool = False) -> Readable:
        """An object of an offer, for something else that is made of it for somebody; see `Offers.use`."""
        def find() -> Readable:
            """On the lane."""
            self.offers.use(keep, time.monotonic(), is_pull=is_pull)
            return self.chunks.readable(keep.offer_id)

        return self._loop.ask(find)

    def shared(self, keep: Keep, ranges: Sequence[tuple[int, int]]) -> None:
        """A receiver gets these bytes without asking for chunks: who wants to know what goes out is told."""
        def tell() -> None:
            """On the lane."""
            served = self._tellers.get(keep.offer_id)
            if served is None:
                return
            for offset, length in ranges:
                served(Ask(keep.origin, keep.target, keep.id, keep.offer_id, keep.secret, offset, length, Verify.NONE))

        with suppress(Closed):  # then nobody is told of anything any more
            self._loop.submit(tell)

    def transaction_of(self, offer_id: bytes) -> bytes | None:
        """The open transaction that an offer belongs to."""
        return self._loop.ask(lambda: self.offers.transactions.holding(offer_id))

    def change(self, command: Callable[[Offers, float], Iterable[Effect]]) -> None:
        """Have something done to what is lent: see the commands of `Offers`."""
        self._loop.submit(self._loop.do, lambda now: command(self.offers, now))

    # --- on the lane ----------------------------------------------------------------------------

    def serve(self, ask: Ask, now: float) -> list[Effect]:
        """Read what was asked for and send it; on a thread of the broker's, if it may block."""
        if not self.chunks.may_block(ask):
            return self._made(ask, self.chunks.make(ask), now)
        assert self._background is not None
        self._background(lambda: self._serve_later(ask))
        return []

    def release(self, offer_id: bytes) -> None:
        """Let go of an object."""
        self.chunks.release(offer_id)
        self._tellers.pop(offer_id, None)
        self._on_release(offer_id)

    def tell(self, effect: TransactionSettled | ReceiverSettled | OfferHad) -> None:
        """Tell who watches the transaction."""
        if isinstance(effect, TransactionSettled):
            self._watches.pop(effect.transaction_id).settled(effect)
        elif effect.transaction_id in self._watches:
            self._watches[effect.transaction_id].receiver(effect)

    def _take(self, offer: Offer, readable: Readable, watch: _Watch) -> None:
        self.chunks.add(offer.offer_id, readable)
        if watch.served is not None:
            self._tellers[offer.offer_id] = watch.served

    def _serve_later(self, ask: Ask) -> None:
        """On a broker's thread: read and hash, then hand over to the lane."""
        made = self.chunks.make(ask)
        with suppress(Closed):
            self._loop.submit(self._loop.do, lambda now: self._made(ask, made, now))

    def _made(self, ask: Ask, made: Chunk | ZdlError, now: float) -> list[Effect]:
        if not isinstance(made, Chunk):
            return self.offers.made(ask, made, now)
        served = self._tellers.get(ask.offer_id)
        if served is not None:
            served(ask)
        return [Post(made), *self.offers.made(ask, None, now)]
