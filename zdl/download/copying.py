"""Copying: a file that is lent on this host is read from where it lies, as `cp` does, instead of over a wire.

Its origin hands over the open file (`zdl.download.samehost`), to be read only. That it is the right one, and has not changed, is
seen by its stamp (device, inode, size and times), which is part of the ref: before the first byte is read, and after the last.

Nothing is hashed: no byte leaves the kernel's hands but through this process. Where the file cannot be had, or an option
forbids it, it comes as all others do, and the transfer says why.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Protocol

from zdl.download.copied import CopiedSink, Kept
from zdl.download.files import Stamp
from zdl.download.patience import Limits, Patience
from zdl.download.puller import COPIED, Puller, Sink, Transfer
from zdl.download.samehost import NotHere, SameHost
from zdl.errors import Cancelled, TimedOut, ZdlError
from zdl.refs import Ref

# A copy takes one of the broker's threads (`zdl.download.lending.THREADS_MAX`) as long as it lasts; the others are for the wire.
COPIES_MAX = 2


class Sinking(Sink, Kept, Protocol):
    """What this can copy to."""


class Copier:
    """The side of a cell that pulls to a disk.

    Threads: all methods from any thread but the loops'.

    Args:
        puller: of the cell.
        same_host: asks for files.
    """

    def __init__(self, puller: Puller, same_host: SameHost) -> None:
        self._puller = puller
        self._same_host = same_host
        self._room = threading.BoundedSemaphore(COPIES_MAX)

    def pull(self, wanted: Sequence[tuple[Ref, Sinking]], limits: Limits) -> None:
        """Fetch, and return when all is kept; what is a file of this host is copied.

        Args:
            wanted: the first ref of each sink, and what takes all of them to a disk.
            limits: how long it may take, and who is told.

        Raises:
            DownloadError: the first pull that failed; the others are cancelled.
            DiskFull, DiskFailed, OptionError: it cannot be kept.
            TimedOut, Cancelled, Closed: nobody waits any more.
        """
        if not wanted:
            return
        patience = Patience(wanted[0][0].source, limits)
        transfers: dict[Sink, Transfer] = {}
        with ExitStack() as stack:
            for ref, kept in wanted:
                transfer = self._puller.note(ref.source, sum(length for _, length in (*kept.have, *kept.ranges)))
                transfers[stack.enter_context(self._landing(ref, kept, patience, transfer))] = transfer
            self._puller.pull([(ref.source, sink) for (ref, _), sink in zip(wanted, transfers)], timeout_s=patience.left_s(),
                              abort=limits.abort, progress=limits.progress, renew_s=limits.renew_s, pace=limits.pace,
                              transfers=transfers)

    # --- inside ---------------------------------------------------------------------------------

    @contextmanager
    def _landing(self, ref: Ref, kept: Sinking, patience: Patience, transfer: Transfer) -> Iterator[Sink]:
        """Where a pull of this ref shall land: in what copies it, where that can be; else in `kept` itself."""
        left = sum(length for _, length in kept.ranges)
        why = self._same_host.why_not(ref.source, left, patience) if ref.kind == "file" and ref.stamp else ""
        if why is None and not self._room.acquire(blocking=False):
            why = f"{COPIES_MAX} files are being copied already"
        if why is not None:
            transfer.why_not_shared = why
            yield kept
            return
        try:
            copied = self._copied(ref, kept, patience, transfer)
            try:
                yield kept if copied is None else copied
            finally:
                if copied is not None:
                    copied.close()
        finally:
            self._room.release()

    def _copied(self, ref: Ref, kept: Sinking, patience: Patience, transfer: Transfer) -> CopiedSink | None:
        """What copies the lent file; None, and the transfer says why, where it cannot be had."""
        try:
            told = self._same_host.ask(ref.source, {"ranges": [[ref.offset, ref.length]], "is_file": True}, patience, transfer)
            (descriptor,) = self._same_host.take(ref.source, told, 1)
            copied = CopiedSink(ref, kept, descriptor, _place_of(told, ref, descriptor))
        except NotHere as no:
            transfer.why_not_shared = self._same_host.noted(ref.origin, no)
            return None
        except ZdlError as error:
            self._puller.ended(transfer, error)
            if isinstance(error, (Cancelled, TimedOut)):
                self._same_host.given_up(ref.source)
            raise
        transfer.way = COPIED
        return copied


def _place_of(told: object, ref: Ref, descriptor: int) -> int:
    """Where the ref begins in the file that was handed over, if it is the one that the ref names; else it is closed.

    Raises:
        NotHere: it is another one.
    """
    place = told.get("place") if isinstance(told, dict) else None
    stamp = Stamp.of(os.fstat(descriptor))
    if stamp.digest == ref.stamp and isinstance(place, int) and 0 <= place <= stamp.size - ref.length:
        return place
    os.close(descriptor)
    raise NotHere(f"what {ref.origin} has handed over is not the file that the ref names", is_lasting=False)
