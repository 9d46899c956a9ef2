"""Packing: one object becomes a skeleton, frames beside it, and a list of what is to be lent.

The order of acts matters. Values of registered types are made plain first. Then the root is packed, and while it is,
leaves are collected; only when all of it is known to be packable and small enough is anything lent, once for the whole
message; the table of sources is written last and put in front. A failure therefore leaves nothing behind.

The fast path is msgpack's packer, which calls back for what it does not know. When it fails, a second, slow
walk finds the leaf to blame.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, overload

import msgpack
import numpy as np
from numpy.typing import NDArray

from zdl.errors import CannotPack, CannotUnpack, TooLarge
from zdl.objects import arrays
from zdl.objects.aliases import Aliased, Shared, with_aliases_marked
from zdl.objects.atoms import fields_of
from zdl.objects.dtypes import name_of
from zdl.objects.externalize import Blob, Place, Placer, wrap_blobs
from zdl.objects.manifest import Manifest, aligned
from zdl.objects.typetable import BYTES_LIKE, LEAF_KINDS, Code, Kind, TypeTable, first_offence, kinds_within
from zdl.objects.values import Lending, Unbuilt, lowered
from zdl.options import PackOptions
from zdl.refs import DIMENSIONS_MAX, Ref, Source

# Kind, dtype and shape of a leaf, as the wire says them.
_What = tuple[int, str, tuple[int, ...]]
# A part of a body: the skeleton, or one frame.
Part = bytes | memoryview

# A packer begins with this buffer and doubles it. Measured: {"a": 1} takes 3 us; with msgpack's own 256 KiB it
# takes 17, most of them in mmap. A mapping, because the published types of msgpack lack this argument.
_SMALL_BUFFER: Final[Mapping[str, Any]] = MappingProxyType({"buf_size": 1024})
_TUPLE_MARK: Final = msgpack.ExtType(Code.TUPLE, b"")
_SET_MARK: Final = msgpack.ExtType(Code.SET, b"")
_FROZENSET_MARK: Final = msgpack.ExtType(Code.FROZENSET, b"")
_SKELETON_HEAD: Final = b"\x92"  # msgpack: an array of two
_EMPTY_TABLE: Final = b"\x90"  # msgpack: an array of none
_PLAIN_HEAD: Final = _SKELETON_HEAD + _EMPTY_TABLE
# The codes of what a leaf that has been written is written as again, each as one byte.
_AGAIN_SAME: Final = bytes([Code.SAME])
_AGAIN_BESIDE: Final = bytes([Code.BESIDE])
_AGAIN_REF: Final = bytes([Code.REF])
_AGAIN_ALIAS: Final = bytes([Code.ALIAS])
_ARRAY: Final = LEAF_KINDS.index("array")
_BYTES: Final = LEAF_KINDS.index("bytes")
_TENSOR: Final = LEAF_KINDS.index("tensor")
_WORDS: Final[Mapping[str, str]] = MappingProxyType({"array": "an array", "bytes": "a leaf of bytes", "tensor": "a tensor"})
# Stand among the types of an object, and are none that travel.
_MARKERS: Final = frozenset((Lending, Aliased))
_INT64_MIN: Final = -(1 << 63)
_UINT64_MAX: Final = (1 << 64) - 1
# One row of the table: a name of 255 bytes, two strings of 16, a number, and their heads.
_SOURCE_BYTES_MAX: Final = 320


@dataclass(frozen=True, slots=True, eq=False)
class Lent:
    """One leaf that is to be lent.

    Attributes:
        leaf: the object as it stands in the message: an array, or bytes.
        buffer: its bytes, flat: the leaf's own memory, or a copy if the leaf is not contiguous.
    """

    leaf: object
    buffer: memoryview


class _Leaves(Sequence[Lent]):
    """What is lent of one message: a `Lent` is made when it is asked for.

    They are kept as two lists of what is there anyway and of numpy's arrays, because Python's collector looks at each other
    object. Measured for 10,000 tensors, in a process with the 180,000 objects of torch: with four such objects for each, every
    other message had all of these looked at, which took 12 us a leaf.
    """

    __slots__ = ("_leaves", "_flats")

    def __init__(self) -> None:
        self._leaves: list[object] = []
        self._flats: list[arrays.Flat] = []

    def add(self, leaf: object, flat: arrays.Flat) -> None:
        """One leaf more, and its bytes."""
        self._leaves.append(leaf)
        self._flats.append(flat)

    @property
    def sizes(self) -> Iterator[int]:
        """Bytes of each."""
        return (flat.nbytes for flat in self._flats)

    def __len__(self) -> int:
        return len(self._leaves)

    @overload
    def __getitem__(self, at: int) -> Lent: ...

    @overload
    def __getitem__(self, at: slice) -> list[Lent]: ...

    def __getitem__(self, at: int | slice) -> Lent | list[Lent]:
        if isinstance(at, slice):
            return [self[each] for each in range(*at.indices(len(self)))]
        return Lent(self._leaves[at], arrays.view_of(self._flats[at]))

    def __iter__(self) -> Iterator[Lent]:
        return map(Lent, self._leaves, map(arrays.view_of, self._flats))


# Opens the offer of one message: the manifest of its items, and the items themselves in the same order.
Lend = Callable[[Manifest, Sequence[Lent]], Source]


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """An object, ready to be sent.

    Attributes:
        parts: the skeleton, then the frames beside it: views of the leaves' own memory.
        source: the offer that was made for this message, or None if nothing was lent.
        lent_count: items of that offer.
        has_refs: whether there are refs in it: to what was lent now, or passed on.
    """

    parts: tuple[Part, ...]
    source: Source | None
    lent_count: int
    has_refs: bool


def pack(obj: object, *, options: PackOptions, types: TypeTable = TypeTable(), lend: Lend | None = None) -> Packed:
    """Packs one object.

    Arrays, large bytes, containers and values of registered types that stand in several places travel once and come out as
    one object; tuples and frozensets that do are as many afterwards. Subclasses of dict, list, str and numbers come out as what
    they are subclasses of, bytearrays and memoryviews as bytes. No container is changed.

    Args:
        obj: what to pack. It is not changed, and must not change until the parts are sent.
        options: what travels inline, beside, or by reference, and the limits.
        types: what may travel.
        lend: called at most once, after all else has succeeded, with what goes by reference. Without it
            nothing does: large leaves go beside, of any size.

    Raises:
        CannotPack: a leaf may not travel, or the nesting is too deep; it names the path.
        TooLarge: the skeleton is larger than ``skeleton_bytes_max``, or a leaf that is not lent than ``frame_bytes_max``.
    """
    plain = pack_plain(obj, options=options)
    if plain is not None:
        return Packed(parts=plain, source=None, lent_count=0, has_refs=False)
    writer = _Writer(options, types, lends=lend is not None)
    try:
        kinds = kinds_within(obj, depth_max=options.depth_max, elements_max=options.skeleton_bytes_max)
        if types.values and not types.values.keys().isdisjoint(kinds):
            obj = lowered(obj, types.values, types.tensors.is_tensor)
            kinds = kinds_within(obj, depth_max=options.depth_max, elements_max=options.skeleton_bytes_max)
        root = writer.root(obj, kinds)
    except (CannotPack, ValueError, TypeError, RecursionError, OverflowError, BufferError) as error:
        found = first_offence(obj, types=types, depth_max=options.depth_max)
        raise found or (error if isinstance(error, CannotPack) else CannotPack(path="", reason=str(error))) from error
    size = len(_SKELETON_HEAD) + writer.table_bytes_max() + len(root)
    if size > options.skeleton_bytes_max:
        raise TooLarge(what="the skeleton of the message", size=size, limit="skeleton_bytes_max",
                       value=options.skeleton_bytes_max)
    source: Source | None = None
    if lend is not None and writer.lent:
        manifest = Manifest.of(writer.lent.sizes)
        source = lend(manifest, writer.lent)
        assert source.bytes_total == manifest.bytes_total, "the offer is not what was to be lent"
    skeleton = b"".join((_SKELETON_HEAD, writer.table(source), root))
    return Packed(parts=(skeleton, *writer.beside), source=source, lent_count=len(writer.lent),
                  has_refs=skeleton[1:2] != _EMPTY_TABLE)


def pack_plain(obj: object, *, options: PackOptions) -> tuple[Part, ...] | None:
    """The parts of a small plain value, which is most small messages, in 1 us instead of 6; None for anything else."""
    kind = type(obj)
    if kind is bytes or kind is str:
        if len(obj) > options.inline_bytes_max:  # type: ignore[arg-type]
            return None
    elif obj is not None and kind is not bool and kind is not float:
        return None
    try:
        skeleton = _PLAIN_HEAD + msgpack.packb(obj)
    except ValueError:  # text that is not Unicode: the slow way finds the words for it
        return None
    return (skeleton,) if len(skeleton) <= options.skeleton_bytes_max else None


def refers(parts: Sequence[Part]) -> bool:
    """Whether what was packed may have refs in it, as its first bytes tell: without a table of origins there are none."""
    return bytes(parts[0][1:2]) != _EMPTY_TABLE


class _Writer:
    """What is known while one object is packed.

    Attributes:
        beside: the frames so far.
        lent: what is to be lent so far.
    """

    __slots__ = ("_options", "_types", "_placer", "_fields", "_rows", "_lent_end", "_inlined", "_shared_count", "_written",
                 "_kept", "_first_at", "_views", "_kinds", "_latest", "beside", "lent")

    def __init__(self, options: PackOptions, types: TypeTable, *, lends: bool) -> None:
        self._options = options
        self._types = types
        self._kinds: dict[type, Kind] = {}
        self._placer = Placer(options, lends=lends)
        self._fields = msgpack.Packer(use_bin_type=True, **_SMALL_BUFFER)
        # Sources in the order of their rows in the table; None is the offer to come, whose row is known before it.
        self._rows: dict[Source | None, int] = {}
        self._latest: tuple[Source | None, int] = (None, 0)
        self._lent_end = 0
        self._inlined = 0
        self._shared_count = 0
        # What to write when a leaf comes again, by its id, as code and payload; it is kept, so that this stays its own. Bytes,
        # because Python's collector looks at each other object that is kept for one of thousands of leaves.
        self._written: dict[int, bytes] = {}
        self._kept: list[object] = []
        # Tensors by their address, the first at each, and by their identity those that are other views of the same memory.
        self._first_at: dict[int, object] = {}
        self._views: dict[Hashable, object] = {}
        self.beside: list[memoryview] = []
        self.lent = _Leaves()

    def root(self, obj: object, kinds: Iterable[type]) -> bytes:
        """The root, packed, with these types in it; on the way `beside`, `lent` and the table are filled."""
        if Kind.BYTES in [self._types.kind_of(kind) for kind in kinds if kind not in _MARKERS]:
            obj = wrap_blobs(obj, inline_bytes_max=self._options.inline_bytes_max)
        if Aliased in kinds:
            obj = with_aliases_marked(obj)
        packer = msgpack.Packer(default=self._write, strict_types=True, use_bin_type=True, **_SMALL_BUFFER)
        return packer.pack(obj)

    def table_bytes_max(self) -> int:
        """How long the table can become."""
        return len(self.table(None)) + (_SOURCE_BYTES_MAX if self.lent else 0)

    def table(self, lent: Source | None) -> bytes:
        """The table, packed, with the offer that was made for this message."""
        if not self._rows:
            return _EMPTY_TABLE
        sources = [lent if source is None else source for source in self._rows]
        return self._fields.pack([None if source is None else [source.origin, source.offer_id, source.secret,
                                                               source.bytes_total] for source in sources])

    def _write(self, leaf: Any) -> object:
        """What msgpack shall write for a value that it does not know."""
        write = _WRITERS.get(type(leaf))
        if write is not None:
            return write(self, leaf)
        kind = self._kinds.get(type(leaf))
        if kind is None:  # most messages have a few types of leaves, and some have thousands of one
            kind = self._kinds[type(leaf)] = self._types.kind_of(type(leaf))
        if kind is Kind.TENSOR:
            return self._tensor(leaf)
        match kind:
            case Kind.ARRAY:
                return self._array(leaf)
            case Kind.REF:
                return self._ref(leaf)
            case Kind.TUPLE:
                return [_TUPLE_MARK, *leaf]
            case Kind.ATOM:
                return msgpack.ExtType(Code.ATOM, self._fields.pack(fields_of(leaf)))
            case Kind.SET:
                return [_SET_MARK, *leaf]
            case Kind.FROZENSET:
                return [_FROZENSET_MARK, *leaf]
            case Kind.DEQUE:
                return [msgpack.ExtType(Code.DEQUE, self._fields.pack([leaf.maxlen])), *leaf]
            case Kind.SCALAR:
                return msgpack.ExtType(Code.SCALAR, self._fields.pack([name_of(leaf.dtype), leaf.tobytes()]))
            case Kind.INT:
                return _int(int.__int__(leaf))
            case Kind.MAP:
                return dict(leaf)
            case Kind.LIST:
                return list(leaf)
            case Kind.TEXT:
                return str.__str__(leaf)
            case Kind.FLOAT:
                return float.__float__(leaf)
            case Kind.BYTES:
                return bytes(memoryview(leaf))
            case _:
                raise CannotPack(path="", reason=f"a value of type {type(leaf).__qualname__} cannot travel as {kind}")

    def _shared(self, shared: Shared) -> object:
        """A container that stands in several places: itself in the first of them, its number in the others."""
        known = self._written.get(id(shared))
        if known is not None:
            return _again(known)
        number = self._fields.pack([self._shared_count])
        self._shared_count += 1
        self._written[id(shared)] = _AGAIN_ALIAS + number
        self._kept.append(shared)
        return [msgpack.ExtType(Code.SHARED, number), shared.node]

    def _array(self, leaf: NDArray[Any], place: Place | None = None) -> object:
        """An array, at its place."""
        known = self._written.get(id(leaf))
        if known is not None:
            return _again(known)
        dtype, shape = arrays.describe(leaf)
        return self._placed(leaf, id(leaf), arrays.flat(leaf), (_ARRAY, dtype, shape), place)

    def _tensor(self, leaf: object, place: Place | None = None) -> object:
        """A tensor of another framework, at its place. Two that are the same elements of the same memory are one."""
        tensors = self._types.tensors
        key = self._id_of_first(leaf)
        known = self._written.get(key)
        if known is not None:
            return _again(known)
        flat = tensors.flatten(leaf)
        if not flat.buffer.nbytes or len(flat.shape) > DIMENSIONS_MAX:
            try:  # one without elements may claim a side that no receiver would believe
                arrays.nbytes_of(flat.dtype, flat.shape)
            except CannotUnpack as error:
                raise CannotPack(path="", reason=error.reason) from error
        return self._placed(leaf, key, flat.buffer, (_TENSOR, flat.dtype, flat.shape), place)

    def _id_of_first(self, tensor: object) -> int:
        """The id of the first tensor that is the same elements of the same memory. Nearly all stand alone at their address; nothing
        else is asked of those."""
        tensors = self._types.tensors
        address = tensors.address_of(tensor)
        first = self._first_at.setdefault(address, tensor) if address else tensor
        if first is tensor:
            return id(tensor)
        identity = tensors.identity_of(tensor)
        return id(first if identity == tensors.identity_of(first) else self._views.setdefault(identity, tensor))

    def _placed(self, leaf: object, key: int, flat: arrays.Flat, what: _What, place: Place | None) -> object:
        """An array or a tensor, at its place."""
        place = place or self._placer.place(flat.nbytes)
        if place is not Place.INLINE:
            return self._outside(leaf, key, flat, place=place, what=what)
        self._written[key] = _AGAIN_SAME + self._fields.pack([self._inlined])
        self._inlined += 1
        self._kept.append(leaf)
        kind, *fields = what
        return msgpack.ExtType(Code.INLINE if kind == _ARRAY else Code.TENSOR, self._fields.pack([*fields, arrays.view_of(flat)]))

    def _lending(self, leaf: Any) -> object:
        """A leaf that goes by reference whatever its size, if anything does; without bytes there is nothing to lend."""
        nbytes = len(leaf) if isinstance(leaf, (bytes, bytearray)) else leaf.nbytes
        place = Place.BY_REF if self._placer.lends and nbytes else None
        if isinstance(leaf, np.ndarray):
            return self._array(leaf, place)
        return self._blob(Blob(leaf), place) if isinstance(leaf, BYTES_LIKE) else self._tensor(leaf, place)

    def _blob(self, blob: Blob, place: Place | None = None) -> object:
        """Large bytes, at their place."""
        known = self._written.get(id(blob.value))
        if known is not None:
            return _again(known)
        flat = blob.flatten()
        place = place or self._placer.place(flat.nbytes)
        if place is Place.INLINE:
            return flat
        return self._outside(blob.value, id(blob.value), flat, place=place, what=(_BYTES, "", ()))

    def _outside(self, leaf: object, key: int, flat: arrays.Flat, *, place: Place, what: _What) -> msgpack.ExtType:
        """A leaf whose bytes are not in the skeleton."""
        if place is Place.BESIDE:
            if flat.nbytes > self._options.frame_bytes_max:
                raise TooLarge(what=f"{_WORDS[LEAF_KINDS[what[0]]]} of the message", size=flat.nbytes,
                               limit="frame_bytes_max", value=self._options.frame_bytes_max)
            self.beside.append(arrays.view_of(flat))
            written = _AGAIN_BESIDE + self._fields.pack([len(self.beside), *what])
        else:
            row = self._rows.setdefault(None, len(self._rows))
            offset = aligned(self._lent_end)
            written = _AGAIN_REF + self._fields.pack([row, len(self.lent), offset, flat.nbytes, *what, ""])
            self._lent_end = offset + flat.nbytes
            self.lent.add(leaf, flat)
        self._written[key] = written
        self._kept.append(leaf)
        return _again(written)

    def _ref(self, ref: Ref) -> msgpack.ExtType:
        """A ref, as it is."""
        if ref.source is not self._latest[0]:  # thousands of one offer stand together, and a source takes long to hash
            self._latest = ref.source, self._rows.setdefault(ref.source, len(self._rows))
        kind = _TENSOR if ref.framework else LEAF_KINDS.index(ref.kind)
        fields = [self._latest[1], ref.item, ref.offset, ref.length, kind, ref.dtype, ref.shape, ref.name]
        if ref.mode or ref.stamp:
            fields.append([ref.mode, ref.stamp])
        elif ref.strides:
            fields.append(ref.strides)
        return msgpack.ExtType(Code.REF, self._fields.pack(fields))


# What writes the leaves of most types that msgpack does not know.
_WRITERS: Final[Mapping[type, Callable[[_Writer, Any], object]]] = MappingProxyType({
    np.ndarray: _Writer._array, Ref: _Writer._ref, Blob: _Writer._blob, Shared: _Writer._shared,
    Unbuilt: lambda _, leaf: [msgpack.ExtType(Code.VALUE, leaf.name.encode()), leaf.plain],
    Lending: lambda writer, leaf: writer._lending(leaf.leaf)})


def _again(written: bytes) -> msgpack.ExtType:
    """The extension of a code and its payload."""
    return msgpack.ExtType(written[0], written[1:])


def _int(value: int) -> object:
    """An int of any size."""
    if _INT64_MIN <= value <= _UINT64_MAX:
        return value
    return msgpack.ExtType(Code.BIGINT, value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True))
