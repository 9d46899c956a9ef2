"""DiskDict and DiskFile: as a dict and a file, but on the disk."""

from __future__ import annotations

import copy
import gc
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zdl.download.diskdict import DiskDict, DiskFile, Stored
from zdl.download.spool import Spool, SpoolFile
from zdl.errors import OptionError
from zdl.options import DiskOptions
from zdl.refs import Ref, Source

DATA = np.arange(1000, dtype=np.float32)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(DiskOptions(spool_folder=str(tmp_path)))


def stored(spool: Spool, data: bytes, kind: str = "array", dtype: str = "<f4", name: str = "") -> tuple[Stored, SpoolFile]:
    shape = (len(data) // 4,) if kind == "array" else ()
    source = Source("server", bytes(16), bytes(16), len(data))
    ref = Ref(source, 0, 0, len(data), kind, dtype if kind == "array" else "", shape, name)
    file = spool.file(len(data), ref)
    file.write(0, memoryview(data))
    return Stored(ref, file, 0), file


@pytest.fixture
def model(spool: Spool) -> DiskDict:
    return DiskDict({"w": stored(spool, DATA.tobytes())[0], "b": stored(spool, b"bytes", "bytes")[0], "n": 7})


def test_a_value_is_loaded_when_it_is_touched_and_is_one_object_while_somebody_has_it(model: DiskDict) -> None:
    assert np.array_equal(model["w"], DATA) and model["b"] == b"bytes" and model["n"] == 7
    first = model["w"]
    assert model["w"] is first and first.flags.writeable
    assert repr(model) == "<DiskDict of 3 values, 2 of them on the disk>"


def test_what_is_written_into_an_array_stays_when_it_is_let_go_of(model: DiskDict) -> None:
    model["w"][:3] = 9
    gc.collect()
    assert model["w"][:4].tolist() == [9, 9, 9, 3]


def test_it_does_all_that_a_dict_does(model: DiskDict) -> None:
    assert isinstance(model, Mapping) and list(model) == ["w", "b", "n"] and list(reversed(model)) == ["n", "b", "w"]
    assert "w" in model and "x" not in model and len(model) == 3
    assert [key for key, _ in model.items()] == list(model.keys()) and len(list(model.values())) == 3
    assert model.get("x", 5) == 5 and model.setdefault("s", 1) == 1 and model.pop("s") == 1
    model["x"] = 2
    model.update(y=3)
    model |= {"z": 4}
    assert (model | {"q": 1})["q"] == 1 and ({"q": 1} | model)["z"] == 4 and isinstance({"q": 1} | model, DiskDict)
    other = model.copy()
    del model["x"]
    assert "x" in other and "x" not in model and copy.copy(other)["x"] == 2
    assert model.popitem() == ("z", 4)
    plain = dict(model)
    assert type(plain) is dict and np.array_equal(plain["w"], DATA) and {**model}["b"] == b"bytes"
    assert DiskDict.fromkeys("ab", 1) == {"a": 1, "b": 1} and DiskDict() == {} and bool(DiskDict()) is False
    with pytest.raises(KeyError):
        model["nothing"]
    with pytest.raises(TypeError):
        hash(model)
    for odd in (5, [("a", 1)]):
        with pytest.raises(TypeError):
            model | odd  # type: ignore[operator]
    model.clear()
    assert not model


@pytest.mark.parametrize("way", [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
def test_a_deep_copy_is_a_plain_dict_in_memory(model: DiskDict, way: Callable[[Any], Any]) -> None:
    found = way(model)
    assert type(found) is dict and np.array_equal(found["w"], DATA) and not isinstance(found["w"].base, memoryview)


def test_the_room_is_free_when_the_dict_and_all_arrays_of_it_are_gone(spool: Spool, model: DiskDict) -> None:
    assert spool.bytes_used == DATA.nbytes + 5
    other, array = model.copy(), model["w"]
    model.clear()
    assert spool.bytes_used == DATA.nbytes + 5
    del other
    assert spool.bytes_used == DATA.nbytes
    del array
    assert spool.bytes_used == 0


def test_an_array_without_elements_needs_no_mapping(spool: Spool) -> None:
    found = stored(spool, b"")[0].load()
    assert isinstance(found, np.ndarray) and found.shape == (0,)


def test_a_file_is_opened_from_its_beginning_each_time(spool: Spool) -> None:
    file = stored(spool, b"hello world", "file", name="../x")[0].load()
    assert isinstance(file, DiskFile) and (file.name, file.nbytes) == ("../x", 11) and "11 bytes" in repr(file)
    with file.open() as one, file.open() as other:
        assert one.read(5) == b"hello" and other.read() == b"hello world"
    assert file.path.read_bytes() == b"hello world"


def test_a_file_is_saved_whole_under_a_name_of_ones_own(spool: Spool, tmp_path: Path) -> None:
    file = stored(spool, b"hello world", "file", name="../../x")[0].load()
    assert isinstance(file, DiskFile)
    assert file.save(tmp_path) == tmp_path / "x" and (tmp_path / "x").read_bytes() == b"hello world"
    with pytest.raises(OptionError, match="a name that is free"):
        file.save(tmp_path / "x")
    (tmp_path / "x").write_bytes(b"other")
    file.save(tmp_path / "x", overwrite=True)
    assert (tmp_path / "x").read_bytes() == b"hello world" and os.listdir(tmp_path) == ["x"]
    with pytest.raises(OptionError, match="cannot be written"):
        file.save(tmp_path / "missing" / "x")
