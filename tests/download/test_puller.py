"""Pulling: straight from the origin where it can be dialled, else along the tree; and whatever happens on the way."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from zdl.assembly import Cell
from zdl.cell.messages import Request
from zdl.cell.signal import Signal
from zdl.download.puller import Puller, Transfer
from zdl.errors import (
    Busy,
    Cancelled,
    Closed,
    IntegrityError,
    LeaseEnded,
    NoRoute,
    OriginLost,
    SourceChanged,
    Stalled,
    TimedOut,
    UnknownRef,
)
from zdl.options import LinkOptions, Options, PullOptions
from zdl.protocol.effects import Outcome
from zdl.refs import Ref, Source

from chaos import Chaos
from children import Child
from trees import Trees
from waiting import PATIENCE_S, eventually

MIB = 1 << 20
NAMES = ("server", "site-1", "site-2", "site-1.w0", "site-2.w0")


def pulling(**options: object) -> Options:
    """What is pulled is sent."""
    return Options(pulls=PullOptions(same_host=False, **options))  # type: ignore[arg-type]


# However slow the machine is: what passes at which byte is known.
WHOLE = pulling(chunk_bytes_min=MIB, window_bytes_min=4 * MIB)


def last(cell: Cell) -> Transfer:
    return cell.downloads.transfers[-1]


def data_bytes(cell: Cell) -> int:
    """What has come in over the data lane of a cell."""
    return sum(each.bytes_in for each in cell.traffic[1])


def random_array(size: int) -> np.ndarray:  # type: ignore[type-arg]
    return np.frombuffer(os.urandom(size), np.uint8)


class Stage:
    """server, site-1, site-2, site-1.w0 and site-2.w0: the last one pulls what the one before it lends."""

    def __init__(self, trees: Trees, size: int = 6 * MIB, options: Options | None = None) -> None:
        self.server, self.site_1, self.site_2, self.origin, self.receiver = trees.grow(*NAMES, options=options or pulling())
        self.array = random_array(size)
        self.lent = self.origin.downloads.lend(self.array)
        assert isinstance(self.lent.body, Ref)
        self.ref = self.lent.body

    def tell_addresses(self, *addresses: str) -> None:
        """The origin says that its data lane is there."""
        self.origin.handler("zdl", "data-addresses", inline=True)(lambda request: list(addresses))

    def pulls_well(self, **options: object) -> None:
        found = self.receiver.downloads.pull(self.ref, **options)  # type: ignore[arg-type]
        assert np.array_equal(found, self.array)  # type: ignore[arg-type]
        assert self.lent.wait(PATIENCE_S).receivers == {"site-2.w0": Outcome.FINISHED}

    def relayed_bytes(self) -> tuple[int, ...]:
        return tuple(data_bytes(cell) for cell in (self.server, self.site_1, self.site_2))


@pytest.fixture
def chaos(trees: Trees) -> Iterator[tuple[Stage, Chaos]]:
    """The receiver reaches the origin's data lane through a connection that can be spoilt."""
    stage = Stage(trees, options=WHOLE)
    with Chaos(stage.origin.data_addresses[0]) as made:
        stage.tell_addresses(made.address)
        yield stage, made


# --- the way ------------------------------------------------------------------------------------

def test_bytes_come_straight_from_the_origin(trees: Trees) -> None:
    stage = Stage(trees)
    stage.pulls_well()
    assert (last(stage.receiver).way, last(stage.receiver).why) == ("direct", "")
    assert max(stage.relayed_bytes()) < 1000, "no relay has seen them"
    assert (last(stage.receiver).bytes_done, last(stage.receiver).bytes_total) == (6 * MIB, 6 * MIB)
    assert last(stage.receiver).seconds is not None and last(stage.receiver).error is None


def test_bytes_come_along_the_tree_when_the_direct_way_is_not_wanted(trees: Trees) -> None:
    stage = Stage(trees, options=pulling(direct=False))
    stage.pulls_well()
    assert last(stage.receiver).way == "routed" and "direct" in last(stage.receiver).why
    assert all(passed >= 6 * MIB for passed in stage.relayed_bytes())


def test_bytes_come_along_the_tree_when_the_origin_has_no_address(trees: Trees) -> None:
    stage = Stage(trees)
    stage.tell_addresses()
    stage.pulls_well()
    assert last(stage.receiver).way == "routed" and "no address" in last(stage.receiver).why


def test_bytes_come_along_the_tree_when_nobody_answers(chaos: tuple[Stage, Chaos]) -> None:
    stage, link = chaos
    link.refuse()
    stage.pulls_well()
    assert last(stage.receiver).way == "routed"
    assert f"nobody answers at {link.address}" in last(stage.receiver).why
    assert all(passed >= 6 * MIB for passed in stage.relayed_bytes())


def test_bytes_come_along_the_tree_when_the_direct_way_says_nothing(trees: Trees) -> None:
    stage = Stage(trees, options=pulling(direct_timeout_s=0.1))
    with Chaos(stage.origin.data_addresses[0]) as link:
        link.towards.hold(0)
        stage.tell_addresses(link.address)
        stage.pulls_well()
        assert last(stage.receiver).way == "routed"
        assert "no direct link to site-1.w0 within 0.1 s" in last(stage.receiver).why


def test_another_cell_at_the_address_is_not_taken_for_the_origin(trees: Trees) -> None:
    stage = Stage(trees)
    stage.tell_addresses(stage.site_1.data_addresses[0])
    stage.pulls_well()
    assert last(stage.receiver).way == "routed"
    assert "is not site-1.w0" in last(stage.receiver).why


def test_the_next_address_is_tried_when_one_leads_nowhere(trees: Trees) -> None:
    stage = Stage(trees)
    with Chaos("tcp://127.0.0.1:1") as gone:
        pass
    stage.tell_addresses("nonsense", gone.address, "ipc:///nowhere/x", stage.origin.data_addresses[0])
    stage.pulls_well()
    assert last(stage.receiver).way == "direct"


@pytest.mark.parametrize("told", [None, 7, {"a": 1}, [1, None, b"x"], "tcp://127.0.0.1:1", ["x" * 100_000]])
def test_an_origin_that_talks_nonsense_about_its_address_is_pulled_from_all_the_same(trees: Trees, told: object) -> None:
    stage = Stage(trees)
    stage.origin.handler("zdl", "data-addresses", inline=True)(lambda request: told)
    stage.pulls_well()
    assert last(stage.receiver).way == "routed"


def test_many_pulls_share_one_direct_link(trees: Trees) -> None:
    stage = Stage(trees)
    lent = [stage.origin.downloads.lend(random_array(MIB)) for _ in range(10)]
    threads = [threading.Thread(target=stage.receiver.downloads.resolve, args=(each.body,)) for each in lent]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(each.wait(PATIENCE_S).is_complete for each in lent)
    assert {each.way for each in stage.receiver.downloads.transfers} == {"direct"}
    links = [peer for peer in stage.receiver.peers if (peer.lane, peer.fqcn) == ("data", "site-1.w0")]
    assert len(links) == 1


def test_parents_and_children_pull_from_each_other(trees: Trees) -> None:
    server, site, leaf = trees.grow("server", "site-1", "site-1.w0", same_host=False)
    array = random_array(3 * MIB)
    for origin, receiver in ((server, site), (site, server), (leaf, site), (site, leaf), (leaf, server), (server, leaf)):
        lent = origin.downloads.lend(array)
        assert np.array_equal(receiver.downloads.pull(lent.body), array)  # type: ignore[arg-type]
        assert last(receiver).way == "direct"
        assert lent.wait(PATIENCE_S).is_complete


# --- what goes wrong on the way -----------------------------------------------------------------

def test_a_chunk_that_came_wrong_is_fetched_again(chaos: tuple[Stage, Chaos]) -> None:
    stage, link = chaos
    link.back.flip([300_000, 2 * MIB + 5, 2 * MIB + 700_000])
    stage.pulls_well()
    assert last(stage.receiver).way == "direct"
    assert link.back.passed > 8 * MIB - 1000, "two chunks came twice"


def test_a_chunk_that_comes_wrong_again_and_again_ends_the_pull(trees: Trees) -> None:
    stage = Stage(trees, size=600_000, options=WHOLE)
    with Chaos(stage.origin.data_addresses[0]) as link:
        stage.tell_addresses(link.address)
        link.back.flip([300_000, 900_000, 1_500_000])
        with pytest.raises(IntegrityError) as caught:
            stage.receiver.downloads.pull(stage.ref)
        assert (caught.value.origin, caught.value.offset, caught.value.attempts) == ("site-1.w0", 0, 3)
    stage.lent.delete()  # a flipped bit may have cost the link, and with it the word that the receiver gave up


def test_an_object_that_changes_while_it_is_lent_is_never_a_mixture(trees: Trees) -> None:
    server, one, two = trees.grow("server", "site-1", "site-2", same_host=False)
    array = np.zeros(3 * MIB, np.uint8)
    lent = server.downloads.lend(array, receivers=2)
    assert isinstance(lent.body, Ref)
    one.downloads.pull(lent.body)
    array[2 * MIB] = 1
    with pytest.raises(SourceChanged, match=f"bytes {2 * MIB} to {3 * MIB} "):
        two.downloads.pull(lent.body)
    outcome = lent.wait(PATIENCE_S)
    assert (outcome.outcome, outcome.reason) == (Outcome.PARTIAL, "source-changed")
    assert dict(outcome.receivers) == {"site-1": Outcome.FINISHED, "site-2": Outcome.FAILED}


def test_a_pull_goes_on_along_the_tree_when_its_connection_breaks(chaos: tuple[Stage, Chaos]) -> None:
    stage, link = chaos
    link.back.hold(2 * MIB + MIB // 2)
    done = threading.Event()
    pull = threading.Thread(target=lambda: (stage.pulls_well(progress=lambda *_: None), done.set()))
    pull.start()
    eventually(lambda: link.back.is_holding)
    link.refuse()
    link.reset()
    link.back.release()
    pull.join(PATIENCE_S)
    assert done.is_set()
    assert last(stage.receiver).way == "routed"
    assert "the link to site-1.w0 was lost" in last(stage.receiver).why
    assert all(3 * MIB < passed < 6 * MIB for passed in stage.relayed_bytes()), stage.relayed_bytes()


def test_a_pull_survives_the_loss_of_a_parent_that_comes_back(trees: Trees) -> None:
    options = Options(links=LinkOptions(heartbeat_s=0.2, redial_max_s=0.1),
                      pulls=PullOptions(direct=False, lost_timeout_s=PATIENCE_S))
    (server,) = trees.grow("server", options=options)
    with Chaos(server.addresses[0]) as control, Chaos(server.data_addresses[0]) as data:
        origin = trees.add(Cell("site-1", parent=server.addresses[0], options=options))
        receiver = Cell("site-2", parent=control.address, options=options)
        receiver.start()
        receiver.wait_ready()
        array = random_array(6 * MIB)
        lent = origin.downloads.lend(array)
        found: list[object] = []
        started = threading.Event()

        def progress(done: int, total: int) -> None:
            if not started.is_set():
                started.set()
                control.reset()
                data.reset()

        found.append(receiver.downloads.pull(lent.body, progress=progress))  # type: ignore[arg-type]
        assert np.array_equal(found[0], array)  # type: ignore[arg-type]
        assert started.is_set()
        receiver.close()


LENDER = """
options = Options(links=LinkOptions(heartbeat_s=0.3))
with Cell(sys.argv[1], parent=sys.argv[2], options=options) as cell:
    cell.wait_ready()
    lent = cell.downloads.lend(np.arange(4 << 20, dtype=np.float64))
    cell.downloads.publish("it", lent.body)
    say("ready", *cell.data_addresses)
    stay()
"""


@pytest.mark.row("D18")
@pytest.mark.fault("P3")
@pytest.mark.parametrize(("end", "way"), [("kill", "direct"), ("kill", "routed"), ("stop", "routed"), ("stop", "direct")])
def test_P3_an_origin_that_dies_is_told_within_its_bound(trees: Trees, end: str, way: str) -> None:
    """A killed one breaks its links. A frozen one breaks none: the tree tells, and the direct link is left."""
    options = Options(links=LinkOptions(heartbeat_s=0.3), pulls=PullOptions(
        lost_timeout_s=1.0, stall_timeout_s=600.0, direct=way == "direct", window_bytes_min=MIB, window_bytes_max=MIB,
        same_host=False))
    server, relay, receiver = trees.grow("server", "site-1", "site-2", options=options)
    with Child(LENDER, "site-3", server.addresses[0]) as child:
        child.expect("ready")
        ref = receiver.downloads.find("site-3", "it")
        assert isinstance(ref, Ref)
        ended: list[str] = []

        def progress(done: int, total: int) -> None:
            if not ended:
                ended.append(end)
                child.kill() if end == "kill" else child.stop()

        with pytest.raises(OriginLost) as caught:
            receiver.downloads.pull(ref, progress=progress, timeout_s=PATIENCE_S)
        assert caught.value.origin == "site-3"
        assert 0 < caught.value.bytes_done < caught.value.bytes_total == 32 * MIB
        assert last(receiver).error is caught.value


@pytest.mark.row("D18")
def test_the_death_of_an_origin_is_known_long_before_patience_ends(trees: Trees) -> None:
    """Its direct link breaks, and the tree has lost it too: nothing but its end does both."""
    options = pulling(lost_timeout_s=600.0, stall_timeout_s=600.0, window_bytes_min=MIB, window_bytes_max=MIB)
    server, receiver = trees.grow("server", "site-2", options=options)
    with Child(LENDER, "site-3", server.addresses[0]) as child:
        child.expect("ready")
        ref = receiver.downloads.find("site-3", "it")
        assert isinstance(ref, Ref)
        with pytest.raises(OriginLost):
            receiver.downloads.pull(ref, progress=lambda *_: child.kill(), timeout_s=PATIENCE_S)


@pytest.mark.fault("P4")
def test_P4_a_relay_that_dies_ends_the_pulls_behind_it(trees: Trees) -> None:
    """The receiver stands above: it loses the link itself, and nobody else could tell it."""
    options = Options(links=LinkOptions(heartbeat_s=0.3), pulls=PullOptions(
        lost_timeout_s=1.0, direct=False, window_bytes_min=MIB, window_bytes_max=MIB, same_host=False))
    server = trees.add(Cell("server", listen="tcp://127.0.0.1:0", options=options))
    program = """
with Cell("site-1", parent=sys.argv[1], listen="tcp://127.0.0.1:0") as relay:
    relay.wait_ready()
    say("ready", relay.addresses[0])
    stay()
"""
    with Child(program, server.addresses[0]) as relay, Child(LENDER, "site-1.w0", relay.expect("ready")) as child:
        child.expect("ready")
        ref = server.downloads.find("site-1.w0", "it")
        assert isinstance(ref, Ref)
        with pytest.raises(OriginLost) as caught:
            server.downloads.pull(ref, progress=lambda *_: relay.kill(), timeout_s=PATIENCE_S)
        assert 0 < caught.value.bytes_done < caught.value.bytes_total


def test_an_origin_that_was_dead_before_is_told_at_once(trees: Trees) -> None:
    stage = Stage(trees)
    stage.origin.close()
    with pytest.raises(OriginLost) as caught:
        stage.receiver.downloads.pull(stage.ref)
    assert (caught.value.origin, caught.value.bytes_done) == ("site-1.w0", 0)
    assert "site-1 could not go on" in caught.value.why


def test_an_origin_that_closes_ends_the_pulls_from_it(trees: Trees) -> None:
    stage = Stage(trees, options=pulling(window_bytes_min=MIB, window_bytes_max=MIB, lost_timeout_s=0.5))
    closing: list[threading.Thread] = []

    def progress(done: int, total: int) -> None:
        if not closing:
            closing.append(threading.Thread(target=stage.origin.close, args=(0.0,)))
            closing[0].start()
            closing[0].join(0.05)

    with pytest.raises((LeaseEnded, OriginLost)):
        stage.receiver.downloads.pull(stage.ref, progress=progress)
    closing[0].join()


def test_an_origin_that_says_nothing_is_stalled(trees: Trees) -> None:
    stage = Stage(trees, options=pulling(stall_timeout_s=0.3, retry_s=0.1))
    with Chaos(stage.origin.data_addresses[0]) as link:
        stage.tell_addresses(link.address)
        link.back.hold(2 * MIB)
        with pytest.raises(Stalled) as caught:
            stage.receiver.downloads.pull(stage.ref)
        assert caught.value.bytes_done < caught.value.bytes_total == 6 * MIB
        assert caught.value.waited_s >= 0.3
    stage.lent.delete()


# --- ends that are wanted -----------------------------------------------------------------------

def test_a_pull_can_be_aborted_at_any_time(trees: Trees) -> None:
    stage = Stage(trees, options=pulling(window_bytes_min=MIB, window_bytes_max=MIB))
    for moment in ("before", "addresses", "bytes"):
        abort, let_go = Signal(), threading.Event()

        def wait(request: Request) -> object:
            abort.trigger("enough")
            return let_go.wait(PATIENCE_S)

        if moment == "before":
            abort.trigger("enough")
        if moment == "addresses":
            stage.origin.handler("zdl", "data-addresses")(wait)
        with pytest.raises(Cancelled):
            stage.receiver.downloads.pull(stage.ref, abort=abort, progress=lambda *_: abort.trigger("enough"))
        let_go.set()
        stage.tell_addresses(*stage.origin.data_addresses)
    stage.pulls_well()


def test_a_timeout_bounds_all_of_a_pull(trees: Trees) -> None:
    stage = Stage(trees)
    let_go = threading.Event()
    stage.origin.handler("zdl", "data-addresses")(lambda request: let_go.wait(PATIENCE_S))
    with pytest.raises(TimedOut) as caught:
        stage.receiver.downloads.pull(stage.ref, timeout_s=0.2)
    assert caught.value.address == "site-1.w0"
    assert not let_go.is_set()
    let_go.set()
    with Chaos(stage.origin.data_addresses[0]) as link:
        stage.tell_addresses(link.address)
        link.back.hold(MIB)
        with pytest.raises(TimedOut):
            stage.receiver.downloads.pull(stage.ref, timeout_s=0.2)
    eventually(lambda: "site-2.w0" in stage.lent.receivers)
    stage.lent.delete()


def test_the_first_failure_ends_the_others_and_is_the_one_that_is_told(trees: Trees) -> None:
    stage = Stage(trees)
    first = stage.origin.downloads.lend(random_array(3 * MIB), receivers=0).body
    other = stage.site_1.downloads.lend(random_array(3 * MIB), receivers=0).body
    gone = Ref(Source("site-9", bytes(16), bytes(16), 100), 0, 0, 100, "bytes")
    unknown = Ref(Source("site-1", bytes(16), bytes(16), 100), 0, 0, 100, "bytes")
    for body in ([gone, first, other], [first, gone, other], [first, other, gone]):
        with pytest.raises(OriginLost) as caught:
            stage.receiver.downloads.resolve(body)
        assert caught.value.origin == "site-9"
    with pytest.raises(UnknownRef):
        stage.receiver.downloads.resolve([unknown, unknown])
    stage.lent.delete()


def test_refs_of_several_origins_are_pulled_together(trees: Trees) -> None:
    stage = Stage(trees)
    other = stage.server.downloads.lend({"a": random_array(MIB), "b": b"x" * 1000})
    found = stage.receiver.downloads.resolve({"mine": stage.ref, "theirs": other.body})
    assert isinstance(found, dict)
    assert np.array_equal(found["mine"], stage.array) and found["theirs"]["b"] == b"x" * 1000
    assert other.wait(PATIENCE_S).is_complete and stage.lent.wait(PATIENCE_S).is_complete
    assert {each.origin for each in stage.receiver.downloads.transfers} == {"server", "site-1.w0"}


def test_progress_is_told_and_grows(trees: Trees) -> None:
    stage = Stage(trees)
    seen: list[tuple[int, int]] = []
    stage.pulls_well(progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (6 * MIB, 6 * MIB)
    assert {total for _, total in seen} == {6 * MIB}


def test_progress_that_raises_ends_the_pull_and_nothing_else(trees: Trees) -> None:
    stage = Stage(trees, options=pulling(window_bytes_min=MIB, window_bytes_max=MIB))

    def progress(done: int, total: int) -> None:
        raise ValueError("no")

    with pytest.raises(Cancelled, match="ValueError: no"):
        stage.receiver.downloads.pull(stage.ref, progress=progress)
    stage.pulls_well()


def test_more_pulls_than_allowed_are_busy(trees: Trees) -> None:
    stage = Stage(trees, options=pulling(pulls_max=1))
    other = stage.origin.downloads.lend(random_array(MIB))
    with Chaos(stage.origin.data_addresses[0]) as link:
        stage.tell_addresses(link.address)
        link.back.hold(MIB)
        abort = Signal()
        thread = threading.Thread(target=lambda: pytest.raises(Cancelled, stage.receiver.downloads.pull, stage.ref, abort=abort))
        thread.start()
        eventually(lambda: link.back.is_holding)
        with pytest.raises(Busy) as caught:
            stage.receiver.downloads.resolve(other.body)
        assert (caught.value.limit, caught.value.value) == ("pulls_max", 1)
        abort.trigger()
        thread.join()
    for each in (stage.lent, other):
        each.delete()


def test_closing_the_receiver_ends_its_pulls(trees: Trees) -> None:
    stage = Stage(trees)
    ended: list[BaseException] = []

    def pull() -> None:
        try:
            stage.receiver.downloads.pull(stage.ref)
        except (Cancelled, Closed) as error:
            ended.append(error)

    with Chaos(stage.origin.data_addresses[0]) as link:
        stage.tell_addresses(link.address)
        link.back.hold(MIB)
        thread = threading.Thread(target=pull)
        thread.start()
        eventually(lambda: link.back.is_holding)
        link.back.release()
        stage.receiver.close()
        thread.join(PATIENCE_S)
    assert len(ended) == 1 or stage.lent.outcome is not None
    eventually(lambda: stage.lent.receivers)
    stage.lent.delete()


def test_a_report_is_kept_of_the_last_pulls(trees: Trees) -> None:
    stage = Stage(trees)
    assert isinstance(Puller(stage.receiver).transfers, list)
    with pytest.raises(UnknownRef):
        stage.receiver.downloads.pull(Ref(Source("site-1", bytes(16), bytes(16), 100), 0, 0, 100, "bytes"))
    report = last(stage.receiver)
    assert (report.origin, report.bytes_total, report.bytes_done) == ("site-1", 100, 0)
    assert isinstance(report.error, UnknownRef) and report.seconds is not None
    stage.pulls_well()


def test_a_target_that_is_not_there_is_no_origin(trees: Trees) -> None:
    stage = Stage(trees)
    with pytest.raises(NoRoute):
        stage.receiver.downloads.find("site-9", "it")
    stage.lent.delete()
