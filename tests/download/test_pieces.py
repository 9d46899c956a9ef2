"""Pieces: what a receiver and an origin say to each other: accepted, or refused with a documented error."""

from __future__ import annotations

import pytest

from zdl.download.pieces import NUMBER_MAX, Question, error_answer, frames_of, pieces_of
from zdl.errors import DecodeError, LeaseEnded

QUESTION = Question(b"o" * 16, b"s" * 16, b"t" * 16, 3, 2, None)


def test_a_question_comes_as_it_was_sent() -> None:
    assert Question.of(QUESTION.plain()) == QUESTION
    own = Question(b"o" * 16, b"s" * 16, b"t" * 16, 0, 0, {"at": 5}, is_over=True)
    assert Question.of(own.plain()) == own
    assert (QUESTION.is_chained, own.is_chained) == (True, False)
    assert "ssss" not in repr(QUESTION), "a secret is never shown"


@pytest.mark.parametrize(("name", "value"), [
    ("offer", b"short"), ("offer", "o" * 16), ("secret", None), ("token", b"t" * 17), ("number", -1), ("number", True),
    ("number", NUMBER_MAX + 1), ("consumed", 0.5), ("state", [1])])
def test_a_question_that_is_none_is_refused_and_names_what(name: str, value: object) -> None:
    with pytest.raises(DecodeError, match=name):
        Question.of({**QUESTION.plain(), name: value})


def test_a_question_must_be_a_map() -> None:
    with pytest.raises(DecodeError, match="is a map, not list"):
        Question.of([QUESTION.offer_id])


def test_an_answer_is_frames_or_an_error() -> None:
    assert frames_of([None, b"skeleton"], "server") == (None, [b"skeleton"])
    assert frames_of([b"o" * 16, b"skeleton", b"leaf"], "server") == (b"o" * 16, [b"skeleton", b"leaf"])
    with pytest.raises(LeaseEnded, match="no longer lent: expired"):
        frames_of(error_answer(LeaseEnded(ref="ref:1", origin="server", how="expired")), "server")


@pytest.mark.parametrize("answer", [None, [], [None], [None, "text"], [b"short", b"skeleton"], {"error": 1}, {}])
def test_an_answer_that_is_none_is_refused(answer: object) -> None:
    with pytest.raises(DecodeError, match="server"):
        frames_of(answer, "server")


def test_pieces_have_a_code_data_and_a_state() -> None:
    assert pieces_of([["ok", 1, {}], ["eof", None, {}]], "server") == [("ok", 1, {}), ("eof", None, {})]
    for bad in (None, [1], [["ok", 1]], [["ok", 1, None]], [["fine", 1, {}]], [[[], 1, {}]]):
        with pytest.raises(DecodeError, match="server"):
            pieces_of(bad, "server")
