"""Which leaves of an object travel inline, beside, or as a Ref, and putting objects in the place of refs.

Three ways for the bytes of a leaf, chosen by size (`zdl.options.PackOptions`, with the measurements):

* **inline**, in the skeleton: one copy, no frame of its own;
* **beside**, as a frame of the message: no copy here, one at the receiver;
* **by reference**: they stay here, lent; what travels is a `Ref`, and whoever needs the bytes pulls them.

Leaves are found in dicts, lists, tuples, deques and plain forms, as values and elements. Keys, and elements of sets,
are left as they are: they are part of the structure, never too large to travel, and cannot be arrays.

No container is ever changed: where an element is replaced, the containers above it are new, and those
beside it are the same objects as before.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import is_
from typing import Final

import numpy as np

from zdl.errors import ObjectError
from zdl.objects.paths import step
from zdl.objects.values import BRANCHES, Unbuilt, children, is_awaited, like
from zdl.options import PackOptions
from zdl.refs import Ref

# The frame of the header comes before the parts of a body, and counts too.
_HEADER_FRAMES: Final = 1
# Stands in the memory of a rebuild for a container that is being rebuilt.
_OPEN: Final = object()


class Place(enum.Enum):
    """Where the bytes of a leaf travel."""

    INLINE = enum.auto()
    BESIDE = enum.auto()
    BY_REF = enum.auto()


class Placer:
    """Decides, leaf by leaf in their order, where the bytes of one message travel.

    Attributes:
        lends: whether any leaf goes by reference.
    """

    __slots__ = ("_options", "lends", "_inline_bytes_max", "_inline_bytes", "_beside_bytes", "_frames_left")

    def __init__(self, options: PackOptions, *, lends: bool) -> None:
        """A placer for one message.

        Args:
            options: the thresholds.
            lends: whether leaves can be lent at all; if not, whatever is not inline goes beside, of any size.
        """
        self._options = options
        self.lends = lends
        # Thousands of tiny arrays must not make a skeleton that is too large, when they could be lent.
        self._inline_bytes_max = min(options.beside_sum_bytes_max, options.skeleton_bytes_max // 2)
        self._inline_bytes = 0
        self._beside_bytes = 0
        self._frames_left = options.frames_max - _HEADER_FRAMES - 1

    def place(self, nbytes: int) -> Place:
        """The place of the next leaf, which has so many bytes."""
        options = self._options
        if nbytes <= options.inline_bytes_max and self._inline_bytes + nbytes <= self._inline_bytes_max:
            self._inline_bytes += nbytes
            return Place.INLINE
        if self._frames_left > 0 and (not self.lends or (
                nbytes <= options.beside_bytes_max and self._beside_bytes + nbytes <= options.beside_sum_bytes_max)):
            self._frames_left -= 1
            self._beside_bytes += nbytes
            return Place.BESIDE
        return Place.BY_REF if self.lends else Place.INLINE


# --- large bytes --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Blob:
    """Bytes that have to be placed. msgpack would write them inline without asking, hence the wrapper.

    Attributes:
        value: the leaf: bytes, bytearray, memoryview or a subclass of bytes.
    """

    value: bytes | bytearray | memoryview

    def flatten(self) -> memoryview:
        """Its bytes, flat; uncopied when it is contiguous."""
        view = memoryview(self.value)
        if not view.c_contiguous:
            return memoryview(view.tobytes())
        if view.format == "B" and view.ndim == 1:
            return view
        # memoryview.cast knows the formats of `struct` in native order only; numpy takes any.
        return np.frombuffer(view, np.uint8).data


def wrap_blobs(obj: object, *, inline_bytes_max: int) -> object:
    """The object with a `Blob` for each bytes-like leaf that is large or not contiguous."""

    def wrapped(leaf: object) -> object:
        """The leaf, in a `Blob` if it must be placed."""
        if isinstance(leaf, memoryview):
            return Blob(leaf) if leaf.nbytes > inline_bytes_max or not leaf.c_contiguous else leaf
        return Blob(leaf) if isinstance(leaf, (bytes, bytearray)) and len(leaf) > inline_bytes_max else leaf

    return _rebuild(obj, wrapped, {})


# --- refs ---------------------------------------------------------------------------------------


def contains_refs(obj: object) -> bool:
    """Whether a `Ref` is anywhere inside the object."""
    return next(_refs_in(obj), None) is not None


def find_refs(obj: object) -> list[Ref]:
    """The refs inside the object, each once, in the order in which they stand there."""
    return list(dict.fromkeys(_refs_in(obj)))


def replace_refs(obj: object, values: Mapping[Ref, object]) -> object:
    """The object with a value in the place of each ref.

    Args:
        obj: any object; it is not changed.
        values: the value of every ref inside it.

    Returns:
        New dicts, lists and tuples where they lead to a ref, and the same objects where they do not. A
        container that stands in several places is one container afterwards too. Of a subclass of these
        comes a plain dict, list or tuple. Values of registered types that waited for these refs are built.

    Raises:
        CannotUnpack: a value of a registered type cannot be built; it names the path.
        ObjectError: a ref has no value, or the object contains itself or is nested too deep.
    """
    is_last = not any(map(is_awaited, values.values()))

    def valued(leaf: object) -> object:
        """The value of a ref; any other leaf itself."""
        if not isinstance(leaf, Ref):
            return leaf
        try:
            return values[leaf]
        except KeyError:
            raise ObjectError(path="", reason=f"there is no value for {leaf!r}") from None

    def closed(unbuilt: Unbuilt) -> object:
        """The value, when nothing is to be fetched for it any more."""
        return unbuilt.type.build(unbuilt.plain) if is_last else unbuilt

    try:
        return _rebuild(obj, valued, {}, closed)
    except RecursionError as error:
        raise ObjectError(path="", reason="containers are nested too deep") from error
    except ObjectError as error:
        error.path = error.path.removeprefix(".")
        raise


def _refs_in(obj: object) -> Iterator[Ref]:
    """The refs inside, in order; containers that stand in several places are looked at once."""
    seen: set[int] = set()
    todo: list[Iterator[object]] = [iter((obj,))]
    while todo:
        for child in todo[-1]:
            if isinstance(child, Ref):
                yield child
            elif isinstance(child, BRANCHES) and id(child) not in seen:
                seen.add(id(child))
                todo.append(iter(child.values() if isinstance(child, dict) else child))
                break
        else:
            todo.pop()


def _rebuild(node: object, change: Callable[[object], object], done: dict[int, object],
             close: Callable[[Unbuilt], object] = lambda unbuilt: unbuilt) -> object:
    """The object with each leaf as `change` gives it.

    Args:
        node: the object.
        change: what stands in the place of a leaf; the leaf itself to leave it.
        done: what became of the containers met so far, by their id; they live as long as the object does.
        close: what stands in the place of a value that is not built, when its plain form is changed.

    Raises:
        ObjectError: a container contains itself; or what `change` and `close` raise, with the path before it.
    """
    if not isinstance(node, BRANCHES):
        return change(node)
    fresh = done.get(id(node))
    if fresh is _OPEN:
        raise ObjectError(path="", reason=f"a {type(node).__name__} contains itself")
    if fresh is not None:
        return fresh
    done[id(node)] = _OPEN
    olds = children(node)
    news: list[object] = []
    try:
        for old in olds:
            news.append(_rebuild(old, change, done, close))
    except ObjectError as error:
        if not isinstance(node, Unbuilt):
            error.path = step(list(node)[len(news)] if isinstance(node, dict) else len(news), first=False) + error.path
        raise
    if all(map(is_, olds, news)):
        fresh = node
    elif isinstance(node, dict):
        fresh = dict(zip(node, news))
    elif isinstance(node, Unbuilt):
        fresh = close(Unbuilt(node.type, news[0]))
    else:
        fresh = like(node, news)
    done[id(node)] = fresh
    return fresh
