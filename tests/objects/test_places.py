"""Places: what the user gives is checked before anything is asked for, and what does not fit is named with its path."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from zdl.errors import OptionError
from zdl.objects.places import Places, memory_for
from zdl.refs import Ref, Source

SOURCE = Source("site-1", bytes(16), bytes(16), 1 << 20)


def ref(offset: int, length: int, kind: str = "bytes", **more: Any) -> Ref:
    return Ref(SOURCE, 0, offset, length, kind, **more)


@pytest.mark.parametrize(("into", "told"), [
    (np.zeros((2, 3), "<f8"), "float64[2, 3]"), (np.zeros((3, 2), "<f4"), "float32[3, 2]"), (np.zeros(6, "<f4"), "float32[6]"),
    (np.zeros((3, 2), "<f4").T, "float32[2, 3], not contiguous"), (np.zeros((2, 3), ">f4"), ">f4[2, 3]"),
    (np.broadcast_to(np.zeros(3, "<f4"), (2, 3)), "not contiguous, read-only"), (np.zeros((2, 3), object), "object[2, 3]"),
    (np.frombuffer(bytes(24), "<f4").reshape(2, 3), "float32[2, 3], read-only"), (bytearray(24), "bytearray"), ([0] * 6, "list")])
def test_an_array_that_does_not_fit_is_refused_with_what_it_is(into: Any, told: str) -> None:
    with pytest.raises(OptionError, match="an array <f4\\[2, 3\\], contiguous in C order and writable") as caught:
        memory_for(ref(0, 24, "array", dtype="<f4", shape=(2, 3)), into)
    assert told in caught.value.value


@pytest.mark.parametrize("into", [bytes(10), bytearray(9), bytearray(11), memoryview(bytearray(20))[::2], 10, "x", None])
def test_a_buffer_that_does_not_fit_is_refused(into: Any) -> None:
    with pytest.raises(OptionError, match="a writable buffer of 10 bytes"):
        memory_for(ref(0, 10), into)


def test_bytes_go_into_any_writable_buffer_of_their_size() -> None:
    for into in (bytearray(12), memoryview(bytearray(12)), np.zeros((3, 4), "|u1"), np.zeros(3, "<i4")):
        assert memory_for(ref(0, 12), into).nbytes == 12
    assert memory_for(ref(0, 0), bytearray()).nbytes == 0


def test_an_object_takes_what_stands_at_the_same_places() -> None:
    one, two, three = (ref(at * 64, 8, "array", dtype="<f4", shape=(2,)) for at in range(3))
    arrays = [np.zeros(2, "<f4") for _ in range(5)]
    came = np.float32([5, 6])
    body = {"a": one, "list": [two, {"b": (three,)}], "again": one, "came": came, "lr": 0.1, "opt": {"t": [1, {}]},
            "file": ref(0, 9, "file")}
    mine = {"a": arrays[0], "list": [arrays[1], {"b": [arrays[2]]}], "again": arrays[3], "came": arrays[4], "unused": 1}
    places = Places()
    found: Any = places.put(body, mine)
    assert found["a"] is arrays[0] and found["list"][1]["b"][0] is arrays[2] and found["again"] is arrays[3]
    assert (found["lr"], found["opt"], found["file"]) == (0.1, {"t": [1, {}]}, body["file"])
    assert list(places.first) == [one, two, three]
    arrays[0][:] = 3
    places.finish()
    assert arrays[3].tolist() == [3, 3] and arrays[4].tolist() == [5, 6] and found["came"] is arrays[4]


@pytest.mark.parametrize(("into", "name"), [
    ({}, "into.a"), ({"a": {"b": []}}, "into.a.b[0]"), ({"a": {"b": [1]}}, "into.a.b[0]"), ([], "into.a"), (None, "into.a"),
    ({"a": {"b": {"0": 1}}}, "into.a.b[0]"), ({"a": {"b": [np.zeros(3, "<f4")]}}, "into.a.b[0]")])
def test_what_is_missing_is_named_with_its_path(into: Any, name: str) -> None:
    with pytest.raises(OptionError) as caught:
        Places().put({"a": {"b": [ref(0, 8, "array", dtype="<f4", shape=(2,))]}}, into)
    assert caught.value.name.startswith(name)
