"""Gathering: parts of arrays that do not lie in one piece, put together by their origin before they travel.

::

    receiver                                   origin
       │── request zdl/gather: a list of refs ──▶│  is the secret right? is there memory?
       │                                         │  copies the elements, block by block
       │◀── reply: a list of arrays ─────────────│

So no byte travels that is not wanted. The answer is a message like any other: small arrays travel in it, larger ones are
lent by it, to be pulled by whoever asked, and end with it when he asks no more. That offer has nothing to do with the one
that the whole array was lent in, which it neither completes nor holds. The receiver asks for a slab at a time, and for
the next one while the last one is pulled: what the origin holds for him is two slabs, however large the array is.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Any, TypeVar
from weakref import finalize

from numpy.typing import NDArray

from zdl.cell.cell import BareCell
from zdl.cell.messages import Request
from zdl.download.puller import CHANNEL
from zdl.errors import Busy, CannotUnpack, TooLarge, UnknownRef, ZdlError, to_wire
from zdl.objects import arrays
from zdl.protocol.digests import Readable
from zdl.protocol.messages import Keep
from zdl.refs import Ref

GATHER_TOPIC = "gather"
# What one request may ask for. Measured with all cells in one process: half of the columns of 256 MiB of float32 come at
# 0.99 GiB/s in such slabs, where the whole array comes at 1.86 into the same memory.
SLAB_BYTES_MAX = 32 << 20
SLAB_PARTS_MAX = 1024
# What parts of an array go to: memory, or the numbers of its bytes somewhere else.
Room = TypeVar("Room", memoryview, range)
# A source is read in pieces of this size: what is between the elements is not kept.
BLOCK_BYTES = 16 << 20


class Gathering:
    """The gathering side of a cell, at the origin.

    Args:
        cell: it answers there.
    """

    def __init__(self, cell: BareCell) -> None:
        self._cell = cell
        self._lock = threading.Lock()  # guards the one below
        self._bytes = 0
        # Bytes of arrays that are gone. They go on any thread at any time, so who lets go of one takes no lock.
        self._freed: deque[int] = deque()
        cell.handler(CHANNEL, GATHER_TOPIC, resolve=False)(self._answer)

    @property
    def nbytes(self) -> int:
        """What is held now for receivers that have not fetched it."""
        with self._lock:
            while self._freed:
                self._bytes -= self._freed.popleft()
            return self._bytes

    def _answer(self, request: Request) -> object:
        """A list of what was asked for; or an error as a dict, because what a handler raises is a `RemoteError` there."""
        try:
            return self._gathered(request)
        except ZdlError as error:
            code, facts = to_wire(error)
            return {"code": code, "facts": facts}

    def _gathered(self, request: Request) -> list[NDArray[Any]]:
        refs = self._checked(request.body)
        total = sum(ref.nbytes for ref in refs)
        if total > SLAB_BYTES_MAX:
            raise TooLarge(what="what is to be gathered", size=total, limit="SLAB_BYTES_MAX", value=SLAB_BYTES_MAX)
        sources = [self._cell.lane.lent.readable(Keep(request.origin, self._cell.fqcn, 0, ref.source.offer_id, ref.source.secret))
                   for ref in refs]
        self._take(total)
        found = [arrays.empty(ref.dtype, ref.shape) for ref in refs]
        for each in found:
            finalize(each, self._freed.append, each.nbytes)
        for readable, ref, place in zip(sources, refs, found):
            gather(readable, ref, place)
        return found

    def _checked(self, body: object) -> list[Ref]:
        if not isinstance(body, list) or not 0 < len(body) <= SLAB_PARTS_MAX or not all(
                isinstance(ref, Ref) and ref.kind == "array" for ref in body):
            raise CannotUnpack(path="", reason=f"not a list of at most {SLAB_PARTS_MAX} refs of arrays")
        for ref in body:
            if ref.origin != self._cell.fqcn:
                raise UnknownRef(ref=ref.source.label, origin=self._cell.fqcn)
        return body

    def _take(self, count: int) -> None:
        most = self._cell.options.offers.gathered_bytes_max
        held = self.nbytes
        with self._lock:
            if held + count > most:
                raise Busy(limit="gathered_bytes_max", value=most, at=self._cell.fqcn)
            self._bytes += count


def gather(readable: Readable, ref: Ref, into: NDArray[Any], *, block_bytes: int = BLOCK_BYTES) -> None:
    """Copies the elements that a ref names.

    Raises:
        ZdlError: what reading raises.
    """
    for part, place in _blocks(ref, into, block_bytes):
        pieces = readable.read(part.offset, part.length) if part.length else [b""]
        raw = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        place[...] = arrays.strided(part, raw)


def _blocks(ref: Ref, place: NDArray[Any], block_bytes: int) -> Iterator[tuple[Ref, NDArray[Any]]]:
    """Parts of which each is read at once, and their places."""
    if ref.length <= block_bytes:
        yield ref, place
        return
    extents = [(side - 1) * abs(stride) for side, stride in zip(ref.shape, ref.strides)]
    dim = extents.index(max(extents)) if extents else next(number for number, side in enumerate(ref.shape) if side > 1)
    half = ref.shape[dim] // 2
    for picked in (slice(0, half), slice(half, None)):
        key = (slice(None),) * dim + (picked,)
        yield from _blocks(ref[key], place[key], block_bytes)


def parts_of(ref: Ref, memory: Room, *, slab_bytes: int = SLAB_BYTES_MAX) -> Iterator[tuple[Ref, Room]]:
    """A part of an array as parts of at most a slab, and the memory of each; or, of a range of places, the places of each."""
    if ref.nbytes <= slab_bytes:
        yield ref, memory
        return
    dim = next(number for number, side in enumerate(ref.shape) if side > 1)
    row = ref.nbytes // ref.shape[dim]
    count = max(1, slab_bytes // row)
    for start in range(0, ref.shape[dim], count):
        part = ref[(slice(None),) * dim + (slice(start, start + count),)]
        yield from parts_of(part, memory[start * row:start * row + part.nbytes], slab_bytes=slab_bytes)
