"""Files and disks, as users have them: each row by the public API."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from zdl import Cancelled, DiskDict, DiskFile, DownloadError, LeaseEnded, OptionError, Options, PullOptions, Ref, Request, Signal
from zdl.assembly import Cell

from children import Child
from trees import Trees
from waiting import PATIENCE_S

MIB = 1 << 20
# With a digest that is asked for, a file comes over the wire, though it lies on this host.
NARROW = Options(pulls=PullOptions(chunk_bytes=MIB // 4, window_bytes_min=MIB, window_bytes_max=MIB, verify="blake3"))


@pytest.fixture
def cells(trees: Trees) -> tuple[Cell, ...]:
    return trees.grow("server", "site-1", options=NARROW)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(os.urandom(5 * MIB + 123))
    return path


def lent_file(cell: Cell, path: Path) -> Ref:
    body = cell.downloads.lend_file(path, receivers=0).body
    assert isinstance(body, Ref)
    return body


def stopped(cell: Cell, ref: Ref, path: Path, *, resume: bool) -> None:
    """A pull that its user aborts when it is half done."""
    abort = Signal()
    with pytest.raises(Cancelled):
        cell.downloads.pull_file(ref, path, resume=resume, abort=abort,
                                 progress=lambda done, total: done * 2 > total and abort.trigger())


@pytest.mark.row("O6")
def test_a_file_goes_in_chunks_of_any_size_with_callbacks_and_its_name_and_is_verified(
        cells: tuple[Cell, ...], model: Path, tmp_path: Path) -> None:
    server, site = cells
    lent = server.downloads.lend_file(model)
    assert isinstance(lent.body, Ref) and lent.body.name == "model.bin"
    (tmp_path / "into").mkdir()
    seen: list[tuple[int, int]] = []
    path = site.downloads.pull_file(lent.body, tmp_path / "into", progress=lambda *facts: seen.append(facts))
    assert path == tmp_path / "into" / "model.bin" and path.read_bytes() == model.read_bytes()
    assert len(seen) == 21 and seen[-1] == (5 * MIB + 123, 5 * MIB + 123)
    assert lent.wait(PATIENCE_S).is_complete
    with pytest.raises(OptionError, match="a name that is free"):
        site.downloads.pull_file(lent.body, path)
    with pytest.raises(LeaseEnded, match="finished"):
        site.downloads.pull_file(lent.body, path, overwrite=True)
    assert os.listdir(tmp_path / "into") == ["model.bin"] and path.read_bytes() == model.read_bytes()


@pytest.mark.row("O6")
@pytest.mark.row("Z5")
def test_a_file_is_gone_on_with_where_the_last_pull_of_it_stopped(cells: tuple[Cell, ...], model: Path, tmp_path: Path) -> None:
    server, site = cells
    ref = lent_file(server, model)
    stopped(site, ref, tmp_path / "copy", resume=True)
    assert not (tmp_path / "copy").exists(), "never a half file under the final name"
    seen: list[int] = []
    site.downloads.pull_file(ref, tmp_path / "copy", resume=True, progress=lambda done, total: seen.append(done))
    assert (tmp_path / "copy").read_bytes() == model.read_bytes()
    assert seen[0] * 2 > ref.nbytes and sorted(os.listdir(tmp_path)) == ["copy", "model.bin"]


@pytest.mark.row("O6")
@pytest.mark.row("Z5")
@pytest.mark.fault("P2")
def test_P2_an_origin_that_was_killed_and_came_back_is_gone_on_with(trees: Trees, model: Path, tmp_path: Path) -> None:
    program = """
with Cell("server.w0", parent=sys.argv[1]) as cell:
    cell.wait_ready()
    cell.downloads.publish("model", cell.downloads.lend_file(sys.argv[2]).body)
    say("ready")
    stay()
"""
    server, site = trees.grow("server", "site-1", options=NARROW)

    def pull(progress: Callable[[int, int], object]) -> None:
        ref = site.downloads.find("server.w0", "model")
        assert isinstance(ref, Ref)
        site.downloads.pull_file(ref, tmp_path / "copy", resume=True, progress=progress)

    with Child(program, server.addresses[0], str(model)) as origin:
        origin.expect("ready")
        with pytest.raises(DownloadError):
            pull(lambda done, total: done * 2 > total and origin.kill())
    seen: list[int] = []
    with Child(program, server.addresses[0], str(model)) as origin:
        origin.expect("ready")
        pull(lambda done, total: seen.append(done))
    assert seen[0] * 2 > model.stat().st_size and (tmp_path / "copy").read_bytes() == model.read_bytes()


@pytest.mark.row("O6")
def test_permissions_come_along_and_nothing_more(cells: tuple[Cell, ...], model: Path, tmp_path: Path) -> None:
    model.chmod(0o4755)
    ref = lent_file(cells[0], model)
    path = cells[1].downloads.pull_file(ref, tmp_path / "copy")
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o7777 == 0o755 & ~mask


@pytest.mark.row("O10")
def test_of_a_download_that_was_aborted_nothing_is_left_unless_it_is_to_be_gone_on_with(
        cells: tuple[Cell, ...], model: Path, tmp_path: Path) -> None:
    server, site = cells
    ref = lent_file(server, model)
    stopped(site, ref, tmp_path / "copy", resume=False)
    assert os.listdir(tmp_path) == ["model.bin"]
    stopped(site, ref, tmp_path / "copy", resume=True)
    assert sorted(os.listdir(tmp_path)) == [".copy.zdl-part", ".copy.zdl-resume", "model.bin"]
    stopped(site, ref, tmp_path / "copy", resume=False)
    assert os.listdir(tmp_path) == ["model.bin"], "what is not wanted any more goes too"


@pytest.mark.row("O9")
@pytest.mark.row("B15")
def test_a_handler_gets_what_stays_on_the_disk_until_it_is_touched(cells: tuple[Cell, ...], model: Path, tmp_path: Path) -> None:
    server, site = cells
    weights = {f"layer.{number}": np.full(MIB, number, np.uint8) for number in range(8)}

    @site.handler("task", "train", resolve="disk")
    def train(request: Request) -> object:
        found, file = request.body["model"], request.body["file"]
        assert isinstance(found, DiskDict) and isinstance(file, DiskFile)
        return {"sums": {name: int(array.sum()) for name, array in found.items()}, "saved": str(file.save(tmp_path / "saved"))}

    body = {"model": server.downloads.lend(weights).body, "file": lent_file(server, model)}
    reply = server.request("site-1", "task", "train", body)
    assert reply.body == {"sums": {f"layer.{number}": number * MIB for number in range(8)}, "saved": str(tmp_path / "saved")}
    assert (tmp_path / "saved").read_bytes() == model.read_bytes()
