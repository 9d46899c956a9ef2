"""Small requests: what is timed and what is counted."""

from __future__ import annotations

from zdl_bench.exchange import counted, timed


def test_every_exchange_is_done_and_percentiles_are_in_order() -> None:
    done: list[int] = []
    seen = timed(lambda: done.append(1), count=100)
    assert len(done) == 100
    assert 0 < seen["p50_us"] <= seen["p99_us"]


def test_no_more_than_asked_are_in_flight_and_all_are_answered() -> None:
    waiting = answered = most = 0

    def send() -> None:
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)

    def receive() -> int:
        nonlocal waiting, answered
        came = min(waiting, 3)
        waiting -= came
        answered += came
        return came

    seen = counted(send, receive, count=50, in_flight=8)
    assert (most, waiting, answered) == (8, 0, 50)
    assert seen["requests_per_s"] > 0
