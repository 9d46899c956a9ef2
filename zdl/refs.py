"""Ref: a lent object as a value: where it is, what it is, how big, and the right to have it.

An **offer** is one virtual byte stream at its origin; an **item** (one array, one file, one blob) is a
byte range of it. A `Ref` names one item. It packs to itself, so whoever receives it may send it on
unopened, any number of times; it still names the origin. Nothing here does I/O: fetching is the act of a cell,
its **holder**, which binds itself to the refs that it unpacks (``ref.pull()``, ``cell.downloads.pull(ref)``).

A part of an array is a ref again: ``ref[1000:2000]``, ``ref[:, ::2]``, ``ref.shard(1, rank, world)``. Whatever numpy can
select without a copy is an offset, a shape and a stride per dimension, so parts of parts are parts. One that lies in
one piece names a smaller byte range and no strides; any other one has strides, and is gathered by its origin.

A ref is a capability: its `Source` holds a secret that the origin compares. It is never shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from operator import index
from types import EllipsisType
from typing import Any, Protocol

from zdl.errors import BadSelection, CannotUnpack, FqcnError, OptionError
from zdl.fqcn import parse

OFFER_ID_BYTES = 16
SECRET_BYTES = 16
# What may be claimed by a ref from the wire. 2**56 bytes are 64 PiB: beyond any object, and far
# below where sums of offsets and lengths leave 63 bits.
ITEM_BYTES_MAX = 1 << 56
TORCH = "torch"
# Read, write and execute, for owner, group and others; nothing that gives rights of somebody else.
MODE_MAX = 0o777
STAMP_BYTES_MAX = 32
DIMENSIONS_MAX = 32  # numpy's own limit was 32 up to 1.x, 64 since


@dataclass(frozen=True, slots=True)
class Source:
    """The offer that items belong to, shared by all refs of one batch.

    Attributes:
        origin: FQCN of the cell that lends it.
        offer_id: 16 bytes, unique for all time.
        secret: 16 bytes; who shows it may pull.
        bytes_total: length of the offer's byte stream.
    """

    origin: str
    offer_id: bytes
    secret: bytes = field(repr=False)
    bytes_total: int

    def __repr__(self) -> str:
        return f"<Source {self.label} of {self.origin}, {self.bytes_total} bytes>"

    @property
    def label(self) -> str:
        """How logs and errors name it: enough to recognise, too little to use."""
        return f"ref:{self.offer_id[:4].hex()}…"

    def check(self) -> None:
        """Raises `CannotUnpack` when a source from the wire is not well formed."""
        try:
            parse(self.origin)
        except FqcnError as error:
            raise CannotUnpack(path="ref", reason=str(error)) from error
        if not isinstance(self.offer_id, bytes) or len(self.offer_id) != OFFER_ID_BYTES:
            raise CannotUnpack(path="ref", reason=f"its offer id is not {OFFER_ID_BYTES} bytes")
        if not isinstance(self.secret, bytes) or len(self.secret) != SECRET_BYTES:
            raise CannotUnpack(path="ref", reason=f"its secret is not {SECRET_BYTES} bytes")
        if type(self.bytes_total) is not int or not 0 <= self.bytes_total <= ITEM_BYTES_MAX:
            raise CannotUnpack(path="ref", reason=f"its size is not within 0…{ITEM_BYTES_MAX}")


class Holder(Protocol):
    """The cell that unpacked a ref, as the ref sees it. `abort` is a `zdl.Signal`, `progress` gets bytes done and in all."""

    def pull(self, what: object, into: object, *, timeout_s: float | None, abort: Any,
             progress: Callable[[int, int], object] | None) -> object:
        """What `DownloadBroker.pull` does."""

    def release(self, refs: Sequence[Ref]) -> None:
        """What `DownloadBroker.release` does."""

    @property
    def heard(self) -> Callable[[int, int], object] | None:
        """Who is told of bytes of these refs that come, however they are pulled; from the data lane, so it must be quick."""


@dataclass(frozen=True, slots=True)
class Ref:
    """One lent item, or a part of it.

    Attributes:
        source: the offer it is part of.
        item: its number in the offer.
        offset: where its first byte is in the offer's byte stream.
        length: from there to behind its last byte; with strides there are other bytes between.
        kind: ``array`` (a numpy array), ``bytes``, ``file``, ``folder``, or ``object``: what is lent piece by piece, for a
            consumer.
        dtype: numpy's name for the element type, e.g. ``<f4``; empty unless an array.
        shape: lengths of the dimensions; empty for a 0-d array and for what is no array.
        name: the original name of a file or a folder, one path component; else empty.
        mode: the permissions of a file; 0 where they are not told.
        stamp: the same bytes for the same content of a file, or of a folder, also when it is lent again; empty where that is
            not told.
        framework: whose array it becomes when it is pulled: ``torch``; empty for numpy's.
        strides: elements from one to the next along each dimension, negative for backwards, 0 where a dimension has only
            one; empty when the elements stand one behind the other in C order.
        holder: the cell that unpacked it; not part of its value, and not sent.
    """

    source: Source
    item: int
    offset: int
    length: int
    kind: str
    dtype: str = ""
    shape: tuple[int, ...] = ()
    name: str = ""
    mode: int = 0
    stamp: bytes = b""
    framework: str = ""
    strides: tuple[int, ...] = ()
    holder: Holder | None = field(default=None, repr=False, compare=False)

    # numpy's arrays iterate over their rows; here each would be a pull.
    __iter__ = None

    def __hash__(self) -> int:
        # Of what nearly tells it apart: of all fields it takes five times as long, and thousands are looked up again and again.
        return hash((self.source.offer_id, self.item, self.offset, self.length))

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle: the value. A copy is the ref itself, see below."""
        return Ref, (self.source, self.item, self.offset, self.length, self.kind, self.dtype, self.shape, self.name, self.mode,
                     self.stamp, self.framework, self.strides)

    def __copy__(self) -> Ref:
        return self

    def __deepcopy__(self, memo: object) -> Ref:
        return self

    @property
    def origin(self) -> str:
        """FQCN of the cell that lends it."""
        return self.source.origin

    @property
    def nbytes(self) -> int:
        """Its bytes, as numpy calls them."""
        return prod(self.shape) * self.itemsize if self.strides else self.length

    @property
    def itemsize(self) -> int:
        """Bytes of one element; 0 when it has none, and for what is no array."""
        return self.length // _extent(self.shape, self.strides or _c_strides(self.shape)) if self.dtype and self.length else 0

    def __repr__(self) -> str:
        what = f"{self.dtype}{list(self.shape)}" if self.kind == "array" else self.kind
        return f"<Ref {self.source.label}[{self.item}] of {self.origin}, {what}, {self.nbytes} bytes>"

    # --- parts ----------------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Ref:
        """The part that numpy would select by integers, slices and ``...``: a ref, which pulls its bytes only.

        Of bytes and of a file, a slice without a step: those bytes.

        Raises:
            BadSelection: there is no such part, or it is no part that a slice can name.
        """
        keys = key if isinstance(key, tuple) else (key,)
        if self.kind == "array":
            return self._picked(self._spread(keys))
        if self.kind not in ("bytes", "file") or len(keys) != 1 or not isinstance(keys[0], slice):
            raise self._bad(f"of {self.kind} nothing is selected by {_shown(keys)}: of bytes and files a slice is")
        start, stop, step = self._indices(keys[0], self.length)
        if step != 1:
            raise self._bad(f"a slice of {self.kind} has no step")
        return Ref(self.source, self.item, self.offset + start, max(0, stop - start), "bytes", holder=self.holder)

    def shard(self, dim: int, rank: int, world: int) -> Ref:
        """The part of one dimension for one of `world` ranks, as `numpy.array_split` shares it out.

        Raises:
            BadSelection: there is no such dimension, or no such rank.
        """
        if not -len(self.shape) <= dim < len(self.shape):
            raise self._bad(f"there is no dimension {dim} among {len(self.shape)}")
        if not 0 <= rank < world:
            raise self._bad(f"rank {rank} is not within 0…{world - 1}")
        dim %= len(self.shape)
        each, more = divmod(self.shape[dim], world)
        start = rank * each + min(rank, more)
        picked = slice(start, start + each + (rank < more))
        return self[(slice(None),) * dim + (picked,)]

    # --- fetching -------------------------------------------------------------------------------

    def pull(self, into: object = None, *, timeout_s: float | None = None, abort: Any = None,
             progress: Callable[[int, int], object] | None = None) -> object:
        """What it stands for, fetched by the cell that unpacked it; see `DownloadBroker.pull`."""
        return self._held("pull").pull(self, into, timeout_s=timeout_s, abort=abort, progress=progress)

    def release(self) -> None:
        """Tell the origin that this cell has what it wants of the whole offer; see `DownloadBroker.release`."""
        self._held("release").release([self])

    # --- inside ---------------------------------------------------------------------------------

    def _held(self, what: str) -> Holder:
        if self.holder is None:
            raise OptionError(name="ref", value=repr(self), allowed=f"it is not bound to a cell: use cell.downloads.{what}(ref)")
        return self.holder

    def _spread(self, keys: tuple[Any, ...]) -> list[int | slice]:
        """An integer or a slice for each dimension."""
        gaps = [number for number, key in enumerate(keys) if isinstance(key, EllipsisType)]
        for key in keys:
            if not isinstance(key, (slice, EllipsisType)) and (isinstance(key, bool) or not hasattr(key, "__index__")):
                raise self._bad(f"{_shown((key,))} selects nothing here: integers, slices and ... do")
        if len(gaps) > 1:
            raise self._bad("there is more than one ...")
        missing = len(self.shape) - len(keys) + len(gaps)
        if missing < 0:
            raise self._bad(f"{len(keys) - len(gaps)} selections are too many for {len(self.shape)} dimensions")
        at = gaps[0] if gaps else len(keys)
        return [*keys[:at], *(slice(None),) * missing, *keys[at + 1:]]

    def _picked(self, picks: list[int | slice]) -> Ref:
        """The part that these select."""
        strides = self.strides or _c_strides(self.shape)
        first = _head(self.shape, strides)  # the first element, counted from the one at `offset`
        shape: list[int] = []
        steps: list[int] = []
        for pick, side, stride in zip(picks, self.shape, strides):
            if isinstance(pick, slice):
                start, stop, step = self._indices(pick, side)
                shape.append(len(range(start, stop, step)))
                steps.append(step * stride)
            else:
                start = self._index(pick, side)
            first += start * stride
        if 0 in shape:
            return self._part(self.offset, 0, shape, ())
        steps = [0 if side == 1 else step for side, step in zip(shape, steps)]
        offset = self.offset + (first - _head(shape, steps)) * self.itemsize
        return self._part(offset, _extent(shape, steps) * self.itemsize, shape, () if _is_c_order(shape, steps) else steps)

    def _part(self, offset: int, length: int, shape: Sequence[int], strides: Sequence[int]) -> Ref:
        return Ref(self.source, self.item, offset, length, self.kind, self.dtype, tuple(shape), framework=self.framework,
                   strides=tuple(strides), holder=self.holder)

    def _index(self, pick: Any, side: int) -> int:
        try:
            at = index(pick)
        except TypeError as error:
            raise self._bad(f"{_shown((pick,))} is no integer") from error
        if not -side <= at < side:
            raise self._bad(f"there is no {at} in a dimension of {side}")
        return at % side

    def _indices(self, pick: slice, side: int) -> tuple[int, int, int]:
        try:
            return pick.indices(side)
        except (TypeError, ValueError) as error:
            raise self._bad(f"{pick!r:.80}: {error}") from error

    def _bad(self, reason: str) -> BadSelection:
        return BadSelection(path=repr(self), reason=reason)

    # --- from the wire --------------------------------------------------------------------------

    def as_torch(self) -> Ref:
        """The same array, which becomes a tensor of torch when it is pulled."""
        return replace(self, framework=TORCH) if self.kind == "array" else self

    def as_numpy(self) -> Ref:
        """The same array, which becomes one of numpy when it is pulled."""
        return replace(self, framework="")

    def check(self) -> None:
        """Raises `CannotUnpack` when a ref from the wire claims what cannot be."""
        for at, value in enumerate((self.item, self.offset, self.length, *self.shape)):
            if type(value) is not int or not 0 <= value <= ITEM_BYTES_MAX:
                name = ("item", "offset", "length", "shape")[min(at, 3)]
                raise CannotUnpack(path="ref", reason=f"its {name} is not within 0…{ITEM_BYTES_MAX}")
        if self.offset + self.length > self.source.bytes_total:
            raise CannotUnpack(path="ref", reason=f"it ends at byte {self.offset + self.length} of an offer of "
                                                  f"{self.source.bytes_total}")
        if self.kind not in ("array", "bytes", "file", "folder", "object"):
            raise CannotUnpack(path="ref", reason=f"its kind is {self.kind!r:.40}")
        if len(self.shape) > DIMENSIONS_MAX:
            raise CannotUnpack(path="ref", reason=f"it has more than {DIMENSIONS_MAX} dimensions")
        if (self.mode or self.stamp) and self.kind not in ("file", "folder"):
            raise CannotUnpack(path="ref", reason=f"{self.kind} with the facts of a file")
        if not 0 <= self.mode <= MODE_MAX or len(self.stamp) > STAMP_BYTES_MAX:
            raise CannotUnpack(path="ref", reason=f"its mode is not within 0…{MODE_MAX:o}, or its stamp has more than "
                                                  f"{STAMP_BYTES_MAX} bytes")
        if self.strides:
            self._check_strides()

    def _check_strides(self) -> None:
        """Only what `__getitem__` makes: so no element is named twice, which would make much of little."""
        shape, strides = self.shape, self.strides
        if self.kind != "array" or len(strides) != len(shape) or 0 in shape:
            raise CannotUnpack(path="ref", reason=f"{len(strides)} strides do not belong to {self.kind} of {len(shape)} dimensions")
        for side, stride in zip(shape, strides):
            if type(stride) is not int or not -ITEM_BYTES_MAX <= stride <= ITEM_BYTES_MAX or (stride == 0) != (side == 1):
                raise CannotUnpack(path="ref", reason="a stride is 0, or too large, or not 0 where there is one element")
        extent = _extent(shape, strides)
        if prod(shape) > extent or _is_c_order(shape, strides) or self.length % extent:
            raise CannotUnpack(path="ref", reason="its strides are not those of a part of an array")

    @property
    def extent(self) -> int:
        """How many elements there are from its first to its last in memory, its own and those between."""
        return 0 if 0 in self.shape else _extent(self.shape, self.strides or _c_strides(self.shape))


def _c_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of an array in C order, in elements."""
    strides: list[int] = []
    step = 1
    for side in reversed(shape):
        strides.append(0 if side == 1 else step)
        step *= side
    return tuple(reversed(strides))


def _is_c_order(shape: Sequence[int], strides: Sequence[int]) -> bool:
    return tuple(strides) == _c_strides(shape)


def _extent(shape: Sequence[int], strides: Sequence[int]) -> int:
    """Elements from the lowest to behind the highest."""
    return 1 + sum((side - 1) * abs(stride) for side, stride in zip(shape, strides))


def _head(shape: Sequence[int], strides: Sequence[int]) -> int:
    """How far the first element is from the lowest one: dimensions that run backwards begin at their end."""
    return sum((side - 1) * -stride for side, stride in zip(shape, strides) if stride < 0)


def _shown(keys: tuple[Any, ...]) -> str:
    """What somebody selects by, for an error."""
    return ", ".join("newaxis" if key is None else f"{key!r:.40}" if isinstance(key, (int, slice, str)) else type(key).__name__
                     for key in keys)


# The ancestor's name for a leaf that stands for an object not yet fetched.
LazyDownloadRef = Ref
