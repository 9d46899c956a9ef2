"""Every error that zdl raises, as one tree, and the table that carries errors over the wire.

::

    ZdlError                      code (stable, on the wire), exit_code (for the CLI)
    ├─ FqcnError, OptionError     (ValueError)  a name or an option that is not allowed
    ├─ ProtocolError
    │  ├─ LocalProtocolError      our bug
    │  ├─ RemoteProtocolError     theirs
    │  └─ DecodeError             bytes that are not a message
    ├─ ObjectError
    │  ├─ CannotPack              names the path inside the object: ``batch[3].weights``
    │  ├─ CannotUnpack
    │  └─ BadSelection            (LookupError)  a part that is not there, or that nobody can select
    ├─ DeliveryError
    │  ├─ NoRoute                 some cell on the way had nowhere to send it
    │  ├─ PeerLost                the cell, or the way to it, died while we waited
    │  ├─ Busy                    a limit with a name is reached
    │  ├─ TooLarge                a size limit with a name
    │  └─ Refused                 a cell said no: version, name taken, not allowed, no handler
    ├─ TimedOut                   (TimeoutError)
    ├─ RemoteError                the handler there raised
    ├─ DownloadError
    │  ├─ UnknownRef, LeaseEnded, OriginLost, OriginFailed
    │  └─ SourceChanged, IntegrityError, Stalled, DiskFull, DiskFailed, ConsumerFailed
    ├─ StreamError
    ├─ Cancelled                  a call or a pull was ended on purpose
    └─ Closed                     this cell is closed; ForkedCell: it belongs to the process we were forked from

Each class has attributes, all plain values, and builds one lower-case sentence from them. An error crosses the wire as its
``code`` and those attributes (`to_wire`, `from_wire`); a code that this version does not know arrives as `RemoteError`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from zdl.errors.download import (
    ConsumerFailed,
    DiskFailed,
    DiskFull,
    DownloadError,
    IntegrityError,
    LeaseEnded,
    OriginFailed,
    OriginLost,
    SourceChanged,
    Stalled,
    StreamError,
    UnknownRef,
)
from zdl.errors.root import ZdlError, bytes_text

__all__ = (
    "BadSelection", "Busy", "Cancelled", "CannotPack", "CannotUnpack", "Closed", "ConsumerFailed", "DecodeError", "DeliveryError",
    "DiskFailed", "DiskFull", "DownloadError",
    "FACT_CHARS_MAX", "ForkedCell", "FqcnError", "IntegrityError", "LeaseEnded", "LocalProtocolError", "NoRoute", "ObjectError",
    "OptionError", "OriginFailed", "OriginLost", "PeerLost", "ProtocolError", "Refused", "RemoteError", "RemoteProtocolError",
    "SourceChanged", "Stalled", "StreamError", "TimedOut", "TooLarge", "UnknownRef", "WIRE_CLASSES", "ZdlError", "from_wire",
    "to_wire",
)


@dataclass(eq=False)
class FqcnError(ZdlError, ValueError):
    """A cell's name is not well formed."""

    code: ClassVar[str] = "bad-fqcn"
    exit_code: ClassVar[int] = 2
    text: str
    reason: str

    def __str__(self) -> str:
        return f"{self.text!r} is not a cell name: {self.reason}"


@dataclass(eq=False)
class OptionError(ZdlError, ValueError):
    """An option has a value that is not allowed."""

    code: ClassVar[str] = "bad-option"
    exit_code: ClassVar[int] = 2
    name: str
    value: str
    allowed: str

    def __str__(self) -> str:
        return f"option {self.name}={self.value} is not allowed: {self.allowed}"


@dataclass(eq=False)
class ProtocolError(ZdlError):
    """Something that the protocol forbids."""

    code: ClassVar[str] = "protocol"
    what: str

    def __str__(self) -> str:
        return self.what


@dataclass(eq=False)
class LocalProtocolError(ProtocolError):
    """This side was about to break the protocol: a bug here."""

    code: ClassVar[str] = "local-protocol"


@dataclass(eq=False)
class RemoteProtocolError(ProtocolError):
    """The other side broke the protocol."""

    code: ClassVar[str] = "remote-protocol"


@dataclass(eq=False)
class DecodeError(ProtocolError):
    """Bytes that are not a message of this protocol; `what` names the part and the limit."""

    code: ClassVar[str] = "decode"


@dataclass(eq=False)
class ObjectError(ZdlError):
    """An object that cannot travel, or bytes that are no object.

    Attributes:
        path: where inside the object, as Python would write it: ``batch[3].weights``; empty for the whole.
        reason: why.
    """

    code: ClassVar[str] = "object"
    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path or 'object'}: {self.reason}"


@dataclass(eq=False)
class CannotPack(ObjectError, TypeError):
    """A leaf of the object is of a kind that may not travel."""

    code: ClassVar[str] = "cannot-pack"

    def __str__(self) -> str:
        return f"cannot pack {self.path or 'the object'}: {self.reason}"


@dataclass(eq=False)
class CannotUnpack(ObjectError):
    """The body of a message is not a packed object."""

    code: ClassVar[str] = "cannot-unpack"

    def __str__(self) -> str:
        return f"cannot unpack {self.path or 'the body'}: {self.reason}"


@dataclass(eq=False)
class BadSelection(ObjectError, LookupError):
    """A part of an object that is not there, or that cannot be selected like this."""

    code: ClassVar[str] = "bad-selection"

    def __str__(self) -> str:
        return f"cannot select from {self.path or 'the object'}: {self.reason}"


@dataclass(eq=False)
class DeliveryError(ZdlError):
    """A message did not reach the cell it was for."""

    code: ClassVar[str] = "delivery"


@dataclass(eq=False)
class NoRoute(DeliveryError):
    """A cell on the way had no link that leads to the target.

    Attributes:
        target: the cell that could not be reached.
        at: the cell that could not go on.
        why: what that cell knows about it, e.g. the last cause of a failing link.
    """

    code: ClassVar[str] = "no-route"
    exit_code: ClassVar[int] = 3
    target: str
    at: str
    why: str = ""

    def __str__(self) -> str:
        return f"no route to {self.target}: {self.at} could not go on" + (f" ({self.why})" if self.why else "")


@dataclass(eq=False)
class PeerLost(DeliveryError):
    """The target, or a link on the way to it, was lost while we waited.

    Attributes:
        target: the cell that was waited for.
        lost: the cell whose link broke.
        at: the cell that noticed.
        why: how it noticed.
    """

    code: ClassVar[str] = "peer-lost"
    target: str
    lost: str
    at: str
    why: str = ""

    def __str__(self) -> str:
        where = "" if self.lost == self.target else f" behind {self.lost}"
        return f"{self.target}{where} is lost, says {self.at}" + (f": {self.why}" if self.why else "")


@dataclass(eq=False)
class Busy(DeliveryError):
    """A limit is reached; the sender may try again later.

    Attributes:
        limit: the option that sets the limit.
        value: the limit.
        at: the cell whose limit it is.
    """

    code: ClassVar[str] = "busy"
    limit: str
    value: int
    at: str

    def __str__(self) -> str:
        return f"{self.at} is busy: {self.limit}={self.value} is reached"


@dataclass(eq=False)
class TooLarge(DeliveryError):
    """Something is larger than a limit allows; nothing was sent."""

    code: ClassVar[str] = "too-large"
    what: str
    size: int
    limit: str
    value: int

    def __str__(self) -> str:
        return f"{self.what} has {bytes_text(self.size)}, {self.limit}={self.value} allows {bytes_text(self.value)}"


@dataclass(eq=False)
class Refused(DeliveryError):
    """A cell answered no.

    Attributes:
        by: the cell that refused.
        reason: a stable word: ``version``, ``name-taken``, ``no-handler``, ``not-allowed``, ``not-ready``,
            ``not-introduced``, ``crossed``.
        text: the reason in words.
    """

    code: ClassVar[str] = "refused"
    exit_code: ClassVar[int] = 6
    by: str
    reason: str
    text: str

    def __str__(self) -> str:
        return f"{self.by} refused ({self.reason}): {self.text}"


@dataclass(eq=False)
class TimedOut(ZdlError, TimeoutError):
    """Nothing came in time."""

    code: ClassVar[str] = "timed-out"
    exit_code: ClassVar[int] = 4
    what: str
    address: str
    waited_s: float
    why: str = ""

    def __str__(self) -> str:
        return f"{self.what} from {self.address} did not come within {self.waited_s:.3g} s" + (
            f" ({self.why})" if self.why else "")


@dataclass(eq=False)
class RemoteError(ZdlError):
    """The handler of the other cell raised."""

    code: ClassVar[str] = "remote"
    fqcn: str
    channel: str
    topic: str
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind} in {self.fqcn}, handler {self.channel}/{self.topic}: {self.text}"


@dataclass(eq=False)
class Cancelled(ZdlError):
    """A call or a pull was ended on purpose, by its abort signal or by its owner."""

    code: ClassVar[str] = "cancelled"
    exit_code: ClassVar[int] = 130
    what: str
    why: str = ""

    def __str__(self) -> str:
        return f"{self.what} was cancelled" + (f": {self.why}" if self.why else "")


@dataclass(eq=False)
class Closed(ZdlError):
    """The cell is closed."""

    code: ClassVar[str] = "closed"
    fqcn: str

    def __str__(self) -> str:
        return f"cell {self.fqcn} is closed"


@dataclass(eq=False)
class ForkedCell(Closed):
    """The cell was started by the process that this one was forked from, and works there only."""

    code: ClassVar[str] = "forked-cell"
    pid: int

    def __str__(self) -> str:
        return f"cell {self.fqcn} works in process {self.pid} only, which this one was forked from: make another cell here"


# --- wire code <-> class ------------------------------------------------------------------------

WIRE_CLASSES: tuple[type[ZdlError], ...] = (
    FqcnError, OptionError, ProtocolError, LocalProtocolError, RemoteProtocolError, DecodeError,
    ObjectError, CannotPack, CannotUnpack, BadSelection, DeliveryError, NoRoute, PeerLost, Busy, TooLarge, Refused,
    TimedOut, RemoteError, DownloadError, UnknownRef, LeaseEnded, OriginLost, OriginFailed,
    SourceChanged, IntegrityError, Stalled, DiskFull, DiskFailed, ConsumerFailed, StreamError, Cancelled, Closed, ForkedCell,
)
# A peer may write what it likes into an error; a text of an error is cut here (faults H28).
FACT_CHARS_MAX = 2000


def to_wire(error: ZdlError) -> tuple[str, dict[str, object]]:
    """The code and the facts of an error, ready for msgpack."""
    return error.code, {name: _clean(value) for name, value in error.facts().items()}


def from_wire(code: str, facts: dict[str, object], *, at: str) -> ZdlError:
    """The error that a peer reported.

    Args:
        code: its wire code.
        facts: its attributes; missing and ill-typed ones make the result a `RemoteError`, unknown ones are left out.
        at: the cell that reported it, for a code this version does not know.
    """
    for cls in WIRE_CLASSES:
        if cls.code == code:
            names = {field.name: field.type for field in dataclasses.fields(cls)}
            known = {name: value for name, value in facts.items() if name in names}
            if all(type(value).__name__ == names[name] for name, value in known.items()):
                try:
                    return cls(**{name: _clean(value) for name, value in known.items()})
                except TypeError:
                    break
    text = ", ".join(f"{_clean(name)}={_clean(value)}" for name, value in list(facts.items())[:8])
    return RemoteError(fqcn=at, channel="", topic="", kind=str(_clean(code))[:80], text=text)


def _clean(value: object) -> object:
    """A plain value for the wire, or from it: printable and bounded."""
    if isinstance(value, str):
        cut = value if len(value) <= FACT_CHARS_MAX else value[:FACT_CHARS_MAX] + "…"
        return "".join(ch if ch.isprintable() else " " for ch in cut)
    return value if isinstance(value, (bool, int, float)) else str(value)[:FACT_CHARS_MAX]
