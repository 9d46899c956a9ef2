"""Items: what goes into one message comes out of it again, and nothing else does."""

from __future__ import annotations

import msgpack
import pytest

from zdl.errors import DecodeError
from zdl.protocol.items import BATCH_ITEMS_MAX, INDEX_BYTES_MAX, INLINE_BYTES_MAX, gather, scatter, size_of
from zdl.protocol.messages import Body

LARGE = b"l" * (INLINE_BYTES_MAX + 1)


@pytest.mark.parametrize("items", [
    [], [()], [(b"",)], [(b"a",), (b"bc",)], [(LARGE,)], [(b"a", memoryview(b"b"), LARGE), (), (b"c",)],
    [(memoryview(b"view"),)], [(b"a", memoryview(b"b")), (b"", b""), (b"one",)], [(b"p",) * (BATCH_ITEMS_MAX + 1)],
])
def test_what_is_gathered_is_scattered(items: list[Body]) -> None:
    body = gather(items)
    assert [tuple(map(bytes, each)) for each in scatter(body)] == [tuple(map(bytes, each)) for each in items]


def test_small_items_share_a_frame_and_large_ones_are_not_copied() -> None:
    assert len(gather([(b"x" * 1024,)] * 60)) == 1
    assert gather([(LARGE,)])[1] is LARGE
    assert len(gather([(b"skeleton", memoryview(b"x" * 40_000)), (b"x" * 40_000,)])) == 1
    assert gather([(b"skeleton", LARGE)])[2] is LARGE


def test_a_size_counts_bytes_and_not_elements() -> None:
    assert size_of((b"abc", memoryview(b"12345678").cast("I"))) == 11


@pytest.mark.parametrize("body", [
    (b"\xc1",), (msgpack.packb({"a": 1}),), (msgpack.packb([1]),), (msgpack.packb([True]),), (msgpack.packb(["text"]),),
    (msgpack.packb([b"x"]), b"of nobody"), (msgpack.packb([-1]),), (msgpack.packb([2]), b"one"), (b"",),
    (msgpack.packb([b""] * (BATCH_ITEMS_MAX + 1)),), (b"\x91\xc6" + b"\0" * (INDEX_BYTES_MAX + 1),),
    (msgpack.packb([[[b"nested"]]]),), (msgpack.packb([["text"]]),), (msgpack.packb([[1]]), b"one"),
])
def test_what_was_not_gathered_is_refused(body: Body) -> None:
    with pytest.raises(DecodeError):
        scatter(body)


def test_no_body_holds_no_items() -> None:
    assert scatter(()) == ()
