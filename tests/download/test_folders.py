"""Folders: all that is in one arrives, whole, or not at all; nothing leads elsewhere, at either end."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from zdl.assembly import Cell
from zdl.download.folderplace import SYNC_EACH_MAX, FolderPlace, anchor_of
from zdl.download.folders import FolderSource
from zdl.errors import DownloadError, OptionError, SourceChanged, ZdlError
from zdl.options import Options, PullOptions
from zdl.refs import Ref

from trees import Trees
from waiting import PATIENCE_S

MIB = 1 << 20


@pytest.fixture
def cells(trees: Trees) -> tuple[Cell, ...]:
    return trees.grow("server", "site-1", options=Options(pulls=PullOptions(window_bytes_min=MIB, window_bytes_max=MIB)))


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """A folder with all that may be in one."""
    root = tmp_path / "shard"
    for name, data in {"a/large.bin": os.urandom(3 * MIB + 7), "a/b/deep": b"deep", "empty": b"", "größe\n": b"odd",
                       ".hidden": b"h"}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    for number in range(200):
        (root / "a" / f"small-{number}").write_bytes(os.urandom(number))
    (root / "nothing in it").mkdir()
    (root / "a" / "b" / "deep").chmod(0o711)
    (root / os.fsdecode(b"not\xff unicode")).write_bytes(b"u")
    return root


def content(root: Path) -> dict[str, object]:
    """All that is in a folder: bytes and permissions by path."""
    return {str(path.relative_to(root)): (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) if path.is_file() else None
            for path in sorted(root.rglob("*"))}


def lent(cell: Cell, path: Path, **how: str) -> Ref:
    body = cell.downloads.lend_folder(path, receivers=0, **how).body
    assert isinstance(body, Ref)
    return body


@pytest.mark.row("O6")
def test_a_folder_arrives_as_a_whole_and_its_transaction_is_finished(cells: tuple[Cell, ...], shard: Path, tmp_path: Path) -> None:
    server, site = cells
    transaction = server.downloads.lend_folder(shard)
    ref = transaction.body
    assert isinstance(ref, Ref) and (ref.kind, ref.name) == ("folder", "shard")
    seen: list[int] = []
    copy = site.downloads.pull_folder(ref, tmp_path / "copy", progress=lambda done, total: seen.append(total - done))
    assert copy == tmp_path / "copy" and content(tmp_path / "copy") == content(shard) and seen[-1] == 0
    assert transaction.wait(PATIENCE_S).is_complete
    assert sorted(os.listdir(tmp_path)) == ["copy", "shard"]


@pytest.mark.parametrize("count", [0, 1, SYNC_EACH_MAX, SYNC_EACH_MAX + 1])
def test_a_folder_with_any_number_of_files_arrives_and_an_empty_one_counts_when_it_is_there(
        cells: tuple[Cell, ...], tmp_path: Path, count: int) -> None:
    (tmp_path / "from").mkdir()
    for number in range(count):
        (tmp_path / "from" / str(number)).touch()
    transaction = cells[0].downloads.lend_folder(tmp_path / "from")
    ref = transaction.body
    assert isinstance(ref, Ref)
    with pytest.raises(OptionError):
        cells[1].downloads.pull_folder(ref, tmp_path / "missing" / "copy")
    assert transaction.outcome is None, "who has only read what is in it does not have it"
    cells[1].downloads.pull_folder(ref, tmp_path / "copy")
    assert content(tmp_path / "copy") == content(tmp_path / "from") and transaction.wait(PATIENCE_S).is_complete


def test_into_a_folder_that_is_there_files_are_moved_and_none_is_replaced_without_being_told(
        cells: tuple[Cell, ...], shard: Path, tmp_path: Path) -> None:
    ref, copy = lent(cells[0], shard), tmp_path / "copy"
    (copy / "a").mkdir(parents=True)
    (copy / "own").write_bytes(b"mine")
    (copy / "a" / "small-7").write_bytes(b"precious")
    with pytest.raises(OptionError, match="a name that is free"):
        cells[1].downloads.pull_folder(ref, copy)
    assert content(copy) == {"a": None, "a/small-7": (b"precious", 0o644), "own": (b"mine", 0o644)}
    cells[1].downloads.pull_folder(ref, copy, overwrite=True)
    assert content(copy) == {**content(shard), "own": (b"mine", 0o644)}


@pytest.mark.parametrize("way", ["link to a folder", "file for a folder", "folder for a file", "a file is there"])
def test_what_is_in_the_way_is_told_before_anything_is_pulled(cells: tuple[Cell, ...], shard: Path, tmp_path: Path,
                                                              way: str) -> None:
    copy, elsewhere = tmp_path / "copy", tmp_path / "elsewhere"
    elsewhere.mkdir()
    if way == "a file is there":
        copy.touch()
    else:
        copy.mkdir()
    if way == "link to a folder":
        (copy / "a").symlink_to(elsewhere)
    elif way == "file for a folder":
        (copy / "a").touch()
    elif way == "folder for a file":
        (copy / "empty").mkdir()
    with pytest.raises(OptionError):
        cells[1].downloads.pull_folder(lent(cells[0], shard), copy, overwrite=True)
    assert os.listdir(elsewhere) == [] and not [name for name in os.listdir(tmp_path) if name.startswith(".")]


@pytest.mark.row("Z5")
def test_a_folder_is_gone_on_with_where_the_last_pull_stopped_also_when_it_is_lent_again(
        cells: tuple[Cell, ...], shard: Path, tmp_path: Path) -> None:
    server, site = cells

    def stop(done: int, total: int) -> None:
        if done * 2 > total:
            raise InterruptedError("enough")

    for resume, left in ((False, ["shard"]), (True, [".copy.zdl-part", ".copy.zdl-resume", "shard"])):
        with pytest.raises(ZdlError, match="enough"):
            site.downloads.pull_folder(lent(server, shard), tmp_path / "copy", resume=resume, progress=stop)
        assert sorted(os.listdir(tmp_path)) == left
    seen: list[tuple[int, int]] = []
    site.downloads.pull_folder(lent(server, shard), tmp_path / "copy", resume=True, progress=lambda *facts: seen.append(facts))
    assert seen[0][0] * 2 > seen[0][1] and content(tmp_path / "copy") == content(shard)
    assert sorted(os.listdir(tmp_path)) == ["copy", "shard"]


@pytest.mark.fault("D6")
@pytest.mark.parametrize("change", ["write", "remove", "replace by a link"])
def test_d6_a_file_of_a_folder_that_changes_ends_the_pull_and_nothing_is_left(
        cells: tuple[Cell, ...], shard: Path, tmp_path: Path, change: str) -> None:
    ref, victim = lent(cells[0], shard), shard / "a" / "small-7"
    if change == "write":
        victim.write_bytes(bytes(7))
    else:
        victim.unlink()
    if change == "replace by a link":
        victim.symlink_to("small-8")
    with pytest.raises(SourceChanged, match="shard/a/small-7"):
        cells[1].downloads.pull_folder(ref, tmp_path / "copy", resume=True)
    assert os.listdir(tmp_path) == ["shard"]


def test_links_are_refused_skipped_or_followed_as_the_lender_says(cells: tuple[Cell, ...], tmp_path: Path) -> None:
    root = tmp_path / "from"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "x").write_bytes(b"x")
    (tmp_path / "outside").write_bytes(b"o")
    (root / "link").symlink_to("../outside")
    (root / "folder").symlink_to("sub")
    with pytest.raises(OptionError, match="no symbolic link"):
        lent(cells[0], root)
    for how, names in (("skip", ["sub"]), ("follow", ["folder", "link", "sub"])):
        copy = cells[1].downloads.pull_folder(lent(cells[0], root, symlinks=how), tmp_path / how)
        assert sorted(os.listdir(copy)) == names and not any(path.is_symlink() for path in copy.rglob("*"))
    assert (tmp_path / "follow" / "link").read_bytes() == b"o" and (tmp_path / "follow" / "folder" / "x").read_bytes() == b"x"
    (root / "sub" / "circle").symlink_to("..")
    with pytest.raises(OptionError, match="no circle"):
        lent(cells[0], root, symlinks="follow")
    with pytest.raises(OptionError, match="refuse"):
        lent(cells[0], root, symlinks="maybe")


@pytest.mark.parametrize("what", ["missing", "file", "fifo in it", "unreadable"])
def test_what_cannot_be_lent_is_named(cells: tuple[Cell, ...], tmp_path: Path, what: str) -> None:
    root = tmp_path / "from"
    if what == "file":
        root.touch()
    elif what != "missing":
        root.mkdir()
        (os.mkfifo if what == "fifo in it" else os.mkdir)(root / "odd")
        if what == "unreadable":
            (root / "odd").rmdir()
            (root / "odd").symlink_to("nowhere")
    with pytest.raises(OptionError) as caught:
        cells[0].downloads.lend_folder(root, symlinks="follow")
    assert caught.value.name == "path" and str(root) in caught.value.value
    assert not cells[0].downloads.transactions


def test_each_kind_of_ref_has_its_own_way(cells: tuple[Cell, ...], shard: Path, tmp_path: Path) -> None:
    server, site = cells
    with pytest.raises(OptionError, match="pull_folder"):
        site.downloads.pull_file(lent(server, shard), tmp_path / "x")
    file = server.downloads.lend_file(shard / "empty").body
    assert isinstance(file, Ref)
    with pytest.raises(OptionError, match="pull_file"):
        site.downloads.pull_folder(file, tmp_path / "x")
    assert site.downloads.resolve({"folder": lent(server, shard)}, to="disk")


def test_what_was_lent_is_read_in_any_pieces(shard: Path) -> None:
    source = FolderSource(shard, "server")
    whole = b"".join(map(bytes, source.read(0, source.bytes_total)))
    assert source.may_block and len(whole) == source.bytes_total and whole.startswith(source.index.head)
    for step in (64 * 1024, 999_983):
        pieces = [b"".join(map(bytes, source.read(at, min(step, len(whole) - at)))) for at in range(0, len(whole), step)]
        assert b"".join(pieces) == whole


def test_a_folder_is_put_together_by_one_pull_at_a_time(shard: Path, tmp_path: Path) -> None:
    index = FolderSource(shard, "server").index
    place = FolderPlace(tmp_path / "copy", index, 0o755, is_overwriting=False)
    with pytest.raises(BlockingIOError):
        FolderPlace(tmp_path / "copy", index, 0o755, is_overwriting=False)
    place.clear()
    assert place.read(index.manifest.offsets[1], 5) == b"", "what has not come is not there"
    place.remove()
    place.close()
    assert anchor_of(tmp_path / "copy") == tmp_path / "copy" and anchor_of(tmp_path) == tmp_path / tmp_path.name


def test_a_stranger_gets_nothing(cells: tuple[Cell, ...], shard: Path, tmp_path: Path) -> None:
    transaction = cells[0].downloads.lend_folder(shard)
    ref = transaction.body
    assert isinstance(ref, Ref)
    transaction.delete()
    with pytest.raises(DownloadError):
        cells[1].downloads.pull_folder(ref, tmp_path / "copy")
    assert os.listdir(tmp_path) == ["shard"]
