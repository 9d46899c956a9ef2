"""Window: as many bytes in flight as the pipe holds, between two bounds, in chunks that do not block it."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st
from pipe import Pipe

from zdl.protocol.window import CHUNK_S, CHUNKS_LEAST, CHUNKS_TOGETHER, RATES_KEPT, Window

KIB, MIB = 1 << 10, 1 << 20


def as_by_default() -> Window:
    return Window(bytes_min=512 * KIB, bytes_max=64 * MIB, chunk_bytes_min=64 * KIB, chunk_bytes_max=MIB)


def test_a_new_window_is_as_small_as_allowed_and_knows_nothing_of_the_path() -> None:
    window = Window(bytes_min=400, bytes_max=4000)
    assert (window.size, window.in_flight, window.round_trip_s, window.rate) == (400, 0, float("inf"), 0.0)


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
    assert (window.in_flight, window.delivered, window.has_room(200)) == (200, 200, True)
    window.given_up(200)
    assert (window.in_flight, window.delivered) == (0, 200)


def test_the_window_is_twice_what_the_way_holds_and_four_chunks() -> None:
    window = Window(bytes_min=100, bytes_max=10_000, chunk_bytes_min=1, chunk_bytes_max=100)
    marks = [window.asked(1000) for _ in range(4)]
    for mark in marks:  # 4,000 bytes came while the last one was on its way: 4,000 bytes a second
        window.landed(1000, mark=mark, took_s=1.0)
    assert (window.rate, window.round_trip_s) == (4000.0, 1.0)
    assert window.way_s == 0.75, "the chunk itself was on the line for a quarter of a second"
    assert window.size == 2 * 3000 + CHUNKS_LEAST * window.chunk_bytes


def test_the_window_never_leaves_its_bounds() -> None:
    window = Window(bytes_min=100, bytes_max=1500)
    for _ in range(2):
        window.landed(10_000, mark=window.asked(10_000), took_s=1.0 if window.rate else 100.0)
    window.landed(1, mark=window.asked(1), took_s=0.5)
    assert window.size <= 1500
    for _ in range(RATES_KEPT):
        window.landed(1, mark=window.asked(1), took_s=1.0)
    assert window.size == 100
    window.check()


def test_the_least_round_trip_counts_until_the_way_is_another() -> None:
    window = Window(bytes_min=100, bytes_max=10_000)
    for took_s in (3.0, 0.5, 2.0):
        window.landed(100, mark=window.asked(100), took_s=took_s)
    assert window.round_trip_s == 0.5
    window.forget_path()
    assert (window.round_trip_s, window.rate) == (float("inf"), 0.0)
    window.landed(100, mark=window.asked(100), took_s=2.0)
    assert window.round_trip_s == 2.0


def test_a_chunk_that_took_no_time_is_no_sample() -> None:
    window = Window(bytes_min=100, bytes_max=10_000)
    window.landed(1000, mark=window.asked(1000), took_s=0.0)
    assert (window.size, window.in_flight, window.round_trip_s) == (100, 0, float("inf"))


@pytest.mark.parametrize(("rate", "chunk_bytes"), [
    (1e3, 64 * KIB), (5e6, 64 * KIB), (14e6, 128 * KIB), (1e8, 512 * KIB), (1.2e8, MIB), (5e9, MIB)])
def test_a_chunk_is_what_the_path_carries_in_ten_milliseconds(rate: float, chunk_bytes: int) -> None:
    window = as_by_default()
    for _ in range(RATES_KEPT):
        window.landed(64 * KIB, mark=window.asked(64 * KIB), took_s=64 * KIB / rate)
    assert window.chunk_bytes == chunk_bytes
    assert chunk_bytes in (64 * KIB, MIB) or chunk_bytes <= rate * CHUNK_S < 2 * chunk_bytes


def test_two_chunks_are_on_their_way_at_first_or_as_many_as_fit() -> None:
    assert as_by_default().chunk_bytes == 256 * KIB
    assert Window(bytes_min=300, bytes_max=900, chunk_bytes_min=64 * KIB, chunk_bytes_max=100).chunk_bytes == 100


def test_chunks_of_all_sizes_end_at_multiples_of_their_size() -> None:
    window = as_by_default()
    assert [window.cut(10 * MIB, since=since) for since in (0, 256 * KIB)] == [256 * KIB, 256 * KIB]
    window.landed(64 * KIB, mark=window.asked(64 * KIB), took_s=1e-5)
    assert [window.cut(10 * MIB, since=since) for since in (0, 768 * KIB, 3 * MIB)] == [MIB, 256 * KIB, MIB]
    assert window.cut(1000, since=0) == 1000


# --- on a path ------------------------------------------------------------------------------------


@pytest.mark.row("D21")
@pytest.mark.parametrize("rate", [1e6, 1e7, 1.19e8, 1e9])
@pytest.mark.parametrize("way_s", [0.0001, 0.02, 0.1])
def test_on_any_path_the_pipe_is_full_and_little_waits_in_its_buffers_once_it_is_known(rate: float, way_s: float) -> None:
    pipe = Pipe(as_by_default(), rate=rate, way_s=way_s)
    pipe.run(60 * way_s + 4 * MIB / rate)  # a few dozens of round trips
    began, delivered = pipe.now, pipe.window.delivered
    pipe.run(20 * way_s + 8 * MIB / rate)
    holds = rate * way_s
    assert (pipe.window.delivered - delivered) / (pipe.now - began) >= min(0.95, 0.95 * 64 * MIB / holds) * rate
    chunk_bytes = pipe.window.chunk_bytes
    least = max(512 * KIB, CHUNKS_LEAST * chunk_bytes, min(rate * CHUNK_S, CHUNKS_TOGETHER * chunk_bytes))
    assert pipe.window.in_flight <= min(64 * MIB, 2.2 * holds + 1.1 * least)


def test_while_the_window_is_the_brake_it_doubles_with_every_round_trip() -> None:
    pipe = Pipe(as_by_default(), rate=1.19e8, way_s=0.1)
    pipe.run(0.9)
    assert pipe.window.size >= 1.19e8 * 0.1


def test_a_request_beside_a_pull_on_a_slow_line_waits_for_less_than_a_tenth_of_a_second() -> None:
    pipe = Pipe(as_by_default(), rate=1e7, way_s=0.001)
    waits = []
    for _ in range(200):
        pipe.run(0.05)
        waits.append(pipe.queued_s)
    assert max(waits) < 0.1


def test_a_path_that_becomes_slower_or_quicker_is_followed() -> None:
    pipe = Pipe(as_by_default(), rate=1.19e8, way_s=0.02)
    pipe.run(2.0)
    fast = pipe.window.size
    pipe.rate = 1e7
    pipe.run(5.0)
    assert pipe.window.size <= fast / 5
    pipe.rate = 1.19e8
    pipe.run(2.0)
    assert pipe.window.size >= 0.8 * fast


def test_where_the_receiver_is_the_brake_the_window_shrinks_to_what_he_needs() -> None:
    pipe = Pipe(as_by_default(), rate=1e9, way_s=0.05)
    pipe.run(3.0)
    assert pipe.window.size >= 50 * MIB
    pipe.stores_per_s = 2e7
    pipe.run(20.0)
    assert pipe.window.size <= 8 * MIB


@given(st.lists(st.tuples(
    st.sampled_from(["ask", "land", "give up", "other way"]), st.integers(1, 1 << 23), st.floats(-1.0, 100.0))))
def test_whatever_happens_the_window_keeps_its_invariants(steps: list[tuple[str, int, float]]) -> None:
    window = as_by_default()
    flying: list[tuple[int, int]] = []
    for what, length, took_s in steps:
        if what == "ask" and window.has_room(length):
            flying.append((length, window.asked(length)))
        elif what == "land" and flying:
            landed, mark = flying.pop(0)
            window.landed(landed, mark=mark, took_s=took_s)
        elif what == "other way":
            window.forget_path()
        elif flying:
            window.given_up(flying.pop()[0])
        window.check()
        assert window.in_flight == sum(each for each, _ in flying)


def test_several_chunks_are_asked_for_together_when_there_is_room_for_a_quarter_of_the_window() -> None:
    window = Window(bytes_min=8 * MIB, bytes_max=8 * MIB, chunk_bytes_max=MIB)
    marks = [window.asked(MIB) for _ in range(8)]
    window.landed(MIB, mark=marks[0], took_s=0.0)
    assert window.has_room(MIB) and not window.has_room_for_several(0)
    window.landed(MIB, mark=marks[1], took_s=0.0)
    assert window.has_room_for_several(0) and not window.has_room_for_several(1)


def test_a_window_of_few_chunks_has_room_for_several_when_it_has_for_one() -> None:
    window = Window(bytes_min=4 * MIB, bytes_max=4 * MIB, chunk_bytes_max=MIB)
    marks = [window.asked(MIB) for _ in range(4)]
    assert not window.has_room_for_several(0)
    window.landed(MIB, mark=marks[0], took_s=0.0)
    assert window.has_room_for_several(0)
