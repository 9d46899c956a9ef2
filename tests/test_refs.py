"""Refs: a lent object as a value; what comes from the wire is checked, and the secret is never shown."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from zdl.errors import BadSelection, CannotUnpack, OptionError
from zdl.refs import DIMENSIONS_MAX, ITEM_BYTES_MAX, LazyDownloadRef, Ref, Source

SOURCE = Source("site-1", bytes(range(16)), b"S" * 16, 1000)
REF = Ref(SOURCE, 2, 128, 400, "array", "<f4", (10, 10))


def test_a_ref_names_the_cell_that_lends_it_and_its_bytes() -> None:
    assert (REF.origin, REF.nbytes, SOURCE.label) == ("site-1", 400, "ref:00010203…")
    SOURCE.check()
    REF.check()


def test_refs_and_sources_are_shown_without_the_secret() -> None:
    assert repr(SOURCE) == "<Source ref:00010203… of site-1, 1000 bytes>"
    assert repr(REF) == "<Ref ref:00010203…[2] of site-1, <f4[10, 10], 400 bytes>"
    file = dataclasses.replace(REF, kind="file", name="x.bin")
    assert repr(file) == "<Ref ref:00010203…[2] of site-1, file, 400 bytes>"
    assert "SSSS" not in repr(REF) + repr(SOURCE) + str(REF)


def test_the_ancestors_name_is_kept() -> None:
    assert LazyDownloadRef is Ref


def test_refs_are_frozen_values() -> None:
    assert dataclasses.replace(REF) == REF and hash(dataclasses.replace(REF)) == hash(REF)
    with pytest.raises(dataclasses.FrozenInstanceError):
        REF.offset = 0  # type: ignore[misc]


@pytest.mark.parametrize(("change", "reason"), [
    ({"origin": "a..b"}, "is not a cell name"), ({"origin": 7}, "must be a string"),
    ({"offer_id": b"x" * 15}, "offer id is not 16 bytes"), ({"offer_id": "x" * 16}, "offer id is not 16 bytes"),
    ({"secret": b""}, "secret is not 16 bytes"), ({"secret": None}, "secret is not 16 bytes"),
    ({"bytes_total": -1}, "size is not within"), ({"bytes_total": ITEM_BYTES_MAX + 1}, "size is not within"),
    ({"bytes_total": True}, "size is not within"), ({"bytes_total": 1.0}, "size is not within")])
def test_a_source_that_is_not_well_formed_is_refused(change: dict[str, object], reason: str) -> None:
    with pytest.raises(CannotUnpack, match=reason):
        dataclasses.replace(SOURCE, **change).check()  # type: ignore[arg-type]


@pytest.mark.parametrize(("change", "reason"), [
    ({"item": -1}, "its item"), ({"item": "2"}, "its item"), ({"offset": -1}, "its offset"),
    ({"length": 1.5}, "its length"), ({"length": ITEM_BYTES_MAX + 1}, "its length"),
    ({"offset": 601}, "ends at byte 1001 of an offer of 1000"),
    ({"shape": (-1,)}, "its shape"), ({"shape": (True,)}, "its shape"), ({"kind": "pickle"}, "its kind is 'pickle'"),
    ({"mode": 0o644}, "array with the facts of a file"), ({"stamp": b"x"}, "array with the facts of a file"),
    ({"kind": "file", "mode": 0o4755}, "its mode is not within 0…777"),
    ({"kind": "file", "stamp": bytes(33)}, "more than 32 bytes"),
    ({"kind": "x" * 500}, "its kind"), ({"shape": (1,) * (DIMENSIONS_MAX + 1)}, "more than 32 dimensions")])
def test_a_ref_that_claims_what_cannot_be_is_refused(change: dict[str, object], reason: str) -> None:
    with pytest.raises(CannotUnpack, match=reason) as caught:
        dataclasses.replace(REF, **change).check()  # type: ignore[arg-type]
    assert len(str(caught.value)) < 200


def test_the_whole_offer_and_an_empty_item_at_its_end_are_fine() -> None:
    for change in ({"offset": 0, "length": 1000}, {"offset": 1000, "length": 0}, {"kind": "bytes"}, {"kind": "file"},
                   {"kind": "folder", "mode": 0o777, "stamp": bytes(32)},
                   {"shape": (1,) * DIMENSIONS_MAX}, {"shape": ()}):
        dataclasses.replace(REF, **change).check()  # type: ignore[arg-type]


@given(st.integers(-10, 1100), st.integers(-10, 1100))
def test_exactly_the_ranges_within_the_offer_are_allowed(offset: int, length: int) -> None:
    ref = dataclasses.replace(REF, offset=offset, length=length)
    if offset >= 0 and length >= 0 and offset + length <= 1000:
        ref.check()
    else:
        with pytest.raises(CannotUnpack):
            ref.check()


# --- parts --------------------------------------------------------------------------------------

def lent(array: NDArray[Any], offset: int = 64) -> tuple[Ref, bytes]:
    """A ref of this array, and the offer's byte stream."""
    stream = bytes(offset) + array.tobytes() + b"behind it"
    source = dataclasses.replace(SOURCE, bytes_total=len(stream))
    return Ref(source, 0, offset, array.nbytes, "array", array.dtype.str, array.shape), stream


def read(ref: Ref, stream: bytes) -> NDArray[Any]:
    """What its origin would give: numpy knows no other way to read strides, and refuses those beyond the buffer."""
    piece = stream[ref.offset:ref.offset + ref.length]
    steps = ref.strides or None
    head = sum((side - 1) * -stride for side, stride in zip(ref.shape, ref.strides) if stride < 0)
    return np.ndarray(ref.shape, ref.dtype, piece, head * ref.itemsize, steps and [each * ref.itemsize for each in steps])


def sliced(ref: Ref, array: NDArray[Any], key: Any) -> tuple[Ref, NDArray[Any]]:
    """The part of both."""
    return ref[key], np.asarray(array[key], array.dtype)


@given(st.data(), hnp.arrays(st.sampled_from(("<f4", ">i2", "|u1", "<c16", "|b1")),
                             hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6)))
def test_parts_of_parts_are_what_numpy_selects(data: st.DataObject, array: NDArray[Any]) -> None:
    ref, stream = lent(array)
    for _ in range(data.draw(st.integers(1, 3), label="how often")):
        key = data.draw(hnp.basic_indices(array.shape, allow_newaxis=False), label="key")
        ref, array = sliced(ref, array, key)
        ref.check()
        assert (ref.shape, ref.dtype, ref.nbytes) == (array.shape, array.dtype.str, array.nbytes)
        assert read(ref, stream).tobytes() == array.tobytes()
        is_one_piece = array.flags.c_contiguous
        assert (ref.strides == ()) == is_one_piece
        assert not is_one_piece or ref.length == ref.nbytes


@given(hnp.arrays("<i4", hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=9)), st.data(), st.integers(1, 12))
def test_shards_are_those_of_array_split(array: NDArray[Any], data: st.DataObject, world: int) -> None:
    ref, stream = lent(array)
    dim = data.draw(st.integers(-array.ndim, array.ndim - 1))
    for rank, want in enumerate(np.array_split(array, world, dim)):
        shard = ref.shard(dim, rank, world)
        assert shard.shape == want.shape and read(shard, stream).tobytes() == want.tobytes()


def test_rows_are_a_smaller_range_of_the_same_offer() -> None:
    ref, _ = lent(np.zeros((10, 4, 5), "<f4"))
    assert ref[2:5] == Ref(ref.source, 0, 64 + 2 * 80, 3 * 80, "array", "<f4", (3, 4, 5))
    assert ref[2:5] == ref[2:5, :] == ref[2:5, ...] == ref[-8:5] == ref[1:][1:4]
    assert ref[3, 1:3] == Ref(ref.source, 0, 64 + 3 * 80 + 20, 40, "array", "<f4", (2, 5))
    assert ref[-1, -1, -1] == Ref(ref.source, 0, 64 + 796, 4, "array", "<f4", ())
    assert ref[:] == ref == ref[...] and ref[5:5].nbytes == 0
    assert ref[:, 1] == Ref(ref.source, 0, 64 + 20, (9 * 20 + 5) * 4, "array", "<f4", (10, 5), strides=(20, 1))
    assert (ref[:, 1].nbytes, ref[:, 1].extent, ref[:, 1].itemsize, ref[0:0].itemsize) == (200, 185, 4, 0)


def test_bytes_and_files_are_cut_as_bytes_are() -> None:
    for kind in ("bytes", "file"):
        ref = Ref(SOURCE, 1, 100, 50, kind, name="x" if kind == "file" else "")
        assert ref[10:20] == Ref(SOURCE, 1, 110, 10, "bytes")
        assert (ref[-5:].offset, ref[40:10].length, ref[:500].length) == (145, 0, 50)
        for key in (3, slice(0, 9, 2), (slice(0, 1), slice(0, 1)), ...):
            with pytest.raises(BadSelection):
                ref[key]


@pytest.mark.parametrize(("key", "reason"), [
    (10, "there is no 10 in a dimension of 10"), ((0, -11), "there is no -11 in a dimension of 10"),
    ((0, 0, 0), "3 selections are too many for 2 dimensions"), ((..., ...), "more than one ..."),
    (None, "newaxis selects nothing here"), (True, "True selects nothing"), ("w", "'w' selects nothing"),
    ([1, 2], "list selects nothing"), (np.zeros(10, bool), "ndarray"), (1.5, "float selects nothing"),
    (slice(0, 5, 0), "slice step cannot be zero"), (slice("a", 5), "slice indices must be")])
def test_what_no_slice_can_name_is_refused_with_its_reason(key: Any, reason: str) -> None:
    with pytest.raises(BadSelection, match=reason) as caught:
        REF[key]
    assert isinstance(caught.value, LookupError) and caught.value.path == repr(REF)


@pytest.mark.parametrize(("dim", "rank", "world"), [(2, 0, 1), (-3, 0, 1), (0, 4, 4), (0, -1, 4), (0, 0, 0)])
def test_a_shard_that_is_not_there_is_refused(dim: int, rank: int, world: int) -> None:
    with pytest.raises(BadSelection, match="there is no dimension|is not within"):
        REF.shard(dim, rank, world)


def test_a_ref_is_no_sequence_of_pulls() -> None:
    assert not isinstance(REF, Iterable)
    with pytest.raises(TypeError):
        list(REF)  # type: ignore[call-overload]


@pytest.mark.parametrize("change", [
    {"strides": (10,)}, {"strides": (20, 0)}, {"strides": (10, 1)}, {"strides": (1, 1)}, {"strides": (2, True)},
    {"strides": (1 << 57, 1)}, {"strides": (21, 2), "length": 1001}, {"strides": (1, 0), "shape": (3, 1), "length": 12},
    {"strides": (20, 2), "shape": (0, 10)}, {"strides": (2,), "kind": "bytes", "shape": ()}])
def test_strides_that_no_part_has_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(CannotUnpack):
        dataclasses.replace(REF, **change).check()


# --- its cell -----------------------------------------------------------------------------------

class Told:
    """A holder that says what it was asked."""

    def pull(self, what: object, into: object, **how: Any) -> object:
        return what, into, how

    def release(self, refs: Any) -> None:
        self.released = refs

    heard = None


def test_a_ref_is_pulled_and_released_by_the_cell_that_unpacked_it_and_so_are_its_parts() -> None:
    told = Told()
    part = dataclasses.replace(REF, holder=told)[:5]
    assert part.pull("mine", timeout_s=3.0) == (part, "mine", {"timeout_s": 3.0, "abort": None, "progress": None})
    part.release()
    assert told.released == [part]
    assert part == REF[:5] and hash(part) == hash(REF[:5]) and "holder" not in repr(part)


def test_an_unbound_ref_says_how_to_pull_it() -> None:
    with pytest.raises(OptionError, match=r"use cell\.downloads\.pull\(ref\)"):
        REF.pull()
    with pytest.raises(OptionError, match=r"use cell\.downloads\.release\(ref\)"):
        REF.release()


def test_a_copy_is_the_ref_itself_and_a_pickle_leaves_the_cell_behind() -> None:
    bound = dataclasses.replace(REF, holder=Told())
    assert copy.copy(bound) is copy.deepcopy([bound])[0] is bound
    again = pickle.loads(pickle.dumps(bound[:, 1]))
    assert again == bound[:, 1] and again.holder is None
