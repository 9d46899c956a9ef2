"""Outcomes: how what is lent comes to its end for each receiver, and what those hear who are late or busy then."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from zdl.assembly import Cell
from zdl.download.outcomes import TransactionOutcome, reason_of
from zdl.download.transaction import Terms, Transaction
from zdl.errors import Cancelled, DownloadError, LeaseEnded, OriginLost, TimedOut
from zdl.options import LinkOptions, OfferOptions, Options, PullOptions
from zdl.protocol.audiences import Audience, TransactionFacts
from zdl.protocol.effects import Outcome, ReceiverSettled, TransactionSettled
from zdl.refs import Ref

from children import Child
from trees import Trees
from waiting import PATIENCE_S, eventually

ARRAY = np.arange(300_000)


@pytest.fixture
def three(trees: Trees) -> tuple[Cell, ...]:
    return trees.grow("server", "site-1", "site-2", same_host=False)


def ref_of(transaction: Transaction) -> Ref:
    assert isinstance(transaction.body, Ref)
    return transaction.body


# --- the handle alone ---------------------------------------------------------------------------

class Owner:
    """Notes what a handle asks for."""

    def __init__(self) -> None:
        self.ended: list[tuple[bytes, Outcome]] = []
        self.held: list[bool] = []

    def end(self, transaction_id: bytes, outcome: Outcome) -> None:
        self.ended.append((transaction_id, outcome))

    def hold(self, transaction_id: bytes, *, is_held: bool) -> None:
        self.held.append(is_held)

    def facts(self, transaction_id: bytes) -> TransactionFacts | None:
        return None


def handle(owner: Owner | None = None) -> Transaction:
    return Transaction(b"0" * 16, owner or Owner(), Terms(Audience(count=2), quorum=1))


def end(one: Transaction, outcome: Outcome, *receivers: tuple[str, Outcome]) -> None:
    one.concluded(TransactionSettled(one.id, outcome, receivers, (("site-1", 70), ("site-2", 30))))
    one.settled()


def test_it_is_open_until_it_is_told_otherwise() -> None:
    owner = Owner()
    ended, one = owner.ended, handle(owner)
    assert (one.outcome, one.receivers) == (None, {})
    with pytest.raises(TimedOut, match="the end of a transaction"):
        one.wait(0.001)
    one.receiver_settled(ReceiverSettled(one.id, "site-1", Outcome.CANCELLED))
    assert one.receivers == {"site-1": Outcome.CANCELLED}
    assert repr(one) == "<Transaction 30303030… open, 1 receivers done>"
    one.delete()
    assert (ended, one.outcome) == ([(one.id, Outcome.DELETED)], None)
    end(one, Outcome.DELETED, ("site-1", Outcome.CANCELLED), ("site-2", Outcome.DELETED))
    assert one.wait(0.0) == TransactionOutcome(
        Outcome.DELETED, {"site-1": Outcome.CANCELLED, "site-2": Outcome.DELETED})
    assert not one.wait().is_complete
    assert "deleted" in repr(one)


def test_all_who_wait_hear_of_the_end() -> None:
    one = handle()
    heard: list[Outcome] = []
    threads = [threading.Thread(target=lambda: heard.append(one.wait(PATIENCE_S).outcome)) for _ in range(5)]
    for thread in threads:
        thread.start()
    end(one, Outcome.FINISHED)
    for thread in threads:
        thread.join()
    assert heard == [Outcome.FINISHED] * 5


@pytest.mark.row("D14")
def test_an_outcome_cannot_be_changed_and_tells_the_truth_about_each() -> None:
    one = handle()
    one.has_objects = True
    end(one, Outcome.FAILED, ("site-1", Outcome.FINISHED), ("site-2", Outcome.LOST))
    outcome = one.wait(0.0)
    assert (outcome.completed, outcome.quorum_met, outcome.finished) == (False, True, ("site-1",))
    assert (outcome.reason, outcome.bytes, outcome.receivers["site-2"]) == ("receiver-failed", 100, Outcome.LOST)
    with pytest.raises(TypeError):
        outcome.receivers["site-2"] = Outcome.FINISHED  # type: ignore[index]
    with pytest.raises(AttributeError):
        outcome.outcome = Outcome.FINISHED  # type: ignore[misc]


@pytest.mark.parametrize(("outcome", "has_objects", "is_counted", "reason"), [
    (Outcome.FINISHED, True, True, "all-confirmed"), (Outcome.FAILED, True, True, "receiver-failed"),
    (Outcome.PARTIAL, True, True, "receiver-failed"), (Outcome.EXPIRED, True, True, "lease-ended"),
    (Outcome.EXPIRED, False, True, "no-objects"), (Outcome.EXPIRED, True, False, "unknown-receivers"),
    (Outcome.DELETED, True, True, "deleted"), (Outcome.CLOSED, True, True, "closed"),
    (Outcome.UNDELIVERABLE, True, True, "undeliverable")])
def test_each_end_has_its_reason(outcome: Outcome, has_objects: bool, is_counted: bool, reason: str) -> None:
    assert reason_of(outcome, has_objects=has_objects, is_counted=is_counted) == reason


def test_without_a_quorum_all_are_wanted() -> None:
    assert not TransactionOutcome(Outcome.PARTIAL, {"a": Outcome.FINISHED}).quorum_met
    assert TransactionOutcome(Outcome.FINISHED, {"a": Outcome.FINISHED}).quorum_met


def test_a_block_holds_it_open_and_an_error_in_it_ends_it() -> None:
    owner = Owner()
    with handle(owner):
        assert owner.held == [True]
    assert owner.held == [True, False] and not owner.ended
    with pytest.raises(ValueError), handle(owner):
        raise ValueError
    assert owner.ended == [(b"0" * 16, Outcome.DELETED)]


# --- how it ends --------------------------------------------------------------------------------

@pytest.mark.row("D2", "D13")
def test_it_is_finished_when_as_many_as_were_counted_have_confirmed(three: tuple[Cell, ...]) -> None:
    server, one, two = three
    lent = server.downloads.lend(ARRAY, receivers=2)
    assert [each.id for each in server.downloads.transactions] == [lent.id]
    one.downloads.pull(ref_of(lent))
    eventually(lambda: lent.receivers == {"site-1": Outcome.FINISHED})
    one.downloads.pull(ref_of(lent))  # the same one again counts once
    assert lent.outcome is None
    two.downloads.pull(ref_of(lent))
    assert lent.wait(PATIENCE_S) == TransactionOutcome(
        Outcome.FINISHED, {"site-1": Outcome.FINISHED, "site-2": Outcome.FINISHED})
    assert server.downloads.transactions == []


@pytest.mark.row("D12")
def test_a_stranger_is_served_and_completes_nothing(three: tuple[Cell, ...]) -> None:
    server, one, two = three
    lent = server.downloads.lend(ARRAY, receivers=["site-1"])
    two.downloads.pull(ref_of(lent))
    eventually(lambda: lent.receivers)
    assert (lent.outcome, lent.receivers) == (None, {"site-2": Outcome.FINISHED})
    one.downloads.pull(ref_of(lent))
    assert lent.wait(PATIENCE_S).receivers == {"site-1": Outcome.FINISHED, "site-2": Outcome.FINISHED}


def test_without_a_number_it_lasts_until_it_is_deleted(three: tuple[Cell, ...]) -> None:
    server, one, two = three
    lent = server.downloads.lend(ARRAY, receivers=0)
    for cell in three:
        cell.downloads.pull(ref_of(lent))
    eventually(lambda: len(lent.receivers) == 3)
    assert lent.outcome is None
    lent.delete()
    outcome = lent.wait(PATIENCE_S)
    assert outcome == TransactionOutcome(Outcome.DELETED, dict.fromkeys(("server", "site-1", "site-2"), Outcome.FINISHED))
    assert not outcome.is_complete


@pytest.mark.row("D14")
def test_named_receivers_who_never_asked_have_an_outcome_too(three: tuple[Cell, ...]) -> None:
    server, one, _ = three
    lent = server.downloads.lend(ARRAY, receivers=["site-1", "site-2"])
    one.downloads.pull(ref_of(lent))
    eventually(lambda: lent.receivers)
    lent.delete()
    assert lent.wait(PATIENCE_S).receivers == {"site-1": Outcome.FINISHED, "site-2": Outcome.DELETED}


@pytest.mark.row("D3")
@pytest.mark.parametrize("how", ["finished", "deleted", "expired"])
def test_who_comes_late_is_told_which_end_it_had(three: tuple[Cell, ...], how: str) -> None:
    server, one, two = three
    lent = server.downloads.lend(ARRAY, lease_s=0.05 if how == "expired" else None)
    if how == "finished":
        two.downloads.pull(ref_of(lent))
    elif how == "deleted":
        lent.delete()
        lent.delete()  # a second time changes nothing
    assert lent.wait(PATIENCE_S).outcome.value == how
    with pytest.raises(LeaseEnded) as caught:
        one.downloads.pull(ref_of(lent))
    assert (caught.value.how, caught.value.origin, caught.value.ref) == (how, "server", ref_of(lent).source.label)
    assert one.downloads.transfers[-1].error is caught.value


def test_who_still_pulls_is_told_of_the_end(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1", same_host=False)
    lent = server.downloads.lend(np.zeros(64 << 20, np.uint8))
    with pytest.raises(LeaseEnded) as caught:
        site.downloads.pull(ref_of(lent), progress=lambda done, total: lent.delete())
    assert caught.value.how == "deleted"
    assert lent.wait(PATIENCE_S) == TransactionOutcome(Outcome.DELETED, {"site-1": Outcome.DELETED})


@pytest.mark.row("D17")
def test_who_gives_up_is_noted_and_may_come_again(three: tuple[Cell, ...]) -> None:
    server, one, _ = three
    lent = server.downloads.lend(np.zeros(64 << 20, np.uint8))

    def stop(done: int, total: int) -> None:
        raise RuntimeError("no more")

    with pytest.raises(Cancelled):
        one.downloads.pull(ref_of(lent), progress=stop)
    eventually(lambda: lent.receivers == {"site-1": Outcome.CANCELLED})
    assert lent.outcome is None
    one.downloads.pull(ref_of(lent))
    assert lent.wait(PATIENCE_S).receivers == {"site-1": Outcome.FINISHED}


def test_a_cell_that_closes_ends_what_it_lends_and_tells_who_comes_to_it(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    first, second = site.downloads.lend(ARRAY), site.downloads.lend(ARRAY, receivers=["server"])
    assert site.close() == []
    assert first.wait(PATIENCE_S) == TransactionOutcome(Outcome.CLOSED, {})
    assert second.wait(PATIENCE_S) == TransactionOutcome(Outcome.CLOSED, {"server": Outcome.CLOSED})
    first.delete()  # a late wish changes nothing
    assert first.wait(PATIENCE_S).outcome is Outcome.CLOSED


def test_a_cell_that_closes_tells_who_still_pulls_from_it(trees: Trees) -> None:
    slow = PullOptions(same_host=False, chunk_bytes=65536, window_bytes_min=65536, window_bytes_max=65536, lost_timeout_s=0.5)
    server, site = trees.grow("server", "site-1", options=Options(pulls=slow))
    lent = site.downloads.lend(np.zeros(1 << 29, np.uint8), receivers=["server"])
    has_begun = threading.Event()
    ends: list[DownloadError] = []

    def pull() -> None:
        try:
            server.downloads.pull(ref_of(lent), progress=lambda done, total: has_begun.set())
        except DownloadError as error:
            ends.append(error)

    thread = threading.Thread(target=pull)
    thread.start()
    assert has_begun.wait(PATIENCE_S)
    (left,) = site.close(0.05)
    assert "receivers were still pulling" in left
    thread.join(PATIENCE_S)
    # Its last words may be lost: closing a connection with unread questions in it resets it. Then its absence tells.
    (error,) = ends
    assert error.origin == "site-1"
    assert isinstance(error, OriginLost) or (isinstance(error, LeaseEnded) and error.how == "closed")
    assert lent.wait(PATIENCE_S) == TransactionOutcome(Outcome.CLOSED, {"server": Outcome.CLOSED})


@pytest.mark.parametrize("same_host", [False, True])
def test_a_cell_that_closes_lets_receivers_finish_first(trees: Trees, same_host: bool) -> None:
    server, site = trees.grow("server", "site-1", same_host=same_host)
    lent = site.downloads.lend(np.zeros(64 << 20, np.uint8))
    has_begun = threading.Event()
    got: list[object] = []

    def pull() -> None:
        got.append(server.downloads.pull(ref_of(lent), progress=lambda done, total: has_begun.set()))

    thread = threading.Thread(target=pull)
    thread.start()
    assert has_begun.wait(PATIENCE_S)
    assert site.close(PATIENCE_S) == []
    thread.join(PATIENCE_S)
    assert len(got) == 1 and lent.wait(PATIENCE_S).is_complete


# --- death --------------------------------------------------------------------------------------

PULLER = """
cell = Cell("site-1", parent=sys.argv[1], options=Options(pulls=PullOptions(
    chunk_bytes=65536, window_bytes_min=65536, window_bytes_max=65536, same_host=False)))
cell.start()
cell.wait_ready(30.0)

@cell.handler("task", "pull", resolve=False)
def pull(request):
    said = []
    cell.downloads.pull(request.body, progress=lambda done, total: said or said.append(say("pulling", done)))

say("ready")
stay()
"""


def test_the_death_of_a_receiver_ends_it_for_that_receiver(trees: Trees) -> None:
    options = Options(links=LinkOptions(heartbeat_s=0.2), offers=OfferOptions(lost_grace_s=0.3))
    server = trees.add(Cell("server", listen="tcp://127.0.0.1:0", options=options))
    lent = server.downloads.lend(np.zeros(1 << 29, np.uint8), receivers=["site-1"])
    with Child(PULLER, server.addresses[0]) as child:
        child.expect("ready")
        server.notice("site-1", "task", "pull", lent.body)
        child.expect("pulling")
        child.kill()
    assert lent.wait(PATIENCE_S) == TransactionOutcome(Outcome.FAILED, {"site-1": Outcome.LOST})
    assert server.downloads.transactions == []
