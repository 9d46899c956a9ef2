"""Guards: what keeps a receiver from getting a mixture of an object before and after its owner has changed it.

``check``  a digest of each block is taken when it is lent. A receiver who asks for just that block, and verifies with that
           digest, is told it; for all others the block is compared with it whenever a byte of it is read. A change ends the
           pulls with `SourceChanged`: what has another digest at its receiver is asked for again, and then it is compared. Costs
           35 ms per GiB when it is lent, with XXH3; with BLAKE3 150 ms, by as many threads as there are processors.
``freeze`` numpy arrays are read-only while they are lent: the owner's own line that writes raises ``ValueError``. Costs nothing;
           but other views of the same memory stay writable. Leaves that cannot be frozen are checked.
``copy``   the bytes are copied when they are lent, and the owner may go on at once. Costs the memory, and the copy.
``none``   nobody looks: for objects that nothing can change.

An array that lies in shared memory (`zdl.download.born`) is frozen whichever of the first two it is, and for longer.
A file has its own guard: its size and times (`zdl.download.files`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from zdl.download.arrays import Buffers
from zdl.download.born import Born
from zdl.errors import SourceChanged
from zdl.objects.manifest import PADDING, Manifest, Range
from zdl.objects.pack import Lent
from zdl.options import PackOptions
from zdl.protocol.digests import digest_of
from zdl.protocol.messages import Verify
from zdl.refs import SECRET_BYTES

# Measured for 512 MiB: BLAKE3 83 ms by one thread, 43 ms by two; XXH3 20 and 16, as memory gives no more.
THREADS_MAX = 4
# A thread for fewer takes longer to start than it saves.
THREAD_BLOCKS_MIN = 16


@dataclass(frozen=True, slots=True)
class Notes:
    """What `CheckedBuffers` note of each block.

    Attributes:
        verify: which digest; a receiver who verifies with the same is told it, and nobody hashes that block again.
        secret: of the offer, which some digests are keyed with.
    """

    verify: Verify = Verify.XXH3
    secret: bytes = bytes(SECRET_BYTES)


class CheckedBuffers(Buffers):
    """Buffers that must not change while they are lent.

    Threads: `read` from any thread.

    Args:
        manifest: where each buffer begins.
        buffers: flat views of bytes.
        fqcn: the cell that lends them, for errors.
        notes: what is noted of them.
        unguarded: those that something else keeps from changing.
    """

    def __init__(self, manifest: Manifest, buffers: Sequence[memoryview], fqcn: str, *, notes: Notes = Notes(),
                 unguarded: Collection[int] = frozenset()) -> None:
        super().__init__(manifest, buffers)
        self._fqcn = fqcn
        self._verify, self._secret = notes.verify, notes.secret
        checked = [block for block in self.grid if not unguarded or not self._items(*block) <= set(unguarded)]
        digests = in_turns(self._digest_of_block, checked, is_slow=notes.verify is Verify.BLAKE3)
        self._noted = dict(zip(checked, digests))

    def read(self, offset: int, length: int) -> list[bytes | memoryview]:
        """The byte range.

        Raises:
            SourceChanged: it is not what was lent.
        """
        if (offset, length) in self._noted:  # then what is looked at is what is given
            parts = self.as_is(offset, length)
            self._compare((offset, length), parts)
            return parts
        for block in self.grid.touched(offset, length):
            if block in self._noted:
                self._compare(block, self.as_is(*block))
        return self.as_is(offset, length)

    def noted(self, offset: int, length: int, verify: Verify) -> bytes | None:
        """See `zdl.protocol.digests.Readable`."""
        return self._noted.get((offset, length)) if verify is self._verify else None

    def copy_into(self, offset: int, view: memoryview) -> None:
        """The byte range, copied. Blocks that are copied whole are compared as they are in the copy, which nobody changes.

        Raises:
            SourceChanged: it is not what was lent.
        """
        super().copy_into(offset, view)
        for block in self.grid.touched(offset, view.nbytes):
            if block in self._noted:
                start, size = block[0] - offset, block[1]
                is_whole = start >= 0 and start + size <= view.nbytes
                self._compare(block, [view[start:start + size]] if is_whole else self.as_is(*block))

    def _compare(self, block: Range, parts: Sequence[bytes | memoryview]) -> None:
        if digest_of(self._verify, self._secret, parts) != self._noted[block]:
            raise SourceChanged(ref=f"bytes {block[0]} to {sum(block)}", origin=self._fqcn, why="they are not what was lent")

    def _digest_of_block(self, block: Range) -> bytes:
        return digest_of(self._verify, self._secret, self.as_is(*block))

    def _items(self, offset: int, length: int) -> set[int]:
        return {item for item, _, _ in self._manifest.pieces(offset, length)} - {PADDING}


class FrozenBuffers(CheckedBuffers):
    """Buffers of arrays that are read-only until these are let go; the others are checked.

    Args:
        manifest: where each buffer begins.
        lent: the leaves.
        fqcn: the cell that lends them, for errors.
        notes: what is noted of those that are checked.
        unguarded: those that something else keeps from changing.
    """

    def __init__(self, manifest: Manifest, lent: Sequence[Lent], fqcn: str, *, notes: Notes = Notes(),
                 unguarded: Collection[int] = frozenset()) -> None:
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
        super().__init__(manifest, [each.buffer for each in lent], fqcn, notes=notes, unguarded=frozen)

    def __del__(self) -> None:
        for array in self.__dict__.pop("_frozen", ()):
            array.flags.writeable = True


def guarded(manifest: Manifest, lent: Sequence[Lent], options: PackOptions, fqcn: str, *, secret: bytes,
            born: Born | None = None) -> Buffers:
    """The leaves of one message as what is lent.

    Args:
        manifest: where each begins.
        lent: the leaves, in that order.
        options: ``guard`` and ``digest`` of them.
        fqcn: the cell that lends them, for errors.
        secret: of the offer that they will be.
        born: knows which of them lie in shared memory.
    """
    guard = options.guard
    homes = {} if born is None or guard == "copy" else born.homes(lent, is_frozen=guard != "none")
    notes = Notes(Verify[options.digest.upper()], secret)
    readable: Buffers
    match guard:
        case "copy":
            readable = Buffers(manifest, [memoryview(bytes(each.buffer)) for each in lent])
        case "freeze":
            readable = FrozenBuffers(manifest, lent, fqcn, notes=notes, unguarded=homes)
        case "none":
            readable = Buffers(manifest, [each.buffer for each in lent])
        case _:
            readable = CheckedBuffers(manifest, [each.buffer for each in lent], fqcn, notes=notes, unguarded=homes)
    if homes:
        readable.homes = homes
    return readable


def in_turns(function: Callable[[Range], bytes], blocks: Sequence[Range], *, is_slow: bool) -> list[bytes]:
    """The function of each block, in order; of many by several threads, where it takes longer than memory does."""
    count = min(THREADS_MAX, os.cpu_count() or 1, len(blocks) // THREAD_BLOCKS_MIN) if is_slow else 1
    if count < 2:
        return list(map(function, blocks))
    with ThreadPoolExecutor(count, thread_name_prefix="zdl-digests") as pool:
        shares = pool.map(lambda first: list(map(function, blocks[first::count])), range(count))
        found = list(shares)
    return [found[number % count][number // count] for number in range(len(blocks))]
