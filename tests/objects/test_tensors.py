"""Tensors of another framework travel as arrays that come out as tensors; what knows them is given, and may be nothing."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from zdl.errors import CannotPack, CannotUnpack, OptionError
from zdl.objects.manifest import Manifest
from zdl.objects.pack import Lent, Packed, pack
from zdl.objects.places import Places
from zdl.objects.tensors import FlatTensor, NoTensors, Tensors
from zdl.objects.typetable import Kind, TypeTable
from zdl.objects.unpack import unpack
from zdl.options import PackOptions
from zdl.refs import Ref, Source

OPTIONS = PackOptions()
ALL_BY_REF = PackOptions(inline_bytes_max=1, beside_bytes_max=1)
BESIDE = PackOptions(inline_bytes_max=1)
SOURCE = Source("server", bytes(16), bytes(16), 1 << 20)


@dataclass(eq=False)
class Box:
    """A tensor of a framework of ours."""

    array: NDArray[np.float32]
    is_good: bool = True


class Boxes:
    """What knows them."""

    def is_tensor(self, cls: type) -> bool:
        return issubclass(cls, Box)

    def address_of(self, tensor: object) -> int:
        assert isinstance(tensor, Box)
        return tensor.array.ctypes.data if tensor.array.size else 0

    def identity_of(self, tensor: object) -> Hashable:
        assert isinstance(tensor, Box)
        return (tensor.array.ctypes.data, tensor.array.shape) if tensor.array.size else None

    def flatten(self, tensor: object) -> FlatTensor:
        assert isinstance(tensor, Box)
        if not tensor.is_good:
            raise CannotPack(path="", reason="it is spoilt")
        return FlatTensor("<f4", tensor.array.shape, memoryview(tensor.array.tobytes()))

    def memory_of(self, tensor: object, dtype: str, shape: tuple[int, ...]) -> memoryview | None:
        assert isinstance(tensor, Box)
        return tensor.array.reshape(-1).view(np.uint8).data if (dtype, shape) == ("<f4", tensor.array.shape) else None

    def restore(self, dtype: str, shape: tuple[int, ...], buffer: bytes | bytearray | memoryview, *, copy: bool) -> object:
        assert dtype == "<f4" and copy
        return Box(np.frombuffer(bytearray(buffer), np.float32).reshape(shape))


TYPES = TypeTable(tensors=Boxes())


def lending(manifest: Manifest, lent: Sequence[Lent]) -> Source:
    return Source("server", bytes(16), bytes(16), manifest.bytes_total)


def turned(obj: object, options: PackOptions = OPTIONS) -> object:
    return unpack(pack(obj, options=options, types=TYPES).parts, options=options, types=TYPES)


@pytest.mark.parametrize("options", [OPTIONS, BESIDE])
def test_a_tensor_comes_out_as_a_tensor_inline_and_beside(options: PackOptions) -> None:
    for shape in ((2, 3), (), (0, 4)):
        box = Box(np.arange(np.prod(shape), dtype=np.float32).reshape(shape))
        found = turned({"a": [box]}, options)
        assert isinstance(found, dict) and isinstance(found["a"][0], Box)
        assert np.array_equal(found["a"][0].array, box.array) and found["a"][0].array.shape == shape


@pytest.mark.parametrize("options", [OPTIONS, BESIDE])
def test_tensors_of_the_same_memory_travel_once_and_come_out_as_one(options: PackOptions) -> None:
    memory = np.ones(8, np.float32)
    found = turned([Box(memory), memory, Box(memory), Box(memory[:4]), Box(memory.copy())], options)
    assert isinstance(found, list)
    assert found[0] is found[2] is not found[3] and found[4] is not found[0]
    assert isinstance(found[1], np.ndarray), "an array stays an array"


def test_a_large_tensor_is_a_ref_that_says_what_it_becomes_and_is_sent_on_as_it_is() -> None:
    packed = pack([Box(np.ones((4, 5), np.float32))], options=ALL_BY_REF, types=TYPES, lend=lending)
    (ref,) = unpack(packed.parts, options=OPTIONS)  # type: ignore[misc]
    assert isinstance(ref, Ref)
    assert (ref.kind, ref.framework, ref.dtype, ref.shape, ref.length) == ("array", "torch", "<f4", (4, 5), 80)
    again = unpack(pack([ref, ref.as_numpy()], options=OPTIONS).parts, options=OPTIONS)
    assert again == [ref, ref.as_numpy()] and ref.as_numpy().framework == "" and ref.as_numpy().as_torch() == ref


def test_who_knows_no_tensors_asks_for_arrays_or_is_told() -> None:
    packed: Packed = pack({"w": Box(np.ones(3, np.float32))}, options=OPTIONS, types=TYPES)
    with pytest.raises(CannotUnpack, match="ask for numpy's arrays"):
        unpack(packed.parts, options=OPTIONS)
    found = unpack(packed.parts, options=PackOptions(tensors="numpy"))
    assert isinstance(found, dict) and type(found["w"]) is np.ndarray and found["w"].tolist() == [1, 1, 1]
    with pytest.raises(OptionError, match="tensors"):
        PackOptions(tensors="jax")


def test_a_tensor_that_cannot_travel_is_named_with_its_path() -> None:
    for obj, path in (({"a": [Box(np.ones(1, np.float32), is_good=False)]}, "a[0]"),):
        with pytest.raises(CannotPack, match="it is spoilt") as caught:
            pack(obj, options=OPTIONS, types=TYPES)
        assert caught.value.path == path
    with pytest.raises(CannotPack, match="cannot travel") as caught:
        pack({"a": Box(np.ones(1, np.float32))}, options=OPTIONS)
    assert caught.value.path == "a"


def test_a_tensor_that_no_receiver_would_believe_is_refused() -> None:
    class Wide(Boxes):
        def flatten(self, tensor: object) -> FlatTensor:
            return FlatTensor("<f4", (0, 1 << 60), memoryview(b""))

    with pytest.raises(CannotPack, match="a side of the shape"):
        pack(Box(np.empty((0, 4), np.float32)), options=OPTIONS, types=TypeTable(tensors=Wide()))


@pytest.mark.fault("H18")
def test_H18_a_tensor_whose_shape_lies_is_refused_before_anything_is_made() -> None:
    parts = pack(Box(np.ones(3, np.float32)), options=BESIDE, types=TYPES).parts
    with pytest.raises(CannotUnpack):
        unpack([bytes(parts[0]).replace(b"<f4", b">O8"), *parts[1:]], options=OPTIONS, types=TYPES)
    with pytest.raises(CannotUnpack):
        unpack([parts[0], b"short"], options=PackOptions(tensors="numpy"), types=TYPES)


def test_nothing_is_a_tensor_where_no_framework_is_known() -> None:
    known: Tensors = NoTensors()
    assert known.address_of(Box(np.ones(1, np.float32))) == 0
    assert not known.is_tensor(Box) and known.identity_of(Box(np.ones(1, np.float32))) is None
    with pytest.raises(CannotPack):
        known.flatten(object())
    with pytest.raises(CannotUnpack):
        known.restore("<f4", (1,), bytes(4), copy=True)
    assert TYPES.kind_of(Box) is Kind.TENSOR


def test_what_has_come_as_a_tensor_is_copied_into_a_tensor_or_an_array_that_is_given() -> None:
    for into in (Box(np.zeros(3, np.float32)), np.zeros(3, np.float32)):
        for node in (Box(np.ones(3, np.float32)), np.ones(3, np.float32)):
            places = Places(Boxes())
            found = places.put({"a": [node]}, {"a": [into]})
            places.finish()
            assert found == {"a": [into]} and (into.array if isinstance(into, Box) else into).tolist() == [1, 1, 1]
    with pytest.raises(OptionError, match=r"into.a\[0\]"):
        Places(Boxes()).put({"a": [Box(np.ones(3, np.float32))]}, {"a": [Box(np.ones(4, np.float32))]})
    assert NoTensors().memory_of(Box(np.ones(1, np.float32)), "<f4", (1,)) is None


def test_bytes_and_files_do_not_become_tensors() -> None:
    assert Ref(SOURCE, 0, 0, 5, "bytes").as_torch().framework == ""
