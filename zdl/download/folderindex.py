"""FolderIndex: what is in a folder that is lent, as it travels: in front of the files, in one stream.

::

    │ head │ index │ file │ file │ … │ seal │
      16 B   packed  each at a multiple of 64 bytes

The head says how long the index is. The index is the packed map ``{"folders": [[path, mode], …], "files": [[path, mode,
size, stamp], …]}``, with paths as bytes, components joined by ``/``. The seal is 64 zeros: whoever has only read the
index does not count as having all of it, even if the folder is empty.

What comes from a peer is looked at component by component, before anything is made of it: no path leads elsewhere, none
is there twice, none goes through a file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zdl.download.names import is_component
from zdl.errors import CannotUnpack, TooLarge, ZdlError
from zdl.objects.manifest import ALIGN_BYTES, Manifest
from zdl.objects.pack import pack
from zdl.objects.unpack import unpack
from zdl.options import MIB, PackOptions
from zdl.refs import ITEM_BYTES_MAX, MODE_MAX

_HEAD = struct.Struct("<8sQ")
_MAGIC = b"zdlfold1"
HEAD_BYTES = _HEAD.size
# Of one folder: files and folders in it at any depth, components of a path, bytes of a path (Linux: PATH_MAX), of the index.
ENTRIES_MAX = 200_000
DEPTH_MAX = 64
PATH_BYTES_MAX = 4096
INDEX_BYTES_MAX = 64 * MIB
SEAL_BYTES = ALIGN_BYTES
_STAMP_BYTES = 16
_PACKING = PackOptions(inline_bytes_max=INDEX_BYTES_MAX, beside_bytes_max=INDEX_BYTES_MAX, skeleton_bytes_max=INDEX_BYTES_MAX)


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file in a folder: its path within, permissions, size, and a stamp of its content."""

    path: bytes
    mode: int
    size: int
    stamp: bytes


@dataclass(frozen=True, slots=True)
class FolderIndex:
    """What is in a folder.

    Attributes:
        folders: paths and permissions, those above before those below.
        files: in the order of the stream.
        packed: the index as it travels.
        manifest: where each file is in the stream: item 0 is head and index, the last one is the seal.
    """

    folders: tuple[tuple[bytes, int], ...]
    files: tuple[FileEntry, ...]
    packed: bytes
    manifest: Manifest

    @classmethod
    def made(cls, folders: Iterable[tuple[bytes, int]], files: Iterable[FileEntry]) -> FolderIndex:
        """Of a folder here.

        Raises:
            TooLarge: there is too much in it.
        """
        folders, files = tuple(folders), tuple(files)
        body = {"folders": [list(each) for each in folders],
                "files": [[each.path, each.mode, each.size, each.stamp] for each in files]}
        packed = b"".join(map(bytes, pack(body, options=_PACKING).parts))
        return cls(folders, files, packed, _manifest(len(packed), files))

    @classmethod
    def read(cls, packed: bytes, bytes_total: int) -> FolderIndex:
        """Of a folder that a peer lends.

        Args:
            packed: the index.
            bytes_total: how long the stream is said to be.

        Raises:
            CannotUnpack: it is not what it should be; the path inside is named.
        """
        try:
            body = unpack([packed], options=_PACKING)
        except ZdlError as error:
            raise CannotUnpack(path="folder", reason=str(error)) from error
        if not isinstance(body, dict) or not isinstance(body.get("folders"), list) or not isinstance(body.get("files"), list):
            raise CannotUnpack(path="folder", reason="its index is not a map of folders and files")
        if len(body["folders"]) + len(body["files"]) > ENTRIES_MAX:
            raise CannotUnpack(path="folder", reason=f"it has more than ENTRIES_MAX={ENTRIES_MAX} entries")
        paths = _Paths()
        folders = tuple(_folder(paths, place, each) for place, each in enumerate(body["folders"]))
        files = tuple(_file(paths, place, each) for place, each in enumerate(body["files"]))
        manifest = _manifest(len(packed), files)
        if manifest.bytes_total != bytes_total:
            raise CannotUnpack(path="folder", reason=f"its files make {manifest.bytes_total} bytes, it has {bytes_total}")
        return cls(folders, files, packed, manifest)

    @property
    def head(self) -> bytes:
        """What the stream begins with: the head, and the index."""
        return _HEAD.pack(_MAGIC, len(self.packed)) + self.packed

    @property
    def nbytes(self) -> int:
        """Of all files together."""
        return sum(each.size for each in self.files)


def index_bytes(head: bytes, bytes_total: int) -> int:
    """How long the index is.

    Raises:
        CannotUnpack: this is not the head of a folder.
    """
    magic, size = _HEAD.unpack(head) if len(head) == HEAD_BYTES else (b"", 0)
    if magic != _MAGIC or not 0 < size <= min(INDEX_BYTES_MAX, bytes_total - HEAD_BYTES):
        raise CannotUnpack(path="folder", reason="it does not begin as a folder does, or its index is too long")
    return int(size)


class _Paths:
    """The paths of an index so far."""

    def __init__(self) -> None:
        self._folders: set[bytes] = {b""}
        self._all: set[bytes] = set()

    def add(self, path: object, where: str, *, is_folder: bool) -> bytes:
        """Look at one, component by component."""
        if type(path) is not bytes or not 0 < len(path) <= PATH_BYTES_MAX:
            raise CannotUnpack(path=where, reason=f"its path is not 1 to {PATH_BYTES_MAX} bytes")
        parts = path.split(b"/")
        if len(parts) > DEPTH_MAX or not all(map(is_component, parts)):
            raise CannotUnpack(path=where, reason=f"its path {path!r:.80} leads elsewhere, or too deep")
        if path in self._all or b"/".join(parts[:-1]) not in self._folders:
            raise CannotUnpack(path=where, reason=f"its path {path!r:.80} is there twice, or in no folder that was told")
        self._all.add(path)
        if is_folder:
            self._folders.add(path)
        return path


def _folder(paths: _Paths, place: int, entry: Any) -> tuple[bytes, int]:
    where = f"folders[{place}]"
    if type(entry) is not list or len(entry) != 2:
        raise CannotUnpack(path=where, reason="it is not a path and a mode")
    return paths.add(entry[0], where, is_folder=True), _mode(entry[1], where)


def _file(paths: _Paths, place: int, entry: Any) -> FileEntry:
    where = f"files[{place}]"
    if type(entry) is not list or len(entry) != 4:
        raise CannotUnpack(path=where, reason="it is not a path, a mode, a size and a stamp")
    path, mode, size, stamp = entry
    if type(size) is not int or not 0 <= size <= ITEM_BYTES_MAX or type(stamp) is not bytes or len(stamp) != _STAMP_BYTES:
        raise CannotUnpack(path=where, reason=f"its size is not within 0…{ITEM_BYTES_MAX}, or its stamp is none")
    return FileEntry(paths.add(path, where, is_folder=False), _mode(mode, where), size, stamp)


def _mode(mode: object, where: str) -> int:
    if type(mode) is not int or not 0 <= mode <= MODE_MAX:
        raise CannotUnpack(path=where, reason=f"its mode is not within 0…{MODE_MAX:o}")
    return mode


def _manifest(packed_bytes: int, files: Iterable[FileEntry]) -> Manifest:
    return Manifest.of([HEAD_BYTES + packed_bytes, *(each.size for each in files), SEAL_BYTES])


def check_size(path: Path, entries_count: int, depth: int) -> None:
    """Whether so much of a folder here can be lent.

    Raises:
        TooLarge: it cannot.
    """
    if entries_count > ENTRIES_MAX:
        raise TooLarge(what=f"the folder {path}, in entries,", size=entries_count, limit="ENTRIES_MAX", value=ENTRIES_MAX)
    if depth > DEPTH_MAX:
        raise TooLarge(what=f"the folder {path}, in depth,", size=depth, limit="DEPTH_MAX", value=DEPTH_MAX)
