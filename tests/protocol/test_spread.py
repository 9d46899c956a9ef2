"""Spread: further connections where they help, and nowhere else."""

from __future__ import annotations

import pytest
from pipe import Pipe

from zdl.protocol.spread import AUTO_MAX, Spread
from zdl.protocol.window import Window

KIB, MIB = 1 << 10, 1 << 20
GBIT = 1.19e8


def window() -> Window:
    return Window(bytes_min=512 * KIB, bytes_max=64 * MIB, chunk_bytes_min=64 * KIB, chunk_bytes_max=MIB)


def spread_on(pipe: Pipe, spread: Spread, seconds: float) -> list[int]:
    """The counts that it went through, each connection of the pipe holding 2 MiB."""
    counts = [spread.count]
    while pipe.now < seconds:
        pipe.limit = spread.count * 2 * MIB / (pipe.way_s or 1e-9)
        pipe.run(0.01)
        if spread.look(pipe.window, pipe.now):
            counts.append(spread.count)
    return counts


@pytest.mark.row("D21")
@pytest.mark.parametrize(("way_s", "share"), [(0.05, 0.9), (0.1, 0.9), (0.2, 0.6)])
def test_where_one_connection_cannot_fill_a_long_line_more_of_them_do(way_s: float, share: float) -> None:
    pipe, spread = Pipe(window(), rate=GBIT, way_s=way_s), Spread(None)
    counts = spread_on(pipe, spread, 30.0)
    assert spread.count >= 4 or counts == [1, 2, 4, 8]
    delivered = pipe.window.delivered
    spread_on(pipe, spread, 40.0)
    assert (pipe.window.delivered - delivered) / 10.0 >= share * GBIT


@pytest.mark.parametrize(("rate", "way_s"), [(5e9, 0.0001), (1.2e9, 0.0005), (1e7, 0.001), (1e6, 0.02), (GBIT, 0.002)])
def test_where_the_way_is_short_or_holds_little_there_is_only_one(rate: float, way_s: float) -> None:
    assert spread_on(Pipe(window(), rate=rate, way_s=way_s), Spread(None), 5.0 if rate < 1e9 else 1.0) == [1]


def test_where_more_do_not_help_they_are_taken_away_and_tried_more_and_more_rarely() -> None:
    pipe = Pipe(window(), rate=2e7, way_s=0.05)  # one connection fills this line
    counts = spread_on(pipe, Spread(None), 60.0)
    assert set(counts) == {1, 2} and counts[-1] == 1 and 3 <= len(counts) <= 13


def test_a_fixed_number_is_not_changed() -> None:
    pipe, spread = Pipe(window(), rate=GBIT, way_s=0.1), Spread(3)
    assert spread_on(pipe, spread, 10.0) == [3]
    spread.forget_path()
    assert spread.count == 3


def test_another_way_begins_anew() -> None:
    spread = Spread(None, begins_with=4)
    assert spread.count == 4 <= AUTO_MAX
    spread.forget_path()
    assert spread.count == 1
