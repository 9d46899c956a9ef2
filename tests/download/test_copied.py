"""Copied: a file of this host is read from where it lies; what it was when it was lent, or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from zdl.download.copied import PIECE_BYTES, CopiedSink
from zdl.download.files import FileSource
from zdl.errors import Cancelled, SourceChanged
from zdl.refs import Ref, Source

SIZE = 2 * PIECE_BYTES + 100
SOURCE = Source("server", b"i" * 16, b"s" * 16, SIZE)


class Kept:
    """Keeps in memory what is to go to a disk."""

    def __init__(self, ranges: list[tuple[int, int]], have: list[tuple[int, int]]) -> None:
        self.ranges, self.have = ranges, have
        self.data = bytearray(SIZE)
        self.is_finished = False

    def view(self, offset: int, length: int) -> memoryview:
        return memoryview(bytearray(length))

    def keep(self, offset: int, view: memoryview) -> None:
        self.data[offset:offset + view.nbytes] = view

    def finish(self) -> None:
        self.is_finished = True


@pytest.fixture
def lent(tmp_path: Path) -> Path:
    path = tmp_path / "lent"
    path.write_bytes(os.urandom(SIZE))
    return path


def copied(path: Path, kept: Kept) -> CopiedSink:
    source = FileSource(path, "server")
    ref = Ref(SOURCE, 0, 0, SIZE, "file", stamp=source.stamp.digest)
    return CopiedSink(ref, kept, os.open(path, os.O_RDONLY), 0)


def test_all_is_there_from_the_beginning_and_finishing_copies_it(lent: Path) -> None:
    kept, seen = Kept([(0, SIZE)], []), list[int]()
    sink = copied(lent, kept)
    assert (sink.ranges, sink.have, sink.may_block) == ([], [(0, SIZE)], True)
    sink.begin(seen.append, lambda: "")
    sink.finish()
    sink.close()
    assert kept.data == lent.read_bytes() and kept.is_finished
    assert seen == [PIECE_BYTES, 2 * PIECE_BYTES, SIZE]


def test_what_is_there_already_is_not_copied_again(lent: Path) -> None:
    kept, seen = Kept([(100, PIECE_BYTES)], [(0, 100), (PIECE_BYTES + 100, PIECE_BYTES)]), list[int]()
    sink = copied(lent, kept)
    sink.begin(seen.append, lambda: "")
    sink.finish()
    sink.close()
    assert sum(length for _, length in sink.have) == SIZE
    assert kept.data[100:PIECE_BYTES + 100] == lent.read_bytes()[100:PIECE_BYTES + 100] and not any(kept.data[:100])
    assert seen == [SIZE]


@pytest.mark.parametrize("change", [lambda path: os.truncate(path, 5), lambda path: path.write_bytes(bytes(SIZE)),
                                    lambda path: path.rename(path.with_name("other"))])
def test_a_file_that_changes_meanwhile_is_not_finished(lent: Path, change: Callable[[Path], object]) -> None:
    kept = Kept([(0, SIZE)], [])
    sink = copied(lent, kept)
    sink.begin(lambda done: done == PIECE_BYTES and change(lent), lambda: "")
    with pytest.raises(SourceChanged):
        sink.finish()
    sink.close()
    assert not kept.is_finished


def test_who_does_not_want_it_any_more_is_heard_between_two_pieces(lent: Path) -> None:
    kept, whys = Kept([(0, SIZE)], []), ["", "enough"]
    sink = copied(lent, kept)
    sink.begin(lambda done: None, lambda: whys.pop(0))
    with pytest.raises(Cancelled, match="enough"):
        sink.finish()
    sink.close()
    sink.close()
    assert not kept.is_finished and not any(kept.data[PIECE_BYTES:])
