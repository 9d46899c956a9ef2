"""Filing: files in and out: what `cell.downloads` does with paths.

::

    lend_file(path), lend_folder(path) ─▶ FileSource, FolderSource ─▶ Lender                         at the origin
    pull_file(ref, path), pull_folder(ref, path) ─▶ DiskSink ─▶ FilePlace, FolderPlace ─▶ the files  at the receiver
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from zdl.cell.cell import BareCell
from zdl.cell.signal import Signal
from zdl.download.containers import Container
from zdl.download.copying import Copier
from zdl.download.disksink import DiskSink
from zdl.download.fetching import Binding
from zdl.download.files import FileSource
from zdl.download.folderindex import HEAD_BYTES, FolderIndex, index_bytes
from zdl.download.folderplace import FolderPlace, anchor_of
from zdl.download.folders import FolderSource
from zdl.download.lending import Lender, audience_of
from zdl.download.names import PART, RECORD, safe_name, told_name
from zdl.download.patience import Limits
from zdl.download.places import FilePlace
from zdl.download.puller import Progress, Puller
from zdl.download.records import identity_of
from zdl.download.sinks import MemorySink
from zdl.download.transaction import Transaction
from zdl.errors import IntegrityError, OptionError, SourceChanged
from zdl.objects.manifest import aligned
from zdl.options import Pace
from zdl.refs import Ref

# What is left of dead pulls is looked for among so many names of a folder; one look costs about 10 ms then.
SWEEP_NAMES_MAX = 10_000
# What is left of a timeout is at least this.
LEAST_S = 0.001


class Filing:
    """Files in and out of a cell: ``cell.downloads.lend_file`` and so on.

    Threads: all methods from any thread but the loops'.

    Args:
        cell: its options are used.
        puller: pulls.
        lender: lends.
        copier: pulls to a disk, and copies what is lent on this host.
        holder: makes what refs are bound to.
    """

    def __init__(self, cell: BareCell, puller: Puller, lender: Lender, copier: Copier, holder: Callable[[], Binding]) -> None:
        self._cell = cell
        self._puller = puller
        self._copier = copier
        self._lender = lender
        self._holder = holder

    def lend_file(self, path: str | os.PathLike[str], *, receivers: Sequence[str] | int = 1,
                  lease_s: float | None = None, as_tensors: bool = False) -> Transaction:
        """Lend a file; the `body` of the transaction is one `Ref` of kind ``file``.

        Args:
            path: the file; it is read while it is lent, and must not change.
            receivers: see `DownloadBroker.lend`.
            lease_s: see `DownloadBroker.lend`.
            as_tensors: a ``.safetensors``, ``.npz`` or ``.npy`` is lent tensor by tensor too: the `body` is
                ``{"file": Ref, "metadata": {…}, "tensors": {name: Ref}}``. Nothing but its header is read now, and who
                has all tensors, or the file, has it.

        Raises:
            OptionError: the file is missing, unreadable, no regular file, or by its name no file of tensors.
            CannotPack: it is not what its name says, or holds what cannot travel.
            TooLarge: there is not memory enough to decompress what is compressed in it.
        """
        readable = FileSource(Path(path), self._cell.fqcn)
        if as_tensors:
            container = Container(Path(path), readable)
            transaction, source = self._lender.open(container, container.bytes_total, audience_of(receivers), lease_s,
                                                    enough=container.enough, gaps=container.gaps)
            transaction.body = container.body(source, self._holder())
            return transaction
        transaction, source = self._lender.open(readable, readable.bytes_total, audience_of(receivers), lease_s)
        transaction.body = Ref(source, 0, 0, readable.bytes_total, "file", name=told_name(Path(path)),
                               mode=readable.mode, stamp=readable.stamp.digest, holder=self._holder())
        return transaction

    def lend_folder(self, path: str | os.PathLike[str], *, receivers: Sequence[str] | int = 1, lease_s: float | None = None,
                    symlinks: str = "refuse") -> Transaction:
        """Lend a folder with all that is in it; the `body` of the transaction is one `Ref` of kind ``folder``.

        Args:
            path: the folder; its files are read while it is lent, and must not change.
            receivers: see `DownloadBroker.lend`.
            lease_s: see `DownloadBroker.lend`.
            symlinks: ``refuse``, ``skip`` or ``follow`` symbolic links in it. No link travels as a link.

        Raises:
            OptionError: it is no folder, or something in it cannot be read, or is neither a file nor a folder.
            TooLarge: there is too much in it.
        """
        folder = FolderSource(Path(path), self._cell.fqcn, symlinks=symlinks)
        transaction, source = self._lender.open(folder, folder.bytes_total, audience_of(receivers), lease_s,
                                                gaps=folder.index.manifest.gaps)
        transaction.body = Ref(source, 0, 0, folder.bytes_total, "folder", name=told_name(Path(path).resolve()),
                               mode=folder.mode, stamp=folder.stamp, holder=self._holder())
        return transaction

    def pull_file(self, ref: Ref, path: str | os.PathLike[str], *, overwrite: bool = False, resume: bool = False,
                  timeout_s: float | None = None, abort: Signal | None = None, progress: Progress | None = None,
                  pace: Pace | None = None) -> Path:
        """Fetch a ref to a file, which appears under its name when all of it is there, verified, and kept by the disk.

        Args:
            ref: a file; or bytes, or an array, as its bytes.
            path: its name; or a folder, where it gets the name that its lender calls it, made harmless.
            overwrite: whether a file of that name may be replaced.
            resume: what is verified is kept when the pull does not get to its end, even by ``kill -9``: a later one of the
                same content, to the same path, goes on from there. It is looked at again first, so it does not matter what
                happened to it meanwhile. Without, nothing is left but by ``kill -9``, which the next pull clears away.
            timeout_s: how long it may take; None: as long as bytes come.
            abort: ends it with `Cancelled`.
            progress: called with bytes done and in all, from the data lane: it must be quick.
            pace: how fast, and who goes first; None: as the options of the cell say.

        Raises:
            OptionError: the name is taken, or cannot be written.
            DiskFull, DiskFailed: there is no room, or the disk is broken.
            DownloadError: which of them says what happened.
        """
        return _pull_file(self._copier, ref, Path(path), is_overwriting=overwrite, is_resumable=resume,
                          kept_s=self._cell.options.pulls.partial_kept_s, limits=Limits(timeout_s, abort, progress, None, pace))

    def pull_folder(self, ref: Ref, path: str | os.PathLike[str], *, overwrite: bool = False, resume: bool = False,
                    timeout_s: float | None = None, abort: Signal | None = None, progress: Progress | None = None,
                    pace: Pace | None = None) -> Path:
        """Fetch a folder. One that is new appears as a whole; into one that is there whole files are moved, one by one.

        Args:
            ref: a folder.
            path: what it shall be called here; what is in the lent folder will be in this one.
            overwrite: whether files that are there may be replaced; other files in it stay.
            resume, timeout_s, abort, progress, pace: see `pull_file`.

        Raises:
            OptionError: something is in the way, or cannot be written.
            CannotUnpack: what its lender says is in it cannot be; nothing was made of it.
            DiskFull, DiskFailed: there is no room, or the disk is broken.
            DownloadError: which of them says what happened.
        """
        return _pull_folder(self._puller, ref, Path(path), is_overwriting=overwrite, is_resumable=resume,
                            kept_s=self._cell.options.pulls.partial_kept_s, timeout_s=timeout_s, abort=abort, progress=progress,
                            pace=pace)


def _pull_file(copier: Copier, ref: Ref, path: Path, *, is_overwriting: bool, is_resumable: bool, kept_s: float,
               limits: Limits) -> Path:
    """See `Filing.pull_file`."""
    if ref.kind == "folder":
        raise OptionError(name="ref", value=repr(ref), allowed="a file; a folder is fetched with pull_folder")
    if path.is_dir() and ref.name:
        path = path / safe_name(ref.name)
    sweep(path.parent, kept_s)
    sink = DiskSink(path, ref, lambda: FilePlace(path, ref, is_overwriting=is_overwriting),
                    identity=identity_of(ref) if is_resumable else None)
    is_worth_keeping = True
    try:
        copier.pull([(ref, sink)], limits)
    except (SourceChanged, IntegrityError):
        is_worth_keeping = False
        raise
    finally:
        sink.abandon(is_worth_keeping=is_worth_keeping)  # nothing, if it is finished
    return path


def _pull_folder(puller: Puller, ref: Ref, path: Path, *, is_overwriting: bool, is_resumable: bool, kept_s: float,
                 timeout_s: float | None, abort: Signal | None, progress: Progress | None, pace: Pace | None) -> Path:
    """See `Filing.pull_folder`."""
    if ref.kind != "folder":
        raise OptionError(name="ref", value=repr(ref), allowed="a folder; anything else is fetched with pull_file, pull or resolve")
    until = None if timeout_s is None else time.monotonic() + timeout_s

    def pull(wanted: Ref, sink: MemorySink | DiskSink, told: Progress | None) -> None:
        left = None if until is None else max(LEAST_S, until - time.monotonic())
        puller.pull([(wanted.source, sink)], timeout_s=left, abort=abort, progress=told, pace=pace)

    def part(offset: int, length: int) -> bytes:
        """A piece of the stream, in memory."""
        wanted = Ref(ref.source, 0, offset, length, "bytes")
        sink = MemorySink([wanted])
        pull(wanted, sink, None)
        return bytes(sink.view(offset, length))

    size = index_bytes(part(ref.offset, HEAD_BYTES), ref.length)
    index = FolderIndex.read(part(ref.offset + HEAD_BYTES, size), ref.length)
    begin = ref.offset + aligned(HEAD_BYTES + size)
    rest = Ref(ref.source, 0, begin, ref.length - begin, "folder", stamp=ref.stamp)
    anchor = anchor_of(path)
    sweep(anchor.parent, kept_s)
    sink = DiskSink(anchor, rest, lambda: FolderPlace(path, index, ref.mode, is_overwriting=is_overwriting),
                    identity=identity_of(rest) if is_resumable else None)
    is_worth_keeping = True
    try:
        pull(rest, sink, progress)
    except (SourceChanged, IntegrityError):
        is_worth_keeping = False
        raise
    finally:
        sink.abandon(is_worth_keeping=is_worth_keeping)  # nothing, if it is finished
    return path


def sweep(folder: Path, kept_s: float) -> Sequence[Path]:
    """Remove what pulls that are dead have left in a folder, unless a later pull may go on from it.

    Args:
        folder: the folder.
        kept_s: what may be gone on from is kept for so long.

    Returns:
        What was removed.
    """
    removed: list[Path] = []
    with suppress(OSError), os.scandir(folder) as entries:  # who cannot be swept is told when it is written
        names = [each.name for each in islice(entries, SWEEP_NAMES_MAX) if each.name.startswith(".")]
        stems = {name.removesuffix(suffix) for suffix in (PART, RECORD) for name in names if name.endswith(suffix)}
        for stem in stems:
            with suppress(OSError):  # somebody else has just removed it
                removed += _remove_dead(folder / (stem + PART), folder / (stem + RECORD), kept_s)
    return removed


def _remove_dead(part: Path, record: Path, kept_s: float) -> list[Path]:
    """Remove a part file that nobody writes, and that nobody can go on from; or a record without one."""
    newest = max((each.lstat().st_mtime for each in (part, record) if os.path.lexists(each)), default=0.0)
    if record.exists() and time.time() - newest < kept_s:
        return []
    if not os.path.lexists(part):
        record.unlink()
        return [record]
    descriptor = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(part) if part.is_dir() else part.unlink()
        record.unlink(missing_ok=True)
    finally:
        os.close(descriptor)
    return [part]
