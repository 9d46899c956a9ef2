"""Dumps: objects as bytes and as files; what is none, not all of one, or damaged is refused."""

from __future__ import annotations

import io
import os
import resource
import struct
import subprocess
import sys
import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pytest
from hypothesis import given, strategies as st

import zdl
from zdl.download.dumping import DUMPING, dump, dumps, load, loads
from zdl.errors import CannotPack, CannotUnpack, DiskFull, OptionError, TooLarge
from zdl.objects.typetable import TypeTable
from zdl.options import PackOptions
from zdl.refs import Ref, Source

LARGE = 3 << 20
HEAD_BYTES = 12


@dataclass
class Round:
    number: int
    weights: Any


TYPES = TypeTable().with_types(Round)


def model() -> dict[str, Any]:
    """An object with leaves of all sizes, one of them twice."""
    large = np.arange(LARGE // 8, dtype=">i8").reshape(2, -1)
    return {"a": [large, large, b"x" * 10_000], "small": np.arange(3), "round": Round(3, {"w": np.ones(1000)}), "set": {1, "b"}}


def is_model(found: Any) -> bool:
    """Whether this is what `model` made."""
    want = model()
    return bool(found["a"][0] is found["a"][1] and np.array_equal(found["a"][0], want["a"][0]) and found["a"][0].dtype == ">i8"
                and found["a"][2] == want["a"][2] and found["small"].tolist() == [0, 1, 2] and found["set"] == {1, "b"}
                and found["round"].number == 3 and found["round"].weights["w"].sum() == 1000)


# --- there and back -------------------------------------------------------------------------------


@pytest.mark.row("B2", "B7")
def test_an_object_becomes_bytes_without_a_cell_and_comes_back(tmp_path: Path) -> None:
    data = zdl.dumps(model(), types=TYPES)
    assert data[:8] == b"\x89zdl\r\n\x1a\x01"
    for each in (data, bytearray(data), memoryview(data)):
        found = zdl.loads(each, types=TYPES)
        assert is_model(found) and found["a"][0].flags.writeable


@pytest.mark.row("B2")
def test_an_object_becomes_a_file_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "model.zdl"
    size = zdl.dump(model(), path, types=TYPES)
    assert path.stat().st_size == size and os.listdir(tmp_path) == ["model.zdl"]
    assert path.read_bytes() == dumps(model(), types=TYPES)
    found = zdl.load(str(path), types=TYPES)
    assert is_model(found) and found["a"][0].flags.writeable
    found["a"][0][0] = 0
    assert is_model(load(path, types=TYPES))


@pytest.mark.row("B2")
def test_several_dumps_stand_behind_one_another_in_an_open_file(tmp_path: Path) -> None:
    with open(tmp_path / "log", "w+b") as file:
        for number in range(3):
            dump([number, np.arange(2000)], file)
        file.seek(0)
        found: list[Any] = [load(file) for _ in range(3)]
        assert [each[0] for each in found] == [0, 1, 2] and found[2][1].sum() == 1999 * 1000
        with pytest.raises(CannotUnpack, match="it ends after 0 bytes, in its head"):
            load(file)


def test_a_file_that_writes_and_reads_less_than_it_is_asked_is_asked_again() -> None:
    class Narrow(io.BytesIO):
        def write(self, data: Any) -> int:
            return super().write(memoryview(data)[:1000])

        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size or 0, 777))

    file = Narrow()
    dump(model(), file, types=TYPES)
    file.seek(0)
    assert is_model(load(file, types=TYPES))


def test_ten_thousand_large_leaves_fit_into_one_dump() -> None:
    found: Any = loads(dumps([np.full(600, number) for number in range(10_000)]))
    assert [each[0] for each in found] == list(range(10_000))


def test_a_ref_in_a_dump_stays_a_ref() -> None:
    ref = Ref(Source("site-1", b"i" * 16, b"s" * 16, 9), 0, 0, 9, "bytes")
    assert loads(dumps([ref])) == [ref]


@given(st.recursive(st.none() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(max_size=9),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner), max_leaves=9))
def test_any_plain_object_comes_back(obj: object) -> None:
    assert loads(dumps(obj)) == obj


# --- what cannot be dumped, and where -------------------------------------------------------------


def test_what_cannot_be_dumped_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(CannotPack, match=r"cannot pack a\[1\]"):
        dump({"a": [np.zeros(LARGE), object()]}, tmp_path / "x")
    with pytest.raises(CannotPack, match="with_type"):
        dumps(Round(1, 2))
    with pytest.raises(TooLarge, match="skeleton_bytes_max=1000"):
        dump("x" * 2000, tmp_path / "x", options=PackOptions(skeleton_bytes_max=1000))
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_taken_is_left_alone_unless_it_may_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("mine")
    with pytest.raises(OptionError, match="a name that is free"):
        dump(1, path)
    assert path.read_text() == "mine"
    dump(1, path, overwrite=True)
    assert load(path) == 1 and os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("name", ["gone/x", "file/x", "folder", "x" * 300, "a\0b"])
def test_a_path_that_cannot_be_written_is_an_error_that_leaves_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match="option path="):
        dump(1, tmp_path / name, overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


@pytest.mark.fault("D3")
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_d3_a_folder_that_is_read_only_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OptionError, match="Permission denied"):
        dump(1, tmp_path / "x")
    tmp_path.chmod(0o700)


@pytest.mark.fault("D1")
def test_d1_a_disk_that_is_full_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    # A limit on the size of files is the full disk that every machine has.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(DiskFull, match="needs 3.0 MiB") as caught:
            dump(np.zeros(LARGE, np.uint8), tmp_path / "x")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.path == str(tmp_path / "x") and not list(tmp_path.iterdir())


@pytest.mark.fault("D4")
def test_d4_a_writer_that_is_killed_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "x"
    dump("old", path)
    program = ("import numpy as np, zdl\n"
               f"while True: zdl.dump(np.ones({LARGE}), {str(path)!r}, overwrite=True); print(flush=True)")
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    found: Any = load(path)
    assert found.sum() == LARGE
    for part in tmp_path.glob(".x.*.zdl-part"):
        part.unlink()


# --- what is none, not all of one, or damaged -----------------------------------------------------

SAMPLE = dumps({"a": np.arange(2000), "b": b"y" * 5000, "c": [1, "text", {2.5}]})


def opened(data: bytes) -> BinaryIO:
    """Bytes as a file of unknown length."""
    return cast(BinaryIO, io.BytesIO(data))


@pytest.mark.parametrize(("data", "reason"), [
    (b"", "it ends after 0 bytes, in its head: it was cut off, or is no dump"),
    (b"PK\x03\x04" + bytes(100), "does not begin as a dump"),
    (b"\x89zdl\n\x1a" + SAMPLE[8:], "does not begin as a dump"),
    (SAMPLE[:7] + b"\x02" + SAMPLE[8:], "written in version 2 of the format, and 1 is"),
    (SAMPLE[:8] + struct.pack("<I", 0), "0 parts"),
    (SAMPLE[:8] + b"\xff" * 4 + SAMPLE[12:], "4294967295 parts, frames_max=1048576"),
    (SAMPLE[:12] + struct.pack("<Q", 1 << 62) + SAMPLE[20:], "skeleton_bytes_max=16777216"),
    (SAMPLE[:20] + struct.pack("<Q", 1 << 63) + SAMPLE[28:], "frame_bytes_max"),
    (SAMPLE[:100] + bytes([SAMPLE[100] ^ 1]) + SAMPLE[101:], "its digest is wrong: it was changed or damaged"),
    (SAMPLE[:-1] + bytes([SAMPLE[-1] ^ 1]), "its digest is wrong"),
])
def test_what_is_no_dump_or_a_damaged_one_says_so(data: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(data)
    for read in (lambda: loads(data), lambda: load(opened(data)), lambda: load(tmp_path / "x")):
        with pytest.raises(CannotUnpack, match=reason):
            read()
    with pytest.raises(CannotUnpack, match=f"{tmp_path}/x: "):
        load(tmp_path / "x")


def test_a_dump_that_was_cut_off_or_goes_on_says_so(tmp_path: Path) -> None:
    for length in (1, 11, 12, 30, 40, 1000, len(SAMPLE) - 1):
        for read in (loads, lambda data: load(opened(data))):
            with pytest.raises(CannotUnpack, match=r"it ends after \d+"):
                read(SAMPLE[:length])
    with pytest.raises(CannotUnpack, match=f"it ends after 1000 of {len(SAMPLE)} bytes: it was cut off"):
        loads(SAMPLE[:1000])
    with pytest.raises(CannotUnpack, match="3 bytes follow it"):
        loads(SAMPLE + b"abc")


@pytest.mark.fault("H19")
def test_h19_a_length_that_lies_costs_no_memory() -> None:
    lying = SAMPLE[:20] + struct.pack("<Q", 1 << 40) + SAMPLE[28:]
    tracemalloc.start()
    try:
        for read in (lambda: loads(lying), lambda: load(opened(lying))):
            with pytest.raises(CannotUnpack, match="ends after"):
                read()
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@given(st.integers(0, len(SAMPLE) - 1), st.binary(max_size=4), st.integers(0, 4))
def test_a_changed_dump_is_refused_or_the_same(at: int, put: bytes, gone: int) -> None:
    data = SAMPLE[:at] + put + SAMPLE[at + gone:]
    if data != SAMPLE:
        for read in (loads, lambda data: load(opened(data))):
            try:
                read(data)
            except CannotUnpack:
                continue
            assert data.startswith(SAMPLE) and read is not loads  # who reads from an open file leaves what follows


def test_a_type_that_is_not_registered_is_named() -> None:
    with pytest.raises(CannotUnpack, match="a value of type 'Round' came, and no type of that name is registered"):
        loads(dumps(Round(1, 2), types=TYPES))


def test_a_file_that_is_not_there_is_the_system_s_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "x")


def test_the_options_of_dumps_have_no_limit_that_a_link_calls_for() -> None:
    assert DUMPING.frame_bytes_max > 1 << 50 and not DUMPING.lends
