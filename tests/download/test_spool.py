"""Spool: files without names, whose room is free when their last user is gone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from zdl.download.spool import Spool, SpoolFile, SpoolSink
from zdl.errors import DiskFull, OptionError, TooLarge
from zdl.objects.manifest import Manifest
from zdl.options import DiskOptions
from zdl.refs import Ref, Source


def ref_of(length: int, offset: int = 0, total: int = 1 << 60) -> Ref:
    return Ref(Source("server", bytes(16), bytes(16), total), 0, offset, length, "bytes")


def spool_in(folder: Path, most: int = 1 << 30) -> Spool:
    return Spool(DiskOptions(spool_folder=str(folder), spool_bytes_max=most))


def test_a_spool_file_has_no_name(tmp_path: Path) -> None:
    file = spool_in(tmp_path).file(10, ref_of(10))
    file.write(3, memoryview(b"hello"))
    assert file.read(2, 5) == b"\0hell" and file.read(6, 100) == b"lo"
    assert list(tmp_path.iterdir()) == []


def test_what_is_written_to_a_mapping_is_there_when_it_is_mapped_again(tmp_path: Path) -> None:
    file = spool_in(tmp_path).file(10_000, ref_of(10_000))
    file.write(0, memoryview(bytes(10_000)))
    file.map(5000, 5)[:] = b"hello"
    assert bytes(file.map(4999, 7)) == b"\0hello\0" and file.read(5000, 5) == b"hello"


def test_the_room_counts_until_the_file_and_all_that_is_mapped_of_it_is_gone(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    file = spool.file(4096, ref_of(4096))
    file.write(0, memoryview(bytes(4096)))
    mapped = file.map(0, 4096)
    del file
    assert (spool.bytes_used, bytes(mapped[:1])) == (4096, b"\0")
    del mapped
    assert spool.bytes_used == 0 and len(os.listdir("/proc/self/fd")) == before


def test_more_than_the_limit_is_refused_by_its_name(tmp_path: Path) -> None:
    spool = spool_in(tmp_path, 100)
    first = spool.file(60, ref_of(60))
    with pytest.raises(TooLarge) as caught:
        spool.file(41, ref_of(41))
    assert (caught.value.limit, caught.value.value, caught.value.size) == ("disk.spool_bytes_max", 100, 41)
    spool.file(40, ref_of(40))
    del first
    spool.file(100, ref_of(100))


def test_more_than_the_disk_has_is_refused_and_does_not_count(tmp_path: Path) -> None:
    spool = spool_in(tmp_path, 1 << 60)
    with pytest.raises(DiskFull):
        spool.file(1 << 55, ref_of(1 << 55))
    assert spool.bytes_used == 0


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot be written"):
        spool_in(tmp_path / "missing").file(1, ref_of(1))
    (tmp_path / "file").touch()
    with pytest.raises(OptionError, match="cannot be written"):
        spool_in(tmp_path / "file").file(1, ref_of(1))


@given(st.lists(st.integers(0, 300), min_size=1, max_size=12), st.lists(st.booleans(), min_size=12, max_size=12),
       st.integers(1, 200))
def test_each_item_is_found_where_its_chunks_were_put_and_as_aligned_as_in_the_stream(
        lengths: list[int], wanted: list[bool], chunk: int) -> None:
    manifest = Manifest.of(lengths)
    stream = bytes(each % 251 for each in range(manifest.bytes_total))
    refs = [ref_of(length, offset) for offset, length, is_wanted in zip(manifest.offsets, lengths, wanted) if is_wanted]
    if not refs:
        return
    sink = SpoolSink(Spool(DiskOptions(spool_folder="/var/tmp")), refs)
    assert isinstance(sink.file, SpoolFile) and sink.may_block and not sink.have
    for offset, length in reversed(sink.ranges):
        for at in range(offset, offset + length, chunk):
            size = min(chunk, offset + length - at)
            view = sink.view(at, size)
            view[:] = stream[at:at + size]
            sink.keep(at, view)
    sink.finish()
    for ref in refs:
        if ref.length:
            place = sink.place_of(ref.offset)
            assert sink.file.read(place, ref.length) == stream[ref.offset:ref.offset + ref.length] and place % 64 == 0


def test_a_part_of_an_item_is_as_aligned_as_the_item(tmp_path: Path) -> None:
    sink = SpoolSink(spool_in(tmp_path), [ref_of(100, 64 + 8), ref_of(64, 192), ref_of(7, 1024 + 4)])
    assert [sink.place_of(at) % 64 for at in (72, 192, 1028)] == [8, 0, 4]
