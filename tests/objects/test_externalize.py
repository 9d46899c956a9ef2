"""Where leaves travel, and how refs are found and replaced."""

from __future__ import annotations

import collections
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from zdl.errors import ObjectError
from zdl.objects.externalize import Blob, Place, Placer, contains_refs, find_refs, replace_refs, wrap_blobs
from zdl.options import PackOptions
from zdl.refs import Ref, Source

SOURCE = Source(origin="site-1", offer_id=bytes(16), secret=bytes(16), bytes_total=100)
A, B, C = (Ref(source=SOURCE, item=item, offset=item, length=1, kind="bytes") for item in range(3))
SMALL = PackOptions(inline_bytes_max=10, beside_bytes_max=100, beside_sum_bytes_max=250, frames_max=5)

leaves = st.sampled_from([A, B, C]) | st.integers() | st.text(max_size=2)
objects = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
    st.text(max_size=2), inner, max_size=3) | st.tuples(inner, inner), max_leaves=12)


def places(sizes: list[int], *, lends: bool, options: PackOptions = SMALL) -> str:
    """The place of each size, as one letter: inline, beside, ref."""
    placer = Placer(options, lends=lends)
    return "".join({Place.INLINE: "i", Place.BESIDE: "b", Place.BY_REF: "r"}[placer.place(size)] for size in sizes)


def test_the_size_decides_the_place() -> None:
    assert places([0, 10, 11, 100, 101], lends=True) == "iibbr"


def test_what_passes_the_sum_beside_is_lent_and_smaller_ones_still_fit() -> None:
    assert places([100, 100, 60, 50, 11], lends=True) == "bbrbr"


def test_when_no_frame_is_left_leaves_are_lent() -> None:
    # Five frames: the header, the skeleton, three leaves.
    assert places([11, 11, 11, 11, 5], lends=True) == "bbbri"


def test_without_lending_everything_goes_beside_while_there_are_frames() -> None:
    assert places([5, 1000, 1 << 40, 11, 11], lends=False) == "ibbbi"


def test_many_tiny_leaves_do_not_fill_the_skeleton_when_they_can_be_lent() -> None:
    options = PackOptions(inline_bytes_max=10, beside_bytes_max=10, beside_sum_bytes_max=30, frames_max=3)
    assert places([10] * 6, lends=True, options=options) == "iiibrr"
    options = PackOptions(inline_bytes_max=10, beside_bytes_max=10, skeleton_bytes_max=40, frames_max=3)
    assert places([10] * 4, lends=True, options=options) == "iibr"


def test_only_large_bytes_are_wrapped_and_no_container_is_changed() -> None:
    large, small = b"x" * 11, b"x" * 10
    untouched = [small]
    obj = {"a": (1, large), "b": untouched, "c": bytearray(11), "d": memoryview(large), "e": memoryview(b"abcd")[::2]}
    kept = dict(obj)
    found: Any = wrap_blobs(obj, inline_bytes_max=10)
    assert obj == kept
    assert found["a"][1].value is large and found["b"] is untouched
    assert [type(found[key]) for key in "cde"] == [Blob] * 3


def test_an_object_without_large_bytes_stays_itself() -> None:
    obj = [{"a": b"x"}, (b"y",)]
    assert wrap_blobs(obj, inline_bytes_max=10) is obj


@pytest.mark.parametrize("value", [
    b"abcd", bytearray(b"abcd"), memoryview(b"abcd"), memoryview(b"aXbXcXdX")[::2],
    np.frombuffer(b"abcd", ">i2").data, np.frombuffer(b"abcd", "i1").reshape(2, 2).data,
    np.bytes_(b"abcd"),
])
def test_a_blob_gives_its_bytes_flat(value: Any) -> None:
    flat = Blob(value).flatten()
    assert (bytes(flat), flat.format, flat.ndim) == (b"abcd", "B", 1)


def test_a_contiguous_blob_is_not_copied() -> None:
    value = np.zeros((2, 2), ">i2")
    Blob(value.data).flatten()[1] = 1
    assert value[0, 0] == 1


def test_refs_are_found_once_each_in_their_order() -> None:
    obj = {"x": [1, C, (A, {"y": B})], "z": [A, C]}
    assert find_refs(obj) == [C, A, B]
    assert contains_refs(obj)


def test_keys_are_left_as_they_are() -> None:
    assert find_refs({A: 1}) == [] and not contains_refs({A: 1})
    assert replace_refs({A: B}, {B: 2}) == {A: 2}


def test_a_ref_alone_is_an_object_too() -> None:
    assert find_refs(A) == [A]
    assert replace_refs(A, {A: "a"}) == "a"


def test_finding_refs_ends_even_where_a_container_contains_itself() -> None:
    loop: list[Any] = [A]
    loop.append(loop)
    assert find_refs(loop) == [A]
    assert not contains_refs([[loop := []]])


def test_replacing_gives_new_containers_only_on_the_way_to_a_ref() -> None:
    plain = [1, {"k": (2,)}]
    obj = {"plain": plain, "deep": [0, (A, plain)], "more": collections.OrderedDict(b=B)}
    found: Any = replace_refs(obj, {A: "a", B: None})
    assert found == {"plain": plain, "deep": [0, ("a", plain)], "more": {"b": None}}
    assert found["plain"] is plain and found["deep"][1][1] is plain
    assert obj["deep"] == [0, (A, plain)]
    assert [type(found["deep"][1]), type(found["more"])] == [tuple, dict]
    assert replace_refs(plain, {}) is plain


def test_one_container_in_two_places_stays_one() -> None:
    shared = [A]
    found: Any = replace_refs([shared, {"x": shared}], {A: 1})
    assert found == [[1], {"x": [1]}] and found[0] is found[1]["x"]


def test_the_values_are_not_looked_into() -> None:
    assert replace_refs([A], {A: [B]}) == [[B]]


def test_a_ref_without_a_value_is_an_error_that_names_it() -> None:
    with pytest.raises(ObjectError, match=r"there is no value for <Ref ref:00000000…\[1\] of site-1"):
        replace_refs([A, B], {A: 1})


def test_a_container_inside_itself_cannot_be_rebuilt() -> None:
    loop: list[Any] = [A]
    loop.append(loop)
    with pytest.raises(ObjectError, match="a list contains itself"):
        replace_refs(loop, {A: 1})


def test_too_deep_an_object_cannot_be_rebuilt() -> None:
    obj: list[Any] = [A]
    for _ in range(100_000):
        obj = [obj]
    with pytest.raises(ObjectError, match="nested too deep"):
        replace_refs(obj, {A: 1})
    while obj and isinstance(obj[0], list):  # taken apart by hand: freeing such a chain is deep, too
        obj = obj[0]


@given(objects)
def test_replacing_refs_by_themselves_gives_the_same_object(obj: object) -> None:
    assert replace_refs(obj, {A: A, B: B, C: C}) is obj


@given(objects)
def test_after_replacing_all_refs_none_is_left(obj: object) -> None:
    values = {A: "a", B: "b", C: "c"}
    found = replace_refs(obj, values)
    assert not contains_refs(found)
    assert contains_refs(obj) == bool(find_refs(obj)) == (found is not obj)
