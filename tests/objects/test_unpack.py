"""Unpacking what anybody may have written: an object, or CannotUnpack, in bounded memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, strategies as st

from zdl.errors import CannotUnpack
from zdl.objects.pack import pack
from zdl.objects.typetable import Code
from zdl.objects.unpack import unpack
from zdl.options import PackOptions
from zdl.refs import Ref, Source

OPTIONS = PackOptions(skeleton_bytes_max=1 << 20, frames_max=8, inline_bytes_max=4, beside_bytes_max=16)
ROW = ["site-1", b"i" * 16, b"s" * 16, 1000]
SOURCE = Source(origin="site-1", offer_id=b"i" * 16, secret=b"s" * 16, bytes_total=1000)


def ext(code: int, *fields: object) -> msgpack.ExtType:
    """A leaf of the wire."""
    return msgpack.ExtType(code, msgpack.packb(list(fields)))


def read(root: object, *frames: bytes | memoryview, table: object = ()) -> Any:
    """What a skeleton with this root is unpacked to."""
    return unpack((msgpack.packb([table, root]), *frames), options=OPTIONS)


def refused(root: object, *frames: bytes | memoryview, table: object = (), match: str | None = None) -> str:
    """What it is refused with: nothing but `CannotUnpack` comes of it."""
    with pytest.raises(CannotUnpack, match=match) as caught:
        read(root, *frames, table=table)
    return str(caught.value)


def ref_fields(**changes: object) -> list[object]:
    """The fields of a good ref, but for the changes."""
    fields: dict[str, object] = dict(row=0, item=1, offset=64, length=24, kind=0, dtype="<f4", shape=[2, 3], name="")
    return list((fields | changes).values())


# --- what comes out -----------------------------------------------------------------------------


def test_what_is_inline_or_beside_comes_out_fresh_and_writable() -> None:
    frame = np.arange(3, dtype="<i2").tobytes()
    found = read([ext(Code.INLINE, "<i2", [3], frame), ext(Code.BESIDE, 1, 0, "<i2", [3])], frame)
    for array in found:
        assert array.tolist() == [0, 1, 2] and array.dtype == "<i2" and array.flags.writeable and array.flags.owndata
        array[0] = 9
    assert frame == np.arange(3, dtype="<i2").tobytes()


def test_a_part_of_an_array_comes_out_as_the_same_part() -> None:
    whole = Ref(SOURCE, 1, 64, 96, "array", "<f4", (4, 6))
    parts = [whole[:, 1], whole[::-1], whole[::2, ::-3], whole[1:3], whole[3, 2]]
    packed = pack(parts, options=OPTIONS)
    assert unpack(packed.parts, options=OPTIONS) == parts
    plain = pack([whole], options=OPTIONS).parts[0]
    assert plain == msgpack.packb([[ROW], [ext(Code.REF, 0, 1, 64, 96, 0, "<f4", [4, 6], "")]]), "no strides, no field"


@pytest.mark.parametrize("strides", [[], 5, "ab", None, [1], [3, 0], [3, 3], [3, 2.0], [3, True], [1 << 62, 1], [[3], [2]]])
def test_strides_that_no_part_has_are_refused(strides: object) -> None:
    good = [*ref_fields(shape=[2, 2], length=24), [3, 2]]
    assert read(ext(Code.REF, *good), table=[ROW]).strides == (3, 2)
    assert refused(ext(Code.REF, *good[:-1], strides), table=[ROW])
    assert refused(ext(Code.REF, *good, 1), table=[ROW])


def test_bytes_come_out_as_bytes_whatever_the_frame_is() -> None:
    assert read(ext(Code.BESIDE, 1, 1, "", []), memoryview(bytearray(b"abc"))) == b"abc"
    raw = b"abc"
    assert read(ext(Code.BESIDE, 1, 1, "", []), raw) is raw


def test_the_skeleton_may_be_a_view() -> None:
    assert unpack([memoryview(msgpack.packb([[], {"a": 1}]))], options=OPTIONS) == {"a": 1}


def test_equal_leaves_are_one_object() -> None:
    inline, beside = ext(Code.INLINE, "|u1", [1], b"x"), ext(Code.BESIDE, 1, 0, "|u1", [1])
    ref = ext(Code.REF, *ref_fields())
    found = read([inline, ext(Code.SAME, 0), beside, beside, ref, ref, inline, ext(Code.SAME, 1)], b"y", table=[ROW])
    assert found[0] is found[1] and found[2] is found[3] and found[4] is found[5]
    assert found[6] is found[7] is not found[0]


def test_a_ref_comes_out_with_its_source() -> None:
    ref = Ref(source=SOURCE, item=1, offset=64, length=24, kind="array", dtype="<f4", shape=(2, 3))
    assert read(ext(Code.REF, *ref_fields()), table=[ROW]) == ref


def test_scalars_and_big_ints_come_out() -> None:
    scalar = read(ext(Code.SCALAR, "<f4", np.float32(0.5).tobytes()))
    assert type(scalar) is np.float32 and scalar == 0.5
    assert read(msgpack.ExtType(Code.BIGINT, b"\0" * 9 + b"\x80")) == -(1 << 79)


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("skeleton", [
    b"", b"\x92", b"\x92\x90", b"\x90", b"\x91\x90", b"\x93\x90\xc0\xc0", b"\x81\x90\xc0", b"\xc0", b"\x92\xc0\xc0",
    b"\x92\x80\xc0", b"\x92\x90\xc0\xc0", b"\x92\x90\xc1", b"\x92\x90\xa1\xff", b"\x92\x90\xa3\xed\xa0\x80",
    b"\x92\x90\xdd\xff\xff\xff\xff", b"\x92\x90\xdf\xff\xff\xff\xff", b"\x92\x90\xdb\xff\xff\xff\xff",
    b"\x92\x90\xc6\xff\xff\xff\xff",
    b"\x92\x90\xc9\xff\xff\xff\xff\x01", b"\x92\xdd\xff\xff\xff\xff\xc0",
    b"\x92\x90\x81\x90\xc0", b"\x92\x90\x81\x80\xc0",
    b"\x92\x91\x90\xc0", b"\x92\x91\xc0\xc0",
])
def test_a_skeleton_that_is_none_is_refused(skeleton: bytes) -> None:
    with pytest.raises(CannotUnpack):
        unpack([skeleton], options=OPTIONS)


@pytest.mark.parametrize("code", [-128, -2, 0, 60, 127])
def test_an_unknown_extension_is_refused(code: int) -> None:
    skeleton = b"\x92\x90\xc7\x01" + code.to_bytes(1, "big", signed=True) + b"\x00"
    with pytest.raises(CannotUnpack, match=f"extension {code} with 1 bytes is unknown"):
        unpack([skeleton], options=OPTIONS)


@pytest.mark.parametrize("stamp", [
    b"\xd6\xff\0\0\0\1", b"\xd7\xff" + b"\0" * 8, b"\xd7\xff" + b"\xff" * 8, b"\xd4\xff\0"])
@pytest.mark.parametrize("around", [b"%s", b"\x91%s", b"\x81%s\xc0", b"\x81\xa1a%s", b"\x81\x92\xc7\x00\x01%s\xc0"])
def test_a_timestamp_of_msgpack_is_refused_anywhere(stamp: bytes, around: bytes) -> None:
    with pytest.raises(CannotUnpack):
        unpack([b"\x92\x90" + around % stamp], options=OPTIONS)


def test_the_mark_of_a_tuple_stands_first_or_nowhere() -> None:
    mark = msgpack.ExtType(Code.TUPLE, b"")
    assert read([mark, 1]) == (1,)
    for root in (mark, [1, mark], [mark, mark], {"a": mark}, [mark, [1, mark]], msgpack.ExtType(Code.TUPLE, b"x")):
        assert refused(root)
    with pytest.raises(CannotUnpack):
        unpack([b"\x92\x90\x81\xc7\x00\x01\xc0"], options=OPTIONS)  # as a key
    assert refused(None, table=[mark, *ROW])


@pytest.mark.parametrize("fields", [
    (), ("<f4",), ("<f4", [1], bytes(4), 0), ("<f4", 1, bytes(4)), ("<f4", [1], "abcd"), (b"<f4", [1], bytes(4)),
    ("|O", [1], bytes(8)), ("O8", [1], bytes(8)), ("<f4", [2], bytes(4)), ("<f4", [-1], bytes(4)),
    ("<f4", [1 << 62], bytes(4)),
    ("<f4", [1 << 32, 1 << 32], b""), ("<f4", [0, 1 << 60], b""), ("<f4", [True], bytes(4)), ("<f4", [[1]], bytes(4)),
    ("<f4", [1] * 33, bytes(4)), ("<f4", [1.0], bytes(4)),
])
def test_an_inline_array_that_lies_is_refused(fields: tuple[object, ...]) -> None:
    assert refused(ext(Code.INLINE, *fields))


@pytest.mark.parametrize("fields", [
    (0, 0, "<f4", [1]), (2, 0, "<f4", [1]), (-1, 0, "<f4", [1]), (True, 0, "<f4", [1]), (1 << 63, 0, "<f4", [1]),
    (1, 0, "<f4", [2]), (1, 0, "<f8", [1]), (1, 0, "<U2", [1]), (1, 1, "<f4", []), (1, 1, "", [4]), (1, 2, "", []),
    (1, 3, "", []), (1, -1, "", []), (1, 0, "<f4"), (1, 0, "<f4", [1], 0), ("1", 0, "<f4", [1]),
])
def test_a_leaf_beside_that_lies_is_refused(fields: tuple[object, ...]) -> None:
    assert refused(ext(Code.BESIDE, *fields), bytes(4))


def test_a_frame_has_one_description_and_a_name() -> None:
    one, other = ext(Code.BESIDE, 1, 0, "<f4", [1]), ext(Code.BESIDE, 1, 0, "<i4", [1])
    assert refused([one, other], bytes(4), match="described otherwise")
    assert refused(one, bytes(4), bytes(4), match="1 frames are named, 2 came")
    assert refused(None, bytes(4), match="0 frames are named, 1 came")


@pytest.mark.parametrize("index", [-1, 1, True, "0", None])
def test_an_array_that_was_not_before_is_refused(index: object) -> None:
    assert refused([ext(Code.INLINE, "|u1", [1], b"x"), ext(Code.SAME, index)])
    assert refused([ext(Code.SAME, 0), ext(Code.INLINE, "|u1", [1], b"x")])


@pytest.mark.parametrize("fields", [
    ("<f4", bytes(3)), ("<f4", bytes(5)), ("|O", bytes(8)), ("<f4",), (4, bytes(4)), ("<f4", "abcd")])
def test_a_scalar_that_lies_is_refused(fields: tuple[object, ...]) -> None:
    assert refused(ext(Code.SCALAR, *fields))


def test_a_big_int_of_no_bytes_is_refused() -> None:
    assert refused(msgpack.ExtType(Code.BIGINT, b""))


@pytest.mark.parametrize("changes", [
    dict(row=1), dict(row=-1), dict(row=True), dict(item=-1), dict(item=1 << 60), dict(offset=-1), dict(offset=977),
    dict(offset=1 << 63), dict(length=25), dict(length=-24), dict(kind=5), dict(kind=-1), dict(kind=1), dict(kind=2),
    dict(dtype="|O"), dict(dtype="O8"), dict(dtype=""), dict(dtype=b"<f4"), dict(shape=[6, 2]), dict(shape=[-2, -3]),
    dict(shape=[2, 3] + [1] * 31), dict(shape=6), dict(shape=[2.0, 3]), dict(shape=[[2], 3]), dict(name="x"),
    dict(name=None), dict(extra=1),
])
def test_a_ref_that_lies_is_refused(changes: dict[str, object]) -> None:
    assert refused(ext(Code.REF, *ref_fields(**changes)), table=[ROW])


@pytest.mark.parametrize("name", ["..", ".", "a/b", "/etc/passwd", "a\\b", "a\0b", "a\nb", "x" * 256, "é" * 128])
def test_the_name_of_a_file_is_one_component(name: str) -> None:
    good = ref_fields(kind=2, dtype="", shape=[], name="model.bin")
    assert read(ext(Code.REF, *good), table=[ROW]).name == "model.bin"
    assert refused(ext(Code.REF, *ref_fields(kind=2, dtype="", shape=[], name=name)), table=[ROW])


@pytest.mark.parametrize("row", [
    [], ROW[:3], [*ROW, 1], ["", *ROW[1:]], ["a b", *ROW[1:]], [b"site-1", *ROW[1:]], ["site-1", b"short", *ROW[2:]],
    ["site-1", b"i" * 16, "s" * 16, 1000], ["site-1", b"i" * 16, b"s" * 15, 1000], [*ROW[:3], -1], [*ROW[:3], 1 << 57],
    [*ROW[:3], True], [*ROW[:3], None], None, "site-1", {"origin": 1},
])
def test_a_source_that_lies_is_refused(row: object) -> None:
    assert refused(None, table=[row])


def test_a_key_stands_once_in_a_map() -> None:
    with pytest.raises(CannotUnpack, match="a key stands twice"):
        unpack([b"\x92\x90\x82\x01\xc0\x01\xc0"], options=OPTIONS)


def test_keys_that_are_chosen_to_have_one_hash_are_refused() -> None:
    numbers = [(index << 64) * ((1 << 61) - 1) for index in range(1, 2000)]
    pairs = b"".join(msgpack.packb(msgpack.ExtType(Code.BIGINT, number.to_bytes(24, "little", signed=True))) + b"\xc0"
                     for number in numbers)
    with pytest.raises(CannotUnpack, match="keys of a map have one hash"):
        unpack([b"\x92\x90\xde" + len(numbers).to_bytes(2, "big") + pairs], options=OPTIONS)


def test_coordinates_are_good_keys_though_some_share_a_hash() -> None:
    grid = {(x, y, z): None for x in range(-6, 6) for y in range(-6, 6) for z in range(-6, 6)}
    assert unpack(pack(grid, options=OPTIONS).parts, options=OPTIONS) == grid


def test_the_limits_are_kept() -> None:
    assert refused("x" * (1 << 20), match="skeleton_bytes_max=1048576")
    with pytest.raises(CannotUnpack, match=r"9 parts are not within 1…8"):
        unpack([b"\x92\x90\xc0", *[b""] * 8], options=OPTIONS)
    with pytest.raises(CannotUnpack, match="0 parts"):
        unpack([], options=OPTIONS)


@pytest.mark.parametrize("level", [b"\x91", b"\x81\x01", b"\x92\xc7\x00\x01", b"\x81\xa1a"])
@pytest.mark.parametrize("depth", [101, 600, 1022, 1023, 5000, 200_000])
def test_nesting_is_refused_beyond_the_limit(level: bytes, depth: int) -> None:
    unpack([b"\x92\x90" + level * 100 + b"\xc0"], options=OPTIONS)
    with pytest.raises(CannotUnpack):
        unpack([b"\x92\x90" + level * depth + b"\xc0"], options=OPTIONS)


def test_a_nested_payload_is_refused() -> None:
    assert refused(msgpack.ExtType(Code.INLINE, b"\x91" * 5000))
    assert refused(msgpack.ExtType(Code.INLINE, b"\x93\xa3<f4" + b"\x91" * 500 + b"\x01\xc4\x04abcd"))


@pytest.mark.parametrize("bomb", [
    b"\xdd\x00\x01\x86\xa0" + b"\x90" * 100_000,
    b"\xdd\x00\x01\x86\xa0" + b"\x80" * 100_000,
    b"\xdd\x00\x01\x86\xa0" * 20_000,
    b"\xdd\x00\x00\x80\x00" * 1000 + b"\x90" * 95_000,
    b"\xc8\xff\xff\x04" + b"\xdd\x00\x00\x80\x00" * 13_107,
    b"\xdf\x00\x00\x80\x00\x01" * 16_000,
    b"\xdd\x00\x00\x61\xa8" + b"\x91\xc7\x00\x01" * 25_000,
    b"\xdd\x00\x00\x61\xa8" + b"\xc7\x01\x02\x01" * 25_000,
    b"\xdd\x00\x00\x1f\x40" + b"\xc7\x0a\x04\x93\xa3|u1\x91\x00\xc4\x00" * 8000,
    b"\xdf\x00\x00\x61\xa8" + b"".join(b"\xcd" + index.to_bytes(2, "big") + b"\x80" for index in range(25_000)),
    b"\xdf\x00\x00\x61\xa8" + b"\x01\x80" * 25_000,
])
def test_memory_is_bounded_by_the_bytes_that_came(bomb: bytes) -> None:
    skeleton = b"\x92\x90" + bomb
    tracemalloc.start()
    try:
        unpack([skeleton], options=OPTIONS)
    except CannotUnpack:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak <= 100 * len(skeleton) + (1 << 20)


# --- anything -----------------------------------------------------------------------------------


def lend(manifest: Any, lent: Sequence[object]) -> Source:
    """An offer as large as it must be."""
    return Source(origin="site-1", offer_id=b"i" * 16, secret=b"s" * 16, bytes_total=manifest.bytes_total)


SAMPLE = pack({"a": [1, 2**70, (None, True, -1.5)], b"k": np.zeros(1, "<f4"), "b": np.arange(8, dtype="|u1"),
               "c": b"x" * 12, "d": np.zeros(9), ("t", 1): np.float16(3), "e": "text"},
              options=OPTIONS, lend=lend).parts


def is_object_or_refused(parts: Sequence[bytes | memoryview]) -> bool:
    """Whether an object comes of it that can be sent on, or a refusal that can be shown; any other error is raised."""
    try:
        found = unpack(parts, options=OPTIONS)
    except CannotUnpack as error:
        return len(str(error)) < 400
    return bool(pack(found, options=OPTIONS))


@given(st.binary(max_size=60), st.lists(st.binary(max_size=8), max_size=2))
def test_any_bytes_are_an_object_or_refused(root: bytes, frames: list[bytes]) -> None:
    assert is_object_or_refused([root, *frames])
    assert is_object_or_refused([b"\x92\x90" + root, *frames])


@given(st.integers(0, len(SAMPLE[0]) - 1), st.binary(max_size=3), st.integers(0, 3))
def test_a_changed_skeleton_is_an_object_or_refused(at: int, put: bytes, gone: int) -> None:
    skeleton = bytes(SAMPLE[0])
    assert is_object_or_refused([skeleton[:at] + put + skeleton[at + gone:], *SAMPLE[1:]])


@given(st.integers(0, len(SAMPLE[0]) - 1))
def test_a_skeleton_that_is_cut_off_is_refused(length: int) -> None:
    with pytest.raises(CannotUnpack):
        unpack([bytes(SAMPLE[0])[:length], *SAMPLE[1:]], options=OPTIONS)


plain = st.none() | st.integers(-5, (1 << 64) - 1) | st.sampled_from(["", "<f4", "|u1", "|O"]) | st.binary(max_size=4)
fields = st.lists(plain | st.lists(st.integers(-1, 5), max_size=3), max_size=8)
payloads = fields.map(msgpack.packb) | st.binary(max_size=6)
wire = st.recursive(plain | st.builds(msgpack.ExtType, st.integers(0, 9), payloads), lambda inner: st.lists(
    inner, max_size=4) | st.dictionaries(st.integers(0, 3) | st.text(max_size=2), inner, max_size=3), max_leaves=10)


@given(wire, st.lists(st.binary(max_size=8), max_size=2), st.sampled_from([[], [ROW], [ROW, ROW], [None]]))
def test_any_skeleton_of_the_right_words_is_an_object_or_refused(
        root: object, frames: list[bytes], table: object) -> None:
    assert is_object_or_refused([msgpack.packb([table, root]), *frames])
