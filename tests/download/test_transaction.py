"""What is lent, as its owner sees it: who has it, how it ended, and that it ends."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from zdl.assembly import Cell
from zdl.download.outcomes import TransactionOutcome
from zdl.download.transaction import Transaction
from zdl.errors import Busy, LeaseEnded, OptionError, TimedOut, UnknownRef
from zdl.options import LinkOptions, OfferOptions, Options
from zdl.protocol.effects import Outcome
from zdl.refs import Ref, Source

from children import Child
from trees import Trees
from waiting import PATIENCE_S, eventually

LARGE = 1 << 20


@pytest.fixture
def cells(trees: Trees) -> tuple[Cell, ...]:
    return trees.grow("server", "site-1", "site-2")


def test_it_is_finished_when_so_many_have_all_of_it(cells: tuple[Cell, ...]) -> None:
    server, one, two = cells
    lent = server.downloads.lend({"w": np.arange(LARGE), "v": np.ones(3)}, receivers=2)
    assert isinstance(lent, Transaction)
    assert lent.outcome is None and "open" in repr(lent)
    one.downloads.resolve(lent.body)
    eventually(lambda: lent.receivers)
    assert lent.receivers == {"site-1": Outcome.FINISHED}
    with pytest.raises(TimedOut):
        lent.wait(0.05)
    one.downloads.resolve(lent.body)
    with pytest.raises(TimedOut):
        lent.wait(0.05)  # the same one again is not another one
    two.downloads.resolve(lent.body)
    assert lent.wait(PATIENCE_S) == TransactionOutcome(
        Outcome.FINISHED, {"site-1": Outcome.FINISHED, "site-2": Outcome.FINISHED})
    assert lent.wait(0.0).is_complete and "finished" in repr(lent)
    eventually(lambda: not server.downloads.transactions)


def test_who_has_a_part_of_it_has_not_all_of_it(cells: tuple[Cell, ...]) -> None:
    server, one, _ = cells
    lent = server.downloads.lend({"w": np.arange(LARGE), "v": np.ones(100_000)})
    assert isinstance(lent.body, dict)
    one.downloads.pull(lent.body["w"])
    with pytest.raises(TimedOut):
        lent.wait(0.1)
    one.downloads.pull(lent.body["v"])
    assert lent.wait(PATIENCE_S).is_complete


def test_named_receivers_are_counted_and_nobody_else(cells: tuple[Cell, ...]) -> None:
    server, one, two = cells
    lent = server.downloads.lend({"w": np.arange(LARGE)}, receivers=["site-2"])
    one.downloads.resolve(lent.body)
    eventually(lambda: lent.receivers)
    assert lent.outcome is None
    two.downloads.resolve(lent.body)
    assert lent.wait(PATIENCE_S).receivers == {"site-1": Outcome.FINISHED, "site-2": Outcome.FINISHED}


def test_a_cell_may_pull_what_it_lends_itself(cells: tuple[Cell, ...]) -> None:
    server, *_ = cells
    array = np.arange(LARGE)
    lent = server.downloads.lend({"w": array})
    body = server.downloads.resolve(lent.body)
    assert isinstance(body, dict) and np.array_equal(body["w"], array) and body["w"] is not array
    assert lent.wait(PATIENCE_S).receivers == {"server": Outcome.FINISHED}


def test_what_is_deleted_is_lent_no_more(cells: tuple[Cell, ...]) -> None:
    server, one, _ = cells
    lent = server.downloads.lend([np.arange(LARGE)], receivers=["site-1", "site-2"])
    one.downloads.resolve(lent.body)
    eventually(lambda: lent.receivers)
    lent.delete()
    lent.delete()
    assert lent.wait(PATIENCE_S) == TransactionOutcome(Outcome.DELETED, {
        "site-1": Outcome.FINISHED, "site-2": Outcome.DELETED})
    with pytest.raises(LeaseEnded) as caught:
        cells[2].downloads.resolve(lent.body)
    assert (caught.value.origin, caught.value.how) == ("server", "deleted")


def test_a_lease_that_nobody_renews_ends(cells: tuple[Cell, ...]) -> None:
    server, one, _ = cells
    lent = server.downloads.lend([np.arange(LARGE)], lease_s=0.1)
    assert lent.wait(PATIENCE_S) == TransactionOutcome(Outcome.EXPIRED, {})
    with pytest.raises(LeaseEnded) as caught:
        one.downloads.resolve(lent.body)
    assert caught.value.how == "expired"


def test_a_wrong_secret_opens_nothing(cells: tuple[Cell, ...]) -> None:
    server, one, _ = cells
    lent = server.downloads.lend(np.arange(LARGE))
    ref = lent.body
    assert isinstance(ref, Ref)
    of = ref.source
    for forged in (Source(of.origin, of.offer_id, bytes(16), of.bytes_total),
                   Source(of.origin, bytes(16), of.secret, of.bytes_total),
                   Source("site-2", of.offer_id, of.secret, of.bytes_total)):
        with pytest.raises(UnknownRef) as caught:
            one.downloads.pull(Ref(forged, 0, 0, ref.length, "array", ref.dtype, ref.shape))
        assert caught.value.origin == forged.origin
        assert of.secret.hex() not in str(caught.value) and of.offer_id.hex() not in str(caught.value)
    lent.delete()
    lent.wait(PATIENCE_S)
    ended = Source(of.origin, of.offer_id, bytes(16), of.bytes_total)
    with pytest.raises(UnknownRef):  # how it ended is told to those who might have had it
        one.downloads.pull(Ref(ended, 0, 0, ref.length, "array", ref.dtype, ref.shape))


def test_a_ref_that_claims_more_than_is_lent_gets_nothing(cells: tuple[Cell, ...]) -> None:
    server, one, _ = cells
    lent = server.downloads.lend(b"x" * 1000)
    ref = lent.body
    assert isinstance(ref, Ref)
    of = Source(ref.source.origin, ref.source.offer_id, ref.source.secret, 5000)
    with pytest.raises(Exception, match="not a chunk of an offer of 1000 bytes"):
        one.downloads.pull(Ref(of, 0, 0, 5000, "bytes"))
    lent.delete()


def test_what_closes_tells_its_receivers(trees: Trees) -> None:
    server, one = trees.grow("server", "site-1")
    lent = one.downloads.lend(np.arange(LARGE), receivers=["server"])
    one.close()
    assert lent.outcome == TransactionOutcome(Outcome.CLOSED, {"server": Outcome.CLOSED})


@pytest.mark.parametrize("receivers", [-1])
def test_receivers_that_are_none_are_refused(cells: tuple[Cell, ...], receivers: int) -> None:
    with pytest.raises(OptionError, match="receivers"):
        cells[0].downloads.lend(b"x" * 1000, receivers=receivers)
    assert not cells[0].downloads.transactions


def test_more_transactions_than_allowed_are_busy_and_leave_nothing(trees: Trees) -> None:
    server = trees.add(Cell("server", listen="tcp://127.0.0.1:0", options=Options(offers=OfferOptions(transactions_max=2))))
    first = server.downloads.lend(b"x" * 1000)
    server.downloads.lend(b"x" * 1000)
    with pytest.raises(Busy) as caught:
        server.downloads.lend(b"x" * 1000)
    assert (caught.value.limit, caught.value.value, caught.value.at) == ("transactions_max", 2, "server")
    with pytest.raises(Busy):
        server.request("server", "zdl", "ping", np.zeros(LARGE))
    assert len(server.downloads.transactions) == 2
    first.delete()
    first.wait(PATIENCE_S)
    server.downloads.lend(b"x" * 1000)


# --- memory -------------------------------------------------------------------------------------

def is_gone(ref: weakref.ref[object]) -> bool:
    gc.collect()
    return ref() is None


@pytest.mark.parametrize("end", ["finished", "deleted", "expired", "closed"])
def test_what_has_ended_is_let_go(trees: Trees, end: str) -> None:
    server, one = trees.grow("server", "site-1")
    array = np.zeros(LARGE)
    kept = weakref.ref(array)
    lent = server.downloads.lend({"w": array}, lease_s=0.2 if end == "expired" else None)
    del array
    assert end == "expired" or not is_gone(kept)
    if end == "finished":
        one.downloads.resolve(lent.body)
    elif end == "deleted":
        lent.delete()
    elif end == "closed":
        server.close()
    assert lent.wait(PATIENCE_S).outcome.value == end
    eventually(lambda: is_gone(kept), what="the end of the array")


def test_a_receiver_that_is_killed_does_not_keep_what_is_lent(trees: Trees) -> None:
    quick = Options(links=LinkOptions(heartbeat_s=0.2), offers=OfferOptions(lost_grace_s=0.2))
    server = trees.add(Cell("server", listen="tcp://127.0.0.1:0", options=quick))
    relay = trees.add(Cell("site-1", parent=server.addresses[0], listen="tcp://127.0.0.1:0", options=quick))
    program = """
options = Options(pulls=PullOptions(window_bytes_min=1 << 20, window_bytes_max=1 << 20, same_host=False))
name, address = sys.argv[1:]
with Cell(name, parent=address, options=options) as cell:
    cell.wait_ready()
    hold = threading.Event()
    def progress(done, total):
        say("some")
        hold.wait()
    cell.downloads.resolve(cell.downloads.find("server", "it"), progress=progress)
"""
    for name, address in (("site-2", server.addresses[0]), ("site-1.w0", relay.addresses[0])):
        array = np.zeros(LARGE)
        kept = weakref.ref(array)
        lent = server.downloads.lend({"w": array}, receivers=[name])
        del array
        server.downloads.publish("it", lent.body)
        with Child(program, name, address) as child:
            child.expect("some")
            child.kill()
            assert lent.wait(PATIENCE_S) == TransactionOutcome(Outcome.FAILED, {name: Outcome.LOST})
        eventually(lambda: is_gone(kept), what="the end of the array")
