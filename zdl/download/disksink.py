"""DiskSink: where the bytes of a pull land that go to a disk.

Chunks come in any order, and are written by the broker's threads. When all are written, the disk has to keep them and
their name before the origin is told that they are here: see `Place.settle`.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from zdl.download.diskerrors import disk_error, disk_full
from zdl.download.names import RECORD, hidden
from zdl.download.places import Place
from zdl.download.records import Record, digest_of
from zdl.download.spare import Spare
from zdl.objects.manifest import Range
from zdl.options import CHUNK_BYTES_MAX
from zdl.refs import Ref


class DiskSink:
    """Takes the bytes of one ref to a place on a disk.

    Threads: `view` from the data lane, `keep` and `finish` from the broker's threads, `abandon` from who has waited.

    Attributes:
        ranges: what has to be pulled.
        have: what a former pull of the same content has left, verified again.

    Args:
        path: what the user calls the place.
        ref: what lands there.
        place: makes the place, or raises OSError.
        identity: of the content, if what comes shall be kept for a later pull when this one does not get to its end; else
            None.

    Raises:
        OptionError: it cannot be made.
        DiskFull: there is no room; nothing was pulled.
    """

    def __init__(self, path: Path, ref: Ref, place: Callable[[], Place], *, identity: bytes | None = None) -> None:
        self._path = path
        self._ref = ref
        self._spare = Spare()
        self._changed = threading.Condition()  # guards the three below
        self._writing = 0
        self._is_ended = False
        self._is_settled = False
        self._record: Record | None = None
        self.have: list[Range] = []
        with ExitStack() as undo:
            try:
                self._place = place()
                undo.callback(self._place.close)
                undo.callback(self._discard_nothing)
                self._begin(hidden(path, RECORD), identity)
                self.ranges = missing((ref.offset, ref.length), self.have)
                need = sum(length for _, length in self.ranges)
                if shutil.disk_usage(path.parent).free < need:
                    raise disk_full(ref, path, need=need)
            except OSError as error:
                raise disk_error(error, ref, path) from error
            undo.pop_all()

    @property
    def may_block(self) -> bool:
        """Disks do."""
        return True

    def view(self, offset: int, length: int) -> memoryview:
        """Memory for one chunk on its way to the disk."""
        return self._spare.take(length)

    def keep(self, offset: int, view: memoryview) -> None:
        """Write a verified chunk; nothing when the pull has been given up meanwhile."""
        with self._changed:
            if self._is_ended:
                return
            self._writing += 1
        try:
            self._place.write(offset, view)
            if self._record is not None:
                self._record.note(offset, view)
        except OSError as error:
            raise disk_error(error, self._ref, self._path) from error
        finally:
            with self._changed:
                self._writing -= 1
                self._changed.notify_all()
        self._spare.give_back(view)

    def finish(self) -> None:
        """All is verified and written: have the disk keep it, under its name.

        Raises:
            OptionError, DiskFull, DiskFailed: it cannot be had.
        """
        with self._changed:
            if self._is_ended:
                return
            self._writing += 1
        try:
            self._place.settle()
            self._is_settled = True
            if self._record is not None:
                self._record.remove()
        except OSError as error:
            raise disk_error(error, self._ref, self._path) from error
        finally:
            with self._changed:
                self._writing -= 1
                self._changed.notify_all()

    def abandon(self, *, is_worth_keeping: bool = True) -> None:
        """Let go of the place: of what is not finished nothing is left, unless it shall be kept for a later pull.

        Args:
            is_worth_keeping: False when a later pull of the same content would fare no better.
        """
        with self._changed:
            if self._is_ended:
                return
            self._is_ended = True
            while self._writing:
                self._changed.wait()
        try:
            if not self._is_settled and (self._record is None or not is_worth_keeping):
                self._discard()
        finally:
            if self._record is not None:
                self._record.close()
            self._place.close()  # last: until then nobody else begins to write under this name

    def _begin(self, record: Path, identity: bytes | None) -> None:
        """Find what a former pull has left, or begin anew."""
        if identity is None:
            record.unlink(missing_ok=True)
        else:
            self._record = Record(record, identity)
            self.have = verified(self._record.entries, self._place.read, (self._ref.offset, self._ref.length))
        if not self.have:
            self._place.clear()

    def _discard_nothing(self) -> None:
        """It cannot even begin: what a former pull has left stays for the next one."""
        if not self.have:
            self._discard()

    def _discard(self) -> None:
        self._place.remove()
        if self._record is not None:
            self._record.remove()


def verified(entries: Sequence[tuple[int, int, bytes]], read: Callable[[int, int], bytes], whole: Range) -> list[Range]:
    """The recorded pieces whose bytes are still those that were recorded; none overlaps another.

    Args:
        entries: what is recorded.
        read: what is there now.
        whole: what they must lie in.
    """
    found: list[Range] = []
    end = whole[0]
    for offset, length, digest in sorted(entries):
        if offset < end or not 0 < length <= CHUNK_BYTES_MAX or offset + length > sum(whole):
            continue
        data = read(offset, length)
        if len(data) == length and digest_of(data) == digest:
            found.append((offset, length))
            end = offset + length
    return found


def missing(whole: Range, have: Sequence[Range]) -> list[Range]:
    """What of a range is not among these, which are sorted and disjoint."""
    found: list[Range] = []
    at, end = whole[0], sum(whole)
    for offset, length in have:
        if at < offset:
            found.append((at, offset - at))
        at = offset + length
    return [*found, (at, end - at)] if at < end else found
