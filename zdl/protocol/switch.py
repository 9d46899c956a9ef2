"""Switch: joins `peers` and `routes`: what comes in over a link is ours, somebody else's, or refused.

::

    link ──message──▶ is it about the link? ──▶ peers
                      is the link welcomed, and may it speak for this origin?  no ─▶ refused, counted
                      is it for me? ──▶ Arrived
                      is there a next hop, and hops left? ──▶ Send (the same frames)
                      else ──▶ BOUNCE to its origin

A message of our own goes the same way from the third line on. While a parent that we should have is
not there yet, our own messages wait for it, each at most as long as somebody waits for its answer; but
for those that are repeated anyway.

The switch remembers, per link and bounded, which origins have sent over it; when the link is lost they
are told (`Lost`), so that whoever waits behind it is not left to his timeout.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace

from zdl.errors import Busy, NoRoute, Refused, ZdlError, to_wire
from zdl.fqcn import is_ancestor, is_within
from zdl.options import LinkOptions
from zdl.protocol.effects import SELF, Arrived, Effect, Hang, PeerDown, PeerUp, Send, Unreachable
from zdl.protocol.messages import (
    Bounce,
    Cancel,
    Goodbye,
    Heartbeat,
    Hello,
    Kind,
    Lost,
    Message,
    Reject,
    Request,
    Routed,
    Transit,
    Welcome,
)
from zdl.protocol.peers import Link, Peers, Self
from zdl.protocol.routes import Routes

# Answers to messages that could not go on would only breed more of the same.
_NEVER_BOUNCED = frozenset({Kind.BOUNCE, Kind.LOST, Kind.CANCEL, Kind.CONFIRMED})
_ON_LINK = frozenset({Hello, Welcome, Reject, Heartbeat, Goodbye})
# Who sends these says them again by himself, and must know at once when there is no way.
_NEVER_WAITING = frozenset({Kind.ASK, Kind.KEEP})
WAITING_MAX = 4096
# How long a message without a timeout of its own waits for the parent to come.
WAIT_S = 30.0


@dataclass(slots=True)
class Counts:
    """What the switch has done, for reports; plain numbers."""

    forwarded: int = 0
    bounced: int = 0
    refused: int = 0


class Switch:
    """The links and routes of one lane of one cell.

    Args:
        me: who we are.
        options: limits.
        watches: see `Peers`.
    """

    def __init__(self, me: Self, options: LinkOptions, *, watches: bool) -> None:
        self._me = me
        self._options = options
        self.peers = Peers(me, options, watches=watches)
        self.routes = Routes(me.fqcn, root=me.root)
        self.counts = Counts()
        self._interest: dict[int, OrderedDict[str, int]] = {}
        self._waiting: list[tuple[float, Routed]] = []

    @property
    def fqcn(self) -> str:
        """The cell whose switch this is."""
        return self._me.fqcn

    # --- the verbs ------------------------------------------------------------------------------

    def receive(self, link: int, message: Message | Transit, now: float) -> list[Effect]:
        """A message came over a link (`SELF`: from this cell)."""
        if type(message) in _ON_LINK:
            assert isinstance(message, (Hello, Welcome, Reject, Heartbeat, Goodbye))
            return self._settle(self.peers.receive(link, message, now), now)
        assert not isinstance(message, (Hello, Welcome, Reject, Heartbeat, Goodbye))
        if link != SELF:
            known = self.peers.heard(link, now)
            if known is None:  # still greeting: it will be said again; unknown: it must greet
                greeting = self.peers.link(link) is not None
                reject = Reject(self._me.fqcn, "not-ready", "say HELLO first")
                return [] if greeting else [Send(link, reject), Hang(link)]
            if message.origin != known.fqcn and not self._may_speak(known, message.origin):
                return self._refuse_origin(known, message)
        if isinstance(message, Transit):
            return self._pass_on(link, message)
        if type(message) is Lost:
            return [Unreachable(message.origin, message.name, message.beyond, message.why)]
        return [Arrived(message)]

    def send(self, message: Routed, now: float) -> list[Effect]:
        """A message of our own; one that cannot leave comes back at once as a `Bounce`."""
        if message.target == self._me.fqcn:
            return [Send(SELF, message)]
        link = self.routes.next_hop(message.target)
        if link is not None:
            return [Send(link, message)]
        may_come = self.peers.has_parent and self.routes.parent is None and not self._is_below(message.target)
        if may_come and message.kind not in _NEVER_WAITING:
            return self._wait(message, now)
        return self._bounce_own(message, NoRoute(target=message.target, at=self._me.fqcn, why=self._why()))

    def dial_parent(self, address: str, now: float) -> list[Effect]:
        """Connect to the parent, for ever; to its new address, if it had another."""
        return self._settle(self.peers.dial_parent(address, now), now)

    def broken(self, link: int, why: str, now: float) -> list[Effect]:
        """A connection has ended."""
        return self._settle(self.peers.broken(link, why, now), now)

    def hang(self, link: int, why: str, now: float) -> list[Effect]:
        """End a link."""
        return self._settle(self.peers.hang(link, why, now), now)

    def undelivered(self, link: int, message: Message | Transit, error: ZdlError) -> list[Effect]:
        """The shell could not hand the message to the link: its origin hears of it."""
        if isinstance(message, Transit):
            return self._bounce(None, message, error)
        if isinstance(message, (Hello, Welcome, Reject, Heartbeat, Goodbye)):
            return []
        return self._bounce_own(message, error)

    def tick(self, now: float) -> list[Effect]:
        """Time passed."""
        effects = self._settle(self.peers.tick(now), now)
        expired = [message for until, message in self._waiting if until <= now]
        if expired:
            self._waiting = [(until, message) for until, message in self._waiting if until > now]
            for message in expired:
                effects += self._bounce_own(message, NoRoute(target=message.target, at=self._me.fqcn, why=self._why()))
        return effects

    def deadline(self) -> float | None:
        """When `tick` is wanted next."""
        due = self.peers.deadline()
        if not self._waiting:
            return due
        first = min(until for until, _ in self._waiting)
        return first if due is None else min(first, due)

    def close(self, now: float) -> list[Effect]:
        """Goodbye to everybody."""
        self._waiting.clear()
        self._interest.clear()
        return self.peers.close(now)

    def check(self) -> None:
        """All invariants; for simulation."""
        self.peers.check()
        self.routes.check()
        assert len(self._waiting) <= WAITING_MAX
        assert set(self._interest) <= {link.link for link in self.peers.links()}

    # --- inside ---------------------------------------------------------------------------------

    def _may_speak(self, link: Link, origin: str) -> bool:
        is_above = link.is_parent or is_ancestor(link.fqcn, self._me.fqcn, root=self._me.root)
        return is_above or is_within(origin, link.fqcn)

    def _is_below(self, target: str) -> bool:
        return target.startswith(self._me.fqcn + ".") or self._me.fqcn == self._me.root

    def _refuse_origin(self, link: Link, message: Routed | Transit) -> list[Effect]:
        self.counts.refused += 1
        kind = message.of_kind if isinstance(message, Transit) else int(message.kind)
        if kind in _NEVER_BOUNCED:
            return []
        text = f"{link.fqcn} may not speak for {message.origin[:255]}"
        error = Refused(by=self._me.fqcn, reason="not-allowed", text=text)
        return [Send(link.link, Bounce(self._me.fqcn, link.fqcn, message.id, kind, *to_wire(error)))]

    def _pass_on(self, came_by: int, message: Transit) -> list[Effect]:
        if message.hops >= self._options.hops_max:
            return self._bounce(came_by, message, NoRoute(
                target=message.target, at=self._me.fqcn, why=f"hops_max={self._options.hops_max} is reached"))
        link = self.routes.next_hop(message.target, came_by=came_by)
        if link is None:
            return self._bounce(came_by, message, NoRoute(target=message.target, at=self._me.fqcn, why=self._why()))
        self.counts.forwarded += 1
        self._remember(link, message.origin, came_by)
        return [Send(link, replace(message, hops=message.hops + 1))]

    def _remember(self, link: int, origin: str, came_by: int) -> None:
        origins = self._interest.get(link)
        if origins is None:
            origins = self._interest[link] = OrderedDict()
        origins[origin] = came_by
        origins.move_to_end(origin)
        if len(origins) > self._options.interest_max:
            origins.popitem(last=False)

    def _why(self) -> str:
        error = self.peers.parent_error
        return "" if error is None else str(error)

    def _way_back(self, origin: str, came_by: int | None) -> int | None:
        """The way it came if that still stands, else whatever way there is."""
        if came_by is not None and self.peers.link(came_by) is not None:
            return came_by
        return self.routes.next_hop(origin)

    def _bounce(self, came_by: int | None, message: Transit, error: ZdlError) -> list[Effect]:
        self.counts.bounced += 1
        if message.of_kind in _NEVER_BOUNCED or message.origin == self._me.fqcn:
            return []
        back = self._way_back(message.origin, came_by)
        if back is None:
            return []
        return [Send(back, Bounce(self._me.fqcn, message.origin, message.id, message.of_kind, *to_wire(error)))]

    def _bounce_own(self, message: Routed, error: ZdlError) -> list[Effect]:
        if message.kind in _NEVER_BOUNCED:
            return []
        return [Arrived(Bounce(self._me.fqcn, self._me.fqcn, message.id, int(message.kind), *to_wire(error)))]

    def _wait(self, message: Routed, now: float) -> list[Effect]:
        if len(self._waiting) >= WAITING_MAX:
            return self._bounce_own(message, Busy(limit="WAITING_MAX", value=WAITING_MAX, at=self._me.fqcn))
        if isinstance(message, Cancel):
            request = [each for each in self._waiting if isinstance(each[1], Request) and (
                each[1].id == message.id and each[1].target == message.target)]
            if request:  # neither has to leave
                self._waiting.remove(request[0])
                return []
        most = message.timeout_s if isinstance(message, Request) and message.timeout_s is not None else WAIT_S
        self._waiting.append((now + most, message))
        return []

    def _settle(self, effects: list[Effect], now: float) -> list[Effect]:
        """Brings the routes up to date with what the peers report, and tells whom it concerns."""
        more: list[Effect] = []
        for effect in effects:
            more.append(effect)
            match effect:
                case PeerUp(link=link, fqcn=fqcn, is_parent=is_parent):
                    self.routes.add(fqcn, link, is_parent=is_parent)
                    if is_parent:
                        waiting, self._waiting = self._waiting, []
                        for until, message in waiting:
                            more += self.send(_left(message, until - now), now)
                case PeerDown(link=link, fqcn=fqcn, is_parent=is_parent, why=why):
                    more += self._lose(link, fqcn, is_parent, why)
        return more

    def _lose(self, link: int, fqcn: str, is_parent: bool, why: str) -> list[Effect]:
        self.routes.remove(fqcn, link)
        name = self._me.fqcn if is_parent else fqcn
        effects: list[Effect] = [Unreachable(self._me.fqcn, name, is_parent, why)]
        interested: Mapping[str, int] = self._interest.pop(link, {})
        for origin, came_by in interested.items():
            back = self._way_back(origin, came_by)
            if back is not None:
                effects.append(Send(back, Lost(self._me.fqcn, origin, 0, name, is_parent, why)))
        return effects


def _left(message: Routed, left_s: float) -> Routed:
    """A message that has waited: a request says how much of its time is left."""
    if isinstance(message, Request) and message.timeout_s is not None:
        return replace(message, timeout_s=max(left_s, 0.0))
    return message


def concerns(lost: Unreachable, target: str) -> bool:
    """Whether a loss cuts off this target."""
    return is_within(target, lost.name) != lost.beyond
