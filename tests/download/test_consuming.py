"""Consuming with real cells: users' code at the receiver, lost ways, and ends on either side."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from zdl.assembly import Cell
from zdl.cell.signal import Signal
from zdl.download.consumer import Consumer, Pieces
from zdl.download.consuming import Consuming, PieceConsumer
from zdl.download.downloadable import Downloadable, Produced, ProduceRC, State
from zdl.errors import Cancelled, LeaseEnded, OptionError, OriginLost, TimedOut, UnknownRef
from zdl.observe.progress import TransferProgress
from zdl.options import OfferOptions, Options
from zdl.protocol.effects import Outcome
from zdl.refs import Ref

from children import Child
from trees import Trees
from waiting import PATIENCE_S, eventually

# A child that lends numbers piece by piece, each of a MiB.
ORIGIN = """
from zdl.download.downloadable import Downloadable, ProduceRC
class Numbers(Downloadable):
    def produce(self, state, requester):
        at = state.get("at", 0)
        return (ProduceRC.OK, bytes([at % 251]) * (1 << 20), {"at": at + 1}) if at < self.base_obj else (ProduceRC.EOF, None, {})
with Cell("site-1", parent=sys.argv[1]) as cell:
    cell.wait_ready(30)
    cell.downloads.publish("numbers", cell.downloads.lend(Numbers(int(sys.argv[2])), receivers=0).body)
    say("ready")
    stay()
"""
# A child that pulls what `server` has published, and stops for good at the tenth piece.
RECEIVER = """
from zdl.download.consumer import Consumer
class Stops(Consumer):
    supports_pipelining = True
    count = 0
    def consume(self, ref_id, state, data):
        self.count += 1
        if self.count == 10:
            say("ten")
            stay()
        return state
    def download_completed(self, ref_id): pass
    def download_failed(self, ref_id, reason): pass
with Cell("site-1", parent=sys.argv[1]) as cell:
    cell.wait_ready(30)
    cell.downloads.pull(cell.downloads.find("server", "numbers"), consumer=Stops())
"""


class Numbers(Downloadable):
    """The numbers below `base_obj`, or so many bytes for each; notes which receivers it was told of."""

    def __init__(self, count: int, size: int = 0) -> None:
        super().__init__(count)
        self.size = size
        self.states: list[State] = []
        self.told: list[tuple[str, str]] = []

    def produce(self, state: State, requester: str) -> Produced:
        self.states.append(state)
        at = state.get("at", 0)
        if at >= self.base_obj:
            return ProduceRC.EOF, None, {}
        return ProduceRC.OK, bytes([at % 251]) * self.size if self.size else at, {"at": at + 1}

    def downloaded_to_one(self, to_receiver: str, status: str) -> None:
        self.told.append((to_receiver, status))


class Noted(Consumer):
    """Notes its calls; `does` is called with each piece, and makes the state."""

    def __init__(self, does: Callable[[State, Any], Any] = lambda state, data: state, *, is_pipelined: bool = True) -> None:
        self.supports_pipelining = is_pipelined
        self.does = does
        self.data: list[Any] = []
        self.ends: list[tuple[str, ...]] = []

    def consume(self, ref_id: str, state: State, data: Any) -> State:
        self.data.append(data)
        return self.does(state, data)  # type: ignore[no-any-return]

    def download_completed(self, ref_id: str) -> None:
        self.ends.append(("completed", ref_id))

    def download_failed(self, ref_id: str, reason: str) -> None:
        self.ends.append(("failed", ref_id, reason))


@pytest.fixture
def pair(trees: Trees) -> tuple[Cell, Cell]:
    server, one = trees.grow("server", "site-1")
    return server, one


def lent_by(cell: Cell, numbers: Numbers, **how: Any) -> tuple[Ref, Any]:
    transaction = cell.downloads.lend(numbers, **how)
    assert isinstance(transaction.body, Ref)
    return transaction.body, transaction


def test_a_consumer_is_told_that_it_is_complete_and_then_the_origin_is(pair: tuple[Cell, Cell]) -> None:
    server, one = pair
    ref, lent = lent_by(server, Numbers(5))
    noted = Noted()
    noted.download_completed = lambda ref_id: noted.ends.append((ref_id, str(lent.outcome)))  # type: ignore[method-assign]
    assert one.downloads.pull(ref, consumer=noted) is noted
    assert (noted.data, noted.ends) == ([0, 1, 2, 3, 4], [(ref.source.offer_id.hex(), "None")])
    assert lent.wait(PATIENCE_S).is_complete


def test_what_a_consumer_has_kept_is_gone_when_nobody_has_the_consumer(pair: tuple[Cell, Cell]) -> None:
    """At once: it may be large, and Python looks for cycles when there are many objects, not when they are large."""
    server, one = pair
    ref, _ = lent_by(server, Numbers(20))
    gc.disable()
    try:
        noted = Noted()
        one.downloads.pull(ref, consumer=noted)
        held = weakref.ref(noted)
        del noted
        assert eventually(lambda: held() is None, what="nobody who has it")
    finally:
        gc.enable()


def test_a_consumer_may_make_states_of_its_own_and_is_then_given_one_piece_at_a_time(pair: tuple[Cell, Cell]) -> None:
    server, one = pair
    numbers = Numbers(10)
    ref, _ = lent_by(server, numbers)
    skipping = Noted(lambda state, data: {"at": state["at"] + 2}, is_pipelined=False)
    one.downloads.pull(ref, consumer=skipping)
    assert skipping.data == [0, 3, 6, 9]
    assert numbers.states == [{}, {"at": 3}, {"at": 6}, {"at": 9}, {"at": 12}]


@pytest.mark.parametrize(("does", "error", "reason"), [
    (lambda state, data: 1 / 0, ZeroDivisionError, "division by zero"),
    (lambda state, data: None, TypeError, "must return a dict as its state, not NoneType"),
    (lambda state, data: {"at": 99}, ValueError, "has changed the state"),
    (lambda state, data: state.update(more=1) or state, ValueError, "has changed the state"),
])
@pytest.mark.row("D11")
def test_D11_what_a_consumer_does_wrong_is_raised_and_the_origin_hears_that_it_failed(
        pair: tuple[Cell, Cell], does: Any, error: type[Exception], reason: str) -> None:
    server, one = pair
    numbers = Numbers(5)
    ref, lent = lent_by(server, numbers, receivers=["site-1"])
    noted = Noted(does)
    with pytest.raises(error, match=reason):
        one.downloads.pull(ref, consumer=noted)
    assert len(noted.ends) == 1 and noted.ends[0][0] == "failed" and reason in noted.ends[0][2]
    outcome = lent.wait(PATIENCE_S)
    assert (outcome.outcome, dict(outcome.receivers)) == (Outcome.FAILED, {"site-1": Outcome.FAILED})
    assert dict(outcome.errors) == {"site-1": "consumer-failed"}
    eventually(lambda: numbers.told == [("site-1", "failed")])


def test_a_consumer_that_raises_at_the_very_end_has_not_got_it(pair: tuple[Cell, Cell]) -> None:
    class Full(Noted):
        def download_completed(self, ref_id: str) -> None:
            raise OSError("no room")

        def download_failed(self, ref_id: str, reason: str) -> None:
            super().download_failed(ref_id, reason)
            raise OSError("still none")

    server, one = pair
    ref, lent = lent_by(server, Numbers(2), receivers=["site-1"])
    full = Full()
    with pytest.raises(OSError, match="no room"):
        one.downloads.pull(ref, consumer=full)
    assert [each[0] for each in full.ends] == ["failed"]
    assert lent.wait(PATIENCE_S).outcome is Outcome.FAILED


def test_an_abort_ends_it_between_two_pieces_and_the_origin_frees_it(pair: tuple[Cell, Cell]) -> None:
    server, one = pair
    ref, lent = lent_by(server, Numbers(100, size=1 << 20), receivers=["site-1"])
    abort = Signal()

    def third(state: State, data: bytes) -> State:
        if data[0] == 2:
            abort.trigger("enough")
        return state

    noted = Noted(third)
    with pytest.raises(Cancelled, match="its signal was triggered with 'enough'"):
        one.downloads.pull(ref, consumer=noted, abort=abort)
    assert [each[0] for each in noted.data] == [0, 1, 2]
    assert lent.wait(PATIENCE_S).receivers == {"site-1": Outcome.CANCELLED}


def test_an_abort_ends_the_wait_for_a_producer_that_hangs_and_so_does_a_timeout(pair: tuple[Cell, Cell]) -> None:
    class Stuck(Numbers):
        let_go = threading.Event()

        def produce(self, state: State, requester: str) -> Produced:
            assert self.let_go.wait(PATIENCE_S)
            return super().produce(state, requester)

    server, one = pair
    stuck = Stuck(1)
    ref, _ = lent_by(server, stuck, receivers=0)
    with pytest.raises(TimedOut, match="all pieces"):
        one.downloads.pull(ref, timeout_s=0.05)
    abort = Signal()
    threading.Thread(target=lambda: (eventually(lambda: server.downloads.running), abort.trigger("no more"))).start()
    with pytest.raises(Cancelled, match="no more"):
        one.downloads.pull(ref, abort=abort)
    with pytest.raises(Cancelled, match="no more"):
        one.downloads.pull(ref, abort=abort)
    stuck.let_go.set()
    assert one.downloads.pull(ref) == [0]


def test_what_is_no_longer_lent_says_how_it_ended_and_what_never_was_is_unknown(pair: tuple[Cell, Cell]) -> None:
    server, one = pair
    ref, lent = lent_by(server, Numbers(1))
    lent.delete()
    lent.wait(PATIENCE_S)
    noted = Noted()
    with pytest.raises(LeaseEnded, match="no longer lent: deleted"):
        one.downloads.pull(ref, consumer=noted)
    assert noted.data == [] and noted.ends[0][0] == "failed"
    other, _ = lent_by(one, Numbers(1), receivers=0)
    stranger = Ref(type(other.source)("site-1", b"x" * 16, other.source.secret, 1), 0, 0, 1, "object")
    with pytest.raises(UnknownRef):
        server.downloads.pull(stranger)


def test_its_own_objects_are_pulled_by_a_cell_too(pair: tuple[Cell, Cell]) -> None:
    ref, lent = lent_by(pair[0], Numbers(3, size=3 << 20))
    assert pair[0].downloads.pull(ref) == [bytes([at]) * (3 << 20) for at in range(3)]
    assert lent.wait(PATIENCE_S).is_complete


def test_refs_inside_pieces_stay_refs(pair: tuple[Cell, Cell]) -> None:
    server, one = pair
    array = np.arange(1000)
    inner = server.downloads.lend(array).body

    class Refs(Numbers):
        def produce(self, state: State, requester: str) -> Produced:
            code, at, new = super().produce(state, requester)
            return code, [inner, np.full(1 << 18, at)], new

    ref, _ = lent_by(server, Refs(2))
    pieces: Any = one.downloads.pull(ref)
    assert [each[0] for each in pieces] == [inner, inner]
    assert [each[1][0] for each in pieces] == [0, 1]
    assert np.array_equal(one.downloads.pull(pieces[0][0]), array)  # type: ignore[arg-type]


def test_a_consumer_is_for_objects_of_pieces_only_and_retries_are_a_number(pair: tuple[Cell, Cell]) -> None:
    server, one = pair
    array = server.downloads.lend(np.zeros(10), receivers=0)
    with pytest.raises(OptionError, match="for refs of kind object"):
        one.downloads.pull(array.body, consumer=Noted())  # type: ignore[arg-type]
    ref, _ = lent_by(server, Numbers(1), receivers=0)
    with pytest.raises(OptionError, match="retries"):
        one.downloads.pull(ref, retries=-1)


@pytest.mark.row("D10")
def test_D10_a_receiver_tells_how_far_it_is(pair: tuple[Cell, Cell]) -> None:
    server, one = pair
    ref, _ = lent_by(server, Numbers(3, size=10), receivers=0)
    events: list[TransferProgress] = []
    pieces = Pieces()
    PieceConsumer(one, one.downloads._puller, ref, pieces, Consuming(on_progress=events.append, progress_interval_s=0.0)).run()
    assert [(each.state, each.sequence, each.bytes_done, each.items_done) for each in events] == [
        ("start", 0, 0, 0), ("active", 1, 10, 1), ("active", 2, 20, 2), ("active", 3, 30, 3), ("completed", 4, 30, 3)]
    assert {(each.receiver_id, each.ref_id) for each in events} == {("site-1", ref.source.offer_id.hex())}
    quiet: list[TransferProgress] = []
    one.downloads.pull(ref, on_progress=quiet.append)
    assert [each.state for each in quiet] == ["start", "completed"], "within the interval only the ends are told"
    failed: list[TransferProgress] = []
    with pytest.raises(ZeroDivisionError):
        one.downloads.pull(ref, consumer=Noted(lambda state, data: 1 / 0), on_progress=failed.append)
    assert [each.state for each in failed] == ["start", "failed"]


# --- lost ones ----------------------------------------------------------------------------------

@pytest.mark.fault("P1")
def test_P1_a_receiver_that_is_killed_midway_is_told_as_failed_and_others_are_not_touched(trees: Trees) -> None:
    server, two = trees.grow("server", "site-2", options=Options(offers=OfferOptions(lost_grace_s=0.2)))
    numbers = Numbers(40, size=1 << 20)
    ref, lent = lent_by(server, numbers, receivers=["site-1", "site-2"])
    server.downloads.publish("numbers", ref)
    with Child(RECEIVER, server.addresses[0]) as child:
        child.expect("ten")
        child.kill()
        assert len(two.downloads.pull(ref)) == 40  # type: ignore[arg-type]
        outcome = lent.wait(PATIENCE_S)
    assert (outcome.outcome, outcome.receivers) == (Outcome.PARTIAL, {"site-1": Outcome.LOST, "site-2": Outcome.FINISHED})
    eventually(lambda: numbers.told == [("site-2", "success"), ("site-1", "failed")])
    eventually(lambda: len(server.downloads.transactions) == 0)


@pytest.mark.fault("P3")
def test_P3_an_origin_that_is_killed_midway_is_told_as_lost(trees: Trees) -> None:
    (server,) = trees.grow("server")
    with Child(ORIGIN, server.addresses[0], "200") as child:
        child.expect("ready")
        ref = server.downloads.find("site-1", "numbers")
        assert isinstance(ref, Ref)

        def fifth(state: State, data: bytes) -> State:
            if data[0] == 5:
                child.kill()
            return state

        noted = Noted(fifth)
        with pytest.raises(OriginLost, match="site-1 was lost while ref:"):
            server.downloads.pull(ref, consumer=noted, retries=1)
    assert len(noted.data) < 200 and [each[0] for each in noted.ends] == ["failed"]


def test_an_origin_that_closes_midway_says_so(trees: Trees) -> None:
    server, one = trees.grow("server", "site-1")
    ref, lent = lent_by(one, Numbers(200, size=1 << 20))
    closing: list[threading.Thread] = []

    def fifth(state: State, data: bytes) -> State:
        if data[0] == 5:
            closing.append(threading.Thread(target=lambda: one.close(0.2)))
            closing[0].start()
        return state

    noted = Noted(fifth)
    with pytest.raises((LeaseEnded, OriginLost)):
        server.downloads.pull(ref, consumer=noted, retries=0)
    closing[0].join(PATIENCE_S)
    assert lent.wait(PATIENCE_S).outcome is Outcome.CLOSED


def test_an_origin_that_was_cut_off_for_a_while_is_asked_again_and_nothing_is_made_twice(trees: Trees) -> None:
    options = Options(offers=OfferOptions(produce_bytes_max=1 << 20))
    server, relay, leaf = trees.grow("server", "site-1", "site-1.leaf", options=options)
    numbers = Numbers(12, size=1 << 20)
    ref, lent = lent_by(leaf, numbers)
    address = relay.addresses[0]

    def fifth(state: State, data: bytes) -> State:
        if data[0] == 4:
            relay.close(0.1)
            trees.add(Cell("site-1", parent=server.addresses[0], listen=address))
        return state

    noted = Noted(fifth)
    server.downloads.pull(ref, consumer=noted, retries=8)
    assert [each[0] for each in noted.data] == list(range(12))
    assert [each.get("at", 0) for each in numbers.states] == list(range(13))
    assert lent.wait(PATIENCE_S).is_complete
