"""Packing: what is on the wire, what is lent and when, and that everything comes back."""

from __future__ import annotations

import collections
import gc
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgpack
import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.typing import NDArray

from zdl.errors import CannotPack, CannotUnpack, TooLarge
from zdl.objects.arrays import restore
from zdl.objects.dtypes import DTYPES
from zdl.objects.externalize import find_refs, replace_refs
from zdl.objects.manifest import Manifest
from zdl.objects.pack import Lent, Packed, pack
from zdl.objects.typetable import Code, Kind, TypeTable
from zdl.objects.unpack import unpack
from zdl.options import PackOptions
from zdl.refs import Ref, Source

OPTIONS = PackOptions()
# Everything of more than 4 bytes goes beside, of more than 16 by reference.
TINY = PackOptions(inline_bytes_max=4, beside_bytes_max=16, beside_sum_bytes_max=64)


class Lender:
    """Lends to nobody, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Manifest, Sequence[Lent]]] = []

    def __call__(self, manifest: Manifest, lent: Sequence[Lent]) -> Source:
        self.asked.append((manifest, lent))
        return Source(origin="site-1.w", offer_id=b"i" * 16, secret=b"s" * 16, bytes_total=manifest.bytes_total)


def there_and_back(obj: object, options: PackOptions = OPTIONS) -> Any:
    """The object that a receiver gets."""
    return unpack(pack(obj, options=options).parts, options=options)


def same(one: Any, other: Any) -> bool:
    """Equal in type and value, all the way down; a NaN equals a NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return bool((one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes()))
    if isinstance(one, np.generic):
        return bool((one.dtype, one.tobytes()) == (other.dtype, other.tobytes()))
    if isinstance(one, dict):
        return all(map(same, one, other)) and all(map(same, one.values(), other.values())) and len(one) == len(other)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other or (one != one and other != other))


def array_of(dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """An array whose elements differ."""
    return np.arange(math.prod(shape)).astype(DTYPES[dtype]).reshape(shape)


arrays = st.builds(array_of, st.sampled_from(sorted(set(DTYPES))), st.lists(st.integers(0, 3), max_size=3).map(tuple))
scalars = st.sampled_from([name for name in sorted(DTYPES) if name[0] != ">"]).map(lambda name: DTYPES[name].type(1))
keys = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.binary(max_size=4),
                    lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=4)
leaves = keys | st.floats() | arrays | scalars | st.binary(max_size=40)
objects = st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4)
                       | st.tuples(inner, inner), max_leaves=15)


# --- round trips --------------------------------------------------------------------------------


@given(objects, st.sampled_from([OPTIONS, TINY, PackOptions(inline_bytes_max=1, beside_bytes_max=1, frames_max=3)]))
def test_every_object_comes_back_the_same(obj: object, options: PackOptions) -> None:
    assert same(there_and_back(obj, options), obj)


@given(objects)
def test_every_object_comes_back_when_its_refs_are_replaced_by_what_was_lent(obj: object) -> None:
    lender = Lender()
    packed = pack(obj, options=TINY, lend=lender)
    found = unpack(packed.parts, options=TINY)
    values: dict[Ref, object] = {}
    for ref in find_refs(found):
        manifest, lent = lender.asked[0]
        assert manifest.range_of(ref.item) == (ref.offset, ref.length) == (ref.offset, lent[ref.item].buffer.nbytes)
        raw = bytes(lent[ref.item].buffer)
        values[ref] = restore(ref.dtype, ref.shape, raw, copy=True) if ref.kind == "array" else raw
    assert len(values) == packed.lent_count
    assert same(replace_refs(found, values), obj)


@pytest.mark.parametrize("value", [
    2**63 - 1, 2**63, 2**64 - 1, 2**64, -2**63, -2**63 - 1, 2**500, -2**500, 255, -1, 2**71, -2**71])
def test_ints_of_any_size_travel(value: int) -> None:
    assert same(there_and_back([value, {value: value}]), [value, {value: value}])


@pytest.mark.parametrize(("sent", "comes"), [
    (collections.OrderedDict(a=1), {"a": 1}), (collections.defaultdict(list, a=[1]), {"a": [1]}),
    (type("Names", (list,), {})([1]), [1]), (type("Sides", (tuple,), {})([1]), (1,)),
    (type("Name", (str,), {})("x"), "x"),
    (type("Count", (int,), {})(3), 3), (type("Count", (int,), {})(2**80), 2**80),
    (type("Rate", (float,), {})(0.5), 0.5),
    (type("Raw", (bytes,), {})(b"x"), b"x"), (np.str_("x"), "x"), (np.bytes_(b"x"), b"x"), (bytearray(b"x"), b"x"),
    (memoryview(b"x"), b"x"), (memoryview(b"aXb")[::2], b"ab"), (np.array([[1, 2]], ">i2").data, b"\0\1\0\2"),
    (type("Raw", (bytes,), {})(b"large"), b"large"), (bytearray(b"large"), b"large"),
])
def test_subclasses_and_other_bytes_come_out_as_the_plain_kind(sent: Any, comes: object) -> None:
    assert same(there_and_back({"k": [sent]}, TINY), {"k": [comes]})


def test_keys_may_be_anything_that_can_be_a_key() -> None:
    obj = {(1, ("a", b"b")): 1, 2**70: 2, np.float32(0.5): 3, np.int64(5): 4, None: 5, b"long enough to go beside": 6}
    assert same(there_and_back(obj, TINY), obj)


def test_a_memmap_travels_as_an_array(tmp_path: Any) -> None:
    mapped = np.memmap(tmp_path / "a", dtype="<i2", mode="w+", shape=(3,))
    mapped[:] = [1, 2, 3]
    assert same(there_and_back(mapped), np.array([1, 2, 3], "<i2"))


# --- on the wire --------------------------------------------------------------------------------


def test_a_plain_object_is_plain_msgpack_behind_an_empty_table() -> None:
    obj = {"a": [1, 2.5, None, True, "é", b"b"]}
    assert pack(obj, options=OPTIONS).parts == (msgpack.packb([[], obj]),)


def test_a_tuple_is_an_array_that_begins_with_the_mark() -> None:
    root = msgpack.unpackb(pack((1, [()]), options=OPTIONS).parts[0])[1]
    mark = msgpack.ExtType(Code.TUPLE, b"")
    assert root == [mark, 1, [[mark]]]


def test_arrays_and_large_bytes_go_beside_uncopied() -> None:
    array, blob = np.arange(8, dtype="<i2"), bytearray(b"0123456789")
    packed = pack({"a": array, "b": blob}, options=TINY)
    assert [part.nbytes for part in packed.parts[1:] if isinstance(part, memoryview)] == [16, 10]
    array[0], blob[0] = 77, 65
    found: Any = unpack(packed.parts, options=TINY)
    assert found["a"][0] == 77 and found["b"] == b"A123456789"


def test_without_lending_nothing_is_too_large_to_go_beside() -> None:
    packed = pack([np.zeros(1000), b"x" * 1000], options=TINY)
    assert (len(packed.parts), packed.source, packed.lent_count) == (3, None, 0)


def test_without_lending_and_without_frames_everything_is_inline() -> None:
    options = PackOptions(inline_bytes_max=4, beside_bytes_max=4, frames_max=2)
    packed = pack([np.zeros(10), b"x" * 100, bytearray(100)], options=options)
    assert len(packed.parts) == 1
    assert same(unpack(packed.parts, options=options), [np.zeros(10), b"x" * 100, bytes(100)])


def test_one_object_in_several_places_travels_once() -> None:
    inline, beside, blob = np.zeros(1, "<f4"), np.zeros(2), b"0123456789"
    obj = [inline, beside, blob, {"again": (inline, beside, blob)}, np.zeros(1, "<f4")]
    packed = pack(obj, options=TINY)
    found: Any = unpack(packed.parts, options=TINY)
    assert len(packed.parts) == 3
    assert same(found, obj)
    assert [found[at] is found[3]["again"][at] for at in range(3)] == [True] * 3
    assert found[0] is not found[4]


def test_two_views_of_one_memory_are_two_leaves() -> None:
    array = np.arange(4.0)
    assert len(pack([array[:], array[:]], options=TINY).parts) == 3


# --- lending ------------------------------------------------------------------------------------


def test_what_is_large_is_lent_once_for_the_whole_message() -> None:
    lender = Lender()
    array, blob = np.arange(6.0).reshape(2, 3), b"x" * 30
    packed = pack({"a": array, "b": [blob, array], "c": array.T}, options=TINY, lend=lender)
    ((manifest, lent),) = lender.asked
    assert manifest == Manifest.of([48, 30, 48])
    assert [item.leaf is leaf for item, leaf in zip(lent, (array, blob))] == [True, True]
    assert [bytes(item.buffer) for item in lent] == [array.tobytes(), blob, array.T.tobytes()]
    assert (packed.lent_count, len(packed.parts)) == (3, 1)
    source = packed.source
    assert source is not None
    first = Ref(source=source, item=0, offset=0, length=48, kind="array", dtype="<f8", shape=(2, 3))
    assert unpack(packed.parts, options=TINY) == {
        "a": first, "b": [Ref(source=source, item=1, offset=64, length=30, kind="bytes"), first],
        "c": Ref(source=source, item=2, offset=128, length=48, kind="array", dtype="<f8", shape=(3, 2))}


def test_nothing_is_lent_when_nothing_is_large() -> None:
    lender = Lender()
    assert pack({"a": 1}, options=TINY, lend=lender).source is None
    assert lender.asked == []


@pytest.mark.parametrize("bad", [object(), "\ud800", np.array([None]), {object(): 1}, {object()}])
def test_nothing_is_lent_when_packing_fails(bad: object) -> None:
    lender = Lender()
    with pytest.raises(CannotPack):
        pack([np.zeros(100), bad], options=TINY, lend=lender)
    assert lender.asked == []


def test_nothing_is_lent_when_the_skeleton_is_too_large() -> None:
    lender = Lender()
    options = PackOptions(inline_bytes_max=4, beside_bytes_max=16, skeleton_bytes_max=1000)
    with pytest.raises(TooLarge) as caught:
        pack({"a": np.zeros(100), "b": "x" * 1000}, options=options, lend=lender)
    assert (caught.value.what, caught.value.limit, caught.value.value) == (
        "the skeleton of the message", "skeleton_bytes_max", 1000)
    assert caught.value.size > 1000
    assert lender.asked == []


def test_a_skeleton_may_have_just_as_many_bytes_as_allowed() -> None:
    options = PackOptions(skeleton_bytes_max=100)
    most = "x" * (100 - 2 - 2)  # the head and the table, the head of the string
    assert there_and_back(most, options) == most
    with pytest.raises(TooLarge, match="skeleton_bytes_max=100"):
        pack(most + "x", options=options)


def test_many_tiny_arrays_are_lent_rather_than_refused() -> None:
    options = PackOptions(inline_bytes_max=64, beside_bytes_max=64, beside_sum_bytes_max=1000, frames_max=10)
    lender = Lender()
    packed = pack([np.zeros(8) for _ in range(100)], options=options, lend=lender)
    assert (len(packed.parts), packed.lent_count) == (9, 100 - 15 - 8)


def test_what_lending_raises_is_raised() -> None:
    def closed(manifest: Manifest, lent: Sequence[Lent]) -> Source:
        raise ConnectionError(manifest.bytes_total)

    with pytest.raises(ConnectionError, match="80"):
        pack(np.zeros(10), options=TINY, lend=closed)


def test_what_is_lent_is_a_sequence_of_the_leaves_and_their_bytes() -> None:
    leaves = [array_of("<f4", (10,)), b"b" * 20, array_of("<i2", (3, 5)).T]
    lender = Lender()
    pack(leaves, options=TINY, lend=lender)
    lent = lender.asked[0][1]
    assert len(lent) == 3 and all(each.leaf is leaf for each, leaf in zip(lent, leaves, strict=True))
    assert [bytes(each.buffer) for each in lent] == [np.asarray(leaf).tobytes() for leaf in leaves]
    assert lent[-1].leaf is leaves[2] and [each.leaf for each in lent[1:2]] == [leaves[1]]
    with pytest.raises(IndexError):
        lent[3]


def test_of_thousands_of_leaves_less_is_kept_than_one_object_each_that_the_collector_looks_at() -> None:
    # Each makes it look the sooner at all that there is in the process.
    leaves_count = 2000
    state = {f"layers.{number}": array_of("<f4", (8,)) for number in range(leaves_count)}
    kept: list[int] = []

    def counting(manifest: Manifest, lent: Sequence[Lent]) -> Source:
        kept.append(len(gc.get_objects()) - before)
        return Lender()(manifest, lent)

    before = len(gc.get_objects())
    pack(state, options=TINY, lend=counting)
    assert kept[0] < leaves_count / 2


# --- forwarding ---------------------------------------------------------------------------------


def test_a_ref_packs_to_itself_and_mixes_with_what_is_lent_here() -> None:
    far = Source(origin="site-2", offer_id=b"f" * 16, secret=b"g" * 16, bytes_total=1000)
    refs = [Ref(source=far, item=3, offset=8, length=24, kind="array", dtype=">f8", shape=(3,)),
            Ref(source=far, item=4, offset=40, length=0, kind="array", dtype="|b1", shape=(0, 7)),
            Ref(source=far, item=5, offset=64, length=936, kind="file", name="model é.bin"),
            Ref(source=far, item=6, offset=0, length=9, kind="folder", name="shard", mode=0o644, stamp=b"\0s" * 16)]
    lender = Lender()
    packed = pack({"far": refs, "near": np.zeros(100)}, options=TINY, lend=lender)
    found: Any = unpack(packed.parts, options=TINY)
    assert found["far"] == refs
    assert found["near"].source == packed.source != far
    assert len({id(ref.source) for ref in found["far"]}) == 1


def test_sending_refs_on_gives_the_same_bytes_again() -> None:
    packed = pack({"a": np.zeros(100), "b": [b"x" * 100, 1]}, options=TINY, lend=Lender())
    again = pack(unpack(packed.parts, options=TINY), options=TINY, lend=Lender())
    assert again.parts == packed.parts
    assert (again.source, again.lent_count) == (None, 0)


def test_a_ref_may_be_a_key() -> None:
    source = Source(origin="site-2", offer_id=b"f" * 16, secret=b"g" * 16, bytes_total=9)
    ref = Ref(source=source, item=0, offset=0, length=9, kind="bytes")
    assert there_and_back({ref: ref}) == {ref: ref}


def test_a_leaf_by_reference_takes_few_bytes_of_the_skeleton() -> None:
    obj = {f"layer.{index}.weight": np.zeros((4, 8)) for index in range(2000)}
    packed = pack(obj, options=TINY, lend=Lender())
    assert packed.lent_count == 2000
    assert (len(packed.parts[0]) - sum(map(len, obj))) / 2000 <= 64


# --- failing ------------------------------------------------------------------------------------


class Pair(NamedTuple):
    left: int
    right: object


@pytest.mark.parametrize(("obj", "text"), [
    ({"batch": [0, 1, 2, {"weights": np.array([None])}]}, "cannot pack batch[3].weights: its dtype is object"),
    ({"a": {"b c": [0, object()]}}, "cannot pack a['b c'][1]: a value of type object"),
    ({"a": ["\udc80"]}, "cannot pack a[0]: the text has a lone surrogate"),
    ({"a": {"\udc80": 1}}, "cannot pack a: the key '\\udc80': the text has a lone surrogate"),
    ({"a": [Pair(1, b"large enough")]}, "cannot pack a[0]: a value of type "),
    (object(), "cannot pack the object: a value of type object"),
    ([np.zeros((1,) * 40)], "cannot pack [0]: it has 40 dimensions"),
    ([0, {1, object()}], "cannot pack [1]: the element <object>: a value of type object"),
])
def test_the_leaf_that_cannot_travel_is_named(obj: object, text: str) -> None:
    with pytest.raises(CannotPack) as caught:
        pack(obj, options=TINY)
    assert str(caught.value).startswith(text)


def test_a_container_inside_itself_cannot_travel() -> None:
    loop: dict[str, Any] = {}
    loop["a"] = [loop]
    with pytest.raises(CannotPack, match=r"cannot pack a\[0\]: it contains itself"):
        pack(loop, options=OPTIONS)


def test_the_nesting_is_limited_on_both_sides_alike() -> None:
    obj: Any = 1
    for _ in range(25):
        obj = ({"k": obj}, 2)
    enough, less = PackOptions(depth_max=50), PackOptions(depth_max=49)
    assert there_and_back(obj, enough) == obj
    with pytest.raises(CannotPack, match="nested deeper than depth_max=49"):
        pack(obj, options=less)
    with pytest.raises(CannotUnpack, match="nested deeper than depth_max=49"):
        unpack(pack(obj, options=enough).parts, options=less)


def test_a_nesting_beyond_msgpack_is_refused_however_the_option_is_set() -> None:
    obj: list[Any] = []
    for _ in range(3000):
        obj = [obj]
    with pytest.raises(CannotPack, match="recursion"):
        pack(obj, options=PackOptions(depth_max=10_000))


def test_a_released_memoryview_is_named() -> None:
    view = memoryview(b"abc")
    view.release()
    with pytest.raises(CannotPack, match=r"cannot pack a\[0\]: .*released"):
        pack({"a": [view]}, options=OPTIONS)


def test_a_ref_that_nobody_would_accept_is_named() -> None:
    source = Source(origin="not a name", offer_id=b"", secret=b"", bytes_total=0)
    with pytest.raises(CannotPack, match=r"cannot pack \[0\]: a ref that nobody would accept"):
        pack([Ref(source=source, item=0, offset=0, length=0, kind="magic")], options=OPTIONS)


def test_a_table_of_types_decides() -> None:
    table = TypeTable(kinds={dict: Kind.MAP, str: Kind.TEXT, int: Kind.INT})
    assert isinstance(pack({"a": 1}, options=OPTIONS, types=table), Packed)
    with pytest.raises(CannotPack, match="cannot pack a: a value of type float"):
        pack({"a": 1.0}, options=OPTIONS, types=table)


def test_a_table_that_says_what_cannot_be_written_is_refused() -> None:
    table = TypeTable(kinds={list: Kind.LIST, complex: Kind.NIL})
    with pytest.raises(CannotPack, match="a value of type complex cannot travel as Kind.NIL"):
        pack([1j], options=OPTIONS, types=table)


def test_the_object_is_not_changed() -> None:
    inner = [b"x" * 100, np.zeros(10)]
    obj = {"a": inner, "b": (inner,)}
    pack(obj, options=TINY, lend=Lender())
    assert obj["a"] is inner and obj["b"] == (inner,) and inner[0] == b"x" * 100 and isinstance(inner[1], np.ndarray)
