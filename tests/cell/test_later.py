"""Promises: kept once, bounded, ended with the cell, and never dropped in silence."""

from __future__ import annotations

import threading

import pytest

from zdl.cell.later import DROPPED, Later, Promises
from zdl.errors import Busy, Closed, RemoteError, ZdlError
from zdl.protocol.messages import Request

from waiting import eventually


def request(number: int = 7) -> Request:
    return Request("site-1", "server", number, "task", "run", 5.0, {})


class Desk:
    """Writes down what is answered."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, object]] = []
        self.promises = Promises("server", 2, self)

    def reply_late(self, message: Request, body: object) -> bool:
        is_open = self.promises.take(message.origin, message.id)
        if is_open:
            self.answers.append((message.id, body))
        return is_open

    def fail_late(self, message: Request, error: Exception) -> bool:
        return self.reply_late(message, error)

    def close(self) -> list[tuple[int, ZdlError]]:
        told: list[tuple[int, ZdlError]] = []
        self.promises.close(lambda message, error: told.append((message.id, error)))
        return told


def test_a_promise_is_kept_once() -> None:
    desk = Desk()
    later = desk.promises.make(request())
    assert later.is_wanted and len(desk.promises) == 1
    assert later.reply("x") and not later.reply("y") and not later.fail(ValueError())
    assert desk.answers == [(7, "x")] and repr(later) == "<Later task/run for site-1: over>"
    assert desk.close() == []


def test_a_promise_belongs_to_its_request() -> None:
    desk, message = Desk(), request()
    later = desk.promises.make(message)
    assert later.is_for(message) and not later.is_for(request())
    later.reply()
    desk.close()


def test_promises_are_bounded_and_end_with_the_cell() -> None:
    desk = Desk()
    kept = [desk.promises.make(request(number)) for number in (1, 2)]
    with pytest.raises(Busy) as caught:
        desk.promises.make(request(3))
    assert (caught.value.limit, caught.value.value) == ("late_answers_max", 2)
    told = desk.close()
    assert [(number, type(error)) for number, error in told] == [(1, Closed), (2, Closed)]
    assert not any(later.reply() for later in kept)
    with pytest.raises(Closed):
        desk.promises.make(request(4))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("zdl-late")]


def test_a_promise_that_nobody_holds_is_answered_with_an_error_and_a_warning() -> None:
    desk = Desk()
    later: list[Later] = [desk.promises.make(request())]
    with pytest.warns(ResourceWarning, match="Later task/run for site-1: open> was dropped without an answer"):
        later.clear()
    eventually(lambda: desk.answers)
    ((number, error),) = desk.answers
    assert number == 7 and isinstance(error, RemoteError) and error.kind == DROPPED
    desk.close()


def test_a_promise_that_is_over_may_be_dropped() -> None:
    desk = Desk()
    later: list[Later] = [desk.promises.make(request())]
    assert desk.promises.take("site-1", 7) and not desk.promises.take("site-1", 7)
    later.clear()
    assert desk.close() == [] and desk.answers == []
