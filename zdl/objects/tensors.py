"""Tensors: what another framework has in the place of numpy's arrays, as the packer and the unpacker see it.

On the wire a tensor is an array that shall come out as a tensor: element type, shape, and bytes in C order. Nothing here
knows a framework. Who makes a `zdl.objects.typetable.TypeTable` may give it one (`zdl.download.tensors` is torch's); who
has none can pass tensors on, and can ask for numpy's arrays in their place.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

from zdl.errors import CannotPack, CannotUnpack
from zdl.objects.arrays import Flat


@dataclass(frozen=True, slots=True, eq=False)
class FlatTensor:
    """A tensor as the wire has it.

    Attributes:
        dtype: the wire's name of the element type.
        shape: lengths of the dimensions.
        buffer: its bytes in C order; it keeps them alive.
    """

    dtype: str
    shape: tuple[int, ...]
    buffer: Flat


class Tensors(Protocol):
    """What knows the tensors of one framework."""

    def is_tensor(self, cls: type) -> bool:
        """Whether values of this type are its tensors. It is asked for types that are no others, so it need not be fast."""

    def address_of(self, tensor: object) -> int:
        """Where its elements begin; 0 where that means nothing."""

    def identity_of(self, tensor: object) -> Hashable:
        """Equal for tensors that are the same elements of the same memory, in the same order; None where that means nothing."""

    def flatten(self, tensor: object) -> FlatTensor:
        """Its bytes, uncopied where they lie in order in this machine's memory.

        Raises:
            CannotPack: it may not travel; the path is left empty.
        """

    def memory_of(self, tensor: object, dtype: str, shape: tuple[int, ...]) -> memoryview | None:
        """The memory of a tensor that such elements can be received into; None if they cannot be."""

    def restore(self, dtype: str, shape: tuple[int, ...], buffer: bytes | bytearray | memoryview, *, copy: bool) -> object:
        """The tensor that these bytes are: fresh, or a view of the buffer, which must be writable.

        Raises:
            CannotUnpack: the framework is not here, has no such elements, or it would have another number of bytes.
        """


@dataclass(frozen=True, slots=True)
class NoTensors:
    """Where no framework is known."""

    def is_tensor(self, cls: type) -> bool:
        """None is."""
        return False

    def address_of(self, tensor: object) -> int:
        """Means nothing."""
        return 0

    def identity_of(self, tensor: object) -> Hashable:
        """Means nothing."""
        return None

    def flatten(self, tensor: object) -> FlatTensor:
        """Is never asked."""
        raise CannotPack(path="", reason=f"a {type(tensor).__qualname__} is no tensor that is known here")

    def memory_of(self, tensor: object, dtype: str, shape: tuple[int, ...]) -> memoryview | None:
        """Is never asked."""
        return None

    def restore(self, dtype: str, shape: tuple[int, ...], buffer: bytes | bytearray | memoryview, *, copy: bool) -> object:
        """Cannot be done."""
        raise CannotUnpack(path="", reason="it is a tensor, and who unpacks it knows none; ask for numpy's arrays")
