"""Sizes: about how many bytes an object has, without packing it."""

from __future__ import annotations

import numpy as np
import pytest

from zdl.download.sizes import REF_BYTES, VALUE_BYTES, bytes_of
from zdl.refs import Ref, Source


def test_bytes_arrays_and_text_count_as_they_are() -> None:
    assert bytes_of(b"12345") == bytes_of(bytearray(5)) == bytes_of(memoryview(b"12345")) == bytes_of("12345") == 5
    assert bytes_of(np.zeros((3, 4), np.float64)) == 96
    assert bytes_of(np.float32(1)) == 4


def test_containers_have_the_bytes_of_what_is_in_them() -> None:
    assert bytes_of({"ab": [b"123", (b"4", b"5")]}) == 7
    assert bytes_of([]) == 0


def test_what_has_no_bytes_of_its_own_has_a_few() -> None:
    ref = Ref(Source("server", b"0" * 16, b"1" * 16, 10), 0, 0, 10, "bytes")
    assert bytes_of([1, None, True]) == 3 * VALUE_BYTES
    assert bytes_of(ref) == REF_BYTES


def test_what_contains_itself_is_refused() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(RecursionError):
        bytes_of(endless)
