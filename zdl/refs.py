"""Ref: a lent object as a value: where it is, what it is, how big, and the right to have it.

An **offer** is one virtual byte stream at its origin; an **item** (one array, one file, one blob) is a
byte range of it. A `Ref` names one item. It packs to itself, so whoever receives it may send it on
unopened, any number of times; it still names the origin. Nothing here does I/O: fetching is the act of
a cell (``cell.downloads.pull(ref)``, ``cell.downloads.resolve(body)``).

A ref is a capability: its `Source` holds a secret that the origin compares. It is never shown.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from zdl.errors import CannotUnpack, FqcnError
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


@dataclass(frozen=True, slots=True)
class Ref:
    """One lent item.

    Attributes:
        source: the offer it is part of.
        item: its number in the offer.
        offset: where it begins in the offer's byte stream.
        length: its bytes.
        kind: ``array`` (a numpy array), ``bytes``, ``file``, ``folder``, or ``object``: what is lent piece by piece, for a
            consumer.
        dtype: numpy's name for the element type, e.g. ``<f4``; empty unless an array.
        shape: lengths of the dimensions; empty for a 0-d array and for what is no array.
        name: the original name of a file or a folder, one path component; else empty.
        mode: the permissions of a file; 0 where they are not told.
        stamp: the same bytes for the same content of a file, or of a folder, also when it is lent again; empty where that is
            not told.
        framework: whose array it becomes when it is pulled: ``torch``; empty for numpy's.
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

    @property
    def origin(self) -> str:
        """FQCN of the cell that lends it."""
        return self.source.origin

    @property
    def nbytes(self) -> int:
        """Its bytes, as numpy calls them."""
        return self.length

    def __repr__(self) -> str:
        what = f"{self.dtype}{list(self.shape)}" if self.kind == "array" else self.kind
        return f"<Ref {self.source.label}[{self.item}] of {self.origin}, {what}, {self.length} bytes>"

    def as_torch(self) -> Ref:
        """The same array, which becomes a tensor of torch when it is pulled."""
        return replace(self, framework=TORCH) if self.kind == "array" else self

    def as_numpy(self) -> Ref:
        """The same array, which becomes one of numpy when it is pulled."""
        return replace(self, framework="")

    def check(self) -> None:
        """Raises `CannotUnpack` when a ref from the wire claims what cannot be."""
        for name, value in (("item", self.item), ("offset", self.offset), ("length", self.length), *(
                ("shape", side) for side in self.shape)):
            if type(value) is not int or not 0 <= value <= ITEM_BYTES_MAX:
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


# The ancestor's name for a leaf that stands for an object not yet fetched.
LazyDownloadRef = Ref
