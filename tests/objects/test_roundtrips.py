"""Random objects of all types that may travel, nested at random, come back the same in every way they can be packed; and
whatever is done to their bytes gives an object or `CannotUnpack`, in bounded memory.
"""

from __future__ import annotations

import enum
import pathlib
import tracemalloc
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta, timezone
from typing import Any, NamedTuple

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

from zdl.download.dumping import dumps, loads
from zdl.errors import CannotUnpack
from zdl.objects.arrays import restore
from zdl.objects.dtypes import DTYPES, EXTENDED, dtype_of
from zdl.objects.externalize import find_refs, replace_refs
from zdl.objects.manifest import Manifest
from zdl.objects.pack import Lent, pack
from zdl.objects.typetable import Code, TypeTable
from zdl.objects.unpack import unpack
from zdl.objects.values import Unbuilt
from zdl.options import PackOptions
from zdl.refs import Source

TINY = PackOptions(inline_bytes_max=4, beside_bytes_max=16, beside_sum_bytes_max=64)
FEW_FRAMES = PackOptions(inline_bytes_max=1, beside_bytes_max=1, frames_max=3)
SMALL = PackOptions(skeleton_bytes_max=1 << 20, frames_max=8, inline_bytes_max=4, beside_bytes_max=16)
STRUCT = dtype_of("{28;0=1:a<i4;4=4:x;}=>U3(1);16=1:b{12;0=1:t<m8[s];8=1:s|S4}}")


@dataclass(frozen=True)
class Point:
    x: object
    y: object = None


class Pair(NamedTuple):
    left: object
    right: object


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Box:
    """A class of a user's, which is lent."""

    def __init__(self, inside: object) -> None:
        self.inside = inside


TYPES = TypeTable().with_types(Point, Pair, Colour).with_type(
    Box, name="box", to_plain=lambda box: [box.inside], from_plain=lambda plain: Box(plain[0]), is_lent=True)


def lend(manifest: Manifest, lent: Sequence[Lent]) -> Source:
    """An offer as large as it must be."""
    return Source(origin="site-1", offer_id=b"i" * 16, secret=b"s" * 16, bytes_total=manifest.bytes_total)


def same(one: Any, other: Any) -> bool:
    """Equal in type and value, all the way down; a NaN equals a NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, (np.ndarray, np.generic)):
        return bool((one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes()))
    if isinstance(one, dict):
        return len(one) == len(other) and all(map(same, one, other)) and all(map(same, one.values(), other.values()))
    if isinstance(one, (list, tuple, deque)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, Point):
        return same((one.x, one.y), (other.x, other.y))
    if isinstance(one, Box):
        return same(one.inside, other.inside)
    return bool(one == other or (one != one and other != other))


@st.composite
def arrays(draw: st.DrawFn) -> NDArray[Any]:
    """An array of any dtype, in any layout, of any bytes that its dtype can have."""
    names = [*sorted(DTYPES), *EXTENDED, "<M8[ns]", ">m8[3D]", "|S3", "|V5", "<U2"]
    kind = draw(st.sampled_from(names).map(dtype_of) | st.just(STRUCT))
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
    made = np.zeros(shape, kind)
    if kind.kind in "iufcM" and kind.isnative and kind.type.__module__ == "numpy" and made.size:
        made.reshape(-1)[:] = np.arange(made.size)
    layout = draw(st.integers(0, 3))
    return (made, np.asfortranarray(made) if made.ndim else made, made[::-1] if made.ndim else made, made.T)[layout]


offsets = st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)
atoms = st.one_of(
    st.complex_numbers(allow_nan=False), st.datetimes(timezones=st.none() | offsets), st.dates(), st.times(), st.timedeltas(),
    st.decimals(allow_nan=False), st.uuids(), st.text("ab./", max_size=8).map(pathlib.PurePath),
    st.builds(range, st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 3)))
scalars = st.sampled_from([np.float32(0.5), np.int8(-1), np.datetime64("2026-03-01", "s"), np.timedelta64(3, "D"), np.bool_(True),
                           np.complex64(1j), np.longdouble(1) / 3])
keys = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.binary(max_size=20) | atoms | st.sampled_from(Colour)
    | scalars,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3) | st.builds(Point, inner)
    | st.builds(Pair, inner, inner), max_leaves=4)
leaves = keys | st.floats() | arrays() | st.binary(max_size=40)
objects = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=3) | st.tuples(inner, inner)
    | st.lists(inner, max_size=3).map(deque) | st.sets(keys, max_size=3) | st.builds(Point, inner, inner)
    | st.builds(Pair, inner, inner) | st.builds(Box, inner), max_leaves=12)


@given(objects, st.sampled_from([PackOptions(), TINY, FEW_FRAMES]))
def test_every_object_comes_back_the_same(obj: object, options: PackOptions) -> None:
    assert same(unpack(pack(obj, options=options, types=TYPES).parts, options=options, types=TYPES), obj)


@given(objects)
def test_every_object_comes_back_the_same_from_a_dump(obj: object) -> None:
    assert same(loads(dumps(obj, types=TYPES), types=TYPES), obj)


@given(objects)
def test_every_object_comes_back_when_its_refs_are_resolved_however_often_it_was_sent_on(obj: object) -> None:
    lent: list[Lent] = []

    def noted(manifest: Manifest, leaves: Sequence[Lent]) -> Source:
        lent.extend(leaves)
        return lend(manifest, leaves)

    packed = pack(obj, options=TINY, types=TYPES, lend=noted)
    found = unpack(packed.parts, options=TINY, types=TYPES)
    again = unpack(pack(found, options=PackOptions(), types=TYPES).parts, options=PackOptions(), types=TYPES)
    refs = find_refs(found)
    raws = {ref: bytes(lent[ref.item].buffer) for ref in refs}
    values = {ref: restore(ref.dtype, ref.shape, raw, copy=True) if ref.kind == "array" else raw for ref, raw in raws.items()}
    assert len(refs) == packed.lent_count
    assert find_refs(again) == refs
    assert same(replace_refs(again, values), obj)
    assert same(replace_refs(found, values), obj)


# --- fuzz ---------------------------------------------------------------------------------------

SAMPLE = pack({
    "a": [1, 2**70, (None, True, -1.5)], b"k": np.zeros(1, "<f4"), "b": np.arange(8, dtype="|u1"), "c": b"x" * 12,
    "d": np.zeros(9), ("t", 1): np.float16(3), "e": {1, "two"}, "f": frozenset((Colour.RED,)), "g": deque([1], 3),
    "h": Point(1, Pair(2, np.zeros(9))),
    "i": Box(b"z"), "j": [1j, timedelta(1), pathlib.PurePath("a"), range(3)], "k": np.zeros(2, STRUCT), "l": np.zeros(1, "<M8[s]"),
}, options=SMALL, types=TYPES, lend=lend).parts


def is_object_or_refused(parts: Sequence[bytes | memoryview]) -> bool:
    """Whether an object comes of it that can be sent on, or a refusal that can be shown; any other error is raised."""
    try:
        found = unpack(parts, options=SMALL, types=TYPES)
    except CannotUnpack as error:
        return len(str(error)) < 1000
    return bool(pack(found, options=SMALL, types=TYPES))


@pytest.mark.fault("H19")
@settings(max_examples=400)
@given(st.integers(0, len(SAMPLE[0]) - 1), st.binary(max_size=3), st.integers(0, 3))
def test_h19_a_changed_skeleton_is_an_object_or_refused(at: int, put: bytes, gone: int) -> None:
    skeleton = bytes(SAMPLE[0])
    assert is_object_or_refused([skeleton[:at] + put + skeleton[at + gone:], *SAMPLE[1:]])


@pytest.mark.fault("H19")
def test_h19_every_byte_that_is_changed_gives_an_object_or_is_refused() -> None:
    skeleton = bytes(SAMPLE[0])
    for at in range(len(skeleton)):
        for flip in (1, 0x80, 0xff):
            assert is_object_or_refused([skeleton[:at] + bytes([skeleton[at] ^ flip]) + skeleton[at + 1:], *SAMPLE[1:]])


plain = st.none() | st.integers(-5, (1 << 64) - 1) | st.binary(max_size=4) | st.sampled_from(
    ["", "<f4", "<M8[s]", "|O", "{4;0=1:a<i4}", "RED"])
payloads = st.lists(plain | st.lists(st.integers(-1, 5), max_size=3), max_size=5).map(msgpack.packb) | st.sampled_from(
    [b"", b"Point", b"Pair", b"Colour", b"box", b"nobody", b"\xff"])
wire = st.recursive(plain | st.builds(msgpack.ExtType, st.integers(0, 17), payloads), lambda inner: st.lists(inner, max_size=4) | (
    st.builds(lambda code, payload, rest: [msgpack.ExtType(code, payload), *rest], st.sampled_from(
        [Code.TUPLE, Code.SET, Code.FROZENSET, Code.DEQUE, Code.VALUE, Code.VALUE]), payloads, st.lists(inner, max_size=2)))
    | st.dictionaries(st.integers(0, 3) | st.sampled_from(["x", "y", "left", "right"]), inner, max_size=3), max_leaves=12)


@pytest.mark.fault("H19")
@settings(max_examples=400)
@given(wire, st.lists(st.binary(max_size=8), max_size=2))
def test_h19_any_skeleton_of_the_right_words_is_an_object_or_refused(root: object, frames: list[bytes]) -> None:
    assert is_object_or_refused([msgpack.packb([[], root]), *frames])


@pytest.mark.fault("H19")
@pytest.mark.parametrize("bomb", [
    b"\xdd\x00\x00\x61\xa8" + b"\x91\xc7\x00\x09" * 25_000,
    b"\xdd\x00\x00\x61\xa8" + b"\x92\xc7\x05\x0cPoint\x80" * 25_000,
    b"\xdd\x00\x00\x61\xa8" + b"\x92\xc7\x03\x0cbox\x91\xc0" * 25_000,
    b"\x92\xc7\x05\x0cPoint\x81\xa1x" * 1000 + b"\xc0",
    b"\xdd\x00\x00\x27\x10" + b"\xc7\x05\x08\x94\x08\x00\x01\x01" * 10_000,
    b"\xdd\x00\x00\x27\x10" + b"\x91\xc7\x02\x0b\x91\xc0" * 10_000,
    b"\xc8\x40\x00\x03" + msgpack.packb(["{4;" * 5000, b""])[:0x4000].ljust(0x4000, b"\xc0"),
])
def test_h19_memory_is_bounded_by_the_bytes_that_came(bomb: bytes) -> None:
    skeleton = b"\x92\x90" + bomb
    tracemalloc.start()
    try:
        assert is_object_or_refused([skeleton])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= 150 * len(skeleton) + (1 << 20)


def test_what_was_cut_off_is_refused() -> None:
    for length in range(len(SAMPLE[0])):
        with pytest.raises(CannotUnpack):
            unpack([bytes(SAMPLE[0])[:length], *SAMPLE[1:]], options=SMALL, types=TYPES)


def test_a_value_that_waits_can_be_unpacked_by_who_has_another_class_of_that_name() -> None:
    other = TypeTable().with_type(Point, name="box").with_types(Pair, Colour)
    found = unpack(pack([Box(np.zeros(9))], options=TINY, types=TYPES, lend=lend).parts, options=TINY, types=other)
    assert isinstance(found, list) and isinstance(found[0], Unbuilt) and found[0].type.cls is Point
