"""Tensors of torch: their bytes without a copy, and tensors made of bytes without a copy.

torch is imported by no one but here, and here only when a tensor has arrived: who sends one has imported it himself, and
who has nothing to do with torch never pays for it. That a value is a tensor is seen by asking whether torch is there.

What travels is dtype, shape and elements: in C order, on the CPU, without gradients. What is not contiguous is copied, and
what is on another device is brought through memory that is locked to its pages, so that the device writes it by itself. A
tensor comes out on the CPU and does not require gradients, as the values of a state dict do: ``load_state_dict`` puts it
where the model is. Tied weights are seen by their memory, because ``state_dict()`` makes new objects of the same.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import replace
from math import prod
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from zdl.errors import CannotPack, CannotUnpack
from zdl.objects import arrays
from zdl.objects.tensors import FlatTensor
from zdl.refs import TORCH, Ref

# What numpy has not, with as many bytes in its place; the wire calls these as torch does.
_HELD_AS: Final[Mapping[str, str]] = MappingProxyType({
    "bfloat16": "<u2", "float8_e4m3fn": "|u1", "float8_e4m3fnuz": "|u1", "float8_e5m2": "|u1", "float8_e5m2fnuz": "|u1",
    "float8_e8m0fnu": "|u1"})
# torch's names and the wire's.
NAMES: Final[Mapping[str, str]] = MappingProxyType(dict(zip(_HELD_AS, _HELD_AS)) | {
    "bool": "|b1", "uint8": "|u1", "int8": "|i1", "int16": "<i2", "int32": "<i4", "int64": "<i8", "uint16": "<u2",
    "uint32": "<u4", "uint64": "<u8", "float16": "<f2", "float32": "<f4", "float64": "<f8", "complex64": "<c8",
    "complex128": "<c16"})
_TORCH_NAMES: Final = MappingProxyType({ours: theirs for theirs, ours in NAMES.items()})
EXTRA: Final = "pip install 'zdl[torch]'"


def is_tensor(cls: type) -> bool:
    """Whether values of this type are tensors of torch."""
    tensor = getattr(sys.modules.get("torch"), "Tensor", None)
    return tensor is not None and issubclass(cls, tensor)


def address_of(tensor: Any) -> int:
    """Where the first of its elements is; 0 if there are none, or none that lie at places."""
    is_at_places = _is_plain(tensor) and not tensor.is_nested and tensor.layout is sys.modules["torch"].strided
    return int(tensor.data_ptr()) if is_at_places else 0  # torch gives 0 for one without elements, and on the device 'meta'


def identity_of(tensor: Any) -> Hashable:
    """Equal for tensors that are the same elements of the same memory, in the same order; None if there are none."""
    address = address_of(tensor)
    if not address:
        return None
    return address, tensor.device, tensor.dtype, tensor.shape, tensor.stride(), tensor.is_conj(), tensor.is_neg()


def flatten(tensor: Any) -> FlatTensor:
    """The bytes of a tensor; uncopied when it is contiguous and on the CPU.

    Raises:
        CannotPack: it may not travel; the path is left empty.
    """
    torch = sys.modules["torch"]
    dtype = NAMES.get(_name(tensor.dtype), "")
    # Of thousands, nearly all are so; what else may travel, and why not, takes twice as long to find out.
    is_common = dtype and _is_plain(tensor) and tensor.is_cpu and tensor.layout is torch.strided and not tensor.is_nested
    reason = "" if is_common else _why_not(tensor, dtype)
    if reason:
        raise CannotPack(path="", reason=reason)
    plain = tensor.detach() if tensor.requires_grad else tensor
    if plain.is_neg() or dtype.startswith("<c") and plain.is_conj():
        plain = plain.resolve_conj().resolve_neg()
    if not is_common and not plain.is_cpu:
        plain = _staged(plain.contiguous())
    if dtype in _HELD_AS:
        plain = plain.view(torch.int16 if plain.itemsize == 2 else torch.uint8)
    # Flattened by numpy: its views are not objects that Python's collector looks at, which torch's are. Measured for 10,000
    # small tensors: 2.3 us each, and 13 with views of torch's.
    array = plain.numpy()
    return FlatTensor(dtype, array.shape, arrays.flat(array))


def restore(dtype: str, shape: tuple[int, ...], buffer: Any, *, copy: bool) -> Any:
    """The tensor that these bytes are.

    Args:
        dtype: the wire's name of the element type.
        shape: lengths of the dimensions.
        buffer: its bytes in C order.
        copy: True gives fresh memory; False a view of the buffer, which must be writable.

    Raises:
        CannotUnpack: torch is not installed, has no such elements, or dtype and shape say another number of bytes.
    """
    torch = _torch()
    element = getattr(torch, _TORCH_NAMES.get(dtype, ""), None)
    if element is None:
        raise CannotUnpack(path="", reason=f"torch {torch.__version__} has no elements like {dtype!r:.40}; ask for numpy's array")
    have, need = memoryview(buffer).nbytes, prod(shape) * element.itemsize
    if need != have:
        raise CannotUnpack(path="", reason=f"{dtype}{list(shape)} has {need} bytes, there are {have}")
    if not need:
        return torch.empty(shape, dtype=element)
    raw = np.frombuffer(bytearray(buffer) if copy else buffer, np.uint8)
    # Memory that begins in the middle of an element can be read by some processors only.
    if raw.ctypes.data % element.itemsize:
        raw = raw.copy()
    return torch.from_numpy(raw).view(element).reshape(shape)


def memory_of(tensor: Any, dtype: str, shape: tuple[int, ...]) -> memoryview | None:
    """The memory of a tensor that such elements can be received into; None if they cannot be."""
    if (_why_not(tensor, NAMES.get(_name(tensor.dtype), "")) or tensor.is_conj() or tensor.is_neg()
            or not tensor.is_contiguous() or tensor.device.type != "cpu"):
        return None
    flat = flatten(tensor)
    return arrays.view_of(flat.buffer) if (flat.dtype, flat.shape) == (dtype, tuple(shape)) else None


def fetched(refs: Iterable[Ref], fetch: Callable[[list[Ref]], Mapping[Ref, object]], *, wanted: str) -> Mapping[Ref, object]:
    """What refs stand for, with tensors where they say so.

    Args:
        refs: what is wanted.
        fetch: gives the arrays and bytes of refs that say nothing of tensors.
        wanted: what tensors become: see `zdl.options.PackOptions.tensors`.

    Raises:
        CannotUnpack: torch is not installed; nothing was fetched.
    """
    whole = list(refs)
    check_here(whole, wanted=wanted)
    tensors = {ref: as_array(ref) if wanted == TORCH else ref.as_numpy() for ref in whole if ref.framework}
    if not tensors:
        return fetch(whole)
    came = dict(fetch(list(dict.fromkeys(tensors.get(ref, ref) for ref in whole))))
    found: dict[Ref, object] = {}
    used: set[Ref] = {ref for ref in whole if not ref.framework}
    for ref in whole:
        plain = tensors.get(ref, ref)
        if plain in came:
            value = came[plain]
            is_tensor_wanted = ref in tensors and wanted == TORCH
            # The same bytes may be wanted as an array too, which must not change with the tensor.
            found[ref] = restore(ref.dtype, ref.shape, _flat(value), copy=plain in used) if is_tensor_wanted else value
            used.add(plain)
    return found


def check_here(refs: Iterable[Ref], *, wanted: str) -> None:
    """Raises `CannotUnpack` where some of these shall become tensors, and torch is not installed."""
    if wanted == TORCH and any(ref.framework for ref in refs):
        _torch()


def as_array(ref: Ref) -> Ref:
    """The same bytes as an array that numpy can hold."""
    return replace(ref, framework="", dtype=_HELD_AS.get(ref.dtype, ref.dtype))


def _flat(value: object) -> memoryview:
    assert isinstance(value, np.ndarray)
    return arrays.flatten(value)


def _why_not(tensor: Any, dtype: str) -> str:
    """Why a tensor with elements that the wire calls so may not travel, and what to do; empty if it may."""
    torch = sys.modules["torch"]
    if not _is_plain(tensor):
        advice = "x.full_tensor()" if hasattr(tensor, "full_tensor") else "x.as_subclass(torch.Tensor), if that keeps what it means"
        return f"it is a {type(tensor).__qualname__}, a tensor that means something else; send {advice}"
    if tensor.is_nested:
        return "it is a nested tensor; send its parts: x.unbind()"
    if tensor.layout != torch.strided:
        return f"its layout is {tensor.layout}; send x.to_dense(), or its indices and its values"
    if tensor.is_quantized:
        return "it is quantized; send x.int_repr() with its scale and zero point, or x.dequantize()"
    if tensor.is_meta:
        return "it is on the device 'meta', where tensors have no elements"
    if not dtype:
        return f"its dtype is {tensor.dtype}; send x.view(torch.uint8), or convert it"
    return ""


def _is_plain(tensor: Any) -> bool:
    """Whether it is no more than its elements: subclasses mean something else."""
    torch = sys.modules["torch"]
    return type(tensor) is torch.Tensor or type(tensor) is torch.nn.Parameter


def _staged(tensor: Any) -> Any:
    """The same tensor on the CPU. Its memory is locked to its pages where the device can write there by itself."""
    torch = sys.modules["torch"]
    if tensor.device.type != "cuda":
        return tensor.cpu()
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    host.copy_(tensor, non_blocking=True)
    torch.cuda.current_stream(tensor.device).synchronize()
    return host


def _name(dtype: Any) -> str:
    """``torch.float32`` → ``float32``."""
    return str(dtype).removeprefix("torch.")


def _torch() -> Any:
    """The package, which is imported now if it has not been.

    Raises:
        CannotUnpack: it is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise CannotUnpack(path="", reason=f"it is a tensor of torch, which is not installed here: {EXTRA}; or ask for "
                                           "numpy's arrays") from error
    return torch
