"""Options: the one source of numbers; a value that cannot work is refused when it is made."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
from hypothesis import given, strategies as st

from zdl.errors import OptionError
from zdl.options import (
    CHUNK_BYTES_MAX,
    FRAME_BYTES_MAX,
    HEARTBEAT_MAX_S,
    CallOptions,
    DiskOptions,
    LinkOptions,
    OfferOptions,
    Options,
    PackOptions,
    PullOptions,
)

CLASSES: tuple[type[Any], ...] = (LinkOptions, CallOptions, PackOptions, PullOptions, OfferOptions, DiskOptions, Options)
GROUPS = CLASSES[:-1]
NUMBERS = [(cls, field.name) for cls in CLASSES for field in dataclasses.fields(cls) if field.type in ("int", "float")]


def test_the_defaults_are_allowed() -> None:
    for cls in CLASSES:
        cls()
    options = Options()
    assert [type(getattr(options, name)) for name in ("links", "calls", "packing", "pulls", "offers", "disk")] == list(GROUPS)


@pytest.mark.parametrize("cls", CLASSES)
def test_options_are_frozen_and_every_one_is_described(cls: type[Any]) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(cls(), dataclasses.fields(cls)[0].name, 1)
    described = re.findall(r"^ {8}(\w+):", cls.__doc__ or "", re.MULTILINE)
    assert described == [field.name for field in dataclasses.fields(cls)]


@pytest.mark.parametrize(("cls", "name"), NUMBERS, ids=lambda each: getattr(each, "__name__", each))
def test_a_number_that_is_not_above_zero_is_refused_by_name(cls: type[Any], name: str) -> None:
    for value in (0, -1, float("nan")):
        with pytest.raises(OptionError) as caught:
            cls(**{name: value})
        assert (caught.value.name, caught.value.allowed) == (name, "a number above 0")


def test_the_unit_is_last_in_every_name() -> None:
    units = ("_s", "_beats", "_max", "_bytes", "_min", "_count", "_share")
    assert [name for _, name in NUMBERS if not name.endswith(units)] == []


@pytest.mark.parametrize(("cls", "values", "name"), [
    (LinkOptions, {"dead_beats": 3.5}, "dead_beats"), (LinkOptions, {"suspect_beats": 3.0}, "dead_beats"),
    (LinkOptions, {"suspect_beats": 4.0}, "dead_beats"), (LinkOptions, {"heartbeat_s": 60.1}, "heartbeat_s"),
    (LinkOptions, {"spin_s": 0.011}, "spin_s"),
    (PackOptions, {"inline_bytes_max": 2, "beside_bytes_max": 1}, "beside_bytes_max"),
    (PullOptions, {"chunk_bytes": CHUNK_BYTES_MAX + 1, "window_bytes_min": 1 << 30, "window_bytes_max": 1 << 30},
     "chunk_bytes"),
    (PullOptions, {"lanes": 17}, "lanes"), (PullOptions, {"lanes": "many"}, "lanes"),
    (PullOptions, {"verify": "md5"}, "verify"), (PullOptions, {"verify": ""}, "verify"),
    (PullOptions, {"window_bytes_min": 1}, "window_bytes_min"),
    (PullOptions, {"window_bytes_max": 1}, "window_bytes_min"),
    (PullOptions, {"chunk_bytes": 2 << 20, "window_bytes_max": 1 << 20}, "window_bytes_max")])
def test_numbers_that_do_not_fit_together_are_refused(cls: type[Any], values: dict[str, object], name: str) -> None:
    with pytest.raises(OptionError) as caught:
        cls(**values)
    assert caught.value.name == name
    assert caught.value.allowed


def test_limits_may_just_be_reached() -> None:
    LinkOptions(dead_beats=3.4)
    LinkOptions(heartbeat_s=HEARTBEAT_MAX_S)
    PullOptions(chunk_bytes=CHUNK_BYTES_MAX, window_bytes_min=CHUNK_BYTES_MAX, window_bytes_max=CHUNK_BYTES_MAX)
    PullOptions(verify="none")
    PackOptions(inline_bytes_max=7, beside_bytes_max=7)
    assert CHUNK_BYTES_MAX < FRAME_BYTES_MAX


def test_times_that_depend_on_each_other_do() -> None:
    options = Options()
    known_after_s = options.links.heartbeat_s * (options.links.dead_beats + 0.25)
    assert known_after_s <= 3.5 * options.links.heartbeat_s, "a death is known in time"
    assert options.offers.lost_grace_s < 3.5 * options.links.heartbeat_s
    assert options.pulls.keep_alive_s < options.offers.lease_s
    assert options.pulls.window_bytes_min >= 2 * options.pulls.chunk_bytes_min, "two chunks are on their way from the beginning"


@given(st.floats(0.001, 10.0), st.floats(0.001, 10.0))
def test_a_peer_is_suspect_before_it_is_dead_or_the_options_are_refused(suspect: float, dead: float) -> None:
    if suspect < dead <= 3.4:
        LinkOptions(suspect_beats=suspect, dead_beats=dead)
    else:
        with pytest.raises(OptionError):
            LinkOptions(suspect_beats=suspect, dead_beats=dead)
