"""DownloadBroker: lends objects, and pulls what others lend: ``cell.downloads``.

::

    lend(obj) ─▶ pack: large leaves become refs ─▶ Lender ─▶ data lane: offers
    resolve(body), pull(ref) ─▶ Fetcher ─▶ Puller ─▶ data lane: pulls ─▶ sinks ─▶ the objects

The public face, and no more: what is lent is `zdl.download.lending`, what is pulled `zdl.download.fetching`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from zdl.cell.cell import BareCell
from zdl.cell.messages import Request
from zdl.cell.signal import Signal
from zdl.download.aio import AioDownloads
from zdl.download.borrowing import Borrower
from zdl.download.consumer import Consumer, Pieces
from zdl.download.consuming import RETRIES, Consuming, OnProgress, PieceConsumer
from zdl.download.copying import Copier
from zdl.download.downloadable import Downloadable
from zdl.download.fetching import Binding, Fetcher
from zdl.download.filing import Filing
from zdl.download.gathering import Gathering
from zdl.download.lending import Lender, audience_of
from zdl.download.loans import Loans, Published
from zdl.download.patience import Limits
from zdl.download.producing import Producing
from zdl.download.puller import ADDRESSES_TOPIC, CHANNEL, Progress, Puller, Transfer
from zdl.download.samehost import SameHost
from zdl.download.scope import MessageScope
from zdl.download.sharing import Sharing
from zdl.download.spool import Spool
from zdl.download.todisk import resolve_to_disk
from zdl.download.transacting import LEND_ALL, Telling, Transacting, terms_of
from zdl.download.transaction import Transaction
from zdl.download.workers import Running
from zdl.errors import OptionError, UnknownRef
from zdl.objects.pack import pack
from zdl.objects.unpack import unpack
from zdl.observe.progress import INTERVAL_S, TransferProgress
from zdl.options import Pace, PackOptions
from zdl.refs import Ref

NAMED_TOPIC = "named"


class DownloadBroker:
    """The download service of one cell.

    Threads: all methods from any thread but the loops'; those that wait must not be called from an inline handler.
    Lifetime: ends with its cell; what is still lent then ends too, and receivers are told.

    Attributes:
        lend_file, lend_folder, pull_file, pull_folder: files in and out; see `Filing`.
        empty: an array of zeros in memory that can be shared, so that lending it copies nothing; see `Born.empty`.

    Args:
        cell: it is mounted there.
    """

    def __init__(self, cell: BareCell) -> None:
        self._cell = cell
        self._puller = Puller(cell)
        same_host = SameHost(cell)
        self._fetcher = Fetcher(cell, self._puller, Borrower(cell, same_host))
        self._lender = Lender(cell)
        self.empty = self._lender.born.empty
        self._gathering = Gathering(cell)
        self._sharing = Sharing(cell)
        self._producing = Producing(cell, self._lender)
        self._spool = Spool(cell.options.disk)
        self._copier = Copier(self._puller, same_host)
        filing = Filing(cell, self._puller, self._lender, self._copier, self.holder)
        self.lend_file, self.lend_folder = filing.lend_file, filing.lend_folder
        self.pull_file, self.pull_folder = filing.pull_file, filing.pull_folder
        self._transacting = Transacting(cell, self._lender, self._producing)
        self._published = Published()
        self._loans = Loans(cell, self._lender, self._published)
        cell.handler(CHANNEL, ADDRESSES_TOPIC, inline=True)(self._tell_addresses)
        cell.handler(CHANNEL, NAMED_TOPIC, resolve=False)(self._tell_named)

    def __repr__(self) -> str:
        return f"<DownloadBroker of {self._cell.fqcn}: {len(self._lender.transactions)} transactions>"

    @property
    def fqcn(self) -> str:
        """The cell."""
        return self._cell.fqcn

    # --- lending --------------------------------------------------------------------------------

    def transaction(self, *, receivers: Sequence[str] | int = 1, lease_s: float | None = None, quorum: int | None = None,
                    first_pull_s: float | None = None, silence_s: float | None = None, closed: bool = False,
                    on_progress: Callable[[TransferProgress], object] | None = None, progress_interval_s: float = INTERVAL_S,
                    on_done: Callable[..., object] | None = None, **given: Any) -> Transaction:
        """Open a transaction, to which objects are added: `Transaction.add`; a context manager until all are.

        Args:
            receivers: names, or how many different cells; 0: only the lease or `Transaction.delete` ends it.
            lease_s: see `lend`.
            quorum: so many receivers with all of it are enough for `TransactionOutcome.quorum_met`.
            first_pull_s: a named receiver that has pulled nothing after so long has expired; None: as long as the lease.
            silence_s: a receiver that has begun and says nothing for so long has expired; None: as long as the lease.
            closed: who is not named is refused; else he is served, and does not count.
            on_progress: gets `TransferProgress` per receiver and object.
            progress_interval_s: between two of them, at least.
            on_done: gets ``(tx_id, status, objects, **given)`` when it has ended, before the objects are released.
            given: keyword arguments for `on_done`.

        Raises:
            OptionError: a value that cannot work.
            Busy: a limit is reached.
        """
        terms = terms_of(receivers, lease_s=lease_s, quorum=quorum, first_pull_s=first_pull_s, silence_s=silence_s,
                         is_closed=closed)
        return self._transacting.open(terms, Telling(on_progress, progress_interval_s, on_done, given))

    def info(self, identity: str | bytes | Ref) -> Transaction | None:
        """The open transaction of this id (as 16 bytes, or as text), or to which this ref belongs; None: it has ended."""
        return self._lender.look_up(identity)

    def lend(self, obj: object, *, receivers: Sequence[str] | int = 1, lease_s: float | None = None) -> Transaction:
        """Lend an object: its arrays and bytes stay here until the receivers have them.

        Args:
            obj: anything that may travel in a message; or a `Downloadable`, whose pieces are made when they are wanted. It
                must not change while it is lent.
            receivers: names, or how many different cells; when they all have confirmed all of it, it is released.
                0: only the lease or `Transaction.delete` ends it.
            lease_s: ends it when nobody pulled, kept or confirmed for so long; by default ``options.offers.lease_s``.

        Returns:
            The transaction; its `body` is the object with refs in place of arrays and bytes; for a `Downloadable`, one
            `Ref` of kind ``object``.

        Raises:
            CannotPack: a leaf may not travel; nothing was lent.
        """
        if isinstance(obj, Downloadable):
            return self._producing.lend(obj, audience_of(receivers), lease_s)
        scope = MessageScope(self._lender, audience_of(receivers), lease_s, self._cell.options.packing)
        packing = replace(self._cell.options.packing, inline_bytes_max=LEND_ALL, beside_bytes_max=LEND_ALL)
        packed = pack(obj, options=packing, types=self._cell.types, lend=scope.lend)
        if scope.transaction is None:
            raise OptionError(name="obj", value=type(obj).__name__, allowed="an object with arrays or bytes to lend")
        scope.transaction.body = unpack(packed.parts, options=self._cell.options.packing, types=self._cell.types,
                                        holder=self.holder())
        return scope.transaction

    def publish(self, name: str, body: object) -> None:
        """Answer whoever asks for this name with `body`, which holds refs of what was lent; None takes the name back."""
        self._published.put(name, body)

    def find(self, origin: str, name: str, *, timeout_s: float | None = None, abort: Signal | None = None) -> object:
        """What another cell has published under a name; refs stay refs.

        Args:
            origin: the other cell.
            name: see `publish`.
            timeout_s: by default the one of calls.
            abort: triggering it ends the call.

        Raises:
            UnknownRef: nothing has that name there.
        """
        seconds = self._cell.options.calls.timeout_s if timeout_s is None else timeout_s
        found = self._cell.request(origin, CHANNEL, NAMED_TOPIC, {"name": name}, timeout_s=seconds, resolve=False, abort=abort).body
        if not isinstance(found, list) or len(found) != 1:
            raise UnknownRef(ref=f"ref:{origin}/{name}", origin=origin)
        return found[0]

    # --- pulling --------------------------------------------------------------------------------

    def pull(self, what: object, into: object = None, *, timeout_s: float | None = None, abort: Signal | None = None,
             progress: Progress | None = None, consumer: Consumer | None = None, retries: int = RETRIES,
             on_progress: OnProgress | None = None, progress_interval_s: float = INTERVAL_S,
             request_timeout_s: float | None = None, pace: Pace | None = None) -> object:
        """What a ref stands for: a writable array, or bytes; or a whole object with its refs replaced.

        Of an object that is lent piece by piece (of kind ``object``), `consumer` takes in the pieces, on this thread, and is
        returned; without one, the list of the pieces is. Its own exceptions are raised, after it was told that it failed.

        Args:
            what: a ref of any cell of the fabric, a part of one, or an object that holds refs, as `resolve` takes it.
            into: memory to receive into, without another copy: for a ref an array of the same dtype and shape, contiguous
                and writable, or for bytes a buffer of that size; for an object the same nesting with such arrays, where
                dicts may have more keys. It is what is returned; when the pull fails, what is in it is undefined.
            timeout_s: how long it may take; None: as long as bytes come (``options.pulls.stall_timeout_s``).
            abort: ends it with `Cancelled`.
            progress: called with bytes done and in all, from the data lane: it must be quick. Not for objects of pieces.
            consumer: takes in pieces.
            retries: how often in a row an answer with pieces is asked for again when the way to its origin fails.
            on_progress: gets `TransferProgress` as pieces are consumed, on this thread.
            progress_interval_s: between two of these, at least.
            request_timeout_s: for one answer with pieces, begun anew while it is being made; by default that of requests.
            pace: how fast, and who goes first; None: as the options of the cell say. Not for objects of pieces.

        Raises:
            OptionError: a consumer for what is pulled whole; or `into` does not fit, and nothing was asked for.
            DownloadError: which of them says what happened.
        """
        if isinstance(what, Ref) and what.kind == "object":
            if into is not None:
                raise OptionError(name="into", value=type(into).__name__, allowed="nothing for what is lent piece by piece")
            consuming = Consuming(timeout_s, request_timeout_s, retries, abort, on_progress, progress_interval_s)
            taking = Pieces() if consumer is None else consumer
            PieceConsumer(self._cell, self._puller, what, taking, consuming).run()
            return taking.pieces if isinstance(taking, Pieces) and consumer is None else taking
        if consumer is not None:
            raise OptionError(name="consumer", value=repr(what), allowed="for refs of kind object; all others are pulled whole")
        return self._fetcher.pull(what, into, Limits(timeout_s, abort, progress, None, pace))

    def resolve(self, body: object, timeout_s: float | None = None, *, abort: Signal | None = None,
                progress: Progress | None = None, renew_s: float | None = None, to: str = "memory",
                pace: Pace | None = None) -> object:
        """The same object with arrays and bytes in place of its refs, whichever cells lend them.

        Args:
            body: anything that may travel in a message.
            timeout_s: how long it may take; None: as long as bytes come.
            abort: ends it with `Cancelled`.
            progress: called with bytes done and in all, from the data lane: it must be quick.
            renew_s: whenever bytes come it may take so long from then.
            to: ``memory``: files stay refs; or ``disk``: each dict that holds refs becomes a `DiskDict`, whose values are loaded
                when they are touched; an array elsewhere is memory-mapped, a file becomes a `DiskFile`. All of it is in
                files without names in ``options.disk.spool_folder``, which are gone when nobody uses them any more.
            pace: how fast, and who goes first; None: as the options of the cell say.

        Raises:
            DownloadError: the first pull that failed; the others are cancelled.
            TooLarge, DiskFull, DiskFailed: there is no room on the disk.
        """
        limits = Limits(timeout_s, abort, progress, renew_s, pace)
        if to == "disk":
            return resolve_to_disk(body, self._spool, lambda wanted: self._copier.pull(wanted, limits),
                                   lambda places, keep: self._fetcher.scattered(places, keep, limits),
                                   wanted=self._cell.options.packing.tensors)
        if to != "memory":
            raise OptionError(name="to", value=repr(to), allowed="'memory' or 'disk'")
        return self._fetcher.resolve(body, limits)

    def release(self, what: object) -> None:
        """Tell the origins of these refs that this cell has what it wants of their offers, though not all.

        Who pulls all of an offer need not: that it has come is told anyway. Whoever takes only parts of one is waited for
        until the lease ends, unless he says so. A transaction that ends thereby ends as ``partial``.

        Args:
            what: a ref, or an object with refs.
        """
        self._fetcher.release(what)

    @property
    def aio(self) -> AioDownloads:
        """The awaitable twins of the calls that pull."""
        return AioDownloads(self.pull, self.resolve, self.pull_file, self.find)

    @property
    def transfers(self) -> list[Transfer]:
        """The last pulls: how much, how fast, which way and why."""
        return self._puller.transfers

    @property
    def transactions(self) -> list[Transaction]:
        """What is lent and has not ended."""
        return self._lender.transactions

    @property
    def running(self) -> list[Running]:
        """The code of users that runs here now for those who pull, the oldest first, with its age."""
        return self._producing.running

    @property
    def gathered_bytes(self) -> int:
        """Memory that parts of arrays take which were gathered for receivers and not fetched yet."""
        return self._gathering.nbytes

    # --- for the cell ---------------------------------------------------------------------------

    def scope(self, receivers: Sequence[str] | int, *, targets: Sequence[str] = (),
              lease_s: float | None = None, packing: PackOptions = PackOptions()) -> MessageScope:
        """What one message lends."""
        return MessageScope(self._lender, audience_of(receivers, targets), lease_s, packing)

    def holder(self, heard: Callable[[int, int], object] | None = None) -> Binding:
        """What refs are bound to that this cell unpacks."""
        return Binding(self.pull, self.release, heard)

    def attach(self) -> None:
        """For the cell: its lanes are made."""
        self._lender.attach()
        self._sharing.attach()

    def close(self, timeout_s: float) -> list[str]:
        """End what is lent, let pulls tell their origins, stop the threads."""
        until = time.monotonic() + timeout_s
        self._puller.end("the cell is closed")
        left = self._lender.drain(timeout_s)
        left += self._producing.close(max(0.0, until - time.monotonic()))
        self._puller.close()
        self._lender.close()
        return left

    # --- inside ---------------------------------------------------------------------------------

    def _tell_addresses(self, request: Request) -> object:
        return list(self._cell.data_addresses)

    def _tell_named(self, request: Request) -> object:
        """A list with what has the name, or an empty one: what a handler raises is no more than a `RemoteError` there."""
        name = request.body.get("name") if isinstance(request.body, dict) else None
        body = self._published.all().get(name) if isinstance(name, str) else None
        return [] if body is None else [body]
