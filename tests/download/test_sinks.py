"""Where bytes land: memory that is aligned and writable, or a file that appears when it is whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from zdl.download.sinks import HUGE_PAGE_BYTES, OWN_BYTES_MIN, MemorySink, taken
from zdl.errors import TooLarge
from zdl.objects.manifest import ALONE_BYTES, Manifest
from zdl.refs import Ref, Source


def refs_of(lengths: list[int], kind: str = "array") -> list[Ref]:
    """Refs of items of these lengths, in one offer."""
    manifest = Manifest.of(lengths)
    source = Source("server", bytes(16), bytes(16), manifest.bytes_total)
    return [Ref(source, index, offset, length, kind, "|u1" if kind == "array" else "", (length,) if kind == "array" else ())
            for index, (offset, length) in enumerate(zip(manifest.offsets, lengths, strict=True))]


def fill(sink: MemorySink, stream: bytes, chunk: int) -> None:
    """Lets chunks of the stream land, the last one first."""
    for offset, length in reversed(sink.ranges):
        for at in reversed(range(offset, offset + length, chunk)):
            size = min(chunk, offset + length - at)
            view = sink.view(at, size)
            view[:] = stream[at:at + size]
            sink.keep(at, view)


@given(st.lists(st.integers(0, 300), min_size=1, max_size=12), st.data())
def test_every_item_is_what_the_stream_has_there(lengths: list[int], data: st.DataObject) -> None:
    refs = refs_of(lengths)
    wanted = data.draw(st.lists(st.sampled_from(refs), min_size=1))
    stream = bytes(at % 251 for at in range(refs[0].source.bytes_total))
    sink = MemorySink(wanted)
    fill(sink, stream, 100)
    for ref, array in taken(sink, wanted).items():
        assert isinstance(array, np.ndarray)
        assert bytes(array) == stream[ref.offset:ref.offset + ref.length]
        assert array.flags.writeable and array.flags.aligned and array.flags.c_contiguous
        assert not array.size or array.ctypes.data % 64 == 0


def test_small_items_share_one_arena_and_come_in_one_piece() -> None:
    sink = MemorySink(refs_of([1000] * 5000))
    assert len(sink.ranges) == 1
    assert not sink.may_block


def test_large_arrays_begin_on_a_huge_page() -> None:
    (ref,) = refs_of([ALONE_BYTES])
    sink = MemorySink([ref])
    array = sink.take(ref)
    assert isinstance(array, np.ndarray)
    assert array.ctypes.data % HUGE_PAGE_BYTES == 0
    assert array.flags.writeable


def test_items_far_from_each_other_are_ranges_of_their_own() -> None:
    refs = refs_of([100] * 10)
    sink = MemorySink([refs[0], refs[5], refs[6]])
    assert sink.ranges == [(0, 100), (640, 228)]


def test_bytes_come_as_bytes() -> None:
    refs = refs_of([5, 0], kind="bytes")
    sink = MemorySink(refs)
    fill(sink, b"hello" + bytes(100), 3)
    assert taken(sink, refs) == {refs[0]: b"hello", refs[1]: b""}


def test_large_bytes_land_in_what_is_given() -> None:
    refs = refs_of([OWN_BYTES_MIN, OWN_BYTES_MIN - 1, OWN_BYTES_MIN + 1, 7], kind="bytes")
    stream = bytes(range(251)) * (refs[0].source.bytes_total // 251 + 1)
    sink = MemorySink(refs)
    places = {ref: np.frombuffer(sink.view(ref.offset, ref.length), np.uint8).ctypes.data for ref in refs}
    fill(sink, stream, 1 << 18)
    found = taken(sink, refs)
    assert found == {ref: stream[ref.offset:ref.offset + ref.length] for ref in refs}
    is_same = [np.frombuffer(sink.take(ref), np.uint8).ctypes.data == places[ref] for ref in refs]  # type: ignore[call-overload]
    assert is_same == [True, False, True, False]


def test_bytes_that_somebody_can_still_write_to_are_copied() -> None:
    (ref,) = refs_of([OWN_BYTES_MIN], kind="bytes")
    sink = MemorySink([ref])
    late = sink.view(0, 5)
    found = sink.take(ref)
    late[:] = b"later"
    assert found == bytes(OWN_BYTES_MIN)


def test_large_bytes_that_have_bytes_in_common_do_not_share_memory() -> None:
    (whole,) = refs_of([2 * OWN_BYTES_MIN], kind="bytes")
    part = Ref(whole.source, whole.item, 1, OWN_BYTES_MIN, "bytes", "", ())
    stream = bytes(range(256)) * (2 * OWN_BYTES_MIN // 256)
    sink = MemorySink([whole, part])
    fill(sink, stream, 1 << 18)
    assert taken(sink, [whole, part]) == {whole: stream, part: stream[1:1 + OWN_BYTES_MIN]}


@pytest.mark.parametrize("kind", ["array", "bytes"])
def test_more_than_there_is_memory_is_told_and_not_tried(kind: str) -> None:
    (ref,) = refs_of([1 << 50], kind)
    with pytest.raises(TooLarge) as caught:
        MemorySink([ref])
    assert (caught.value.size, caught.value.limit) == (1 << 50, "free memory")
