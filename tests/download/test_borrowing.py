"""What is lent on the same machine comes in shared memory: equal, in place, isolated; or it is sent, and the reason is kept."""

from __future__ import annotations

import gc
import os
import threading

import numpy as np
import pytest

from zdl.assembly import Cell
from zdl.cell.signal import Signal
from zdl.download import borrowing
from zdl.download.puller import Transfer
from zdl.errors import Cancelled, LeaseEnded, Refused, SourceChanged, TimedOut, UnknownRef
from zdl.options import OfferOptions, Options, PackOptions, PullOptions
from zdl.protocol.effects import Outcome
from zdl.refs import Ref, Source

from trees import Trees
from waiting import PATIENCE_S, eventually

MIB = 1 << 20
SHARING = Options(pulls=PullOptions(same_host=True, same_host_bytes_min=1))


def last(cell: Cell) -> Transfer:
    return cell.downloads.transfers[-1]


def data_bytes(cell: Cell) -> int:
    """What has come in over the data lane of a cell."""
    return sum(each.bytes_in for each in cell.traffic[1])


def state() -> dict[str, object]:
    """Large, small, odd and empty things, views and doubles among them."""
    rng = np.random.default_rng(7)
    large = rng.standard_normal((700, 1001)).astype(np.float32)
    return {"large": large, "again": large, "column": large[:, 3], "tiny": np.arange(3), "flat": np.float64(2.5), "odd": np.arange(
        7, dtype=np.uint8), "none": np.zeros((0, 4)), "blob": rng.bytes(70_001), "deep": [large[5:9], {"x": rng.bytes(13)}]}


def assert_same(found: object, lent: object) -> None:
    if isinstance(lent, dict):
        assert isinstance(found, dict) and list(found) == list(lent)
        for key in lent:
            assert_same(found[key], lent[key])
    elif isinstance(lent, list):
        assert isinstance(found, list)
        for one, other in zip(found, lent, strict=True):
            assert_same(one, other)
    elif isinstance(lent, np.ndarray):
        assert isinstance(found, np.ndarray) and (found.dtype, found.shape) == (lent.dtype, lent.shape)
        assert np.array_equal(found, lent)
    else:
        assert found == lent


def test_all_that_may_be_lent_comes_as_it_is_and_is_confirmed(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1", options=SHARING)
    lent = server.downloads.lend(state(), receivers=["site-1"])
    assert_same(site.downloads.pull(lent.body), state())
    assert (last(site).way, last(site).why, last(site).why_not_shared, last(site).error) == ("memory", "", "", None)
    assert last(site).bytes_done == last(site).bytes_total > 2 * MIB
    assert data_bytes(site) == 0
    assert lent.wait(PATIENCE_S).receivers == {"site-1": Outcome.FINISHED}


@pytest.mark.row("Z3")
def test_no_relay_and_no_socket_sees_a_byte_of_it(trees: Trees) -> None:
    cells = trees.grow("server", "site-1", "site-1.w0", "site-2", options=SHARING)
    array = np.frombuffer(os.urandom(5 * MIB), np.uint8)
    lent = cells[2].downloads.lend(array, receivers=2)
    for receiver in (cells[3], cells[0]):
        assert np.array_equal(receiver.downloads.pull(lent.body), array)  # type: ignore[arg-type]
    assert lent.wait(PATIENCE_S).is_complete
    assert [data_bytes(cell) for cell in cells] == [0] * 4


@pytest.mark.row("Z3")
def test_arrays_are_used_in_place_and_what_a_receiver_writes_is_his_alone(trees: Trees) -> None:
    server, one, other = trees.grow("server", "site-1", "site-2", options=SHARING)
    array = np.arange(MIB, dtype=np.uint32)
    lent = server.downloads.lend({"w": array}, receivers=2)
    mine, theirs = one.downloads.pull(lent.body)["w"], other.downloads.pull(lent.body)["w"]  # type: ignore[index]
    assert server.lane.segments.nbytes == array.nbytes
    assert mine.flags.writeable and not mine.flags.owndata and mine.ctypes.data % 64 == 0
    mine[::1000] = 7
    array[:] = 0
    assert np.array_equal(theirs, np.arange(MIB, dtype=np.uint32))
    assert mine[1000] == 7 and mine[1001] == 1001


def test_memory_that_is_given_is_copied_into(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1", options=SHARING)
    lent = server.downloads.lend(state(), receivers=0)
    into = {"large": np.ones((700, 1001), np.float32), "deep": [np.ones((4, 1001), np.float32), {"x": bytearray(13)}]}
    body = lent.body
    assert isinstance(body, dict)
    wanted = {name: body[name] for name in into}
    for _ in range(2):
        found = site.downloads.pull(wanted, into)
        assert found["large"] is into["large"]  # type: ignore[index]
        assert_same(found, {name: state()[name] for name in into} | {"deep": [state()["large"][5:9], {  # type: ignore[index]
            "x": bytearray(state()["deep"][1]["x"])}]})  # type: ignore[index]
        into["large"][:] = 0  # type: ignore[call-overload]
    assert last(site).way == "memory"
    lent.delete()


def test_parts_come_without_the_rest_and_parts_of_parts_that_are_there(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1", options=SHARING)
    array = np.arange(3 * MIB, dtype=np.uint8).reshape(3, 1024, 1024)
    other = np.arange(MIB, dtype=np.uint32)
    lent = server.downloads.lend([array, other], receivers=0)
    whole, second = lent.body  # type: ignore[misc]
    assert np.array_equal(site.downloads.pull(whole[1]), array[1])  # type: ignore[arg-type]
    assert server.lane.segments.nbytes == MIB
    assert np.array_equal(site.downloads.pull(whole[1, 5:9]), array[1, 5:9])  # type: ignore[arg-type]
    assert server.lane.segments.nbytes == MIB
    assert np.array_equal(site.downloads.pull(whole), array)  # type: ignore[arg-type]
    assert server.lane.segments.nbytes == 3 * MIB
    assert np.array_equal(site.downloads.pull(second[5:MIB // 2:7]), other[5:MIB // 2:7])  # type: ignore[arg-type]
    found = site.downloads.pull([whole[2], second[3], whole[0, :9]])
    assert_same(found, [array[2], np.array(3, np.uint32), array[0, :9]])
    assert server.lane.segments.nbytes == 3 * MIB + 4096 and last(site).way == "memory"
    lent.delete()


def test_the_end_of_an_offer_gives_its_memory_back_and_leaves_receivers_what_they_have(trees: Trees) -> None:
    options = Options(pulls=SHARING.pulls, offers=OfferOptions(segments_kept_s=0.05))
    server, site = trees.grow("server", "site-1", options=options)
    array = np.arange(MIB, dtype=np.uint8)
    lent = server.downloads.lend(array, receivers=["site-1"])
    found = site.downloads.pull(lent.body)
    assert lent.wait(PATIENCE_S).is_complete
    eventually(lambda: server.lane.segments.nbytes == 0)
    server.close()
    assert np.array_equal(found, array)  # type: ignore[arg-type]


def test_the_next_offer_is_filled_into_the_same_memory_when_nobody_has_it_any_more(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1", options=SHARING)
    for into in (None, np.empty(MIB, np.uint8)):
        for step in range(4):
            array = np.full(MIB, step, np.uint8)
            lent = server.downloads.lend(array, receivers=["site-1"])
            found = site.downloads.pull(lent.body, into)
            assert np.array_equal(found, array)  # type: ignore[arg-type]
            assert lent.wait(PATIENCE_S).is_complete
            del found
            gc.collect()
            idle = server.lane.segments._idle
            eventually(lambda: into is not None or [each.segment.is_free() for each in idle] == [True])
            assert server.lane.segments.nbytes == MIB


def test_memory_that_is_still_used_is_not_written_again(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1", options=SHARING)
    found = []
    for step in range(3):
        lent = server.downloads.lend(np.full(MIB, step, np.uint8), receivers=["site-1"])
        found.append(site.downloads.pull(lent.body))
        assert lent.wait(PATIENCE_S).is_complete
    assert [int(each.max()) for each in found] == [int(each.min()) for each in found] == [0, 1, 2]  # type: ignore[attr-defined]
    assert server.lane.segments.nbytes == 3 * MIB


def test_several_receivers_at_once_get_one_copy(trees: Trees) -> None:
    server, *sites = trees.grow("server", *(f"site-{number}" for number in range(4)), options=SHARING)
    array = np.frombuffer(os.urandom(8 * MIB), np.uint8)
    lent = server.downloads.lend(array, receivers=8)
    found: list[object] = []
    into = [np.empty(8 * MIB, np.uint8) for _ in sites]
    threads = [threading.Thread(target=lambda cell=cell, place=place: found.append(cell.downloads.pull(lent.body, place)))
               for cell, mine in zip(sites, into) for place in (None, mine)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(found) == 8 and all(np.array_equal(each, array) for each in found)  # type: ignore[arg-type]
    assert server.lane.segments.nbytes == 8 * MIB
    lent.delete()


@pytest.mark.parametrize("guard", ["check", "freeze", "copy", "none"])
def test_what_is_shared_is_what_was_lent_whatever_its_owner_does_later(trees: Trees, guard: str) -> None:
    options = Options(pulls=SHARING.pulls, packing=PackOptions(guard=guard))
    server, one, other = trees.grow("server", "site-1", "site-2", options=options)
    array = np.zeros(2 * MIB, np.uint8)
    lent = server.downloads.lend(array, receivers=0)
    first = one.downloads.pull(lent.body)
    if guard == "freeze":
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 1
    else:
        array[:] = 1
    second = other.downloads.pull(lent.body)
    assert not first.any() and not second.any()  # type: ignore[attr-defined]
    assert last(other).way == "memory"
    lent.delete()


def test_a_change_before_the_copy_is_told_by_name(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1", options=SHARING)
    array = np.zeros(2 * MIB, np.uint8)
    lent = server.downloads.lend(array, receivers=0)
    assert isinstance(lent.body, Ref)
    assert not site.downloads.pull(lent.body[:MIB]).any()  # type: ignore[attr-defined]
    array[-1] = 1
    with pytest.raises(SourceChanged):
        site.downloads.pull(lent.body)
    assert "are not what was lent" in last(site).why_not_shared
    assert server.lane.segments.nbytes == MIB
    lent.delete()


# --- who may have it ----------------------------------------------------------------------------

def test_who_is_not_named_by_a_closed_transaction_gets_no_memory(trees: Trees) -> None:
    server, one, other = trees.grow("server", "site-1", "site-2", options=SHARING)
    with server.downloads.transaction(receivers=["site-1"], closed=True) as transaction:
        ref = transaction.add(np.arange(MIB))
    one.downloads.pull(ref[5:9])  # type: ignore[index]
    before = server.lane.segments.nbytes
    with pytest.raises(Refused):
        other.downloads.pull(ref)
    assert "lent to others by name" in last(other).why_not_shared
    assert server.lane.segments.nbytes == before
    transaction.delete()


def test_a_wrong_secret_an_unknown_and_an_ended_offer_get_none(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1", options=SHARING)
    lent = server.downloads.lend(np.arange(MIB), receivers=0)
    ref = lent.body
    assert isinstance(ref, Ref)
    site.downloads.pull(ref)
    for wrong in (Source("server", ref.source.offer_id, bytes(16), ref.source.bytes_total),
                  Source("server", bytes(16), ref.source.secret, ref.source.bytes_total)):
        with pytest.raises(UnknownRef):
            site.downloads.pull(Ref(wrong, 0, 0, ref.length, "array", ref.dtype, ref.shape))
    lent.delete()
    with pytest.raises(LeaseEnded):
        site.downloads.pull(ref)
    assert last(site).why_not_shared and last(site).error


# --- in its place, sockets ----------------------------------------------------------------------

def pulls_over_sockets(server: Cell, site: Cell, why: str, size: int = MIB) -> str:
    """It comes all the same, and the reason is kept: which one."""
    array = np.frombuffer(os.urandom(size), np.uint8)
    for into in (None, np.empty(size, np.uint8)):
        lent = server.downloads.lend(array, receivers=["site-1"])
        assert np.array_equal(site.downloads.pull(lent.body, into), array)  # type: ignore[arg-type]
        assert last(site).way == "direct"
        assert why in last(site).why_not_shared if why else not last(site).why_not_shared
        assert lent.wait(PATIENCE_S).is_complete
    facts = site.snapshot().transfers[-1]
    assert facts.why_not_shared == last(site).why_not_shared
    return facts.why_not_shared


@pytest.mark.parametrize(("lender", "receiver", "why"), [
    ({"same_host": False}, {}, "option same_host of what server lends is off"),
    ({"segments_bytes_max": 1000}, {}, "segments_bytes_max=1000 is reached"),
    ({}, {"same_host": False}, "option same_host of this cell's pulls is off"),
    ({}, {"verify": "blake3"}, "verify=blake3 of this cell's pulls asks for a digest"),
    ({}, {"same_host_bytes_min": MIB + 1}, ""),
])
def test_options_say_no(trees: Trees, lender: dict[str, object], receiver: dict[str, object], why: str) -> None:
    pulls = PullOptions(**{"same_host": True, "same_host_bytes_min": 1, **receiver})  # type: ignore[arg-type]
    offers = OfferOptions(**lender)  # type: ignore[arg-type]
    server = trees.add(Cell("server", listen="tcp://127.0.0.1:0", options=Options(offers=offers)))
    site = trees.add(Cell("site-1", parent=server.addresses[0], options=Options(pulls=pulls)))
    assert why in pulls_over_sockets(server, site, why)
    assert server.lane.segments.nbytes == 0


@pytest.mark.row("Z3")
def test_another_machine_is_recognised_and_not_asked_again(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1", options=SHARING)
    server.lane.segments.host = "another one"
    assert pulls_over_sockets(server, site, "runs on another machine, or in another network namespace")
    server.lane.segments.host = site.lane.segments.host
    assert pulls_over_sockets(server, site, "runs on another machine")


@pytest.mark.row("Z3")
def test_memory_that_cannot_be_fetched_is_sent(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1", options=SHARING)
    server.lane.segments.handover.close(PATIENCE_S)
    assert pulls_over_sockets(server, site, "server")
    again, = trees.grow("server", options=SHARING)
    site = trees.add(Cell("site-1", parent=again.addresses[0], options=SHARING))
    site.lane.segments.fetch = _refused  # type: ignore[method-assign]
    assert pulls_over_sockets(again, site, "cannot be had here: [Errno 111] nobody listens")


def _refused(*_: object, **__: object) -> list[int]:
    raise ConnectionRefusedError(111, "nobody listens")


@pytest.mark.parametrize("answer", [
    None, 5, {}, {"why": 3}, {"address": "x", "ticket": b"x" * 16, "segments": [], "extents": []},
    {"address": "", "ticket": b"", "segments": [[b"x", 4096]], "extents": [[0, 4096, 0, 0]]},
    {"address": 7, "ticket": 10**9, "segments": 5, "extents": "abc"}])
def test_an_origin_that_answers_nonsense_is_pulled_from_over_sockets(trees: Trees, answer: object) -> None:
    server, site = trees.grow("server", "site-1", options=SHARING)
    server.handler("zdl", "same-host")(lambda request: answer)
    assert pulls_over_sockets(server, site, "3" if answer == {"why": 3} else "server")


def test_an_origin_that_tells_of_bytes_where_none_are_is_not_believed(trees: Trees) -> None:
    assert borrowing._placed([[64, 2, 0, 1], [0, 3, 0, 2]], [memoryview(b"abcde")]) == [(0, b"cde"), (64, b"bc")]
    for extents in ([[0, 3, 0, 3]], [[0, 3, 1, 0]], [[0, 3, 0, -1]], [[0, 3, 0]], [[0, "3", 0, 0]], [5]):
        with pytest.raises((ValueError, LookupError, TypeError)):
            borrowing._placed(extents, [memoryview(b"abcde")])
    held = borrowing.Borrowed([(0, memoryview(b"abc")), (3, memoryview(b"de")), (10, memoryview(b"x"))])
    held.check([(1, 4), (10, 1)])
    for missing in ((0, 6), (4, 7), (9, 2), (11, 1)):
        with pytest.raises(ValueError, match="are not all in what was handed over"):
            held.check([missing])


def test_bytes_out_of_a_file_are_sent(trees: Trees, tmp_path: object) -> None:
    server, site = trees.grow("server", "site-1", options=SHARING)
    path = f"{tmp_path}/it"
    with open(path, "wb") as file:
        file.write(os.urandom(MIB))
    lent = server.downloads.lend_file(path, receivers=0)
    assert isinstance(lent.body, Ref)
    found = site.downloads.pull(lent.body[:MIB])
    with open(path, "rb") as file:
        assert found == file.read()
    assert "does not lie in memory" in last(site).why_not_shared and last(site).way == "direct"
    lent.delete()


# --- ends that are wanted -----------------------------------------------------------------------

def test_progress_and_ends_are_told_as_for_any_pull(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1", options=SHARING)
    told: list[tuple[int, int]] = []
    with server.downloads.transaction(receivers=["site-1"], on_progress=lambda event: served.append(event.bytes_done),
                                      progress_interval_s=0.001) as transaction:
        served: list[int] = []
        ref = transaction.add(np.arange(MIB, dtype=np.uint8))
    site.downloads.pull(ref, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (MIB, MIB)
    assert transaction.wait(PATIENCE_S).is_complete
    eventually(lambda: served and served[-1] == MIB)


def test_nobody_waits_longer_than_he_wants_to(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1", options=SHARING)
    lent = server.downloads.lend(np.arange(MIB), receivers=0)
    asked, let_go = threading.Event(), threading.Event()

    def wait(request: object) -> object:
        """Until the end."""
        asked.set()
        let_go.wait(PATIENCE_S)
        return {"why": "late"}

    server.handler("zdl", "same-host")(wait)
    with pytest.raises(TimedOut):
        site.downloads.pull(lent.body, timeout_s=0.05)
    asked.clear()
    abort = Signal()
    threading.Thread(target=lambda: asked.wait(PATIENCE_S) and abort.trigger("enough")).start()
    with pytest.raises(Cancelled, match="enough"):
        site.downloads.pull(lent.body, abort=abort)
    let_go.set()
    lent.delete()


def test_copying_stops_when_nobody_waits_any_more() -> None:
    held = borrowing.Borrowed([(0, memoryview(bytes(10)))])

    def stop(count: int) -> None:
        """Nobody waits."""
        raise Cancelled(what="it", why="enough")

    with pytest.raises(Cancelled):
        held.copied(0, memoryview(bytearray(10)), stop)


def test_what_is_copied_is_told_of_as_it_goes_and_ends_when_nobody_wants_it() -> None:
    source = Source("server", bytes(16), bytes(16), 10)
    memory, told = bytearray(8), list[int]()
    held = borrowing.Borrowed([(0, memoryview(b"0123456789"))])
    places = {Ref(source, 0, 0, 4, "bytes"): memoryview(memory)[:4], Ref(source, 1, 2, 4, "bytes"): memoryview(memory)[4:]}
    sink = borrowing.CopyingSink(source, places, held)
    assert (sink.ranges, sink.have, sink.may_block) == ([], [(0, 6)], True)
    sink.begin(told.append, lambda: "")
    sink.finish()
    assert bytes(memory) == b"01232345" and told == [4, 6]
    sink.begin(told.append, lambda: "enough")
    with pytest.raises(Cancelled, match="enough"):
        sink.finish()


def test_nothing_is_left_after_the_end(trees: Trees) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with Trees() as own:
        server, site = own.grow("server", "site-1", options=SHARING)
        lent = server.downloads.lend(np.arange(MIB), receivers=0)
        found = site.downloads.pull(lent.body)
        site.downloads.pull(lent.body, np.empty(MIB, np.int64))
        assert [each for each in threading.enumerate() if each.name.startswith("zdl-segments")]
    assert not [each for each in threading.enumerate() if each.name.startswith("zdl-")]
    del found, lent, server, site, own
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before
