"""What may travel and as what, which types are inside, and which leaf is to blame."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import enum
import pathlib
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, strategies as st

from zdl.errors import CannotPack, TooLarge
from zdl.objects.typetable import Kind, TypeTable, first_offence, kinds_within
from zdl.refs import Ref, Source

SOURCE = Source(origin="site-1", offer_id=bytes(16), secret=bytes(16), bytes_total=100)

BAD = object()


class Pair(NamedTuple):
    left: int
    right: int


class Colour(enum.IntEnum):
    RED = 1


@dataclasses.dataclass
class Point:
    x: int


class Name(str):
    """A subclass that stands for nothing of its own."""


def offence(obj: object, depth_max: int = 10) -> str:
    """What is wrong with an object, as the user reads it."""
    return str(first_offence(obj, types=TypeTable(), depth_max=depth_max))


@pytest.mark.parametrize(("value", "kind"), [
    (None, Kind.NIL), (True, Kind.BOOL), (1, Kind.INT), (1.0, Kind.FLOAT), ("a", Kind.TEXT), (Name("a"), Kind.TEXT),
    (b"a", Kind.BYTES), (bytearray(b"a"), Kind.BYTES), (memoryview(b"a"), Kind.BYTES), ({}, Kind.MAP),
    (collections.OrderedDict(), Kind.MAP), (collections.Counter(), Kind.MAP), ([], Kind.LIST), ((), Kind.TUPLE),
    (np.float32(1), Kind.SCALAR), (np.float64(1), Kind.SCALAR), (np.bool_(True), Kind.SCALAR),
    (np.str_("a"), Kind.TEXT), (np.bytes_(b"a"), Kind.BYTES), (np.zeros(1), Kind.ARRAY),
    (Ref(SOURCE, 0, 0, 1, "bytes"), Kind.REF),
    ({1}, Kind.SET), (frozenset(), Kind.FROZENSET), (collections.deque(), Kind.DEQUE), (1j, Kind.ATOM), (range(3), Kind.ATOM),
    (datetime.datetime(2020, 1, 1), Kind.ATOM), (pathlib.Path("a"), Kind.ATOM), (np.complex128(1), Kind.SCALAR),
])
def test_a_value_travels_as_its_kind(value: object, kind: Kind) -> None:
    assert TypeTable().kind_of(type(value)) is kind


@pytest.mark.parametrize(("value", "advice"), [
    (Colour.RED, r"types=TypeTable\(\).with_type\(Colour\)"),
    (Point(1), r"Point cannot travel; register it: Cell\(…, types=TypeTable\(\).with_type\(Point\)\), on both sides"),
    (Pair(1, 2), r"types=TypeTable\(\).with_type\(Pair\)"),
    (type("Stamp", (datetime.datetime,), {})(2020, 1, 1), "Stamp cannot travel; register it with two functions"),
    (np.ma.masked_array([1.0]), "send its data and its mask"),
    (np.zeros(1).view(type("Special", (np.ndarray,), {})), r"send numpy.asarray\(x\)"),
    (len, r"register it with two functions, TypeTable\(\).with_type\(cls, to_plain=…, from_plain=…\)"),
    (np.array([None]), "its dtype is object; send a list, or an array for each element"),
    ("a\ud800", "lone surrogate at character 1"),
    (Ref(SOURCE, 0, 90, 11, "bytes"), "nobody would accept: it ends at byte 101"),
    (Ref(SOURCE, 0, 0, 1, "magic"), "nobody would accept: its kind"),
])
def test_what_cannot_travel_is_named_with_what_to_do(value: object, advice: str) -> None:
    with pytest.raises(CannotPack, match=advice):
        TypeTable().examine(value)


def test_a_table_of_fewer_types_refuses_the_others() -> None:
    table = TypeTable(kinds={int: Kind.INT})
    assert table.kind_of(bool) is Kind.INT
    with pytest.raises(CannotPack, match="type str"):
        table.kind_of(str)


def test_the_types_inside_are_found_in_values_elements_and_keys() -> None:
    obj = {"a": [1, (2.0, None)], (b"k", ("deep",)): collections.OrderedDict(x=np.zeros(1))}
    assert kinds_within(obj, depth_max=5, elements_max=100) == {
        dict, str, list, int, tuple, float, type(None), bytes, collections.OrderedDict, np.ndarray}


@pytest.mark.parametrize(("obj", "depth"), [
    (1, 0), ([], 1), ([[]], 2), ({"a": ((),)}, 3), ({((1,),): 2}, 3), ({"a": {"b": {"c": [1]}}}, 4)])
def test_the_depth_counts_containers(obj: object, depth: int) -> None:
    assert kinds_within(obj, depth_max=depth, elements_max=100)
    if depth:
        with pytest.raises(RecursionError, match=f"depth_max={depth - 1}"):
            kinds_within(obj, depth_max=depth - 1, elements_max=100)


def test_more_elements_than_bytes_allowed_are_too_large() -> None:
    assert kinds_within([0] * 100, depth_max=2, elements_max=100) == {list, int}
    with pytest.raises(TooLarge, match="skeleton_bytes_max=100"):
        kinds_within([0] * 101, depth_max=2, elements_max=100)


def test_a_list_that_doubles_at_each_level_is_too_large_before_it_is_endless() -> None:
    obj: list[Any] = []
    for _ in range(90):
        obj = [obj, obj]
    with pytest.raises(TooLarge):
        kinds_within(obj, depth_max=100, elements_max=10_000)


@pytest.mark.parametrize(("obj", "path"), [
    (BAD, "the object"),
    ([0, BAD], "[1]"),
    ({"batch": [0, 1, 2, {"weights": BAD}]}, "batch[3].weights"),
    ({"a": {"b c": [0, (BAD,)]}}, "a['b c'][1][0]"),
    ([{"a": BAD}], "[0].a"),
    ({7: {"x": BAD}}, "[7].x"),
    ({(1, "k"): BAD}, "[(1, 'k')]"),
    ({b"k": BAD}, "[b'k']"),
    ({None: BAD}, "[None]"),
    ({Name("k"): BAD}, "k"),
    ({1 << 70: BAD}, "[<int>]"),
    ({("long",) * 5: BAD}, "[<tuple>]"),
    ({"x" * 200: BAD}, "['" + "x" * 80 + "'…]"),
])
def test_the_path_is_written_as_python_would(obj: object, path: str) -> None:
    assert offence(obj) == f"cannot pack {path}: a value of type object cannot travel; register it with two functions, " \
        "TypeTable().with_type(cls, to_plain=…, from_plain=…), or send what it is made of"


def test_a_key_that_cannot_travel_is_named() -> None:
    assert offence({"a": {BAD: 1}}).startswith("cannot pack a: the key <object>: a value of type object")
    assert "a: the key ((<Colour>,),): " in offence({"a": {((Colour.RED,),): 1}})
    assert "the key '\\ud800': the text has a lone surrogate" in offence({"\ud800": 1})


def test_the_first_leaf_to_blame_is_named() -> None:
    assert offence([[0, BAD], object()]).startswith("cannot pack [0][1]:")


def test_a_container_inside_itself_is_named() -> None:
    loop: dict[str, Any] = {"a": [1]}
    loop["a"].append(loop)
    assert offence(loop) == "cannot pack a[1]: it contains itself"


def test_too_deep_a_container_is_named() -> None:
    assert offence({"a": [[]]}, depth_max=2) == (
        "cannot pack a[0]: containers are nested deeper than depth_max=2")
    assert "the key (()," in offence({((),): 1}, depth_max=2)


def test_a_named_tuple_is_named_where_it_stands() -> None:
    assert offence({"a": [Pair(1, 2)]}).startswith("cannot pack a[0]: a value of type ")


nested = st.recursive(st.none() | st.integers() | st.text(max_size=3),
                      lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
                      max_leaves=10)


@given(nested)
def test_nothing_is_to_blame_in_an_object_that_can_travel(obj: object) -> None:
    assert first_offence(obj, types=TypeTable(), depth_max=100) is None
