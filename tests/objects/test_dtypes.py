"""Names of element types: what they say, and that nothing else is believed."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from zdl.errors import CannotPack, CannotUnpack
from zdl.objects.dtypes import DEPTH_MAX, DTYPES, EXTENDED, dtype_of, itemsize_of, name_of

NESTED = np.dtype([("a b", "<i4", (2, 3)), (";}=1:", [("x", ">f8"), ("when", "<M8[25us]")]), ("é", "|S3")])
PADDED = np.dtype({"names": ["b", "a"], "formats": ["u1", "<f4"], "offsets": [9, 2], "itemsize": 16})
GOOD = ("<M8[ns]", ">M8[D]", "<m8[25us]", "<M8", ">m8", "|S1", "|S300", "<U7", ">U7", "|V16")


@pytest.mark.parametrize("dtype", [*GOOD, NESTED, PADDED, np.dtype([("a", "i4")], align=True), np.dtype([("x", "V8")])],
                         ids=str)
def test_a_type_has_a_name_and_the_name_that_type(dtype: Any) -> None:
    name = name_of(np.dtype(dtype))
    assert dtype_of(name) == np.dtype(dtype)
    assert itemsize_of(name) == np.dtype(dtype).itemsize
    assert name_of(dtype_of(name)) == name


def test_all_numeric_types_travel_in_both_byte_orders() -> None:
    names = {"|b1", "|i1", "|u1"} | {f"{order}{kind}" for order in "<>" for kind in (
        "i2", "i4", "i8", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16")}
    assert names <= set(DTYPES)
    assert all(DTYPES[name].str == name and not DTYPES[name].hasobject for name in DTYPES)


def test_types_of_one_size_have_one_name() -> None:
    assert name_of(np.dtype("l")) == name_of(np.dtype("q")) == "<i8"
    assert name_of(np.dtype("f4", metadata={"unit": "m"})) == "<f4"


def test_the_name_of_a_struct_says_its_fields_and_where_they_are() -> None:
    assert name_of(PADDED) == "{16;9=1:b|u1;2=1:a<f4}"
    assert name_of(np.dtype([("é", "<i4", (2, 3))])) == "{24;0=1:é<i4(2,3)}"


@pytest.mark.parametrize(("dtype", "reason"), [
    ("O", "its dtype is object; send a list"), ([("a", "O")], "its field 'a': its dtype is object"),
    ([("a", "i4"), ("b", [("c", "O")])], "its field 'b': its field 'c'"), ([(("title", "a"), "i4")], "have titles"),
    ({"names": ["a", "b"], "formats": ["i4", "i2"], "offsets": [0, 2]}, "fields share bytes"), ([], "no bytes, or no fields"),
    ("S0", "no bytes"), ("V0", "no bytes"), ([("a", "S0"), ("b", "i4")], "no bytes"), ("(2,)f4", "convert it"),
    ([("\ud800", "i4")], "lone surrogate"), ([("a", "i4", (0,)), ("b", "i4")], "has no bytes"),
])
def test_a_type_that_cannot_travel_is_named(dtype: Any, reason: str) -> None:
    with pytest.raises(CannotPack) as caught:
        name_of(np.dtype(dtype))
    assert reason in caught.value.reason


def test_structs_nest_only_so_deep() -> None:
    kind: Any = "<i4"
    for _ in range(DEPTH_MAX):
        kind = [("a", kind)]
    assert dtype_of(name_of(np.dtype(kind))) == np.dtype(kind)
    with pytest.raises(CannotPack, match="nested deeper than 8"):
        name_of(np.dtype([("a", kind)]))
    assert all("is not allowed" in each for each in refused("{4;0=1:a" * (DEPTH_MAX + 1) + "<i4" + "}" * (DEPTH_MAX + 1)))


def refused(name: str) -> list[str]:
    """What a name that is none is refused with, wherever it is looked at."""
    found = []
    for function in (itemsize_of, dtype_of):
        with pytest.raises(CannotUnpack) as caught:
            function(name)
        found.append(str(caught.value))
    return found


@pytest.mark.fault("H19")
@pytest.mark.parametrize("name", [
    "O8", "|O", "O", "f4", "float32", "", "V8", "<f4,<f4", "(2,)<f4", "<M8[s", "<M8[]", "<M8[0s]", "<M8[x]", "<M8[-1s]", "M8[s]",
    "|M8[s]", "<M8[s]x", "<M8[1234567890s]", "|S0", "|S", "|S01", "<S3", "|U3", "<U0", "<U4294967295", "|V2147483648", "|S٣",
    "{}", "{0;0=1:a<i4}", "{4}", "{4;}", "{4;0=1:a<i4", "{4;0=1:a<i4}}", "{4;0=1:a<i4}x", "{4;0=1:a|O}", "{4;0=1:aO8}",
    "{4;1=1:a<i4}", "{8;0=1:a<i4;2=1:b<i4}", "{8;0=1:a<i4;4=1:a<i4}", "{4;0=2:a<i4}", "{4;0=0:<i4}", "{4;00=1:a<i4}",
    "{4;0=1:a<i4()}", "{4;0=1:a<i4(0)}", "{8;0=1:a<i4(3)}", "{8;0=1:a<i4(2,)}", "{8;-4=1:a<i4}", "{9999999999;0=1:a<i4}",
    "{2147483647;0=1:a|i1(2147483647,2147483647)}", "{4;0=1:a<i4;", "bfloat17", "<bfloat16", "ml_dtypes.bfloat16",
    "{4;0=9999:a<i4}", "{33;0=1:a|u1(" + ",".join("1" * 33) + ")}", "x" * 20_000,
])
def test_h19_a_name_that_lies_or_is_none_is_refused(name: str) -> None:
    assert all("is not allowed" in each for each in refused(name))


@pytest.mark.fault("H19")
@given(st.text(alphabet="{};:=,()<>|0123456789abfiuMSUVns[]", max_size=30))
def test_h19_any_text_is_a_type_that_travels_on_or_refused(name: str) -> None:
    try:
        size = itemsize_of(name)
    except CannotUnpack:
        return
    found = dtype_of(name)
    assert found.itemsize == size and not found.hasobject
    assert dtype_of(name_of(found)) == found


kinds = st.recursive(st.sampled_from([*sorted(DTYPES), *GOOD, *EXTENDED]).map(dtype_of), lambda inner: st.lists(
    st.tuples(inner, st.lists(st.integers(1, 3), max_size=2)), min_size=1, max_size=4).map(
        lambda fields: np.dtype([(f"f{number}", kind, tuple(sides)) for number, (kind, sides) in enumerate(fields)])), max_leaves=6)


@given(kinds)
def test_every_type_of_the_grammar_comes_back(kind: np.dtype[Any]) -> None:
    try:
        name = name_of(kind)
    except CannotPack as error:
        assert "nested deeper" in error.reason
    else:
        assert dtype_of(name) == kind


@pytest.mark.parametrize("name", EXTENDED)
def test_types_of_ml_dtypes_travel(name: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    if not hasattr(ml_dtypes, name):
        pytest.skip(f"{name} is not in this version")
    kind = np.dtype(getattr(ml_dtypes, name))
    assert name_of(kind) == name
    assert dtype_of(name) == kind
    assert itemsize_of(name) == kind.itemsize


def test_a_type_of_ml_dtypes_of_another_byte_order_is_refused() -> None:
    kind = np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    with pytest.raises(CannotPack, match="convert it"):
        name_of(kind.newbyteorder(">"))


def test_a_receiver_without_ml_dtypes_knows_the_size_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)  # what an import finds that was forbidden
    assert itemsize_of("bfloat16") == 2
    with pytest.raises(CannotUnpack, match=r"needs the package ml_dtypes: pip install 'zdl\[ml_dtypes\]'"):
        dtype_of("bfloat16")
