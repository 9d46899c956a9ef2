"""Items as one byte stream: offsets, pieces of a range, and ranges joined and cut."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from zdl.errors import ObjectError
from zdl.objects.manifest import ALIGN_BYTES, ALONE_BYTES, PADDING, Manifest, aligned, cut, merge_ranges

lengths_lists = st.lists(st.integers(0, 300), max_size=12)
ranges_lists = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 300)), max_size=12)


def stream_of(manifest: Manifest) -> tuple[list[bytes], bytes]:
    """Items of recognisable bytes, never zero, and the stream that they make."""
    items = [bytes(1 + (item * 31 + at) % 255 for at in range(length)) for item, length in enumerate(manifest.lengths)]
    stream = bytearray(manifest.bytes_total)
    for offset, item in zip(manifest.offsets, items):
        stream[offset:offset + len(item)] = item
    return items, bytes(stream)


def test_an_offer_of_nothing_has_an_empty_stream() -> None:
    manifest = Manifest.of([])
    assert manifest == Manifest(offsets=(), lengths=(), bytes_total=0)
    assert manifest.pieces(0, 0) == []


def test_items_begin_at_multiples_of_64_and_the_stream_ends_with_the_last() -> None:
    assert Manifest.of([1, 64, 65, 0, 3]) == Manifest(offsets=(0, 64, 128, 256, 256), lengths=(1, 64, 65, 0, 3),
                                                      bytes_total=259)


def test_a_range_over_items_and_gaps_is_told_in_pieces() -> None:
    manifest = Manifest.of([10, 0, 70])
    assert manifest.pieces(4, 100) == [(0, 4, 10), (PADDING, 0, 54), (2, 0, 40)]
    assert manifest.pieces(20, 10) == [(PADDING, 0, 10)]
    assert manifest.pieces(134, 0) == []


def test_the_range_of_an_item_is_its_place_in_the_stream() -> None:
    manifest = Manifest.of([10, 20])
    assert manifest.range_of(1) == (64, 20)
    assert manifest.pieces(*manifest.range_of(1)) == [(1, 0, 20)]


@pytest.mark.parametrize("item", [-1, 2])
def test_an_item_that_is_not_there_has_no_range(item: int) -> None:
    with pytest.raises(ObjectError, match="there is no item"):
        Manifest.of([10, 20]).range_of(item)


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, -1), (0, 85), (84, 1), (1 << 70, 0)])
def test_a_range_outside_the_stream_is_refused(offset: int, length: int) -> None:
    with pytest.raises(ObjectError, match="not within the 84 offered"):
        Manifest.of([10, 20]).pieces(offset, length)


def test_a_negative_length_is_refused() -> None:
    with pytest.raises(ObjectError, match="item 1 has -2 bytes"):
        Manifest.of([3, -2])


@given(lengths_lists, st.data())
def test_the_pieces_of_any_range_are_exactly_its_bytes(lengths: list[int], data: st.DataObject) -> None:
    manifest = Manifest.of(lengths)
    items, stream = stream_of(manifest)
    offset = data.draw(st.integers(0, manifest.bytes_total))
    length = data.draw(st.integers(0, manifest.bytes_total - offset))
    pieces = manifest.pieces(offset, length)
    assert all(start < stop for _, start, stop in pieces)
    read = b"".join(bytes(stop) if item == PADDING else items[item][start:stop] for item, start, stop in pieces)
    assert read == stream[offset:offset + length]


@given(lengths_lists)
def test_offsets_are_aligned_and_items_do_not_overlap(lengths: list[int]) -> None:
    manifest = Manifest.of(lengths)
    end = 0
    for offset, length in zip(manifest.offsets, manifest.lengths):
        assert offset % ALIGN_BYTES == 0 and end <= offset < end + ALIGN_BYTES and offset == aligned(end)
        end = offset + length
    assert manifest.bytes_total == end


def test_ranges_that_touch_overlap_or_leave_a_small_gap_are_joined() -> None:
    assert merge_ranges([(200, 10), (0, 100), (50, 60), (173, 27), (274, 1)]) == [(0, 210), (274, 1)]


def test_empty_ranges_vanish() -> None:
    assert merge_ranges([(5, 0), (900, 0)]) == []


@given(ranges_lists)
def test_merged_ranges_are_sorted_disjoint_and_cover_the_same_bytes_but_for_small_gaps(
        ranges: list[tuple[int, int]]) -> None:
    merged = merge_ranges(ranges)
    wanted = {at for offset, length in ranges for at in range(offset, offset + length)}
    covered = {at for offset, length in merged for at in range(offset, offset + length)}
    assert wanted <= covered
    for (offset, length), (following, _) in zip(merged, merged[1:]):
        assert following - (offset + length) >= ALIGN_BYTES
    for offset, length in merged:
        assert offset in wanted and offset + length - 1 in wanted
    assert merge_ranges(merged) == merged


@given(ranges_lists, st.integers(1, 100))
def test_a_cut_keeps_the_bytes_in_order_and_no_piece_is_too_long(ranges: list[tuple[int, int]], most: int) -> None:
    pieces = list(cut(ranges, most))
    assert all(1 <= length <= most for _, length in pieces)
    assert [at for offset, length in pieces for at in range(offset, offset + length)] == [
        at for offset, length in ranges for at in range(offset, offset + length)]


def test_a_chunk_of_no_bytes_is_refused() -> None:
    with pytest.raises(ObjectError, match="holds nothing"):
        list(cut([(0, 1)], 0))


def test_it_knows_what_lies_between_items() -> None:
    assert Manifest.of([100, 64, 1, 0, 7]).gaps == {100: 28, 193: 63}
    assert Manifest.of([64, 128]).gaps == Manifest.of([]).gaps == Manifest.of([5]).gaps == {}
    assert Manifest.of([5, 0]).gaps == {5: 59}


def test_runs_are_what_lies_between_large_items_and_each_of_these_alone() -> None:
    manifest = Manifest.of([10, 0, 70, ALONE_BYTES, 5, ALONE_BYTES + 1, ALONE_BYTES])
    (_, third), (_, large), (_, small), (_, larger), (_, last) = found = manifest.runs()
    assert [offset for offset, _ in found] == [0, *manifest.offsets[3:]]
    assert (third, large, small, larger, last) == (64 + 70, ALONE_BYTES, 5, ALONE_BYTES + 1, ALONE_BYTES)
    assert Manifest.of([]).runs() == [] == Manifest.of([0]).runs()
