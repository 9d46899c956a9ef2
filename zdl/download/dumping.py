"""Dumps: any packable object as bytes or as a file, without a cell.

A dump is the parts of a packed object (`zdl.objects`) behind one another, all of it inside: nothing goes by reference. Refs
that are in the object stay refs, and are as good as the offers they name.

::

    8 bytes    b"\\x89zdl\\r\\n\\x1a" and the version of this format: 1
    4 bytes    how many parts, little endian; as are all numbers here
    8 bytes    for each part: its length
    …          the parts: the skeleton, then the leaves of more than 4 KiB
    32 bytes   BLAKE3 of all before

The first bytes are chosen so that a transfer as text, or one through 7 bits, shows at once. What is read is checked before
it is unpacked; only registered types come out (`zdl.objects.typetable.TypeTable`), and nothing in a dump is run.

Dumps may stand behind one another in one open file: `load` reads its own and no byte more.
"""

from __future__ import annotations

import os
import struct
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from blake3 import blake3

from zdl.download import tensors
from zdl.download.diskerrors import check_replaceable, disk_error_at
from zdl.download.names import hidden
from zdl.errors import CannotUnpack
from zdl.objects.pack import pack
from zdl.objects.tensors import NoTensors
from zdl.objects.typetable import TypeTable
from zdl.objects.unpack import unpack
from zdl.options import PackOptions

_SIGNATURE: Final = b"\x89zdl\r\n\x1a"
VERSION: Final = 1
_COUNT: Final = struct.Struct("<I")
_LENGTH: Final = struct.Struct("<Q")
_HEAD_BYTES: Final = len(_SIGNATURE) + 1 + _COUNT.size
_DIGEST_BYTES: Final = 32
# Where a file without a name can be given one.
_OPEN_FILE: Final = "/proc/self/fd/{}"
# So much is read at once of what may claim any length.
_READ_BYTES: Final = 1 << 20
# No link has to carry a dump, so its leaves may have any size, and there may be a million of them.
DUMPING: Final = PackOptions(frame_bytes_max=1 << 62, frames_max=1 << 20, lends=False)
_NO_TYPES: Final = TypeTable()


def dumps(obj: object, *, types: TypeTable = _NO_TYPES, options: PackOptions = DUMPING) -> bytes:
    """An object as bytes.

    Args:
        obj: anything that may travel in a message; it is not changed.
        types: which classes of yours may be in it, and under which names.
        options: the limits.

    Raises:
        CannotPack: a leaf cannot be dumped; it names the path.
        TooLarge: a limit is passed; it names which.
    """
    return b"".join(_pieces(obj, types, options))


def loads(data: bytes | bytearray | memoryview, *, types: TypeTable = _NO_TYPES, options: PackOptions = DUMPING) -> object:
    """The object of a dump; its arrays are fresh and writable.

    Raises:
        CannotUnpack: it is no dump, not all of one, or damaged; or it holds a type that is not registered.
    """
    view = memoryview(data).cast("B")
    reader = _Reader(_from_memory(view), options, size=len(view))
    found = reader.parts()
    reader.check_end()
    return unpack(found, options=options, types=_with_tensors(types))


def dump(obj: object, file: str | os.PathLike[str] | BinaryIO, *, types: TypeTable = _NO_TYPES,
         options: PackOptions = DUMPING, overwrite: bool = False) -> int:
    """Write an object to a file; its arrays are not copied on the way.

    Args:
        obj: anything that may travel in a message; it is not changed, and must not change meanwhile.
        file: a path, where the file appears under its name when all of it is on the disk; or a file that is open for
            writing bytes.
        types: which classes of yours may be in it, and under which names.
        options: the limits.
        overwrite: whether a file of that name may be replaced.

    Returns:
        How many bytes were written.

    Raises:
        CannotPack, TooLarge: see `dumps`; nothing was written.
        OptionError: the path is taken, or cannot be written.
        DiskFull, DiskFailed: nothing is left on the disk.
    """
    pieces = list(_pieces(obj, types, options))
    size = sum(map(len, pieces))
    if not isinstance(file, (str, os.PathLike)):
        for piece in pieces:
            _write(file, piece)
        return size
    path = Path(file)
    try:
        check_replaceable(path, is_overwriting=overwrite)
        _write_path(pieces, path, is_overwriting=overwrite)
    except OSError as error:
        raise disk_error_at(error, path, need=size) from error
    return size


def load(file: str | os.PathLike[str] | BinaryIO, *, types: TypeTable = _NO_TYPES, options: PackOptions = DUMPING) -> object:
    """Read an object from a file. Each leaf is read into the memory that it keeps.

    Args:
        file: a path, or a file that is open for reading bytes, where a dump begins at its present position.
        types: which classes of yours may be in it, and under which names.
        options: the limits.

    Raises:
        CannotUnpack: it holds no dump, not all of one, or a damaged one; or a type that is not registered.
        OSError: it cannot be opened or read.
    """
    if not isinstance(file, (str, os.PathLike)):
        return unpack(_Reader(_from_stream(file), options).parts(), options=options, types=_with_tensors(types), is_adopting=True)
    with open(file, "rb", buffering=0) as opened:
        reader = _Reader(_from_path(opened), options, size=os.fstat(opened.fileno()).st_size, name=str(Path(file)))
        found = reader.parts()
        reader.check_end()
    return unpack(found, options=options, types=_with_tensors(types), is_adopting=True)


# --- writing ------------------------------------------------------------------------------------


def _pieces(obj: object, types: TypeTable, options: PackOptions) -> Iterator[bytes | memoryview]:
    """A dump, in pieces that are views of the object's own memory."""
    parts = [memoryview(part) for part in pack(obj, options=options, types=_with_tensors(types)).parts]
    digest = blake3(max_threads=blake3.AUTO)
    lengths = b"".join(_LENGTH.pack(part.nbytes) for part in parts)
    head = _SIGNATURE + bytes((VERSION,)) + _COUNT.pack(len(parts)) + lengths
    pieces: list[bytes | memoryview] = [head, *parts]
    for piece in pieces:
        digest.update(piece)
        yield piece
    yield digest.digest()


def _write(file: BinaryIO, piece: bytes | memoryview) -> None:
    """All of a piece; a file without a buffer may take less at once."""
    view = memoryview(piece)
    while view:
        view = view[file.write(view):]


def _write_path(pieces: list[bytes | memoryview], path: Path, *, is_overwriting: bool) -> None:
    """A file that appears under its name when all of it is on the disk."""
    part = hidden(path, f".{uuid.uuid4().hex[:8]}.zdl-part")
    descriptor = _unnamed(path.parent)
    is_named = descriptor is None
    if descriptor is None:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    is_done = False
    try:
        with open(descriptor, "wb", buffering=0) as file:
            for piece in pieces:
                _write(file, piece)
            os.fsync(descriptor)
            check_replaceable(path, is_overwriting=is_overwriting)
            if not is_named:
                os.link(_OPEN_FILE.format(descriptor), part, src_dir_fd=descriptor)  # with a descriptor links are followed
                is_named = True
        check_replaceable(path, is_overwriting=is_overwriting)
        os.replace(part, path)
        is_done = True
    finally:
        if not is_done and is_named:
            with suppress(OSError):  # then the disk has failed, and the first error says so
                part.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _unnamed(folder: Path) -> int | None:
    """A file that has no name before all of it is there, so that nothing is left of it when the process is killed.

    Returns:
        Its descriptor; None where the system or the file system has no such files.
    """
    flag = getattr(os, "O_TMPFILE", None)
    if flag is None:
        return None
    try:
        descriptor = os.open(folder, flag | os.O_WRONLY | os.O_CLOEXEC, 0o666)
    except OSError:  # what is wrong with the folder itself is told by who makes a file with a name
        return None
    if not os.path.lexists(_OPEN_FILE.format(descriptor)):
        os.close(descriptor)
        return None
    return descriptor


# --- reading ------------------------------------------------------------------------------------


# Gives the next so many bytes, or fewer when there are no more.
_Take = Callable[[int], bytes | bytearray | memoryview]


def _from_memory(view: memoryview) -> _Take:
    """Views of these bytes, one behind the other."""
    at = 0

    def take(length: int) -> memoryview:
        nonlocal at
        found = view[at:at + length]
        at += len(found)
        return found

    return take


def _from_path(file: BinaryIO) -> _Take:
    """Fresh memory of just the length, which is known to be there."""
    def take(length: int) -> memoryview:
        """Read until it is full, or the file ends."""
        whole = np.empty(length, np.uint8).data
        at = 0
        while at < length:
            got = file.readinto(whole[at:])  # type: ignore[attr-defined]
            if not got:
                break
            at += got
        return whole[:at]

    return take


def _from_stream(file: BinaryIO) -> _Take:
    """Memory that grows with what comes: nobody knows whether the length is true."""
    def take(length: int) -> bytearray:
        """Read piece by piece."""
        found = bytearray()
        while len(found) < length:
            some = file.read(min(_READ_BYTES, length - len(found)))
            if not some:
                break
            found += some
        return found

    return take


class _Reader:
    """Reads one dump, and believes no length before the bytes are there.

    Args:
        take: gives the next bytes.
        options: the limits.
        size: bytes that there are in all, where that is known.
        name: of the file, for errors.
    """

    def __init__(self, take: _Take, options: PackOptions, *, size: int | None = None, name: str = "") -> None:
        self._take = take
        self._options = options
        self._size = size
        self._name = name
        self._digest = blake3(max_threads=blake3.AUTO)
        self._done = 0

    def parts(self) -> list[bytes | memoryview]:
        """The parts, verified.

        Raises:
            CannotUnpack: they are not there.
        """
        options = self._options
        head = bytes(self._bytes(_HEAD_BYTES, "its head"))
        if not head.startswith(_SIGNATURE):
            raise self._error("it does not begin as a dump of zdl does")
        if head[len(_SIGNATURE)] != VERSION:
            raise self._error(f"it was written in version {head[len(_SIGNATURE)]} of the format, and {VERSION} is read here")
        (count,) = _COUNT.unpack(head[-_COUNT.size:])
        if not 1 <= count <= options.frames_max:
            raise self._error(f"it has {count} parts, frames_max={options.frames_max}")
        lengths = [length for (length,) in _LENGTH.iter_unpack(self._bytes(_LENGTH.size * count, "the lengths of its parts"))]
        if lengths[0] > options.skeleton_bytes_max:
            raise self._error(f"its skeleton has {lengths[0]} bytes, skeleton_bytes_max={options.skeleton_bytes_max}")
        if max(lengths[1:], default=0) > options.frame_bytes_max:
            raise self._error(f"a part of it has {max(lengths[1:])} bytes, frame_bytes_max={options.frame_bytes_max}")
        need = self._done + sum(lengths) + _DIGEST_BYTES
        if self._size is not None and self._size < need:
            raise self._error(f"it ends after {self._size} of {need} bytes: it was cut off")
        found = [self._bytes(length, f"part {number} of {count}") for number, length in enumerate(lengths)]
        digest = self._digest.digest()
        if bytes(self._bytes(_DIGEST_BYTES, "its digest")) != digest:
            raise self._error("its digest is wrong: it was changed or damaged")
        return [bytes(found[0]), *found[1:]]

    def check_end(self) -> None:
        """Raises `CannotUnpack` when there is more."""
        if self._size is not None and self._size != self._done:
            raise self._error(f"{self._size - self._done} bytes follow it")

    def _bytes(self, length: int, what: str) -> memoryview:
        """The next bytes."""
        found = memoryview(self._take(length))
        self._done += len(found)
        if len(found) < length:
            raise self._error(f"it ends after {self._done} bytes, in {what}: it was cut off, or is no dump")
        self._digest.update(found)
        return found

    def _error(self, reason: str) -> CannotUnpack:
        return CannotUnpack(path="", reason=f"{self._name}: {reason}" if self._name else reason)


def _with_tensors(types: TypeTable) -> TypeTable:
    """The table, with torch's tensors unless it has others."""
    return replace(types, tensors=tensors) if isinstance(types.tensors, NoTensors) else types
