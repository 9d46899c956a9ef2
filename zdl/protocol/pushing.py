"""The messages of streams, one frozen dataclass per kind; the conversation stands in `zdl.protocol.pushes`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from zdl.protocol.kinds import Body, Kind


@dataclass(frozen=True, slots=True)
class Open:
    """Something begins to be pushed: the body is the stream's context, which travels this once.

    Attributes:
        form: what its items are: ``bytes``, ``blob`` or ``objects``.
        bytes_total: how many bytes there will be; 0: none, or that is not known.
    """

    kind: ClassVar[Kind] = Kind.OPEN
    origin: str
    target: str
    id: int
    channel: str
    topic: str
    form: str
    bytes_total: int
    headers: Mapping[str, object]
    body: Body = ()
    hops: int = 0


@dataclass(frozen=True, slots=True)
class Items:
    """Items from number `first` on; without any it asks how far the receiver is. Replies below `heard` have come."""

    kind: ClassVar[Kind] = Kind.ITEMS
    origin: str
    target: str
    id: int
    first: int
    heard: int
    body: Body = ()
    hops: int = 0


@dataclass(frozen=True, slots=True)
class Taken:
    """How far the receiver is: items below `received` are here, those below `consumed` are done with.

    Attributes:
        credit: so many bytes may be sent in all; see `zdl.protocol.pushes`.
        first: the body has the replies to items from here up to `consumed`; no body: there are none to them.
        again: something was lost: send everything from `received` on.
    """

    kind: ClassVar[Kind] = Kind.TAKEN
    origin: str
    target: str
    id: int
    received: int
    consumed: int
    credit: int
    first: int
    again: bool
    body: Body = ()
    hops: int = 0


@dataclass(frozen=True, slots=True)
class End:
    """The normal end: there are `count` items, no more."""

    kind: ClassVar[Kind] = Kind.END
    origin: str
    target: str
    id: int
    count: int
    hops: int = 0


@dataclass(frozen=True, slots=True)
class Ended:
    """The receiver's last word: `code` is empty when all went well; the body is its result."""

    kind: ClassVar[Kind] = Kind.ENDED
    origin: str
    target: str
    id: int
    consumed: int
    code: str
    facts: Mapping[str, object]
    body: Body = ()
    hops: int = 0


@dataclass(frozen=True, slots=True)
class Halt:
    """The sender breaks off; `code` and `facts` say why."""

    kind: ClassVar[Kind] = Kind.HALT
    origin: str
    target: str
    id: int
    code: str
    facts: Mapping[str, object]
    hops: int = 0


StreamMessage = Open | Items | Taken | End | Ended | Halt
