"""Ranges: byte ranges as (offset, length), joined and compared.

Items of an offer begin at multiples of 64 bytes; the fewer than 64 bytes between two items belong to
neither, and are counted as there when both neighbours are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Range = tuple[int, int]
GAP_BYTES = 64


def union(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """The same bytes in as few ranges as possible, sorted; gaps smaller than `GAP_BYTES` are closed."""
    joined: list[Range] = []
    for offset, length in sorted(ranges):
        if joined and offset < joined[-1][0] + joined[-1][1] + GAP_BYTES:
            first, so_far = joined[-1]
            joined[-1] = (first, max(so_far, offset + length - first))
        else:
            joined.append((offset, length))
    return tuple(joined)


def covers(ranges: Sequence[Range], total: int) -> bool:
    """Whether joined ranges are all of a stream of `total` bytes."""
    return total == 0 or (len(ranges) == 1 and ranges[0][0] < GAP_BYTES and sum(ranges[0]) > total - GAP_BYTES)


def contains(ranges: Sequence[Range], wanted: Range) -> bool:
    """Whether joined ranges have all of one range."""
    offset, length = wanted
    return length == 0 or any(begin <= offset and offset + length <= begin + size for begin, size in ranges)
