"""Rows of tensors: those of torch, and files of tensors.

Those of torch are skipped where it is not installed: ``pip install -e '.[test,torch]' && pytest tests/parity/test_tensors.py``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from zdl import CacheableObject, CannotPack, OptionError, Options, PullOptions, Ref, Request

from children import Child
from trees import Trees
from waiting import PATIENCE_S

MIB = 1 << 20


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason="needs the extra 'torch'")


def model_of(torch: Any, width: int) -> Any:
    """A model in bfloat16 whose first and last weights are one."""
    class Model(torch.nn.Module):  # type: ignore[misc]
        """Two layers and an embedding."""

        def __init__(self) -> None:
            super().__init__()
            self.embed = torch.nn.Embedding(4096, width)
            self.norm = torch.nn.BatchNorm1d(width)
            self.head = torch.nn.Linear(width, 4096)
            self.head.weight = self.embed.weight

    return Model().to(torch.bfloat16)


@pytest.mark.row("O8")
def test_a_state_dict_of_torch_goes_into_a_message_and_comes_out_ready_to_be_loaded(trees: Trees, torch: Any) -> None:
    server, site, leaf = trees.grow("server", "site-1", "site-1.w0")
    torch.manual_seed(1)
    model = model_of(torch, 1024)
    state = model.state_dict()
    before = {name: tensor.clone() for name, tensor in state.items()}

    @site.handler("task", "train", resolve=False)
    def forward(request: Request) -> object:
        return request.forward("site-1.w0")

    @leaf.handler("task", "train")
    def train(request: Request) -> object:
        assert isinstance(request.body, dict)
        found = request.body
        assert found["embed.weight"] is found["head.weight"], "tied weights are one"
        assert all(type(each) is torch.Tensor and not each.requires_grad for each in found.values())
        mine = model_of(torch, 1024)
        mine.load_state_dict(found)
        with torch.no_grad():
            mine.head.weight += 1
        return mine.state_dict()

    reply = server.request("site-1", "task", "train", state, timeout_s=PATIENCE_S, receivers=["site-1.w0"]).body
    assert isinstance(reply, dict) and list(reply) == list(state)
    for name, tensor in before.items():
        wanted = tensor + 1 if name in ("embed.weight", "head.weight") else tensor
        assert torch.equal(reply[name], wanted) and reply[name].dtype == tensor.dtype, name
    assert torch.equal(state["embed.weight"], before["embed.weight"]), "the sender's own is as it was"
    sent = sum(each.bytes_total for each in leaf.downloads.transfers)
    assert sent < 1.1 * 4096 * 1024 * 2, "and went once"
    assert not site.downloads.transfers
    model.load_state_dict(reply)


@pytest.mark.row("O8")
def test_tensors_of_every_dtype_shape_and_size_arrive(trees: Trees, torch: Any) -> None:
    server, site = trees.grow("server", "site-1")
    site.handler("task", "echo")(lambda request: request.body)
    many: dict[str, Any] = {"0-d": torch.tensor(2.5), "empty": torch.empty((0, 3)), "number": 3,
                            "strided": torch.arange(60_000).reshape(200, 300).T, "grown": torch.nn.Parameter(torch.ones(3))}
    for dtype in (torch.bool, torch.uint8, torch.int16, torch.float16, torch.bfloat16, torch.float32, torch.float64,
                  torch.complex64, torch.float8_e4m3fn, torch.float8_e5m2):
        for count in (5, 100_000, 3_000_000):
            many[f"{dtype}-{count}"] = torch.randint(0, 2, (count * dtype.itemsize,), dtype=torch.uint8).view(dtype)
    found = server.request("site-1", "task", "echo", many, timeout_s=PATIENCE_S).body
    assert isinstance(found, dict) and found["number"] == 3
    for name, tensor in many.items():
        if name != "number":
            assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape), name
            assert torch.equal(found[name].contiguous().view(torch.uint8), tensor.detach().contiguous().view(torch.uint8)
                               ) if tensor.dim() and tensor.numel() else torch.equal(found[name], tensor), name


@pytest.mark.row("O8")
def test_tensors_are_lent_and_pulled(trees: Trees, torch: Any) -> None:
    server, site = trees.grow("server", "site-1")
    state = {"w": torch.randn(3000, 1000).to(torch.bfloat16), "b": torch.arange(9)}
    lent = server.downloads.lend(state, receivers=0)
    assert isinstance(lent.body, dict)
    ref = lent.body["w"]
    assert (ref.framework, ref.dtype, ref.shape, ref.nbytes) == ("torch", "bfloat16", (3000, 1000), 6_000_000)
    assert torch.equal(site.downloads.pull(ref), state["w"])
    assert type(site.downloads.pull(lent.body["b"].as_numpy())) is np.ndarray
    both = site.downloads.resolve([lent.body["b"], lent.body["b"].as_numpy()])
    assert isinstance(both, list)
    both[0][0] = 7
    assert both[1].tolist() == list(range(9)), "what is wanted in two forms does not share memory"
    with pytest.raises(CannotPack, match="x.to_dense") as caught:
        server.downloads.lend({"layers": [torch.eye(3).to_sparse()]})
    assert caught.value.path == "layers[0]"


@pytest.mark.row("O8")
def test_tensors_may_stay_on_the_disk_until_they_are_touched(trees: Trees, torch: Any) -> None:
    server, site = trees.grow("server", "site-1")
    model = model_of(torch, 512)
    lent = server.downloads.lend(model.state_dict(), receivers=0)
    found = site.downloads.resolve(lent.body, to="disk")
    assert isinstance(found, MutableMapping) and not isinstance(found, dict)
    weight = found["embed.weight"]
    assert type(weight) is torch.Tensor and weight.dtype == torch.bfloat16 and found["embed.weight"] is weight
    mine = model_of(torch, 512)
    mine.load_state_dict(dict(found))
    assert all(torch.equal(tensor, mine.state_dict()[name]) for name, tensor in model.state_dict().items())


@pytest.mark.row("O8")
def test_pieces_of_an_object_that_is_produced_may_be_tensors(trees: Trees, torch: Any) -> None:
    class Layers(CacheableObject):
        """A layer at a time."""

        def get_item_count(self) -> int:
            return 3

        def produce_item(self, index: int) -> object:
            return torch.full((1000, 600), float(index)).to(torch.bfloat16)

    server, site = trees.grow("server", "site-1")
    lent = server.downloads.lend(Layers(None, 1 << 20), receivers=0)
    assert isinstance(lent.body, Ref)
    pieces = site.downloads.pull(lent.body)
    assert isinstance(pieces, list) and len(pieces) == 3, "a tensor of 1.2 MB fills a piece"
    items = [item for piece in pieces for item in piece]
    assert [item[0, 0].item() for item in items] == [0, 1, 2]
    assert all(type(item) is torch.Tensor and item.shape == (1000, 600) and item.dtype == torch.bfloat16 for item in items)


@pytest.mark.row("O8")
def test_parts_of_tensors_are_pulled_also_those_that_their_origin_gathers(trees: Trees, torch: Any) -> None:
    server, site = trees.grow("server", "site-1")
    state = {"w": torch.randn(3000, 1000).to(torch.bfloat16), "b": torch.arange(9)}
    body = server.downloads.lend(state, receivers=0).body
    assert isinstance(body, dict)
    server.downloads.publish("model", body)
    found = site.downloads.find("server", "model")
    assert isinstance(found, dict)
    ref = found["w"]
    for part in (np.s_[10:20], np.s_[:, ::7], np.s_[5], np.s_[::-1, 3:9], np.s_[..., 7]):
        wanted = state["w"].view(torch.int16).numpy()[part]
        pulled = ref[part].pull()
        assert type(pulled) is torch.Tensor and pulled.dtype == torch.bfloat16
        assert np.array_equal(pulled.view(torch.int16).numpy(), wanted), part
    assert torch.equal(torch.cat([ref.shard(0, rank, 4).pull() for rank in range(4)]), state["w"])
    assert torch.equal(found["b"].as_numpy()[2:4].as_torch().pull(), state["b"][2:4])


@pytest.mark.row("O8")
def test_tensors_are_received_into_tensors(trees: Trees, torch: Any) -> None:
    server, site = trees.grow("server", "site-1")
    state = {"w": torch.randn(3000, 1000).to(torch.bfloat16), "b": torch.arange(9), "n": 5}
    body = server.downloads.lend(state, receivers=0).body
    model = {"w": torch.nn.Parameter(torch.zeros(3000, 1000, dtype=torch.bfloat16)), "b": torch.zeros(9, dtype=torch.int64)}
    pointer = model["w"].data_ptr()
    found = site.downloads.pull(body, into=model)
    assert isinstance(found, dict) and found["w"] is model["w"] and found["n"] == 5
    assert torch.equal(model["w"], state["w"]) and torch.equal(model["b"], state["b"]) and model["w"].data_ptr() == pointer
    assert isinstance(body, dict)
    part = torch.zeros(3000, 10, dtype=torch.bfloat16)
    assert site.downloads.pull(body["w"][:, :10], into=part) is part and torch.equal(part, state["w"][:, :10])
    for wrong in (torch.zeros(1000, 3000, dtype=torch.bfloat16).T, torch.zeros(3000, 1000), torch.zeros(3000).bfloat16()):
        with pytest.raises(OptionError, match="into"):
            site.downloads.pull(body["w"], into=wrong)

    server.handler("task", "small")(lambda request: {"t": torch.ones(3), "w": body["w"]})
    reply = server.request("server", "task", "small", resolve=False)
    mine = {"t": torch.zeros(3), "w": torch.zeros(3000, 1000, dtype=torch.bfloat16)}
    site.downloads.pull(reply.body, into=mine)
    assert torch.equal(mine["t"], torch.ones(3)) and torch.equal(mine["w"], state["w"]), "what came in the message is copied"


@pytest.mark.row("O8")
def test_where_torch_is_missing_tensors_are_arrays_when_asked_for_or_the_extra_is_named(trees: Trees, torch: Any) -> None:
    server, = trees.grow("server")
    server.downloads.publish("model", server.downloads.lend({"w": torch.arange(6.0).reshape(2, 3), "s": "text"}, receivers=0).body)
    server.handler("task", "small")(lambda request: {"t": torch.ones(3)})
    program = """
sys.modules["torch"] = None
from zdl.errors import CannotUnpack
for wanted in ("torch", "numpy"):
    with Cell("site-1", parent=sys.argv[1], options=Options(packing=PackOptions(tensors=wanted))) as cell:
        cell.wait_ready()
        for ask in (lambda: cell.downloads.resolve(cell.downloads.find("server", "model"))["w"],
                    lambda: cell.request("server", "task", "small").body["t"]):
            try: say(wanted, type(ask()).__name__)
            except CannotUnpack as error: say(wanted, error)
stay()
"""
    with Child(program, server.addresses[0]) as child:
        for _ in range(2):
            assert "pip install 'zdl[torch]'" in child.expect("torch")
        for _ in range(2):
            assert child.expect("numpy") == "ndarray"
    assert "torch" in sys.modules


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
@pytest.mark.parametrize("form", ["numpy", "torch"])
def test_elements_that_numpy_lacks_come_as_arrays_of_ml_dtypes_or_as_tensors(trees: Trees, tmp_path: Path, form: str) -> None:
    package = pytest.importorskip("torch" if form == "torch" else "ml_dtypes")
    server, site = trees.grow("server", "site-1")
    data = np.arange(48, dtype=np.uint8).tobytes()
    header = (b'{"w":{"dtype":"BF16","shape":[4,5],"data_offsets":[0,40]},'
              b'"s":{"dtype":"F8_E4M3","shape":[8],"data_offsets":[40,48]}}')
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    body = server.downloads.lend_file(path, receivers=0, as_tensors=True).body
    assert isinstance(body, dict)
    if form == "numpy":
        found: Any = site.downloads.resolve(body["tensors"])
        assert (found["w"].dtype, found["s"].dtype) == (package.bfloat16, package.float8_e4m3fn)
        assert (found["w"].tobytes(), found["s"].tobytes()) == (data[:40], data[40:])
    else:
        found = site.downloads.resolve({name: ref.as_torch() for name, ref in body["tensors"].items()})
        assert (found["w"].dtype, found["s"].dtype) == (package.bfloat16, package.float8_e4m3fn)
        assert all(np.array_equal(found[name].view(-1).view(package.uint8).numpy(), np.frombuffer(part, np.uint8))
                   for name, part in (("w", data[:40]), ("s", data[40:])))


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
    grown = process_facts().rss_bytes - before
    cell.downloads.publish("model", lent.body)
    say("lent", grown)
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
        own = 8 * MIB  # the stacks of threads, and what the system has loaded of libraries meanwhile
        assert int(child.expect("grown")) < 2 * server.options.pulls.window_bytes_max + own
    os.unlink(tmp_path / "model.safetensors")


@pytest.mark.row("O12")
@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_slices_of_the_tensors_of_a_file_are_fetched_and_tensors_go_into_given_memory_or_stay_on_the_disk(
        trees: Trees, tmp_path: Path, suffix: str) -> None:
    server, site = trees.grow("server", "site-1")
    state = {"wte": np.random.default_rng(2).standard_normal((4000, 500)).astype(np.float32), "bias": np.arange(7, dtype=np.int16)}
    path = tmp_path / f"model{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        np.savez(path, **state)
    body = server.downloads.lend_file(path, receivers=0, as_tensors=True).body
    assert isinstance(body, dict)
    server.downloads.publish("model", body)
    found = site.downloads.find("server", "model")
    assert isinstance(found, dict)
    wte = found["tensors"]["wte"]
    for part in (np.s_[1000:1500], np.s_[:, ::5], np.s_[-1], np.s_[::-1, 7]):
        assert np.array_equal(wte[part].pull(), state["wte"][part])
    before = sum(each.bytes_done for each in site.downloads.transfers)
    wte.shard(0, 3, 8).pull()
    assert isinstance(found["tensors"].select("b*").pull()["bias"], np.ndarray)
    assert np.array_equal(body["tensors"]["bias"][2:].pull(), state["bias"][2:]), "also where it is lent"
    assert sum(each.bytes_done for each in site.downloads.transfers) - before <= state["wte"].nbytes // 8 + state["bias"].nbytes
    mine = {name: np.zeros_like(array) for name, array in state.items()}
    site.downloads.pull(found["tensors"], into=mine)
    assert all(np.array_equal(mine[name], array) for name, array in state.items())
    on_disk = site.downloads.resolve(found["tensors"], to="disk")
    assert isinstance(on_disk, MutableMapping)
    assert all(np.array_equal(on_disk[name], array) for name, array in state.items())
