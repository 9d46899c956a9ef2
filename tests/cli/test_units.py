from __future__ import annotations

import click
import pytest

from zdl.cli.units import DURATION, SIZE, duration_text, size_text


@pytest.mark.parametrize(("text", "size"), [
    ("1", 1), ("64K", 65536), ("1M", 1 << 20), ("2G", 2 << 30), ("2GiB", 2 << 30), ("1.5m", 3 << 19), (" 1 kb ", 1024),
    ("1T", 1 << 40), (4096, 4096),
])
def test_sizes_are_binary(text: object, size: int) -> None:
    assert SIZE.convert(text, None, None) == size


@pytest.mark.parametrize("text", ["", "0", "-1", "1X", "1.0001K", "K", "1 M M", "0.5", "nan", "1e3", "١K"[1:]])
def test_what_is_no_size_is_told_with_an_example(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a size; write for example 64K, 1M or 2G"):
        SIZE.convert(text, None, None)


@pytest.mark.parametrize(("text", "seconds"), [
    ("250us", 250e-6), ("250ms", 0.25), ("5s", 5.0), ("1.5m", 90.0), ("1h", 3600.0), ("7d", 604800.0), ("0s", 0.0),
    (10, 10.0), (2.5, 2.5),
])
def test_durations(text: object, seconds: float) -> None:
    assert DURATION.convert(text, None, None) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "-1s", "1 week", "s", "1s1s", "inf"])
def test_what_is_no_duration_is_told_with_an_example(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a duration; write for example 250ms, 5s or 1h"):
        DURATION.convert(text, None, None)


def test_a_duration_beyond_the_timers_of_the_system_is_refused() -> None:
    with pytest.raises(click.BadParameter, match="is longer than 3650d; write for example 24h"):
        DURATION.convert("4000d", None, None)


@pytest.mark.parametrize(("count", "text"), [
    (0, "0 B"), (999, "999 B"), (1536, "1.5 KiB"), (1 << 20, "1 MiB"), (15246, "14.9 KiB"), (1000 << 20, "0.977 GiB"),
    (5000 << 30, "5,000 GiB"),
])
def test_sizes_as_people_read_them(count: int, text: str) -> None:
    assert size_text(count) == text


@pytest.mark.parametrize(("seconds", "text"), [
    (0.000271, "271 us"), (0.0009999, "1 ms"), (0.0123, "12.3 ms"), (1.5, "1.5 s"), (90, "90 s"), (600, "10 m"),
    (36000, "10 h"),
])
def test_durations_as_people_read_them(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
