"""Containers: files of tensors, lent as what they are: each tensor, each slice of one, and the file itself.

The stream of the offer is made of views of one file that is open, and of what had to be loaded (see
`zdl.download.npy`): first every tensor, each at a multiple of 64 bytes wherever the file has it, then the whole file::

    │ tensor │ tensor │ tensor │ …  │ the file, byte by byte │
    └──────── all tensors ─────────┘ └───── all of it ───────┘   either is enough to have the container

Nothing is read before a receiver asks for it, and then only what he asks for. It is read with ``pread`` rather than
through a mapping: a mapped file that is cut off kills the process that reads it, and what a mapping has touched counts
as memory of the process, where the page cache does not.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import MappingProxyType
from typing import Final

from zdl.download.arrays import GATHER_BELOW_BYTES
from zdl.download.files import FileSource
from zdl.download.names import told_name
from zdl.download.npy import Found, read_npy, read_npz
from zdl.download.safetensors import Read, read_header
from zdl.errors import OptionError, TooLarge
from zdl.objects.arrays import flatten
from zdl.objects.batch import Batch
from zdl.objects.manifest import PADDING, Manifest, Piece, Range, aligned
from zdl.protocol.digests import Readable
from zdl.refs import Holder, Ref, Source

# Tensors of one chunk are read in one go when what lies between them is no more than this, or than they are.
SPAN_EXTRA_BYTES: Final = 4096


class Container(Readable):
    """A file of tensors that is lent.

    Threads: `read` from any thread; it blocks on the disk.

    Attributes:
        metadata: what the file says beside its tensors.
        bytes_total: the length of the stream.
        enough: ranges of the stream, each of which is as good as all of it.
        gaps: what lies between the tensors.

    Args:
        path: a file whose name ends in ``.safetensors``, ``.npz`` or ``.npy``.
        source: the same file, opened.

    Raises:
        OptionError: its name ends otherwise.
        CannotPack: it is not what its name says, or holds what cannot travel; the path says which member.
        TooLarge: there is not memory enough for what is compressed in it.
    """

    def __init__(self, path: Path, source: FileSource) -> None:
        read = _READERS.get(path.suffix)
        if read is None:
            raise OptionError(name="path", value=str(path), allowed=f"a file of tensors: {', '.join(_READERS)}")
        self._name = told_name(path)
        self._source = source
        found, self.metadata = read(self._bytes, source.bytes_total, path)
        self._members = tuple(each.member for each in found)
        self._manifest = Manifest.of(each.length for each in self._members)
        self._loaded = _loaded(found, path.name)
        self._file_begin = aligned(self._manifest.bytes_total)
        self.bytes_total = self._file_begin + source.bytes_total
        tensors_end = max((offset + length for offset, length in zip(self._manifest.offsets, self._manifest.lengths) if length),
                          default=0)
        self.gaps = self._manifest.gaps
        self.enough: tuple[Range, ...] = ((0, tensors_end), (self._file_begin, source.bytes_total))

    @property
    def may_block(self) -> bool:
        """Disks do."""
        return True

    def read(self, offset: int, length: int) -> list[bytes | memoryview]:
        """The byte range.

        Raises:
            SourceChanged: the file is not what it was when it was lent.
        """
        end = offset + length
        tensors_end = self._manifest.bytes_total
        parts: list[bytes | memoryview] = []
        if offset < tensors_end and length:
            parts += self._read_tensors(self._manifest.pieces(offset, min(end, tensors_end) - offset))
        gap = min(end, self._file_begin) - max(offset, tensors_end)
        if gap > 0:
            parts.append(bytes(gap))
        if end > self._file_begin:
            begin = max(offset, self._file_begin)
            parts += self._source.read(begin - self._file_begin, end - begin)
        return parts

    def opened(self, offset: int, length: int) -> tuple[int, int] | None:
        """Where these bytes are in the open file, if they are of the file as such; see `FileSource.opened`."""
        return None if offset < self._file_begin else self._source.opened(offset - self._file_begin, length)

    def body(self, source: Source, holder: Holder | None = None) -> dict[str, object]:
        """What is told to receivers: refs of the file and of each tensor, and the metadata.

        Args:
            source: the offer.
            holder: what the refs are bound to.
        """
        tensors = {each.name: Ref(source, item, *self._manifest.range_of(item), each.kind, each.dtype, each.shape, holder=holder)
                   for item, each in enumerate(self._members)}
        file = Ref(source, len(tensors), self._file_begin, self._source.bytes_total, "file", name=self._name,
                   mode=self._source.mode, stamp=self._source.stamp.digest, holder=holder)
        return Batch({"file": file, "metadata": dict(self.metadata), "tensors": Batch(tensors)})

    def _read_tensors(self, pieces: list[Piece]) -> list[bytes | memoryview]:
        """These pieces of tensors: large ones by themselves, runs of small ones gathered."""
        places = [(self._members[item].offset + start, self._members[item].offset + stop)
                  for item, start, stop in pieces if item != PADDING and item not in self._loaded]
        least, most = min((begin for begin, _ in places), default=0), max((end for _, end in places), default=0)
        wanted = sum(end - begin for begin, end in places)
        span = memoryview(self._bytes(least, most - least)) if most - least <= 2 * wanted + SPAN_EXTRA_BYTES else None
        parts: list[bytes | memoryview] = []
        run: list[bytes | memoryview] = []
        for item, start, stop in pieces:
            piece: bytes | memoryview
            if item == PADDING:
                piece = bytes(stop)
            elif item in self._loaded:
                piece = self._loaded[item][start:stop]
            else:
                at = self._members[item].offset + start
                piece = self._bytes(at, stop - start) if span is None else span[at - least:at - least + stop - start]
            if len(piece) < GATHER_BELOW_BYTES:
                run.append(piece)
                continue
            if run:
                parts.append(b"".join(run))
                run = []
            parts.append(piece)
        return [*parts, b"".join(run)] if run else parts

    def _bytes(self, offset: int, length: int) -> bytes:
        return b"".join(self._source.read(offset, length)) if length else b""


def _loaded(found: list[Found], label: str) -> dict[int, memoryview]:
    """What cannot be lent as it lies, by its item: in memory, as long as it is lent."""
    need = sum(each.member.length for each in found if each.load is not None)
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if need > free:
        raise TooLarge(what=f"what has to be loaded of {label}", size=need, limit="free memory", value=free)
    return {item: flatten(each.load()) for item, each in enumerate(found) if each.load is not None}


def _safetensors(read: Read, size: int, path: Path) -> tuple[list[Found], dict[str, str]]:
    members, metadata = read_header(read, size, path.name)
    return [Found(each) for each in members], metadata


def _npy(read: Read, size: int, path: Path) -> tuple[list[Found], dict[str, str]]:
    return [read_npy(read, size, path.name, path.stem)], {}


def _npz(read: Read, size: int, path: Path) -> tuple[list[Found], dict[str, str]]:
    return read_npz(read, size, path.name), {}


_READERS: Final = MappingProxyType({".safetensors": _safetensors, ".npz": _npz, ".npy": _npy})
