"""Lent objects in memory, read as one byte stream: any range of it, however it is cut."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, strategies as st

from zdl.download.arrays import BLOCK_BYTES, GATHER_BELOW_BYTES, Buffers
from zdl.download.born import Home
from zdl.objects.manifest import ALONE_BYTES, Manifest


def lent(lengths: Sequence[int]) -> tuple[Buffers, bytes]:
    """Buffers of these lengths, and the stream that they are."""
    items = [bytes((index * 7 + at) % 255 + 1 for at in range(length)) for index, length in enumerate(lengths)]
    manifest = Manifest.of(lengths)
    stream = bytearray(manifest.bytes_total)
    for offset, item in zip(manifest.offsets, items, strict=True):
        stream[offset:offset + len(item)] = item
    return Buffers(manifest, [memoryview(item) for item in items]), bytes(stream)


@given(st.lists(st.integers(0, 200), min_size=1, max_size=8), st.data())
def test_every_range_is_what_the_stream_has_there(lengths: list[int], data: st.DataObject) -> None:
    buffers, stream = lent(lengths)
    offset = data.draw(st.integers(0, len(stream)))
    length = data.draw(st.integers(0, len(stream) - offset))
    assert b"".join(buffers.read(offset, length)) == stream[offset:offset + length]


def test_gaps_are_zeros_even_before_a_short_item() -> None:
    buffers, stream = lent([1, 3])
    assert b"".join(buffers.read(0, 67)) == stream
    assert stream[1:64] == bytes(63)


def test_small_items_are_gathered_and_large_ones_are_views() -> None:
    small, large = 100, GATHER_BELOW_BYTES
    items = [bytes(small), bytes(small), bytes(large), bytes(small), bytes(large)]
    manifest = Manifest.of(map(len, items))
    parts = Buffers(manifest, [memoryview(item) for item in items]).read(0, manifest.bytes_total)
    assert [isinstance(part, memoryview) for part in parts] == [False, True, False, True]
    assert parts[1].obj is items[2] and parts[3].obj is items[4]  # type: ignore[union-attr]


def test_memory_does_not_block() -> None:
    assert not lent([1])[0].may_block


@given(st.lists(st.integers(0, 200), min_size=1, max_size=8), st.data())
def test_every_range_can_be_copied(lengths: list[int], data: st.DataObject) -> None:
    buffers, stream = lent(lengths)
    assert buffers.nbytes == len(stream)
    offset = data.draw(st.integers(0, len(stream)))
    place = bytearray(data.draw(st.integers(0, len(stream) - offset)))
    buffers.copy_into(offset, memoryview(place))
    assert place == stream[offset:offset + len(place)]


@given(st.lists(st.integers(0, 200), min_size=1, max_size=8), st.data())
def test_where_each_byte_is_placed(lengths: list[int], data: st.DataObject) -> None:
    """What lies in a segment goes to the beginning of the next item; all else is in no segment."""
    buffers, stream = lent(lengths)
    manifest = Manifest.of(lengths)
    buffers.homes = {item: Home(f"segment {item}", None) for item in data.draw(st.sets(st.integers(0, len(lengths) - 1)))}
    offset = data.draw(st.integers(0, len(stream)))
    length = data.draw(st.integers(0, len(stream) - offset))
    at = offset
    for start, size, home, place in buffers.placed(offset, length):
        assert start == at and size > 0
        at += size
        items = {item for item, _, _ in manifest.pieces(start, size) if item >= 0}
        if home is None:
            assert not items & buffers.homes.keys()
        else:
            item, = items
            assert buffers.homes[item] is home and manifest.offsets[item] + place == start
    assert at == offset + length


SIZES = (0, 1, 1000, BLOCK_BYTES - 1, BLOCK_BYTES, 2 * BLOCK_BYTES + 70)


@given(st.lists(st.sampled_from(SIZES), min_size=1, max_size=8), st.data())
def test_blocks_are_the_range_in_order_cut_where_blocks_begin(lengths: list[int], data: st.DataObject) -> None:
    manifest = Manifest.of(lengths)
    zeros = memoryview(bytes(max(lengths)))
    buffers = Buffers(manifest, [zeros[:length] for length in lengths])
    offset = data.draw(st.integers(0, manifest.bytes_total))
    length = data.draw(st.integers(0, manifest.bytes_total - offset))
    at, starts = offset, {start for start, _ in buffers.grid}
    for start, size in buffers.blocks(offset, length):
        assert start == at and 0 < size < 2 * BLOCK_BYTES
        assert start == offset or (start in starts)
        at += size
        assert at == offset + length or at in starts
    assert at == offset + length


@given(st.lists(st.sampled_from((*SIZES, ALONE_BYTES, ALONE_BYTES + 1)), min_size=1, max_size=8), st.data())
def test_the_blocks_that_a_range_touches_are_those_with_a_byte_in_it(lengths: list[int], data: st.DataObject) -> None:
    manifest = Manifest.of(lengths)
    zeros = memoryview(bytes(max(lengths)))
    grid = Buffers(manifest, [zeros[:length] for length in lengths]).grid
    offset = data.draw(st.integers(0, manifest.bytes_total))
    length = data.draw(st.integers(0, manifest.bytes_total - offset))
    assert list(grid.touched(offset, length)) == [(start, size) for start, size in grid
                                                  if start < offset + length and start + size > offset]
    assert sum(size for _, size in grid) >= sum(lengths), "each byte of an item lies in a block"
