"""Files of tensors: one stream of tensors and of the file itself, read piece by piece."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from safetensors.numpy import save_file

from zdl.assembly import Cell
from zdl.cell.signal import Signal
from zdl.download.containers import Container
from zdl.download.files import FileSource
from zdl.errors import Cancelled, CannotPack, OptionError, SourceChanged
from zdl.protocol.effects import Outcome
from zdl.refs import Ref, Source

from trees import Trees
from waiting import PATIENCE_S

MIB = 1 << 20
STATE = {"big": np.arange(300_000, dtype=np.float64), "one": np.array(5, np.int8), "none": np.empty((0, 3), np.float32),
         "odd": np.arange(7, dtype=np.uint8), "w": np.arange(6, dtype=np.float32).reshape(2, 3)}


@pytest.fixture
def cells(trees: Trees) -> tuple[Cell, ...]:
    return trees.grow("server", "site-1")


def written(folder: Path, suffix: str) -> Path:
    path = folder / f"model{suffix}"
    if suffix == ".safetensors":
        save_file(STATE, path, {"made": "here"})
    else:
        (np.savez_compressed if suffix == ".z.npz" else np.savez)(path, **STATE, f=np.asfortranarray(np.ones((3, 2))))
    return path


def contained(path: Path) -> tuple[Container, dict[str, Ref], Ref]:
    container = Container(path, FileSource(path, "server"))
    body = container.body(Source("server", bytes(16), bytes(16), container.bytes_total))
    tensors, file = body["tensors"], body["file"]
    assert isinstance(tensors, dict) and isinstance(file, Ref)
    return container, tensors, file


def pulled(server: Cell, site: Cell, path: Path) -> tuple[dict[str, Ref], Ref]:
    server.downloads.publish("model", server.downloads.lend_file(path, as_tensors=True).body)
    body = site.downloads.find("server", "model")
    assert isinstance(body, dict)
    return body["tensors"], body["file"]


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".z.npz"])
def test_the_stream_has_each_tensor_and_the_file(tmp_path: Path, suffix: str) -> None:
    path = written(tmp_path, suffix)
    container, tensors, file = contained(path)
    for name, array in STATE.items():
        ref = tensors[name]
        assert (ref.dtype, ref.shape, ref.offset % 64) == (array.dtype.str, array.shape, 0)
        assert b"".join(container.read(ref.offset, ref.length)) == array.tobytes()
    assert b"".join(container.read(file.offset, file.length)) == path.read_bytes()
    assert (file.kind, file.name, file.offset + file.length) == ("file", path.name, container.bytes_total)


@settings(deadline=None, max_examples=200)
@given(st.floats(0, 1), st.floats(0, 1))
def test_every_range_of_the_stream_is_as_long_as_it_should_be_and_the_same_each_time(begin: float, end: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        container, _, _ = contained(written(Path(folder), ".npz"))
        total = container.bytes_total
        whole = b"".join(container.read(0, total))
        assert len(whole) == total
        first, last = sorted((int(begin * total), int(end * total)))
        assert b"".join(container.read(first, last - first)) == whole[first:last]


def test_many_small_tensors_of_a_chunk_are_read_in_one_go(tmp_path: Path) -> None:
    class Counting(FileSource):
        reads = 0

        def read(self, offset: int, length: int) -> list[bytes | memoryview]:
            self.reads += 1
            return super().read(offset, length)

    state = {f"t{number}": np.full(10, number, np.int16) for number in range(2000)}
    save_file(state, tmp_path / "m.safetensors")
    source = Counting(tmp_path / "m.safetensors", "server")
    container = Container(tmp_path / "m.safetensors", source)
    before = source.reads
    assert container.enough[0][1] == len(b"".join(container.read(*container.enough[0])))
    assert source.reads - before == 1


def test_a_file_of_another_name_is_refused(cells: tuple[Cell, ...], tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(OptionError, match=".safetensors, .npz, .npy"):
        cells[0].downloads.lend_file(tmp_path / "model.bin", as_tensors=True)
    assert not cells[0].downloads.transactions


@pytest.mark.fault("H18", "A8")
def test_H18_A8_a_file_that_lies_is_not_lent_and_the_cell_lives_on(cells: tuple[Cell, ...], tmp_path: Path) -> None:
    server, site = cells
    for suffix in (".safetensors", ".npz", ".npy"):
        (tmp_path / f"bad{suffix}").write_bytes(os.urandom(1000))
        with pytest.raises(CannotPack, match=f"bad{suffix}"):
            server.downloads.lend_file(tmp_path / f"bad{suffix}", as_tensors=True)
    np.save(tmp_path / "objects.npy", np.array([{}, []], dtype=object))
    with pytest.raises(CannotPack, match="pickles"):
        server.downloads.lend_file(tmp_path / "objects.npy", as_tensors=True)
    assert not server.downloads.transactions
    tensors, _ = pulled(server, site, written(tmp_path, ".npz"))
    assert np.array_equal(site.downloads.pull(tensors["w"]), STATE["w"])  # type: ignore[arg-type]


@pytest.mark.parametrize("way", ["tensors", "file"])
def test_who_has_all_tensors_or_the_file_has_it(cells: tuple[Cell, ...], tmp_path: Path, way: str) -> None:
    server, site = cells
    lent = server.downloads.lend_file(written(tmp_path, ".safetensors"), receivers=["site-1"], as_tensors=True)
    assert isinstance(lent.body, dict)
    if way == "file":
        site.downloads.pull_file(lent.body["file"], tmp_path / "copy")
    else:
        site.downloads.pull(lent.body["tensors"]["w"])
        assert lent.outcome is None, "one of five tensors"
        site.downloads.resolve(lent.body["tensors"])
    assert lent.wait(PATIENCE_S).receivers == {"site-1": Outcome.FINISHED}


@pytest.mark.fault("D6")
def test_D6_a_container_that_is_rewritten_while_it_is_lent_ends_the_pulls(cells: tuple[Cell, ...], tmp_path: Path) -> None:
    server, site = cells
    path = tmp_path / "m.safetensors"
    save_file({"a": np.zeros(3 * MIB, np.uint8), "b": np.zeros(3 * MIB, np.uint8)}, path)
    tensors, file = pulled(server, site, path)
    assert np.array_equal(site.downloads.pull(tensors["a"]), np.zeros(3 * MIB, np.uint8))  # type: ignore[arg-type]
    before = path.stat().st_mtime_ns
    with open(path, "r+b") as file_again:
        file_again.seek(-1, os.SEEK_END)
        file_again.write(b"x")
    os.utime(path, ns=(before + 10**9, before + 10**9))
    with pytest.raises(SourceChanged):
        site.downloads.pull(tensors["b"])
    with pytest.raises(SourceChanged):
        site.downloads.pull_file(file, tmp_path / "copy")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["m.safetensors"]


@pytest.mark.fault("D6")
def test_D6_a_container_whose_name_goes_to_another_file_ends_the_pulls(cells: tuple[Cell, ...], tmp_path: Path) -> None:
    server, site = cells
    path = written(tmp_path, ".safetensors")
    tensors, _ = pulled(server, site, path)
    (tmp_path / "new").write_bytes(b"another")
    (tmp_path / "new").rename(path)
    with pytest.raises(SourceChanged):
        site.downloads.resolve(tensors)


def test_the_file_of_a_container_is_gone_on_with_where_a_pull_of_it_was_ended(cells: tuple[Cell, ...], tmp_path: Path) -> None:
    server, site = cells
    path = tmp_path / "m.safetensors"
    save_file({"a": np.frombuffer(os.urandom(12 * MIB), np.uint8), "b": np.zeros(3, np.int16)}, path)
    os.utime(path, ns=(10**18, 10**18))
    _, file = pulled(server, site, path)
    abort = Signal()
    with pytest.raises(Cancelled):
        site.downloads.pull_file(file, tmp_path / "copy", resume=True, abort=abort,
                                 progress=lambda done, total: abort.trigger("enough") if done > 4 * MIB else None)
    seen: list[int] = []
    copy = site.downloads.pull_file(file, tmp_path / "copy", resume=True, progress=lambda done, total: seen.append(done))
    assert copy.read_bytes() == path.read_bytes()
    assert seen[0] > 4 * MIB, "what was there is counted from the beginning"
