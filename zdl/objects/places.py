"""Places: memory that the user has already, for what is fetched: checked before anything is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from zdl.errors import CannotPack, OptionError
from zdl.objects import arrays
from zdl.objects.paths import step
from zdl.objects.tensors import NoTensors, Tensors
from zdl.refs import Ref

_NOTHING: Final = object()
# Refs that stay refs inside an object: files are fetched to a path, what is lent piece by piece by a consumer.
LEFT_KINDS: Final = ("file", "folder", "object")


class Places:
    """Which memory of the user's each ref of an object goes to.

    Attributes:
        first: the memory that each ref is fetched into.

    Args:
        tensors: what knows the tensors of another framework.
    """

    def __init__(self, tensors: Tensors = NoTensors()) -> None:
        self._tensors = tensors
        self.first: dict[Ref, memoryview] = {}
        self._after: list[Callable[[], None]] = []

    def put(self, node: object, into: Any, path: str = "") -> object:
        """The object as it will be: with what is given in the places of its refs and arrays.

        Args:
            node: an object with refs.
            into: the same nesting of dicts and lists, with arrays or tensors. A dict may have more keys.
            path: where they are.

        Raises:
            OptionError: something is missing, or of another dtype or shape, or not contiguous, or read-only.
        """
        if isinstance(node, Ref):
            return node if path and node.kind in LEFT_KINDS else self._give(node, into, path)
        if isinstance(node, np.ndarray):
            return self._copy(*arrays.describe(node), arrays.flatten(node), into, path)
        if self._tensors.is_tensor(type(node)):
            flat = self._tensors.flatten(node)
            return self._copy(flat.dtype, flat.shape, arrays.view_of(flat.buffer), into, path)
        if isinstance(node, dict):
            return {key: self.put(child, _at(into, key), path + step(key, first=not path)) for key, child in node.items()}
        if isinstance(node, (list, tuple)):
            found = [self.put(child, _at(into, at), f"{path}[{at}]") for at, child in enumerate(node)]
            return found if isinstance(node, list) else tuple(found)
        return node

    def finish(self) -> None:
        """All has come: what came with the message, and what is wanted twice, is copied to its place."""
        for copy in self._after:
            copy()

    def _give(self, ref: Ref, into: Any, path: str) -> object:
        memory = memory_for(ref, into, path, self._tensors)
        known = self.first.setdefault(ref, memory)
        if known is not memory:
            self._after.append(lambda: memory.__setitem__(slice(None), known))
        return into

    def _copy(self, dtype: str, shape: tuple[int, ...], flat: memoryview, into: Any, path: str) -> object:
        memory = _array_memory(dtype, shape, into, path, self._tensors)
        self._after.append(lambda: memory.__setitem__(slice(None), flat))
        return into


def memory_for(ref: Ref, into: Any, path: str = "", tensors: Tensors = NoTensors()) -> memoryview:
    """The memory of an array, or of a buffer for bytes, that a ref is to be fetched into.

    Raises:
        OptionError: it does not fit.
    """
    if ref.kind == "array":
        return _array_memory(ref.dtype, ref.shape, into, path, tensors)
    need = f"a writable buffer of {ref.length} bytes"
    try:
        view = memoryview(into)
        memory = view.cast("B") if view.contiguous and view.nbytes else view
    except TypeError as error:
        raise _bad(path, into, need) from error
    if view.readonly or not view.contiguous or view.nbytes != ref.length:
        raise _bad(path, into, need)
    return memory


def _array_memory(dtype: str, shape: tuple[int, ...], into: Any, path: str, tensors: Tensors) -> memoryview:
    """The memory of an array, or of a tensor, that such a one can be received into."""
    need = f"an array {dtype}{list(shape)}, contiguous in C order and writable"
    if tensors.is_tensor(type(into)):
        memory = tensors.memory_of(into, dtype, shape)
        if memory is None:
            raise _bad(path, into, f"{need}; or such a tensor, in the memory of this machine")
        return memory
    if not isinstance(into, np.ndarray):
        raise _bad(path, into, need)
    try:
        is_same = arrays.describe(into) == (dtype, shape)
    except CannotPack:
        is_same = False
    if not is_same or not into.flags.c_contiguous or not into.flags.writeable:
        raise _bad(path, into, need)
    return arrays.flatten(into)


def _at(into: Any, key: Any) -> Any:
    """What is given for an element; nothing is no fault where there is nothing to put."""
    if isinstance(into, Mapping):
        return into.get(key, _NOTHING)
    if isinstance(into, (list, tuple)) and type(key) is int and key < len(into):
        return into[key]
    return _NOTHING


def _bad(path: str, into: Any, need: str) -> OptionError:
    shown = "nothing" if into is _NOTHING else type(into).__name__
    if not isinstance(into, np.ndarray) and hasattr(into, "dtype") and hasattr(into, "shape"):
        shown = f"{shown} {into.dtype}{list(into.shape)}"
    if isinstance(into, np.ndarray):
        shown = f"{into.dtype}{list(into.shape)}"
        shown += "" if into.flags.c_contiguous else ", not contiguous"
        shown += "" if into.flags.writeable else ", read-only"
    return OptionError(name="into" + (path if not path or path.startswith("[") else f".{path}"), value=shown, allowed=need)
