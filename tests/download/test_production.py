"""Production alone, on threads but without a cell: whose turn it is, what is made once, and what is kept for how long."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from zdl.download.cacheable import CacheableObject
from zdl.download.downloadable import Downloadable, Produced, ProduceRC, State
from zdl.download.making import Answer, Maker
from zdl.download.pieces import Question, pieces_of
from zdl.download.production import ASKED_MAX, SERVINGS_MAX, Production
from zdl.download.workers import Workers
from zdl.errors import LeaseEnded, OptionError, ZdlError
from zdl.objects.manifest import Manifest
from zdl.objects.pack import Lent
from zdl.objects.unpack import unpack
from zdl.options import PackOptions
from zdl.refs import Source

from waiting import PATIENCE_S, eventually

PACKING = PackOptions()


class Numbers(Downloadable):
    """The numbers below `base_obj`; each waits until it is let go. Notes what it was asked for."""

    def __init__(self, count: int, *, size: int = 0) -> None:
        super().__init__(count)
        self.size = size
        self.calls: list[tuple[str, int]] = []
        self.running = 0
        self.let_go = threading.Event()
        self.let_go.set()

    def produce(self, state: State, requester: str) -> Produced:
        at = state.get("at", 0)
        self.calls.append((requester, at))
        self.running += 1
        assert self.let_go.wait(PATIENCE_S)
        self.running -= 1
        if at >= self.base_obj:
            return ProduceRC.EOF, None, {}
        return ProduceRC.OK, bytes([at]) * self.size if self.size else at, {"at": at + 1}


class Stage:
    """Productions with what they need; offers are only noted."""

    def __init__(self) -> None:
        self.workers = Workers("zdl-test", "server", 8)
        self.lent: list[Source] = []
        self.ended: list[Source] = []
        self.consumed: list[tuple[str, int, int]] = []

    def production(self, downloadable: Downloadable, bytes_max: int = 100) -> Production:
        maker = Maker(downloadable, packing=PACKING, bytes_max=bytes_max, lend=self.lend)
        return Production(downloadable, "ref:1", "server", maker=maker, submit=self.workers.submit,
                          consumed=lambda *told: self.consumed.append(told))

    def lend(self, manifest: Manifest, lent: Sequence[Lent]) -> tuple[Source, Callable[[], None]]:
        source = Source("server", bytes([len(self.lent)]) * 16, b"s" * 16, manifest.bytes_total)
        self.lent.append(source)
        return source, lambda: self.ended.append(source)


class Asking:
    """One download of one receiver."""

    def __init__(self, production: Production, requester: str = "site-1", token: int = 0) -> None:
        self.production = production
        self.requester = requester
        self.token = bytes([token]) * 16
        self.told: list[tuple[int, Answer | ZdlError]] = []

    def ask(self, number: int, consumed: int = 0, state: State | None = None, *, is_over: bool = False) -> None:
        question = Question(b"o" * 16, b"s" * 16, self.token, number, consumed, state, is_over)
        self.production.ask(self.requester, question, lambda answer: self.told.append((number, answer)))

    def answer(self, number: int, consumed: int = 0, state: State | None = None) -> Any:
        """The pieces of an answer, or the error."""
        before = len(self.told)
        self.ask(number, consumed, state)
        eventually(lambda: len(self.told) > before)
        answer = self.told[-1][1]
        return answer if isinstance(answer, ZdlError) else pieces_in(answer)


def pieces_in(answer: Answer | ZdlError) -> list[Any]:
    assert isinstance(answer, Answer)
    return [(code, data) for code, data, _ in pieces_of(unpack(list(answer.frames), options=PACKING), "server")]


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage()
    yield made
    assert made.workers.close(PATIENCE_S) == []


def test_small_pieces_travel_together_and_the_end_with_the_last(stage: Stage) -> None:
    asking = Asking(stage.production(Numbers(5)))
    assert asking.answer(0) == [("ok", 0), ("ok", 1), ("ok", 2), ("ok", 3), ("ok", 4), ("eof", None)]
    assert asking.answer(1, 1) == [], "the one before was the last"


def test_an_answer_is_full_when_it_has_enough_bytes_and_the_next_is_made_ahead_of_the_asking(stage: Stage) -> None:
    numbers = Numbers(10, size=60)
    asking = Asking(stage.production(numbers, bytes_max=100))
    assert asking.answer(0) == [("ok", b"\0" * 60), ("ok", b"\1" * 60)]
    eventually(lambda: len(numbers.calls) == 4 and not stage.workers.running)
    assert [at for _, at in numbers.calls] == [0, 1, 2, 3], "one answer ahead, and no more"
    assert asking.answer(1, 1) == [("ok", b"\2" * 60), ("ok", b"\3" * 60)]


@pytest.mark.fault("A4")
def test_A4_who_asks_twice_is_told_the_same_and_nothing_is_made_or_counted_twice(stage: Stage) -> None:
    numbers = Numbers(3)
    numbers.let_go.clear()
    asking = Asking(stage.production(numbers))
    asking.ask(0)
    asking.ask(0)
    numbers.let_go.set()
    eventually(lambda: len(asking.told) == 2)
    asking.ask(0)
    assert asking.told[0][1] is asking.told[1][1] is asking.told[2][1]
    assert len(numbers.calls) == 4
    for _ in range(2):
        assert asking.answer(1, 1) == []
    assert [each[2] for each in stage.consumed] == [0, 3]


def test_answers_that_were_consumed_are_forgotten_and_their_leaves_end(stage: Stage) -> None:
    production = stage.production(Numbers(3, size=2 << 20), bytes_max=1)
    asking = Asking(production)
    asking.answer(0)
    eventually(lambda: len(stage.lent) == 2)
    assert stage.ended == []
    asking.answer(1, 1)
    assert stage.ended == stage.lent[:1]
    assert stage.consumed == [("site-1", 0, 0), ("site-1", 2 << 20, 1)], "it has begun, and has consumed"
    assert isinstance(asking.answer(0, 1), OptionError), "it is no more there"
    asking.ask(2, 2, is_over=True)
    eventually(lambda: stage.ended == stage.lent and not stage.workers.running)
    assert isinstance(asking.answer(3, 3), LeaseEnded)


def test_each_receiver_has_its_pieces_in_order_and_is_not_kept_by_another_one(stage: Stage) -> None:
    class Picky(Numbers):
        def produce(self, state: State, requester: str) -> Produced:
            if requester == "slow":
                stuck.wait(PATIENCE_S)
            return super().produce(state, requester)

    stuck = threading.Event()
    production = stage.production(Picky(3))
    slow, quick = Asking(production, "slow"), Asking(production, "quick")
    slow.ask(0)
    assert quick.answer(0)[-1] == ("eof", None)
    assert slow.told == []
    stuck.set()
    eventually(lambda: slow.told)
    assert pieces_in(slow.told[0][1])[-1] == ("eof", None)


def test_a_consumer_with_states_of_its_own_is_given_one_piece_at_a_time_and_nothing_ahead(stage: Stage) -> None:
    numbers = Numbers(9)
    asking = Asking(stage.production(numbers))
    assert asking.answer(0, 0, {}) == [("ok", 0)]
    assert asking.answer(1, 1, {"at": 7}) == [("ok", 7)]
    assert asking.answer(2, 2, {"at": 9}) == [("eof", None)]
    assert [at for _, at in numbers.calls] == [0, 7, 9]


def test_a_producer_that_raises_anything_hurts_nobody_else(stage: Stage) -> None:
    class Worse(Numbers):
        def produce(self, state: State, requester: str) -> Produced:
            if requester == "site-1":
                raise KeyboardInterrupt
            return super().produce(state, requester)

    production = stage.production(Worse(1))
    assert Asking(production).answer(0) == [("error", "KeyboardInterrupt: ")]
    assert Asking(production, "site-2").answer(0) == [("ok", 0), ("eof", None)]


class Chunks(CacheableObject):
    """Three items of 2 MiB."""

    def __init__(self) -> None:
        super().__init__("chunks", 1)
        self.produced: list[int] = []

    def get_item_count(self) -> int:
        return 3

    def produce_item(self, index: int) -> bytes:
        self.produced.append(index)
        return bytes([index]) * (2 << 20)


@pytest.mark.row("D25")
def test_D25_an_answer_that_is_the_same_for_all_is_made_and_lent_once_while_any_of_them_needs_it(stage: Stage) -> None:
    chunks = Chunks()
    production = stage.production(chunks, bytes_max=1)
    chunks.expect_receivers({"site-1", "site-2", "site-3"}, 1)
    all_three = [Asking(production, f"site-{number}") for number in (1, 2, 3)]
    for number in range(3):
        for asking in all_three:
            asking.ask(number, number)
        eventually(lambda: all(len(asking.told) == number + 1 for asking in all_three))
        first = all_three[0].told[-1][1]
        assert all(asking.told[-1][1] is first for asking in all_three)
    assert chunks.produced == [0, 1, 2] and len(stage.lent) == 3
    for asking in all_three:
        assert len(stage.ended) == 2
        asking.ask(3, 3, is_over=True)
    assert stage.ended == stage.lent and chunks.cached_bytes == 0


def test_questions_that_overtake_each_other_are_answered_all_the_same(stage: Stage) -> None:
    asking = Asking(stage.production(Numbers(2, size=60), bytes_max=60))
    asking.ask(1)
    asking.ask(0)
    eventually(lambda: len(asking.told) == 2)
    assert {number: pieces_in(answer) for number, answer in asking.told} == {
        0: [("ok", b"\0" * 60)], 1: [("ok", b"\1" * 60)]}


def test_a_question_that_comes_after_the_end_of_its_download_is_no_beginning(stage: Stage) -> None:
    numbers = Numbers(3)
    asking = Asking(stage.production(numbers))
    asking.ask(0, is_over=True)
    assert isinstance(asking.answer(0), LeaseEnded) and isinstance(asking.answer(1), LeaseEnded)
    assert numbers.calls == []


def test_of_too_many_downloads_of_one_receiver_the_oldest_is_forgotten(stage: Stage) -> None:
    production = stage.production(Numbers(1))
    many = [Asking(production, token=number) for number in range(SERVINGS_MAX + 1)]
    for asking in many:
        asking.answer(0)
    assert isinstance(many[0].answer(1, 1), LeaseEnded)
    assert many[1].answer(1, 1) == []


def test_what_a_receiver_claims_is_checked(stage: Stage) -> None:
    asking = Asking(stage.production(Numbers(1)))
    assert isinstance(Asking(asking.production, token=9).answer(1, 1), LeaseEnded), "it must begin at the beginning"
    asking.answer(0)
    assert isinstance(asking.answer(1, 5), OptionError)
    other = Asking(stage.production(Numbers(1000, size=200)))
    assert other.answer(0) == [("ok", b"\0" * 200)]
    assert isinstance(other.answer(ASKED_MAX + 5), OptionError)
    assert isinstance(other.answer(2, 0, {"at": 1}), OptionError)


@pytest.mark.row("D19")
def test_D19_after_its_end_who_waits_is_told_and_what_runs_is_waited_for(stage: Stage) -> None:
    numbers = Numbers(3)
    numbers.let_go.clear()
    production = stage.production(numbers)
    asking = Asking(production)
    asking.ask(0)
    eventually(lambda: numbers.running == 1)
    ended = LeaseEnded(ref="ref:1", origin="server", how="deleted")
    production.close(ended)
    assert asking.told == [(0, ended)]
    assert asking.answer(0) is ended
    assert not production.wait_drained(0.01)
    numbers.let_go.set()
    assert production.wait_drained(PATIENCE_S)
    assert len(numbers.calls) == 1, "nothing more is produced"


def test_a_receiver_that_is_gone_is_forgotten_with_all_it_was_served(stage: Stage) -> None:
    production = stage.production(Numbers(3, size=2 << 20), bytes_max=1)
    asking = Asking(production)
    asking.answer(0)
    eventually(lambda: len(stage.lent) == 2)
    production.forget("site-1", is_barred=False)
    assert stage.ended == stage.lent
    assert isinstance(asking.answer(1, 1), LeaseEnded)


def test_a_receiver_that_has_expired_gets_nothing_any_more(stage: Stage) -> None:
    production = stage.production(Numbers(3))
    assert not production.has_begun("site-1")
    assert Asking(production).answer(0)[-1] == ("eof", None)
    production.forget("site-1", is_barred=True)
    again = Asking(production, token=1).answer(0)
    assert isinstance(again, LeaseEnded) and again.how == "expired"
    assert production.has_begun("site-1")


def test_the_end_of_one_download_of_a_receiver_touches_no_other_one_of_it(stage: Stage) -> None:
    production = stage.production(Numbers(3))
    done, busy = Asking(production), Asking(production, token=1)
    assert done.answer(0)[-1] == busy.answer(0)[-1] == ("eof", None)
    done.ask(1, 1, is_over=True)
    assert isinstance(done.answer(1, 1), LeaseEnded)
    assert busy.answer(1, 1) == []
    assert [each[2] for each in stage.consumed] == [0, 3, 3]
