"""Hooks: the end of what is lent piece by piece, told to the user's code in one order, each of it exactly once.

::

    a receiver has it ──▶ downloaded_to_one
    the transaction has ended ──▶ who waits for pieces is told ─▶ running productions drain ─▶ downloaded_to_one of the
        others ─▶ downloaded_to_all ─▶ transaction_done ─▶ on_done, with the objects ─▶ who waits for the transaction is told
        ─▶ release

All of it runs on threads for users' code, one call at a time per transaction. What one of them raises is logged, and the
others are called all the same.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from zdl.cell.handlers import Raised, guarded
from zdl.download.cacheable import CacheableObject
from zdl.download.downloadable import DownloadStatus, TransactionDoneStatus
from zdl.download.meters import Meters
from zdl.download.production import Production
from zdl.download.workers import Workers
from zdl.errors import Closed, LeaseEnded
from zdl.protocol.effects import Outcome
from zdl.protocol.messages import Ask
from zdl.protocol.offers import Audience

_LOG = logging.getLogger("zdl.download")
# The end of a transaction waits so long for productions that still run; their object is released when they have ended.
DRAIN_S = 60.0

# Receivers that say nothing more themselves.
_GONE = frozenset({Outcome.LOST, Outcome.EXPIRED, Outcome.PARTIAL})

# What it is, in words, and the call.
Call = tuple[str, Callable[[], object]]


class Hooks:
    """Calls users' code in order, one at a time.

    Threads: all methods from any thread.

    Args:
        workers: whose threads.
    """

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._lock = threading.Lock()  # guards the two below
        self._calls: deque[Call] = deque()
        self._is_running = False

    def call(self, calls: Sequence[Call]) -> None:
        """Make these calls, after those before.

        Raises:
            Closed: the cell is closed, and has waited for as long as it should.
        """
        with self._lock:
            self._calls += calls
            if self._is_running:
                return
            self._is_running = True
        self._workers.submit("the end of a transaction", self._run)

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._calls:
                    self._is_running = False
                    return
                what, hook = self._calls.popleft()
            run_hook(what, hook)


def run_hook(what: str, hook: Callable[[], object]) -> None:
    """Call users' code; what it raises is logged."""
    raised = guarded(hook)
    if isinstance(raised, Raised):
        _LOG.warning("! %s raised %s: %s", what, raised.kind, raised.text, exc_info=raised.error)


class Ended(Protocol):
    """Is told that a transaction has ended, and again when all has been told and called."""

    def __call__(self, produced: Produced, *, is_done: bool) -> None: ...


@dataclass(slots=True, eq=False)
class _Object:
    """One object of a transaction; all but the production is known to the data lane only.

    Attributes:
        production: of its pieces.
        had_by: the receivers that have all of it.
        told: the receivers whose end was told.
        is_all_told: whether it was told that all have it.
    """

    production: Production
    had_by: set[str] = field(default_factory=set)
    told: set[str] = field(default_factory=set)
    is_all_told: bool = False

    def telling(self, receiver: str, status: str) -> list[Call]:
        """Once for each receiver."""
        if receiver in self.told:
            return []
        self.told.add(receiver)
        return [("downloaded_to_one", lambda: self.production.downloadable.downloaded_to_one(receiver, status))]

    def telling_all(self) -> list[Call]:
        """Once."""
        if self.is_all_told:
            return []
        self.is_all_told = True
        return [("downloaded_to_all", lambda: self.production.downloadable.downloaded_to_all())]

    def forgetting(self, receiver: str, *, is_barred: bool) -> list[Call]:
        """A receiver is gone."""
        return [(f"forgetting {receiver}", lambda: self.production.forget(receiver, is_barred=is_barred))]


class Produced:
    """The objects of one transaction that are lent piece by piece.

    Threads: `add` from any thread; `had`, `receiver_settled` and `ended` on the data lane.

    Args:
        audience: who is counted.
        workers: threads for users' code.
        ended: see `Ended`.

    Attributes:
        transaction_id: as users' code is told it.
        audience: who is counted.
        meters: who wants to know how far receivers are; None: nobody.
        on_done: is called with the status when all objects were told; None: nobody wants to know.
    """

    def __init__(self, audience: Audience, workers: Workers, ended: Ended) -> None:
        self.transaction_id = ""
        self.meters: Meters | None = None
        self.on_done: Callable[[str], object] | None = None
        self.audience = audience
        self._workers = workers
        self._ended = ended
        self._hooks = Hooks(workers)
        self._lock = threading.Lock()  # guards the three below
        self._objects: dict[bytes, _Object] = {}
        self._has_ended = False
        self._then: Callable[[], object] | None = None

    @property
    def productions(self) -> list[Production]:
        """Of its objects."""
        return [each.production for each in self._all()]

    def add(self, production: Production, offer_id: bytes) -> None:
        """One more object. What its `set_transaction` raises is raised, and it is not added.

        Raises:
            LeaseEnded: the transaction has ended meanwhile; nothing was added.
        """
        downloadable = production.downloadable
        if isinstance(downloadable, CacheableObject):
            downloadable.expect_receivers(self.audience.names, self.audience.count)
        with self._lock:
            if self._has_ended:
                raise LeaseEnded(ref=production.label, origin=production.origin, how="its transaction has ended")
            self._objects[offer_id] = _Object(production)
        raised = guarded(lambda: downloadable.set_transaction(self.transaction_id, offer_id.hex()))
        if isinstance(raised, Raised):
            with self._lock:
                del self._objects[offer_id]
            raise raised.error

    def had(self, offer_id: bytes, receiver: str) -> None:
        """A receiver has consumed all of one object."""
        known = self._objects.get(offer_id)
        if known is None:
            return
        known.had_by.add(receiver)
        calls = known.telling(receiver, DownloadStatus.SUCCESS)
        names, count = self.audience.names, self.audience.count
        if names <= known.had_by if names else 0 < count <= len(known.had_by):
            calls += known.telling_all()
        self._call(calls)

    def receiver_settled(self, receiver: str, outcome: Outcome) -> None:
        """A receiver has come to an end, for now or for good."""
        meters = self.meters
        if outcome in _GONE:
            self._call([call for each in self._all() if receiver not in each.had_by
                        for call in each.forgetting(receiver, is_barred=outcome is Outcome.EXPIRED)])
        elif outcome is Outcome.FINISHED and meters is not None:
            self._call([("on_progress", lambda: meters.finished(receiver))])

    def ended(self, outcome: Outcome, receivers: Mapping[str, Outcome], then: Callable[[], object]) -> None:
        """The transaction has ended.

        Args:
            outcome: how.
            receivers: how for each that was named or had begun.
            then: tells who waits for it.
        """
        with self._lock:
            self._then, self._has_ended = then, True
        self._ended(self, is_done=False)
        objects = self._all()
        for each in objects:
            each.production.stop(self._why_ended(each.production, outcome))
        status = done_status(outcome)
        calls: list[Call] = [("the drain of productions", self._drain)]
        for each in objects:
            for receiver in receivers:
                if receiver in self.audience.names or each.production.has_begun(receiver):
                    calls += each.telling(receiver, DownloadStatus.FAILED)  # of a success it was told already
        if outcome is Outcome.FINISHED and (self.audience.names or self.audience.count):
            calls += [call for each in objects for call in each.telling_all()]
        for each in objects:
            calls.append(("transaction_done", lambda each=each: each.production.downloadable.transaction_done(  # type: ignore[misc]
                self.transaction_id, status)))
        meters, on_done = self.meters, self.on_done
        if meters is not None:
            calls.append(("on_progress", lambda: meters.ended(dict(receivers))))
        if on_done is not None:
            calls.append(("on_done", lambda: on_done(status)))
        calls.append(("telling the end of a transaction", self.give_up))
        calls += [("release", lambda each=each: self._release(each.production)) for each in objects]  # type: ignore[misc]
        try:
            self._workers.submit("telling those who wait for pieces", lambda: self._close(outcome))
            self._hooks.call(calls)
        except Closed:
            self.give_up()

    def served(self, ask: Ask) -> None:
        """What a receiver has asked for goes out; of what is lent piece by piece that means nothing yet."""
        meters = self.meters
        if meters is not None and ask.offer_id not in self._objects:
            self._call([("on_progress", lambda: meters.served(ask))])

    def consumed(self, receiver: str, ref_id: str, nbytes: int, items: int) -> None:
        """A receiver has consumed pieces."""
        meters = self.meters
        if meters is not None:
            self._call([("on_progress", lambda: meters.consumed(receiver, ref_id, nbytes, items))])

    def give_up(self) -> None:
        """Tell who waits for the end, once, whether all has been called or not."""
        with self._lock:
            then, self._then = self._then, None
        if then is not None:
            self._ended(self, is_done=True)
            then()

    # --- inside ---------------------------------------------------------------------------------

    def _all(self) -> list[_Object]:
        with self._lock:
            return list(self._objects.values())

    def _call(self, calls: Sequence[Call]) -> None:
        with suppress(Closed):  # the cell is closed, and has waited for as long as it should
            self._hooks.call(calls)

    def _close(self, outcome: Outcome) -> None:
        """Whoever waits for pieces is told, whatever the hooks do."""
        for each in self.productions:
            each.close(self._why_ended(each, outcome))

    @staticmethod
    def _why_ended(production: Production, outcome: Outcome) -> LeaseEnded:
        return LeaseEnded(ref=production.label, origin=production.origin, how=outcome.value)

    def _drain(self) -> None:
        until = time.monotonic() + DRAIN_S
        for each in self.productions:
            if not each.wait_drained(max(0.0, until - time.monotonic())):
                _LOG.warning("! produce of %s still runs %.0f s after the end of its transaction; it is released after it",
                             each.label, DRAIN_S)

    def _release(self, production: Production) -> None:
        """The last call; not while a production reads what is to be released."""
        if production.wait_drained(0.0):
            production.downloadable.release()
            return

        def release() -> None:
            """On a thread that waits, because this end is late already."""
            production.wait_drained(None)
            run_hook("release", production.downloadable.release)

        self._workers.submit(f"release of {production.label}", release)


def done_status(outcome: Outcome) -> str:
    """How a transaction ended, in the ancestor's words."""
    if outcome in (Outcome.FINISHED, Outcome.PARTIAL, Outcome.FAILED):
        return TransactionDoneStatus.FINISHED
    return TransactionDoneStatus.TIMEOUT if outcome is Outcome.EXPIRED else TransactionDoneStatus.DELETED
