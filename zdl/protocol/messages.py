"""One frozen dataclass per kind of message, and nothing that they do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

Part = bytes | memoryview
Body = tuple[Part, ...]


class Kind(IntEnum):
    """The numbers of the kinds on the wire; from 16 on they are routed."""

    HELLO = 1
    WELCOME = 2
    REJECT = 3
    HEARTBEAT = 4
    GOODBYE = 5
    REQUEST = 16
    REPLY = 17
    NOTICE = 18
    CANCEL = 19
    BOUNCE = 20
    LOST = 21
    ASK = 32
    CHUNK = 33
    DENIAL = 34
    CONFIRM = 35
    CONFIRMED = 36
    KEEP = 37
    DROP = 38
    WITHDRAWN = 39


class Role(IntEnum):
    """What a link is to the cell that was dialled."""

    CHILD = 0
    DIRECT = 1


class Verify(IntEnum):
    """The digest that goes with a chunk. 2 is kept for a faster kind, memory to memory."""

    NONE = 0
    BLAKE3 = 1


# --- on a link ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message on a link, from the side that dialled."""

    kind: ClassVar[Kind] = Kind.HELLO
    origin: str
    incarnation: bytes
    role: Role
    heartbeat_s: float
    data_addresses: tuple[str, ...]
    version: int


@dataclass(frozen=True, slots=True)
class Welcome:
    """The answer that makes the link one of ours."""

    kind: ClassVar[Kind] = Kind.WELCOME
    origin: str
    incarnation: bytes
    heartbeat_s: float
    data_addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reject:
    """The answer that ends the link."""

    kind: ClassVar[Kind] = Kind.REJECT
    origin: str
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """I am alive and had nothing else to say."""

    kind: ClassVar[Kind] = Kind.HEARTBEAT
    origin: str


@dataclass(frozen=True, slots=True)
class Goodbye:
    """This cell closes."""

    kind: ClassVar[Kind] = Kind.GOODBYE
    origin: str
    why: str


LinkMessage = Hello | Welcome | Reject | Heartbeat | Goodbye


# --- routed, control ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Request:
    """Somebody wants an answer; `timeout_s` is the time remaining when it was sent."""

    kind: ClassVar[Kind] = Kind.REQUEST
    origin: str
    target: str
    id: int
    channel: str
    topic: str
    timeout_s: float | None
    headers: Mapping[str, object]
    body: Body = ()
    hops: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer: `code` is empty for a good one, else the wire code of an error with its facts."""

    kind: ClassVar[Kind] = Kind.REPLY
    origin: str
    target: str
    id: int
    code: str
    facts: Mapping[str, object]
    headers: Mapping[str, object]
    body: Body = ()
    hops: int = 0


@dataclass(frozen=True, slots=True)
class Notice:
    """A message without an answer."""

    kind: ClassVar[Kind] = Kind.NOTICE
    origin: str
    target: str
    id: int
    channel: str
    topic: str
    headers: Mapping[str, object]
    body: Body = ()
    hops: int = 0


@dataclass(frozen=True, slots=True)
class Cancel:
    """Nobody waits for this call any more."""

    kind: ClassVar[Kind] = Kind.CANCEL
    origin: str
    target: str
    id: int
    hops: int = 0


@dataclass(frozen=True, slots=True)
class Bounce:
    """A cell on the way (the origin of this message) could not pass the message with this id on."""

    kind: ClassVar[Kind] = Kind.BOUNCE
    origin: str
    target: str
    id: int
    of_kind: int
    code: str
    facts: Mapping[str, object]
    hops: int = 0


@dataclass(frozen=True, slots=True)
class Lost:
    """The origin of this message can no longer reach `name` and below; or, `beyond`, all but that."""

    kind: ClassVar[Kind] = Kind.LOST
    origin: str
    target: str
    id: int
    name: str
    beyond: bool
    why: str
    hops: int = 0


# --- routed, data ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ask:
    """The receiver asks for one byte range of an offer."""

    kind: ClassVar[Kind] = Kind.ASK
    origin: str
    target: str
    id: int
    offer_id: bytes
    secret: bytes
    offset: int
    length: int
    verify: Verify
    hops: int = 0


@dataclass(frozen=True, slots=True)
class Chunk:
    """The origin answers an `Ask`; the bytes are the body."""

    kind: ClassVar[Kind] = Kind.CHUNK
    origin: str
    target: str
    id: int
    offset: int
    length: int
    verify: Verify
    digest: bytes
    body: Body = ()
    hops: int = 0


@dataclass(frozen=True, slots=True)
class Denial:
    """The origin cannot serve this pull."""

    kind: ClassVar[Kind] = Kind.DENIAL
    origin: str
    target: str
    id: int
    code: str
    facts: Mapping[str, object]
    hops: int = 0


@dataclass(frozen=True, slots=True)
class Confirm:
    """The receiver has verified and stored these ranges."""

    kind: ClassVar[Kind] = Kind.CONFIRM
    origin: str
    target: str
    id: int
    offer_id: bytes
    secret: bytes
    ranges: tuple[tuple[int, int], ...]
    hops: int = 0


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The origin has noted a `Confirm` or a `Drop`."""

    kind: ClassVar[Kind] = Kind.CONFIRMED
    origin: str
    target: str
    id: int
    hops: int = 0


@dataclass(frozen=True, slots=True)
class Keep:
    """The receiver is still at it: renew its lease."""

    kind: ClassVar[Kind] = Kind.KEEP
    origin: str
    target: str
    id: int
    offer_id: bytes
    secret: bytes
    hops: int = 0


@dataclass(frozen=True, slots=True)
class Drop:
    """The receiver shall not want the rest."""

    kind: ClassVar[Kind] = Kind.DROP
    origin: str
    target: str
    id: int
    offer_id: bytes
    secret: bytes
    why: str
    hops: int = 0


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The origin ended an offer that this receiver was pulling."""

    kind: ClassVar[Kind] = Kind.WITHDRAWN
    origin: str
    target: str
    id: int
    offer_id: bytes
    how: str
    hops: int = 0


@dataclass(frozen=True, slots=True)
class Transit:
    """A routed message for somebody else: six known positions, and frames that are not looked at.

    Attributes:
        of_kind: its kind as a number; it may be one that this version does not know.
        header: the header as it came.
        body: the frames behind it, as they came.
    """

    of_kind: int
    hops: int
    origin: str
    target: str
    id: int
    header: bytes
    body: Body = ()


ControlMessage = Request | Reply | Notice | Cancel | Bounce | Lost
DataMessage = Ask | Chunk | Denial | Confirm | Confirmed | Keep | Drop | Withdrawn
Routed = ControlMessage | DataMessage
Message = LinkMessage | Routed
