"""Sizes: about how many bytes an object has, without packing it."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass
class Layer:
    name: str
    weights: object
    above: object = None


class Plain:
    def __init__(self) -> None:
        self.weights = np.zeros(100, np.uint8)


def test_objects_of_users_classes_have_the_bytes_of_what_they_hold_each_once() -> None:
    layer = Layer("embed", np.zeros(1000, np.uint8))
    assert 1005 <= bytes_of(layer) <= 1005 + 2 * VALUE_BYTES
    assert 100 <= bytes_of([Plain()]) <= 100 + VALUE_BYTES
    layer.above = Layer("head", b"x" * 500, above=layer)  # they hold one another
    assert 1509 <= bytes_of({"model": layer}) <= 1514 + 4 * VALUE_BYTES


def test_what_contains_itself_is_refused() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(RecursionError):
        bytes_of(endless)
