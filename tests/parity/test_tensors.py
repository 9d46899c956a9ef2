"""Rows of tensors: files of tensors, lent tensor by tensor."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from zdl import Options, PullOptions

from children import Child
from trees import Trees
from waiting import PATIENCE_S

MIB = 1 << 20


@pytest.mark.row("O12")
@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".npy"])
def test_a_file_of_tensors_is_fetched_as_tensors_and_as_the_same_file(trees: Trees, tmp_path: Path, suffix: str) -> None:
    server, site, leaf = trees.grow("server", "site-1", "site-1.w0")
    state = {"wte": np.random.default_rng(1).standard_normal((1000, 700)), "bias": np.arange(7, dtype=np.int16)}
    path = tmp_path / f"model{suffix}"
    if suffix == ".safetensors":
        save_file(state, path, {"format": "np"})
    elif suffix == ".npz":
        np.savez(path, **state)
    else:
        state = {"model": state["wte"]}
        np.save(path, state["model"])
    lent = server.downloads.lend_file(path, receivers=["site-1", "site-1.w0"], as_tensors=True)
    server.downloads.publish("model", lent.body)

    body = leaf.downloads.find("server", "model")
    assert isinstance(body, dict)
    assert body["metadata"] == ({"format": "np"} if suffix == ".safetensors" else {})
    name = next(iter(state))
    assert (body["tensors"][name].shape, body["tensors"][name].dtype) == (state[name].shape, state[name].dtype.str)
    copy = site.downloads.pull_file(body["file"], tmp_path / "copy")
    assert copy.read_bytes() == path.read_bytes()
    if suffix == ".safetensors":
        assert all(np.array_equal(found, state[name]) for name, found in load_file(copy).items())
    tensors = leaf.downloads.resolve(body["tensors"])
    assert isinstance(tensors, dict) and list(sorted(tensors)) == sorted(state)
    assert all(np.array_equal(tensors[name], array) for name, array in state.items())
    assert lent.wait(PATIENCE_S).is_complete


@pytest.mark.row("O12")
def test_the_lender_of_a_file_of_tensors_holds_no_more_of_it_than_is_on_its_way(trees: Trees, tmp_path: Path) -> None:
    """The lender is a process of its own; what it may grow by is two windows of the one receiver."""
    size = 256 * MIB
    save_file({f"w{number}": np.full(size // 8, number, np.uint8) for number in range(8)}, tmp_path / "model.safetensors")
    program = """
from zdl.assembly import process_facts
with Cell("site-1", parent=sys.argv[1]) as cell:
    cell.wait_ready()
    np.ones(1).sum()
    before = process_facts().rss_bytes
    lent = cell.downloads.lend_file(sys.argv[2], as_tensors=True)
    say("lent", process_facts().rss_bytes - before)
    cell.downloads.publish("model", lent.body)
    lent.wait()
    say("grown", process_facts().rss_peak_bytes - before)
    stay()
"""
    (server,) = trees.grow("server", options=Options(pulls=PullOptions(window_bytes_max=16 * MIB)))
    with Child(program, server.addresses[0], str(tmp_path / "model.safetensors")) as child:
        assert int(child.expect("lent")) < 8 * MIB
        body = server.downloads.find("site-1", "model")
        assert isinstance(body, dict)
        for number in range(8):
            array = server.downloads.pull(body["tensors"][f"w{number}"])
            assert isinstance(array, np.ndarray) and array.nbytes == size // 8 and (array == number).all()
        assert int(child.expect("grown")) < 2 * server.options.pulls.window_bytes_max
    os.unlink(tmp_path / "model.safetensors")
