"""Disks that are full, broken, read-only or altered; files that change; and memory that is short (rows D1-D9)."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from zdl.assembly import Cell
from zdl.download.transaction import Transaction
from zdl.errors import OptionError, SourceChanged, TooLarge, ZdlError
from zdl.options import DiskOptions, Options, PullOptions
from zdl.protocol.audiences import ReceiverFacts
from zdl.protocol.effects import Outcome
from zdl.refs import Ref

from children import Child
from trees import Trees
from waiting import PATIENCE_S, eventually

MIB = 1 << 20
TESTS = str(Path(__file__).resolve().parents[1])
NARROW = PullOptions(window_bytes_min=MIB, window_bytes_max=MIB)
# A file that is lent on this host is copied; with a digest that is asked for it comes over the wire like any other.
BOTH_WAYS = pytest.mark.parametrize("verify", [pytest.param("auto", id="copied"), pytest.param("blake3", id="sent")])
# A receiver that pulls the file `model` of server to a path and says what came of it; what is said before makes trouble.
PULLS = """
sys.path.insert(0, sys.argv[3])
import errno, failing_calls
from zdl.errors import ZdlError
{trouble}
narrow = Options(pulls=PullOptions(window_bytes_min=1 << 20, window_bytes_max=1 << 20, verify="{verify}"))
with Cell("site-9", parent=sys.argv[1], options=narrow) as cell:
    cell.wait_ready()
    ref = cell.downloads.find("server", "model")
    {late}
    try:
        cell.downloads.pull_file(ref, sys.argv[2], resume={resume})
        say("done")
    except ZdlError as error:
        say("failed", error.code, error)
    say("answers", cell.request("server", "zdl", "data-addresses", timeout_s=20).hops >= 0)
    stay()
"""


@pytest.fixture
def server(trees: Trees) -> Cell:
    return trees.grow("server")[0]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(os.urandom(5 * MIB + 123))
    return path


@pytest.fixture
def into(tmp_path: Path) -> Path:
    path = tmp_path / "into"
    path.mkdir()
    return path


def pulled_amid(trouble: str, server: Cell, place: Path, *, late: str = "", resume: bool = False, verify: str = "auto",
                heard: Callable[[], object] = lambda: True) -> str:
    """What a child says that pulls amid this trouble, which begins early or late; the cell there goes on to work.

    It is killed when `heard` says that its origin knows what has become of the pull.
    """
    program = PULLS.format(trouble=trouble, late=late, resume=resume, verify=verify)
    with Child(program, server.addresses[0], str(place), TESTS) as child:
        said = child.expect("failed")
        assert child.expect("answers") == "True"
        eventually(heard)
    return said


@pytest.mark.fault("D1")
@BOTH_WAYS
def test_d1_a_disk_that_fills_while_receiving_is_told_to_both_and_nothing_is_left(
        server: Cell, model: Path, into: Path, verify: str) -> None:
    lent = server.downloads.lend_file(model, receivers=["site-9"])
    server.downloads.publish("model", lent.body)
    trouble = "failing_calls.fail(failing_calls.PWRITE, errno.ENOSPC, from_offset=2 << 20)"
    said = pulled_amid(trouble, server, into / "copy", verify=verify)
    assert said.startswith("disk-full ") and str(into / "copy") in said and "needs 5.0 MiB" in said
    assert os.listdir(into) == []
    outcome = lent.wait(PATIENCE_S)  # the only one that it was for has given up
    assert not outcome.is_complete and outcome.receivers["site-9"] is Outcome.FAILED
    assert dict(outcome.errors) == {"site-9": "disk-full"}


@pytest.mark.fault("D2")
@BOTH_WAYS
@pytest.mark.parametrize("resume", [False, True])
def test_d2_a_disk_that_cannot_keep_what_was_written_is_never_done(
        server: Cell, model: Path, into: Path, resume: bool, verify: str) -> None:
    lent = server.downloads.lend_file(model)
    server.downloads.publish("model", lent.body)
    said = pulled_amid("failing_calls.fail(failing_calls.FSYNC)", server, into / "copy", resume=resume, verify=verify,
                       heard=lambda: lent.receivers)
    assert said.startswith("disk-failed ") and "Input/output error" in said
    assert sorted(os.listdir(into)) == ([".copy.zdl-part", ".copy.zdl-resume"] if resume else [])
    assert lent.receivers["site-9"] is Outcome.FAILED and lent.outcome is None
    if resume:
        server.downloads.pull_file(_ref(lent.body), into / "copy", resume=True)
        assert os.listdir(into) == ["copy"] and (into / "copy").read_bytes() == model.read_bytes()


@pytest.mark.fault("D3")
def test_d3_a_folder_that_cannot_be_written_is_told_before_the_first_byte(server: Cell, model: Path, into: Path) -> None:
    lent = server.downloads.lend_file(model)
    server.downloads.publish("model", lent.body)
    into.chmod(0o555)
    for folder in (into.parent, *into.parent.parents):  # another user must get there
        if folder.stat().st_uid == os.getuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    said = pulled_amid("", server, into / "copy", late="os.getuid() or (os.setgid(65534), os.setuid(65534))")
    assert said.startswith("bad-option ") and "Permission denied" in said and str(into / "copy") in said
    assert lent.receivers == {} and os.listdir(into) == []


@pytest.mark.fault("D3")
def test_d3_a_folder_that_vanishes_ends_the_pull(server: Cell, model: Path, into: Path) -> None:
    lent = server.downloads.lend_file(model)

    def progress(bytes_done: int, bytes_total: int) -> None:
        if into.exists():
            into.rename(into.with_name("elsewhere"))

    with pytest.raises(OptionError, match="No such file"):
        server.downloads.pull_file(_ref(lent.body), into / "copy", progress=progress)
    assert os.listdir(into.with_name("elsewhere")) in ([], [".copy.zdl-part"])
    for path in into.with_name("elsewhere").iterdir():
        path.unlink()


@pytest.mark.fault("D4")
@pytest.mark.row("Z5")
@BOTH_WAYS
def test_d4_a_receiver_that_is_killed_again_and_again_goes_on_from_what_it_has(
        server: Cell, tmp_path: Path, into: Path, verify: str) -> None:
    path, size = tmp_path / "model.bin", 48 * MIB
    path.write_bytes(os.urandom(size))
    lent = server.downloads.lend_file(path)
    server.downloads.publish("model", lent.body)
    program = """
narrow = Options(pulls=PullOptions(window_bytes_min=2 << 20, window_bytes_max=2 << 20, verify=sys.argv[4]))
with Cell("site-9", parent=sys.argv[1], options=narrow) as cell:
    cell.wait_ready()
    ref = cell.downloads.find("server", "model")
    begun = []
    def progress(done, total):
        if not begun:
            begun.append(done)
            say("had", done)
        if done >= int(sys.argv[3]):
            os.kill(os.getpid(), 9)
    cell.downloads.pull_file(ref, sys.argv[2], resume=True, progress=progress)
    say("done", begun[0])
    stay()
"""
    choice = random.Random(7)
    had = 0
    for step in range(4):
        stop = had + choice.randrange(MIB, 10 * MIB)
        with Child(program, server.addresses[0], str(into / "copy"), str(stop), verify) as child:
            begun = int(child.expect("had"))
            assert step == 0 or begun > had, "what was verified before is not pulled again"
            assert child.ended() == -9
        assert sorted(os.listdir(into)) == [".copy.zdl-part", ".copy.zdl-resume"]
        had = max(had, stop - 9 * MIB)
    with Child(program, server.addresses[0], str(into / "copy"), str(1 << 60), verify) as child:
        child.expect("had")
        assert int(child.expect("done")) > MIB
    assert os.listdir(into) == ["copy"] and (into / "copy").read_bytes() == path.read_bytes()
    assert lent.wait(PATIENCE_S).is_complete


@pytest.mark.fault("D5")
def test_d5_a_partial_file_that_was_altered_between_two_runs_is_found_out(trees: Trees, model: Path, into: Path) -> None:
    server = trees.grow("server", options=Options(pulls=PullOptions(verify="blake3")))[0]
    lent = server.downloads.lend_file(model, receivers=2)
    _stop_after(server, _ref(lent.body), into / "copy", 2 * MIB)
    eventually(lambda: not _receiver(lent).is_pulling)
    before = _receiver(lent).bytes_served
    part = into / ".copy.zdl-part"
    with open(part, "r+b") as file:
        byte = file.read(1)
        file.seek(0)
        file.write(bytes([byte[0] ^ 1]))
    server.downloads.pull_file(_ref(lent.body), into / "copy", resume=True)
    assert (into / "copy").read_bytes() == model.read_bytes() and os.listdir(into) == ["copy"]
    again = _receiver(lent).bytes_served - before
    assert 0 < again <= 4 * MIB + 123, "of what was there, only the piece that was altered is pulled again"


@pytest.mark.fault("D6")
@pytest.mark.fault("A2")
@BOTH_WAYS
@pytest.mark.parametrize("how", ["rewritten", "cut off", "longer", "replaced", "removed", "set back"])
def test_d6_a2_a_file_that_changes_while_it_is_lent_ends_every_pull_and_nobody_gets_a_mixture(
        trees: Trees, model: Path, into: Path, how: str, verify: str) -> None:
    options = Options(pulls=replace(NARROW, verify=verify))
    server, *sites = trees.grow("server", "site-1", "site-2", options=options)
    lent, before = server.downloads.lend_file(model, receivers=2), model.stat()
    ends: dict[str, ZdlError | None] = {}
    begun = threading.Barrier(2, timeout=PATIENCE_S)
    changed = threading.Event()

    def pull(site: Cell) -> None:
        waited: list[int] = []

        def progress(bytes_done: int, bytes_total: int) -> None:
            if not waited:
                waited.append(1)
                if begun.wait() == 0:
                    _change(model, how, before)
                    changed.set()
                changed.wait(PATIENCE_S)

        try:
            site.downloads.pull_file(_ref(lent.body), into / site.fqcn, resume=True, progress=progress)
            ends[site.fqcn] = None
        except ZdlError as error:
            ends[site.fqcn] = error

    threads = [threading.Thread(target=pull, args=(site,)) for site in sites]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [type(end) for end in ends.values()] == [SourceChanged, SourceChanged]
    assert os.listdir(into) == [], "what would be a mixture is not even kept for later"
    with pytest.raises(SourceChanged):
        server.downloads.pull_file(_ref(lent.body), into / "late")
    outcome = lent.wait(PATIENCE_S)  # at once, and not when its lease is over: nobody can ever have all of it
    assert (outcome.outcome, outcome.reason) == (Outcome.FAILED, "source-changed")
    assert set(outcome.errors.values()) == {"source-changed"}
    eventually(lambda: str(model) not in _open_files(), what="the file is closed")


@pytest.mark.fault("D7")
@pytest.mark.row("O9")
def test_d7_an_object_larger_than_the_memory_goes_to_the_disk(server: Cell, into: Path) -> None:
    """1 GiB where there may be 512 MiB more than the cell takes by itself, even of mere addresses."""
    arrays = {f"layer.{number}": np.full(32 * MIB // 8, number, np.int64) for number in range(32)}
    lent = server.downloads.lend(arrays)
    server.downloads.publish("model", lent.body)
    program = """
import resource
with Cell("site-9", parent=sys.argv[1], options=Options(disk=DiskOptions(spool_folder=sys.argv[2]))) as cell:
    cell.wait_ready()
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    limit = int(status["VmSize"].split()[0]) * 1024 + (512 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    open("/proc/self/clear_refs", "w").write("5")
    model = cell.downloads.resolve(cell.downloads.find("server", "model"), to="disk")
    for number in range(32):
        assert (model[f"layer.{number}"] == number).all()
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    say("peak", int(status["VmHWM"].split()[0]) // 1024)
    say("size", sum(array.nbytes for array in model.values()))
    stay()
"""
    with Child(program, server.addresses[0], str(into)) as child:
        assert int(child.expect("peak")) <= 512
        assert int(child.expect("size")) == 1 << 30
    assert os.listdir(into) == []


@pytest.mark.fault("D8")
def test_d8_a_relay_that_forwards_refs_to_much_more_than_its_memory_does_not_grow(server: Cell) -> None:
    program = """
with Cell("site-9", parent=sys.argv[1], listen="tcp://127.0.0.1:0") as cell:
    @cell.handler("task", "pass", resolve=False)
    def passes(request):
        return request.forward("site-9.w0")
    cell.wait_ready()
    rss = lambda: int(dict(line.split(":", 1) for line in open("/proc/self/status"))["VmRSS"].split()[0]) // 1024
    say("at", cell.addresses[0])
    before = rss()
    sys.stdin.readline()
    say("grown", rss() - before)
    stay()
"""
    with Child(program, server.addresses[0]) as relay:
        with Cell("site-9.w0", parent=relay.expect("at")) as leaf:
            leaf.wait_ready()

            @leaf.handler("task", "pass", resolve=False)
            def take(request: object) -> object:
                model = request.body  # type: ignore[attr-defined]
                array = leaf.downloads.pull(model["0"])
                return [sum(ref.nbytes for ref in model.values()), array.nbytes]  # type: ignore[attr-defined]

            body = {str(number): np.zeros(64 * MIB, np.uint8) for number in range(80)}  # never touched: no memory
            for _ in range(3):
                reply = server.request("site-9", "task", "pass", body, timeout_s=60)
                assert reply.body == [80 * 64 * MIB, 64 * MIB]
        relay.say("")
        assert int(relay.expect("grown")) <= 32


@pytest.mark.fault("D9")
@pytest.mark.row("O9")
def test_d9_of_a_receiver_that_is_killed_nothing_is_left_on_the_disk(server: Cell, into: Path) -> None:
    lent = server.downloads.lend({"w": np.arange(8 * MIB)}, receivers=0)
    server.downloads.publish("model", lent.body)
    program = """
with Cell("site-9", parent=sys.argv[1], options=Options(disk=DiskOptions(spool_folder=sys.argv[2]))) as cell:
    cell.wait_ready()
    model = cell.downloads.resolve(cell.downloads.find("server", "model"), to="disk")
    array = model["w"]
    say("has", os.fstat(model._values["w"]._file.fileno()).st_blocks * 512)
    stay()
"""
    with Child(program, server.addresses[0], str(into)) as child:
        assert int(child.expect("has")) >= 64 * MIB
        assert os.listdir(into) == [], "it has no name that could be left behind"
        child.kill()
    assert os.listdir(into) == []


@pytest.mark.fault("H20")
@pytest.mark.parametrize("name", ["../x", "/etc/x", "..", "a\0b", "..\\x", "C:x", ".bashrc", "a\nb", "x" * 300, "link"])
def test_h20_whatever_a_lender_calls_a_file_it_comes_to_lie_in_the_folder_that_was_chosen_and_replaces_nothing(
        server: Cell, model: Path, into: Path, name: str) -> None:
    ref = replace(_ref(server.downloads.lend_file(model, receivers=0).body), name=name)
    (into / "link").symlink_to(into.parent / "victim")
    before = sorted(os.listdir(into.parent))
    if name == "link":
        with pytest.raises(OptionError, match="a name that is free"):
            server.downloads.pull_file(ref, into)
    else:
        path = server.downloads.pull_file(ref, into)
        assert path.parent == into and path.name.isprintable() and not path.name.startswith(".")
        assert path.read_bytes() == model.read_bytes() and sorted(os.listdir(into)) == sorted(["link", path.name])
    assert sorted(os.listdir(into.parent)) == before and (into / "link").is_symlink()


@pytest.mark.fault("A8")
@pytest.mark.parametrize("path", ["missing", ".", "fifo", "a\0b", "x" * 300, "/dev/null"])
def test_a8_what_is_no_file_cannot_be_lent_and_its_path_is_named(server: Cell, tmp_path: Path, path: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OptionError) as caught:
        server.downloads.lend_file(tmp_path / path)
    assert caught.value.name == "path" and str(tmp_path / path) in caught.value.value
    assert server.downloads.transactions == []


@pytest.mark.fault("A9")
def test_a9_what_is_above_the_limit_of_the_disk_is_refused_before_the_first_byte(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1", options=Options(disk=DiskOptions(spool_bytes_max=MIB)))
    lent = server.downloads.lend(np.zeros(2 * MIB))
    with pytest.raises(TooLarge, match="disk.spool_bytes_max=1048576"):
        site.downloads.resolve(lent.body, to="disk")
    assert lent.receivers == {} and site.downloads.transfers == []


def _ref(body: object) -> Ref:
    assert isinstance(body, Ref)
    return body


def _receiver(lent: Transaction) -> ReceiverFacts:
    """The one that has begun."""
    facts = lent.facts
    assert facts is not None
    return facts.receivers[0]


def _stop_after(cell: Cell, ref: Ref, path: Path, size: int) -> None:
    """A pull that is given up when it has so much, and is to be gone on from."""
    def progress(bytes_done: int, bytes_total: int) -> None:
        if bytes_done >= size:
            raise InterruptedError("enough")

    with pytest.raises(ZdlError, match="enough"):
        cell.downloads.pull_file(ref, path, resume=True, progress=progress)


def _open_files() -> set[str]:
    return {os.path.realpath(f"/proc/self/fd/{each}").removesuffix(" (deleted)") for each in os.listdir("/proc/self/fd")}


def _change(path: Path, how: str, before: os.stat_result) -> None:
    if how in ("rewritten", "set back"):
        path.write_bytes(bytes(before.st_size))
        if how == "set back":
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif how == "cut off":
        os.truncate(path, before.st_size - 1)
    elif how == "longer":
        with open(path, "ab") as file:
            file.write(b"!")
    elif how == "removed":
        path.unlink()
    else:
        other = path.with_name("other.bin")
        other.write_bytes(bytes(before.st_size))
        os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
        os.replace(other, path)
