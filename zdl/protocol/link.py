"""Link: what is known about one connection, and the table of those of one lane.

A link has a number: odd where this side dialled, even where it accepted (the shell numbers those). Those that are
welcomed have the name of their peer, one link to a name; but for guests, and for those that are being left: see
`zdl.protocol.peers`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from zdl.fqcn import ROOT
from zdl.options import HEARTBEAT_MAX_S, LinkOptions
from zdl.protocol.messages import Hello, Role

# A peer that says it speaks more often than this would have the loop look after it without a pause.
HEARTBEAT_MIN_S = 0.01


class State(Enum):
    """Where a link stands."""

    GREETING = "greeting"
    UP = "up"
    CHALLENGED = "challenged"
    STALLED = "stalled"


@dataclass(slots=True)
class Link:
    """What is known about one link.

    Attributes:
        place: where its peer runs, as it says, for people.
        is_guest: nobody has introduced its peer; see above.
        is_side: we have dialled it beside the link that leads to its peer; see `zdl.protocol.sides`.
        mark: of a side link: which of those of one guest.
        left_at: since when nothing new is said over it; its peer has been told, or has told us.
    """

    link: int
    state: State
    address: str
    is_parent: bool
    role: Role
    since: float
    heard_at: float
    said_at: float
    fqcn: str = ""
    incarnation: bytes = b""
    heartbeat_s: float = 0.0
    expected: str = ""
    place: str = ""
    is_guest: bool = False
    is_side: bool = False
    mark: bytes = b""
    left_at: float | None = None

    @property
    def has_name(self) -> bool:
        """Whether its peer is found by name."""
        return self.state is not State.GREETING and not self.is_guest and not self.is_side and self.left_at is None


@dataclass(frozen=True, slots=True)
class Self:
    """What this cell says about itself in a HELLO.

    Attributes:
        fqcn: its name.
        incarnation: 16 random bytes of this start; they also spread the pauses of redialling.
        data_addresses: where its data lane can be dialled.
        root: the name of the fabric's root.
        addresses: where its control lane can be dialled.
        host: whose loopback and files it shares, as ``MACHINE``; and whose memory, as ``MACHINE/PROCESS``.
        place: where it runs, for people: ``pid 4711 on gpu-7``.
        secret: random bytes that nobody else knows.
    """

    fqcn: str
    incarnation: bytes
    data_addresses: tuple[str, ...] = ()
    root: str = ROOT
    addresses: tuple[str, ...] = ()
    host: str = ""
    place: str = ""
    secret: bytes = field(default=b"", repr=False)


class LinkTable:
    """The links of one lane, by number, by name, and the guests by name and incarnation."""

    def __init__(self) -> None:
        self._links: dict[int, Link] = {}
        self._by_name: dict[str, int] = {}
        self._guests: dict[tuple[str, bytes, bytes], int] = {}

    def __len__(self) -> int:
        return len(self._links)

    def __iter__(self) -> Iterator[Link]:
        """All links, as they are now: what is removed meanwhile is left out."""
        return (link for number, link in list(self._links.items()) if number in self._links)

    def get(self, number: int) -> Link | None:
        """The link with this number."""
        return self._links.get(number)

    def up(self, fqcn: str) -> Link | None:
        """The link that has this name."""
        number = self._by_name.get(fqcn)
        return None if number is None else self._links[number]

    @property
    def guests_count(self) -> int:
        """How many guests there are."""
        return len(self._guests)

    def has_guest(self, fqcn: str, incarnation: bytes, mark: bytes = b"") -> bool:
        """Whether this life of a cell is a guest, by a link with this mark."""
        return (fqcn, incarnation, mark) in self._guests

    def add(self, link: Link) -> None:
        """A connection; its name is told by `name`."""
        self._links[link.link] = link

    def name(self, link: Link) -> int | None:
        """The link is welcomed. Returns the link of the same guest that it takes the place of, if there is one."""
        if link.is_side:
            return None
        if not link.is_guest:
            self._by_name[link.fqcn] = link.link
            return None
        old = self._guests.get((link.fqcn, link.incarnation, link.mark))
        self._guests[link.fqcn, link.incarnation, link.mark] = link.link
        if old is not None:
            del self._links[old]
        return old

    def forget_name(self, link: Link) -> None:
        """It is found by name no more."""
        if self._by_name.get(link.fqcn) == link.link:
            del self._by_name[link.fqcn]

    def remove(self, link: Link) -> None:
        """The link is no more."""
        del self._links[link.link]
        self.forget_name(link)
        if link.is_guest:
            del self._guests[link.fqcn, link.incarnation, link.mark]

    def clear(self) -> None:
        """The cell closes."""
        for each in (self._links, self._by_name, self._guests):
            each.clear()

    def deadline(self, options: LinkOptions, now: float, *, watches: bool) -> float | None:
        """A welcome or an answer that is late, or the next look at the heartbeats."""
        times: list[float] = []
        beats: list[float] = []
        for link in self._links.values():
            if link.state is State.GREETING:
                times.append(link.since + options.hello_timeout_s)
                continue
            if link.left_at is not None:
                times.append(link.left_at + options.hello_timeout_s)
            beats.append(link.heartbeat_s)
        if beats and watches:
            times.append(now + min(options.heartbeat_s, *beats) / 4)
        return min(times, default=None)

    def check(self) -> None:
        """All invariants; for simulation."""
        for name, number in self._by_name.items():
            link = self._links[number]
            assert link.fqcn == name and link.has_name
        assert sum(link.has_name for link in self._links.values()) == len(self._by_name), "a welcomed link without its name"
        guests = {link.link for link in self._links.values() if link.is_guest}
        assert guests == set(self._guests.values()), "a guest that is not known as one"
        assert sum(link.is_parent for link in self._links.values()) <= 1


def accepted(number: int, hello: Hello, now: float, *, is_guest: bool) -> Link:
    """The link that this HELLO asked for."""
    return Link(number, State.UP, "", False, hello.role, now, now, now, hello.origin, hello.incarnation,
                believed(hello.heartbeat_s), place=hello.place, is_guest=is_guest, mark=hello.token if is_guest else b"")


def believed(heartbeat_s: float) -> float:
    """How often a peer is expected to speak, whatever it says: nobody may ask us to wait for it for ever."""
    return min(max(HEARTBEAT_MIN_S, heartbeat_s), HEARTBEAT_MAX_S)
