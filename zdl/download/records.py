"""Records: what of a partial file is verified, so that a later pull of the same content goes on from there.

A record lies beside the partial file. It begins with the identity of the content; then comes one entry for each piece
that was written: where, how long, and its BLAKE3. It is written without waiting for the disk: whoever resumes hashes
each piece again, so an entry whose bytes did not reach the disk, or were altered since, is merely not believed. What was
torn off at the end is cut away.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

from blake3 import blake3

from zdl.refs import Ref

MAGIC = b"zdl-part-record1"
IDENTITY_BYTES = 32
_HEAD_BYTES = len(MAGIC) + IDENTITY_BYTES
_ENTRY = struct.Struct("<QI32s")
# 64 pieces of 1 MiB each per kilobyte of record: 16 MiB are 390,000 pieces.
RECORD_BYTES_MAX = 16 << 20

# Where a piece begins, its length, its digest.
Entry = tuple[int, int, bytes]


class Record:
    """The record of one partial file, open for adding to it.

    Threads: `note` from any thread.

    Args:
        path: where it is, or shall be.
        identity: of the content; what is recorded of another one is thrown away.
    """

    def __init__(self, path: Path, identity: bytes) -> None:
        assert len(identity) == IDENTITY_BYTES
        self._path = path
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor: int | None = os.open(path, flags, 0o600)
        self.entries: tuple[Entry, ...] = ()
        data = os.pread(self._descriptor, RECORD_BYTES_MAX, 0)
        if data[:_HEAD_BYTES] == MAGIC + identity:
            body = data[_HEAD_BYTES:]
            whole = len(body) // _ENTRY.size * _ENTRY.size
            self.entries = tuple(_entries(body[:whole]))
            os.ftruncate(self._descriptor, _HEAD_BYTES + whole)
        else:
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, MAGIC + identity)

    def note(self, offset: int, view: memoryview) -> None:
        """A piece has been written."""
        descriptor = self._descriptor
        assert descriptor is not None
        os.write(descriptor, _ENTRY.pack(offset, view.nbytes, digest_of(view)))

    def close(self) -> None:
        """Keep it for later."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def remove(self) -> None:
        """It is of no use any more."""
        self._path.unlink(missing_ok=True)
        self.close()


def digest_of(data: bytes | memoryview) -> bytes:
    """BLAKE3."""
    return blake3(data).digest()


def identity_of(ref: Ref) -> bytes:
    """What a ref stands for, as far as a record is concerned: the content that it names, or this part of this offer."""
    source = ref.source
    what = ref.stamp.hex() or f"{source.origin} {source.offer_id.hex()} {ref.offset}"
    return digest_of(f"{ref.kind} {what} {ref.length}".encode())


def _entries(body: bytes) -> Iterator[Entry]:
    for offset, length, digest in _ENTRY.iter_unpack(body):
        yield offset, length, digest
