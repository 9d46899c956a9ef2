"""The first-generation download API: one producer per transaction, callbacks per site, an idle timeout; and its files.

The names, the order of arguments and their meaning are the ancestor's; the core is that of all downloads. What differs, on
purpose: a downloader is made for one cell (``ObjDownloader(cell.downloads)``) where the ancestor's was one for the process; an
id that is taken is refused, not replaced; a site is told of once, however often it asks again; a callback runs on a thread for
users' code, under no lock; ``timeout_cb`` may be left out.
"""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from zdl.cell.handlers import Raised, guarded
from zdl.cell.signal import Signal
from zdl.download.broker import DownloadBroker
from zdl.download.consumer import Consumer
from zdl.download.consuming import RETRIES
from zdl.download.downloadable import Downloadable, Produced, ProduceRC, State, TransactionDoneStatus
from zdl.download.files import FileSource
from zdl.download.transaction import Transaction
from zdl.errors import OptionError, ZdlError
from zdl.observe.progress import INTERVAL_S, TransferProgress
from zdl.refs import OFFER_ID_BYTES, SECRET_BYTES, Ref, Source

_LOG = logging.getLogger("zdl.download")
# The ancestor's.
FILE_CHUNK_BYTES: Final = 5 << 20
RECEIVED_BYTES: Final = "received_bytes"
# Ids that the lender made: what stands behind the letter is the right to the object, as text.
_REF_CHARS = 1 + 2 * (OFFER_ID_BYTES + SECRET_BYTES)
# Ids of ended transactions that are remembered, so that they are not used twice.
ENDED_MAX = 10_000

Callback = Callable[..., object]


class Producer(ABC):
    """Makes the pieces of all objects of one transaction.

    Threads: as `Downloadable.produce`.
    """

    @abstractmethod
    def produce(self, ref_id: str, obj: Any, state: State, requester: str) -> Produced:
        """Make the piece of `obj` that a state leads to; see `Downloadable.produce`."""


class _Produced(Downloadable):
    """One object of a transaction with a producer."""

    def __init__(self, producer: Producer, obj: Any, callback: Callback | None, given: dict[str, Any]) -> None:
        super().__init__(obj)
        self.ref_id = ""
        self._producer = producer
        self._callback = callback
        self._given = given

    def produce(self, state: State, requester: str) -> Produced:
        """The producer's."""
        return self._producer.produce(self.ref_id, self.base_obj, state, requester)

    def downloaded_to_one(self, to_receiver: str, status: str) -> None:
        """The user's callback."""
        if self._callback is not None:
            self._callback(self.ref_id, to_receiver, status, self.base_obj, **self._given)


@dataclass(slots=True)
class _Opened:
    """One transaction."""

    transaction: Transaction
    producer: Producer
    names: list[str] = field(default_factory=list)
    calls_back: bool = False


class ObjDownloader:
    """Lends objects of one cell, each transaction with one producer.

    Threads: all methods from any thread.

    Args:
        broker: ``cell.downloads``.
    """

    def __init__(self, broker: DownloadBroker) -> None:
        self._broker = broker
        self._lock = threading.Lock()  # guards the four below
        self._opened: dict[str, _Opened] = {}
        self._opening: set[str] = set()
        self._ended: dict[str, None] = {}
        self._names: set[str] = set()

    def new_transaction(self, producer: Producer, timeout: float, tx_id: str | None = None,
                        timeout_cb: Callback | None = None, **cb_kwargs: Any) -> str:
        """Open a transaction.

        Args:
            producer: makes the pieces of all its objects.
            timeout: seconds in which no site asks for any of them, and no site is at one: then it ends.
            tx_id: its id; by default a new one.
            timeout_cb: gets ``(tx_id, objects, **cb_kwargs)`` when it has ended by that.

        Returns:
            Its id.

        Raises:
            OptionError: the id is taken, or the timeout is no number above 0.
        """
        number = f"T{uuid.uuid4()}" if tx_id is None else tx_id
        with self._lock:  # at once, so that of several who want it one has it
            if number in self._opened or number in self._opening or number in self._ended:
                raise OptionError(name="tx_id", value=number, allowed="an id that was not used before")
            self._opening.add(number)
        opened: list[_Opened] = []

        def done(_: str, status: str, objects: list[Any]) -> None:
            """It has ended."""
            self._forget(number)
            if timeout_cb is not None and (
                    status == TransactionDoneStatus.TIMEOUT or (opened and opened[0].calls_back)):
                timeout_cb(number, objects, **cb_kwargs)

        try:
            opened.append(_Opened(self._broker.transaction(receivers=0, lease_s=timeout, on_done=done), producer))
            with self._lock:
                self._opened[number] = opened[0]
        finally:
            with self._lock:
                self._opening.discard(number)
        if opened[0].transaction.has_ended:  # before it stood here
            self._forget(number)
        return number

    def add_download_object(self, tx_id: str, obj: Any, ref_id: str | None = None, obj_downloaded_cb: Callback | None = None,
                            **cb_kwargs: Any) -> str:
        """Lend an object in a transaction.

        Args:
            tx_id: of `new_transaction`.
            obj: what the producer is given.
            ref_id: its id; by default a new one, which is the right to it. One of your own is a name that this cell answers to:
                who knows it may have the object.
            obj_downloaded_cb: gets ``(ref_id, to_site, status, obj, **cb_kwargs)``, once per site: with a success at once,
                with a failure when the transaction ends, because until then the site may come again.

        Returns:
            Its id.

        Raises:
            OptionError: there is no such transaction, or the id is taken.
        """
        with self._lock:
            opened = self._opened.get(tx_id)
            if opened is None:
                raise OptionError(name="tx_id", value=tx_id, allowed="the id of a transaction that is open")
            if ref_id is not None:
                if ref_id in self._names:
                    raise OptionError(name="ref_id", value=ref_id, allowed="an id that is not used")
                self._names.add(ref_id)
                opened.names.append(ref_id)
        produced = _Produced(opened.producer, obj, obj_downloaded_cb, cb_kwargs)
        produced.ref_id = ref_id or ""
        ref = opened.transaction.add(produced)
        assert isinstance(ref, Ref)
        if ref_id is None:
            produced.ref_id = f"R{(ref.source.offer_id + ref.source.secret).hex()}"
            return produced.ref_id
        self._broker.publish(ref_id, ref)
        if opened.transaction.has_ended:  # meanwhile: then nobody else takes the name back
            self._broker.publish(ref_id, None)
        return ref_id

    def delete_transaction(self, tx_id: str, call_cb: bool = False) -> None:
        """End a transaction; nothing if it has ended.

        Args:
            tx_id: of `new_transaction`.
            call_cb: whether its `timeout_cb` is called.
        """
        with self._lock:
            opened = self._opened.get(tx_id)
            if opened is not None:
                opened.calls_back = call_cb
        if opened is not None:
            opened.transaction.delete()

    def shutdown(self) -> None:
        """End all transactions, with their `timeout_cb`."""
        with self._lock:
            numbers = list(self._opened)
        for number in numbers:
            self.delete_transaction(number, call_cb=True)

    def _forget(self, tx_id: str) -> None:
        with self._lock:
            opened = self._opened.pop(tx_id, None)
            self._ended[tx_id] = None
            if len(self._ended) > ENDED_MAX:
                del self._ended[next(iter(self._ended))]
            names = opened.names if opened else []
            self._names -= set(names)
        for name in names:
            self._broker.publish(name, None)


def download_object(from_fqcn: str, ref_id: str, per_request_timeout: float, broker: DownloadBroker, consumer: Consumer, *,
                    secure: bool = False, optional: bool = False, abort_signal: Signal | None = None,
                    max_retries: int = RETRIES, progress_cb: Callable[[TransferProgress], object] | None = None,
                    progress_interval: float = INTERVAL_S) -> None:
    """Pull an object by its id. How it ended, the consumer is told; what its `download_completed` raises is raised.

    Args:
        from_fqcn: the cell that lends it.
        ref_id: of `ObjDownloader.add_download_object`.
        per_request_timeout: seconds for one answer; begun anew while the origin says that it is being made.
        broker: ``cell.downloads`` of the cell that pulls.
        consumer: takes the pieces in.
        secure: only False: links are secured as a whole, or not.
        optional: a failure is expected, and logged for debugging only.
        abort_signal: ends it.
        max_retries: how often in a row an answer is asked for again.
        progress_cb: gets `TransferProgress`.
        progress_interval: seconds between two of these.

    Raises:
        OptionError: a value that cannot work.
    """
    if secure:
        raise OptionError(name="secure", value="True", allowed="False: links are secured as a whole, or not")
    ending = _Ending(consumer)
    raised = guarded(lambda: broker.pull(
        _ref_of(broker, from_fqcn, ref_id, per_request_timeout), consumer=ending, abort=abort_signal, retries=max_retries,
        on_progress=progress_cb, progress_interval_s=progress_interval, request_timeout_s=per_request_timeout))
    if not isinstance(raised, Raised):
        return
    if ending.is_completing or not isinstance(raised.error, Exception) or isinstance(raised.error, OptionError):
        raise raised.error
    if not ending.is_told:  # not even its ref was found
        consumer.download_failed(ref_id, raised.text)
    _LOG.log(logging.DEBUG if optional else logging.WARNING, "! %s of %s: %s", ref_id[:9], from_fqcn, raised.text)


class _Ending(Consumer):
    """A consumer, and what it was told of its end."""

    def __init__(self, consumer: Consumer) -> None:
        self.supports_pipelining = consumer.supports_pipelining
        self.is_completing = False
        self.is_told = False
        self._consumer = consumer

    def consume(self, ref_id: str, state: State, data: Any) -> State:
        """As it does."""
        return self._consumer.consume(ref_id, state, data)

    def download_completed(self, ref_id: str) -> None:
        """As it does."""
        self.is_completing = True
        self._consumer.download_completed(ref_id)

    def download_failed(self, ref_id: str, reason: str) -> None:
        """As it does."""
        self.is_told = True
        self._consumer.download_failed(ref_id, reason)


def _ref_of(broker: DownloadBroker, from_fqcn: str, ref_id: str, timeout_s: float) -> Ref:
    """The ref that an id stands for: the id says it itself, or its cell is asked."""
    if len(ref_id) == _REF_CHARS and ref_id.startswith("R"):
        right = bytes.fromhex(ref_id[1:])
        return Ref(Source(from_fqcn, right[:OFFER_ID_BYTES], right[OFFER_ID_BYTES:], 1), 0, 0, 1, "object")
    found = broker.find(from_fqcn, ref_id, timeout_s=timeout_s)
    if not isinstance(found, Ref):
        raise OptionError(name="ref_id", value=ref_id, allowed="the id of an object that is lent")
    return found


# --- files --------------------------------------------------------------------------------------


class _FileProducer(Producer):
    """Pieces of 5 MiB; the receiver says how much it has. A file that changes meanwhile ends the download."""

    def __init__(self, fqcn: str) -> None:
        self._fqcn = fqcn

    def produce(self, ref_id: str, obj: Any, state: State, requester: str) -> Produced:
        """The bytes from where the receiver is."""
        at = state.get(RECEIVED_BYTES, 0)
        if type(at) is not int or at < 0:
            return ProduceRC.ERROR, f"{RECEIVED_BYTES} is {at!r}", {}
        if at >= obj.bytes_total:
            return ProduceRC.EOF, None, {}
        data = b"".join(obj.read(at, min(FILE_CHUNK_BYTES, obj.bytes_total - at)))
        return ProduceRC.OK, data, {RECEIVED_BYTES: at + len(data)}


class FileDownloader:
    """Lends files of one cell.

    Threads: all methods from any thread.

    Args:
        broker: ``cell.downloads``.
    """

    def __init__(self, broker: DownloadBroker) -> None:
        self._broker = broker
        self._objects = ObjDownloader(broker)

    def new_transaction(self, timeout: float, timeout_cb: Callback | None = None, **cb_kwargs: Any) -> str:
        """Open a transaction; `timeout_cb` gets ``(tx_id, file_names, **cb_kwargs)``. See `ObjDownloader.new_transaction`."""
        def named(tx_id: str, files: list[Any]) -> None:
            """With the names that the user gave."""
            if timeout_cb is not None:
                timeout_cb(tx_id, [each.name for each in files], **cb_kwargs)

        return self._objects.new_transaction(_FileProducer(self._broker.fqcn), timeout, None, named)

    def add_file(self, transaction_id: str, file_name: str, ref_id: str | None = None,
                 file_downloaded_cb: Callback | None = None, **cb_kwargs: Any) -> str:
        """Lend a file; the callback gets ``(ref_id, to_site, status, file_name, **cb_kwargs)``, once per site.

        Raises:
            OptionError: it is missing, unreadable or no regular file; or as `ObjDownloader.add_download_object`.
        """
        def named(ref_id: str, to_site: str, status: str, file: Any) -> None:
            """With the name that the user gave."""
            if file_downloaded_cb is not None:
                file_downloaded_cb(ref_id, to_site, status, file.name, **cb_kwargs)

        lent = _LentFile(FileSource(Path(file_name), self._broker.fqcn), file_name)
        return self._objects.add_download_object(transaction_id, lent, ref_id, named)

    def delete_transaction(self, transaction_id: str, call_cb: bool = False) -> None:
        """See `ObjDownloader.delete_transaction`."""
        self._objects.delete_transaction(transaction_id, call_cb)

    def shutdown(self) -> None:
        """See `ObjDownloader.shutdown`."""
        self._objects.shutdown()


@dataclass(slots=True)
class _LentFile:
    """A file, and its name as the user gave it."""

    source: FileSource
    name: str

    @property
    def bytes_total(self) -> int:
        """Its size."""
        return self.source.bytes_total

    def read(self, offset: int, length: int) -> list[bytes | memoryview]:
        """Some of it."""
        return self.source.read(offset, length)


class _FileConsumer(Consumer):
    """Writes to a file that gets its name when all of it is there."""

    supports_pipelining = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.error: str | None = None
        self._part = path.with_name(f".{path.name}.zdl-part")
        self._file = open(self._part, "xb")

    def consume(self, ref_id: str, state: State, data: Any) -> State:
        """The next bytes."""
        self._file.write(data)
        if state.get(RECEIVED_BYTES) != self._file.tell():
            raise ValueError(f"the origin is at byte {state.get(RECEIVED_BYTES)}, this file at {self._file.tell()}")
        return state

    def download_completed(self, ref_id: str) -> None:
        """It has its name when the disk has it."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self._part, self.path)

    def download_failed(self, ref_id: str, reason: str) -> None:
        """Nothing is left of it."""
        self.error = reason
        self._file.close()
        self._part.unlink(missing_ok=True)


def download_file(from_fqcn: str, ref_id: str, per_request_timeout: float, broker: DownloadBroker,
                  location: str | None = None, *, secure: bool = False, optional: bool = False,
                  abort_signal: Signal | None = None) -> tuple[str | None, str]:
    """Pull a file to a new name in a folder.

    Args:
        from_fqcn: the cell that lends it.
        ref_id: of `FileDownloader.add_file`.
        per_request_timeout: see `download_object`.
        broker: ``cell.downloads`` of the cell that pulls.
        location: a folder; by default that for temporary files.
        secure: see `download_object`.
        optional: see `download_object`.
        abort_signal: ends it.

    Returns:
        Why it failed, or None; and its path, under which there is nothing when it failed.

    Raises:
        OptionError: the folder is none.
    """
    folder = Path(tempfile.gettempdir() if location is None else location)
    if not folder.is_dir():
        raise OptionError(name="location", value=str(folder), allowed="a folder that exists")
    consumer = _FileConsumer(folder / uuid.uuid4().hex)
    raised = guarded(lambda: download_object(from_fqcn, ref_id, per_request_timeout, broker, consumer, secure=secure,
                                             optional=optional, abort_signal=abort_signal))
    if isinstance(raised, Raised):
        if consumer.error is None:
            consumer.download_failed(ref_id, raised.text)
        if not isinstance(raised.error, (OSError, ZdlError)):
            raise raised.error
    return consumer.error, str(consumer.path)
