"""Born: arrays that lie in memory which can be shared from the beginning, so that lending them on one machine copies nothing.

::

    empty() ──▶ written by its owner ──lent──▶ read-only, mapped by receivers ──no offer, and nobody has it mapped──▶ writable

Everybody sees the same pages, so the guard of such an array is always that it is **frozen**: numpy lets nobody write to it while
it is lent, and after that for as long as the kernel says that somebody still has it mapped. (With ``guard="copy"`` it is copied as
any array is; with ``guard="none"`` nobody looks, and receivers see what its owner writes.) Other views of the same memory
stay writable, as with ``freeze``.

Only what is lent as a whole is shared so: who lends a part of such an array has that part copied, because whoever maps the memory
can read all of it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any
from weakref import ReferenceType, ref

import numpy as np
from numpy.typing import DTypeLike, NDArray

from zdl.cell.cell import BareCell
from zdl.errors import Busy, OptionError, TooLarge
from zdl.objects.arrays import describe
from zdl.objects.manifest import ALIGN_BYTES
from zdl.objects.pack import Lent

# What is smaller is an ordinary array: to copy it when it is lent costs less than a segment of its own.
BORN_BYTES_MIN = 1 << 20


class Frozen:
    """An array is read-only for as long as this lives; and then until nobody has it mapped."""

    __slots__ = ("__weakref__",)


@dataclass(frozen=True, slots=True)
class Home:
    """The segment that an item lies in from its beginning; `frozen` is None where nobody looks."""

    segment: Any
    frozen: Frozen | None


@dataclass(slots=True)
class _Born:
    """One array's memory."""

    segment: Any
    whole: ReferenceType[NDArray[np.uint8]]


@dataclass(slots=True)
class _Leaf:
    """An array that was made read-only, and how often it is lent."""

    leaf: NDArray[Any]
    count: int = 0


class Born:
    """The arrays of one cell that were born in segments.

    Threads: all methods from any thread.

    Args:
        cell: whose.
    """

    def __init__(self, cell: BareCell) -> None:
        self._cell = cell
        self._lock = threading.Lock()  # guards all below
        self._born: dict[int, _Born] = {}
        self._frozen: dict[int, _Leaf] = {}
        self._segments: Any = None

    def empty(self, shape: int | Sequence[int], dtype: DTypeLike = "float32") -> NDArray[Any]:
        """An array of zeros in memory that can be shared: lent as a whole to receivers on this machine, it is not copied at all.

        While it is lent it is read-only, and after that until nobody has it mapped. It is an array as any other in everything
        else. Where there is no such memory, and below 1 MiB, it is an ordinary one.

        Args:
            shape: the lengths of its sides.
            dtype: of its elements, which must be such as may travel.

        Raises:
            OptionError, CannotPack: there are no such arrays, or they may not travel.
        """
        sides = (shape,) if isinstance(shape, int) else tuple(shape)
        element = np.dtype(dtype)
        if any(side < 0 for side in sides):
            raise OptionError(name="shape", value=str(list(sides)), allowed="sides from 0 on")
        describe(np.empty(0, element))
        size = prod(sides) * element.itemsize
        segments = self._cell.lane.segments
        if size < BORN_BYTES_MIN or not self._cell.options.offers.same_host:
            return np.zeros(sides, element)
        try:
            segment = segments.take(size + ALIGN_BYTES)  # what lies between it and the next item of an offer has room there too
            try:
                if segment.is_sealed:
                    np.frombuffer(segment.memory, np.uint8).fill(0)
                else:
                    segment.reserve()
                    segment.seal()
            except OSError:
                segments.drop(segment)
                raise
        except (Busy, TooLarge, OSError):
            return np.zeros(sides, element)
        whole = np.ndarray(size, np.uint8, segment.memory)
        with self._lock:
            is_first = not self._born
            self._segments = segments
            former = self._born.pop(id(whole), None)  # of an array that is gone: numbers are used again
            self._born[id(whole)] = _Born(segment, ref(whole))
        if former is not None:
            segments.drop(former.segment)
        if is_first:
            segments.watch(self._look)
        return whole.view(element).reshape(sides)

    def homes(self, lent: Sequence[Lent], *, is_frozen: bool) -> dict[int, Home]:
        """Which of these leaves lie in segments, by their place in the list; they are read-only as long as these live."""
        if not self._born:
            return {}
        found: dict[int, Home] = {}
        for item, each in enumerate(lent):
            leaf = each.leaf
            born = self._born_of(leaf) if isinstance(leaf, np.ndarray) else None
            if born is None or not isinstance(leaf, np.ndarray):
                continue
            if not is_frozen:
                found[item] = Home(born.segment, None)
            elif frozen := self._freeze(leaf, born.segment):
                found[item] = Home(born.segment, frozen)
        return found

    def close(self) -> None:
        """Nothing is lent any more: arrays that nobody has mapped are writable, memory lasts as long as its arrays."""
        with self._lock:
            leaves, self._frozen = list(self._frozen.values()), {}
            born, self._born = list(self._born.values()), {}
        for each in leaves:
            segment = next((one.segment for one in born if one.whole() is each.leaf.base), None)
            if segment is None or segment.is_free():
                each.leaf.flags.writeable = True
        for one in born:
            self._segments.drop(one.segment)

    # --- inside ---------------------------------------------------------------------------------

    def _born_of(self, leaf: NDArray[Any]) -> _Born | None:
        """Where it lies, if it is all that lies there."""
        with self._lock:
            born = self._born.get(id(leaf.base))
        whole = None if born is None else born.whole()
        if whole is None or leaf.nbytes != whole.nbytes or not leaf.flags.c_contiguous:
            return None
        return born if leaf.base is whole else None

    def _freeze(self, leaf: NDArray[Any], segment: Any) -> Frozen | None:
        """Make it read-only. None for one that its owner has made so, who may undo it."""
        with self._lock:
            known = self._frozen.get(id(leaf))
            if known is None:
                if not leaf.flags.writeable:
                    return None
                known = self._frozen[id(leaf)] = _Leaf(leaf)
                leaf.flags.writeable = False
            known.count += 1
        frozen = Frozen()
        token = ref(frozen)
        self._segments.watch(lambda: token() is None and segment.is_free() and self._thawed(leaf))
        return frozen

    def _thawed(self, leaf: NDArray[Any]) -> bool:
        """It is lent once less, and nobody has it."""
        with self._lock:
            known = self._frozen.get(id(leaf))
            if known is not None:
                known.count -= 1
                if not known.count:
                    del self._frozen[id(leaf)]
                    leaf.flags.writeable = True
        return True

    def _look(self) -> bool:
        """On the thread of segments: memory whose arrays are gone is given back. Returns whether there is none left."""
        with self._lock:
            gone = [key for key, born in self._born.items() if born.whole() is None]
            dropped = [self._born.pop(key) for key in gone]
            is_last = not self._born
        for each in dropped:
            self._segments.drop(each.segment)
        return is_last
