"""Hooks alone: one order, each exactly once, whatever raises or hangs."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from zdl.download.downloadable import Downloadable, Produced as Piece, ProduceRC, State
from zdl.download.hooks import Produced, done_status
from zdl.download.making import Maker
from zdl.download.pieces import Question
from zdl.download.production import Production
from zdl.download.workers import Workers
from zdl.options import PackOptions
from zdl.protocol.effects import Outcome
from zdl.protocol.offers import Audience

from waiting import PATIENCE_S, eventually


class Noted(Downloadable):
    """Notes the calls of its hooks; `bad` ones raise."""

    def __init__(self, name: str, calls: list[tuple[object, ...]], *bad: str) -> None:
        super().__init__(name)
        self.calls = calls
        self.bad = bad
        self.let_go = threading.Event()
        self.let_go.set()

    def note(self, *call: object) -> None:
        self.calls.append((self.base_obj, *call))
        if call[0] in self.bad:
            raise RuntimeError(f"{call[0]} raises")

    def set_transaction(self, tx_id: str, ref_id: str) -> None:
        self.note("set_transaction", tx_id, ref_id)

    def produce(self, state: State, requester: str) -> Piece:
        self.note("produce", requester)
        assert self.let_go.wait(PATIENCE_S)
        self.note("produced")
        return ProduceRC.EOF, None, {}

    def downloaded_to_one(self, to_receiver: str, status: str) -> None:
        self.note("one", to_receiver, status)

    def downloaded_to_all(self) -> None:
        self.note("all")

    def transaction_done(self, transaction_id: str, status: str) -> None:
        self.note("done", transaction_id, status)

    def release(self) -> None:
        self.note("release")


def id_of(noted: Noted) -> bytes:
    """The id of its offer."""
    return str(noted.base_obj).encode() * 16


class Stage:
    """A transaction with objects whose calls are noted."""

    def __init__(self) -> None:
        self.workers = Workers("zdl-test", "server", 8)
        self.calls: list[tuple[object, ...]] = []
        self.ends: list[bool] = []

    def produced(self, *objects: Noted, audience: Audience = Audience(frozenset({"site-1", "site-2"}))) -> Produced:
        made = Produced(audience, self.workers, lambda produced, *, is_done: self.ends.append(is_done))
        made.transaction_id = "tx"
        for each in objects:
            maker = Maker(each, packing=PackOptions(), bytes_max=1, lend=self.lend)
            made.add(Production(each, "ref:1", "server", maker=maker, submit=self.workers.submit,
                                consumed=lambda *told: None), id_of(each))
        return made

    def lend(self, *nothing: object) -> tuple[object, object]:
        raise AssertionError("nothing is large")

    def then(self) -> None:
        self.calls.append(("then",))


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage()
    yield made
    made.workers.close(PATIENCE_S)


@pytest.mark.row("D1", "D4", "D5")
def test_D1_D4_D5_the_hooks_come_in_their_order_each_once(stage: Stage) -> None:
    first, second = Noted("a", stage.calls), Noted("b", stage.calls)
    produced = stage.produced(first, second)
    for _ in range(2):
        produced.had(id_of(first), "site-1")
    produced.had(id_of(second), "site-1")
    produced.receiver_settled("site-1", Outcome.FINISHED)
    produced.receiver_settled("site-2", Outcome.CANCELLED)
    produced.had(id_of(first), "site-2")
    produced.had(id_of(second), "site-2")
    produced.receiver_settled("site-2", Outcome.FINISHED)
    ends = {"site-1": Outcome.FINISHED, "site-2": Outcome.FINISHED}
    produced.ended(Outcome.FINISHED, ends, stage.then)
    eventually(lambda: len(stage.calls) == 13)
    assert stage.calls == [
        ("a", "set_transaction", "tx", "61" * 16), ("b", "set_transaction", "tx", "62" * 16),
        ("a", "one", "site-1", "success"), ("b", "one", "site-1", "success"),
        ("a", "one", "site-2", "success"), ("a", "all"),
        ("b", "one", "site-2", "success"), ("b", "all"),
        ("a", "done", "tx", "finished"), ("b", "done", "tx", "finished"),
        ("then",),
        ("a", "release"), ("b", "release")]
    assert stage.ends == [False, True]


@pytest.mark.row("D4")
def test_D4_a_failure_is_told_once_at_the_end_and_not_all_have_it(stage: Stage) -> None:
    produced = stage.produced(Noted("a", stage.calls))
    produced.receiver_settled("site-1", Outcome.LOST)
    produced.ended(Outcome.EXPIRED, {"site-1": Outcome.LOST, "site-2": Outcome.EXPIRED, "a-stranger": Outcome.EXPIRED},
                   stage.then)
    eventually(lambda: stage.calls[-1:] == [("a", "release")])
    assert stage.calls[1:] == [("a", "one", "site-1", "failed"), ("a", "one", "site-2", "failed"),
                               ("a", "done", "tx", "timeout"), ("then",), ("a", "release")]


@pytest.mark.row("D4")
def test_D4_who_has_one_object_of_several_is_told_of_that_one_and_of_the_others_only_if_it_began(stage: Stage) -> None:
    first, second = Noted("a", stage.calls), Noted("b", stage.calls)
    produced = stage.produced(first, second, audience=Audience(count=0))
    produced.had(id_of(first), "site-1")
    produced.ended(Outcome.EXPIRED, {"site-1": Outcome.EXPIRED}, stage.then)
    eventually(lambda: stage.calls[-1:] == [("b", "release")])
    assert [call for call in stage.calls if "one" in call] == [("a", "one", "site-1", "success")]


def test_with_nobody_counted_not_all_ever_have_it(stage: Stage) -> None:
    noted = Noted("a", stage.calls)
    produced = stage.produced(noted, audience=Audience(count=0))
    produced.had(id_of(noted), "site-1")
    produced.ended(Outcome.DELETED, {"site-1": Outcome.FINISHED}, stage.then)
    eventually(lambda: stage.calls[-1:] == [("a", "release")])
    assert [call[1] for call in stage.calls if len(call) > 1] == ["set_transaction", "one", "done", "release"]


@pytest.mark.row("D11")
def test_D11_what_hooks_raise_keeps_none_of_the_others_from_being_called(stage: Stage) -> None:
    bad = Noted("a", stage.calls, "one", "all", "done", "release")
    produced = stage.produced(bad, Noted("b", stage.calls))
    produced.ended(Outcome.FINISHED, {"site-1": Outcome.FINISHED}, stage.then)
    eventually(lambda: stage.calls[-1:] == [("b", "release")])
    assert [call[-1] if call[0] == "then" else call[1] for call in stage.calls] == [
        "set_transaction", "set_transaction", "one", "one", "all", "all", "done", "done", "then", "release", "release"]


def test_what_set_transaction_raises_is_raised_where_it_was_added(stage: Stage) -> None:
    with pytest.raises(RuntimeError, match="set_transaction raises"):
        stage.produced(Noted("a", stage.calls, "set_transaction"))


@pytest.mark.row("D19")
def test_D19_nothing_is_released_while_a_production_runs(stage: Stage) -> None:
    noted = Noted("a", stage.calls)
    noted.let_go.clear()
    produced = stage.produced(noted)
    told: list[object] = []
    produced.productions[0].ask("site-1", Question(b"o" * 16, b"s" * 16, b"t" * 16, 0, 0, None), told.append)
    eventually(lambda: ("a", "produce", "site-1") in stage.calls)
    produced.ended(Outcome.DELETED, {}, stage.then)
    eventually(lambda: told)
    assert "no longer lent: deleted" in str(told[0])
    assert stage.calls[-1] == ("a", "produce", "site-1")
    noted.let_go.set()
    eventually(lambda: stage.calls[-1] == ("a", "release"))
    assert stage.calls[2:] == [("a", "produced"), ("a", "done", "tx", "deleted"), ("then",), ("a", "release")]


def test_who_waits_for_the_end_is_told_even_when_no_hook_can_be_called_any_more(stage: Stage) -> None:
    produced = stage.produced(Noted("a", stage.calls))
    stage.workers.close(PATIENCE_S)
    produced.receiver_settled("site-1", Outcome.FINISHED)
    produced.ended(Outcome.CLOSED, {}, stage.then)
    produced.give_up()
    assert stage.calls.count(("then",)) == 1


@pytest.mark.parametrize(("outcome", "status"), [
    (Outcome.FINISHED, "finished"), (Outcome.PARTIAL, "finished"), (Outcome.FAILED, "finished"),
    (Outcome.EXPIRED, "timeout"), (Outcome.DELETED, "deleted"), (Outcome.UNDELIVERABLE, "deleted"), (Outcome.CLOSED, "deleted")])
def test_the_end_in_the_ancestors_words(outcome: Outcome, status: str) -> None:
    assert done_status(outcome) == status
