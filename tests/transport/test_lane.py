"""The desk of the data lane: chunks out of what is lent, chunks into place, and who is told what."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest
from sides import Side

from zdl.errors import Busy, Cancelled, DiskFailed, DiskFull, IntegrityError, LeaseEnded, OriginFailed, UnknownRef, ZdlError
from zdl.options import OfferOptions, Options, PullOptions
from zdl.protocol.digests import Readable
from zdl.protocol.effects import Outcome, ReceiverSettled, TransactionSettled
from zdl.protocol.offers import Audience, Offer
from zdl.refs import Source
from zdl.transport.lane import Lane

from waiting import eventually

DATA = os.urandom(200_000)
CHUNKY = Options(pulls=PullOptions(chunk_bytes=1 << 14, window_bytes_min=1 << 16))


@dataclass
class Memory(Readable):
    """A lent object, or a place for one, in memory; it notes which threads use it."""

    data: bytearray
    may_block: bool = False
    error: ZdlError | None = None
    threads: set[str] = field(default_factory=set)
    is_finished: bool = False

    def read(self, offset: int, length: int) -> Sequence[bytes | memoryview]:
        """As a source."""
        self._note()
        return [bytes(self.data[offset:offset + length])]

    def view(self, offset: int, length: int) -> memoryview:
        """As a landing."""
        return memoryview(self.data)[offset:offset + length]

    def keep(self, offset: int, view: memoryview) -> None:
        """As a landing."""
        self._note()

    def finish(self) -> None:
        """As a landing that may block."""
        self._note()
        self.is_finished = True

    def _note(self) -> None:
        self.threads.add(threading.current_thread().name)
        if self.error is not None:
            raise self.error


@dataclass
class Pulled:
    """What was told about a pull."""

    progress: list[int] = field(default_factory=list)
    ends: list[ZdlError | None] = field(default_factory=list)
    ways: list[bool] = field(default_factory=list)
    cancel: Callable[[str], None] = print


@dataclass
class LentOut:
    """What was told about a transaction."""

    source: Source
    id: bytes
    ends: list[TransactionSettled] = field(default_factory=list)
    receivers: list[ReceiverSettled] = field(default_factory=list)


class Pair:
    """A server that lends, and a site below it that pulls."""

    def __init__(self, stack: ExitStack, options: Options = CHUNKY) -> None:
        self.pool = stack.enter_context(ThreadPoolExecutor(2, thread_name_prefix="broker"))  # ends last: lanes use it
        self.server = Side(stack, "server", options=options)
        self.site = Side(stack, "site-1", self.server, options)
        for side in (self.server, self.site):
            side.lanes.lane.use_background(self.pool.submit)

    def lend(self, memory: Memory, *, count: int = 1) -> LentOut:
        """Lend it whole."""
        offer = Offer(os.urandom(16), os.urandom(16), len(memory.data))
        lent = LentOut(Source("server", offer.offer_id, offer.secret, offer.bytes_total), os.urandom(16))
        self.server.lanes.lane.lent.lend(lent.id, [(offer, memory)], Audience(count=count), 60.0,
                                         on_settled=lent.ends.append, on_receiver=lent.receivers.append)
        return lent

    def pull(self, source: Source, landing: Memory) -> Pulled:
        """Pull it whole."""
        pulled = Pulled()
        pulled.cancel = self.site.lanes.lane.pull(
            source, [(0, source.bytes_total)], landing, self.server.lanes.data_addresses,
            progressed=lambda done, total: pulled.progress.append(done), settled=pulled.ends.append,
            chosen=lambda is_direct, why: pulled.ways.append(is_direct))
        return pulled


@pytest.fixture
def pair() -> Iterator[Pair]:
    with ExitStack() as stack:
        yield Pair(stack)


def end_of(pulled: Pulled) -> ZdlError | None:
    """How it ended; it ends once."""
    eventually(lambda: pulled.ends)
    (end,) = pulled.ends
    return end


def test_what_is_lent_arrives_and_both_sides_are_told(pair: Pair) -> None:
    lent, place = pair.lend(Memory(bytearray(DATA))), Memory(bytearray(len(DATA)))
    pulled = pair.pull(lent.source, place)
    assert end_of(pulled) is None and place.data == DATA
    assert pulled.ways == [True] and pulled.progress == sorted(pulled.progress) and pulled.progress[-1] == len(DATA)
    eventually(lambda: lent.ends)
    assert lent.ends[0].outcome is Outcome.FINISHED and lent.ends[0].receivers == (("site-1", Outcome.FINISHED),)
    assert [(each.receiver, each.outcome) for each in lent.receivers] == [("site-1", Outcome.FINISHED)]
    assert isinstance(pair.site.lanes.lane, Lane) and repr(pair.server.lanes.lane) == "<Lane of server: 0 transactions, 0 pulls>"


def test_a_cell_pulls_what_it_lends_itself(pair: Pair) -> None:
    lent, place, ends = pair.lend(Memory(bytearray(DATA))), Memory(bytearray(len(DATA))), Pulled()
    pair.server.lanes.lane.pull(lent.source, [(0, len(DATA))], place, (), progressed=lambda done, total: None,
                                settled=ends.ends.append, chosen=lambda is_direct, why: None)
    assert end_of(ends) is None and place.data == DATA


def test_what_may_block_is_read_and_kept_on_other_threads(pair: Pair) -> None:
    source, place = Memory(bytearray(DATA), may_block=True), Memory(bytearray(len(DATA)), may_block=True)
    assert end_of(pair.pull(pair.lend(source).source, place)) is None and place.data == DATA
    assert all(name.startswith("broker") for name in source.threads | place.threads)
    assert place.is_finished


def test_what_cannot_be_made_to_last_ends_the_pull_and_is_not_confirmed(pair: Pair) -> None:
    class Torn(Memory):
        def finish(self) -> None:
            raise OSError(5, "Input/output error")

    lent = pair.lend(Memory(bytearray(DATA)))
    end = end_of(pair.pull(lent.source, Torn(bytearray(len(DATA)), may_block=True)))
    assert isinstance(end, DiskFailed) and "Input/output error" in str(end)
    eventually(lambda: lent.receivers)
    assert (lent.receivers[0].outcome, lent.receivers[0].why) == (Outcome.FAILED, "disk-failed")


def test_what_is_there_already_is_not_asked_for_but_confirmed_with_the_rest(pair: Pair) -> None:
    lent, place, pulled = pair.lend(Memory(bytearray(DATA))), Memory(bytearray(len(DATA)), may_block=True), Pulled()
    half = len(DATA) // 2
    place.data[:half] = DATA[:half]
    pair.site.lanes.lane.pull(
        lent.source, [(half, len(DATA) - half)], place, pair.server.lanes.data_addresses, have=[(0, half)],
        progressed=lambda done, total: pulled.progress.append(done), settled=pulled.ends.append, chosen=lambda is_direct, why: None)
    assert end_of(pulled) is None and place.data == DATA and min(pulled.progress) > half
    eventually(lambda: lent.ends)
    assert lent.ends[0].receivers == (("site-1", Outcome.FINISHED),)


@pytest.mark.parametrize("may_block", [False, True])
def test_a_source_that_fails_ends_the_pull_with_its_reason(pair: Pair, may_block: bool) -> None:
    broken = Memory(bytearray(DATA), may_block, OriginFailed(ref="r", origin="server", why="no disk"))
    end = end_of(pair.pull(pair.lend(broken).source, Memory(bytearray(len(DATA)))))
    assert isinstance(end, OriginFailed) and end.why == "no disk"


def test_a_landing_that_cannot_keep_ends_the_pull_and_the_origin_is_told(pair: Pair) -> None:
    lent = pair.lend(Memory(bytearray(DATA)))
    full = Memory(bytearray(len(DATA)), True, DiskFull(ref="r", origin="server", path="/p", need=2, free=1))
    assert isinstance(end_of(pair.pull(lent.source, full)), DiskFull)
    eventually(lambda: lent.receivers)
    assert (lent.receivers[0].outcome, lent.receivers[0].why) == (Outcome.FAILED, "disk-full")


@pytest.mark.row("Z4")
def test_bytes_that_are_not_those_that_were_hashed_are_asked_for_again_and_then_refused(pair: Pair) -> None:
    memory = Memory(bytearray(DATA[:1000]))
    lent = pair.lend(memory, count=2)
    assert end_of(pair.pull(lent.source, Memory(bytearray(1000)))) is None
    memory.data[7] ^= 1
    end = end_of(pair.pull(lent.source, Memory(bytearray(1000))))
    assert isinstance(end, IntegrityError) and end.attempts == PullOptions().bad_chunks_max


def test_a_pull_that_is_cancelled_frees_what_was_held_for_it(pair: Pair) -> None:
    gate = threading.Event()

    class Slow(Memory):
        def read(self, offset: int, length: int) -> Sequence[bytes | memoryview]:
            gate.wait(30)
            return super().read(offset, length)

    lent = pair.lend(Slow(bytearray(DATA), may_block=True))
    pulled = pair.pull(lent.source, Memory(bytearray(len(DATA))))
    eventually(lambda: pulled.ways)
    pulled.cancel("enough")
    end = end_of(pulled)
    gate.set()
    assert isinstance(end, Cancelled) and "enough" in str(end)
    eventually(lambda: lent.receivers)
    assert lent.receivers[0].outcome is Outcome.CANCELLED


def test_who_comes_late_is_told_how_it_ended_and_a_stranger_nothing(pair: Pair) -> None:
    lent = pair.lend(Memory(bytearray(DATA)))
    pair.server.lanes.lane.lent.change(lambda offers, now: offers.end(lent.id, Outcome.DELETED, now))
    eventually(lambda: lent.ends)
    late = end_of(pair.pull(lent.source, Memory(bytearray(len(DATA)))))
    assert isinstance(late, LeaseEnded) and late.how == "deleted"
    forged = Source("server", lent.source.offer_id, bytes(16), lent.source.bytes_total)
    assert isinstance(end_of(pair.pull(forged, Memory(bytearray(len(DATA))))), UnknownRef)


def test_a_limit_is_told_to_the_lender_and_nothing_is_opened() -> None:
    with ExitStack() as stack:
        pair = Pair(stack, Options(offers=OfferOptions(transactions_max=1)))
        pair.lend(Memory(bytearray(DATA)))
        with pytest.raises(Busy, match="transactions_max"):
            pair.lend(Memory(bytearray(DATA)))


def test_draining_ends_what_is_lent(pair: Pair) -> None:
    lent = pair.lend(Memory(bytearray(DATA)))
    assert pair.server.lanes.lane.drain(5.0) == []
    eventually(lambda: lent.ends)
    assert lent.ends[0].outcome is Outcome.CLOSED
