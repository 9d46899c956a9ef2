"""Tensors of torch as bytes and back. Run with torch: ``pip install -e '.[test,torch]'``, then this file."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from zdl.download import tensors
from zdl.errors import CannotPack, CannotUnpack


def test_who_has_nothing_to_do_with_torch_does_not_import_it() -> None:
    code = ("import sys, zdl, zdl.assembly, zdl.download.tensors as t\n"
            "assert not t.is_tensor(int) and 'torch' not in sys.modules")
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_where_torch_is_missing_the_error_names_the_extra() -> None:
    code = ("import sys; sys.modules['torch'] = None\n"
            "from zdl.download.tensors import is_tensor, restore\n"
            "assert not is_tensor(int)\n"
            "try: restore('<f4', (1,), bytes(4), copy=True)\n"
            "except Exception as error: print(error)")
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "pip install 'zdl[torch]'" in done.stdout and "numpy" in done.stdout


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason="needs the extra 'torch'")


def same(torch: Any, one: Any, other: Any) -> bool:
    """Whether two tensors are equal bit by bit."""
    return (one.dtype, one.shape) == (other.dtype, other.shape) and bytes(tensors.flatten(one).buffer) == bytes(
        tensors.flatten(other).buffer)


def turned(tensor: Any, *, copy: bool = True) -> Any:
    """Out and back."""
    flat = tensors.flatten(tensor)
    return tensors.restore(flat.dtype, flat.shape, flat.buffer if copy else bytearray(flat.buffer), copy=copy)


@pytest.mark.parametrize("name", tensors.NAMES)
def test_every_dtype_goes_there_and_back(torch: Any, name: str) -> None:
    element = getattr(torch, name, None)
    if element is None:
        pytest.skip(f"torch {torch.__version__} has no {name}")
    raw = torch.randint(0, 2 if name == "bool" else 256, (6 * element.itemsize,), dtype=torch.uint8)
    for tensor in (raw.view(element).reshape(2, 3), raw[:element.itemsize].view(element).reshape(()),
                   torch.empty((0, 5), dtype=element)):
        for copy in (True, False):
            back = turned(tensor, copy=copy)
            assert same(torch, back, tensor) and back.is_contiguous() and not back.requires_grad


def test_the_names_of_elements_have_the_sizes_that_torch_says(torch: Any) -> None:
    from zdl.objects import arrays
    for name, ours in tensors.NAMES.items():
        if hasattr(torch, name):
            assert arrays.nbytes_of(ours, (1,)) == getattr(torch, name).itemsize


def test_a_contiguous_tensor_is_not_copied_and_others_are_in_order(torch: Any) -> None:
    tensor = torch.arange(12, dtype=torch.bfloat16).reshape(3, 4)
    flat = tensors.flatten(tensor)
    tensor[0, 0] = 99
    assert turned(tensor).tolist() == tensor.tolist()
    assert bytes(flat.buffer[:2]) == bytes(tensors.flatten(tensor).buffer[:2])
    for view in (tensor.T, tensor[:, ::2], tensor[1:], tensor.expand(2, 3, 4), tensor.flip(0), tensor[1, 2]):
        assert same(torch, turned(view), view.contiguous())
    complex_ = torch.tensor([1 + 2j, 3 - 4j])
    assert turned(complex_.conj()).tolist() == [1 - 2j, 3 + 4j]
    assert turned(complex_.conj().imag).tolist() == [-2.0, 4.0]


def test_memory_that_is_given_is_used_and_lives_as_long_as_the_tensor(torch: Any) -> None:
    memory = bytearray(16)
    tensor = tensors.restore("<f4", (4,), memory, copy=False)
    tensor[0] = 1.0
    assert bytes(memory[:4]) == b"\x00\x00\x80?"
    view = memoryview(bytearray(17))[1:]
    odd = tensors.restore("<f4", (4,), view, copy=False)
    del memory, view
    odd += 1
    tensor += 1
    assert odd.tolist() == [1.0] * 4 and tensor.tolist() == [2.0, 1.0, 1.0, 1.0] and odd.data_ptr() % 4 == 0


def test_gradients_stay_and_a_parameter_is_a_tensor(torch: Any) -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    (parameter * 2).sum().backward()
    back = turned(parameter)
    assert type(back) is torch.Tensor and not back.requires_grad and back.grad is None
    assert same(torch, turned(parameter * 2), torch.full((3,), 2.0))


def test_tied_weights_are_one_by_their_memory(torch: Any) -> None:
    weight = torch.ones(4, 4)
    again = weight.detach()
    assert tensors.identity_of(weight) == tensors.identity_of(again) is not None
    others = [weight[:2], weight.T, weight.view(torch.int32), weight.clone(), weight.reshape(16)]
    assert len({tensors.identity_of(each) for each in (weight, *others)}) == 6
    assert tensors.identity_of(torch.empty(0)) is None


def refused(torch: Any) -> dict[str, Any]:
    """Tensors that may not travel, by what the error says."""
    class Mine(torch.Tensor):  # type: ignore[misc]
        """Somebody's own."""

    return {
        "to_dense": torch.eye(3).to_sparse(), "layout is torch.sparse_csr": torch.eye(3).to_sparse_csr(),
        "int_repr": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        "'meta'": torch.empty(3, device="meta"),
        "a tensor that means something else": torch.ones(3).as_subclass(Mine),
        "unbind": torch.nested.nested_tensor([torch.ones(1), torch.ones(2)]),
        "its dtype is torch.complex32": torch.empty(2, dtype=torch.complex32),
    }


@pytest.mark.filterwarnings("ignore")
def test_what_is_more_than_its_elements_is_refused_with_advice(torch: Any) -> None:
    for reason, tensor in refused(torch).items():
        with pytest.raises(CannotPack) as caught:
            tensors.flatten(tensor)
        assert reason in caught.value.reason
        if type(tensor) is not torch.Tensor or tensor.layout != torch.strided or tensor.is_meta:
            assert tensors.identity_of(tensor) is None


def test_bytes_that_are_no_such_tensor_are_refused(torch: Any) -> None:
    for dtype, shape, size in ((">f4", (1,), 4), ("nonsense", (1,), 4), ("<f4", (2,), 4), ("", (), 0)):
        with pytest.raises(CannotUnpack):
            tensors.restore(dtype, shape, bytes(size), copy=True)


def test_a_tensor_of_a_gpu_comes_through_locked_memory(torch: Any) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    tensor = torch.arange(1000, dtype=torch.bfloat16, device="cuda").reshape(10, 100)
    for each in (tensor, tensor.T, tensor[3]):
        assert same(torch, turned(each), each.cpu().contiguous())
    assert tensors.identity_of(tensor) == tensors.identity_of(tensor.detach())
