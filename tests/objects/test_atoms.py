"""Atoms: small values of the standard library."""

from __future__ import annotations

import pathlib
import uuid
from datetime import date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, strategies as st

from zdl.errors import CannotPack, CannotUnpack
from zdl.objects.atoms import ATOMS, atom_of, fields_of, number_of

offsets = st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)
atoms = st.one_of(
    st.complex_numbers(allow_nan=False), st.datetimes(timezones=st.none() | offsets), st.dates(), st.times(), st.timedeltas(),
    st.decimals(allow_nan=False), st.uuids(), st.text("ab./", max_size=8).map(pathlib.PurePath),
    st.builds(range, st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 3)))


@given(atoms)
def test_what_goes_in_comes_out(value: object) -> None:
    found = atom_of(fields_of(value))
    assert type(found) is type(value) and found == value


@pytest.mark.parametrize("value", [complex("nan"), complex("-0-0j"), Decimal("NaN"), Decimal("-0.00"), Decimal("1E+400")], ids=str)
def test_what_equals_nothing_or_has_a_form_of_its_own_comes_out(value: object) -> None:
    assert str(atom_of(fields_of(value))) == str(value)


def test_the_second_of_two_equal_hours_stays_the_second() -> None:
    found: Any = atom_of(fields_of(datetime(2026, 10, 25, 2, 30, fold=1)))
    assert found.fold == 1


def test_an_offset_of_less_than_a_second_comes_out() -> None:
    value = datetime(2000, 1, 1, tzinfo=timezone(timedelta(microseconds=1)))
    assert atom_of(fields_of(value)) == value


def test_of_a_time_zone_its_offset_comes_out_and_of_a_path_a_pure_one() -> None:
    summer = datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("UTC"))
    found: Any = atom_of(fields_of(summer))
    assert found == summer and found.tzinfo == timezone.utc
    path = atom_of(fields_of(pathlib.Path("/a/b")))
    assert path == pathlib.PurePath("/a/b") and not isinstance(path, pathlib.Path)


@pytest.mark.parametrize(("cls", "number"), [
    (complex, 0), (datetime, 1), (date, 2), (pathlib.PosixPath, 7), (range, 8), (type("Stamp", (datetime,), {}), None),
    (type("Id", (uuid.UUID,), {}), None), (int, None)])
def test_a_class_has_a_number_or_none(cls: type, number: int | None) -> None:
    assert number_of(cls) == number


def test_a_range_beyond_64_bits_cannot_travel() -> None:
    with pytest.raises(CannotPack, match="a range beyond 64 bits"):
        fields_of(range(1 << 63))


class Broken(tzinfo):
    """A time zone that does not answer."""


def test_a_time_zone_that_does_not_work_is_named() -> None:
    with pytest.raises(CannotPack, match="NotImplementedError"):
        fields_of(datetime(2026, 1, 1, tzinfo=Broken()))


@pytest.mark.fault("H19")
@pytest.mark.parametrize("fields", [
    None, [], {}, [99], [-1], [True, 1.0, 1.0], ["datetime"], [0], [0, 1, 1], [0, 1.0], [1, "2026-01-01", 2, None],
    [1, "2026-13-01", 0, None], [1, b"2026-01-01", 0, None], [1, "2026-01-01", 0, 1 << 62], [1, "2026-01-01", 0, "+1"],
    [2, "x"], [3, "25:00", 0, None], [4, 1 << 62, 0, 0], [5, "1.2.3"], [6, b"short"], [7, b"a"], [8, 0, 1, 0], [8, 0, 1],
    [8, 0, 1, 1, 1], [7, "a\x00b", 1],
])
def test_h19_fields_that_lie_are_refused(fields: object) -> None:
    with pytest.raises(CannotUnpack):
        atom_of(fields)


def test_numbers_are_the_wire_and_stay() -> None:
    assert [atom.cls.__name__ for atom in ATOMS] == [
        "complex", "datetime", "date", "time", "timedelta", "Decimal", "UUID", "PurePath", "range"]
