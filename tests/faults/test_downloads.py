"""Faults in the middle of downloads: lines that stop, crawl and break, and whoever takes part in them dying or misused."""

from __future__ import annotations

import gc
import os
import signal
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from simbooks import DATA, PATIENT, Wire
from simcell import SimCell
from simworld import World

from zdl.assembly import Cell
from zdl.cell.messages import Request
from zdl.cell.signal import Signal
from zdl.download.downloadable import Downloadable, Produced, ProduceRC, State
from zdl.errors import Cancelled, LeaseEnded, OriginFailed, Stalled, TimedOut
from zdl.options import LinkOptions, OfferOptions, Options, PullOptions
from zdl.protocol.effects import Outcome
from zdl.protocol.messages import Part
from zdl.protocol.offers import Audience
from zdl.refs import Ref

from chaos import Chaos
from children import Child
from trees import Trees
from waiting import PATIENCE_S, eventually

MIB = 1 << 20
BEAT_S = 0.1
NARROW = PullOptions(chunk_bytes=MIB // 4, window_bytes_min=MIB, window_bytes_max=MIB, lost_timeout_s=PATIENCE_S,
                     same_host=False)
QUICK = Options(links=LinkOptions(heartbeat_s=BEAT_S, redial_max_s=0.1), pulls=NARROW, offers=OfferOptions(lost_grace_s=PATIENCE_S))


def lent_ref(cell: Cell, obj: object, **how: Any) -> tuple[Ref, Any]:
    transaction = cell.downloads.lend(obj, **how)
    assert isinstance(transaction.body, Ref)
    return transaction.body, transaction


def data_bytes(cell: Cell) -> int:
    """What has come in over the data lane of a cell."""
    return sum(each.bytes_in for each in cell.snapshot().traffic if each.lane == "data")


class Pulling:
    """A pull on a thread of its own."""

    def __init__(self, cell: Cell, ref: Ref, **how: Any) -> None:
        self.found: object = None
        self.error: BaseException | None = None
        self._pull = lambda: cell.downloads.pull(ref, **how)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def result(self) -> Any:
        """What it found; or what it raised is raised."""
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the pull does not end"
        if self.error is not None:
            raise self.error
        return self.found

    def _run(self) -> None:
        try:
            self.found = self._pull()
        except BaseException as error:
            self.error = error


# --- lines --------------------------------------------------------------------------------------


class Lines:
    """server and site-1; both lanes between them go through lines that can be cut, and nothing is dialled directly."""

    def __init__(self, stack: ExitStack, trees: Trees) -> None:
        self.server = trees.add(Cell("server", listen="tcp://127.0.0.1:0", options=QUICK))
        self.control = stack.enter_context(Chaos(self.server.addresses[0]))
        self.data = stack.enter_context(Chaos(self.server.data_addresses[0]))
        options = replace(QUICK, pulls=replace(NARROW, direct=True))
        self.server.handler("zdl", "data-addresses", inline=True)(lambda request: [self.data.address])
        self.site = trees.add(Cell("site-1", parent=self.control.address, options=options))
        stack.callback(self.heal)

    def cut(self) -> None:
        """Nothing passes any more, and neither side is told."""
        for each in (self.control.towards, self.control.back, self.data.towards, self.data.back):
            each.hold(each.passed)

    def heal(self) -> None:
        """Everything passes again."""
        for each in (self.control.towards, self.control.back, self.data.towards, self.data.back):
            each.release()


@pytest.fixture
def lines(trees: Trees) -> Iterator[Lines]:
    with ExitStack() as stack:
        yield Lines(stack, trees)


def is_up(cell: Cell, fqcn: str) -> bool:
    return any(peer.fqcn == fqcn and peer.lane == "control" and peer.state == "up" for peer in cell.peers)


@pytest.mark.fault("N3")
def test_n3_a_pull_goes_on_from_what_it_has_when_the_line_is_there_again(lines: Lines) -> None:
    array = np.frombuffer(os.urandom(8 * MIB), np.uint8)
    ref, lent = lent_ref(lines.server, array, receivers=["site-1"])
    half = threading.Event()

    def progress(done: int, total: int) -> None:
        if done >= total // 2 and not half.is_set():
            lines.cut()
            half.set()

    pulling = Pulling(lines.site, ref, progress=progress)
    assert half.wait(PATIENCE_S)
    eventually(lambda: not is_up(lines.site, "server"), what="the loss")
    lines.heal()
    assert np.array_equal(pulling.result(), array)
    assert dict(lent.wait(PATIENCE_S).receivers) == {"site-1": Outcome.FINISHED}
    assert lent.outcome is not None and lent.outcome.bytes == array.nbytes, "it is counted once"
    assert data_bytes(lines.site) <= array.nbytes + 2 * MIB, "no more than a window of it came again"


class SlowLine(World):
    """A world whose wires carry so many bytes per second, one after the other; 0: none any more.

    Real options, a real object, and no real time: 20 MB at 1 Mbit/s take three minutes.
    """

    latency_s = (0.001, 0.0)

    def __init__(self, rate: float) -> None:
        options = replace(PATIENT, pulls=PullOptions(), offers=OfferOptions(), links=LinkOptions(direct=False))
        super().__init__(1, options)
        self.rate = rate
        self._free_at: dict[tuple[Wire, int], float] = {}
        self.chunks = Counter[bytes]()

    def reading_s(self) -> float:
        return 0.0

    def storing_s(self) -> float:
        return 0.0

    def transmit(self, wire: Wire, to: int, header: bytes, body: tuple[Part, ...]) -> None:
        if wire.lane != DATA:
            super().transmit(wire, to, header, body)
            return
        size = len(header) + sum(map(len, body))
        if size > 1000:
            self.chunks[header] += 1
        begins = max(self.now, self._free_at.get((wire, to), 0.0))
        self._free_at[wire, to] = begins + (size / self.rate if self.rate else 0.0)
        self.at(self._free_at[wire, to], self._arrive, wire, to, header, body)

    def _arrive(self, wire: Wire, to: int, header: bytes, body: tuple[Part, ...]) -> None:
        if self.rate:
            super().transmit(wire, to, header, body)

    def pulled(self, size: int) -> tuple[SimCell, int]:
        """server lends so much, and site-1 begins to pull it."""
        for name in ("server", "site-1"):
            self.start(name)
        self.run_until(0.5)
        lent = self.lend(self.cells["server"], [size], Audience(names=frozenset({"site-1"})), lease_s=600.0)
        return self.cells["site-1"], self.pull(self.cells["site-1"], lent.sources[0])


@pytest.mark.fault("N6")
def test_n6_over_a_line_of_1_mbit_20_mb_never_time_out_while_bytes_come() -> None:
    world = SlowLine(rate=125_000)
    site, number = world.pulled(20_000_000)
    world.run_until(400.0)
    pull = world.pulls[site, number]
    assert pull.is_settled and pull.error is None and pull.settled_at is not None
    assert 160.0 < pull.settled_at - pull.started_at, "it is as slow as it should be, and longer than any timeout"
    (transaction,) = world.transactions.values()
    assert transaction.settled is not None and transaction.settled.outcome is Outcome.FINISHED
    assert sum(world.chunks.values()) - len(world.chunks) == 0, "and nothing came twice"


@pytest.mark.fault("N7")
def test_n7_when_a_line_carries_nothing_any_more_the_pull_has_stalled_at_its_time() -> None:
    world = SlowLine(rate=10e6)
    site, number = world.pulled(20_000_000)
    world.run_until(1.5)
    world.rate = 0.0
    moved_at = max(when for when, who, mark, what in world.story if type(what).__name__ == "Progressed" or mark == "<")
    world.run_until(200.0)
    pull = world.pulls[site, number]
    assert isinstance(pull.error, Stalled) and pull.settled_at is not None
    assert 0 < pull.error.bytes_done < 20_000_000 and pull.error.origin == "server"
    assert abs(pull.settled_at - 1.5 - PullOptions().stall_timeout_s) <= 2.0, (pull.settled_at, moved_at)


@pytest.mark.fault("N7")
def test_n7_who_stalls_is_told_so_at_both_ends_by_name_and_by_how_much_there_is(trees: Trees) -> None:
    server, origin = trees.grow("server", "site-1")
    stalling = Options(pulls=replace(NARROW, stall_timeout_s=0.5, retry_s=0.2))
    site = trees.add(Cell("site-2", parent=server.addresses[0], options=stalling))
    ref, lent = lent_ref(origin, np.zeros(8 * MIB, np.uint8), receivers=["site-2"])
    with Chaos(origin.data_addresses[0]) as line:
        origin.handler("zdl", "data-addresses", inline=True)(lambda request: [line.address])
        line.back.hold(3 * MIB)
        with pytest.raises(Stalled) as caught:
            site.downloads.pull(ref)
        assert caught.value.origin == "site-1" and MIB < caught.value.bytes_done < caught.value.bytes_total == 8 * MIB
        outcome = lent.wait(PATIENCE_S)
    assert (dict(outcome.receivers), dict(outcome.errors)) == ({"site-2": Outcome.FAILED}, {"site-2": "stalled"})


@pytest.mark.fault("N8")
def test_n8_a_reset_in_mid_chunk_costs_that_chunk_and_the_bytes_are_right(trees: Trees) -> None:
    server, origin = trees.grow("server", "site-1")
    site = trees.add(Cell("site-2", parent=server.addresses[0], options=Options(pulls=NARROW)))
    array = np.frombuffer(os.urandom(8 * MIB), np.uint8)
    ref, lent = lent_ref(origin, array, receivers=["site-2"])
    with Chaos(origin.data_addresses[0]) as line:
        origin.handler("zdl", "data-addresses", inline=True)(lambda request: [line.address])
        line.back.hold(3 * MIB + MIB // 8)
        pulling = Pulling(site, ref)
        eventually(lambda: line.back.is_holding)
        line.reset()
        line.back.release()
        assert np.array_equal(pulling.result(), array)
    assert lent.wait(PATIENCE_S).bytes == array.nbytes
    assert data_bytes(site) <= array.nbytes + MIB, "what was asked for and not there was asked for again, and no more"


# --- deaths -------------------------------------------------------------------------------------

RECEIVER = """
cell = Cell("site-1", parent=sys.argv[1], options=Options(pulls=PullOptions(chunk_bytes=65536, window_bytes_min=65536,
            window_bytes_max=65536, same_host=False)))
cell.start()
cell.wait_ready(30.0)
def progress(done, total):
    if done > total // 4:
        say("pulling")
        stay()
cell.downloads.resolve(cell.downloads.find("server", "model"), progress=progress)
"""


@pytest.mark.fault("P1")
def test_p1_a_receiver_that_is_killed_in_a_pull_is_lost_and_nothing_is_held_for_it(trees: Trees) -> None:
    options = Options(offers=OfferOptions(lost_grace_s=0.2))
    server, two = trees.grow("server", "site-2", options=options)
    array = np.zeros(16 * MIB, np.uint8)
    watched = weakref.ref(array)
    ref, lent = lent_ref(server, array, receivers=["site-1", "site-2"])
    server.downloads.publish("model", lent.body)
    del array
    with Child(RECEIVER, server.addresses[0]) as child:
        child.expect("pulling")
        facts = lent.facts
        assert facts is not None and [each.is_pulling for each in facts.receivers] == [True]
        child.kill()
        two.downloads.pull(ref)
        outcome = lent.wait(PATIENCE_S)
    assert (outcome.outcome, outcome.reason) == (Outcome.PARTIAL, "receiver-failed")
    assert dict(outcome.receivers) == {"site-1": Outcome.LOST, "site-2": Outcome.FINISHED}
    server.downloads.publish("model", None)
    eventually(lambda: gc.collect() >= 0 and watched() is None, what="the release of the array")


RELAY = """
with Cell("site-1", parent=sys.argv[1], listen=sys.argv[2]) as relay:
    relay.wait_ready()
    say("ready", relay.addresses[0])
    stay()
"""


@pytest.mark.fault("P4")
def test_p4_a_relay_that_is_killed_and_comes_back_is_used_again_and_nothing_is_counted_twice(trees: Trees) -> None:
    routed = Options(links=LinkOptions(heartbeat_s=0.3, redial_max_s=0.2, direct=False), pulls=replace(NARROW, direct=False),
                     offers=OfferOptions(lost_grace_s=PATIENCE_S))
    server = trees.add(Cell("server", listen="tcp://127.0.0.1:0", options=routed))
    array = np.frombuffer(os.urandom(8 * MIB), np.uint8)
    ref, lent = lent_ref(server, array, receivers=["site-1.w0"])
    with ExitStack() as stack:
        relay = stack.enter_context(Child(RELAY, server.addresses[0], "tcp://127.0.0.1:0"))
        address = relay.expect("ready")
        leaf = trees.add(Cell("site-1.w0", parent=address, options=routed))
        half = threading.Event()

        def progress(done: int, total: int) -> None:
            if done * 2 > total and not half.is_set():
                relay.kill()
                half.set()

        pulling = Pulling(leaf, ref, progress=progress)
        assert half.wait(PATIENCE_S)
        second = stack.enter_context(Child(RELAY, server.addresses[0], address))
        second.expect("ready")
        assert np.array_equal(pulling.result(), array)
        outcome = lent.wait(PATIENCE_S)
        assert (dict(outcome.receivers), outcome.bytes) == ({"site-1.w0": Outcome.FINISHED}, array.nbytes)
        assert leaf.close() == []


class Bad(Downloadable):
    """Raises after a few pieces."""

    def produce(self, state: State, requester: str) -> Produced:
        at = state.get("at", 0)
        if at == 3:
            raise ValueError("the layer is gone")
        return ProduceRC.OK, at, {"at": at + 1}


@pytest.mark.fault("P11")
def test_p11_a_producer_that_raises_fails_its_transaction_and_all_that_is_in_it_is_released(trees: Trees) -> None:
    server, one = trees.grow("server", "site-1")
    array = np.zeros(4 * MIB, np.uint8)
    watched = weakref.ref(array)
    with server.downloads.transaction(receivers=["site-1"]) as lent:
        bad, good = lent.add(Bad()), lent.add(array)
    del array
    one.downloads.pull(good)
    with pytest.raises(OriginFailed, match="the layer is gone") as caught:
        one.downloads.pull(bad)
    assert isinstance(bad, Ref) and (caught.value.origin, caught.value.ref) == ("server", bad.source.label)
    outcome = lent.wait(PATIENCE_S)
    assert (outcome.outcome, dict(outcome.receivers)) == (Outcome.FAILED, {"site-1": Outcome.FAILED})
    assert dict(outcome.errors) == {"site-1": "origin-failed"}
    eventually(lambda: gc.collect() >= 0 and watched() is None, what="the release of the array")


STARVED = """
cell = Cell("site-1", parent=sys.argv[1])
cell.start()
cell.wait_ready(30.0)
ref = cell.downloads.find("server", "model")
say("ready", os.getpid())
sys.stdin.readline()
array = cell.downloads.pull(ref)
say("sum", int(array.sum()))
stay()
"""


@pytest.mark.fault("P15")
def test_p15_a_receiver_that_gets_a_tenth_of_a_core_is_slow_and_never_lost(trees: Trees) -> None:
    """It is stopped nine tenths of the time, as the scheduler does with who has used up its quota."""
    (server,) = trees.grow("server", options=Options(links=LinkOptions(heartbeat_s=2.0)))
    lost: list[object] = []
    server.tree.on_peer(lambda event: lost.append(event) if not event.is_up and not event.is_stalled else None)
    array = np.arange(16 * MIB // 8)
    ref, lent = lent_ref(server, array, receivers=["site-1"])
    server.downloads.publish("model", ref)
    is_over = threading.Event()
    with Child(STARVED, server.addresses[0]) as child:
        process = int(child.expect("ready"))

        def starve() -> None:
            while not is_over.is_set():
                os.kill(process, signal.SIGSTOP)
                is_over.wait(0.045)
                os.kill(process, signal.SIGCONT)
                is_over.wait(0.005)

        thread = threading.Thread(target=starve)
        thread.start()
        child.say("go on")
        try:
            assert int(child.expect("sum")) == int(array.sum())
        finally:
            is_over.set()
            thread.join(PATIENCE_S)
        assert dict(lent.wait(PATIENCE_S).receivers) == {"site-1": Outcome.FINISHED}
        assert not lost
        server.downloads.publish("model", None)


# --- misuse -------------------------------------------------------------------------------------

@pytest.mark.fault("A3")
def test_a3_a_ref_that_is_pulled_twice_at_once_and_after_its_end_is_counted_once_and_never_unknown(trees: Trees) -> None:
    server, one, two = trees.grow("server", "site-1", "site-2")
    array = np.arange(MIB)
    ref, lent = lent_ref(server, array, receivers=["site-1", "site-2"])
    pulling = [Pulling(one, ref) for _ in range(4)]
    for each in pulling:
        assert np.array_equal(each.result(), array)
    eventually(lambda: lent.receivers == {"site-1": Outcome.FINISHED})
    assert np.array_equal(one.downloads.pull(ref), array), "it is lent as long as others want it"  # type: ignore[arg-type]
    assert lent.outcome is None, "one receiver is one, however often it comes"
    two.downloads.pull(ref)
    outcome = lent.wait(PATIENCE_S)
    assert (outcome.is_complete, outcome.bytes) == (True, 2 * array.nbytes)
    for cell in (one, two, one):
        with pytest.raises(LeaseEnded, match="finished"):
            cell.downloads.pull(ref)


@pytest.mark.fault("A7")
@pytest.mark.parametrize("how", ["abort", "timeout"])
def test_a7_what_a_handler_pulls_for_a_caller_ends_when_the_caller_gives_up(trees: Trees, how: str) -> None:
    """server asks site-1, whose handler is to have what site-2 lends, which does not come."""
    goes_on = threading.Event()

    class Stuck(Downloadable):
        def produce(self, state: State, requester: str) -> Produced:
            goes_on.wait(PATIENCE_S)
            return ProduceRC.EOF, None, {}

    server, one, two = trees.grow("server", "site-1", "site-2")
    ref, lent = lent_ref(two, Stuck(), receivers=["site-1"])
    ends: list[BaseException | None] = []

    @one.handler("task", "take", resolve=False)
    def take(request: Request) -> object:
        try:
            return request.body["it"].pull(abort=request.abort)
        except BaseException as error:
            ends.append(error)
            raise

    abort = Signal()
    call = server.request_future("site-1", "task", "take", {"it": ref}, abort=abort, timeout_s=0.5 if how == "timeout" else None)
    eventually(lambda: lent.begun == ("site-1",))
    if how == "abort":
        abort.trigger("enough")
    assert isinstance(call.exception(PATIENCE_S), Cancelled if how == "abort" else TimedOut)
    eventually(lambda: ends, what="the end of the pull")
    assert isinstance(ends[0], Cancelled)
    eventually(lambda: lent.receivers == {"site-1": Outcome.CANCELLED})
    goes_on.set()
    lent.wait(PATIENCE_S)
