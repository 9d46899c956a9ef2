"""Borrowing: taking what others lend out of memory that both cells share, where the origin is on the same machine.

What comes out of a segment is used **in place**, mapped copy-on-write: nothing is copied, and what the user writes to his arrays
is his alone. Where he has given memory, it is copied there. Only then is it pulled in the sense of the protocol: all of it is
here already, and is confirmed. Whether it can be had at all is `zdl.download.samehost`.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from zdl.cell.cell import BareCell
from zdl.download.nearby import NearbySink
from zdl.download.patience import Patience
from zdl.download.puller import MEMORY, Transfer
from zdl.download.samehost import NotHere, SameHost, told_ranges
from zdl.download.sinks import overlapping
from zdl.errors import Cancelled, TimedOut
from zdl.objects.arrays import restore
from zdl.objects.manifest import Range, merge_ranges
from zdl.refs import Ref, Source

# What is copied before it is looked whether anybody still waits.
STEP_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class _Told:
    """One segment, as its origin tells of it; one that is not of its pool is an array of the user's there."""

    id: bytes
    size: int
    is_pooled: bool


class Borrowed:
    """Bytes of one offer, where they are.

    Args:
        extents: offset in the stream, length, and the memory, in order.
    """

    def __init__(self, extents: Sequence[tuple[int, memoryview]]) -> None:
        self._starts = [offset for offset, _ in extents]
        self._memories = [memory for _, memory in extents]

    def check(self, ranges: Sequence[Range]) -> None:
        """Raises `ValueError` where some byte of these is not there."""
        for offset, length in ranges:
            if sum(piece.nbytes for piece in self.pieces(offset, length)) != length:
                raise ValueError(f"bytes {offset} to {offset + length} are not all in what was handed over")

    def pieces(self, offset: int, length: int) -> Iterator[memoryview]:
        """The byte range, in order."""
        end = offset + length
        for number in range(max(0, bisect_right(self._starts, offset) - 1), len(self._starts)):
            start, memory = self._starts[number], self._memories[number]
            if start >= end:
                return
            yield memory[max(0, offset - start):end - start]

    def copied(self, offset: int, into: memoryview, go_on: Callable[[int], None] = lambda count: None) -> None:
        """Copies what lies from `offset` on; `go_on` is called with what was copied since it was last, and may raise."""
        at = 0
        for piece in self.pieces(offset, into.nbytes):
            for start in range(0, piece.nbytes, STEP_BYTES):
                part = piece[start:start + STEP_BYTES]
                np.copyto(np.frombuffer(into[at:at + part.nbytes], np.uint8), np.frombuffer(part, np.uint8))
                at += part.nbytes
                go_on(part.nbytes)


class SharedSink:
    """Items that are here already, in shared memory; see `zdl.download.puller.Sink`. There is nothing to receive.

    Args:
        refs: the items.
        borrowed: where they are.
    """

    def __init__(self, refs: Sequence[Ref], borrowed: Borrowed) -> None:
        self._borrowed = borrowed
        self._doubled = overlapping(refs)
        self.ranges: list[tuple[int, int]] = []
        self.have: list[tuple[int, int]] = merge_ranges((ref.offset, ref.length) for ref in refs)

    @property
    def may_block(self) -> bool:
        """Nothing is left to do."""
        return False

    def view(self, offset: int, length: int) -> memoryview:
        """No chunk comes."""
        raise AssertionError("nothing was asked for")

    def keep(self, offset: int, view: memoryview) -> None:
        """No chunk comes."""

    def finish(self) -> None:
        """Memory lasts as long as it does."""

    def take(self, ref: Ref) -> object:
        """The item: a writable array, or bytes."""
        pieces = list(self._borrowed.pieces(ref.offset, ref.length)) if ref.length else [memoryview(b"")]
        raw = pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces))
        if ref.kind == "array":
            return restore(ref.dtype, ref.shape, raw, copy=not ref.length or ref in self._doubled or len(pieces) > 1)
        return bytes(raw)


class CopyingSink(NearbySink):
    """Items in shared memory that are copied to where their user wants them.

    Args:
        source: the offer.
        places: the items, and memory of exactly their size. When the pull fails, what is in it is undefined.
        borrowed: where they are.
    """

    def __init__(self, source: Source, places: Mapping[Ref, memoryview], borrowed: Borrowed) -> None:
        super().__init__(source, merge_ranges((ref.offset, ref.length) for ref in places))
        self._places = places
        self._borrowed = borrowed

    def finish(self) -> None:
        """Copies all of it.

        Raises:
            Cancelled: nobody wants it any more.
        """
        done, most = 0, sum(length for _, length in self.have)

        def go_on(count: int) -> None:
            """So much more; items that overlap are copied each, and told of once."""
            nonlocal done
            done = min(done + count, most)
            self._tell(done)
            self.check_wanted()

        for ref, memory in self._places.items():
            self._borrowed.copied(ref.offset, memory, go_on)


class Borrower:
    """The side of a cell that takes what others share.

    Threads: all methods from any thread but the loops'.

    Args:
        cell: it maps what it is given.
        same_host: asks for it.
    """

    def __init__(self, cell: BareCell, same_host: SameHost) -> None:
        self._cell = cell
        self._same_host = same_host
        self._lock = threading.Lock()  # guards the one below
        self._copying: set[str] = set()

    def in_place(self, source: Source, refs: Sequence[Ref], patience: Patience, transfer: Transfer) -> SharedSink | None:
        """Items of an offer, mapped; or None, and the transfer says why not.

        Args:
            source: the offer.
            refs: the items.
            patience: of who waits for them.
            transfer: where it is noted.

        Raises:
            TimedOut, Cancelled, Closed: nobody waits any more.
        """
        ranges = merge_ranges((ref.offset, ref.length) for ref in refs)
        borrowed = self._tried(source, ranges, patience, transfer, lambda: self._mapped(source, ranges, patience, transfer))
        return None if borrowed is None else SharedSink(refs, borrowed)

    @contextmanager
    def copied(self, source: Source, places: Mapping[Ref, memoryview], patience: Patience,
               transfer: Transfer) -> Iterator[CopyingSink | None]:
        """What copies items of an offer to where they shall be, until the end of the block; or None, and the transfer says why not.

        Raises:
            TimedOut, Cancelled, Closed: nobody waits any more.
        """
        ranges = merge_ranges((ref.offset, ref.length) for ref in places)
        with self._alone(source.origin) as is_alone:
            borrowed = self._tried(source, ranges, patience, transfer, lambda: self._viewed(
                source, ranges, patience, transfer, is_alone=is_alone))
            yield None if borrowed is None else CopyingSink(source, places, borrowed)

    # --- inside ---------------------------------------------------------------------------------

    def _tried(self, source: Source, ranges: Sequence[Range], patience: Patience, transfer: Transfer,
               take: Callable[[], Borrowed]) -> Borrowed | None:
        """What can be had, or None; the transfer says what came of it."""
        why = self._same_host.why_not(source, sum(length for _, length in ranges), patience)
        if why is not None:
            transfer.why_not_shared = why
            return None
        try:
            borrowed = take()
        except NotHere as no:
            transfer.why_not_shared = self._same_host.noted(source.origin, no)
            return None
        except (Cancelled, TimedOut):
            self._same_host.given_up(source)
            raise
        transfer.way = MEMORY
        return borrowed

    def _mapped(self, source: Source, ranges: Sequence[Range], patience: Patience, transfer: Transfer) -> Borrowed:
        """Copy-on-write."""
        told = self._same_host.ask(source, {"ranges": told_ranges(ranges)}, patience, transfer)
        mapped = self._cell.lane.segments.mapped
        return self._fetched(source, told, ranges, lambda each, descriptor: mapped(descriptor, each.size))

    def _viewed(self, source: Source, ranges: Sequence[Range], patience: Patience, transfer: Transfer, *,
                is_alone: bool) -> Borrowed:
        """To be read only, at once; who is alone in this may use again what was mapped before."""
        segments = self._cell.lane.segments
        unread = segments.unread(source.origin, source.offer_id) if is_alone else frozenset()
        question = {"ranges": told_ranges(ranges), "unread": list(unread), "is_kept": is_alone, "is_copied": True}
        told = self._same_host.ask(source, question, patience, transfer, is_all=False)

        def mapped(each: _Told, descriptor: int) -> memoryview:
            """One segment."""
            if is_alone and each.is_pooled:
                return segments.view(source.origin, source.offer_id, each.id, descriptor, size=each.size,
                                     is_alone=told.get("is_alone") is True)
            return segments.mapped(descriptor, each.size)

        return self._fetched(source, told, ranges, mapped)

    @contextmanager
    def _alone(self, origin: str) -> Iterator[bool]:
        """Whether nobody else here copies out of segments of this origin until the end of the block."""
        with self._lock:
            is_alone = origin not in self._copying
            self._copying.add(origin)
        try:
            yield is_alone
        finally:
            if is_alone:
                with self._lock:
                    self._copying.discard(origin)

    def _fetched(self, source: Source, told: Mapping[str, Any], ranges: Sequence[Range],
                 mapped: Callable[[_Told, int], memoryview]) -> Borrowed:
        """What the origin hands over."""
        descriptors: list[int] = []
        try:
            wanted = [_Told(*each) for each in told["segments"]]
            descriptors = self._same_host.take(source, told, len(wanted))
            memories = [mapped(each, number) for each, number in zip(wanted, descriptors)]
            borrowed = Borrowed(_placed(told["extents"], memories))
            borrowed.check(ranges)
            return borrowed
        except (OSError, LookupError, TypeError, ValueError) as error:
            raise NotHere(f"the memory of {source.origin} cannot be had here: {error}", is_lasting=False) from error
        finally:
            for each in descriptors:
                os.close(each)


def _placed(extents: Sequence[Any], memories: Sequence[memoryview]) -> list[tuple[int, memoryview]]:
    """Where the origin says that each byte is: offset in the stream, and the memory.

    Raises:
        LookupError, TypeError, ValueError: what it says makes no sense.
    """
    found = []
    for offset, length, number, at in extents:
        memory = memories[number][at:at + length]
        if at < 0 or memory.nbytes != length:
            raise ValueError(f"bytes {at} to {at + length} are not within a segment of {memories[number].nbytes}")
        found.append((offset, memory))
    return sorted(found, key=lambda each: each[0])
