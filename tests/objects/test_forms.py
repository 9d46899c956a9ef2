"""Forms: dataclasses, enums and named tuples as plain values."""

from __future__ import annotations

import enum
from collections import namedtuple
from dataclasses import InitVar, dataclass, field
from typing import Any, NamedTuple

import pytest

from zdl.errors import OptionError
from zdl.objects.forms import form_of, has_form


@dataclass(frozen=True)
class Point:
    x: int
    y: int = 2


@dataclass
class Counted:
    items: list[int]
    count: int = field(init=False)

    def __post_init__(self) -> None:
        self.count = len(self.items)


@dataclass
class Seeded:
    seed: InitVar[int]


@dataclass
class Checked:
    size: int

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError("size is below 0")


class Pair(NamedTuple):
    left: int
    right: int = 7


class Colour(enum.Enum):
    RED = "r"
    CRIMSON = "r"


class Mode(enum.Flag):
    READ = 1
    WRITE = 2


Old = namedtuple("Old", "a b")


@pytest.mark.parametrize(("value", "plain"), [
    (Point(1), {"x": 1, "y": 2}), (Pair(1), {"left": 1, "right": 7}), (Old(1, 2), {"a": 1, "b": 2}), (Colour.CRIMSON, "RED"),
    (Mode.READ | Mode.WRITE, 3), (Counted([1, 2]), {"items": [1, 2], "count": 2}),
])
def test_a_value_has_a_plain_form_and_comes_back(value: object, plain: object) -> None:
    to_plain, from_plain = form_of(type(value))
    assert to_plain(value) == plain
    assert from_plain(plain) == value and type(from_plain(plain)) is type(value)


def test_a_field_that_is_not_made_by_the_constructor_is_as_it_was() -> None:
    to_plain, from_plain = form_of(Counted)
    value = Counted([1])
    value.count = 5
    found: Any = from_plain(to_plain(value))
    assert found.count == 5


def test_a_field_that_did_not_come_has_its_default() -> None:
    assert form_of(Point)[1]({"x": 1}) == Point(1, 2)
    assert form_of(Pair)[1]({"left": 1}) == Pair(1, 7)


@pytest.mark.parametrize(("cls", "plain", "error"), [
    (Point, {}, "missing 1 required positional argument: 'x'"), (Point, {"x": 1, "z": 2}, "it has no field 'z'"),
    (Point, [1, 2], "its fields came as a list"), (Point, {1: 2}, "it has no field 1"), (Pair, {"__class__": 1}, "it has no field"),
    (Checked, {"size": -1}, "size is below 0"), (Colour, "BLUE", "'BLUE' is not a member of Colour"),
    (Colour, "__class__", "is not a member"), (Colour, ["RED"], "unhashable"), (Mode, 8, "8"), (Mode, "READ", "READ"),
])
def test_a_plain_form_that_lies_is_refused(cls: type, plain: object, error: str) -> None:
    with pytest.raises((ValueError, TypeError), match=error):
        form_of(cls)[1](plain)


def test_who_has_a_form_is_known() -> None:
    assert [has_form(cls) for cls in (Point, Pair, Old, Colour, Mode, dict, tuple, int)] == [True] * 5 + [False] * 3


@pytest.mark.parametrize(("cls", "text"), [(int, "a dataclass, an enum or a named tuple"), (Seeded, "'seed' is none")])
def test_a_class_without_a_form_says_what_to_do(cls: type, text: str) -> None:
    with pytest.raises(OptionError, match=text):
        form_of(cls)
