"""Producing: the origin's side of what is lent piece by piece: answers who asks, and calls the hooks.

::

    request zdl/produce ─▶ handler ─▶ Production.ask ─▶ workers: produce, pack, lend ─▶ the answer
    the data lane: a receiver has it, the transaction has ended ─▶ workers: the hooks, in order

What a user has written runs on threads of its own, under no lock. While it runs, who waits for it is told so, and waits on;
what runs for long is logged with its age, and stands in `running`.
"""

from __future__ import annotations

import hmac
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from zdl.cell.cell import BareCell
from zdl.cell.handlers import Raised, guarded
from zdl.cell.later import Later
from zdl.cell.messages import Request
from zdl.download.arrays import Buffers
from zdl.download.downloadable import Downloadable
from zdl.download.hooks import Produced
from zdl.download.lending import Lender
from zdl.download.making import Answer, Maker
from zdl.download.pieces import PRODUCE_TOPIC, Question, error_answer
from zdl.download.production import Production
from zdl.download.puller import CHANNEL
from zdl.download.transaction import Terms, Transaction
from zdl.download.workers import Running, Workers
from zdl.errors import Refused, UnknownRef, ZdlError
from zdl.objects.manifest import Manifest
from zdl.objects.pack import Lent
from zdl.protocol.offers import Audience
from zdl.refs import Ref, Source

_LOG = logging.getLogger("zdl.download")
# Who waits for an answer is told so often that it is being made; a fiftieth of the shortest timeout that is of use, 30 s,
# would do, but users' own timeouts may be a second.
TELL_S = 0.4
# A job of users' code that runs for so long is logged, and again each time its age has doubled.
SLOW_S = 30.0
# What an object of pieces is to its transaction: see `zdl.download.pieces`.
MARKER = b"\0"


@dataclass(slots=True, eq=False)
class _Waiting:
    """A receiver that waits for an answer."""

    request: Request
    later: Later
    told_at: float


@dataclass(frozen=True, slots=True)
class _Lent:
    """One object that may be asked for."""

    secret: bytes
    audience: Audience
    production: Production


class Producing:
    """What one cell lends piece by piece.

    Threads: all methods from any thread.
    Lifetime: from `attach`-ing the cell's lanes to `close`.

    Args:
        cell: whose.
        lender: opens the transactions.
    """

    def __init__(self, cell: BareCell, lender: Lender) -> None:
        self._cell = cell
        self._lender = lender
        options = cell.options.offers
        self.workers = Workers(f"zdl-produce-{cell.fqcn}", cell.fqcn, options.produce_threads_max)
        self._changed = threading.Condition()  # guards all below
        self._productions: dict[bytes, _Lent] = {}
        self._waiting: set[_Waiting] = set()
        self._ending: set[Produced] = set()
        self._watcher: threading.Thread | None = None
        self._is_closed = False
        cell.handler(CHANNEL, PRODUCE_TOPIC, resolve=False)(self._asked)

    @property
    def running(self) -> list[Running]:
        """The users' code that runs now, the oldest first."""
        return self.workers.running

    def lend(self, downloadable: Downloadable, audience: Audience, lease_s: float | None) -> Transaction:
        """Lend one object piece by piece, in a transaction of its own.

        Raises:
            Busy: a limit is reached; nothing was lent.
            Exception: what its `set_transaction` raised; nothing is lent.
        """
        produced = self.begin(audience)
        transaction = self._lender.begin(Terms(audience, lease_s), ending=produced)
        produced.transaction_id = transaction.id.hex()
        added = guarded(lambda: self.add(produced, transaction.id, downloadable))
        if isinstance(added, Raised):
            transaction.delete()
            raise added.error
        transaction.body = added
        return transaction

    def begin(self, audience: Audience) -> Produced:
        """The end of a transaction that objects may be added to, as the user's code is told it."""
        return Produced(audience, self.workers, self._ended)

    def add(self, produced: Produced, transaction_id: bytes, downloadable: Downloadable) -> Ref:
        """One more object of an open transaction.

        Raises:
            LeaseEnded: it has ended; nothing was added.
            Exception: what its `set_transaction` raised; nothing was added.
        """
        marker = Buffers(Manifest.of([len(MARKER)]), [memoryview(MARKER)])
        source = self._lender.add(transaction_id, marker, len(MARKER), is_told=True)

        def lend(manifest: Manifest, lent: Sequence[Lent]) -> tuple[Source, Callable[[], None]]:
            """The large leaves of an answer, until that is not needed any more; who has them counts for nothing by that."""
            readable = Buffers(manifest, [each.buffer for each in lent])
            leaves = self._lender.add(transaction_id, readable, manifest.bytes_total, is_counted=False)
            return leaves, lambda: self._lender.changes.withdraw(leaves)

        maker = Maker(downloadable, packing=self._cell.options.packing, lend=lend,
                      bytes_max=self._cell.options.offers.produce_bytes_max, types=self._cell.types)
        production = Production(
            downloadable, source.label, self._cell.fqcn, maker=maker, submit=self.workers.submit,
            consumed=lambda receiver, nbytes, items: produced.consumed(receiver, source.offer_id.hex(), nbytes, items))
        with self._changed:
            self._productions[source.offer_id] = _Lent(source.secret, produced.audience, production)
        raised = guarded(lambda: produced.add(production, source.offer_id))
        if isinstance(raised, Raised):
            self._forget(production)
            self._lender.changes.withdraw(source)
            raise raised.error
        return Ref(source, 0, 0, len(MARKER), "object")

    def _ended(self, produced: Produced, *, is_done: bool) -> None:
        """A transaction has ended: its pieces are not asked for any more; or all has been told."""
        with self._changed:
            (self._ending.discard if is_done else self._ending.add)(produced)
        for each in produced.productions:
            self._forget(each)

    def _forget(self, production: Production) -> None:
        with self._changed:
            for offer_id in [key for key, each in self._productions.items() if each.production is production]:
                del self._productions[offer_id]

    def close(self, timeout_s: float) -> list[str]:
        """End, after the transactions have. Returns what of users' code did not end in time."""
        left = self.workers.close(timeout_s)
        with self._changed:
            self._is_closed = True
            watcher, ending = self._watcher, list(self._ending)
            self._changed.notify_all()
        for each in ending:
            each.give_up()
        if watcher is not None:
            watcher.join()
        return [f"{self._cell.fqcn}: {what} still runs" for what in left]

    # --- answering ------------------------------------------------------------------------------

    def _asked(self, request: Request) -> object:
        try:
            question = Question.of(request.body)
            production = self._find(question, request.origin)
            if question.is_over:
                production.ask(request.origin, question, lambda answer: None)
                return None
            waiting = _Waiting(request, request.later(), time.monotonic())
        except ZdlError as error:
            return error_answer(error)
        with self._changed:
            self._waiting.add(waiting)
            if self._watcher is None and not self._is_closed:
                self._watcher = threading.Thread(target=self._watch, name=f"zdl-watch-{self._cell.fqcn}", daemon=True)
                self._watcher.start()
            self._changed.notify_all()
        production.ask(request.origin, question, lambda answer: self._tell(waiting, answer))
        return waiting.later

    def _find(self, question: Question, requester: str) -> Production:
        with self._changed:
            lent = self._productions.get(question.offer_id)
        if lent is None or not hmac.compare_digest(lent.secret, question.secret):
            raise UnknownRef(ref=f"ref:{question.offer_id[:4].hex()}…", origin=self._cell.fqcn)
        if lent.audience.is_closed and requester not in lent.audience.names:
            raise Refused(by=self._cell.fqcn, reason="not-allowed", text="it is lent to others by name")
        return lent.production

    def _tell(self, waiting: _Waiting, answer: Answer | ZdlError) -> None:
        with self._changed:
            self._waiting.discard(waiting)
        body: object = error_answer(answer) if isinstance(answer, ZdlError) else [answer.lent, *answer.frames]
        try:
            waiting.later.reply(body)
        except ZdlError as error:  # it was packed before, so this is about what is around it
            waiting.later.fail(error)

    # --- watching -------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Tell those who wait that it is being made; log what takes long."""
        logged: dict[str, float] = {}
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed or self._waiting)
                self._changed.wait_for(lambda: self._is_closed, TELL_S)
                if self._is_closed:
                    return
                waiting = list(self._waiting)
            now = time.monotonic()
            for each in waiting:
                if now >= each.told_at + TELL_S:
                    each.told_at = now
                    with suppress(ZdlError):  # he does not wait any more: that he is told by his own end
                        each.request.progress()
            logged = self._log_slow(logged)

    def _log_slow(self, logged: dict[str, float]) -> dict[str, float]:
        """What runs for long, with its age, each time that has doubled. Returns what was said of what."""
        still: dict[str, float] = {}
        for each in self.running:
            before = logged.get(each.what, SLOW_S / 2)
            if each.age_s >= 2 * before:
                _LOG.warning("= %s has been running for %.0f s", each.what, each.age_s)
                before = each.age_s
            if each.age_s >= SLOW_S:
                still[each.what] = before
        return still
