"""DiskSink: bytes on their way to a disk: what is verified may be kept, what is not finished is else gone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from zdl.download.disksink import DiskSink, missing, verified
from zdl.download.places import FilePlace
from zdl.download.records import digest_of
from zdl.errors import DiskFull, OptionError
from zdl.refs import Ref, Source


def sink_of(path: Path, length: int = 10, *, identity: bytes | None = None) -> DiskSink:
    ref = Ref(Source("server", bytes(16), bytes(16), length), 0, 0, length, "file", name="x")
    return DiskSink(path, ref, lambda: FilePlace(path, ref, is_overwriting=False), identity=identity)


def land(sink: DiskSink, offset: int, data: bytes) -> None:
    view = sink.view(offset, len(data))
    view[:] = data
    sink.keep(offset, view)


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_it_is_finished(tmp_path: Path) -> None:
    sink = sink_of(tmp_path / "x")
    assert sink.ranges == [(0, 10)] and sink.have == [] and sink.may_block
    for at in (5, 0):
        land(sink, at, b"world" if at else b"hello")
        assert left_in(tmp_path) == [".x.zdl-part"]
    sink.finish()
    assert (tmp_path / "x").read_bytes() == b"helloworld"
    sink.abandon()
    assert left_in(tmp_path) == ["x"], "what is finished stays"


def test_memory_is_used_again(tmp_path: Path) -> None:
    sink = sink_of(tmp_path / "x")
    first = sink.view(0, 5)
    sink.keep(0, first)
    assert sink.view(5, 5) is first and sink.view(5, 5) is not first
    sink.abandon()


def test_a_file_that_is_abandoned_is_gone_and_nothing_is_written_any_more(tmp_path: Path) -> None:
    sink = sink_of(tmp_path / "x")
    sink.abandon()
    assert left_in(tmp_path) == []
    with open(tmp_path / "innocent", "w+b") as other:  # has the descriptor that the sink had
        sink.keep(0, memoryview(b"hello"))
        sink.finish()
        other.flush()
        assert os.stat(other.name).st_size == 0
    sink.abandon()


def test_a_name_that_was_taken_meanwhile_is_left_alone(tmp_path: Path) -> None:
    sink = sink_of(tmp_path / "x", 1)
    land(sink, 0, b"y")
    (tmp_path / "x").write_bytes(b"precious")
    with pytest.raises(OptionError, match="a name that is free"):
        sink.finish()
    sink.abandon()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"x": b"precious"}


def test_what_cannot_be_written_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot be written"):
        sink_of(tmp_path / "missing" / "x")
    with pytest.raises(OptionError, match="cannot be written: File name too long"):
        sink_of(tmp_path / ("n" * 256))
    longest = sink_of(tmp_path / ("n" * 255))
    land(longest, 0, b"helloworld")
    longest.finish()
    longest.abandon()
    assert left_in(tmp_path) == ["n" * 255]


def test_more_than_the_disk_has_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    for identity in (None, bytes(32)):
        with pytest.raises(DiskFull):
            sink_of(tmp_path / "x", 1 << 55, identity=identity)
        assert left_in(tmp_path) == []


def test_what_is_verified_is_kept_for_a_later_pull_if_that_was_said(tmp_path: Path) -> None:
    first = sink_of(tmp_path / "x", identity=bytes(32))
    land(first, 5, b"world")
    first.abandon()
    assert left_in(tmp_path) == [".x.zdl-part", ".x.zdl-resume"]
    second = sink_of(tmp_path / "x", identity=bytes(32))
    assert (second.have, second.ranges) == ([(5, 5)], [(0, 5)])
    land(second, 0, b"hello")
    second.finish()
    second.abandon()
    assert left_in(tmp_path) == ["x"] and (tmp_path / "x").read_bytes() == b"helloworld"


@pytest.mark.parametrize("how", ["other content", "not asked to", "altered", "cut off", "gone"])
def test_what_is_not_the_same_any_more_is_pulled_again(tmp_path: Path, how: str) -> None:
    first = sink_of(tmp_path / "x", identity=bytes(32))
    land(first, 5, b"world")
    first.abandon()
    part = tmp_path / ".x.zdl-part"
    if how == "altered":
        part.write_bytes(b"\0\0\0\0\0worle")
    elif how == "cut off":
        os.truncate(part, 9)
    elif how == "gone":
        part.unlink()
    second = sink_of(tmp_path / "x", identity={"other content": bytes([1]) * 32, "not asked to": None}.get(how, bytes(32)))
    assert (second.have, second.ranges) == ([], [(0, 10)])
    land(second, 0, b"HELLOWORLD")
    second.finish()
    second.abandon()
    assert left_in(tmp_path) == ["x"] and (tmp_path / "x").read_bytes() == b"HELLOWORLD"


def test_what_would_fare_no_better_is_not_kept(tmp_path: Path) -> None:
    sink = sink_of(tmp_path / "x", identity=bytes(32))
    land(sink, 5, b"world")
    sink.abandon(is_worth_keeping=False)
    assert left_in(tmp_path) == []


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20))), st.integers(1, 40))
def test_what_is_verified_and_what_is_missing_are_all_of_it_and_do_not_overlap(pieces: list[tuple[int, int]], size: int) -> None:
    data = bytes(range(10, 10 + size))
    entries = [(at, length, digest_of(data[at:at + length])) for at, length in pieces]
    have = verified(entries, lambda offset, length: data[offset:offset + length], (0, size))
    rest = missing((0, size), have)
    covered = sorted([*have, *rest])
    assert sum(length for _, length in covered) == size
    assert [at for at, _ in covered] == [0, *(at + length for at, length in covered)][:-1]
    assert set(have) <= set(pieces)


def test_an_entry_that_claims_too_much_is_not_even_read() -> None:
    asked: list[int] = []

    def read(offset: int, length: int) -> bytes:
        asked.append(length)
        return b""

    entries = [(0, 0, bytes(32)), (0, 1 << 31, bytes(32)), (5, 100, bytes(32)), (0, 1, bytes(32))]
    assert verified(entries, read, (0, 50)) == [] and asked == [1]
