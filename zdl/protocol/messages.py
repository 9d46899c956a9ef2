"""One frozen dataclass per kind of message, and nothing that they do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

from zdl.protocol.hot import hot_value
from zdl.protocol.kinds import Body as Body, Kind as Kind, Part as Part  # noqa: F401: users of messages need it
from zdl.protocol.pushing import StreamMessage as StreamMessage

# The id in a `Lost` for somebody whose requests did not go over the lost link.
NO_REQUEST = 1


class Role(IntEnum):
    """What a link is to the cell that was dialled."""

    CHILD = 0
    DIRECT = 1


class Verify(IntEnum):
    """The digest that goes with a chunk: of 32 bytes, strong against anybody; or of 16, keyed with the ref's secret, and quick."""

    NONE = 0
    BLAKE3 = 1
    XXH3 = 2


class Priority(IntEnum):
    """Who goes first: the names are those of the options."""

    INTERACTIVE = 0
    NORMAL = 1
    BACKGROUND = 2


# --- on a link ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message on a link, from the side that dialled.

    `place` says for people where it runs; `token` is what an introduction gave to this cell (see `Introduced`).
    """

    kind: ClassVar[Kind] = Kind.HELLO
    origin: str
    incarnation: bytes
    role: Role
    heartbeat_s: float
    data_addresses: tuple[str, ...]
    version: int
    place: str = ""
    token: bytes = b""


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
    """I am alive and had nothing else to say; or, `asks`, say at once that you are."""

    kind: ClassVar[Kind] = Kind.HEARTBEAT
    origin: str
    asks: bool = False


@dataclass(frozen=True, slots=True)
class Goodbye:
    """This cell closes."""

    kind: ClassVar[Kind] = Kind.GOODBYE
    origin: str
    why: str


@dataclass(frozen=True, slots=True)
class Leave:
    """I send nothing more over this direct link, and you may end it; `is_done`: I have heard that from you."""

    kind: ClassVar[Kind] = Kind.LEAVE
    origin: str
    is_done: bool


@dataclass(frozen=True, slots=True)
class Below:
    """From a child: which cells came up or went down below it. From the parent: this serial is noted.

    Attributes:
        serial: counts the messages of one link from 0; the next one is sent when this one is noted.
        down: who went down, each with the reason; to be read before `up`.
        up: who came up.
    """

    kind: ClassVar[Kind] = Kind.BELOW
    origin: str
    serial: int
    down: tuple[tuple[str, str], ...] = ()
    up: tuple[str, ...] = ()


LinkMessage = Hello | Welcome | Reject | Heartbeat | Goodbye | Leave | Below


# --- routed, control ------------------------------------------------------------------------------


@hot_value
class Request:
    """Somebody wants an answer; `timeout_s` is the time remaining when it was sent.

    `route`: None unless it is traced; then the cells that have passed it on.
    """

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
    route: tuple[str, ...] | None = None


@hot_value
class Reply:
    """The answer: `code` is empty for a good one, else the wire code of an error with its facts.

    `route`: None unless it is traced; then that of the request, its target, and the cells that have passed it back.
    """

    kind: ClassVar[Kind] = Kind.REPLY
    origin: str
    target: str
    id: int
    code: str
    facts: Mapping[str, object]
    headers: Mapping[str, object]
    body: Body = ()
    hops: int = 0
    route: tuple[str, ...] | None = None


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
class Progress:
    """The callee still works on this call, and says how far it is: the caller's wait begins anew."""

    kind: ClassVar[Kind] = Kind.PROGRESS
    origin: str
    target: str
    id: int
    facts: Mapping[str, object]
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
    """The origin of this message can no longer reach `name` and below; or, `beyond`, all but that.

    `id` is the highest of the target's requests that went over the lost link; `NO_REQUEST`: none did; 0: not known.
    """

    kind: ClassVar[Kind] = Kind.LOST
    origin: str
    target: str
    id: int
    name: str
    beyond: bool
    why: str
    hops: int = 0


@dataclass(frozen=True, slots=True)
class Introduce:
    """May I dial you directly? Or dial me: there I listen, and `token` lets you in. `host` says whose loopback is mine."""

    kind: ClassVar[Kind] = Kind.INTRODUCE
    origin: str
    target: str
    id: int
    host: str
    token: bytes
    addresses: tuple[str, ...]
    hops: int = 0


@dataclass(frozen=True, slots=True)
class Introduced:
    """The answer to `Introduce`: dial one of these with this token; or, without both, I dial you; or `why` not."""

    kind: ClassVar[Kind] = Kind.INTRODUCED
    origin: str
    target: str
    id: int
    token: bytes
    addresses: tuple[str, ...]
    why: str
    hops: int = 0


@dataclass(frozen=True, slots=True)
class Waiting:
    """I wait for your replies to requests up to this id, which went over a direct link that is no more.

    Nobody answers it. The cells on the way remember that they lead to somebody who is waited for.
    """

    kind: ClassVar[Kind] = Kind.WAITING
    origin: str
    target: str
    id: int
    hops: int = 0


# --- routed, data ---------------------------------------------------------------------------------


@hot_value
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
    priority: Priority = Priority.NORMAL


@hot_value
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


@hot_value
class Transit:
    """A routed message for somebody else: six known positions, and frames that are not looked at.

    Attributes:
        of_kind: its kind as a number, with the flag `TRACED` where that is set; it may be one that this version
            does not know.
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


ControlMessage = Request | Reply | Notice | Progress | Cancel | Bounce | Lost | Introduce | Introduced | Waiting
DataMessage = Ask | Chunk | Denial | Confirm | Confirmed | Keep | Drop | Withdrawn
Routed = ControlMessage | DataMessage | StreamMessage
Message = LinkMessage | Routed
