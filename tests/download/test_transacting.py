"""Transactions that the user opens: objects are added, receivers pull, and what was promised is told once, in its order."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zdl.assembly import Cell
from zdl.download.downloadable import Downloadable, Produced, ProduceRC, State
from zdl.download.outcomes import TransactionOutcome
from zdl.download.transacting import Transacting, terms_of
from zdl.errors import CannotPack, LeaseEnded, OptionError, Refused, TimedOut
from zdl.options import OfferOptions, Options
from zdl.protocol.effects import Outcome
from zdl.refs import Ref

from children import Child
from trees import Trees
from waiting import PATIENCE_S, eventually

MIB = 1 << 20


@pytest.fixture
def three(trees: Trees) -> tuple[Cell, ...]:
    return trees.grow("server", "site-1", "site-2")


class Words(Downloadable):
    """Three pieces; its hooks write down that they were called."""

    def __init__(self, story: list[str]) -> None:
        super().__init__({"object": 1})
        self.story = story

    def produce(self, state: State, requester: str) -> Produced:
        at = state.get("at", 0)
        return (ProduceRC.OK, f"word {at}", {"at": at + 1}) if at < 3 else (ProduceRC.EOF, None, {})

    def downloaded_to_one(self, to_receiver: str, status: str) -> None:
        self.story.append(f"one {to_receiver} {status}")

    def downloaded_to_all(self) -> None:
        self.story.append("all")

    def transaction_done(self, transaction_id: str, status: str) -> None:
        self.story.append(f"done {status}")

    def release(self) -> None:
        self.story.append("release")


class Told:
    """Notes what a done callback was given."""

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        self.calls: list[tuple[str, str, list[Any], dict[str, Any]]] = []
        self._then = then

    def __call__(self, tx_id: str, status: str, objects: list[Any], **given: Any) -> None:
        self.calls.append((tx_id, status, list(objects), given))
        self._then()


# --- adding -------------------------------------------------------------------------------------

@pytest.mark.row("D2", "D13", "D14")
def test_objects_of_all_kinds_are_added_and_it_is_complete_when_the_receiver_has_them_all(
        three: tuple[Cell, ...], tmp_path: Path) -> None:
    server, one, _ = three
    path = tmp_path / "file.bin"
    path.write_bytes(b"f" * 1000)
    with server.downloads.transaction(receivers=["site-1"]) as transaction:
        array, body, file, words = (transaction.add(each) for each in (
            np.arange(MIB), {"w": np.ones(5), "name": "x" * 100}, path, Words([])))
    assert isinstance(array, Ref) and isinstance(file, Ref) and isinstance(words, Ref) and isinstance(body, dict)
    assert np.array_equal(one.downloads.pull(array), np.arange(MIB))  # type: ignore[arg-type]
    assert one.downloads.resolve(body)["name"] == "x" * 100  # type: ignore[index]
    assert one.downloads.pull_file(file, tmp_path / "copy").read_bytes() == b"f" * 1000
    assert transaction.outcome is None and transaction.begun == ("site-1",)
    assert one.downloads.pull(words) == ["word 0", "word 1", "word 2"]
    outcome = transaction.wait(PATIENCE_S)
    assert (outcome.completed, outcome.reason, dict(outcome.receivers)) == (True, "all-confirmed", {"site-1": Outcome.FINISHED})
    assert outcome.bytes >= 8 * MIB + 1000
    eventually(lambda: not server.downloads.transactions)


def test_while_objects_are_added_nothing_is_complete(three: tuple[Cell, ...]) -> None:
    server, one, _ = three
    with server.downloads.transaction() as transaction:
        first = transaction.add(np.arange(10))
        one.downloads.resolve(first)
        eventually(lambda: transaction.receivers)
        second = transaction.add(np.arange(20))
    with pytest.raises(TimedOut):
        transaction.wait(0.05)
    one.downloads.resolve(second)
    assert transaction.wait(PATIENCE_S).completed


def test_what_cannot_be_lent_leaves_the_others_as_they_are(three: tuple[Cell, ...], tmp_path: Path) -> None:
    server, one, _ = three
    transaction = server.downloads.transaction()
    ref = transaction.add(b"x" * 1000)
    for wrong in (object(), 3, tmp_path / "no such file"):
        with pytest.raises((CannotPack, OptionError)):
            transaction.add(wrong)
    assert one.downloads.resolve(ref) == b"x" * 1000
    assert transaction.wait(PATIENCE_S).completed
    with pytest.raises(LeaseEnded):
        transaction.add(b"too late")


def test_an_error_in_the_block_ends_it(three: tuple[Cell, ...]) -> None:
    server, *_ = three
    with pytest.raises(ValueError), server.downloads.transaction() as transaction:
        transaction.add(b"x" * 100)
        raise ValueError
    assert transaction.wait(PATIENCE_S).outcome is Outcome.DELETED


def test_one_that_was_opened_for_one_object_takes_no_more(three: tuple[Cell, ...]) -> None:
    with pytest.raises(LeaseEnded, match="one object"):
        three[0].downloads.lend(b"x" * 100).add(b"more")


@pytest.mark.row("D6")
def test_it_is_found_by_its_id_and_by_its_refs(three: tuple[Cell, ...]) -> None:
    server, one, _ = three
    transaction = server.downloads.transaction()
    ref = transaction.add(b"x" * 100)
    assert isinstance(ref, Ref)
    for identity in (transaction.id, transaction.id.hex(), ref):
        assert server.downloads.info(identity) is transaction
    facts = transaction.facts
    assert facts is not None and (facts.offers_count, facts.bytes_total, facts.receivers) == (1, 100, ())
    assert one.downloads.info(ref) is None, "it is not lent there"
    with pytest.raises(OptionError):
        server.downloads.info("no id")
    transaction.delete()
    transaction.wait(PATIENCE_S)
    assert server.downloads.info(transaction.id) is None and transaction.facts is None


# --- the end ------------------------------------------------------------------------------------

@pytest.mark.row("D3", "D4", "D5")
def test_the_end_is_told_in_its_order_and_the_objects_are_let_go_after_it(three: tuple[Cell, ...]) -> None:
    server, one, two = three
    story: list[str] = []
    told = Told(lambda: story.append("told"))
    array = np.arange(MIB)
    watched = weakref.ref(array)
    transaction = server.downloads.transaction(receivers=2, on_done=told, round_number=7)
    refs = [transaction.add(array), transaction.add(Words(story))]
    for cell in (one, two, one):  # one comes twice
        cell.downloads.pull(refs[1])  # type: ignore[arg-type]
    for cell in (one, one, two):
        cell.downloads.resolve(refs[0])
    assert transaction.wait(PATIENCE_S).completed
    eventually(lambda: "release" in story)
    assert sorted(story[:2]) == ["one site-1 success", "one site-2 success"]
    assert story[2:] == ["all", "done finished", "told", "release"]
    (tx_id, status, objects, given), = told.calls
    assert (tx_id, status, given) == (transaction.id.hex(), "finished", {"round_number": 7})
    assert objects[0] is array and objects[1] == {"object": 1}
    del array, objects
    told.calls.clear()
    eventually(lambda: gc.collect() >= 0 and watched() is None, what="the release of the array")


@pytest.mark.row("D3")
@pytest.mark.parametrize(("how", "status"), [("delete", "deleted"), ("lease", "timeout")])
def test_the_done_callback_is_told_how_it_ended(three: tuple[Cell, ...], how: str, status: str) -> None:
    server, *_ = three
    told = Told()
    transaction = server.downloads.transaction(on_done=told, lease_s=0.2 if how == "lease" else 60.0)
    transaction.add(b"x" * 100)
    if how == "delete":
        transaction.delete()
    transaction.wait(PATIENCE_S)
    assert [call[1] for call in told.calls] == [status]


@pytest.mark.row("D11")
def test_the_done_callback_may_do_anything_and_hurts_nobody(three: tuple[Cell, ...]) -> None:
    """It waits for its own end, opens and deletes transactions, lends, and raises; another one hangs meanwhile."""
    server, one, _ = three
    hangs, goes_on = threading.Event(), threading.Event()
    seen: list[object] = []

    def hang(*_: object, **__: object) -> None:
        hangs.set()
        assert goes_on.wait(PATIENCE_S)

    stuck = server.downloads.transaction(on_done=hang)
    stuck.delete()
    assert hangs.wait(PATIENCE_S)

    def everything(tx_id: str, status: str, objects: list[object]) -> None:
        seen.append(transaction.wait())
        server.downloads.transaction().delete()
        seen.append(server.downloads.lend(b"y" * 100).body)
        raise SystemExit("even this")

    transaction = server.downloads.transaction(on_done=everything)
    ref = transaction.add(b"x" * 100)
    one.downloads.resolve(ref)
    assert transaction.wait(PATIENCE_S).completed
    assert isinstance(seen[0], TransactionOutcome) and one.downloads.resolve(seen[1]) == b"y" * 100
    with pytest.raises(TimedOut):
        stuck.wait(0.01)
    goes_on.set()
    assert stuck.wait(PATIENCE_S).outcome is Outcome.DELETED


@pytest.mark.row("D15")
def test_it_is_waited_for_by_threads_and_by_coroutines(three: tuple[Cell, ...]) -> None:
    server, one, _ = three
    transaction = server.downloads.transaction()
    ref = transaction.add(b"x" * 100)
    heard: list[TransactionOutcome] = []
    threads = [threading.Thread(target=lambda: heard.append(transaction.wait(PATIENCE_S))) for _ in range(3)]
    for thread in threads:
        thread.start()

    async def wait() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(_awaited(transaction), 0.01)
        waiting = [asyncio.ensure_future(_awaited(transaction)) for _ in range(2)]
        await asyncio.get_running_loop().run_in_executor(None, one.downloads.resolve, ref)
        heard.extend(await asyncio.gather(*waiting))
        heard.append(await transaction)  # it has ended

    async def _awaited(each: Any) -> TransactionOutcome:
        return await each  # type: ignore[no-any-return]

    asyncio.run(wait())
    for thread in threads:
        thread.join(PATIENCE_S)
    assert len(heard) == 6 and all(each.completed for each in heard) and transaction.begun == ("site-1",)


# --- receivers ----------------------------------------------------------------------------------

@pytest.mark.row("D12")
def test_strangers_do_not_complete_it_and_are_refused_where_it_is_closed(three: tuple[Cell, ...]) -> None:
    server, one, two = three
    for closed in (False, True):
        transaction = server.downloads.transaction(receivers=["site-1"], closed=closed)
        ref = transaction.add(b"x" * 100)
        if closed:
            with pytest.raises(Refused):
                two.downloads.resolve(ref)
        else:
            assert two.downloads.resolve(ref) == b"x" * 100
            eventually(lambda: "site-2" in transaction.receivers)
        with pytest.raises(TimedOut):
            transaction.wait(0.05)
        one.downloads.resolve(ref)
        assert transaction.wait(PATIENCE_S).completed


@pytest.mark.row("D14")
def test_a_quorum_is_met_by_those_who_have_it_all(trees: Trees) -> None:
    options = Options(offers=OfferOptions(lost_grace_s=0.2))
    server, one, _ = trees.grow("server", "site-1", "site-2", options=options)
    transaction = server.downloads.transaction(receivers=["site-1", "site-2"], quorum=1, first_pull_s=0.5)
    one.downloads.resolve(transaction.add(b"x" * 100))
    outcome = transaction.wait(PATIENCE_S)
    assert (outcome.outcome, outcome.completed, outcome.quorum_met) == (Outcome.PARTIAL, False, True)
    assert dict(outcome.receivers) == {"site-1": Outcome.FINISHED, "site-2": Outcome.EXPIRED}


@pytest.mark.row("D16")
def test_a_receiver_that_falls_silent_ends_long_before_the_lease(trees: Trees, tmp_path: Path) -> None:
    """A confirmation that never comes is bounded by it, too: the receiver is stopped while it pulls."""
    (server,) = trees.grow("server")
    transaction = server.downloads.transaction(receivers=["site-1"], silence_s=1.0, lease_s=600.0)
    server.downloads.publish("it", transaction.add(np.zeros(32 * MIB, np.uint8)))
    with Child(PULL_AND_STOP.format(address=server.addresses[0])) as child:
        child.expect("pulling")
        child.stop()
        outcome = transaction.wait(PATIENCE_S)
    assert dict(outcome.receivers) == {"site-1": Outcome.EXPIRED} and outcome.reason == "receiver-failed"


PULL_AND_STOP = """
from zdl.assembly import Cell
cell = Cell("site-1", parent={address!r}, options=Options(pulls=PullOptions(same_host=False)))
cell.start()
ref = cell.downloads.find("server", "it")
import threading
def progress(done, total):
    say("pulling")
    threading.Event().wait()
cell.downloads.pull(ref, progress=progress)
"""


@pytest.mark.parametrize(("given", "name"), [
    ({"receivers": -1}, "receivers"), ({"quorum": 2}, "quorum"), ({"quorum": 0}, "quorum"), ({"closed": True}, "closed"),
    ({"silence_s": 0}, "silence_s"), ({"first_pull_s": -1.0, "receivers": ["a"]}, "first_pull_s"),
    ({"first_pull_s": 1.0}, "first_pull_s"), ({"lease_s": 0}, "lease_s"), ({"receivers": ["a", "b"], "quorum": 3}, "quorum")])
def test_what_cannot_work_is_refused_by_name(three: tuple[Cell, ...], given: dict[str, Any], name: str) -> None:
    with pytest.raises(OptionError) as caught:
        three[0].downloads.transaction(**given)
    assert caught.value.name == name
    assert not three[0].downloads.transactions


def test_names_say_how_many_and_said_twice_count_once() -> None:
    terms = terms_of(["a", "b", "a"], lease_s=None, quorum=2, first_pull_s=1.0, silence_s=None, is_closed=True)
    assert (terms.audience.names, terms.audience.is_closed, terms.budgets.first_pull_s) == (frozenset("ab"), True, 1.0)
    assert Transacting.__doc__


# --- progress -----------------------------------------------------------------------------------

@pytest.mark.row("D9")
def test_how_far_each_receiver_is_is_told_at_the_origin(three: tuple[Cell, ...]) -> None:
    server, one, two = three
    events: list[Any] = []
    transaction = server.downloads.transaction(receivers=["site-1", "site-2"], on_progress=events.append, progress_interval_s=1e-9)
    refs = [transaction.add(np.zeros(8 * MIB, np.uint8)), transaction.add(Words([]))]
    for cell in (one, two):
        cell.downloads.resolve(refs[0])
        cell.downloads.pull(refs[1])  # type: ignore[arg-type]
    transaction.wait(PATIENCE_S)
    for name in ("site-1", "site-2"):
        for ref in refs:
            assert isinstance(ref, Ref)
            mine = [each for each in events if (each.receiver_id, each.ref_id) == (name, ref.source.offer_id.hex())]
            assert [each.sequence for each in mine] == list(range(len(mine)))
            assert [each.state for each in mine] == ["start", *["active"] * (len(mine) - 2), "completed"]
            assert [each.bytes_done for each in mine] == sorted(each.bytes_done for each in mine)
            assert all(each.tx_id == transaction.id.hex() for each in mine)
            assert (mine[-1].bytes_done == 8 * MIB) if ref is refs[0] else (mine[-1].items_done == 3)


def test_progress_that_raises_hurts_nobody_and_a_deletion_is_no_failure(three: tuple[Cell, ...]) -> None:
    server, one, _ = three
    states: list[str] = []

    def told(event: Any) -> None:
        states.append(event.state)
        raise ValueError("no")

    transaction = server.downloads.transaction(receivers=0, on_progress=told, progress_interval_s=1e-9)
    one.downloads.resolve(transaction.add(b"x" * 100))
    eventually(lambda: states)
    with server.downloads.transaction(receivers=0, on_progress=told, progress_interval_s=1e-9) as other:
        one.downloads.resolve([other.add(b"x" * 100), other.add(b"y" * 100)][0])
    other.delete()
    other.wait(PATIENCE_S)
    assert "aborted" in states
