"""To disk: what refs stand for is on the disk, whichever container they stand in."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from zdl.assembly import Cell
from zdl.download.diskdict import DiskDict, DiskFile
from zdl.download.fetching import _batches
from zdl.download.gathering import SLAB_BYTES_MAX
from zdl.download.spool import Spool
from zdl.download.todisk import resolve_to_disk
from zdl.errors import DiskFull, OptionError, TooLarge
from zdl.options import DiskOptions, Options
from zdl.refs import Ref, Source

from trees import Trees
from waiting import PATIENCE_S


@pytest.fixture
def cells(trees: Trees, tmp_path: Path) -> tuple[Cell, ...]:
    return trees.grow("server", "site-1", options=Options(disk=DiskOptions(spool_folder=str(tmp_path))))


def test_an_object_without_refs_stays_what_it_is(tmp_path: Path) -> None:
    body = {"a": [1, 2]}
    spool = Spool(DiskOptions(spool_folder=str(tmp_path)))
    assert resolve_to_disk(body, spool, lambda wanted: None, lambda places, keep: None) is body


def test_each_dict_that_holds_refs_is_on_the_disk_and_all_else_is_mapped(cells: tuple[Cell, ...], tmp_path: Path) -> None:
    tied = np.arange(5000.0)
    body = {"model": {"w": tied, "again": tied, "empty": np.zeros((0, 3)), "blob": b"x" * 5000}, "list": [tied, (tied, 1)], "n": 5,
            "plain": {"k": "v"}}
    lent = cells[0].downloads.lend(body)
    found = cells[1].downloads.resolve(lent.body, to="disk")
    assert isinstance(found, dict) and found["n"] == 5 and found["plain"] == {"k": "v"}
    model = found["model"]
    assert isinstance(model, DiskDict) and model["w"] is model["again"] and np.array_equal(model["w"], tied)
    assert model["empty"].shape == (0, 3) and model["blob"] == b"x" * 5000
    assert np.array_equal(found["list"][0], tied) and found["list"][1][0] is found["list"][0] and found["list"][1][1] == 1
    assert lent.wait(PATIENCE_S).is_complete and list(tmp_path.iterdir()) == []


def test_a_ref_by_itself_is_mapped_and_a_file_is_a_file_on_the_disk(cells: tuple[Cell, ...], tmp_path: Path) -> None:
    array = cells[0].downloads.lend(np.arange(10_000))
    assert np.array_equal(np.asarray(cells[1].downloads.resolve(array.body, to="disk")), np.arange(10_000))
    (tmp_path / "x").write_bytes(b"hello" * 1000)
    files = {"files": [cells[0].downloads.lend_file(tmp_path / "x").body for _ in range(2)]}
    found = cells[1].downloads.resolve(files, to="disk")
    assert isinstance(found, dict)
    assert all(isinstance(each, DiskFile) and each.path.read_bytes() == b"hello" * 1000 for each in found["files"])


@pytest.mark.parametrize(("options", "error"), [
    (DiskOptions(spool_folder="/nowhere", spool_bytes_max=1 << 60), OptionError),
    (DiskOptions(spool_folder="/var/tmp", spool_bytes_max=10), TooLarge),
    (DiskOptions(spool_folder="/var/tmp", spool_bytes_max=1 << 60), DiskFull)])
def test_where_there_is_no_room_nothing_is_asked_for(options: DiskOptions, error: type[Exception]) -> None:
    asked: list[object] = []
    ref = Ref(Source("server", bytes(16), bytes(16), 1 << 55), 0, 0, 1 << 55, "bytes")
    with pytest.raises(error):
        resolve_to_disk([ref], Spool(options), asked.extend, lambda places, keep: asked.append(places))
    assert asked == []


def test_only_memory_and_disk_are_places(cells: tuple[Cell, ...]) -> None:
    with pytest.raises(OptionError, match="'memory' or 'disk'"):
        cells[0].downloads.resolve({}, to="disc")


def test_a_handler_and_a_caller_may_have_it_on_the_disk(cells: tuple[Cell, ...]) -> None:
    server, site = cells
    kinds: list[type] = []

    @site.handler("task", "train", resolve="disk")
    def train(request: object) -> object:
        body = request.body  # type: ignore[attr-defined]
        kinds.append(type(body["model"]))
        return {"model": {"w": body["model"]["w"] * 2}}

    array = np.arange(1 << 20, dtype=np.float64)
    reply = server.request("site-1", "task", "train", {"model": {"w": array}}, resolve="disk")
    assert kinds == [DiskDict]
    assert isinstance(reply.body, dict) and isinstance(reply.body["model"], DiskDict)
    assert np.array_equal(reply.body["model"]["w"], array * 2)
    with pytest.raises(OptionError, match="True, False or 'disk'"):
        server.handler("task", "other", resolve="disc")  # type: ignore[arg-type]


def test_parts_that_do_not_lie_in_one_piece_go_to_the_disk_slab_by_slab(cells: tuple[Cell, ...], tmp_path: Path) -> None:
    array = np.arange(24 * (1 << 20), dtype=np.uint32).reshape(-1, 256)  # 96 MiB
    lent = cells[0].downloads.lend({"w": array}, receivers=0)
    assert isinstance(lent.body, dict)
    ref = lent.body["w"]
    body = {"half": ref[:, ::2], "back": ref[::-1, 3], "row": ref[5], "one": [ref[:, 7]], "same": ref[::-1, 3]}
    tracemalloc.start()
    try:
        found = cells[1].downloads.resolve(body, to="disk")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(found, DiskDict)
    assert np.array_equal(found["half"], array[:, ::2]) and np.array_equal(found["back"], array[::-1, 3])
    assert np.array_equal(found["row"], array[5]) and np.array_equal(found["one"][0], array[:, 7])
    assert found["same"] is found["back"] and found["half"].flags.c_contiguous and list(tmp_path.iterdir()) == []
    # A slab here, what the origin, which is in this process too, gathers for it and answers with; the part itself is 48 MiB.
    assert peak < 4 * SLAB_BYTES_MAX


def test_batches_hold_no_more_than_a_slab_and_no_part_twice() -> None:
    ref = Ref(Source("server", b"i" * 16, b"s" * 16, 1 << 40), 0, 0, 1 << 32, "array", "<f4", (1 << 15, 1 << 15))
    columns, column = ref[:, ::2], ref[:, 5]
    batches = list(_batches({columns: 0, column: columns.nbytes, column[::2]: 1 << 33}))
    assert all(sum(map(len, places)) <= SLAB_BYTES_MAX for places in ([place for _, place in batch] for batch in batches))
    ends = [(place.start, place.stop) for batch in batches for _, place in batch]
    assert ends[0][0] == 0 and all(end == begin for (_, end), (begin, _) in zip(ends[:-2], ends[1:-1]))
    assert sum(end - begin for begin, end in ends) == sum(each.nbytes for each in (columns, column, column[::2]))
