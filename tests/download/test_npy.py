"""The arrays of .npy and .npz files are found without being read, and their headers believed in nothing."""

from __future__ import annotations

import io
import struct
import zipfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

from zdl.download.npy import Found, read_npy, read_npz
from zdl.errors import CannotPack

ARRAYS = [np.arange(24, dtype=np.float32).reshape(2, 3, 4), np.array(5, np.int64), np.empty((0, 7), np.uint8),
          np.arange(5, dtype=">i4"), np.array([True, False]), np.asfortranarray(np.arange(6.0).reshape(2, 3)),
          np.arange(3, dtype=np.complex128)]


def npy(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def headed(header: str | bytes, data: bytes = b"", *, version: bytes = b"\x01\x00", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else header.encode()
    count = len(text) if length is None else length
    return b"\x93NUMPY" + version + struct.pack("<H" if version[0] == 1 else "<I", count) + text + data


def reader(content: bytes) -> Any:
    return lambda offset, length: content[offset:offset + length]


def one(content: bytes) -> Found:
    return read_npy(reader(content), len(content), "a.npy", "a")


def many(content: bytes) -> list[Found]:
    return read_npz(reader(content), len(content), "a.npz")


def value(content: bytes, found: Found) -> NDArray[Any]:
    """The array as a receiver would have it."""
    member = found.member
    flat = content[member.offset:member.offset + member.length] if found.load is None else found.load().tobytes()
    return np.frombuffer(flat, member.dtype).reshape(member.shape)


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype.str}{array.shape}")
def test_an_array_is_found_where_it_lies(array: NDArray[Any]) -> None:
    content = npy(array)
    found = one(content)
    assert (found.member.name, found.member.dtype) == ("a", array.dtype.str)
    assert np.array_equal(value(content, found), array)
    assert (found.load is not None) == (not array.flags.c_contiguous)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_format_is_read(version: tuple[int, int]) -> None:
    file = io.BytesIO()
    np.lib.format.write_array(file, ARRAYS[0], version)
    assert np.array_equal(value(file.getvalue(), one(file.getvalue())), ARRAYS[0])


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_all_arrays_of_an_archive_are_found(write: Any) -> None:
    file = io.BytesIO()
    write(file, **{f"a{number}": array for number, array in enumerate(ARRAYS)})
    content = file.getvalue()
    found = {each.member.name: each for each in many(content)}
    assert list(found) == [f"a{number}" for number in range(len(ARRAYS))]
    for number, array in enumerate(ARRAYS):
        assert np.array_equal(value(content, found[f"a{number}"]), array)
    assert (found["a0"].load is None) == (write is np.savez)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_what_is_no_array_is_bytes(compression: int) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("notes.txt", "hello")
        archive.writestr("folder/", "")
    (found,) = many(file.getvalue())
    assert (found.member.name, found.member.kind, found.member.length) == ("notes.txt", "bytes", 5)
    loaded = None if found.load is None else found.load().tobytes()
    assert (loaded or file.getvalue()[found.member.offset:][:5]) == b"hello"


@pytest.mark.fault("H18")
@pytest.mark.parametrize(("content", "reason"), [
    (b"", "does not begin as a .npy"),
    (b"\x93NUMPY\x04\x00", "does not begin as a .npy"),
    (b"PK\x03\x04", "does not begin as a .npy"),
    (b"\x93NUMPY\x01\x00\x05", "a header of"),
    (headed("{}", length=60_000), "a header of 60000 bytes"),
    (headed("{" + " " * 20_000 + "}", version=b"\x02\x00"), "HEADER_BYTES_MAX"),
    (headed("5"), "cannot be understood"),
    (headed("{'descr': '<f4', 'shape': ()}"), "cannot be understood"),
    (headed("__import__('os')"), "cannot be understood"),
    (headed("(" * 9000), "cannot be understood"),
    (headed(b"\xff\xfe", version=b"\x03\x00"), "cannot be understood"),
    (headed("{'descr': 'nonsense', 'fortran_order': False, 'shape': ()}"), "cannot be understood"),
    (headed("{'descr': '|O', 'fortran_order': False, 'shape': ()}", bytes(8)), "pickles"),
    (headed("{'descr': '<f4', 'fortran_order': 0, 'shape': ()}", bytes(4)), "its order"),
    (headed("{'descr': '<f4', 'fortran_order': False, 'shape': [1]}", bytes(4)), "its shape"),
    (headed("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", bytes(4)), "a side of the shape"),
    (headed("{'descr': '<f4', 'fortran_order': False, 'shape': (True,)}", bytes(4)), "a side of the shape"),
    (headed("{'descr': '<f4', 'fortran_order': False, 'shape': (1 << 60,)}"), "cannot be understood"),
    (headed(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({1 << 50}, {1 << 50})}}"), "more than"),
    (headed("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", bytes(7)), "has 8 bytes, there are 7"),
    (headed("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", bytes(9)), "has 8 bytes, there are 9"),
])
def test_H18_a_header_that_lies_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(CannotPack) as caught:
        one(content)
    assert caught.value.path == "a.npy"
    assert reason in caught.value.reason


def archived(*members: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytearray:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return bytearray(file.getvalue())


@pytest.mark.fault("H18")
def test_H18_an_archive_that_lies_is_refused() -> None:
    good = npy(ARRAYS[0])
    central = b"PK\x01\x02"
    twice = archived(("a.npy", good), ("b.npy", good))
    twice[twice.rindex(b"b.npy")] = ord("a")
    moved = archived(("a.npy", good))
    moved[moved.index(central) + 42] = 7  # the place of the member in the archive
    longer = archived(("a.npy", good))
    at = longer.index(central)
    longer[at + 20:at + 28] = struct.pack("<II", len(good) + 90, len(good) + 90)
    unequal = archived(("a.npy", good))
    unequal[at + 24:at + 28] = struct.pack("<I", len(good) + 1)
    secret = archived(("a.npy", good))
    secret[at + 8] |= 1
    for content, reason in ((b"PK nothing", "no ZIP archive"), (twice, "twice"), (moved, "nothing begins at byte 7"),
                            (longer, "do not end before"), (unequal, "not compressed"), (secret, "encrypted"),
                            (archived(("a.npy", b"nonsense")), "does not begin as a .npy"),
                            (archived(("a.npy", good + b"x")), "there are")):
        with pytest.raises(CannotPack) as caught:
            many(bytes(content))
        assert reason in str(caught.value)


@pytest.mark.fault("H18")
def test_H18_compressed_bytes_that_are_damaged_are_refused() -> None:
    content = archived(("a.npy", npy(np.arange(10_000, dtype=np.int32))), compression=zipfile.ZIP_DEFLATED)
    content[len(content) // 2] ^= 255
    with pytest.raises(CannotPack) as caught:
        for each in many(bytes(content)):
            assert each.load is not None
            each.load()
    assert caught.value.path == "a.npz['a.npy']"


@pytest.mark.fault("H18")
def test_H18_a_bomb_is_as_long_as_its_header_says_or_refused() -> None:
    header = "{'descr': '|u1', 'fortran_order': False, 'shape': (8,)}"
    content = archived(("a.npy", headed(header, bytes(50_000_000))), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(CannotPack, match="has 8 bytes, there are 50000000"):
        many(bytes(content))


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 700), st.binary(max_size=8), st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
def test_H18_a_damaged_archive_is_read_or_refused(at: int, noise: bytes, compression: int) -> None:
    content = archived(("a.npy", npy(ARRAYS[0])), ("b", b"bytes"), compression=compression)
    content[at:at + len(noise)] = noise
    try:
        for each in many(bytes(content)):
            if each.load is None:
                assert 0 <= each.member.offset <= each.member.offset + each.member.length <= len(content)
            else:
                assert each.load().nbytes == each.member.length
    except CannotPack:
        return
