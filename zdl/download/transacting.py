"""Transacting: transactions that the user opens, adds objects to, and is told about.

::

    open ─▶ add … ─▶ seal, or the end of the ``with`` block ─▶ receivers pull ─▶ it ends
        ─▶ productions drain ─▶ downloaded_to_one, downloaded_to_all, transaction_done ─▶ on_done, with the objects
        ─▶ who waits is told ─▶ release, and the objects are let go

The callbacks run on threads for users' code, one at a time per transaction, under no lock. What they raise is logged.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from zdl.cell.cell import BareCell
from zdl.download.downloadable import Downloadable
from zdl.download.files import FileSource
from zdl.download.guards import guarded
from zdl.download.hooks import Produced, run_hook
from zdl.download.lending import Lender, audience_of
from zdl.download.meters import Meters
from zdl.download.producing import Producing
from zdl.download.transaction import Terms, Transaction
from zdl.errors import LeaseEnded, OptionError
from zdl.objects.manifest import Manifest
from zdl.objects.pack import Lent, pack
from zdl.objects.unpack import unpack
from zdl.observe.progress import INTERVAL_S, TransferProgress
from zdl.protocol.audiences import Budgets
from zdl.refs import SECRET_BYTES, Ref, Source

_LOG = logging.getLogger("zdl.download")
# Everything goes by reference when an object is lent on purpose.
LEND_ALL = 1


@dataclass(frozen=True, slots=True)
class Telling:
    """Whom to tell about a transaction.

    Attributes:
        on_progress: gets `TransferProgress`, per receiver and object.
        progress_interval_s: between two of them, at least.
        on_done: gets the transaction's id, its status (`TransactionDoneStatus`), the objects, and `given`.
        given: keyword arguments for `on_done`.
    """

    on_progress: Callable[[TransferProgress], object] | None = None
    progress_interval_s: float = INTERVAL_S
    on_done: Callable[..., object] | None = None
    given: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Opened:
    """One transaction, and what was added to it."""

    transaction: Transaction
    produced: Produced
    objects: list[object]


class Transacting:
    """Opens transactions for the user of one cell.

    Threads: all methods from any thread but the loops'.

    Args:
        cell: whose.
        lender: opens them.
        producing: lends what is made piece by piece.
    """

    def __init__(self, cell: BareCell, lender: Lender, producing: Producing) -> None:
        self._cell = cell
        self._lender = lender
        self._producing = producing

    def open(self, terms: Terms, telling: Telling) -> Transaction:
        """Open a transaction without objects.

        Raises:
            Busy: a limit is reached.
        """
        self._warn_of_budgets(terms)
        produced = self._producing.begin(terms.audience)
        meters = None
        if telling.on_progress is not None:
            on_progress = telling.on_progress
            meters = Meters(lambda event: run_hook("on_progress", lambda: on_progress(event)), telling.progress_interval_s)
            produced.meters = meters
        transaction = self._lender.begin(terms, ending=produced, on_served=None if meters is None else produced.served)
        produced.transaction_id = transaction.id.hex()
        if meters is not None:
            meters.transaction_id = transaction.id.hex()
        opened = _Opened(transaction, produced, [])

        def done(status: str) -> None:
            """The objects are handed over, and then let go."""
            objects = [each.base_obj if isinstance(each, Downloadable) else each for each in opened.objects]
            opened.objects.clear()
            if telling.on_done is not None:
                on_done = telling.on_done
                transaction.calling(lambda: on_done(transaction.id.hex(), status, objects, **telling.given))

        produced.on_done = done
        transaction.takes(lambda obj: self._add(opened, obj))
        return transaction

    def _warn_of_budgets(self, terms: Terms) -> None:
        """A budget that is no shorter than the lease takes effect only while other receivers keep that alive."""
        lease_s = self._cell.options.offers.lease_s if terms.lease_s is None else terms.lease_s
        for name, value in (("first_pull_s", terms.budgets.first_pull_s), ("silence_s", terms.budgets.silence_s)):
            if value is not None and value >= lease_s:
                _LOG.warning("! %s=%g is no shorter than lease_s=%g: where nobody else renews the lease, that ends first",
                             name, value, lease_s)

    def _add(self, opened: _Opened, obj: object) -> object:
        if opened.transaction.has_ended:
            raise LeaseEnded(ref=f"transaction:{opened.transaction.id[:4].hex()}…", origin=self._cell.fqcn, how="it has ended")
        opened.objects.append(obj)
        is_added = False
        try:
            added = self._lend(opened, obj)
            is_added = True
        finally:
            if not is_added:
                opened.objects.remove(obj)
        return added

    def _lend(self, opened: _Opened, obj: object) -> object:
        number = opened.transaction.id
        if isinstance(obj, Downloadable):
            return self._producing.add(opened.produced, number, obj)
        if isinstance(obj, os.PathLike):
            path = Path(obj)
            readable = FileSource(path, self._cell.fqcn)
            source = self._lender.add(number, readable, readable.bytes_total)
            return Ref(source, 0, 0, readable.bytes_total, "file", name=path.name)
        added: list[Source] = []

        def lend(manifest: Manifest, lent: Sequence[Lent]) -> Source:
            """The large leaves become one more offer."""
            secret = os.urandom(SECRET_BYTES)
            readable = guarded(manifest, lent, packing, self._cell.fqcn, secret=secret, born=self._lender.born)
            added.append(self._lender.add(number, readable, manifest.bytes_total, gaps=manifest.gaps, secret=secret))
            return added[0]

        packing = replace(self._cell.options.packing, inline_bytes_max=LEND_ALL, beside_bytes_max=LEND_ALL)
        packed = pack(obj, options=packing, types=self._cell.types, lend=lend)
        if not added:
            raise OptionError(name="obj", value=type(obj).__name__, allowed="an object with arrays or bytes to lend")
        return unpack(packed.parts, options=self._cell.options.packing, types=self._cell.types)


def terms_of(receivers: Sequence[str] | int, *, lease_s: float | None, quorum: int | None, first_pull_s: float | None,
             silence_s: float | None, is_closed: bool) -> Terms:
    """What a transaction is opened under, as the user says it.

    Raises:
        OptionError: a value that cannot work, by name.
    """
    audience = replace(audience_of(receivers), is_closed=is_closed)
    if is_closed and not audience.names:
        raise OptionError(name="closed", value="True", allowed="for receivers by name: who else is refused")
    most = len(audience.names) or audience.count
    if quorum is not None and not 1 <= quorum <= most:
        raise OptionError(name="quorum", value=str(quorum), allowed=f"from 1 to the number of receivers, {most}")
    for name, value in (("lease_s", lease_s), ("first_pull_s", first_pull_s), ("silence_s", silence_s)):
        if value is not None and not value > 0:
            raise OptionError(name=name, value=str(value), allowed="a number above 0, or None")
    if first_pull_s is not None and not audience.names:
        raise OptionError(name="first_pull_s", value=str(first_pull_s), allowed="for receivers by name: nobody else is missed")
    return Terms(audience, lease_s, Budgets(first_pull_s, silence_s), quorum)
