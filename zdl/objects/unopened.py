"""Unopened: a dict that came in a message, of which only the plain values have been unpacked.

Who passes a message on needs one or two words of it, such as to whom, and not the thousands of refs beside them: a ref takes
6 us to unpack and 500 bytes to keep, and 6 ns to step over (``zdl bench pack``). So of a skeleton whose root is a map, the keys
and, where these are few, the plain values are unpacked, and all else is stepped over. When any other value is looked at, all
of it is unpacked at once, as a whole and with all the checks of a whole.

What is sent on untouched goes on as it came: its parts are what it packs to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgpack

from zdl.objects.batch import Batch

Parts = tuple[bytes | memoryview, ...]

# More keys than somebody writes by hand are those of a state: to look for plain values among them would double what stepping
# over them takes (0.15 us for a key and its value).
_WRITTEN_MAX: Final = 64
# The skeleton is fed piece by piece, so that no second copy of it is made. Measured for 1 MB with
# 20,000 refs: 0.13 ms in pieces of 16 KiB, 0.11 in pieces of 256.
_PIECE_BYTES: Final = 16 << 10
_EMPTY_TABLE: Final = 0x90
_MAP_HEADS: Final = frozenset((*range(0x80, 0x90), 0xde, 0xdf))
# Numbers, text, bytes, bools and nil: what is one object to whoever looks at it twice.
_PLAIN_HEADS: Final = frozenset((*range(0x80), *range(0xa0, 0xc1), 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, *range(0xca, 0xd4),
                                 0xd9, 0xda, 0xdb, *range(0xe0, 0x100)))


class _Closed:
    """Stands in the place of a value that is not unpacked."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<not unpacked>"


_CLOSED: Final = _Closed()


def opened(parts: Parts, unpack: Callable[[], object], *, skeleton_bytes_max: int) -> object:
    """The object that these parts are, unpacked no further than it is worth before somebody looks at it.

    Args:
        parts: the skeleton, then the frames beside it.
        unpack: unpacks all of it.
        skeleton_bytes_max: a longer skeleton is not looked at.

    Returns:
        An `Unopened` where there are refs in it and its root is a map whose keys are texts; else what `unpack` gives.

    Raises:
        CannotUnpack: `unpack` raised it.
    """
    known = _plain_values(parts, skeleton_bytes_max)
    return unpack() if known is None else Unopened(known, parts, unpack)


def _after_opening(method: Any) -> Any:
    """A method of dict that looks at all there is."""
    def used(self: Unopened, *args: Any, **named: Any) -> Any:
        self.open()
        return method(self, *args, **named)

    used.__name__, used.__doc__ = method.__name__, method.__doc__
    return used


class Unopened(Batch):
    """A `Batch` whose values are unpacked when one is looked at that is not plain; see `zdl.objects.unopened`.

    Threads: those of a dict. Two that look at once may both unpack it; what one of them has unpacked is what both get.
    """

    __slots__ = ("_parts", "_unpack", "_found")

    def __init__(self, known: dict[str, object], parts: Parts, unpack: Callable[[], object]) -> None:
        super().__init__(known)
        self._parts = parts
        self._unpack: Callable[[], object] | None = unpack
        self._found: dict[str, Any] = {}  # what was unpacked, until all of it is in its place

    @property
    def parts(self) -> Parts:
        """What it packs to; empty as soon as it was opened."""
        return self._parts

    def open(self) -> None:
        """Unpack what is not unpacked.

        Raises:
            CannotUnpack: it cannot be.
        """
        unpack = self._unpack
        if unpack is None:
            return
        found = self._found.setdefault("all", unpack())  # a single operation: whoever comes second gets the first one's
        assert isinstance(found, dict), "a map was unpacked as something else"
        for key, value in found.items():
            if dict.get(self, key) is _CLOSED:
                dict.__setitem__(self, key, value)
        self._unpack, self._parts = None, ()
        self._found.clear()

    # --- what needs the keys, or a plain value ---------------------------------------------------

    def __getitem__(self, key: Any) -> Any:
        found = dict.__getitem__(self, key)
        if found is _CLOSED:
            self.open()
            found = dict.__getitem__(self, key)
        return found

    def get(self, key: Any, default: Any = None) -> Any:
        """See `dict.get`."""
        return self[key] if key in self else default

    def __iter__(self) -> Any:
        # Not dict's own, or Python would take the values of a dict that it copies past the methods of this class.
        return dict.__iter__(self)

    # --- what needs all -------------------------------------------------------------------------

    __eq__ = _after_opening(dict.__eq__)
    __ne__ = _after_opening(dict.__ne__)
    __repr__ = _after_opening(dict.__repr__)
    __or__ = _after_opening(dict.__or__)
    __ror__ = _after_opening(dict.__ror__)
    __ior__ = _after_opening(dict.__ior__)
    __setitem__ = _after_opening(dict.__setitem__)
    __delitem__ = _after_opening(dict.__delitem__)
    clear = _after_opening(dict.clear)
    copy = _after_opening(dict.copy)
    items = _after_opening(dict.items)
    pop = _after_opening(dict.pop)
    popitem = _after_opening(dict.popitem)
    setdefault = _after_opening(dict.setdefault)
    update = _after_opening(dict.update)
    values = _after_opening(dict.values)

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle and copies: a `Batch`."""
        return Batch, (dict(self.items()),)


class _Pieces:
    """A skeleton as a file, so that msgpack takes it piece by piece."""

    __slots__ = ("_rest",)

    def __init__(self, skeleton: memoryview) -> None:
        self._rest = skeleton

    def read(self, count: int) -> bytes:
        """The next bytes."""
        piece, self._rest = bytes(self._rest[:count]), self._rest[count:]
        return piece


def _plain_values(parts: Sequence[bytes | memoryview], skeleton_bytes_max: int) -> dict[str, object] | None:
    """The keys of the root with its plain values, `_CLOSED` for each other; None where this is no root for it, or no good one."""
    if not parts:
        return None
    skeleton = memoryview(parts[0])
    if not 2 < skeleton.nbytes <= skeleton_bytes_max or skeleton[1] == _EMPTY_TABLE:
        return None
    unpacker = msgpack.Unpacker(_Pieces(skeleton), read_size=_PIECE_BYTES, max_buffer_size=skeleton_bytes_max)
    try:
        return _read(unpacker, skeleton)
    except (ValueError, TypeError, OverflowError, RecursionError, IndexError, msgpack.UnpackException):
        return None  # who unpacks it finds the words for it


def _read(unpacker: msgpack.Unpacker, skeleton: memoryview) -> dict[str, object] | None:
    if unpacker.read_array_header() != 2:
        return None
    unpacker.skip()  # the table
    if skeleton[unpacker.tell()] not in _MAP_HEADS:
        return None
    count = unpacker.read_map_header()
    known: dict[str, object] = {}
    for _ in range(count):
        key = unpacker.unpack()
        if type(key) is not str:
            return None
        if count <= _WRITTEN_MAX and skeleton[unpacker.tell()] in _PLAIN_HEADS:
            known[key] = unpacker.unpack()
        else:
            unpacker.skip()
            known[key] = _CLOSED
    return known if len(known) == count and unpacker.tell() == skeleton.nbytes else None
