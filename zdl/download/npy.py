"""``.npy`` and ``.npz`` files: which arrays are in them, and which of their bytes they are.

A ``.npy`` file is a short header and the elements; a ``.npz`` is a ZIP archive of them. What an archive stores
uncompressed lies in it as it is, and is lent from there. What is compressed, or in Fortran order, is decompressed or
turned into C order **in memory**, once, when the file is lent: the wire knows C order only.

Arrays of objects are pickles, which run what their writer wrote: they are refused. The checksums of a ZIP are compared
where something is decompressed; what lies uncompressed is not read before somebody wants it, so they are not looked at.
"""

from __future__ import annotations

import ast
import io
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from zdl.download.safetensors import Member, Read
from zdl.errors import CannotPack, CannotUnpack
from zdl.objects import arrays
from zdl.objects.dtypes import name_of

MAGIC: Final = b"\x93NUMPY"
# numpy's own limit (numpy.lib.format): Python's parser may run out of stack on larger ones.
HEADER_BYTES_MAX: Final = 10_000
_START_BYTES_MAX: Final = HEADER_BYTES_MAX + 12  # with what stands before it
# Magic, version, and the length of the header in two or four bytes, by version.
_LENGTH_FORMATS: Final = (("<H", "latin1"), ("<I", "latin1"), ("<I", "utf-8"))
_KEYS: Final = frozenset(("descr", "fortran_order", "shape"))
_LOCAL_HEADER: Final = struct.Struct("<4s22xHH")  # a ZIP's own header of a member: how long are its name and extra field?
_LOCAL_MAGIC: Final = b"PK\x03\x04"
_ENCRYPTED: Final = 1
_SUFFIX: Final = ".npy"

# What must be in memory to be lent: makes it.
Load = Callable[[], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Found:
    """One array of a file.

    Attributes:
        member: what it is, and where; its offset means nothing if it has to be loaded.
        load: makes it in memory, where it cannot be lent as it lies.
    """

    member: Member
    load: Load | None = None


@dataclass(frozen=True, slots=True)
class _Header:
    """What stands before the elements; ``begin`` is where these begin."""

    dtype: np.dtype[Any]
    name: str
    shape: tuple[int, ...]
    is_fortran: bool
    begin: int
    length: int

    def array(self, data: memoryview) -> NDArray[Any]:
        """The elements in C order."""
        shape = self.shape[::-1] if self.is_fortran else self.shape
        there: NDArray[Any] = np.ndarray(shape, self.dtype, data)
        return np.ascontiguousarray(there.T) if self.is_fortran else there


def read_npy(read: Read, size: int, label: str, name: str) -> Found:
    """The array of a ``.npy`` file.

    Raises:
        CannotPack: it is no such file, or its header claims what is not so.
    """
    return _as_it_lies(read, (0, size), label, name)


def read_npz(read: Read, size: int, label: str) -> list[Found]:
    """The arrays of a ``.npz`` file, in the order of the archive, and what else is in it as bytes.

    Args:
        read: gives the bytes of a range of the file.
        size: of the file.
        label: how errors name the file.

    Raises:
        CannotPack: it is no such file, or what it says of its members is not so.
    """
    try:
        archive = zipfile.ZipFile(io.BufferedReader(_Seekable(read, size)))
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
        raise CannotPack(path=label, reason=f"it is no ZIP archive: {str(error)[:200]}") from error
    members = [each for each in archive.infolist() if not each.is_dir()]
    names = Counter(each.filename.removesuffix(_SUFFIX) for each in members)
    if names and names.most_common(1)[0][1] > 1:
        raise CannotPack(path=f"{label}[{names.most_common(1)[0][0]!r:.80}]", reason="it stands in the archive twice")
    found, end = [], 0
    for info in sorted(members, key=lambda each: each.header_offset):
        path = f"{label}[{info.filename!r:.80}]"
        if info.flag_bits & _ENCRYPTED:
            raise CannotPack(path=path, reason="it is encrypted")
        span = _span(read, info, path, (end, archive.start_dir))
        end = sum(span)
        if info.compress_type != zipfile.ZIP_STORED:
            found.append(_compressed(archive, info, path))
        elif info.filename.endswith(_SUFFIX):
            found.append(_as_it_lies(read, span, path, info.filename.removesuffix(_SUFFIX)))
        else:
            found.append(Found(Member(info.filename, "bytes", "", (), *span)))
    return found


def _span(read: Read, info: zipfile.ZipInfo, path: str, room: tuple[int, int]) -> tuple[int, int]:
    """Where the bytes of a member of an archive begin, and how many they are; they must be within `room`."""
    least, most = room
    local = read(info.header_offset, _LOCAL_HEADER.size) if least <= info.header_offset <= most - _LOCAL_HEADER.size else b""
    if local[:4] != _LOCAL_MAGIC:
        raise CannotPack(path=path, reason=f"nothing begins at byte {info.header_offset}, where the archive says that it does")
    _, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(local)
    begin = info.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes
    if begin + info.compress_size > most:
        raise CannotPack(path=path, reason=f"its {info.compress_size} bytes from {begin} on do not end before {most}")
    if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
        raise CannotPack(path=path, reason=f"{info.file_size} bytes that are not compressed are {info.compress_size}")
    return begin, info.compress_size


def _as_it_lies(read: Read, span: tuple[int, int], path: str, name: str) -> Found:
    """An array that is not compressed."""
    begin, size = span
    header = _header(read(begin, min(size, _START_BYTES_MAX)), size, path)
    member = Member(name, "array", header.name, header.shape, begin + header.begin, header.length)
    if not header.is_fortran:
        return Found(member)
    return Found(member, lambda: header.array(memoryview(read(member.offset, member.length))))


def _compressed(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: str) -> Found:
    """An array, or other bytes, that have to be decompressed."""
    name = info.filename
    with _explained(path, lambda: archive.open(info)) as file:
        start = _read(file, min(info.file_size, _START_BYTES_MAX), path)
    if not name.endswith(_SUFFIX):
        member, header = Member(name, "bytes", "", (), 0, info.file_size), None
    else:
        header = _header(start, info.file_size, path)
        member = Member(name.removesuffix(_SUFFIX), "array", header.name, header.shape, 0, header.length)

    def load() -> NDArray[Any]:
        """The elements, in memory."""
        with _explained(path, lambda: archive.open(info)) as file:
            data = _read(file, info.file_size, path)
            if _read(file, 1, path):  # also compares the checksum: at the end only
                raise CannotPack(path=path, reason=f"it is longer than the {info.file_size} bytes that the archive says")
        if header is None:
            return np.frombuffer(data, np.uint8)
        return header.array(memoryview(data)[header.begin:])

    return Found(member, load)


def _header(start: bytes, size: int, path: str) -> _Header:
    """The header of a ``.npy`` of so many bytes, which begins with these."""
    version = start[len(MAGIC):len(MAGIC) + 2]
    if not start.startswith(MAGIC) or version not in (b"\x01\x00", b"\x02\x00", b"\x03\x00"):
        raise CannotPack(path=path, reason=f"it does not begin as a .npy of version 1 to 3 does, but with {start[:8]!r}")
    kind, encoding = _LENGTH_FORMATS[version[0] - 1]
    at = len(MAGIC) + 2 + struct.calcsize(kind)
    length = struct.unpack(kind, start[len(MAGIC) + 2:at])[0] if len(start) >= at else size
    if at + length > min(size, len(start)):
        raise CannotPack(path=path, reason=f"a header of {length} bytes in {size}; at most "
                                           f"HEADER_BYTES_MAX={HEADER_BYTES_MAX} are read")
    try:
        told = ast.literal_eval(start[at:at + length].decode(encoding).strip())
        if not isinstance(told, dict) or set(told) != _KEYS:
            raise ValueError(f"it is no dict of {', '.join(sorted(_KEYS))}")
        dtype = np.lib.format.descr_to_dtype(told["descr"])
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError, IndexError, KeyError) as error:
        raise CannotPack(path=path, reason=f"its header cannot be understood: {str(error)[:200]}") from error
    if dtype.hasobject:
        raise CannotPack(path=path, reason="its elements are Python objects, which are pickles: they are never read")
    shape, is_fortran = told["shape"], told["fortran_order"]
    if type(shape) is not tuple or type(is_fortran) is not bool:
        raise CannotPack(path=path, reason=f"its shape is {shape!r:.80}, its order {is_fortran!r:.20}")
    try:
        name = name_of(dtype)
        nbytes = arrays.nbytes_of(name, shape)
    except (CannotPack, CannotUnpack) as error:
        raise CannotPack(path=path, reason=error.reason) from error
    if at + length + nbytes != size:
        raise CannotPack(path=path, reason=f"{name}{list(shape)} has {nbytes} bytes, there are {size - at - length}")
    return _Header(dtype, name, shape, is_fortran and len(shape) > 1, at + length, nbytes)


def _read(file: IO[bytes], size: int, path: str) -> bytes:
    """So many bytes of a member, or all that there are after the last."""
    data: bytes = _explained(path, lambda: file.read(size))
    if len(data) < size and size > 1:
        raise CannotPack(path=path, reason=f"it ends after {len(data)} of {size} bytes")
    return data


def _explained(path: str, act: Callable[[], Any]) -> Any:
    """What the archive gives, or why it does not, in our words."""
    try:
        return act()
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError) as error:
        raise CannotPack(path=path, reason=f"it cannot be decompressed: {str(error)[:200]}") from error


class _Seekable(io.RawIOBase):
    """A file as the archive's reader wants it, read through the one opening that is lent."""

    def __init__(self, read: Read, size: int) -> None:
        super().__init__()
        self._read, self._size, self._at = read, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to another place."""
        at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if at < 0:
            raise ValueError(f"byte {at} of a file")
        self._at = at
        return at

    def readinto(self, buffer: Any) -> int:
        """The next bytes."""
        view = memoryview(buffer).cast("B")
        data = self._read(self._at, max(0, min(view.nbytes, self._size - self._at)))
        view[:len(data)] = data
        self._at += len(data)
        return len(data)
