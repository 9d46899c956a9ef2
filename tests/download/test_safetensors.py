"""The header of a safetensors file is read without its tensors, and believed in nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from zdl.download.safetensors import DTYPES, HEADER_BYTES_MAX, Member, read_header
from zdl.errors import CannotPack

ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def made(header: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    """A file with this header, as it should be written; or with a wrong length."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def read(content: bytes) -> tuple[list[Member], dict[str, str]]:
    return read_header(lambda offset, length: content[offset:offset + length], len(content), "m.safetensors")


def test_what_the_package_writes_is_read_as_it_was() -> None:
    state = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array(7, np.int64), "none": np.empty((0, 4), np.float16),
             "é": np.array([True, False])}
    content = save(state, {"format": "pt"})
    members, metadata = read(content)
    assert metadata == {"format": "pt"}
    assert {each.name for each in members} == set(state)
    for each in members:
        array = state[each.name]
        assert (each.kind, each.dtype, each.shape) == ("array", array.dtype.str, array.shape)
        assert content[each.offset:each.offset + each.length] == array.tobytes()


def test_every_dtype_of_the_format_with_whole_bytes_has_a_name_of_ours() -> None:
    header, end = {}, 0
    for name, (_, itemsize) in DTYPES.items():
        header[name] = {"dtype": name, "shape": [3], "data_offsets": [end, end + 3 * itemsize]}
        end += 3 * itemsize
    members, _ = read(made(header, bytes(end)))
    assert {each.name: each.dtype for each in members} == {name: ours for name, (ours, _) in DTYPES.items()}


def test_the_tensors_are_not_read() -> None:
    content = save({"w": np.zeros(100_000, np.uint8)})
    asked: list[tuple[int, int]] = []

    def reading(offset: int, length: int) -> bytes:
        asked.append((offset, length))
        return content[offset:offset + length]

    read_header(reading, len(content), "m")
    assert sum(length for _, length in asked) < 200


@pytest.mark.fault("H18")
@pytest.mark.parametrize(("content", "path", "reason"), [
    (b"", "m.safetensors", "a header of 0 bytes in a file of 0"),
    (b"\x01\x00\x00", "m.safetensors", "in a file of 3"),
    (made({}, length=1 << 60), "m.safetensors", "a header of 1152921504606846976 bytes"),
    (made({}, length=3), "m.safetensors", "a header of 3 bytes"),
    (made(b"\xff\xfe"), "m.safetensors", "no JSON object"),
    (made(b"[1]"), "m.safetensors", "a JSON list"),
    (made(b'{"a":' * 100_000 + b"1" + b"}" * 100_000), "m.safetensors", "no JSON object"),
    (made(b'{"a": NaN}'), "m.safetensors", "no number of JSON"),
    (made(b'{"a": ' + b"9" * 5000 + b"}"), "m.safetensors", "no JSON object"),
    (made(b'{"a": {}, "a": {}}'), "m.safetensors", "twice"),
    (made({"a": 5}), "m.safetensors['a']", "no object of data_offsets, dtype, shape"),
    (made({"a": {**ONE, "more": 1}}, bytes(8)), "m.safetensors['a']", "no object of"),
    (made({"a": {**ONE, "dtype": "O8"}}, bytes(8)), "m.safetensors['a']", "its dtype 'O8'"),
    (made({"a": {**ONE, "dtype": "F4"}}, bytes(8)), "m.safetensors['a']", "its dtype 'F4'"),
    (made({"a": {**ONE, "dtype": ["F32"]}}, bytes(8)), "m.safetensors['a']", "its dtype"),
    (made({"a": {**ONE, "shape": [-2]}}, bytes(8)), "m.safetensors['a']", "no list of whole numbers"),
    (made({"a": {**ONE, "shape": [2.0]}}, bytes(8)), "m.safetensors['a']", "no list of whole numbers"),
    (made({"a": {**ONE, "shape": [True, 2]}}, bytes(8)), "m.safetensors['a']", "no list of whole numbers"),
    (made({"a": {**ONE, "shape": [1 << 40, 1 << 40, 0]}}, bytes(8)), "m.safetensors['a']", "its shape has more than"),
    (made({"a": {**ONE, "shape": [1] * 33}}, bytes(8)), "m.safetensors['a']", "33 dimensions"),
    (made({"a": {**ONE, "shape": [3]}}, bytes(8)), "m.safetensors['a']", "has 12 bytes, its offsets are [0, 8]"),
    (made({"a": {**ONE, "data_offsets": [8, 0]}}, bytes(8)), "m.safetensors['a']", "its offsets are [8, 0]"),
    (made({"a": {**ONE, "data_offsets": [0, 8, 8]}}, bytes(8)), "m.safetensors['a']", "its offsets are"),
    (made({"a": ONE, "b": ONE}, bytes(8)), "m.safetensors['b']", "begins at byte 0 of the data, the one before it ends at 8"),
    (made({"a": {**ONE, "data_offsets": [8, 16]}}, bytes(16)), "m.safetensors['a']", "begins at byte 8"),
    (made({"a": ONE}, bytes(7)), "m.safetensors", "its tensors have 8 bytes, there are 7"),
    (made({"a": ONE}, bytes(9)), "m.safetensors", "its tensors have 8 bytes, there are 9"),
    (made({"\ud800": ONE}, bytes(8)), "m.safetensors['\\ud800']", "lone surrogate"),
    (made({"__metadata__": {"a": 1}}), "m.safetensors['__metadata__']", "no object of texts"),
    (made({"__metadata__": []}), "m.safetensors['__metadata__']", "no object of texts"),
])
def test_H18_a_header_that_lies_is_refused_with_the_place_of_the_lie(content: bytes, path: str, reason: str) -> None:
    with pytest.raises(CannotPack) as caught:
        read(content)
    assert caught.value.path == path
    assert reason in caught.value.reason


def test_H18_a_header_beyond_the_limit_is_not_read() -> None:
    def reading(offset: int, length: int) -> bytes:
        assert length <= 8
        return (HEADER_BYTES_MAX + 1).to_bytes(8, "little")

    with pytest.raises(CannotPack, match="HEADER_BYTES_MAX"):
        read_header(reading, 1 << 40, "m")


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=40), st.integers(0, 60), st.data())
def test_H18_a_damaged_file_is_read_or_refused(noise: bytes, at: int, data: Any) -> None:
    content = bytearray(save({"w": np.arange(4, dtype=np.int16), "b": np.zeros((2, 2), np.float32)}))
    content[at:at + data.draw(st.integers(0, 5))] = noise
    try:
        members, _ = read(bytes(content))
    except CannotPack:
        return
    for each in members:
        assert 0 <= each.offset <= each.offset + each.length <= len(content)


def test_the_package_refuses_what_we_refuse(tmp_path: Path) -> None:
    lies = [made({"a": ONE, "b": ONE}, bytes(8)), made({"a": ONE}, bytes(9)), made({"a": {**ONE, "shape": [3]}}, bytes(8))]
    for number, content in enumerate(lies):
        path = tmp_path / str(number)
        path.write_bytes(content)
        with pytest.raises(SafetensorError):
            safe_open(path, framework="numpy")  # type: ignore[no-untyped-call]
        with pytest.raises(CannotPack):
            read(content)
