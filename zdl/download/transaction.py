"""Transaction: the user's handle on what is lent: who has it, how it ended, and ending it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

from zdl.download.outcomes import TransactionOutcome, reason_of
from zdl.errors import LeaseEnded, SourceChanged, TimedOut
from zdl.protocol.audiences import UNLIMITED, Audience, Budgets, TransactionFacts
from zdl.protocol.effects import Outcome, ReceiverSettled, TransactionSettled


@dataclass(frozen=True, slots=True)
class Terms:
    """What a transaction is opened under.

    Attributes:
        audience: whose confirmation ends it.
        lease_s: what ends it when nobody asks; None: ``options.offers.lease_s``.
        budgets: how long it waits for a single receiver.
        quorum: so many receivers with all of it are enough for `TransactionOutcome.quorum_met`; None: all of them.
    """

    audience: Audience
    lease_s: float | None = None
    budgets: Budgets = UNLIMITED
    quorum: int | None = None


class Owner(Protocol):
    """Who does what the handle is asked for: `zdl.download.changes.Changes`."""

    def end(self, transaction_id: bytes, outcome: Outcome) -> None:
        """End it."""

    def hold(self, transaction_id: bytes, *, is_held: bool) -> None:
        """Offers are still to come, or not any more."""

    def facts(self, transaction_id: bytes) -> TransactionFacts | None:
        """What is known of it now; None: it has ended."""


class Transaction:
    """What is lent together.

    A context manager: inside, objects are added, and nothing is complete before the end of the block; an exception in it
    ends the transaction. Awaitable: ``outcome = await transaction``.

    Threads: all methods from any thread.

    Attributes:
        id: 16 bytes.
        body: the object that was lent, with refs in place of what is large; it may be sent to anybody.
        has_objects: whether anything was ever lent in it.
    """

    # Ten thousand may be open: what only some of them need, and what waiting takes, is made when it is needed.
    __slots__ = ("id", "body", "has_objects", "_owner", "_terms", "_adds", "_is_done", "_outcome", "_receivers", "_lock", "_told",
                 "_caller", "__weakref__")

    def __init__(self, transaction_id: bytes, owner: Owner, terms: Terms) -> None:
        self.id = transaction_id
        self.body: object = None
        self.has_objects = False
        self._owner = owner
        self._terms = terms
        self._adds: Callable[[object], object] | None = None
        self._is_done = False
        self._outcome: TransactionOutcome | None = None
        self._receivers: dict[str, Outcome] = {}
        self._lock = threading.Lock()  # guards the two below, and whether it is done
        self._told: tuple[Callable[[], object], ...] = ()
        self._caller: int | None = None

    def __repr__(self) -> str:
        state = self._outcome.outcome.value if self._outcome else "open"
        return f"<Transaction {self.id[:4].hex()}… {state}, {len(self._receivers)} receivers done>"

    def __enter__(self) -> Transaction:
        self._owner.hold(self.id, is_held=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.seal()
        else:
            self.delete()

    def __await__(self) -> Generator[Any, None, TransactionOutcome]:
        loop = asyncio.get_running_loop()
        ended = loop.create_future()

        def tell() -> None:
            with suppress(RuntimeError):  # the event loop is closed: nobody waits there any more
                loop.call_soon_threadsafe(lambda: None if ended.done() else ended.set_result(None))

        self.when_done(tell)
        yield from ended
        assert self._outcome is not None
        return self._outcome

    @property
    def outcome(self) -> TransactionOutcome | None:
        """How it ended; None while it is open, or its productions run, or its callbacks: these know it already."""
        return self._outcome if self._is_done or self._caller == threading.get_ident() else None

    @property
    def has_ended(self) -> bool:
        """Whether nobody can pull of it any more; what was read of it, and its callbacks, may still run."""
        return self._outcome is not None

    @property
    def receivers(self) -> dict[str, Outcome]:
        """The receivers that have come to an end so far."""
        return dict(self._receivers)

    @property
    def begun(self) -> tuple[str, ...]:
        """The receivers that have pulled something, in the order in which they came."""
        facts = self.facts
        return tuple(self._receivers) if facts is None else tuple(each.name for each in facts.receivers)

    @property
    def facts(self) -> TransactionFacts | None:
        """What is known of it now, receiver by receiver; None: it has ended."""
        return None if self.has_ended else self._owner.facts(self.id)

    def add(self, obj: object) -> object:
        """Lend one more object in it, unless it was opened for one object only (`DownloadBroker.lend`).

        Args:
            obj: anything that may travel in a message; a path: the file; a `Downloadable`.

        Returns:
            The object with refs in place of arrays and bytes; for an array, bytes, a file or a `Downloadable`, one `Ref`.

        Raises:
            LeaseEnded: it has ended, or takes no more; nothing was added.
            CannotPack, OptionError, Busy: this cannot be lent; nothing was added.
        """
        if self._adds is None:
            raise LeaseEnded(ref=f"transaction:{self.id[:4].hex()}…", origin="here", how="it was opened for one object")
        return self._adds(obj)

    def seal(self) -> None:
        """All objects are added: from now on it is complete when its receivers have what there is."""
        self._owner.hold(self.id, is_held=False)

    def wait(self, timeout_s: float | None = None) -> TransactionOutcome:
        """Wait for its end, and for the callbacks that were given for it; inside one of these, its end is known already.

        Raises:
            TimedOut: it is still open after `timeout_s` seconds; it stays open.
        """
        outcome = self.outcome
        if outcome is not None:
            return outcome
        done = threading.Lock()  # a bare one is the cheapest thing to sleep on
        done.acquire()
        self.when_done(done.release)
        if not done.acquire(timeout=-1 if timeout_s is None else min(max(timeout_s, 0.0), threading.TIMEOUT_MAX)):
            with self._lock:
                self._told = tuple(each for each in self._told if each != done.release)
            raise TimedOut(what="the end of a transaction", address=self.id[:4].hex(), waited_s=timeout_s or 0.0)
        assert self._outcome is not None
        return self._outcome

    def when_done(self, told: Callable[[], object]) -> None:
        """Have it called once when this has ended, now if it has; on the data lane, so it must be quick."""
        with self._lock:
            if not self._is_done:
                self._told += (told,)
                return
        told()

    def delete(self) -> None:
        """End it: receivers that still pull are told, the objects are released."""
        self._owner.end(self.id, Outcome.DELETED)

    # --- for the broker -------------------------------------------------------------------------

    def takes(self, adds: Callable[[object], object]) -> None:
        """This is how objects are added."""
        self._adds = adds

    def calling(self, call: Callable[[], object]) -> None:
        """Make a callback of the user's about its end; in it the end may be waited for."""
        with self._lock:
            self._caller = threading.get_ident()
        try:
            call()
        finally:
            with self._lock:
                self._caller = None

    def receiver_settled(self, effect: ReceiverSettled) -> None:
        """One receiver has come to its end."""
        self._receivers[effect.receiver] = effect.outcome

    def concluded(self, effect: TransactionSettled) -> None:
        """It has ended; who waits is told later, by `settled`."""
        audience = self._terms.audience
        reason = reason_of(effect.outcome, has_objects=self.has_objects, is_counted=bool(audience.names or audience.count),
                           has_changed=effect.why == SourceChanged.code)
        self._outcome = TransactionOutcome(effect.outcome, dict(effect.receivers), sum(done for _, done in effect.confirmed),
                                           reason, self._terms.quorum, dict(effect.reasons))

    def settled(self) -> None:
        """Its callbacks have been called: tell who waits."""
        with self._lock:
            self._is_done = True
            waiting, self._told = self._told, ()
        for told in waiting:
            told()
