"""Ranges: byte ranges as (offset, length), joined and compared. Exactly: a byte that is in none of them is missing.

Items of an offer begin at multiples of 64 bytes. The few bytes between two items belong to neither, and nobody asks for
them alone: whoever has an item to its end is said to have them too (`grown`). Who knows where items end says where.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

Range = tuple[int, int]


def union(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """The same bytes in as few ranges as possible, sorted."""
    joined: list[Range] = []
    for offset, length in sorted(ranges):
        if joined and offset <= joined[-1][0] + joined[-1][1]:
            first, so_far = joined[-1]
            joined[-1] = (first, max(so_far, offset + length - first))
        else:
            joined.append((offset, length))
    return tuple(joined)


def grown(ranges: Iterable[Range], gaps: Mapping[int, int]) -> Iterable[Range]:
    """The ranges, with the gap behind each one that ends where a gap begins; `gaps`: how long each is, by where it begins."""
    return [(offset, length + gaps.get(offset + length, 0)) for offset, length in ranges] if gaps else ranges


def contains(ranges: Sequence[Range], wanted: Range) -> bool:
    """Whether joined ranges have all of one range."""
    offset, length = wanted
    return length == 0 or any(begin <= offset and offset + length <= begin + size for begin, size in ranges)
