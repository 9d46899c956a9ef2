"""The scenarios of the ancestor's download service, as behaviour of zdl: outcomes and who waits for them, 7.4.

The numbers are those of the catalogue. What differs on purpose: who waits for a transaction that is still open when his time
is over is told by `TimedOut`, not by None, and one whose cell closes by an outcome (``closed``), not by None (7.4.5).
"""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import numpy as np
import pytest

from zdl import Cell, LeaseEnded, TimedOut
from zdl.download.downloadable import Downloadable, Produced, ProduceRC, State
from zdl.download.outcomes import TransactionOutcome
from zdl.options import OfferOptions, Options
from zdl.protocol.effects import Outcome

from trees import Trees
from waiting import PATIENCE_S, eventually

SITES = ["site-1", "site-2"]


class Letters(Downloadable):
    """One letter, or an error for these."""

    def __init__(self, *bad: str, hook: str = "") -> None:
        super().__init__("a")
        self.bad, self.hook = bad, hook

    def produce(self, state: State, requester: str) -> Produced:
        if requester in self.bad:
            return ProduceRC.ERROR, "no", {}
        return (ProduceRC.EOF, None, {}) if state else (ProduceRC.OK, "a", {"done": True})

    def transaction_done(self, transaction_id: str, status: str) -> None:
        if self.hook == "done":
            raise RuntimeError("done")

    def release(self) -> None:
        super().release()
        if self.hook == "release":
            raise RuntimeError("release")


@pytest.fixture
def three(trees: Trees) -> tuple[Cell, ...]:
    return trees.grow("server", *SITES)


def test_7_4_1_an_outcome_cannot_be_changed_at_any_depth() -> None:
    receivers, errors = {"site-1": Outcome.FAILED}, {"site-1": "disk-full"}
    outcome = TransactionOutcome(Outcome.FAILED, receivers, errors=errors)
    receivers["site-1"], errors["site-1"] = Outcome.FINISHED, "none"
    assert dict(outcome.receivers) == {"site-1": Outcome.FAILED} and dict(outcome.errors) == {"site-1": "disk-full"}
    for change in (lambda: outcome.receivers.update(a=1), lambda: outcome.errors.update(a=1),  # type: ignore[attr-defined]
                   lambda: setattr(outcome, "quorum", 1), lambda: setattr(outcome, "outcome", Outcome.FINISHED)):
        with pytest.raises(AttributeError):
            change()
    for mapping in (outcome.receivers, outcome.errors):
        with pytest.raises(TypeError):
            mapping["site-1"] = "x"  # type: ignore[index]


TRUTH = [  # what happens, and then: outcome, reason, completed
    ("all have it", Outcome.FINISHED, "all-confirmed", True), ("one fails", Outcome.PARTIAL, "receiver-failed", False),
    ("both fail", Outcome.FAILED, "receiver-failed", False), ("one is missing", Outcome.PARTIAL, "receiver-failed", False),
    ("no objects", Outcome.EXPIRED, "no-objects", False), ("deleted", Outcome.DELETED, "deleted", False),
    ("lease", Outcome.EXPIRED, "lease-ended", False), ("deleted afterwards", Outcome.FINISHED, "all-confirmed", True),
    ("nobody is counted", Outcome.EXPIRED, "unknown-receivers", False)]


@pytest.mark.parametrize(("what", "outcome", "reason", "completed"), TRUTH, ids=[each[0].replace(" ", "-") for each in TRUTH])
def test_7_4_2_the_outcome_tells_the_truth(
        three: tuple[Cell, ...], what: str, outcome: Outcome, reason: str, completed: bool) -> None:
    server, one, two = three
    bad = {"one fails": ("site-2",), "both fail": ("site-1", "site-2")}.get(what, ())
    how: dict[str, Any] = {"lease_s": 0.2 if outcome is Outcome.EXPIRED else 60.0}
    how["receivers"] = 0 if what == "nobody is counted" else SITES
    if what == "one is missing":
        how["first_pull_s"] = 0.3
    transaction = server.downloads.transaction(**how)
    if what != "no objects":
        ref = transaction.add(Letters(*bad))
        cells = (one,) if what in ("one is missing", "lease", "nobody is counted", "deleted") else (one, two)
        for cell in cells:
            if cell.fqcn in bad:
                with pytest.raises(Exception, match="failed to produce"):
                    cell.downloads.pull(ref)
            else:
                cell.downloads.pull(ref)
    if what == "deleted":
        eventually(lambda: transaction.receivers)
        transaction.delete()
    if what == "deleted afterwards":
        transaction.wait(PATIENCE_S)
        transaction.delete()
    found = transaction.wait(PATIENCE_S)
    assert (found.outcome, found.reason, found.completed) == (outcome, reason, completed)
    assert all(found.receivers[name] is Outcome.FAILED for name in bad)


@pytest.mark.parametrize("hook", ["done", "release", "callback"])
def test_7_4_3_who_waits_is_told_after_the_callbacks_and_what_they_raise_pins_nothing(
        three: tuple[Cell, ...], hook: str, caplog: pytest.LogCaptureFixture) -> None:
    server, one, _ = three
    caplog.set_level("CRITICAL", "zdl.download")  # a record that is kept has the frames of what was raised
    story: list[str] = []

    def done(tx_id: str, status: str, objects: list[object]) -> None:
        story.append("callback")
        if hook == "callback":
            raise RuntimeError("callback")

    letters, array = Letters(hook=hook), np.arange(100_000)
    watched = weakref.ref(array)
    transaction = server.downloads.transaction(on_done=done)
    refs = [transaction.add(letters), transaction.add(array)]
    del array
    transaction.when_done(lambda: story.append("waiter"))
    for ref in refs:
        one.downloads.pull(ref)
    assert transaction.wait(PATIENCE_S).completed
    eventually(lambda: story == ["callback", "waiter"])
    eventually(lambda: letters.base_obj is None)
    eventually(lambda: gc.collect() >= 0 and watched() is None, what="the release of the other")


def test_7_4_4_the_outcome_stays_with_who_holds_the_transaction_and_the_cell_forgets_it_in_its_time(trees: Trees) -> None:
    server, one = trees.grow("server", "site-1", options=Options(offers=OfferOptions(tombstone_s=0.2)))
    transaction = server.downloads.lend(b"x" * 100)
    one.downloads.resolve(transaction.body)
    first = transaction.wait(PATIENCE_S)

    def is_forgotten() -> bool:
        with pytest.raises(Exception) as caught:
            one.downloads.pull(transaction.body)
        return not isinstance(caught.value, LeaseEnded)

    eventually(is_forgotten)
    assert transaction.wait(0.0) is first is transaction.outcome and server.downloads.info(transaction.id) is None


def test_7_4_5_who_waits_is_told_at_the_end_at_once_when_it_has_ended_and_late_when_it_has_not(three: tuple[Cell, ...]) -> None:
    server, one, _ = three
    transaction = server.downloads.transaction()
    ref = transaction.add(b"x" * 100)
    with pytest.raises(TimedOut):
        transaction.wait(0.01)
    assert transaction.outcome is None
    heard: list[TransactionOutcome] = []
    threads = [threading.Thread(target=lambda: heard.append(transaction.wait(PATIENCE_S))) for _ in range(4)]
    for thread in threads:
        thread.start()
    one.downloads.resolve(ref)
    for thread in threads:
        thread.join(PATIENCE_S)
    assert len(heard) == 4 and {id(each) for each in heard} == {id(transaction.wait(0.0))}


def test_7_4_5_who_waits_when_the_cell_closes_is_told(trees: Trees) -> None:
    server, one = trees.grow("server", "site-1")
    transaction = one.downloads.transaction(receivers=["server"])
    transaction.add(b"x" * 100)
    heard: list[TransactionOutcome] = []
    thread = threading.Thread(target=lambda: heard.append(transaction.wait(PATIENCE_S)))
    thread.start()
    one.close()
    thread.join(PATIENCE_S)
    assert [(each.outcome, each.reason) for each in heard] == [(Outcome.CLOSED, "closed")]
