"""What may travel, and as what: the types of Python on one side, the codes of the wire on the other.

A `TypeTable` belongs to whoever packs; there is no table of the process. It answers for one leaf
(`TypeTable.kind_of`, `TypeTable.examine`); two functions look at a whole object:

* `kinds_within` is the quick look before packing and after unpacking: which types are inside, and is the
  nesting bounded? It goes level by level, so that each step is one call for thousands of leaves.
* `first_offence` is the slow look once packing has failed: which leaf, where, why, and what to do.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from types import MappingProxyType, NoneType
from typing import Any, Final

import numpy as np

from zdl.errors import CannotPack, CannotUnpack, TooLarge
from zdl.objects import arrays
from zdl.objects.tensors import NoTensors, Tensors
from zdl.refs import Ref

CONTAINERS: Final = (dict, list, tuple)
BYTES_LIKE: Final = (bytes, bytearray, memoryview)
# Types that hold nothing; most levels of most objects are made of these.
_LEAVES: Final = frozenset((NoneType, bool, int, float, str, bytes, np.ndarray, Ref))
# Leaf kinds by their number on the wire.
LEAF_KINDS: Final = ("array", "bytes", "file", "object", "tensor", "folder")
_KEY_CHARS_MAX = 80


class Code(enum.IntEnum):
    """The extension types of the skeleton; their payloads are specified in `zdl.objects`."""

    TUPLE = 1
    BIGINT = 2
    SCALAR = 3
    INLINE = 4
    SAME = 5
    BESIDE = 6
    REF = 7
    TENSOR = 16


class Kind(enum.Enum):
    """What a value travels as."""

    NIL = enum.auto()
    BOOL = enum.auto()
    INT = enum.auto()
    FLOAT = enum.auto()
    TEXT = enum.auto()
    BYTES = enum.auto()
    MAP = enum.auto()
    LIST = enum.auto()
    TUPLE = enum.auto()
    SCALAR = enum.auto()
    ARRAY = enum.auto()
    REF = enum.auto()
    TENSOR = enum.auto()


BUILTIN_KINDS: Final[Mapping[type, Kind]] = MappingProxyType({
    NoneType: Kind.NIL, bool: Kind.BOOL, int: Kind.INT, float: Kind.FLOAT, str: Kind.TEXT,
    bytes: Kind.BYTES, bytearray: Kind.BYTES, memoryview: Kind.BYTES,
    dict: Kind.MAP, list: Kind.LIST, tuple: Kind.TUPLE,
    # A memmap is an array whose bytes happen to lie in a file; other subclasses mean something else.
    np.generic: Kind.SCALAR, np.ndarray: Kind.ARRAY, np.memmap: Kind.ARRAY, Ref: Kind.REF,
})

# What to do instead, by the name of a type or of a class above it.
_ADVICE: Final[Mapping[str, str]] = MappingProxyType({
    "set": "send a list", "frozenset": "send a list", "complex": "send numpy.complex128(x)",
    "Enum": "send its value", "datetime": "send x.isoformat() or x.timestamp()", "date": "send x.isoformat()",
    "timedelta": "send x.total_seconds()", "Path": "send str(x)", "PurePath": "send str(x)", "Decimal": "send str(x)",
    "MaskedArray": "send its data and its mask", "ndarray": "send numpy.asarray(x)",
    "Tensor": "send x.detach().cpu().numpy()", "range": "send a list", "deque": "send a list",
})
_ADVICE_ELSE: Final = "send a dict, list, tuple, str, bytes, number, bool, None or numpy array made of it"


def _refusal(cls: type) -> CannotPack:
    """The error for a value of a type that may not travel."""
    advice = next((_ADVICE[above.__name__] for above in cls.__mro__ if above.__name__ in _ADVICE), _ADVICE_ELSE)
    if hasattr(cls, "__dataclass_fields__"):
        advice = "send dataclasses.asdict(x)"
    elif hasattr(cls, "_fields"):
        advice = "send tuple(x) or x._asdict()"
    name = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    return CannotPack(path="", reason=f"a value of type {name} cannot travel; {advice}")


@dataclass(frozen=True, slots=True)
class TypeTable:
    """What may travel from one cell, and as what.

    Attributes:
        kinds: types and what their values travel as. A subclass travels as the nearest class above it that
            is in the table, except where it would lose what it stands for: enums, named tuples, and
            subclasses of numpy's arrays.
        tensors: what knows the tensors of another framework.
    """

    kinds: Mapping[type, Kind] = field(default_factory=lambda: BUILTIN_KINDS)
    tensors: Tensors = NoTensors()

    def kind_of(self, cls: type) -> Kind:
        """What values of this type travel as.

        Raises:
            CannotPack: they may not travel; the path is left empty.
        """
        kind = self.kinds.get(cls)
        if kind is not None:
            return kind
        if not issubclass(cls, (enum.Enum, np.ndarray)) and not hasattr(cls, "_fields"):
            for above in cls.__mro__:
                if above in self.kinds:
                    return self.kinds[above]
        if self.tensors.is_tensor(cls):
            return Kind.TENSOR
        raise _refusal(cls)

    def examine(self, leaf: object) -> None:
        """Raises what packing this leaf alone would raise.

        Raises:
            CannotPack: it may not travel; the path is left empty.
        """
        kind = self.kind_of(type(leaf))
        try:
            if isinstance(leaf, str):
                str(leaf).encode()
            elif isinstance(leaf, memoryview):
                leaf.nbytes  # raises when it was released
            elif isinstance(leaf, np.ndarray):
                arrays.describe(leaf)
            elif isinstance(leaf, np.generic) and kind is Kind.SCALAR:
                arrays.name_of(leaf.dtype)
            elif isinstance(leaf, Ref):
                leaf.source.check()
                leaf.check()
            elif kind is Kind.TENSOR:
                self.tensors.flatten(leaf)
        except CannotPack:
            raise
        except UnicodeEncodeError as error:
            raise CannotPack(path="", reason=f"the text has a lone surrogate at character {error.start}, which "
                                             "UTF-8 cannot say; send bytes") from error
        except CannotUnpack as error:
            raise CannotPack(path="", reason=f"a ref that nobody would accept: {error.reason}") from error
        except (ValueError, AttributeError, TypeError) as error:
            raise CannotPack(path="", reason=str(error)) from error


def kinds_within(obj: object, *, depth_max: int, elements_max: int) -> set[type]:
    """The types of all that is inside an object: itself, containers, elements, keys.

    Args:
        obj: any object.
        depth_max: how deep containers may be nested.
        elements_max: how many keys and elements there may be; each takes a byte of the skeleton at least.
            A container that is met twice counts twice, as it travels twice.

    Raises:
        RecursionError: it is nested deeper, or contains itself.
        TooLarge: it has more elements.
    """
    kinds = {type(obj)}
    level: list[object] = [obj] if isinstance(obj, CONTAINERS) else []
    depth = count = 0
    while level:
        depth += 1
        count += sum(map(len, level))  # type: ignore[arg-type]
        if depth > depth_max:
            raise RecursionError(f"containers are nested deeper than depth_max={depth_max}")
        if count > elements_max:
            raise TooLarge(what="the skeleton of the message", size=count, limit="skeleton_bytes_max",
                           value=elements_max)
        # Iterating a dict gives its keys; its values are added to them.
        below: list[object] = list(chain.from_iterable(level))  # type: ignore[arg-type]
        for node in level:
            if isinstance(node, dict):
                below += node.values()
        here = set(map(type, below))
        kinds |= here
        level = [] if here <= _LEAVES else [child for child in below if isinstance(child, CONTAINERS)]
    return kinds


# --- where, and why not -------------------------------------------------------------------------

# A container, where it is, and the containers above it.
_Spot = tuple[object, str, tuple[object, ...]]


def first_offence(obj: object, *, types: TypeTable, depth_max: int) -> CannotPack | None:
    """The error that names a leaf which cannot travel, or None when every leaf can.

    Args:
        obj: what could not be packed.
        types: what may travel.
        depth_max: how deep containers may be nested.
    """
    todo: list[_Spot] = [(obj, "", ())]
    while todo:
        node, path, above = todo.pop()
        if not isinstance(node, CONTAINERS):
            error = _why_not(types.examine, node)
            if error is not None:
                return CannotPack(path=path, reason=error)
            continue
        # A named tuple is a container, and may not travel.
        error = _why_not(types.kind_of, type(node))
        if error is None and any(each is node for each in above):
            error = "it contains itself"
        if error is None and len(above) >= depth_max:
            error = f"containers are nested deeper than depth_max={depth_max}"
        if error is not None:
            return CannotPack(path=path, reason=error)
        trail = (*above, node)
        for key, child, where in _children(node, path):
            error = None if key is None else _key_offence(key, types, depth_max=depth_max - len(trail))
            if error is not None:
                return CannotPack(path=path, reason=f"the key {_shown(key)}: {error}")
            todo.append((child, where, trail))
    return None


def _why_not(test: Callable[[Any], object], value: object) -> str | None:
    """The reason of the `CannotPack` that the test raises, or None."""
    try:
        test(value)
    except CannotPack as error:
        return error.reason
    return None


def _key_offence(key: object, types: TypeTable, *, depth_max: int) -> str | None:
    """Why the key of a dict cannot travel, or None."""
    if isinstance(key, CONTAINERS):
        error = first_offence(key, types=types, depth_max=depth_max)
        return None if error is None else error.reason
    return _why_not(types.examine, key)


def _children(node: object, path: str) -> Iterator[tuple[object, object, str]]:
    """Key (None in a list), element and path of each element, the last one first."""
    if isinstance(node, dict):
        for key, child in reversed(list(node.items())):
            yield key, child, path + step(key, first=not path)
    elif isinstance(node, (list, tuple)):
        for index in range(len(node) - 1, -1, -1):
            yield None, node[index], f"{path}[{index}]"


def step(key: object, *, first: bool) -> str:
    """How a path goes on to the element of a dict: ``.weights`` (``weights`` at its beginning) or ``['a b']``."""
    if isinstance(key, str) and key.isidentifier() and len(key) <= _KEY_CHARS_MAX:
        return key if first else f".{key}"
    return f"[{_shown(key)}]"


def _shown(key: object) -> str:
    """A key for people, on one line and not too long; a strange object is shown by its type only."""
    if type(key) in (str, bytes):
        cut = repr(key[:_KEY_CHARS_MAX])  # type: ignore[index]
        return cut if len(key) <= _KEY_CHARS_MAX else f"{cut}…"  # type: ignore[arg-type]
    if type(key) in (bool, float, NoneType) or type(key) is int and key.bit_length() <= 64:
        return repr(key)
    if type(key) is tuple and len(key) <= 4:
        return f"({', '.join(map(_shown, key))}{',' * (len(key) == 1)})"
    return f"<{type(key).__name__}>"
