"""Many items as one virtual byte stream: where each begins, and what a range of the stream is made of.

An offer is asked for by byte ranges of its stream, never by item, so that many small items travel in one
chunk and one large item in many. Items begin at multiples of 64 bytes; the gaps are zeros. A receiver that
lays the stream into one arena can therefore use each item in place: 64 is a cache line, and more than any
element type or vector instruction asks for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import add

from zdl.errors import ObjectError

ALIGN_BYTES = 64
# An item of at least so much is received by itself; what is smaller lies in one run with its neighbours. Fresh memory in huge
# pages of 2 MiB wastes half of one for each item that has memory of its own.
ALONE_BYTES = 4 << 20
# Stands for the number of the item in a piece that is a gap between items: zeros.
PADDING = -1

# A range of the stream: (offset, length).
Range = tuple[int, int]
# A range of one item: (item, start, stop), or (PADDING, 0, count of zeros). A tuple, because one chunk of
# small items has hundreds of them.
Piece = tuple[int, int, int]


def aligned(offset: int) -> int:
    """The first place at or after `offset` where an item may begin."""
    return -(-offset // ALIGN_BYTES) * ALIGN_BYTES


@dataclass(frozen=True, slots=True)
class Manifest:
    """Where the items of one offer are in its byte stream.

    Attributes:
        offsets: where each item begins, ascending, multiples of `ALIGN_BYTES`.
        lengths: bytes of each item.
        bytes_total: length of the stream; it ends with the last item.
    """

    offsets: tuple[int, ...]
    lengths: tuple[int, ...]
    bytes_total: int

    @classmethod
    def of(cls, lengths: Iterable[int]) -> Manifest:
        """The manifest of items of these lengths, in this order."""
        sizes = tuple(lengths)
        offsets: list[int] = []
        end = 0
        for size in sizes:
            if size < 0:
                raise ObjectError(path="", reason=f"item {len(offsets)} has {size} bytes")
            offsets.append(aligned(end))
            end = offsets[-1] + size
        return cls(offsets=tuple(offsets), lengths=sizes, bytes_total=end)

    @property
    def gaps(self) -> dict[int, int]:
        """What lies between items: how many bytes, by where they begin."""
        ends = map(add, self.offsets, self.lengths)
        return {end: begin - end for end, begin in zip(ends, self.offsets[1:]) if begin > end}

    def range_of(self, item: int) -> Range:
        """The range of the stream that is this item."""
        if not 0 <= item < len(self.offsets):
            raise ObjectError(path="", reason=f"there is no item {item} among {len(self.offsets)}")
        return self.offsets[item], self.lengths[item]

    def runs(self) -> list[Range]:
        """The stream as one who wants all of it asks for it: each large item alone, and what lies between two of these as one."""
        items = list(zip(self.offsets, self.lengths))
        alone = [each for each in items if each[1] >= ALONE_BYTES]
        return sorted([*alone, *merge_ranges(each for each in items if each[1] < ALONE_BYTES)])

    def pieces(self, offset: int, length: int) -> list[Piece]:
        """What a range of the stream is made of, in order; empty for an empty range.

        Raises:
            ObjectError: the range is not within the stream.
        """
        end = offset + length
        if length < 0 or not 0 <= offset <= end <= self.bytes_total:
            raise ObjectError(path="", reason=f"bytes {offset} to {end} are not within the {self.bytes_total} offered")
        found: list[Piece] = []
        item = bisect_right(self.offsets, offset) - 1
        while offset < end:
            start = self.offsets[item]
            stop = start + self.lengths[item]
            if offset < stop:
                last = min(end, stop)
                found.append((item, offset - start, last - start))
                offset = last
                continue
            item += 1
            last = min(end, self.offsets[item])
            if offset < last:
                found.append((PADDING, 0, last - offset))
                offset = last
        return found


def merge_ranges(ranges: Iterable[Range]) -> list[Range]:
    """The same bytes as few ranges: sorted, disjoint, none empty.

    Neighbours are joined when they overlap, touch, or leave a gap that is no more than the padding between
    two items (less than `ALIGN_BYTES`): asking for it costs less than a question of its own.
    """
    merged: list[Range] = []
    begin = end = -1
    for offset, length in sorted(ranges):
        if length <= 0:
            continue
        if begin >= 0 and offset - end < ALIGN_BYTES:
            end = max(end, offset + length)
            continue
        if begin >= 0:
            merged.append((begin, end - begin))
        begin, end = offset, offset + length
    if begin >= 0:
        merged.append((begin, end - begin))
    return merged


def cut(ranges: Iterable[Range], chunk_bytes: int) -> Iterator[Range]:
    """The ranges in order, in pieces of at most `chunk_bytes`, each range cut from its own beginning."""
    if chunk_bytes < 1:
        raise ObjectError(path="", reason=f"a chunk of {chunk_bytes} bytes holds nothing")
    for offset, length in ranges:
        for start in range(offset, offset + length, chunk_bytes):
            yield start, min(chunk_bytes, offset + length - start)
