"""Where bytes land: memory that is aligned and writable, or a file that appears when it is whole."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from zdl.download.sinks import HUGE_PAGE_BYTES, OWN_MEMORY_BYTES, FileSink, MemorySink, taken
from zdl.errors import DiskFull, OptionError, TooLarge
from zdl.objects.manifest import Manifest
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
    (ref,) = refs_of([OWN_MEMORY_BYTES])
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


def test_more_than_there_is_memory_is_told_and_not_tried() -> None:
    (ref,) = refs_of([1 << 50])
    with pytest.raises(TooLarge) as caught:
        MemorySink([ref])
    assert (caught.value.size, caught.value.limit) == (1 << 50, "free memory")


# --- files --------------------------------------------------------------------------------------

def file_ref(length: int) -> Ref:
    return Ref(Source("server", bytes(16), bytes(16), length), 0, 0, length, "file", name="x")


def test_a_file_appears_when_it_is_finished(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "x", file_ref(10), is_overwriting=False)
    assert sink.ranges == [(0, 10)] and sink.may_block
    for at in (5, 0):
        view = sink.view(at, 5)
        view[:] = b"world" if at else b"hello"
        sink.keep(at, view)
        assert sorted(path.name for path in tmp_path.iterdir()) == [".x.zdl-part"]
    sink.finish()
    assert (tmp_path / "x").read_bytes() == b"helloworld"
    sink.abandon()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x"], "what is finished stays"


def test_a_file_that_is_abandoned_is_gone_and_nothing_is_written_any_more(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "x", file_ref(10), is_overwriting=False)
    sink.abandon()
    assert list(tmp_path.iterdir()) == []
    with open(tmp_path / "innocent", "w+b") as other:  # has the descriptor that the sink had
        sink.keep(0, memoryview(b"hello"))
        other.flush()
        assert os.stat(other.name).st_size == 0
    sink.abandon()


def test_a_name_that_was_taken_meanwhile_is_left_alone(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "x", file_ref(1), is_overwriting=False)
    sink.keep(0, memoryview(b"y"))
    (tmp_path / "x").write_bytes(b"precious")
    with pytest.raises(OptionError, match="a name that is free"):
        sink.finish()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"x": b"precious"}


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot be written"):
        FileSink(tmp_path / "missing" / "x", file_ref(1), is_overwriting=False)
    with pytest.raises(OptionError, match="cannot be written"):
        FileSink(tmp_path / ("n" * 250), file_ref(1), is_overwriting=False)


def test_more_than_the_disk_has_is_told(tmp_path: Path) -> None:
    with pytest.raises(DiskFull):
        FileSink(tmp_path / "x", file_ref(1 << 55), is_overwriting=False)
    assert list(tmp_path.iterdir()) == []
