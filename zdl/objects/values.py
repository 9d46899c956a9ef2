"""Values of registered types: how they become plain, and how they are built again.

A class travels under a name that both sides have given it in their own `zdl.objects.typetable.TypeTable`; the wire
holds that name and a **plain form**: anything that may travel, made by one function and taken by another::

    value ──to_plain──▶ Unbuilt(name, plain) ──▶ the wire ──▶ Unbuilt(name, plain) ──from_plain──▶ value
                              │ refs within: it waits ▲
                              └───── resolved ────────┘

A value is built when nothing in its plain form is still to be fetched. Until then an `Unbuilt` stands in its place: so
no constructor ever meets a ref where it expects an array, and a forwarder can send it on as it is.

The functions are users' code: whatever they raise becomes a `CannotPack` or `CannotUnpack` with the path of the value.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, Final

import numpy as np

from zdl.errors import CannotPack, CannotUnpack, ObjectError
from zdl.objects.paths import step
from zdl.refs import Ref

_REASON_CHARS_MAX: Final = 200
IsTensor = Callable[[type], bool]
# Stands in the memory of a walk for what is being walked.
_OPEN: Final = object()
# What resolving leaves as it is: a file or folder is fetched to a path, an object that is lent piece by piece to a consumer.
_STAY_REFS: Final = frozenset(("file", "folder", "object"))
# Keys whose hashes nobody can choose (str, bytes), or can choose alike a few dozen times at most (a float has 64
# bits, and Python's hash of numbers is the remainder by 2**61 - 1).
SAFE_KEYS: Final = frozenset((str, bytes, float, bool, NoneType))
# Other keys can be made to share one hash by the million, and a dict of n such keys takes n**2 steps. Honest
# ones share it a few times: hash(-1) == hash(-2), so coordinates in six dimensions do so 64 times.
_SAME_HASH_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class ValueType:
    """A class that travels under a name.

    Attributes:
        name: what the wire calls it.
        cls: the class; values of exactly this one travel so.
        to_plain: the plain form of a value.
        from_plain: the value of a plain form.
        is_lent: the arrays and bytes of its plain form go by reference whatever their size, where a cell can lend.
    """

    name: str
    cls: type
    to_plain: Callable[[Any], object]
    from_plain: Callable[[Any], object]
    is_lent: bool = False

    def lower(self, value: object) -> object:
        """The plain form.

        Raises:
            CannotPack: the function raised; the path is left empty.
        """
        try:
            return self.to_plain(value)
        except Exception as error:  # users' code
            raise CannotPack(path="", reason=f"the plain form of {self.name!r} cannot be had: {_told(error)}") from error

    def build(self, plain: object) -> object:
        """The value.

        Raises:
            CannotUnpack: the function raised; the path is left empty.
        """
        try:
            return self.from_plain(plain)
        except Exception as error:  # users' code
            raise CannotUnpack(path="", reason=f"no {self.name!r} can be built of it: {_told(error)}") from error


@dataclass(frozen=True, slots=True, eq=False)
class Unbuilt:
    """A value of a registered type whose plain form holds refs, so that it is not built yet.

    ``cell.downloads.resolve`` fetches them and builds it. It packs to itself: who only sends it on leaves it alone.

    Attributes:
        type: what it will be.
        plain: its plain form: what the type's `to_plain` gave at the origin, with refs in place of what is lent.
    """

    type: ValueType = field(repr=False)
    plain: object

    @property
    def name(self) -> str:
        """Of its type, in the table."""
        return self.type.name

    def __repr__(self) -> str:
        return f"<Unbuilt {self.name}>"

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[object]:
        """What is inside: the plain form."""
        return iter((self.plain,))


@dataclass(frozen=True, slots=True, eq=False)
class Lending:
    """A leaf of a type that is lent: it goes by reference whatever its size."""

    leaf: object


# What holds other objects, and can be looked into.
CONTAINERS: Final = (dict, list, tuple, set, frozenset, deque, Unbuilt)
# Where a leaf can be replaced. Keys, and elements of sets, are part of a structure: they are left as they are.
BRANCHES: Final = (dict, list, tuple, deque, Unbuilt)
# What is not just a leaf to who builds.
_LOOKED_AT: Final = (*CONTAINERS, Ref)


def children(branch: Any) -> list[object]:
    """The elements of a branch, in order; of a dict its values."""
    return list(branch.values() if isinstance(branch, dict) else branch)


def is_awaited(leaf: object) -> bool:
    """Whether a value is not built before this leaf is fetched."""
    return isinstance(leaf, Unbuilt) or isinstance(leaf, Ref) and leaf.kind not in _STAY_REFS


def check_each_once(found: Mapping[Any, Any] | set[Any] | frozenset[Any], keys: list[Any]) -> None:
    """After a dict or a set was made of these.

    Raises:
        CannotUnpack: one of them stands there twice.
    """
    if len(found) != len(keys):
        raise CannotUnpack(path="", reason="an element stands twice in a set, or a key in a map")


def check_hashes(keys: list[Any]) -> None:
    """Before a dict or a set is made of these.

    Raises:
        CannotUnpack: too many of them share a hash.
    """
    chosen = [key for key in keys if type(key) not in SAFE_KEYS]
    if len(chosen) > _SAME_HASH_MAX and max(Counter(map(hash, chosen)).values()) > _SAME_HASH_MAX:
        raise CannotUnpack(path="", reason=f"more than {_SAME_HASH_MAX} keys of a map have one hash")


# --- lowering -----------------------------------------------------------------------------------


def lowered(obj: object, types: Mapping[type, ValueType], is_tensor: IsTensor = lambda cls: False) -> object:
    """The object with an `Unbuilt` in place of each value of a registered type, also in keys and in sets.

    A value that stands in several places is lowered once. Arrays, tensors and bytes that are to be lent are in a `Lending`.
    No container is changed.

    Args:
        obj: what is to be packed.
        types: registered types by their class.
        is_tensor: whether values of a type are tensors, which can be lent as arrays can.

    Raises:
        CannotPack: a value has no plain form, or contains itself; it names the path.
        RecursionError: it is nested too deep for Python.
    """
    lowering = _Lowering(types)
    try:
        found = lowering.of(obj)
        return _with_leaves_lent(found, lowering.lent, is_tensor) if lowering.lent else found
    except ObjectError as error:
        error.path = error.path.removeprefix(".")
        raise


class _Lowering:
    """One walk through an object that is to be packed.

    Attributes:
        lent: values of types that are lent, so far.
    """

    __slots__ = ("_types", "_done", "_kept", "lent")

    def __init__(self, types: Mapping[type, ValueType]) -> None:
        self._types = types
        self.lent: list[Unbuilt] = []
        self._done: dict[int, object] = {}
        self._kept: list[object] = []  # plain forms, so that their ids stay theirs

    def of(self, node: Any) -> object:
        """The same, lowered."""
        kind = self._types.get(type(node))
        if kind is None and not isinstance(node, CONTAINERS):
            return node
        fresh = self._done.get(id(node))
        if fresh is _OPEN:
            raise CannotPack(path="", reason="it contains itself")
        if fresh is not None:
            return fresh
        self._done[id(node)] = _OPEN
        if kind is not None:
            plain = kind.lower(node)
            self._kept.append(plain)
            fresh = Unbuilt(kind, self.of(plain))
            if kind.is_lent:
                self.lent.append(fresh)
        else:
            fresh = self._container(node)
        self._done[id(node)] = fresh
        return fresh

    def _container(self, node: Any) -> object:
        if isinstance(node, dict):
            keys = self._keys(node)
            values = self._each(node.items())
            return node if keys is None and values is None else dict(zip(keys or node, values or node.values()))
        if isinstance(node, (set, frozenset)):
            keys = self._keys(node)
            return node if keys is None else set(keys) if isinstance(node, set) else frozenset(keys)
        if isinstance(node, Unbuilt):
            plain = self.of(node.plain)
            return node if plain is node.plain else Unbuilt(node.type, plain)
        values = self._each(enumerate(node))
        if values is None:
            return node
        return like(node, values)

    def _each(self, items: Any) -> list[object] | None:
        """The elements lowered, or None if all of them are as they were; `items`: keys or numbers, and elements."""
        found: list[object] = []
        is_same = True
        key: object = None
        try:
            for key, child in items:
                fresh = self.of(child)
                is_same = is_same and fresh is child
                found.append(fresh)
        except ObjectError as error:
            error.path = step(key, first=False) + error.path
            raise
        return None if is_same else found

    def _keys(self, keys: Any) -> list[object] | None:
        """The keys or elements of a set lowered, or None if all of them are as they were."""
        if set(map(type, keys)) <= SAFE_KEYS:
            return None
        try:
            found = [self.of(key) for key in keys]
        except ObjectError as error:
            raise CannotPack(path="", reason=f"a key or an element of a set: {error.reason}") from error
        return None if all(fresh is key for fresh, key in zip(found, keys)) else found


def _with_leaves_lent(obj: object, lent: list[Unbuilt], is_tensor: IsTensor) -> object:
    """The object with a `Lending` for each array, tensor and bytes in these values.

    A container, an array or a tensor that stands in one of them, and elsewhere too, is lent in all its places, so that it is one
    object in all of them.
    """
    within: set[int] = set()
    todo: list[object] = [*lent]
    while todo:
        node = todo.pop()
        if isinstance(node, BRANCHES):
            if id(node) not in within:
                within.add(id(node))
                todo += children(node)
        elif isinstance(node, np.ndarray) or is_tensor(type(node)):
            within.add(id(node))
    return _lending(obj, within, {}, is_lent=False)


def _lending(node: Any, within: set[int], done: dict[int, object], *, is_lent: bool) -> object:
    """See `_with_leaves_lent`.

    Args:
        node: an element.
        within: the ids of what is lent, but for bytes: equal ones may be one object by chance.
        done: what became of the branches met so far, by their id.
        is_lent: whether it stands in something that is lent.
    """
    if not isinstance(node, BRANCHES):
        return Lending(node) if id(node) in within or is_lent and isinstance(node, (bytes, bytearray, memoryview)) else node
    fresh = done.get(id(node))
    if fresh is not None:
        return fresh
    is_lent = id(node) in within
    olds = children(node)
    news = [_lending(old, within, done, is_lent=is_lent) for old in olds]
    if all(new is old for new, old in zip(news, olds)):
        fresh = node
    elif isinstance(node, dict):
        fresh = dict(zip(node, news))
    else:
        fresh = Unbuilt(node.type, news[0]) if isinstance(node, Unbuilt) else like(node, news)
    done[id(node)] = fresh
    return fresh


def like(branch: Any, elements: list[object]) -> object:
    """A list, tuple or deque of these, as the other one is."""
    if isinstance(branch, list):
        return elements
    return tuple(elements) if isinstance(branch, tuple) else deque(elements, branch.maxlen)


# --- building -----------------------------------------------------------------------------------


def built(obj: object, *, is_aliased: bool = False) -> object:
    """What was just unpacked, with values in place of each `Unbuilt` that holds no refs. It is changed in place.

    Args:
        obj: the object.
        is_aliased: whether a container stands in several places in it.

    Raises:
        CannotUnpack: a value cannot be built; it names the path.
    """
    try:
        return (_AliasedBuilding() if is_aliased else _Building()).of(obj)
    except ObjectError as error:
        error.path = error.path.removeprefix(".")
        raise


class _Building:
    """One walk through an object that was unpacked, and in which nothing but leaves stands twice."""

    __slots__ = ("_awaited",)

    def __init__(self) -> None:
        self._awaited = 0  # leaves so far that must be fetched before what holds them is built

    def of(self, node: Any) -> object:
        """The same, built. What a user's function has made is not looked into."""
        if isinstance(node, Unbuilt):
            before = self._awaited
            plain = self.of(node.plain)
            return node.type.build(plain) if self._awaited == before else Unbuilt(node.type, plain)
        if isinstance(node, dict):
            self._elements(node, node.items())
            if any(isinstance(key, CONTAINERS) for key in node):
                self._keys_of(node)
            return node
        if isinstance(node, (set, frozenset)):
            return self._set(node)
        if isinstance(node, BRANCHES):
            elements = node if isinstance(node, list) else list(node)
            self._elements(elements, enumerate(elements))
            return like(node, elements)
        self._awaited += is_awaited(node)
        return node

    def _elements(self, into: Any, items: Any) -> None:
        """Elements built, each in its place; `items`: keys or numbers, and elements."""
        key: object = None
        try:
            for key, child in items:
                if isinstance(child, _LOOKED_AT):
                    into[key] = self.of(child)
        except ObjectError as error:
            error.path = step(key, first=False) + error.path
            raise

    def _set(self, node: set[Any] | frozenset[Any]) -> object:
        if not any(isinstance(each, CONTAINERS) for each in node):
            return node
        elements = [self._key(each) for each in node]
        check_hashes(elements)
        fresh = set(elements) if isinstance(node, set) else frozenset(elements)
        check_each_once(fresh, elements)
        return fresh

    def _keys_of(self, node: dict[Any, Any]) -> None:
        """The keys of a dict, in place and in order."""
        keys = [self._key(key) for key in node]
        check_hashes(keys)
        values = list(node.values())
        node.clear()
        node.update(zip(keys, values))
        check_each_once(node, keys)

    def _key(self, key: object) -> object:
        before = self._awaited
        fresh = self.of(key)
        if isinstance(fresh, Unbuilt):
            raise CannotUnpack(path="", reason=f"a key, or an element of a set, is a {fresh.name!r} with refs in it")
        self._awaited = before  # a ref that is a key stays one
        return fresh


class _AliasedBuilding(_Building):
    """The same where containers stand in several places: each is built once."""

    __slots__ = ("_done",)

    def __init__(self) -> None:
        super().__init__()
        # By the id of what was there before, which is kept so that its id stays its own: what came of it, and what it awaits.
        self._done: dict[int, tuple[object, object, int]] = {}

    def of(self, node: Any) -> object:
        """The same, built."""
        if not isinstance(node, CONTAINERS):
            return super().of(node)
        known = self._done.get(id(node))
        if known is not None:
            self._awaited += known[2]
            return known[1]
        before = self._awaited
        fresh = super().of(node)
        self._done[id(node)] = node, fresh, self._awaited - before
        return fresh


def _told(error: Exception) -> str:
    """What an exception says."""
    return f"{type(error).__name__}: {error}"[:_REASON_CHARS_MAX]
