"""Given memory: chunks find their places in it however they are cut."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, strategies as st

from zdl.download.given import IN_PLACE_BYTES, GivenSink
from zdl.refs import Ref, Source

STREAM = np.random.default_rng(7).integers(0, 256, 1 << 20, np.uint8).tobytes()
SOURCE = Source("site-1", bytes(16), bytes(16), len(STREAM))


def ref(offset: int, length: int, kind: str = "bytes", **more: Any) -> Ref:
    return Ref(SOURCE, 0, offset, length, kind, **more)


def fill(sink: GivenSink, chunk_bytes: int) -> int:
    """What a pull does. Returns how many chunks there were."""
    count = 0
    for offset, length in sink.ranges:
        for at in range(offset, offset + length, chunk_bytes):
            view = sink.view(at, min(chunk_bytes, offset + length - at))
            view[:] = STREAM[at:at + view.nbytes]
            sink.keep(at, view)
            count += 1
    return count


@given(st.lists(st.tuples(st.integers(0, 900_000), st.sampled_from([0, 1, 3, 64, 1000, 20_000, IN_PLACE_BYTES, 100_000])),
                max_size=12), st.sampled_from([777, 4096, 100_000, 1 << 20]))
def test_each_item_gets_its_bytes_whether_items_touch_overlap_or_stand_alone(items: list[tuple[int, int]], chunk: int) -> None:
    places = {ref(offset, length): memoryview(bytearray(length)) for offset, length in items}
    sink = GivenSink(places)
    fill(sink, chunk)
    for each, memory in places.items():
        assert memory == STREAM[each.offset:each.offset + each.length]
    assert not sink.may_block
    ends = [offset + length for offset, length in sink.ranges]
    assert all(end <= offset for end, (offset, _) in zip(ends, sink.ranges[1:])), "no byte is asked for twice"


def test_large_items_land_in_place_and_small_neighbours_share_a_chunk() -> None:
    large, small = bytearray(IN_PLACE_BYTES), [bytearray(100) for _ in range(100)]
    sink = GivenSink({ref(0, IN_PLACE_BYTES): memoryview(large), **{
        ref(1 << 17 | number * 128, 100): memoryview(each) for number, each in enumerate(small)}})
    sink.view(0, 5)[:] = b"begin"
    assert bytes(large[:5]) == b"begin"
    assert fill(sink, 1 << 20) == 2
