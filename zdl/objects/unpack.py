"""Unpacking: parts become an equal object, or `CannotUnpack`; nothing is fetched.

The bytes may come from anybody. What bounds the work: the skeleton's length is limited, every length that
msgpack reads is limited by it, payloads are flat, sizes are compared with the bytes that are there before
anything is allocated, and keys that all have one hash are refused. What bounds the result: only the types
of the format come out, nested no deeper than allowed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import Any, Final

import msgpack
import numpy as np

from zdl.errors import CannotUnpack, TooLarge
from zdl.objects import arrays
from zdl.objects.aliases import SHAREABLE, Aliased
from zdl.objects.atoms import ATOMS, atom_of
from zdl.objects.batch import Batch
from zdl.objects.dtypes import DTYPES
from zdl.objects.typetable import LEAF_KINDS, TYPE_NAME_BYTES_MAX, Code, TypeTable, kinds_within
from zdl.objects.values import SAFE_KEYS, Unbuilt, ValueType, built, check_each_once, check_hashes
from zdl.options import PackOptions
from zdl.refs import DIMENSIONS_MAX, ITEM_BYTES_MAX, TORCH, Holder, Ref, Source


class _Mark:
    """Takes the place of the mark of a tuple, set, deque or value until its array is complete."""

    __slots__ = ("build",)

    def __init__(self, build: Callable[[list[Any]], object]) -> None:
        self.build = build


# The types of what comes out, besides numpy's scalars.
_RESULTS: Final = frozenset((
    *SAFE_KEYS, int, dict, list, tuple, set, frozenset, deque, np.ndarray, Ref, Batch, Unbuilt, PurePosixPath,
    *(atom.cls for atom in ATOMS)))
# What makes a batch of the dict that it stands in.
_HOLDING: Final = frozenset((Ref, Batch))
_FILE_NAME_BYTES_MAX: Final = 255
# The fields of every REF; the facts of a file, or strides, may follow.
_REF_TYPES: Final = (int, int, int, int, int, str, list, str)
_REF: Final = int(Code.REF)
_TENSOR: Final = LEAF_KINDS.index("tensor")
_ARRAYS: Final = (LEAF_KINDS.index("array"), _TENSOR)
_ATOM_FIELDS_MAX: Final = 8
# How the skeleton of a plain value begins: an array of two, the first of which is empty; and how a plain value begins.
_PLAIN_HEAD: Final = b"\x92\x90"
_PLAIN_FIRST: Final = frozenset((*range(0x80), *range(0xa0, 0xc1), 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, *range(0xca, 0xd4),
                                 0xd9, 0xda, 0xdb, *range(0xe0, 0x100)))
_REASON_CHARS_MAX: Final = 200


def unpack(parts: Sequence[bytes | memoryview], *, options: PackOptions, types: TypeTable = TypeTable(),
           is_adopting: bool = False, holder: Holder | None = None) -> object:
    """The object that was packed.

    Args:
        parts: the skeleton, then the frames beside it.
        options: the limits.
        types: the registered types that may come, and what makes tensors of what travels as such.
        is_adopting: arrays beside are views of the frames, which nobody else uses, instead of copies.
        holder: the cell that its refs are bound to.

    Returns:
        The object. Its arrays are fresh and writable; bytes are bytes; what was lent is a `Ref`, a dict with refs in it, at
        any depth, is a `Batch`, and a value of a registered type that has refs in it is an `Unbuilt`. Leaves that were one
        object are one object again.

    Raises:
        CannotUnpack: the parts are not a packed object, or pass a limit.
    """
    if len(parts) == 1 and type(parts[0]) is bytes:
        plain = parts[0]
        if 2 < len(plain) <= options.skeleton_bytes_max and plain[:2] == _PLAIN_HEAD and plain[2] in _PLAIN_FIRST:
            try:
                return msgpack.unpackb(plain[2:])
            except (ValueError, RecursionError, msgpack.UnpackException) as error:
                raise _no_object(error) from error
    if not parts or len(parts) > options.frames_max:
        raise CannotUnpack(path="", reason=f"{len(parts)} parts are not within 1…{options.frames_max}")
    size = len(parts[0]) if type(parts[0]) is bytes else memoryview(parts[0]).nbytes
    if size > options.skeleton_bytes_max:
        raise CannotUnpack(path="", reason=f"a skeleton of {size} bytes, "
                                           f"skeleton_bytes_max={options.skeleton_bytes_max}")
    try:
        return _Reader(parts, types, options, is_adopting, holder).read()
    except (ValueError, TypeError, OverflowError, BufferError, RecursionError, TooLarge,
            msgpack.UnpackException) as error:
        raise _no_object(error) from error


def _no_object(error: Exception) -> CannotUnpack:
    """What msgpack, or a value of a wrong kind in its place, says of bytes that are none of ours."""
    text = str(error) or type(error).__name__
    return CannotUnpack(path="", reason=f"not a packed object: {text[:_REASON_CHARS_MAX]}")


class _Reader:
    """What is known while one object is unpacked."""

    __slots__ = ("_parts", "_types", "_options", "_is_adopting", "_sources", "_inlined", "_beside", "_frames", "_refs", "_marks",
                 "_holder", "_lists", "_shared", "_shared_count")

    def __init__(self, parts: Sequence[bytes | memoryview], types: TypeTable, options: PackOptions, is_adopting: bool,
                 holder: Holder | None) -> None:
        self._parts = parts
        self._types = types
        self._options = options
        self._is_adopting = is_adopting
        self._holder = holder
        self._marks: dict[bytes, _Mark] = {}  # of values, by the name of their type
        self._sources: list[Source] = []
        # Containers that stand in several places, by their number, and how many have begun.
        self._shared: dict[int, object] = {}
        self._shared_count = 0
        self._inlined: list[object] = []
        # Leaves by their payload: equal payloads are one object.
        self._beside: dict[bytes, object] = {}
        self._refs: dict[bytes, Ref] = {}
        self._frames: set[int] = set()
        # Lists and tuples with refs in them, by their id (kept, so that the id stays theirs).
        self._lists: dict[int, object] = {}

    def read(self) -> object:
        """The object of the skeleton."""
        options = self._options
        skeleton = memoryview(self._parts[0])
        may_hold = bytes(skeleton[:2]) != _PLAIN_HEAD  # the table of sources is not empty
        unpacker = msgpack.Unpacker(max_buffer_size=skeleton.nbytes, strict_map_key=False, ext_hook=self._extension,
                                    list_hook=self._sequence if may_hold else _sequence,
                                    object_pairs_hook=self._map if may_hold else _map)
        # The first time over the bytes builds nothing. msgpack makes room for an array by what its head says
        # (measured: 80 KiB at most, but at each of 1,023 levels); now the elements are known to be there.
        unpacker.feed(skeleton)
        unpacker.skip()
        if unpacker.tell() != skeleton.nbytes:
            raise CannotUnpack(path="", reason=f"{skeleton.nbytes - unpacker.tell()} bytes follow the skeleton")
        unpacker.feed(skeleton)
        if unpacker.read_array_header() != 2:
            raise CannotUnpack(path="", reason="the skeleton is not an array of two")
        self._table(unpacker.unpack())
        root = unpacker.unpack()
        if len(self._frames) != len(self._parts) - 1:
            raise CannotUnpack(path="", reason=f"{len(self._frames)} frames are named, {len(self._parts) - 1} came")
        kinds = kinds_within(root, depth_max=options.depth_max, elements_max=options.skeleton_bytes_max,
                             may_be_aliased=self._shared_count > 0)
        is_aliased = Aliased in kinds
        for kind in kinds - {Aliased}:
            if kind not in _RESULTS and not issubclass(kind, np.generic) and not self._types.tensors.is_tensor(kind):
                raise CannotUnpack(path="", reason="a mark, or an extension of msgpack, stands where no object can")
        return built(root, is_aliased=is_aliased) if Unbuilt in kinds else root

    def _table(self, rows: object) -> None:
        """Takes in the sources of the refs."""
        if type(rows) is not list:
            raise CannotUnpack(path="", reason="the table of sources is not an array")
        for row in rows:
            source = Source(*_checked(row, (str, bytes, bytes, int)))
            source.check()
            self._sources.append(source)

    def _extension(self, code: int, data: bytes) -> object:
        """The value of an extension type."""
        if code == _REF:  # of these there are thousands in one message
            return self._refs.get(data) or self._ref(data)
        match code:
            case Code.TUPLE if not data:
                return _TUPLE
            case Code.INLINE | Code.TENSOR:
                dtype, shape, raw = _fields(data, (str, list, bytes))
                kind = "array" if code == Code.INLINE else "tensor"
                self._inlined.append(self._restored(kind, dtype, shape, raw))
                return self._inlined[-1]
            case Code.SAME:
                (index,) = _fields(data, (int,))
                if not 0 <= index < len(self._inlined):
                    raise CannotUnpack(path="", reason=f"there is no array {index} before it")
                return self._inlined[index]
            case Code.BESIDE:
                return self._beside[data] if data in self._beside else self._frame(data)
            case Code.SCALAR:
                dtype, raw = _fields(data, (str, bytes))
                return arrays.restore(dtype, (), raw, copy=True)[()]
            case Code.ATOM:
                return atom_of(msgpack.unpackb(data, max_array_len=_ATOM_FIELDS_MAX, max_map_len=0))
            case Code.VALUE:
                return self._marks.get(data) or self._value_mark(data)
            case Code.SHARED:
                return self._shared_mark(data)
            case Code.ALIAS:
                (number,) = _fields(data, (int,))
                if number not in self._shared:
                    raise CannotUnpack(path="", reason=f"there is no shared container {number} before it")
                return self._shared[number]
            case Code.SET if not data:
                return _SET
            case Code.FROZENSET if not data:
                return _FROZENSET
            case Code.DEQUE:
                return _deque_mark(data)
            case Code.BIGINT if data:
                return int.from_bytes(data, "little", signed=True)
            case _:
                raise CannotUnpack(path="", reason=f"extension {code} with {len(data)} bytes is unknown")

    def _value_mark(self, data: bytes) -> _Mark:
        """The mark of a value, by the name of its type."""
        name = data.decode()
        kind = self._types.names.get(name)
        if kind is None:
            known = ", ".join(self._types.names) or "nothing"
            raise CannotUnpack(path="", reason=f"a value of type {name[:TYPE_NAME_BYTES_MAX]!r} came, and no type of that name is "
                                               f"registered here ({known[:_REASON_CHARS_MAX]}): give the cell "
                                               f"types=TypeTable().with_type(…, name={name[:TYPE_NAME_BYTES_MAX]!r})")
        made = self._marks[data] = _Mark(partial(_value, kind))
        return made

    def _shared_mark(self, data: bytes) -> _Mark:
        """The mark of a container that stands in several places; they are numbered as they begin."""
        (number,) = _fields(data, (int,))
        if number != self._shared_count:
            raise CannotUnpack(path="", reason=f"shared container {number} comes where {self._shared_count} is due")
        self._shared_count += 1

        def build(items: list[Any]) -> object:
            if len(items) != 2 or not isinstance(items[1], SHAREABLE):
                raise CannotUnpack(path="", reason="what is shared is not one container")
            self._shared[number] = items[1]
            return items[1]

        return _Mark(build)

    def _frame(self, data: bytes) -> object:
        """A leaf whose bytes are a frame."""
        index, kind, dtype, shape = _fields(data, (int, int, str, list))
        if not 1 <= index < len(self._parts) or index in self._frames:
            raise CannotUnpack(path="", reason=f"frame {index} is not there, or was described otherwise before")
        name = _kind_name(kind, dtype, shape)
        value: object
        if name in ("array", "tensor"):
            value = self._restored(name, dtype, shape, memoryview(self._parts[index]), copy=not self._is_adopting)
        elif name == "bytes":
            value = bytes(self._parts[index])
        else:
            raise CannotUnpack(path="", reason=f"a {name} cannot be beside")
        self._frames.add(index)
        self._beside[data] = value
        return value

    def _restored(self, kind: str, dtype: str, shape: list[int], raw: bytes | memoryview, *, copy: bool = True) -> object:
        """An array, or a tensor, in memory of its own or in that of a frame which is adopted."""
        if kind == "tensor" and self._options.tensors == TORCH:
            arrays.nbytes_of(dtype, shape)
            return self._types.tensors.restore(dtype, tuple(shape), raw, copy=copy)
        return arrays.restore(dtype, shape, raw, copy=copy)

    def _ref(self, data: bytes) -> Ref:
        """A leaf that its origin lends."""
        fields = msgpack.unpackb(data, max_array_len=DIMENSIONS_MAX, max_map_len=0)
        ref = self._common(fields) if type(fields) is list and tuple(map(type, fields)) == _REF_TYPES else None
        if ref is None:
            ref = self._any(fields)
        self._refs[data] = ref
        return ref

    def _common(self, fields: list[Any]) -> Ref | None:
        """A whole array of a plain element type that is a part of its offer, as nearly all refs of a large message are. None: all
        else, and what is refused. What `_any` checks follows here from less, and takes half the time."""
        row, item, offset, length, kind, dtype, shape, name = fields
        known = DTYPES.get(dtype)
        if known is None or not 0 <= row < len(self._sources) or kind not in _ARRAYS or name:
            return None
        need = known.itemsize
        for side in shape:
            if type(side) is not int or side < 1:
                return None
            need *= side
        source = self._sources[row]
        if need != length or not 0 <= item <= ITEM_BYTES_MAX or not 0 <= offset <= source.bytes_total - length:
            return None
        return Ref(source, item, offset, length, "array", dtype, tuple(shape), "", 0, b"", TORCH if kind == _TENSOR else "", (),
                   self._holder)

    def _any(self, fields: Any) -> Ref:
        """Any leaf that its origin lends."""
        mode, stamp = 0, b""
        strides: list[int] | None = None
        if type(fields) is list and len(fields) == len(_REF_TYPES) + 1:
            last = fields.pop()
            if type(last) is list and tuple(map(type, last)) == (int, bytes):
                mode, stamp = last
            else:
                (strides,) = _checked([last], (list,))
        row, item, offset, length, kind, dtype, shape, name = _checked(fields, _REF_TYPES)
        if not 0 <= row < len(self._sources):
            raise CannotUnpack(path="ref", reason=f"row {row} is not in a table of {len(self._sources)}")
        what = _kind_name(kind, dtype, shape)
        ref = Ref(source=self._sources[row], item=item, offset=offset, length=length, kind="array" if what == "tensor" else what,
                  dtype=dtype, shape=tuple(shape), name=name, framework=TORCH if what == "tensor" else "",
                  mode=mode, stamp=stamp, strides=tuple(strides or ()), holder=self._holder)
        if strides is not None and not strides:
            raise CannotUnpack(path="ref", reason="its strides are empty")
        ref.check()
        if ref.kind == "array" and arrays.nbytes_of(dtype, (ref.extent,) if strides else shape) != length:
            raise CannotUnpack(path="ref", reason=f"{dtype}{shape} has not {length} bytes")
        if name and (ref.kind not in ("file", "folder") or not _is_component(name)):
            raise CannotUnpack(path="ref", reason=f"its name {name!r:.40} is not the name of a file")
        return ref

    def _sequence(self, items: list[Any]) -> object:
        """An array of msgpack, in a skeleton with refs."""
        found = _sequence(items)
        if self._is_holding(items):
            self._lists[id(found)] = found
        return found

    def _map(self, pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
        """A map of msgpack, in a skeleton with refs."""
        return _map(pairs, Batch if self._is_holding([value for _, value in pairs]) else dict)

    def _is_holding(self, children: list[Any]) -> bool:
        """Whether there is a ref in these, at any depth."""
        if not _HOLDING.isdisjoint(map(type, children)):
            return True
        return bool(self._lists) and not self._lists.keys().isdisjoint(map(id, children))


def _fields(data: bytes, types: tuple[type, ...]) -> list[Any]:
    """The fields of a payload, which must be of exactly these types."""
    return _checked(msgpack.unpackb(data, max_array_len=DIMENSIONS_MAX, max_map_len=0), types)


def _checked(fields: object, types: tuple[type, ...]) -> list[Any]:
    """The fields, if they are a list of exactly these types."""
    if type(fields) is not list or tuple(map(type, fields)) != types:
        raise CannotUnpack(path="", reason=f"fields are not ({', '.join(each.__name__ for each in types)})")
    return fields


def _kind_name(kind: int, dtype: str, shape: list[int]) -> str:
    """The kind of a leaf by its number; what is no array has neither dtype nor shape."""
    if not 0 <= kind < len(LEAF_KINDS):
        raise CannotUnpack(path="", reason=f"kind {kind} is unknown")
    name = LEAF_KINDS[kind]
    if name not in ("array", "tensor") and (dtype or shape):
        raise CannotUnpack(path="", reason=f"{name} with a dtype or a shape")
    return name


def _is_component(name: str) -> bool:
    """Whether a name is one component of a path, on any system."""
    return (name not in (".", "..") and not any(char in "/\\" or not char.isprintable() for char in name)
            and len(name.encode()) <= _FILE_NAME_BYTES_MAX)


def _sequence(items: list[Any]) -> object:
    """An array of msgpack: what its mark says, if it begins with one."""
    return items[0].build(items) if items and type(items[0]) is _Mark else items


def _tuple(items: list[Any]) -> object:
    return tuple(items[1:])


def _set(items: list[Any]) -> object:
    return _checked_set(set, items[1:])


def _frozenset(items: list[Any]) -> object:
    return _checked_set(frozenset, items[1:])


def _checked_set(kind: type[set[Any]] | type[frozenset[Any]], elements: list[Any]) -> object:
    check_hashes(elements)
    found = kind(elements)
    check_each_once(found, elements)
    return found


def _deque_mark(data: bytes) -> _Mark:
    """The mark of a deque; it has no more elements than it may."""
    fields = msgpack.unpackb(data, max_array_len=1, max_map_len=0)
    (most,) = _checked(fields, (type(None),) if fields == [None] else (int,))

    def build(items: list[Any]) -> object:
        if most is not None and not len(items) - 1 <= most:
            raise CannotUnpack(path="", reason=f"a deque of at most {most} has {len(items) - 1} elements")
        return deque(items[1:], most)

    return _Mark(build)


def _value(kind: ValueType, items: list[Any]) -> object:
    """A value that will be built when all of the object is known to be well formed."""
    if len(items) != 2:
        raise CannotUnpack(path="", reason=f"a value of type {kind.name!r} has {len(items) - 1} plain forms")
    return Unbuilt(kind, items[1])


_TUPLE: Final = _Mark(_tuple)
_SET: Final = _Mark(_set)
_FROZENSET: Final = _Mark(_frozenset)


def _map(pairs: list[tuple[Any, Any]], kind: type[dict[Any, Any]] = dict) -> dict[Any, Any]:
    """A map of msgpack, as a dict of this kind."""
    chosen = [key for key, _ in pairs if type(key) not in SAFE_KEYS]
    if chosen:
        check_hashes(chosen)
    found = kind(pairs)
    if len(found) != len(pairs):
        raise CannotUnpack(path="", reason="a key stands twice in a map")
    return found
