"""Copying: who is on the same host, and may, reads a lent file from where it lies; to all others it is sent, and why is kept."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from zdl import Cancelled, DiskFile, LeaseEnded, OfferOptions, Options, PullOptions, Ref, Signal, SourceChanged
from zdl.assembly import Cell
from zdl.cell.messages import Request
from zdl.download.copying import COPIES_MAX
from zdl.download.puller import CHANNEL, COPIED
from zdl.download.samehost import SAME_HOST_TOPIC

from children import Child
from trees import Trees
from waiting import PATIENCE_S, eventually

MIB = 1 << 20
COPIED_BYTES_MIN = PullOptions().same_host_bytes_min


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


@pytest.mark.parametrize(("options", "why"), [
    (Options(pulls=PullOptions(verify="blake3")), "verify=blake3 of this cell's pulls asks for a digest of what is sent"),
    (Options(pulls=PullOptions(same_host=False)), "the option same_host of this cell's pulls is off"),
    (Options(pulls=PullOptions(bwlimit_bytes_per_s=1e9)), "it has a limit of bandwidth"),
    (Options(offers=OfferOptions(bwlimit_bytes_per_s=1e9)), "what server lends has a limit of bandwidth"),
    (Options(offers=OfferOptions(same_host=False)), "the option same_host of what server lends is off")])
def test_who_asks_for_a_digest_for_a_limit_or_for_no_short_cuts_gets_it_over_the_wire(
        trees: Trees, model: Path, tmp_path: Path, options: Options, why: str) -> None:
    server, site = trees.grow("server", "site-1", options=options)
    site.downloads.pull_file(lent_by(server, model), tmp_path / "copy")
    (transfer,) = site.downloads.transfers
    assert transfer.way == "direct" and why in transfer.why_not_shared
    assert (tmp_path / "copy").read_bytes() == model.read_bytes()


def test_small_files_and_parts_of_files_come_over_the_wire(cells: tuple[Cell, ...], tmp_path: Path, model: Path) -> None:
    server, site = cells
    (tmp_path / "small").write_bytes(bytes(100))
    site.downloads.pull_file(lent_by(server, tmp_path / "small"), tmp_path / "copy")
    ref = lent_by(server, model)
    site.downloads.pull_file(ref[1:], tmp_path / "part")
    assert [(each.way, each.why_not_shared) for each in site.downloads.transfers] == [("direct", "")] * 2
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
    assert sorted(each.why_not_shared for each in site.downloads.transfers)[-1] == "2 files are being copied already"
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


# --- who may, and who is believed ---------------------------------------------------------------

def asked(site: Cell, ref: Ref, **other: object) -> object:
    """What an origin answers to a question for this file."""
    question = {"offer": ref.source.offer_id, "secret": ref.source.secret, "host": site.lane.segments.host,
                "ranges": [[ref.offset, ref.length]], "is_file": True, **other}
    return site.request("server", CHANNEL, SAME_HOST_TOPIC, question, timeout_s=PATIENCE_S, resolve=False).body


def test_a_file_is_handed_over_to_be_read_and_not_to_be_written(cells: tuple[Cell, ...], model: Path) -> None:
    server, site = cells
    ref = lent_by(server, model, receivers=0)
    told = asked(site, ref)
    assert isinstance(told, dict) and told["place"] == 0
    (descriptor,) = site.lane.segments.fetch(told["address"], told["ticket"], ref.source.secret, count=1, timeout_s=PATIENCE_S)
    assert os.pread(descriptor, 9, 0) == model.read_bytes()[:9]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(descriptor, b"x", 0)
    os.close(descriptor)


def test_who_does_not_know_the_secret_is_elsewhere_or_asks_for_what_is_no_file_is_told_why_not(
        cells: tuple[Cell, ...], model: Path) -> None:
    server, site = cells
    ref = lent_by(server, model, receivers=0)
    array = server.downloads.lend(np.zeros(COPIED_BYTES_MIN, np.uint8), receivers=0).body
    assert isinstance(array, Ref)
    for wanted, other in ((ref, {"secret": bytes(len(ref.source.secret))}), (ref, {"host": "elsewhere"}), (array, {}),
                          (ref, {"ranges": [[0, 5], [10, 5]]})):
        answer = asked(site, wanted, **other)
        assert isinstance(answer, dict) and answer["why"] and "ticket" not in answer


def test_who_is_elsewhere_is_not_asked_again_for_a_while_for_memory_or_for_files(
        cells: tuple[Cell, ...], model: Path, tmp_path: Path) -> None:
    server, site = cells
    questions: list[object] = []

    @server.handler(CHANNEL, SAME_HOST_TOPIC, resolve=False)
    def refuse(request: Request) -> object:
        questions.append(request.body)
        return {"why": "server runs on another machine", "is_lasting": True}

    site.downloads.pull_file(lent_by(server, model), tmp_path / "copy")
    site.downloads.pull(server.downloads.lend(np.zeros(COPIED_BYTES_MIN, np.uint8)).body)
    site.downloads.pull_file(lent_by(server, model), tmp_path / "again")
    assert [each.why_not_shared for each in site.downloads.transfers] == ["server runs on another machine"] * 3
    assert len(questions) == 1


@pytest.mark.parametrize("answer", [
    [], ["x"], None, {"a": 1}, {"address": "nobody", "ticket": b"x", "place": 0}, {"why": 5}])
def test_an_origin_that_answers_nonsense_is_not_believed(
        cells: tuple[Cell, ...], model: Path, tmp_path: Path, answer: object) -> None:
    server, site = cells
    ref = lent_by(server, model)
    server.handler(CHANNEL, SAME_HOST_TOPIC, resolve=False)(lambda request: answer)
    site.downloads.pull_file(ref, tmp_path / "copy")
    (transfer,) = site.downloads.transfers
    assert transfer.way == "direct" and transfer.why_not_shared
    assert (tmp_path / "copy").read_bytes() == model.read_bytes()


def test_an_origin_that_hands_over_another_file_is_not_believed(
        cells: tuple[Cell, ...], model: Path, tmp_path: Path) -> None:
    server, site = cells
    ref = lent_by(server, model)
    (tmp_path / "other").write_bytes(os.urandom(ref.length))

    @server.handler(CHANNEL, SAME_HOST_TOPIC, resolve=False)
    def lie(request: Request) -> object:
        address, ticket = server.lane.segments.handover.promise(
            lambda: [os.open(tmp_path / "other", os.O_RDONLY)], ref.source.secret)
        return {"address": address, "ticket": ticket, "place": 0}

    site.downloads.pull_file(ref, tmp_path / "copy")
    (transfer,) = site.downloads.transfers
    assert transfer.way == "direct" and "is not the file that the ref names" in transfer.why_not_shared
    assert (tmp_path / "copy").read_bytes() == model.read_bytes()
    opened = [os.path.realpath(f"/proc/self/fd/{each}") for each in os.listdir("/proc/self/fd")]
    assert str(tmp_path / "other") not in opened
