"""Folders: lent as one stream, read file by file, never as a mixture of two versions of a file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from blake3 import blake3

from zdl.download.arrays import GATHER_BELOW_BYTES
from zdl.download.files import TICK_NS, Stamp, settle
from zdl.download.folderindex import FileEntry, FolderIndex, check_size
from zdl.errors import OptionError, SourceChanged
from zdl.objects.manifest import PADDING
from zdl.protocol.digests import Readable
from zdl.refs import MODE_MAX, STAMP_BYTES_MAX

SYMLINKS = ("refuse", "skip", "follow")
_STAMP_BYTES = 16


class FolderSource(Readable):
    """All files of a folder, at any depth, as one stream of bytes; see `FolderIndex`.

    Files are opened when they are read, so thousands need no descriptors; small ones are gathered. Each is compared with
    its stamp after reading: one that has changed since the folder was lent ends the pulls with `SourceChanged`.

    Threads: `read` from any thread; it blocks on the disk.

    Attributes:
        index: what is in it.
        bytes_total: the length of the stream.
        mode: its permissions.
        stamp: the same bytes for the same content.

    Args:
        path: the folder.
        fqcn: the cell that lends it, for errors.
        symlinks: ``refuse``, ``skip`` or ``follow`` them. What they lead to then travels as files and folders.

    Raises:
        OptionError: it is no folder, or something in it cannot be read or is neither file nor folder.
        TooLarge: there is too much in it.
    """

    def __init__(self, path: Path, fqcn: str, *, symlinks: str = "refuse") -> None:
        if symlinks not in SYMLINKS:
            raise OptionError(name="symlinks", value=repr(symlinks), allowed=f"one of {SYMLINKS}")
        self._root = path
        self._fqcn = fqcn
        folders: list[tuple[bytes, int]] = []
        found: list[tuple[str, os.stat_result]] = []
        try:
            self.mode = os.stat(path).st_mode & MODE_MAX
            for within, facts in _walk(path, "", symlinks, frozenset(), 0):
                check_size(path, len(folders) + len(found) + 1, 1)
                if stat.S_ISDIR(facts.st_mode):
                    folders.append((os.fsencode(within), facts.st_mode & MODE_MAX))
                else:
                    found.append((within, facts))
            found = self._settled(found)
        except (OSError, ValueError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise OptionError(name="path", value=str(getattr(error, "filename", None) or path),
                              allowed=f"a folder that can be read: {why}") from error
        self._paths = tuple(within for within, _ in found)
        self._stamps = tuple(Stamp.of(facts) for _, facts in found)
        self.index = FolderIndex.made(folders, (
            FileEntry(os.fsencode(within), facts.st_mode & MODE_MAX, facts.st_size, stamp.digest[:_STAMP_BYTES])
            for (within, facts), stamp in zip(found, self._stamps)))
        self.bytes_total = self.index.manifest.bytes_total
        self.stamp: bytes = blake3(self.index.packed).digest(STAMP_BYTES_MAX)

    @property
    def may_block(self) -> bool:
        """Disks do."""
        return True

    def read(self, offset: int, length: int) -> list[bytes | memoryview]:
        """The byte range.

        Raises:
            SourceChanged: a file in it is not what it was when the folder was lent.
        """
        parts: list[bytes | memoryview] = []
        run: list[bytes | memoryview] = []
        for item, start, stop in self.index.manifest.pieces(offset, length):
            piece = self._piece(item, start, stop)
            run.append(piece)
            if len(piece) >= GATHER_BELOW_BYTES:
                parts += [b"".join(run[:-1]), piece] if len(run) > 1 else [piece]
                run = []
        return [*parts, b"".join(run)] if run else parts

    def _piece(self, item: int, start: int, stop: int) -> bytes | memoryview:
        if item == PADDING or item > len(self._paths):
            return bytes(stop - start)
        if item == 0:
            return self.index.head[start:stop]
        within, expected = self._paths[item - 1], self._stamps[item - 1]
        try:
            descriptor = os.open(self._root / within, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise self._changed(within, f"it cannot be opened: {error.strerror}") from error
        try:
            data = os.pread(descriptor, stop - start, start)
            why = Stamp.of(os.fstat(descriptor)).why_not(expected)
        finally:
            os.close(descriptor)
        if why or len(data) != stop - start:
            raise self._changed(within, why or "it was cut off")
        return data

    def _changed(self, within: str, why: str) -> SourceChanged:
        return SourceChanged(ref=f"{self._root.name}/{within}", origin=self._fqcn, why=why)

    def _settled(self, found: list[tuple[str, os.stat_result]]) -> list[tuple[str, os.stat_result]]:
        """The same files, none of which could change from now on without showing it."""
        newest = max((facts.st_ctime_ns for _, facts in found), default=0)
        settle(newest)
        return [(within, facts if facts.st_ctime_ns < newest - TICK_NS else os.stat(self._root / within))
                for within, facts in found]


def _walk(root: Path, within: str, symlinks: str, above: frozenset[tuple[int, int]],
          depth: int) -> Iterator[tuple[str, os.stat_result]]:
    """What is in a folder: each path within, what the system says about it; folders before what is in them."""
    check_size(root, 0, depth)
    facts = os.stat(root / within)
    place = (facts.st_dev, facts.st_ino)
    if place in above:
        raise OptionError(name="path", value=str(root / within), allowed="links that lead in no circle")
    with os.scandir(root / within) as entries:
        found = sorted(entries, key=lambda each: os.fsencode(each.name))
    for each in found:
        path = f"{within}/{each.name}" if within else each.name
        if each.is_symlink():
            if symlinks == "refuse":
                raise OptionError(name="path", value=each.path, allowed="no symbolic link; or say symlinks='follow' or 'skip'")
            if symlinks == "skip":
                continue
        facts = each.stat()
        if not stat.S_ISDIR(facts.st_mode) and not stat.S_ISREG(facts.st_mode):
            raise OptionError(name="path", value=each.path, allowed="files and folders; this is neither")
        if not os.access(each.path, os.R_OK):
            raise OptionError(name="path", value=each.path, allowed="what can be read: Permission denied")
        yield path, facts
        if stat.S_ISDIR(facts.st_mode):
            yield from _walk(root, path, symlinks, above | {place}, depth + 1)
