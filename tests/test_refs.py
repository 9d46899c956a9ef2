"""Refs: a lent object as a value; what comes from the wire is checked, and the secret is never shown."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, strategies as st

from zdl.errors import CannotUnpack
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
