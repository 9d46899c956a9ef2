"""FolderIndex: what a peer says is in a folder is looked at, component by component, before anything is made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from zdl.download.folderindex import DEPTH_MAX, ENTRIES_MAX, HEAD_BYTES, FileEntry, FolderIndex, check_size, index_bytes
from zdl.errors import CannotUnpack, TooLarge
from zdl.objects.pack import pack
from zdl.options import MIB, PackOptions

STAMP = bytes(16)
LARGE = PackOptions(inline_bytes_max=MIB, beside_bytes_max=MIB)


def packed(folders: object, files: object) -> bytes:
    return b"".join(map(bytes, pack({"folders": folders, "files": files}, options=LARGE).parts))


def test_an_index_arrives_as_it_was_made() -> None:
    files = [FileEntry(b"a/b/x\xff", 0o644, 100, STAMP), FileEntry(b"y", 0, 0, STAMP)]
    made = FolderIndex.made([(b"a", 0o755), (b"a/b", 0o700)], files)
    assert index_bytes(made.head[:HEAD_BYTES], 10**6) == len(made.packed) and made.head[HEAD_BYTES:] == made.packed
    read = FolderIndex.read(made.packed, made.manifest.bytes_total)
    assert read == made and read.nbytes == 100


@pytest.mark.parametrize("head", [b"", b"x" * HEAD_BYTES, b"zdlfold1" + bytes(8), b"zdlfold1" + b"\xff" * 8])
def test_what_does_not_begin_as_a_folder_is_refused(head: bytes) -> None:
    with pytest.raises(CannotUnpack, match="does not begin as a folder"):
        index_bytes(head, 10**9)


@pytest.mark.parametrize(("folders", "files", "reason"), [
    (None, [], "not a map"), ([], None, "not a map"), ([[b"a"]], [], r"folders\[0\]"), ([], [[b"a", 0, 0]], r"files\[0\]"),
    ([[b"..", 0]], [], "leads elsewhere"), ([[b"a/../..", 0]], [], "leads elsewhere"), ([[b"/etc", 0]], [], "leads elsewhere"),
    ([[b"", 0]], [], "is not 1 to"), ([["a", 0]], [], "is not 1 to"), ([[b"a\0", 0]], [], "leads elsewhere"),
    ([[b"a//b", 0]], [], "leads elsewhere"), ([[b"x" * 256, 0]], [], "leads elsewhere"), ([[b"a/" * 3000, 0]], [], "is not 1 to"),
    ([[b"/".join([b"a"] * (DEPTH_MAX + 1)), 0]], [], "too deep"), ([[b"a", 0], [b"a", 0]], [], "there twice"),
    ([[b"a/b", 0]], [], "in no folder"), ([], [[b"a", 0, 5, STAMP], [b"a/b", 0, 5, STAMP]], "in no folder"),
    ([], [[b"a", 0, 5, STAMP], [b"a", 0, 5, STAMP]], "there twice"), ([], [[b"a", 0o4755, 5, STAMP]], "its mode"),
    ([], [[b"a", 0, -1, STAMP]], "its size"), ([], [[b"a", 0, 1 << 60, STAMP]], "its size"), ([], [[b"a", 0, 1, b""]], "its stamp"),
    ([], [[b"a", True, 1, STAMP]], "its mode"), ([], [], "has 12345")])
def test_what_cannot_be_in_a_folder_is_refused(folders: Any, files: Any, reason: str) -> None:
    with pytest.raises(CannotUnpack, match=reason):
        FolderIndex.read(packed(folders, files), 12345)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_index_or_are_refused(data: bytes) -> None:
    with pytest.raises(CannotUnpack):
        FolderIndex.read(data, 0)


def test_more_than_the_limits_is_refused_at_both_ends() -> None:
    with pytest.raises(TooLarge, match="ENTRIES_MAX"):
        check_size(Path("x"), ENTRIES_MAX + 1, 0)
    with pytest.raises(TooLarge, match="DEPTH_MAX"):
        check_size(Path("x"), 0, DEPTH_MAX + 1)
    with pytest.raises(CannotUnpack, match="more than ENTRIES_MAX"):
        FolderIndex.read(packed([[]] * (ENTRIES_MAX + 1), []), 0)
