"""Answers: each target once, as they come, or by name; and what is known of a notice."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from zdl.cell.answers import Answers, Notices, Settlement
from zdl.cell.messages import Answer, Reply
from zdl.errors import Busy, Closed, NoRoute, ZdlError
from zdl.options import PackOptions
from zdl.protocol import messages as wire

from waiting import PATIENCE_S, eventually

NO = NoRoute(target="b", at="server")


def came(target: str) -> wire.Reply:
    return wire.Reply(target, "server", 1, "", {}, {}, (target.encode(),))


class Led:
    """A lane that somebody else leads."""

    def take(self, is_done: Callable[[], bool]) -> bool:
        return False

    def sleep_on(self, wait: Callable[[float], bool], slice_s: float) -> bool:
        return wait(slice_s)


class Asked:
    """Answers, and what was done for them."""

    def __init__(self, *targets: str) -> None:
        self.made: list[str] = []
        self.ended: list[dict[str, Settlement]] = []
        self.cancelled: list[tuple[str, str]] = []
        self.is_alive = True
        self.answers = Answers("server", targets, Led(), lambda: self.is_alive, finish=self._finish)
        for target in targets:
            self.answers.began(target, lambda why, target=target: self.cancelled.append((target, why)))  # type: ignore[misc]
        self.answers.when_ended(lambda settled: self.ended.append(dict(settled)))

    def _finish(self, target: str, settlement: Settlement) -> Answer:
        self.made.append(target)
        reply, error = settlement
        made = None if reply is None else Reply.of_body(target, reply.body, {}, PackOptions())
        return Answer(target, made, error)


def test_answers_are_a_mapping_in_the_order_of_the_targets() -> None:
    asked = Asked("a", "b", "c")
    asked.answers.settle("c", came("c"), None)
    asked.answers.settle("b", None, NO)
    assert asked.ended == []
    asked.answers.settle("a", came("a"), None)
    assert (list(asked.answers), len(asked.answers)) == (["a", "b", "c"], 3)
    assert "b" in asked.answers and "d" not in asked.answers
    assert [each.target for each in asked.answers.values()] == ["a", "b", "c"]
    assert asked.answers["b"].error is NO and asked.answers["a"].body == (b"a",)
    with pytest.raises(KeyError):
        asked.answers["d"]
    assert repr(asked.answers) == "<Answers of 3 of 3 targets>"


def test_each_answer_is_made_once_whoever_looks_and_how_often() -> None:
    asked = Asked("a", "b")
    asked.answers.settle("a", came("a"), None)
    asked.answers.settle("b", came("b"), None)
    seen: list[Answer] = []
    threads = [threading.Thread(target=lambda: seen.extend(asked.answers.values())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(asked.made) == ["a", "b"]
    assert len({id(each) for each in seen}) == 2
    assert dict(asked.answers) == asked.answers


def test_answers_come_as_they_are_completed_while_others_are_out() -> None:
    asked = Asked("a", "b", "c")
    coming = asked.answers.as_completed()
    asked.answers.settle("b", None, NO)
    assert next(coming) == Answer("b", None, NO)
    asked.answers.settle("c", came("c"), None)
    assert next(coming).target == "c"
    assert asked.ended == []
    threading.Thread(target=lambda: asked.answers.settle("a", came("a"), None)).start()
    assert [each.target for each in coming] == ["a"]
    assert [each.target for each in asked.answers.as_completed()] == ["b", "c", "a"], "as often as it is asked"
    assert len(asked.ended) == 1


def test_only_the_first_that_comes_for_a_target_counts() -> None:
    asked = Asked("a")
    asked.answers.settle("a", came("a"), None)
    asked.answers.settle("a", None, NO)
    assert asked.answers["a"].is_ok
    assert len(asked.ended) == 1


def test_who_loses_interest_cancels_what_is_still_out() -> None:
    asked = Asked("a", "b", "c")
    asked.answers.settle("b", came("b"), None)
    asked.answers.cancel("enough")
    assert asked.cancelled == [("a", "enough"), ("c", "enough")]


def test_who_is_told_gets_each_answer_once_and_what_is_slow_is_made_on_the_pool() -> None:
    asked, told = Asked("a", "b", "c", "d"), list[Answer]()
    jobs: list[Callable[[], None]] = []
    asked.answers.preset(Answer("a", None, NO))
    asked.answers.settle("b", came("b"), None)
    asked.answers.on_answer(told.append, is_slow=lambda settlement: settlement[0] is not None, submit=jobs.append)
    asked.answers.settle("c", None, NO)
    assert [each.target for each in told] == ["a", "c"] and len(jobs) == 1
    jobs.pop()()
    asked.answers.settle("d", came("d"), None)
    jobs.pop()()
    assert [each.target for each in told] == ["a", "c", "b", "d"]
    assert asked.made == ["c", "b", "d"] and len(asked.ended) == 1


def test_an_answer_for_which_the_pool_has_no_room_says_so() -> None:
    asked, told = Asked("a"), list[Answer]()
    busy = Busy(limit="handler_queue_max", value=1, at="server")

    def refuse(job: Callable[[], None]) -> None:
        raise busy

    asked.answers.on_answer(told.append, is_slow=lambda settlement: True, submit=refuse)
    asked.answers.settle("a", came("a"), None)
    assert told == [Answer("a", None, busy)] and asked.answers["a"] == told[0]


def test_a_target_that_was_not_asked_has_its_answer_at_once() -> None:
    asked = Asked("a", "b")
    given = Answer("a", None, NO)
    asked.answers.preset(given)
    assert asked.answers["a"] is given
    assert asked.made == []


def test_answers_of_nobody_have_ended() -> None:
    asked = Asked()
    assert asked.ended == [{}]
    assert asked.answers == {}
    assert list(asked.answers.as_completed()) == []


def test_when_the_cell_is_closed_what_is_missing_is_closed() -> None:
    asked = Asked("a", "b")
    asked.answers.settle("a", came("a"), None)
    asked.is_alive = False
    assert isinstance(asked.answers["b"].error, Closed)
    assert asked.answers["a"].is_ok


def test_who_is_interrupted_while_making_an_answer_leaves_it_to_the_next() -> None:
    asked = Asked("a")
    finish, calls = asked.answers._finish, []

    def interrupted(target: str, settlement: Settlement) -> Answer:
        calls.append(target)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return finish(target, settlement)

    asked.answers._finish = interrupted  # type: ignore[method-assign]
    asked.answers.settle("a", came("a"), None)
    with pytest.raises(KeyboardInterrupt):
        asked.answers["a"]
    assert asked.answers["a"].is_ok


# --- notices ------------------------------------------------------------------------------------

def test_a_notice_knows_where_it_failed_and_when_all_are_on_their_way() -> None:
    told: list[tuple[str, ZdlError]] = []
    notices = Notices(["a", "b"], lambda target, error: told.append((target, error)))
    assert notices.errors == {}
    waiting: list[dict[str, ZdlError]] = []
    thread = threading.Thread(target=lambda: waiting.append(notices.wait_handed(PATIENCE_S)))
    thread.start()
    notices.failed("b", NO)
    notices.handed("b")
    assert not waiting
    notices.handed("a")
    eventually(lambda: waiting)
    thread.join()
    assert waiting == [{"b": NO}] == [notices.errors]
    assert told == [("b", NO)]
    assert repr(notices) == "<Notices to 2 targets, 1 failed>"


def test_the_first_reason_counts_and_is_told_once() -> None:
    told: list[str] = []
    notices = Notices(["a"], lambda target, error: told.append(target))
    notices.failed("a", NO)
    notices.failed("a", Closed(fqcn="a"))
    assert (notices.errors, told) == ({"a": NO}, ["a"])
