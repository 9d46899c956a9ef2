"""Guards: what keeps a receiver from getting a mixture of an object before and after its owner has changed it.

``check``  a fingerprint of each block is taken when it is lent, and compared whenever a byte of it is read: a change ends the
           pulls with `SourceChanged`. What is changed between the comparison and the sending fails the receiver's digest, is
           asked for again, and then ends so too. Costs 35 ms per GiB when it is lent, and as much for each receiver (XXH3).
``freeze`` numpy arrays are read-only while they are lent: the owner's own line that writes raises ``ValueError``. Costs nothing;
           but other views of the same memory stay writable. Leaves that cannot be frozen are checked.
``copy``   the bytes are copied when they are lent, and the owner may go on at once. Costs the memory, and the copy.
``none``   nobody looks: for objects that nothing can change.

An array that lies in shared memory (`zdl.download.born`) is frozen whichever of the first two it is, and for longer.
A file has its own guard: its size and times (`zdl.download.files`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from xxhash import xxh3_64_intdigest

from zdl.download.arrays import BLOCK_BYTES, Buffers
from zdl.download.born import Born
from zdl.errors import SourceChanged
from zdl.objects.manifest import PADDING, Manifest
from zdl.objects.pack import Lent


class CheckedBuffers(Buffers):
    """Buffers that must not change while they are lent.

    Threads: `read` from any thread.

    Args:
        manifest: where each buffer begins.
        buffers: flat views of bytes.
        fqcn: the cell that lends them, for errors.
        unguarded: those that something else keeps from changing.
    """

    def __init__(self, manifest: Manifest, buffers: Sequence[memoryview], fqcn: str, *,
                 unguarded: Collection[int] = frozenset()) -> None:
        super().__init__(manifest, buffers)
        self._fqcn = fqcn
        self._unguarded = unguarded
        self._prints = [() if item in unguarded else _fingerprints(each) for item, each in enumerate(buffers)]

    def read(self, offset: int, length: int) -> list[bytes | memoryview]:
        """The byte range.

        Raises:
            SourceChanged: it is not what was lent.
        """
        for item, start, stop in self._manifest.pieces(offset, length):
            if item != PADDING:
                self._compare(item, start, stop)
        return super().read(offset, length)

    def copy_into(self, offset: int, view: memoryview) -> None:
        """The byte range, copied. Blocks that are copied whole are compared as they are in the copy, which nobody changes.

        Raises:
            SourceChanged: it is not what was lent.
        """
        super().copy_into(offset, view)
        at = 0
        for item, start, stop in self._manifest.pieces(offset, view.nbytes):
            if item != PADDING:
                self._compare(item, start, stop, view[at:at + stop - start])
            at += stop - start

    def _compare(self, item: int, start: int, stop: int, copy: memoryview | None = None) -> None:
        if item in self._unguarded:
            return
        buffer, prints = self._buffers[item], self._prints[item]
        for block in range(start // BLOCK_BYTES, -(-stop // BLOCK_BYTES)):
            at, end = block * BLOCK_BYTES, min((block + 1) * BLOCK_BYTES, buffer.nbytes)
            is_copied = copy is not None and start <= at and end <= stop
            looked_at = copy[at - start:end - start] if is_copied and copy is not None else buffer[at:end]
            if xxh3_64_intdigest(looked_at) != prints[block]:
                raise SourceChanged(ref=f"item {item}", origin=self._fqcn, why=f"bytes {at} to {end} are not what was lent")


class FrozenBuffers(CheckedBuffers):
    """Buffers of arrays that are read-only until these are let go; the others are checked.

    Args:
        manifest: where each buffer begins.
        lent: the leaves.
        fqcn: the cell that lends them, for errors.
        unguarded: those that something else keeps from changing.
    """

    def __init__(self, manifest: Manifest, lent: Sequence[Lent], fqcn: str, *, unguarded: Collection[int] = frozenset()) -> None:
        self._frozen: list[np.ndarray[tuple[int, ...], np.dtype[np.generic]]] = []
        frozen: set[int] = set(unguarded)
        for item, each in enumerate(lent):
            leaf = each.leaf
            if item in unguarded:
                continue
            if isinstance(leaf, np.ndarray) and leaf.flags.writeable:  # else who made it read-only may undo it: it is checked
                leaf.flags.writeable = False
                self._frozen.append(leaf)
                frozen.add(item)
            elif isinstance(leaf, bytes):
                frozen.add(item)
        super().__init__(manifest, [each.buffer for each in lent], fqcn, unguarded=frozen)

    def __del__(self) -> None:
        for array in self.__dict__.pop("_frozen", ()):
            array.flags.writeable = True


def guarded(manifest: Manifest, lent: Sequence[Lent], guard: str, fqcn: str, *, born: Born | None = None) -> Buffers:
    """The leaves of one message as what is lent.

    Args:
        manifest: where each begins.
        lent: the leaves, in that order.
        guard: see above; of `zdl.options.GUARDS`.
        fqcn: the cell that lends them, for errors.
        born: knows which of them lie in shared memory.
    """
    homes = {} if born is None or guard == "copy" else born.homes(lent, is_frozen=guard != "none")
    readable: Buffers
    match guard:
        case "copy":
            readable = Buffers(manifest, [memoryview(bytes(each.buffer)) for each in lent])
        case "freeze":
            readable = FrozenBuffers(manifest, lent, fqcn, unguarded=homes)
        case "none":
            readable = Buffers(manifest, [each.buffer for each in lent])
        case _:
            readable = CheckedBuffers(manifest, [each.buffer for each in lent], fqcn, unguarded=homes)
    readable.homes = homes
    return readable


def _fingerprints(buffer: memoryview) -> tuple[int, ...]:
    if buffer.nbytes <= BLOCK_BYTES:  # most leaves are small
        return (xxh3_64_intdigest(buffer),)
    return tuple([xxh3_64_intdigest(buffer[at:at + BLOCK_BYTES]) for at in range(0, buffer.nbytes, BLOCK_BYTES)])
