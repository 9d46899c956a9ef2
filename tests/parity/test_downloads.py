"""Downloads, as users have them: what is lost is asked for again, ids are used once, and who does not move is found."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

from zdl import Cancelled, Cell, LeaseEnded, OptionError, Options, Ref, Signal, TransferProgress, UnknownRef
from zdl.download.consumer import Consumer
from zdl.download.downloadable import Downloadable, Produced, ProduceRC, State
from zdl.download.v1 import ObjDownloader, Producer
from zdl.observe.progress import TransferProgressTracker
from zdl.options import LinkOptions, OfferOptions, PullOptions
from zdl.protocol.effects import Outcome

from chaos import Chaos
from trees import Trees
from waiting import PATIENCE_S, eventually

MIB = 1 << 20
PIECES = 8


class Numbers(Downloadable):
    """The numbers below `base_obj`; counts how often each is made."""

    def __init__(self, count: int = PIECES) -> None:
        super().__init__(count)
        self.made: Counter[int] = Counter()

    def produce(self, state: State, requester: str) -> Produced:
        at = state.get("at", 0)
        self.made[at] += 1
        return (ProduceRC.OK, at, {"at": at + 1}) if at < self.base_obj else (ProduceRC.EOF, None, {})


class Noted(Consumer):
    """Takes pieces one at a time; `before` is called with each."""

    def __init__(self, before: Any = lambda data: None) -> None:
        self.before = before
        self.data: list[object] = []

    def consume(self, ref_id: str, state: State, data: object) -> State:
        self.before(data)
        self.data.append(data)
        return state

    def download_completed(self, ref_id: str) -> None:
        """Nothing more is to be done."""

    def download_failed(self, ref_id: str, reason: str) -> None:
        """The pull raises."""


class Line:
    """server and site-1, with a line between them whose way back can be held; it stays a link meanwhile."""

    def __init__(self, stack: ExitStack, trees: Trees) -> None:
        options = Options(links=LinkOptions(heartbeat_s=30.0, direct=False))
        self.server = trees.add(Cell("server", listen="tcp://127.0.0.1:0", options=options))
        self.door = stack.enter_context(Chaos(self.server.addresses[0]))
        self.site = trees.add(Cell("site-1", parent=self.door.address, options=options))
        self.asked: Counter[int] = Counter()
        self.server.filters.incoming_request("zdl", "produce")(self._count)
        stack.callback(self.door.back.release)

    def _count(self, passing: Any) -> None:
        """Each question that reaches the origin, by its number."""
        self.asked[passing.body["number"]] += not passing.body["is_over"]


@pytest.fixture
def line(trees: Trees) -> Iterator[Line]:
    with ExitStack() as stack:
        yield Line(stack, trees)


@pytest.fixture
def three(trees: Trees) -> tuple[Cell, ...]:
    return trees.grow("server", "site-1", "site-2")


def lent_ref(cell: Cell, obj: object, **how: Any) -> tuple[Ref, Any]:
    transaction = cell.downloads.lend(obj, **how)
    assert isinstance(transaction.body, Ref)
    return transaction.body, transaction


# --- D7: asked for again --------------------------------------------------------------------------

@pytest.mark.row("D7")
def test_D7_a_lost_reply_is_asked_for_again_the_same_piece_and_the_count_begins_anew_with_each(line: Line) -> None:
    """The replies to three questions are lost, one after the other, and twice in a row is what is allowed."""
    numbers = Numbers()
    ref, lent = lent_ref(line.server, numbers)
    released = threading.Event()
    releasing: list[threading.Thread] = []

    def lose(data: int) -> None:
        """What answers the next question is held until that question has come a second time."""
        if data >= 3:
            return
        number = data + 1
        line.door.back.hold(line.door.back.passed)

        def release() -> None:
            eventually(lambda: line.asked[number] >= 2, what=f"question {number} again")
            line.door.back.release()
            released.set()

        releasing.append(threading.Thread(target=release))
        releasing[-1].start()

    noted = Noted(lose)
    line.site.downloads.pull(ref, consumer=noted, retries=2, request_timeout_s=0.4)
    for thread in releasing:
        thread.join(PATIENCE_S)
    assert noted.data == list(range(PIECES)), "each piece once, in order"
    assert all(line.asked[number] >= 2 for number in range(1, 4)) and line.asked[0] == 1
    assert max(numbers.made.values()) == 1, "who asks twice is given what was made"
    assert lent.wait(PATIENCE_S).is_complete and released.is_set()


@pytest.mark.row("D7")
def test_D7_when_it_was_asked_for_as_often_as_is_allowed_the_pull_ends(line: Line) -> None:
    ref, lent = lent_ref(line.server, Numbers(), receivers=0)
    noted = Noted(lambda data: line.door.back.hold(line.door.back.passed) if data == 2 else None)
    with pytest.raises(Exception, match="stalled") as caught:
        line.site.downloads.pull(ref, consumer=noted, retries=1, request_timeout_s=0.1)
    line.door.back.release()
    assert type(caught.value).__name__ == "Stalled" and noted.data == [0, 1, 2]
    eventually(lambda: line.asked[3] == 2, what="it was asked for twice")
    for bad in (-1, True, 1.5):
        with pytest.raises(OptionError, match="retries"):
            line.site.downloads.pull(ref, retries=bad)  # type: ignore[arg-type]
    lent.delete()


@pytest.mark.row("D7")
def test_D7_a_chunk_that_does_not_come_is_asked_for_again_after_its_time(trees: Trees) -> None:
    """A second copy of it is asked for while the first is held on the way; both arrive, and it counts once."""
    options = Options(pulls=PullOptions(retry_s=0.1, chunk_bytes=65536, window_bytes_min=65536, window_bytes_max=65536))
    server, origin = trees.grow("server", "site-1")
    site = trees.add(Cell("site-2", parent=server.addresses[0], options=options))
    array = np.arange(MIB // 8)
    ref, lent = lent_ref(origin, array)
    with Chaos(origin.data_addresses[0]) as line:
        origin.handler("zdl", "data-addresses", inline=True)(lambda request: [line.address])
        line.back.hold(MIB // 2)
        found: list[object] = []
        thread = threading.Thread(target=lambda: found.append(site.downloads.pull(ref)))
        thread.start()
        eventually(lambda: line.back.is_holding)
        asked = line.towards.passed
        eventually(lambda: line.towards.passed > asked, what="the question comes again")
        line.back.release()
        thread.join(PATIENCE_S)
        assert np.array_equal(found[0], array)  # type: ignore[arg-type]
        assert lent.wait(PATIENCE_S).bytes == array.nbytes
        eventually(lambda: line.back.passed >= array.nbytes + 65536, what="the second copy")


# --- D8: told again -------------------------------------------------------------------------------

@pytest.mark.row("D8")
@pytest.mark.fault("A4")
def test_D8_A4_whose_last_word_or_its_answer_was_lost_says_it_again_and_is_counted_once(trees: Trees) -> None:
    server, origin = trees.grow("server", "site-1")
    site = trees.add(Cell("site-2", parent=server.addresses[0], options=Options(pulls=PullOptions(lost_timeout_s=PATIENCE_S))))
    ref, lent = lent_ref(origin, np.zeros(MIB, np.uint8), receivers=["site-2"])
    with Chaos(origin.data_addresses[0]) as line:
        origin.handler("zdl", "data-addresses", inline=True)(lambda request: [line.address])

        def all_here(done: int, total: int) -> None:
            if done == total:  # before the confirmation is said: its answer will not come this way
                line.back.hold(line.back.passed)

        site.downloads.pull(ref, progress=all_here)
        assert dict(lent.wait(PATIENCE_S).receivers) == {"site-2": Outcome.FINISHED}
        line.refuse()
        line.reset()
        line.back.release()
    assert site.close() == [], "it is noted in the end, although the offer was there no more: nothing is left open"
    assert lent.outcome is not None and lent.outcome.bytes == MIB


@pytest.mark.row("D8")
@pytest.mark.parametrize("closed", [True, False])
def test_D8_after_the_end_those_it_was_for_are_told_how_and_strangers_only_that_there_is_nothing(
        three: tuple[Cell, ...], closed: bool) -> None:
    server, one, two = three
    with server.downloads.transaction(receivers=["site-1"], closed=closed) as lent:
        array, numbers = lent.add(np.arange(1000)), lent.add(Numbers())
    for ref in (array, numbers):
        one.downloads.pull(ref)
    assert lent.wait(PATIENCE_S).is_complete
    for _ in range(3):  # asking does not wear it out
        for ref in (array, numbers):
            with pytest.raises(LeaseEnded, match="finished"):
                one.downloads.pull(ref)
            with pytest.raises(UnknownRef if closed else LeaseEnded):
                two.downloads.pull(ref)


@pytest.mark.row("D8")
def test_D8_it_is_remembered_for_half_an_hour_or_as_long_as_is_said_and_no_longer_for_being_asked(trees: Trees) -> None:
    assert OfferOptions().tombstone_s == 1800.0
    server, one = trees.grow("server", "site-1", options=Options(offers=OfferOptions(tombstone_s=0.3)))
    ref, lent = lent_ref(server, np.arange(1000))
    one.downloads.pull(ref)
    lent.wait(PATIENCE_S)

    def is_forgotten() -> bool:
        try:
            one.downloads.pull(ref)
        except LeaseEnded:
            return False
        except UnknownRef:
            return True
        return False

    eventually(is_forgotten, what="it is forgotten, although it is asked for all the time")


# --- D17: given up --------------------------------------------------------------------------------

@pytest.mark.row("D17")
def test_D17_who_cancels_frees_what_was_held_for_him_and_the_others_go_on(trees: Trees) -> None:
    server, one, two = trees.grow("server", "site-1", "site-2", same_host=False)
    held = np.zeros(64 * MIB, np.uint8)
    watched = weakref.ref(held)
    ref, lent = lent_ref(server, held, receivers=["site-1", "site-2"])
    del held
    enough = Signal()
    with pytest.raises(Cancelled):
        one.downloads.pull(ref, abort=enough, progress=lambda done, total: enough.trigger("enough"))
    eventually(lambda: lent.receivers == {"site-1": Outcome.CANCELLED})
    assert lent.outcome is None, "the other one is waited for"
    two.downloads.pull(ref)
    outcome = lent.wait(PATIENCE_S)
    assert (outcome.outcome, dict(outcome.errors)) == (Outcome.PARTIAL, {})
    assert dict(outcome.receivers) == {"site-1": Outcome.CANCELLED, "site-2": Outcome.FINISHED}
    eventually(lambda: gc.collect() >= 0 and watched() is None, what="the release of the array")


# --- D20: ids -------------------------------------------------------------------------------------

class Nothing(Producer):
    def produce(self, ref_id: str, obj: Any, state: State, requester: str) -> Produced:
        return ProduceRC.EOF, None, {}


@pytest.mark.row("D20")
def test_D20_an_id_cannot_be_used_again_while_it_is_open_ends_or_is_remembered(three: tuple[Cell, ...]) -> None:
    downloader = ObjDownloader(three[0].downloads)
    ends, goes_on = threading.Event(), threading.Event()

    def stuck(tx_id: str, objects: list[object]) -> None:
        ends.set()
        goes_on.wait(PATIENCE_S)

    assert downloader.new_transaction(Nothing(), 60.0, tx_id="mine", timeout_cb=stuck) == "mine"

    def is_refused() -> bool:
        with pytest.raises(OptionError, match="not used before"):
            downloader.new_transaction(Nothing(), 60.0, tx_id="mine")
        return True

    assert is_refused(), "it is open"
    downloader.delete_transaction("mine", call_cb=True)
    assert ends.wait(PATIENCE_S) and is_refused(), "it ends, and its callback is stuck"
    goes_on.set()
    eventually(lambda: not three[0].downloads.transactions)
    assert is_refused(), "it has ended"


@pytest.mark.row("D20")
def test_D20_of_many_who_want_the_same_id_at_once_one_has_it(three: tuple[Cell, ...]) -> None:
    server, one, _ = three
    downloader = ObjDownloader(server.downloads)
    begin = threading.Barrier(8, timeout=PATIENCE_S)
    won: list[str] = []

    def want() -> None:
        begin.wait()
        try:
            won.append(downloader.new_transaction(Nothing(), 60.0, tx_id="mine"))
        except OptionError:
            pass

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert won == ["mine"]
    assert len(server.downloads.transactions) == 1, "those who lost left nothing behind, and took nothing away"
    downloader.add_download_object("mine", "x", ref_id="R-mine")
    downloader.shutdown()


@pytest.mark.row("D20")
def test_D20_no_two_of_the_ids_that_a_cell_makes_are_the_same(three: tuple[Cell, ...]) -> None:
    lent = [lent_ref(three[0], b"x" * 100) for _ in range(200)]
    assert len({each.id for _, each in lent}) == len({ref.source.offer_id for ref, _ in lent}) == 200
    for _, each in lent:
        each.delete()


# --- P1, P2: the tracker --------------------------------------------------------------------------

@pytest.mark.row("P1", "P2", "D9", "D10")
def test_P1_P2_a_transfer_that_does_not_move_has_stalled_and_not_failed_and_may_go_on(three: tuple[Cell, ...]) -> None:
    """At both ends: the origin and the receiver tell their trackers in the same shape."""
    server, one, _ = three
    trackers = TransferProgressTracker(idle_timeout=60.0), TransferProgressTracker(idle_timeout=60.0)
    events: list[TransferProgress] = []
    at_rest, goes_on = threading.Event(), threading.Event()

    def tell(tracker: TransferProgressTracker, event: TransferProgress) -> None:
        assert tracker.update(event, time.monotonic()) and not tracker.update(event, time.monotonic()), "each number counts once"
        events.append(event)

    def rest(data: object) -> None:
        if data == 4:
            at_rest.set()
            assert goes_on.wait(PATIENCE_S)

    with server.downloads.transaction(receivers=["site-1"], on_progress=lambda event: tell(trackers[0], event),
                                      progress_interval_s=1e-9) as lent:
        ref = lent.add(Numbers())
    pulling = threading.Thread(target=lambda: one.downloads.pull(
        ref, consumer=Noted(rest), on_progress=lambda event: tell(trackers[1], event), progress_interval_s=1e-9))
    pulling.start()
    assert at_rest.wait(PATIENCE_S)
    eventually(lambda: all(each.records and each.records[0].state in ("start", "active") for each in trackers))
    later = time.monotonic() + 100.0
    for tracker in trackers:
        (record,) = tracker.records
        assert not tracker.is_stalled(record, time.monotonic()), "it has just moved"
        (stalled,) = tracker.stalled_records(later)
        assert stalled.receiver_id == "site-1" and stalled.state not in ("failed", "aborted") and not stalled.is_end
    goes_on.set()
    pulling.join(PATIENCE_S)
    assert lent.wait(PATIENCE_S).is_complete
    for tracker in trackers:
        (record,) = tracker.records
        assert (record.state, record.items_done) == ("completed", PIECES) and not tracker.stalled_records(later)
        assert not tracker.update(record, later), "nothing comes after the end"
        assert (tracker.prune(later + 100.0), tracker.records) == (1, [])
    for tx_id in {each.tx_id for each in events}:
        own = [each for each in events if each.tx_id == tx_id]
        assert [each.sequence for each in own] == list(range(len(own)))
        assert [each.items_done for each in own] == sorted(each.items_done for each in own)


@pytest.mark.row("P2")
def test_P2_who_failed_is_not_among_those_who_have_stalled(three: tuple[Cell, ...]) -> None:
    server, one, two = three
    tracker = TransferProgressTracker(idle_timeout=60.0)
    with server.downloads.transaction(receivers=["site-1", "site-2"], progress_interval_s=1e-9,
                                      on_progress=lambda event: tracker.update(event, time.monotonic())) as lent:
        ref = lent.add(Numbers())

    def fail(data: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        one.downloads.pull(ref, consumer=Noted(fail))
    eventually(lambda: lent.receivers == {"site-1": Outcome.FAILED})
    two.downloads.pull(ref)
    lent.wait(PATIENCE_S)
    assert {each.receiver_id: each.state for each in tracker.records} == {"site-1": "failed", "site-2": "completed"}
    assert tracker.stalled_records(time.monotonic() + 1000.0) == []
