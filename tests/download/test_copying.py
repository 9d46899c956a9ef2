"""Copying: who is on the same host, and may, reads a lent file from where it lies; for all others nothing is different."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from zdl import Cancelled, DiskFile, LeaseEnded, Options, PullOptions, Ref, Signal, SourceChanged
from zdl.assembly import Cell
from zdl.download.copying import COPIED_BYTES_MIN, COPIES_MAX, OPEN_FILE_TOPIC, TOKEN_NAME
from zdl.download.puller import CHANNEL, COPIED

from children import Child
from trees import Trees
from waiting import PATIENCE_S, eventually

MIB = 1 << 20


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(os.urandom(COPIED_BYTES_MIN + 123))
    return path


@pytest.fixture
def cells(trees: Trees) -> tuple[Cell, ...]:
    return trees.grow("server", "site-1")


def lent_by(cell: Cell, path: Path, receivers: int = 1) -> Ref:
    ref = cell.downloads.lend_file(path, receivers=receivers).body
    assert isinstance(ref, Ref)
    return ref


@pytest.mark.row("O6")
def test_a_file_of_another_process_of_this_host_is_copied_and_its_lender_hears_that_it_is_there(
        trees: Trees, model: Path, tmp_path: Path) -> None:
    (server,) = trees.grow("server")
    lent = server.downloads.lend_file(model)
    server.downloads.publish("model", lent.body)
    program = """
with Cell("site-9", parent=sys.argv[1]) as cell:
    cell.wait_ready()
    seen = []
    cell.downloads.pull_file(cell.downloads.find("server", "model"), sys.argv[2], progress=lambda *facts: seen.append(facts))
    (transfer,) = cell.downloads.transfers
    say("done", transfer.way, transfer.bytes_done == transfer.bytes_total, seen[-1] == (transfer.bytes_total,) * 2)
    stay()
"""
    before = server.traffic[1]
    with Child(program, server.addresses[0], str(tmp_path / "copy")) as child:
        assert child.expect("done") == f"{COPIED} True True"
        assert lent.wait(PATIENCE_S).is_complete
    assert (tmp_path / "copy").read_bytes() == model.read_bytes()
    assert sum(each.bytes_out for each in server.traffic[1]) - sum(each.bytes_out for each in before) < MIB


@pytest.mark.parametrize("pulls", [PullOptions(verify="blake3"), PullOptions(direct=False)])
def test_who_asks_for_a_digest_or_for_no_short_cuts_gets_it_over_the_wire(
        trees: Trees, model: Path, tmp_path: Path, pulls: PullOptions) -> None:
    server, site = trees.grow("server", "site-1", options=Options(pulls=pulls))
    site.downloads.pull_file(lent_by(server, model), tmp_path / "copy")
    assert all(each.way != COPIED for each in site.downloads.transfers)
    assert (tmp_path / "copy").read_bytes() == model.read_bytes()


def test_small_files_and_parts_of_files_come_over_the_wire(cells: tuple[Cell, ...], tmp_path: Path, model: Path) -> None:
    server, site = cells
    (tmp_path / "small").write_bytes(bytes(100))
    site.downloads.pull_file(lent_by(server, tmp_path / "small"), tmp_path / "copy")
    ref = lent_by(server, model)
    site.downloads.pull_file(ref[1:], tmp_path / "part")
    assert [each.way for each in site.downloads.transfers] == ["direct", "direct"]
    assert (tmp_path / "part").read_bytes() == model.read_bytes()[1:]


def test_no_more_than_a_few_are_copied_at_once_and_the_others_are_sent(cells: tuple[Cell, ...], tmp_path: Path) -> None:
    server, site = cells
    body = {}
    for name in "abcd":
        (tmp_path / name).write_bytes(os.urandom(COPIED_BYTES_MIN))
        body[name] = lent_by(server, tmp_path / name)
    found = site.downloads.resolve(body, to="disk")
    ways = sorted(each.way for each in site.downloads.transfers)
    assert ways == sorted([COPIED] * COPIES_MAX + ["direct"] * (4 - COPIES_MAX))
    for name, value in found.items():  # type: ignore[attr-defined]
        assert isinstance(value, DiskFile) and value.path.read_bytes() == (tmp_path / name).read_bytes()


@pytest.mark.row("O12")
def test_the_file_of_a_container_is_copied_from_where_it_begins_in_the_stream(cells: tuple[Cell, ...], tmp_path: Path) -> None:
    server, site = cells
    np.save(tmp_path / "w.npy", np.arange(COPIED_BYTES_MIN // 8))
    lent = server.downloads.lend_file(tmp_path / "w.npy", as_tensors=True)
    site.downloads.pull_file(lent.body["file"], tmp_path / "copy")  # type: ignore[index]
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "w.npy").read_bytes()
    assert [each.way for each in site.downloads.transfers] == [COPIED]
    assert lent.wait(PATIENCE_S).is_complete


def test_an_aborted_copy_leaves_nothing_and_its_lender_hears_of_it(cells: tuple[Cell, ...], model: Path, tmp_path: Path) -> None:
    server, site = cells
    lent, abort = server.downloads.lend_file(model), Signal()
    assert isinstance(lent.body, Ref)
    with pytest.raises(Cancelled, match="'stop'"):
        site.downloads.pull_file(lent.body, tmp_path / "copy", abort=abort, progress=lambda *facts: abort.trigger("stop"))
    assert os.listdir(tmp_path) == ["model.bin"]
    eventually(lambda: "site-1" in lent.receivers)


def test_a_copy_that_is_stopped_is_gone_on_with(cells: tuple[Cell, ...], model: Path, tmp_path: Path) -> None:
    server, site = cells
    ref, seen = lent_by(server, model), list[int]()

    def stop(done: int, total: int) -> None:
        if done >= 2 * MIB:
            raise InterruptedError("enough")

    with pytest.raises(Cancelled, match="enough"):
        site.downloads.pull_file(ref, tmp_path / "copy", resume=True, progress=stop)
    site.downloads.pull_file(ref, tmp_path / "copy", resume=True, progress=lambda done, total: seen.append(done))
    assert seen[0] > 2 * MIB and (tmp_path / "copy").read_bytes() == model.read_bytes()


def test_a_cell_that_closes_does_not_wait_for_its_copies(trees: Trees, model: Path, tmp_path: Path) -> None:
    (server,) = trees.grow("server")
    ref = lent_by(server, model)
    site = Cell("site-1", parent=server.addresses[0])
    site.start()
    site.wait_ready()
    site.downloads._puller.end("the cell is closed")
    with pytest.raises(Cancelled, match="the cell is closed"):
        site.downloads.pull_file(ref, tmp_path / "copy")
    site.close()
    assert os.listdir(tmp_path) == ["model.bin"]


def test_a_file_that_was_changed_before_anybody_came_is_not_copied(cells: tuple[Cell, ...], model: Path, tmp_path: Path) -> None:
    server, site = cells
    ref = lent_by(server, model)
    model.write_bytes(bytes(COPIED_BYTES_MIN))
    with pytest.raises(SourceChanged):
        site.downloads.pull_file(ref, tmp_path / "copy")


def test_after_its_end_nothing_is_copied(cells: tuple[Cell, ...], model: Path, tmp_path: Path) -> None:
    server, site = cells
    lent = server.downloads.lend_file(model)
    lent.delete()
    lent.wait(PATIENCE_S)
    assert isinstance(lent.body, Ref)
    with pytest.raises(LeaseEnded):
        site.downloads.pull_file(lent.body, tmp_path / "copy")


# --- who may, and what is shown -----------------------------------------------------------------

def asked(site: Cell, *body: object) -> object:
    return site.request("server", CHANNEL, OPEN_FILE_TOPIC, list(body), timeout_s=PATIENCE_S, resolve=False).body


def test_an_origin_tells_what_is_in_no_file_but_those_that_were_made_for_it(
        cells: tuple[Cell, ...], model: Path, tmp_path: Path) -> None:
    server, site = cells
    ref = lent_by(server, model, receivers=0)
    (tmp_path / "secret").write_text("of the origin's user")
    other = os.memfd_create("another")
    own = os.memfd_create(TOKEN_NAME)
    os.write(own, b"t" * 100)
    with open(tmp_path / "secret", "rb") as file:
        for number in (file.fileno(), other, 1 << 30, -1):
            assert asked(site, ref, os.getpid(), number) == []
    answer = asked(site, ref, os.getpid(), own)
    assert isinstance(answer, list) and answer[:2] == [b"t" * 32, os.getpid()] and answer[3] == 0
    for process in (0, -1, 1 << 40):
        assert asked(site, ref, process, own) == []
    for body in ((), (ref,), (ref, "1", own), (1, os.getpid(), own)):
        assert asked(site, *body) == []
    os.close(other)
    os.close(own)


def test_who_does_not_know_the_secret_or_is_not_meant_is_told_nothing(cells: tuple[Cell, ...], model: Path) -> None:
    server, site = cells
    own = os.memfd_create(TOKEN_NAME)
    ref = lent_by(server, model, receivers=0)
    guessed = replace(ref, source=replace(ref.source, secret=bytes(len(ref.source.secret))))
    assert asked(site, guessed, os.getpid(), own) == []
    os.close(own)


@pytest.mark.parametrize("answer", [
    [b"x" * 32, os.getpid(), 0, 0], [], ["x"], None, {"a": 1}, [b"", -1, -1, -1]])
def test_an_origin_that_does_not_know_the_token_is_not_believed(
        trees: Trees, model: Path, tmp_path: Path, answer: object) -> None:
    server, site = trees.grow("server", "site-1")
    ref = lent_by(server, model)
    server.handler(CHANNEL, OPEN_FILE_TOPIC, resolve=False)(lambda request: answer)
    site.downloads.pull_file(ref, tmp_path / "copy")
    assert [each.way for each in site.downloads.transfers] == ["direct"]
    assert (tmp_path / "copy").read_bytes() == model.read_bytes()


def test_an_origin_that_knows_the_token_and_names_another_file_is_not_believed(
        trees: Trees, model: Path, tmp_path: Path) -> None:
    server, site = trees.grow("server", "site-1")
    ref = lent_by(server, model)
    (tmp_path / "secret").write_bytes(os.urandom(ref.length))
    with open(tmp_path / "secret", "rb") as file:
        def lie(request: object) -> object:
            _, process, number = request.body  # type: ignore[attr-defined]
            with open(f"/proc/{process}/fd/{number}", "rb") as token:
                return [token.read(), os.getpid(), file.fileno(), 0]

        server.handler(CHANNEL, OPEN_FILE_TOPIC, resolve=False)(lie)
        site.downloads.pull_file(ref, tmp_path / "copy")
    assert [each.way for each in site.downloads.transfers] == ["direct"]
    assert (tmp_path / "copy").read_bytes() == model.read_bytes()
