"""Records: what is told of a partial file; what is torn, or of something else, is not believed."""

from __future__ import annotations

from pathlib import Path

import pytest

from zdl.download.records import Record, digest_of, identity_of
from zdl.refs import Ref, Source

ONE, OTHER = bytes(32), bytes([1]) * 32


def written(path: Path, *pieces: tuple[int, bytes], identity: bytes = ONE) -> None:
    record = Record(path, identity)
    for offset, data in pieces:
        record.note(offset, memoryview(data))
    record.close()


def entries(path: Path, identity: bytes = ONE) -> list[tuple[int, int, bytes]]:
    record = Record(path, identity)
    record.close()
    return list(record.entries)


def test_what_was_noted_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "r"
    written(path, (0, b"abc"), (7, b"de"))
    written(path, (100, b"f"))
    assert entries(path) == [(0, 3, digest_of(b"abc")), (7, 2, digest_of(b"de")), (100, 1, digest_of(b"f"))]


def test_what_is_recorded_of_another_content_is_thrown_away(tmp_path: Path) -> None:
    path = tmp_path / "r"
    written(path, (0, b"abc"))
    assert entries(path, OTHER) == [] and entries(path, ONE) == []


@pytest.mark.parametrize("torn", [1, 20, 43])
def test_an_entry_that_was_torn_off_is_cut_away_and_the_next_one_is_whole(tmp_path: Path, torn: int) -> None:
    path = tmp_path / "r"
    written(path, (0, b"abc"), (7, b"de"))
    path.write_bytes(path.read_bytes()[:-torn])
    written(path, (9, b"xyz"))
    assert entries(path) == [(0, 3, digest_of(b"abc")), (9, 3, digest_of(b"xyz"))]


@pytest.mark.parametrize("data", [b"", b"zdl", b"x" * 1000])
def test_what_is_no_record_becomes_an_empty_one(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "r"
    path.write_bytes(data)
    assert entries(path) == []
    written(path, (0, b"abc"))
    assert entries(path) == [(0, 3, digest_of(b"abc"))]


def test_a_record_that_is_removed_leaves_nothing(tmp_path: Path) -> None:
    record = Record(tmp_path / "r", ONE)
    record.remove()
    record.remove()
    assert list(tmp_path.iterdir()) == []


def test_each_offer_and_each_part_of_one_is_another_content() -> None:
    def ref(offer: int, offset: int, length: int) -> Ref:
        return Ref(Source("server", bytes([offer]) * 16, bytes(16), 100), 0, offset, length, "file")

    assert identity_of(ref(1, 0, 5)) == identity_of(ref(1, 0, 5))
    stamped = Ref(Source("server", bytes(16), bytes(16), 9), 0, 0, 9, "file", stamp=b"s")
    again = Ref(Source("other", bytes(range(16)), bytes(16), 9), 0, 0, 9, "file", stamp=b"s", name="new")
    assert identity_of(stamped) == identity_of(again)
    assert len({identity_of(each) for each in (ref(1, 0, 5), ref(2, 0, 5), ref(1, 1, 5), ref(1, 0, 6))}) == 4
