"""Peers: whom this cell is linked to, on one lane.

A link is one connection. It has a number: odd where this side dialled, even where it accepted (the
shell numbers those). Dialled and accepted links go through the same few states::

    dialled   ──Dial, HELLO──▶ GREETING ──WELCOME──▶ UP ◀──any frame── SUSPECT
    accepted  ──HELLO, free──────────────────────────▶ UP ──silence──────▶ SUSPECT
    any state ──silence, broken, REJECT, GOODBYE, replaced──▶ gone (forgotten)

A lost parent is dialled again, for ever, with a growing pause. A name has one link: the same
incarnation on a new link replaces the old one; another incarnation is refused while the incumbent is
UP, and replaces it when it is SUSPECT, so that a restarted cell gets its place back. Where two cells dial
each other directly at the same time, the link that the lesser name dialled stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from zdl.errors import PeerLost, Refused, TimedOut, ZdlError
from zdl.fqcn import ROOT, is_ancestor
from zdl.options import LinkOptions
from zdl.protocol.effects import Dial, DialFailed, Effect, Hang, PeerDown, PeerUp, Send
from zdl.protocol.frames import WIRE_VERSION
from zdl.protocol.messages import Goodbye, Heartbeat, Hello, LinkMessage, Reject, Role, Welcome
from zdl.protocol.redial import Redial


class State(Enum):
    """Where a link stands."""

    GREETING = "greeting"
    UP = "up"
    SUSPECT = "suspect"


@dataclass(slots=True)
class Link:
    """What is known about one link."""

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


@dataclass(frozen=True, slots=True)
class Self:
    """What this cell says about itself in a HELLO.

    Attributes:
        fqcn: its name.
        incarnation: 16 random bytes of this start; they also spread the pauses of redialling.
        data_addresses: where its data lane can be dialled.
        root: the name of the fabric's root.
    """

    fqcn: str
    incarnation: bytes
    data_addresses: tuple[str, ...] = ()
    root: str = ROOT


class Peers:
    """The links of one lane.

    Args:
        me: who we are.
        options: intervals and limits.
        watches: whether silence ends a link: true on the control lane, false on the data lane, where a
            chunk may take long on a slow line.
    """

    def __init__(self, me: Self, options: LinkOptions, *, watches: bool) -> None:
        self._me = me
        self._options = options
        self._watches = watches
        self._links: dict[int, Link] = {}
        self._by_name: dict[str, int] = {}
        self._next_link = 1
        self._due: float | None = None
        self._redial = Redial(me.incarnation, options)
        self._is_closing = False

    # --- what is asked of us --------------------------------------------------------------------

    def up(self, fqcn: str) -> Link | None:
        """The link to this cell, if it is up."""
        link = self._by_name.get(fqcn)
        return None if link is None else self._links[link]

    def link(self, number: int) -> Link | None:
        """What is known about a link, if it exists."""
        return self._links.get(number)

    def links(self) -> tuple[Link, ...]:
        """All links, those still greeting included."""
        return tuple(self._links.values())

    @property
    def has_parent(self) -> bool:
        """Whether this cell was told to have a parent, connected or not."""
        return bool(self._redial.address)

    @property
    def parent_error(self) -> ZdlError | None:
        """Why the parent is not there, as last seen; None while it is."""
        return self._redial.error

    def deadline(self) -> float | None:
        """When `tick` is wanted next."""
        return self._due

    # --- commands -------------------------------------------------------------------------------

    def dial_parent(self, address: str, now: float) -> list[Effect]:
        """Connect to the parent, and again whenever it is lost. A link to a former address is dropped."""
        effects: list[Effect] = []
        for each in [link for link in self._links.values() if link.is_parent]:
            effects += self.hang(each.link, "the parent has a new address", now)
        self._redial.address, self._redial.at = address, None
        return effects + self._dial(address, now, is_parent=True, expected="")[1]

    def dial(self, address: str, *, expected: str, now: float) -> tuple[int, list[Effect]]:
        """Connect directly to a cell that must turn out to be `expected`; not repeated when it fails."""
        link, effects = self._dial(address, now, is_parent=False, expected=expected)
        return link, effects

    def hang(self, number: int, why: str, now: float) -> list[Effect]:
        """End a link with a goodbye: a shell can but forget a link that it accepted, so the other side must be told."""
        known = self._links.get(number)
        if known is None:
            return []
        return [Send(number, Goodbye(self._me.fqcn, why)), Hang(number), *self._gone(known, why, now)]

    def close(self, now: float) -> list[Effect]:
        """Say goodbye on every link, and dial no more."""
        self._is_closing = True
        self._redial.at = None
        effects: list[Effect] = []
        for link in list(self._links.values()):
            if link.state is not State.GREETING:
                effects.append(Send(link.link, Goodbye(self._me.fqcn, "closed")))
            effects.append(Hang(link.link))
        self._links.clear()
        self._by_name.clear()
        self._due = None
        return effects

    # --- the world ------------------------------------------------------------------------------

    def heard(self, number: int, now: float) -> Link | None:
        """Any frame is a sign of life. Returns the link, or None if it is not welcomed."""
        link = self._links.get(number)
        if link is None or link.state is State.GREETING:
            return None
        link.heard_at = now
        if link.state is State.SUSPECT:
            link.state = State.UP
        return link

    def said(self, number: int, now: float) -> None:
        """Something was sent on this link: no heartbeat is needed for a while."""
        link = self._links.get(number)
        if link is not None:
            link.said_at = now

    def broken(self, number: int, why: str, now: float) -> list[Effect]:
        """The connection has ended."""
        link = self._links.get(number)
        if link is None:
            return []
        if link.state is State.GREETING:
            cause = PeerLost(target=link.expected or link.address, lost=link.address, at=self._me.fqcn, why=why)
            return [Hang(number), *self._failed(link, cause, now)]
        return [Hang(number), *self._gone(link, why, now)]

    def receive(self, number: int, message: LinkMessage, now: float) -> list[Effect]:
        """A message that concerns the link itself."""
        self.heard(number, now)
        match message:
            case Hello():
                return self._hello(number, message, now)
            case Welcome():
                return self._welcome(number, message, now)
            case Reject():
                known = self._links.get(number)
                if known is None:
                    return []
                return self._refused(known, Refused(by=message.origin, reason=message.reason, text=message.text), now)
            case Goodbye():
                return self.broken(number, f"it said goodbye: {message.why}", now)
            case Heartbeat():
                return []

    def tick(self, now: float) -> list[Effect]:
        """Beat, suspect, bury, give up, dial again: whatever is due."""
        effects: list[Effect] = []
        if self._redial.is_due(now):
            effects += self.dial_parent(self._redial.address, now)
        for link in list(self._links.values()):
            if link.state is State.GREETING:
                if now >= link.since + self._options.hello_timeout_s:
                    late = TimedOut(what="the welcome", address=link.address, waited_s=now - link.since)
                    effects += [Hang(link.link), *self._failed(link, late, now)]
                continue
            if not self._watches:
                continue
            silence = now - link.heard_at
            if silence >= self._options.dead_beats * link.heartbeat_s:
                effects += self.hang(link.link, f"silent for {silence:.1f} s", now)
                continue
            if silence >= self._options.suspect_beats * link.heartbeat_s:
                link.state = State.SUSPECT
            if now - link.said_at >= self._options.heartbeat_s:
                link.said_at = now
                effects.append(Send(link.link, Heartbeat(self._me.fqcn)))
        self._due = None
        self._schedule(now)
        return effects

    def check(self) -> None:
        """All invariants; for simulation."""
        for name, number in self._by_name.items():
            link = self._links[number]
            assert link.fqcn == name and link.state is not State.GREETING
        named = [link for link in self._links.values() if link.state is not State.GREETING]
        assert len(named) == len(self._by_name), "a welcomed link without its name"
        assert len([link for link in self._links.values() if link.is_parent]) <= 1
        if self._redial.address and not self._is_closing:
            dialled = any(link.is_parent for link in self._links.values())
            assert dialled or self._redial.at is not None, "the parent is neither dialled nor waited for"

    # --- inside ---------------------------------------------------------------------------------

    def _dial(self, address: str, now: float, *, is_parent: bool, expected: str) -> tuple[int, list[Effect]]:
        number = self._next_link
        self._next_link += 2
        role = Role.CHILD if is_parent else Role.DIRECT
        self._links[number] = Link(number, State.GREETING, address, is_parent, role, now, now, now, expected=expected)
        hello = Hello(self._me.fqcn, self._me.incarnation, role, self._options.heartbeat_s, self._me.data_addresses,
                      WIRE_VERSION)
        self._schedule(now)
        return number, [Dial(number, address), Send(number, hello)]

    def _hello(self, number: int, hello: Hello, now: float) -> list[Effect]:
        refusal = self._objection(number, hello)
        known = self._links.get(number)
        if refusal is not None:
            reject = Send(number, Reject(self._me.fqcn, *refusal))
            if known is None:
                return [reject, Hang(number)]
            reason, text = refusal
            return [reject, *self._refused(known, Refused(by=self._me.fqcn, reason=reason, text=text), now)]
        effects: list[Effect] = []
        welcome = Welcome(self._me.fqcn, self._me.incarnation, self._options.heartbeat_s, self._me.data_addresses)
        if known is not None:  # a doubled HELLO: say it again
            return [Send(number, welcome)]
        old = self.up(hello.origin)
        if old is not None:
            effects += self.hang(old.link, "it connected again", now)
        link = Link(number, State.UP, "", False, hello.role, now, now, now, hello.origin, hello.incarnation,
                    max(hello.heartbeat_s, 0.01))
        self._links[number] = link
        self._by_name[hello.origin] = number
        self._schedule(now)
        return [*effects, Send(number, welcome), PeerUp(number, hello.origin, False, hello.role, hello.data_addresses)]

    def _objection(self, number: int, hello: Hello) -> tuple[str, str] | None:
        """Why this HELLO is not welcome: the reason and its text, or None."""
        me = self._me.fqcn
        if hello.version != WIRE_VERSION:
            return "version", f"{hello.origin} speaks version {hello.version}, {me} speaks version {WIRE_VERSION}"
        known = self._links.get(number)
        if known is not None and known.incarnation != hello.incarnation:
            return "not-allowed", f"this link belongs to {known.fqcn}"
        if hello.origin == me:
            return "name-taken", f"{me} is my own name; every cell of a fabric needs a name of its own"
        if hello.role is Role.CHILD and not is_ancestor(me, hello.origin, root=self._me.root):
            return "not-below", f"{hello.origin} is not a name below {me}; name it {me}.{hello.origin.split('.')[-1]}"
        old = self.up(hello.origin)
        if old is not None and old.incarnation != hello.incarnation and old.state is State.UP:
            return "name-taken", (f"another {hello.origin} (incarnation {old.incarnation.hex()[:8]}) is connected "
                                  f"to {me}; yours is {hello.incarnation.hex()[:8]}")
        is_same = old is not None and old.incarnation == hello.incarnation
        if old is not None and is_same and hello.role is old.role is Role.DIRECT and old.address and me < old.fqcn:
            return "crossed", f"{me} has dialled {old.fqcn} itself"
        if old is None and known is None and len(self._links) >= self._options.peers_max:
            return "busy", f"{me} has peers_max={self._options.peers_max} links"
        return None

    def _welcome(self, number: int, welcome: Welcome, now: float) -> list[Effect]:
        link = self._links.get(number)
        if link is None or link.state is not State.GREETING:
            return []
        if link.expected and link.expected != welcome.origin:
            wrong = Refused(by=welcome.origin, reason="wrong-cell", text=f"{link.address} is not {link.expected}")
            return [Send(number, Goodbye(self._me.fqcn, "wrong cell")), Hang(number), *self._failed(link, wrong, now)]
        effects: list[Effect] = []
        old = self.up(welcome.origin)
        is_same = old is not None and old.incarnation == welcome.incarnation
        if old is not None and is_same and link.role is old.role is Role.DIRECT and old.fqcn < self._me.fqcn:
            crossed = Refused(by=self._me.fqcn, reason="crossed", text=f"{old.fqcn} has dialled us itself")
            return [Send(number, Goodbye(self._me.fqcn, "crossed")), *self._refused(link, crossed, now)]
        if old is not None:
            effects += self.hang(old.link, "another link took its place", now)
        link.state, link.heard_at = State.UP, now
        link.fqcn, link.incarnation = welcome.origin, welcome.incarnation
        link.heartbeat_s = max(welcome.heartbeat_s, 0.01)
        self._by_name[welcome.origin] = number
        if link.is_parent:
            self._redial.succeeded()
        self._schedule(now)
        return [*effects, PeerUp(number, welcome.origin, link.is_parent, link.role, welcome.data_addresses)]

    def _refused(self, link: Link, error: Refused, now: float) -> list[Effect]:
        """One side does not want the link."""
        if link.state is State.GREETING:
            return [Hang(link.link), *self._failed(link, error, now)]
        return [Hang(link.link), *self._gone(link, str(error), now)]

    def _failed(self, link: Link, error: ZdlError, now: float) -> list[Effect]:
        """A link that never came up."""
        del self._links[link.link]
        if link.is_parent:
            self._plan_redial(error, now)
        return [DialFailed(link.link, link.address, error)]

    def _gone(self, link: Link, why: str, now: float) -> list[Effect]:
        """A link that was up, or is replaced."""
        del self._links[link.link]
        if self._by_name.get(link.fqcn) == link.link:
            del self._by_name[link.fqcn]
        if link.is_parent:
            self._plan_redial(PeerLost(target=link.fqcn, lost=link.fqcn, at=self._me.fqcn, why=why), now)
        if link.state is State.GREETING:
            return []
        return [PeerDown(link.link, link.fqcn, link.is_parent, why)]

    def _plan_redial(self, error: ZdlError, now: float) -> None:
        if not self._is_closing:
            self._redial.failed(error, now)
            self._schedule(now)

    def _schedule(self, now: float) -> None:
        """Sets `_due`: a redial, a late welcome, or the next look at the heartbeats.

        Only `tick` moves it away from now: links that come and go all the time must not put off the heartbeats.
        """
        times = [each for each in (self._due, self._redial.at) if each is not None]
        is_watching = False
        for link in self._links.values():
            if link.state is State.GREETING:
                times.append(link.since + self._options.hello_timeout_s)
            else:
                is_watching = True
        if is_watching and self._watches:
            beats = [each.heartbeat_s for each in self._links.values() if each.state is not State.GREETING]
            times.append(now + min(self._options.heartbeat_s, *beats) / 4)
        self._due = min(times, default=None)
