"""Retries: what may pass is tried again after longer and longer pauses, so often and no more; what cannot is not."""

from __future__ import annotations

import pytest

from zdl.download.retries import BACK_OFF_MAX_S, BACK_OFF_S, MAY_PASS, Retries
from zdl.errors import LeaseEnded, OriginFailed, TimedOut, UnknownRef

LATE = TimedOut(what="an answer", address="server", waited_s=1.0)


@pytest.mark.row("D7")
def test_pauses_double_up_to_a_limit_and_the_tries_end_as_configured() -> None:
    retries = Retries(7)
    pauses = [retries.failed(LATE) for _ in range(7)]
    assert pauses == [BACK_OFF_S, 0.5, 1.0, 2.0, 4.0, 8.0, BACK_OFF_MAX_S] and retries.failed(LATE) is None


def test_without_retries_nothing_is_tried_again() -> None:
    assert Retries(0).failed(LATE) is None


@pytest.mark.parametrize("error", [UnknownRef(ref="a", origin="b"), LeaseEnded(ref="a", origin="b", how="deleted"),
                                   OriginFailed(ref="a", origin="b", why="c"), ValueError("of the consumer")])
def test_what_no_other_try_can_mend_is_not_tried_again(error: Exception) -> None:
    assert not isinstance(error, MAY_PASS) and Retries(3).failed(error) is None
