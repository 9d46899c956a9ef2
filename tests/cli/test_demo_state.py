"""What the demo sends: the made-up model, and the arrays in files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from zdl.cli import demo_state
from zdl.errors import OptionError


@pytest.mark.parametrize("size", [4, 1000, 64 << 10, 5 << 20])
def test_the_model_has_the_size_that_was_asked_for(size: int) -> None:
    assert demo_state.bytes_of(demo_state.make(size)) == -(-size // 4) * 4


def test_the_same_size_gives_the_same_model() -> None:
    assert demo_state.digests(demo_state.make(1 << 20)) == demo_state.digests(demo_state.make(1 << 20))


def test_arrays_come_from_npz_npy_safetensors_and_any_other_file(tmp_path: Path) -> None:
    arrays = {"a": np.arange(6, dtype=np.int16).reshape(2, 3), "b": np.float32([1.5])}
    np.savez(tmp_path / "many.npz", **arrays)
    np.save(tmp_path / "one.npy", arrays["a"])
    save_file(arrays, tmp_path / "model.safetensors")
    (tmp_path / "notes.txt").write_bytes(b"plain bytes")
    (tmp_path / "empty.bin").touch()
    names = ("many.npz", "one.npy", "model.safetensors", "notes.txt", "empty.bin")
    state = demo_state.load([str(tmp_path / name) for name in names])
    assert set(state) == {"many.npz:a", "many.npz:b", "one.npy", "model.safetensors:a", "model.safetensors:b", "notes.txt",
                          "empty.bin"}
    assert np.array_equal(state["model.safetensors:a"], arrays["a"]) and np.array_equal(state["one.npy"], arrays["a"])
    assert state["notes.txt"].tobytes() == b"plain bytes" and state["empty.bin"].size == 0


def test_a_tensor_of_a_type_that_numpy_lacks_goes_too(tmp_path: Path) -> None:
    header = b'{"w": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}'
    (tmp_path / "m.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"abcd")
    state = demo_state.load([str(tmp_path / "m.safetensors")])
    assert state["m.safetensors:w"].tobytes() == b"abcd"


@pytest.mark.parametrize(("name", "content"), [("broken.npz", b"no archive"), ("broken.npy", b""), ("x.safetensors", b"{}")])
def test_a_file_that_is_not_what_its_name_says_is_refused_by_name(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(OptionError, match=name):
        demo_state.load([str(tmp_path / name)])


def test_objects_in_an_npz_are_not_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "objects.npz", a=np.array([{}], dtype=object))
    with pytest.raises(OptionError, match="objects.npz"):
        demo_state.load([str(tmp_path / "objects.npz")])


def test_a_change_is_one_bit_and_changed_leaves_the_original_alone() -> None:
    array = np.zeros(3, np.float32)
    other = demo_state.changed(array)
    assert array.tobytes() == bytes(12) and other.tobytes() == b"\1" + bytes(11)
    assert demo_state.digest(array) != demo_state.digest(other)


def test_the_array_that_is_changed_is_one_that_is_not_empty() -> None:
    state = {"none": np.empty(0), "some": np.ones(2)}
    assert demo_state.first_changeable(state) == "some"
    assert demo_state.first_changeable({"none": np.empty(0)}) == "none"
