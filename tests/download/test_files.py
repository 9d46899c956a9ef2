"""Files: lent as they are, pulled to a name that appears when all is there; never a mixture, never a rest."""

from __future__ import annotations

import os
import stat
import threading
import time
from pathlib import Path

import pytest

from zdl.assembly import Cell
from zdl.cell.signal import Signal
from zdl.download.files import TICK_NS, FileSource, Stamp, settle
from zdl.errors import Cancelled, DiskFull, LeaseEnded, OptionError, SourceChanged, TimedOut
from zdl.options import Options, PullOptions
from zdl.protocol.effects import Outcome
from zdl.refs import Ref, Source

from children import Child
from trees import Trees
from waiting import PATIENCE_S, eventually

MIB = 1 << 20


@pytest.fixture
def cells(trees: Trees) -> tuple[Cell, ...]:
    return trees.grow("server", "site-1")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(os.urandom(5 * MIB + 123))
    return path


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def rewrite(path: Path, data: bytes) -> None:
    """Other bytes under the same name, at another time however coarse the clock of the disk is."""
    before = path.stat().st_mtime_ns
    with open(path, "r+b") as file:
        file.write(data)
    os.utime(path, ns=(before + 1_000_000, before + 1_000_000))


# --- the source ---------------------------------------------------------------------------------

def test_any_range_of_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(range(200)))
    source = FileSource(path, "server")
    assert (source.bytes_total, source.may_block) == (200, True)
    assert b"".join(source.read(10, 50)) == bytes(range(10, 60))


@pytest.mark.parametrize("change", ["rewrite", "truncate", "append", "rename over", "remove", "write and set back"])
def test_a_file_that_changes_is_read_no_more(tmp_path: Path, change: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(200))
    source = FileSource(path, "server")
    if change == "rewrite":
        rewrite(path, b"y" * 200)
    elif change == "truncate":
        os.truncate(path, 100)
    elif change == "append":
        with open(path, "ab") as file:
            file.write(b"z")
    elif change == "rename over":
        (tmp_path / "y").write_bytes(bytes(200))
        os.utime(tmp_path / "y", ns=(source.stamp.modified_ns, source.stamp.modified_ns))
        os.replace(tmp_path / "y", path)
    elif change == "remove":
        path.unlink()
    else:
        path.write_bytes(b"y" * 200)
        os.utime(path, ns=(source.stamp.modified_ns, source.stamp.modified_ns))
    with pytest.raises(SourceChanged) as caught:
        source.read(0, 50)
    assert (caught.value.ref, caught.value.origin) == ("x", "server")


def test_a_change_in_the_tick_in_which_a_file_was_lent_is_known(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for _ in range(20):
        path.write_bytes(b"old")
        source = FileSource(path, "server")
        path.write_bytes(b"new")
        with pytest.raises(SourceChanged):
            source.read(0, 3)


def test_only_a_change_of_just_now_is_waited_for() -> None:
    for changed_ns in (time.time_ns() - 10**9, time.time_ns() + 10**18, 0):
        settle(changed_ns)  # would last 30 years
    now = time.time_ns()
    settle(now)
    assert time.time_ns() > now + TICK_NS


def test_a_stamp_tells_what_has_happened_and_names_one_state_of_one_file(tmp_path: Path) -> None:
    one = Stamp(1, 2, 3, 4, 5)
    assert one.why_not(one) == "" and one.digest == Stamp(1, 2, 3, 4, 5).digest
    others = {Stamp(1, 9, 3, 4, 5): "another file", Stamp(1, 2, 9, 4, 5): "had 3 bytes and has 9",
              Stamp(1, 2, 3, 9, 9): "written to", Stamp(1, 2, 3, 4, 9): "replaced or renamed"}
    for other, why in others.items():
        assert why in other.why_not(one) and other.digest != one.digest


def test_a_source_closes_its_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    before = len(os.listdir("/proc/self/fd"))
    sources = [FileSource(tmp_path / "x", "server") for _ in range(5)]
    assert len(os.listdir("/proc/self/fd")) == before + 5
    sources.clear()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("what", ["missing", "folder", "fifo"])
def test_what_is_no_file_cannot_be_lent(tmp_path: Path, cells: tuple[Cell, ...], what: str) -> None:
    path = tmp_path / what
    if what == "folder":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    with pytest.raises(OptionError) as caught:
        cells[0].downloads.lend_file(path)
    assert caught.value.value == str(path)
    assert not cells[0].downloads.transactions


# --- from one cell to another -------------------------------------------------------------------

def test_a_file_arrives_and_its_transaction_is_finished(cells: tuple[Cell, ...], model: Path, tmp_path: Path) -> None:
    server, site = cells
    lent = server.downloads.lend_file(model)
    ref = lent.body
    assert isinstance(ref, Ref)
    assert (ref.kind, ref.name, ref.nbytes) == ("file", "model.bin", 5 * MIB + 123)
    seen: list[tuple[int, int]] = []
    path = site.downloads.pull_file(ref, tmp_path / "copy.bin", progress=lambda done, total: seen.append((done, total)))
    assert path == tmp_path / "copy.bin"
    assert path.read_bytes() == model.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == ref.mode == stat.S_IMODE(model.stat().st_mode)
    assert seen[-1] == (ref.nbytes, ref.nbytes) and seen == sorted(seen)
    outcome = lent.wait(PATIENCE_S)
    assert outcome.is_complete and outcome.receivers == {"site-1": Outcome.FINISHED}
    assert left_in(tmp_path) == ["copy.bin", "model.bin"]


@pytest.mark.parametrize("size", [0, 1, MIB, MIB + 1])
def test_a_file_of_any_size_arrives(cells: tuple[Cell, ...], tmp_path: Path, size: int) -> None:
    (tmp_path / "x").write_bytes(os.urandom(size))
    lent = cells[1].downloads.lend_file(tmp_path / "x")
    assert isinstance(lent.body, Ref)
    assert cells[0].downloads.pull_file(lent.body, tmp_path / "y").read_bytes() == (tmp_path / "x").read_bytes()
    assert lent.wait(PATIENCE_S).is_complete


def test_a_name_that_is_taken_is_left_alone_unless_it_may_be_replaced(cells: tuple[Cell, ...], model: Path,
                                                                      tmp_path: Path) -> None:
    server, site = cells
    lent = server.downloads.lend_file(model, receivers=0)
    assert isinstance(lent.body, Ref)
    there = tmp_path / "there"
    there.write_bytes(b"precious")
    with pytest.raises(OptionError, match="a name that is free"):
        site.downloads.pull_file(lent.body, there)
    assert there.read_bytes() == b"precious"
    site.downloads.pull_file(lent.body, there, overwrite=True)
    assert there.read_bytes() == model.read_bytes()
    lent.delete()


def test_into_a_folder_a_file_goes_by_the_name_that_its_lender_calls_it(cells: tuple[Cell, ...], model: Path,
                                                                        tmp_path: Path) -> None:
    lent = cells[0].downloads.lend_file(model)
    assert isinstance(lent.body, Ref)
    (tmp_path / "into").mkdir()
    assert cells[1].downloads.pull_file(lent.body, tmp_path / "into") == tmp_path / "into" / "model.bin"


def test_a_folder_that_is_not_there_is_told(cells: tuple[Cell, ...], model: Path, tmp_path: Path) -> None:
    lent = cells[0].downloads.lend_file(model)
    assert isinstance(lent.body, Ref)
    with pytest.raises(OptionError, match="cannot be written"):
        cells[1].downloads.pull_file(lent.body, tmp_path / "missing" / "x")


def test_a_link_is_not_followed(cells: tuple[Cell, ...], model: Path, tmp_path: Path) -> None:
    lent = cells[0].downloads.lend_file(model)
    assert isinstance(lent.body, Ref)
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / ".copy.zdl-part").symlink_to(tmp_path / "victim")
    with pytest.raises(OptionError, match="cannot be written"):
        cells[1].downloads.pull_file(lent.body, tmp_path / "copy")
    assert (tmp_path / "victim").read_bytes() == b"precious"
    (tmp_path / ".copy.zdl-part").unlink()


def test_more_than_the_disk_has_is_refused_before_anything_is_pulled(cells: tuple[Cell, ...], tmp_path: Path) -> None:
    ref = Ref(Source("server", bytes(16), bytes(16), 1 << 55), 0, 0, 1 << 55, "file", name="x")
    with pytest.raises(DiskFull) as caught:
        cells[1].downloads.pull_file(ref, tmp_path / "x")
    assert (caught.value.path, caught.value.need) == (str(tmp_path / "x"), 1 << 55)
    assert 0 < caught.value.free < 1 << 55
    assert left_in(tmp_path) == []


def test_a_disk_that_fills_while_it_is_written_is_told_and_left_clean(cells: tuple[Cell, ...], model: Path,
                                                                      tmp_path: Path) -> None:
    """A process that may write no file of more than 2 MiB stands for a disk that is full."""
    lent = cells[0].downloads.lend_file(model)
    cells[0].downloads.publish("model", lent.body)
    program = """
import resource
from zdl.errors import DiskFull
resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, 2 << 20))
with Cell("site-2", parent=sys.argv[1]) as cell:
    cell.wait_ready()
    try: cell.downloads.pull_file(cell.downloads.find("server", "model"), sys.argv[2])
    except DiskFull as error: say("full", error.need)
    stay()
"""
    with Child(program, cells[0].addresses[0], str(tmp_path / "copy")) as child:
        assert child.expect("full") == str(model.stat().st_size)
    assert left_in(tmp_path) == ["model.bin"]


def test_a_file_that_is_rewritten_while_it_is_lent_is_never_a_mixture(cells: tuple[Cell, ...], model: Path,
                                                                      tmp_path: Path) -> None:
    server, site = cells
    lent = server.downloads.lend_file(model)
    assert isinstance(lent.body, Ref)
    done: list[int] = []

    def progress(bytes_done: int, bytes_total: int) -> None:
        if not done:
            rewrite(model, b"other")
        done.append(bytes_done)

    ref = lent.body
    options = Options(pulls=PullOptions(window_bytes_min=MIB, window_bytes_max=MIB))
    with Cell("site-2", parent=server.addresses[0], options=options) as slow:
        slow.wait_ready()
        with pytest.raises(SourceChanged) as caught:
            slow.downloads.pull_file(ref, tmp_path / "copy", progress=progress)
    assert caught.value.origin == "server"
    with pytest.raises(SourceChanged):
        site.downloads.pull(ref)
    assert left_in(tmp_path) == ["model.bin"]


@pytest.mark.parametrize("end", ["abort", "delete", "timeout", "progress"])
def test_a_pull_that_ends_early_leaves_nothing(cells: tuple[Cell, ...], model: Path, tmp_path: Path, end: str) -> None:
    server, _ = cells
    lent = server.downloads.lend_file(model)
    assert isinstance(lent.body, Ref)
    abort = Signal()
    go_on = threading.Event()

    def progress(bytes_done: int, bytes_total: int) -> None:
        if end == "abort":
            abort.trigger()
        elif end == "delete":
            lent.delete()
            lent.wait(PATIENCE_S)
        elif end == "progress":
            raise ValueError("no")
        else:
            go_on.wait(PATIENCE_S)

    options = Options(pulls=PullOptions(window_bytes_min=MIB, window_bytes_max=MIB, verify="blake3"))  # over the wire
    expected = {"abort": Cancelled, "delete": LeaseEnded, "timeout": TimedOut, "progress": Cancelled}[end]
    with Cell("site-2", parent=server.addresses[0], options=options) as slow:
        slow.wait_ready()
        timer = threading.Timer(0.3, go_on.set)
        timer.start()
        with pytest.raises(expected):
            slow.downloads.pull_file(lent.body, tmp_path / "copy", abort=abort, progress=progress,
                                     timeout_s=0.1 if end == "timeout" else None)
        timer.join()
    assert left_in(tmp_path) == ["model.bin"]
    before = len(os.listdir("/proc/self/fd"))
    assert before < 500


def test_two_pulls_to_one_name_do_not_mix(cells: tuple[Cell, ...], model: Path, tmp_path: Path) -> None:
    server, site = cells
    lent = server.downloads.lend_file(model, receivers=0)
    ref = lent.body
    assert isinstance(ref, Ref)
    refused: list[str] = []

    def progress(bytes_done: int, bytes_total: int) -> None:
        if not refused:
            refused.append("")
            try:
                site.downloads.pull_file(ref, tmp_path / "copy")
            except OptionError as error:
                refused.append(error.allowed)

    site.downloads.pull_file(ref, tmp_path / "copy", progress=progress)
    assert refused == ["", "a name that no other pull is writing"]
    assert (tmp_path / "copy").read_bytes() == model.read_bytes()
    lent.delete()


def test_what_a_killed_process_left_is_used_up(cells: tuple[Cell, ...], model: Path, tmp_path: Path) -> None:
    lent = cells[0].downloads.lend_file(model)
    assert isinstance(lent.body, Ref)
    (tmp_path / ".copy.zdl-part").write_bytes(b"x" * (8 * MIB))
    (tmp_path / ".other.zdl-part").write_bytes(b"of a pull to another name")
    cells[1].downloads.pull_file(lent.body, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == model.read_bytes()
    assert left_in(tmp_path) == ["copy", "model.bin"]


def test_many_may_pull_one_file_at_once(trees: Trees, model: Path, tmp_path: Path) -> None:
    server, *sites = trees.grow("server", "site-1", "site-2", "site-3")
    lent = server.downloads.lend_file(model, receivers=3)
    ref = lent.body
    assert isinstance(ref, Ref)
    threads = [threading.Thread(target=cell.downloads.pull_file, args=(ref, tmp_path / cell.fqcn)) for cell in sites]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lent.wait(PATIENCE_S).receivers == {cell.fqcn: Outcome.FINISHED for cell in sites}
    assert all((tmp_path / cell.fqcn).read_bytes() == model.read_bytes() for cell in sites)
    eventually(lambda: not server.downloads.transactions)
