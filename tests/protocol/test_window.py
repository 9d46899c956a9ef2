"""Window: as many bytes in flight as the pipe holds, between two bounds."""

from __future__ import annotations

from hypothesis import given, strategies as st

from zdl.protocol.window import RATES_KEPT, Window


def test_a_new_window_is_as_small_as_allowed_and_knows_no_round_trip() -> None:
    window = Window(bytes_min=400, bytes_max=4000)
    assert (window.size, window.in_flight, window.round_trip_s) == (400, 0, float("inf"))


def test_there_is_room_until_the_window_is_full() -> None:
    window = Window(bytes_min=400, bytes_max=4000)
    for _ in range(4):
        assert window.has_room(100)
        window.asked(100)
    assert not window.has_room(1)


def test_one_chunk_may_always_be_asked_for_when_nothing_is_in_flight() -> None:
    window = Window(bytes_min=400, bytes_max=4000)
    assert window.has_room(5000)
    window.asked(5000)
    assert not window.has_room(1)


def test_what_lands_or_is_given_up_makes_room() -> None:
    window = Window(bytes_min=400, bytes_max=4000)
    marks = [window.asked(200), window.asked(200)]
    window.landed(200, mark=marks[0], took_s=1.0)
    assert (window.in_flight, window.has_room(200)) == (200, True)
    window.given_up(200)
    assert window.in_flight == 0


def test_the_window_grows_to_twice_rate_times_round_trip() -> None:
    window = Window(bytes_min=100, bytes_max=10_000)
    marks = [window.asked(1000) for _ in range(4)]
    for mark in marks:  # 4,000 bytes came while the last one was on its way: 4,000 bytes a second
        window.landed(1000, mark=mark, took_s=1.0)
    assert window.round_trip_s == 1.0
    assert window.size == 8000


def test_the_window_never_leaves_its_bounds() -> None:
    window = Window(bytes_min=100, bytes_max=1500)
    window.landed(10_000, mark=window.asked(10_000), took_s=1.0)
    assert window.size == 1500
    for _ in range(RATES_KEPT):
        window.landed(1, mark=window.asked(1), took_s=1.0)
    assert window.size == 100
    window.check()


def test_the_least_round_trip_counts() -> None:
    window = Window(bytes_min=100, bytes_max=10_000)
    for took_s in (3.0, 0.5, 2.0):
        window.landed(100, mark=window.asked(100), took_s=took_s)
    assert window.round_trip_s == 0.5


def test_a_chunk_that_took_no_time_is_no_sample() -> None:
    window = Window(bytes_min=100, bytes_max=10_000)
    window.landed(1000, mark=window.asked(1000), took_s=0.0)
    assert (window.size, window.in_flight, window.round_trip_s) == (100, 0, float("inf"))


@given(st.lists(st.tuples(
    st.sampled_from(["ask", "land", "give up"]), st.integers(1, 1 << 23), st.floats(-1.0, 100.0))))
def test_whatever_happens_the_window_keeps_its_invariants(steps: list[tuple[str, int, float]]) -> None:
    window = Window(bytes_min=1 << 20, bytes_max=1 << 26)
    flying: list[tuple[int, int]] = []
    for what, length, took_s in steps:
        if what == "ask" and window.has_room(length):
            flying.append((length, window.asked(length)))
        elif what == "land" and flying:
            landed, mark = flying.pop(0)
            window.landed(landed, mark=mark, took_s=took_s)
        elif flying:
            window.given_up(flying.pop()[0])
        window.check()
        assert window.in_flight == sum(each for each, _ in flying)
