"""Patience: how long somebody waits, what renews it, and what ends it."""

from __future__ import annotations

import threading

import pytest

from zdl.cell.signal import Signal
from zdl.download.patience import LEAST_S, Limits, Patience
from zdl.errors import Cancelled, TimedOut
from zdl.refs import Source

SOURCE = Source("server", bytes(16), bytes(16), 100)


def test_without_a_bound_it_is_never_late() -> None:
    patience = Patience(SOURCE, Limits())
    assert patience.left_s() is None
    patience.check()
    assert patience.pauses(0.0)


def test_what_is_over_is_told_with_the_time_that_was_waited() -> None:
    patience = Patience(SOURCE, Limits(timeout_s=0.0))
    assert patience.left_s() == LEAST_S
    assert not patience.pauses(1000.0), "it does not wait longer than it has"
    with pytest.raises(TimedOut) as caught:
        patience.check()
    assert caught.value.address == "server" and caught.value.waited_s >= 0


def test_bytes_on_their_way_renew_it_where_that_counts() -> None:
    for renew_s, left_s in ((1000.0, 999.0), (None, 0.0)):
        patience = Patience(SOURCE, Limits(timeout_s=0.0, renew_s=renew_s))
        patience.moved(10)
        assert (patience.left_s() or 0) >= left_s
        if renew_s is None:
            with pytest.raises(TimedOut):
                patience.check()
        else:
            patience.check()


def test_a_signal_ends_it_and_ends_a_pause() -> None:
    abort = Signal()
    patience = Patience(SOURCE, Limits(abort=abort))
    patience.check()
    threading.Thread(target=abort.trigger, args=("enough",)).start()
    assert not patience.pauses(1000.0)
    with pytest.raises(Cancelled, match="triggered with 'enough'"):
        patience.check()
    assert patience.abort is abort


def test_what_is_told_of_progress_is_heard_and_what_that_raises_ends_it() -> None:
    heard: list[int] = []

    def tell(done: int) -> None:
        heard.append(done)
        if done > 5:
            raise OSError("no room")

    patience = Patience(SOURCE, Limits(), tell)
    patience.moved(5)
    patience.check()
    patience.moved(6)
    assert heard == [5, 6]
    with pytest.raises(Cancelled, match="progress callback raised OSError: no room"):
        patience.check()
