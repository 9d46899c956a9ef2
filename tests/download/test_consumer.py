"""Consumers alone: items as they come, and what is left after a failure."""

from __future__ import annotations

from typing import Any

import pytest

from zdl.download.consumer import ItemConsumer, Pieces


class Joined(ItemConsumer):
    """All items as one bytes object."""

    def consume_items(self, items: list[Any], result: Any) -> Any:
        return (result or b"") + b"".join(items)

    def empty_result(self) -> Any:
        return b""


def test_items_are_taken_in_with_the_result_so_far_and_the_state_is_returned_as_it_was() -> None:
    joined = Joined()
    state = {"start": 0, "count": 2}
    assert joined.consume("ref", state, [b"a", b"b"]) is state
    joined.consume("ref", {"start": 2, "count": 1}, [b"c"])
    joined.download_completed("ref")
    assert (joined.result, joined.error, joined.supports_pipelining) == (b"abc", "", True)


@pytest.mark.row("O4")
def test_O4_no_items_give_an_empty_result() -> None:
    joined = Joined()
    joined.download_completed("ref")
    assert (joined.result, joined.error) == (b"", "")


@pytest.mark.row("O4")
def test_O4_a_failure_leaves_no_half_result_but_a_reason() -> None:
    joined = Joined()
    joined.consume("ref", {}, [b"a"])
    joined.download_failed("ref", "the origin was lost")
    assert (joined.result, joined.error) == (None, "the origin was lost")


def test_what_is_no_list_of_items_is_refused() -> None:
    with pytest.raises(TypeError, match="must be a list of items, not a dict"):
        Joined().consume("ref", {}, {"a": 1})


def test_pieces_are_kept_until_it_fails() -> None:
    pieces = Pieces()
    pieces.consume("ref", {}, 1)
    pieces.consume("ref", {}, [2])
    pieces.download_completed("ref")
    assert pieces.pieces == [1, [2]]
    pieces.download_failed("ref", "late")
    assert pieces.pieces == []
