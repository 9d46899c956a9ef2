"""Filing: files in and out: what `cell.downloads` does with paths.

::

    lend_file(path) ─▶ FileSource ─▶ Lender                      at the origin
    pull_file(ref, path) ─▶ DiskSink ─▶ FilePlace ─▶ the file    at the receiver
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from zdl.cell.signal import Signal
from zdl.download.disksink import DiskSink
from zdl.download.names import PART, RECORD, safe_name
from zdl.download.places import FilePlace
from zdl.download.puller import Progress, Puller
from zdl.download.records import identity_of
from zdl.errors import IntegrityError, OptionError, SourceChanged
from zdl.refs import Ref

# What is left of dead pulls is looked for among so many names of a folder; one look costs about 10 ms then.
SWEEP_NAMES_MAX = 10_000


def pull_file(puller: Puller, ref: Ref, path: Path, *, is_overwriting: bool, is_resumable: bool, kept_s: float,
              timeout_s: float | None, abort: Signal | None, progress: Progress | None) -> Path:
    """See `DownloadBroker.pull_file`."""
    if ref.kind == "folder":
        raise OptionError(name="ref", value=repr(ref), allowed="a file; a folder is fetched with pull_folder")
    if path.is_dir() and ref.name:
        path = path / safe_name(ref.name)
    sweep(path.parent, kept_s)
    sink = DiskSink(path, ref, lambda: FilePlace(path, ref, is_overwriting=is_overwriting),
                    identity=identity_of(ref) if is_resumable else None)
    is_worth_keeping = True
    try:
        puller.pull([(ref.source, sink)], timeout_s=timeout_s, abort=abort, progress=progress)
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
        part.unlink()
        record.unlink(missing_ok=True)
    finally:
        os.close(descriptor)
    return [part]
