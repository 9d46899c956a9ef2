"""What may travel, and as what: the types of Python on one side, the codes of the wire on the other.

A `TypeTable` belongs to whoever packs; there is no table of the process. It answers for one leaf
(`TypeTable.kind_of`, `TypeTable.examine`); two functions look at a whole object:

* `kinds_within` is the quick look before packing and after unpacking: which types are inside, and is the
  nesting bounded? It goes level by level, so that each step is one call for thousands of leaves.
* `first_offence` is the slow look once packing has failed: which leaf, where, why, and what to do.
"""

from __future__ import annotations

import enum
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from types import MappingProxyType, NoneType
from typing import Any, Final

import numpy as np

from zdl.errors import CannotPack, CannotUnpack, OptionError, TooLarge
from zdl.objects import arrays
from zdl.objects.aliases import Aliased
from zdl.objects.atoms import fields_of, number_of
from zdl.objects.dtypes import name_of
from zdl.objects.forms import form_of, has_form
from zdl.objects.paths import shown, step
from zdl.objects.tensors import NoTensors, Tensors
from zdl.objects.values import CONTAINERS, Lending, Unbuilt, ValueType
from zdl.refs import Ref

BYTES_LIKE: Final = (bytes, bytearray, memoryview)
# Types that hold nothing; most levels of most objects are made of these.
_LEAVES: Final = frozenset((NoneType, bool, int, float, str, bytes, np.ndarray, Ref))
# Leaf kinds by their number on the wire.
LEAF_KINDS: Final = ("array", "bytes", "file", "object", "tensor", "folder")
# A name of a registered type on the wire.
TYPE_NAME_BYTES_MAX: Final = 120
NO_VALUES: Final[Mapping[type, ValueType]] = MappingProxyType({})
NO_NAMES: Final[Mapping[str, ValueType]] = MappingProxyType({})


class Code(enum.IntEnum):
    """The extension types of the skeleton; their payloads are specified in `zdl.objects`."""

    TUPLE = 1
    BIGINT = 2
    SCALAR = 3
    INLINE = 4
    SAME = 5
    BESIDE = 6
    REF = 7
    ATOM = 8
    SET = 9
    FROZENSET = 10
    DEQUE = 11
    VALUE = 12
    SHARED = 13
    ALIAS = 14
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
    ATOM = enum.auto()
    SET = enum.auto()
    FROZENSET = enum.auto()
    DEQUE = enum.auto()
    VALUE = enum.auto()
    TENSOR = enum.auto()


BUILTIN_KINDS: Final[Mapping[type, Kind]] = MappingProxyType({
    NoneType: Kind.NIL, bool: Kind.BOOL, int: Kind.INT, float: Kind.FLOAT, str: Kind.TEXT,
    bytes: Kind.BYTES, bytearray: Kind.BYTES, memoryview: Kind.BYTES,
    dict: Kind.MAP, list: Kind.LIST, tuple: Kind.TUPLE,
    # A memmap is an array whose bytes happen to lie in a file; other subclasses mean something else.
    np.generic: Kind.SCALAR, np.ndarray: Kind.ARRAY, np.memmap: Kind.ARRAY, Ref: Kind.REF,
    set: Kind.SET, frozenset: Kind.FROZENSET, deque: Kind.DEQUE, Unbuilt: Kind.VALUE,
})

# What to do instead, by the name of a type or of a class above it.
_ADVICE: Final[Mapping[str, str]] = MappingProxyType({
    "MaskedArray": "send its data and its mask", "ndarray": "send numpy.asarray(x)",
    "Tensor": "send x.detach().cpu().numpy()",
})
_ADVICE_ELSE: Final = ("register it with two functions, TypeTable().with_type(cls, to_plain=…, from_plain=…), or send "
                       "what it is made of")
_ADVICE_REGISTER: Final = "register it: Cell(…, types=TypeTable().with_type(cls)), on both sides"


def _refusal(cls: type) -> CannotPack:
    """The error for a value of a type that may not travel."""
    advice = next((_ADVICE[above.__name__] for above in cls.__mro__ if above.__name__ in _ADVICE), _ADVICE_ELSE)
    if has_form(cls):
        advice = _ADVICE_REGISTER.replace("cls", cls.__name__)
    name = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    return CannotPack(path="", reason=f"a value of type {name} cannot travel; {advice}")


@dataclass(frozen=True, slots=True)
class TypeTable:
    """What may travel from and to one cell, and as what: a value, built up before and given to the cell.

    ::

        types = TypeTable().with_types(Round, Colour).with_type(Tokens, to_plain=Tokens.as_dict, from_plain=Tokens.of_dict)
        cell = Cell("site-1", parent=…, types=types)

    Both sides register under the same name; nothing on the wire names a class to import.

    Attributes:
        kinds: types and what their values travel as. A subclass travels as the nearest class above it that
            is in the table, except where it would lose what it stands for: enums, named tuples,
            subclasses of numpy's arrays, of registered classes, and of most small values such as datetimes.
        values: registered types by their class.
        names: the same by their name.
        tensors: what knows the tensors of another framework.
    """

    kinds: Mapping[type, Kind] = field(default_factory=lambda: BUILTIN_KINDS)
    values: Mapping[type, ValueType] = field(default_factory=lambda: NO_VALUES)
    names: Mapping[str, ValueType] = field(default_factory=lambda: NO_NAMES)
    tensors: Tensors = NoTensors()

    def __repr__(self) -> str:
        return f"<TypeTable {' '.join(self.names) or 'of nothing registered'}>"

    def with_types(self, *classes: type) -> TypeTable:
        """The table with these dataclasses, enums and named tuples, each under the name of its class.

        Raises:
            OptionError: one is none of these, or its name is taken.
        """
        table = self
        for cls in classes:
            table = table.with_type(cls)
        return table

    def with_type(self, cls: type, *, name: str | None = None, to_plain: Callable[[Any], object] | None = None,
                  from_plain: Callable[[Any], object] | None = None, is_lent: bool = False) -> TypeTable:
        """The table with one class more.

        Args:
            cls: values of exactly this class travel; not of its subclasses.
            name: what the wire calls it; by default ``cls.__name__``. The other side uses the same.
            to_plain: gives the plain form of a value: anything that may travel, values of registered types included. It
                must not change afterwards as long as it is lent. Not needed for a dataclass, an enum or a named tuple.
            from_plain: gives the value of a plain form. It runs where a message is unpacked, or where its refs are
                resolved, with what anybody may have sent: it should check it, and raise what it likes.
            is_lent: the arrays and bytes of the plain form go by reference whatever their size.

        Raises:
            OptionError: the class has no form of its own and no functions; the class or the name is taken.
        """
        word = cls.__name__ if name is None else name
        if not 0 < len(word.encode(errors="replace")) <= TYPE_NAME_BYTES_MAX or not word.isprintable():
            raise OptionError(name="name", value=repr(word)[:80], allowed=f"1 to {TYPE_NAME_BYTES_MAX} bytes of printable text")
        if word in self.names or cls in self.values:
            raise OptionError(name="name", value=word, allowed="a name and a class that are not in the table yet")
        if cls in BUILTIN_KINDS or number_of(cls) is not None:
            raise OptionError(name="cls", value=cls.__name__, allowed="a class of your own: this one travels as it is")
        if (to_plain is None) is not (from_plain is None):
            raise OptionError(name="from_plain", value=str(from_plain), allowed="both functions, or none")
        if to_plain is None or from_plain is None:
            to_plain, from_plain = form_of(cls)
        made = ValueType(word, cls, to_plain, from_plain, is_lent)
        return replace(self, values=MappingProxyType({**self.values, cls: made}),
                       names=MappingProxyType({**self.names, word: made}))

    def kind_of(self, cls: type) -> Kind:
        """What values of this type travel as.

        Raises:
            CannotPack: they may not travel; the path is left empty.
        """
        kind = self.kinds.get(cls)
        if kind is not None:
            return kind
        if cls in self.values:
            return Kind.VALUE
        if number_of(cls) is not None:
            return Kind.ATOM
        if not issubclass(cls, np.ndarray) and not has_form(cls):
            for above in cls.__mro__:
                if above in self.values:
                    break
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
                name_of(leaf.dtype)
            elif kind is Kind.ATOM:
                fields_of(leaf)
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


@dataclass(frozen=True, slots=True)
class _Limits:
    """How deep, and how many elements, an object may have."""

    depth_max: int
    elements_max: int

    def check(self, depth: int, count: int) -> None:
        """Raises what `kinds_within` raises."""
        if depth > self.depth_max:
            raise RecursionError(f"containers are nested deeper than depth_max={self.depth_max}")
        if count > self.elements_max:
            raise TooLarge(what="the skeleton of the message", size=count, limit="skeleton_bytes_max", value=self.elements_max)


def kinds_within(obj: object, *, depth_max: int, elements_max: int, may_be_aliased: bool = True) -> set[type]:
    """The types of all that is inside an object: itself, containers, elements, keys; `Aliased` where a container is met twice.

    Args:
        obj: any object.
        depth_max: how deep containers may be nested.
        elements_max: how many keys and elements there may be; each takes a byte of the skeleton at least.
            A container that is met twice counts twice: what is written once must not become much more than was written.
        may_be_aliased: False where it is known that no container is met twice, which takes memory to find out.

    Raises:
        RecursionError: it is nested deeper, or contains itself.
        TooLarge: it has more elements.
    """
    kinds = {type(obj)}
    level: list[object] = [obj] if isinstance(obj, CONTAINERS) else []
    seen: set[int] = set()
    depth = count = 0
    while level:
        if may_be_aliased:
            here = set(map(id, level))
            if len(here) < len(level) or not seen.isdisjoint(here):
                return kinds | {Aliased} | _kinds_of_aliased(level, _Limits(depth_max, elements_max), depth=depth, count=count)
            seen |= here
        depth += 1
        count += sum(map(len, level))  # type: ignore[arg-type]
        _Limits(depth_max, elements_max).check(depth, count)
        # Iterating a dict gives its keys; its values are added to them.
        below: list[object] = list(chain.from_iterable(level))  # type: ignore[arg-type]
        for node in level:
            if isinstance(node, dict):
                below += node.values()
        found = set(map(type, below))
        kinds |= found
        holding = {kind for kind in found - _LEAVES if issubclass(kind, CONTAINERS)}
        level = [child for child in below if type(child) in holding] if holding else []
    return kinds


def _kinds_of_aliased(level: list[object], limits: _Limits, *, depth: int, count: int) -> set[type]:
    """The rest of `kinds_within` from a level on in which containers are met again: each is looked at once per level, and counts
    as often as it is met, so that a few bytes that stand for millions of elements take neither time nor memory."""
    kinds: set[type] = set()
    nodes: dict[int, Any] = {id(node): node for node in level}
    times = {key: count for key, count in Counter(map(id, level)).items() if count > 1}  # all others once
    while nodes:
        depth += 1
        count += sum(len(node) * times.get(key, 1) for key, node in nodes.items())
        limits.check(depth, count)
        inner: dict[int, Any] = {}
        inner_times: dict[int, int] = {}
        for key, node in nodes.items():
            for child in chain(node, node.values() if isinstance(node, dict) else ()):
                kinds.add(type(child))
                if isinstance(child, CONTAINERS):
                    met = times.get(key, 1) + (inner_times.get(id(child), 1) if id(child) in inner else 0)
                    inner[id(child)] = child
                    if met > 1:
                        inner_times[id(child)] = met
        nodes, times = inner, inner_times
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
            error = _why_not(types.examine, node.leaf if isinstance(node, Lending) else node)
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
                word = "key" if isinstance(node, dict) else "element"
                return CannotPack(path=path, reason=f"the {word} {shown(key)}: {error}")
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
    elif isinstance(node, (set, frozenset)):
        for child in node:
            yield child, None, path
    elif isinstance(node, Unbuilt):
        yield None, node.plain, path
    elif isinstance(node, (list, tuple, deque)):
        for index, child in reversed(list(enumerate(node))):
            yield None, child, f"{path}[{index}]"
