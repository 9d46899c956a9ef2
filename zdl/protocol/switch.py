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

The switch remembers, per link and bounded, which origins have sent over it, and their last request; when the
link is lost they are told (`Lost`), so that whoever waits behind it is not left to his timeout. Who says so
is believed where he stands above what is lost, or above us.

What was asked over a direct link is answered over it, and what was asked along the tree along the tree; nothing else
goes to a guest of the data lane.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from zdl.errors import Busy, NoRoute, Refused, ZdlError, from_wire, to_wire
from zdl.fqcn import is_ancestor, is_within
from zdl.options import LinkOptions
from zdl.protocol.effects import SELF, Arrived, DialFailed, Effect, Hang, PassedOn, PeerDown, PeerUp, Send, Unreachable
from zdl.protocol.frames import TRACED
from zdl.protocol.interest import Interest
from zdl.protocol.introductions import Idle, Introductions, Knock, Step
from zdl.protocol.link import Link, Self
from zdl.protocol.messages import (
    Below,
    Bounce,
    Goodbye,
    Heartbeat,
    Hello,
    Introduce,
    Introduced,
    Kind,
    Leave,
    LinkMessage,
    Lost,
    Message,
    Reject,
    Role,
    Routed,
    Transit,
    Waiting,
    Welcome,
)
from zdl.protocol.peers import Peers
from zdl.protocol.pending import WAITING_MAX, Pending
from zdl.protocol.returns import Returns
from zdl.protocol.routes import Routes
from zdl.protocol.trace import passed_by, untraced

# Answers to messages that could not go on would only breed more of the same.
_NEVER_BOUNCED = frozenset({Kind.BOUNCE, Kind.LOST, Kind.CANCEL, Kind.CONFIRMED, Kind.INTRODUCED, Kind.PROGRESS})
_ON_LINK = frozenset({Hello, Welcome, Reject, Heartbeat, Goodbye, Leave, Below})
# Who sends these says them again by himself, and must know at once when there is no way.
_NEVER_WAITING = frozenset({Kind.ASK, Kind.KEEP, Kind.INTRODUCE, Kind.INTRODUCED, Kind.WAITING, Kind.PROGRESS,
                            Kind.OPEN, Kind.ITEMS, Kind.END})
# What this machine takes itself, some of it only sometimes.
_FOR_US = frozenset({Lost, Bounce, Introduce, Introduced, Waiting})
# Answers to what did not come directly go along the tree: a direct link that stands may be that of a former life.
_ANSWERS = frozenset({Kind.REPLY, Kind.PROGRESS, Kind.INTRODUCED, Kind.BOUNCE})
# Enough of these to one target, and a direct link to it is asked for.
_COUNTED = frozenset({Kind.REQUEST, Kind.NOTICE})


@dataclass(slots=True)
class Counts:
    """What the switch has done, for reports; plain numbers."""

    forwarded: int = 0
    bounced: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Way:
    """What leads to a cell.

    Attributes:
        role: of the link that a message takes: ``direct``, ``parent``, ``child``; ``self``; ``none``: nothing leads there.
        via: the cell at the other end of that link.
        why: why it does not go directly, or nowhere; empty where the cell itself is linked.
    """

    role: str
    via: str
    why: str


class Switch:
    """The links and routes of one lane of one cell.

    Args:
        me: who we are.
        options: limits.
        watches: see `Peers`.

    Attributes:
        fqcn: the cell whose switch this is.
    """

    def __init__(self, me: Self, options: LinkOptions, *, watches: bool) -> None:
        self._me = me
        self.fqcn = me.fqcn
        self._options = options
        self.peers = Peers(me, options, watches=watches)
        self.routes = Routes(me.fqcn, root=me.root)
        self.counts = Counts()
        self.introductions = Introductions(me, options) if watches else None
        self._interest = Interest(options.interest_max)
        self._returns = Returns(options.interest_max)
        self._pending = Pending()
        self.tells_transit = False  # whether `PassedOn` is said of each message for somebody else

    def way_of(self, target: str, now: float) -> Way:
        """How a message of this cell to that one goes, as things are now, and why not directly."""
        number = self.routes.next_hop(target)
        link = None if number is None else self.peers.link(number)
        if target == self._me.fqcn or link is None:
            return Way("self", target, "") if target == self._me.fqcn else Way(
                "none", "", self._no_route(target, now).why or f"no link of {self._me.fqcn} leads there")
        why = "" if link.fqcn == target or self.introductions is None else self.introductions.why(target)
        return Way("parent" if link.is_parent else link.role.name.lower(), link.fqcn, why)

    # --- the verbs ------------------------------------------------------------------------------

    def receive(self, link: int, message: Message | Transit, now: float) -> list[Effect]:
        """A message came over a link (`SELF`: from this cell)."""
        if type(message) in _ON_LINK:
            return self._on_link(link, message, now)  # type: ignore[arg-type]
        return self._routed(link, message, now)  # type: ignore[arg-type]

    def _routed(self, link: int, message: Routed | Transit, now: float) -> list[Effect]:
        """A message that is not about the link."""
        if link != SELF:
            known = self.peers.heard(link, now)
            if known is None:  # still greeting: it will be said again; unknown: it must greet
                greeting = self.peers.link(link) is not None
                reject = Reject(self._me.fqcn, "not-ready", "say HELLO first")
                return [] if greeting else [Send(link, reject), Hang(link)]
            is_own = message.origin == known.fqcn and known.role is Role.CHILD
            if not is_own and not _may_speak(self._me, known, message):
                return self._refuse_origin(known, message)
            if known.role is Role.DIRECT or self._returns.links:
                self._returns.note(known, message)
        if isinstance(message, Transit):
            effects = self._pass_on(link, message, now)
            return effects if not self.tells_transit else [*effects, _told(self.fqcn, message, effects)]
        if type(message) in _FOR_US:
            return self._for_us(message, now)
        return [Arrived(message)]

    def send(self, message: Routed, now: float) -> list[Effect]:
        """A message of our own; one that cannot leave comes back at once as a `Bounce`."""
        if message.target == self._me.fqcn:
            return [Send(SELF, message)]
        if self._returns.links:
            link = self._returns.link_for(message, self.peers.table)
            if link is not None:
                if self.introductions is not None:
                    self.introductions.used(message.target, now)
                return [Send(link, message)]
        link = self.routes.neighbour(message.target)
        if link is not None:
            return [Send(link, message)]
        link = self.routes.next_hop(message.target)
        if link is not None:
            return [Send(link, message)] if self.introductions is None else self._send_far(message, link, now)
        may_come = self.peers.has_parent and self.routes.parent is None and not self._is_below(message.target)
        if may_come and message.kind not in _NEVER_WAITING:
            if self._pending.is_full:
                return self._bounce_own(message, Busy(limit="WAITING_MAX", value=WAITING_MAX, at=self._me.fqcn))
            self._pending.add(message, now)
            return []
        return self._bounce_own(message, self._no_route(message.target, now))

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
            told = [PassedOn(message, error)] if self.tells_transit else []
            return [*self._bounce(None, message, error), *told]
        if isinstance(message, (Hello, Welcome, Reject, Heartbeat, Goodbye, Leave, Below)):
            return []
        return self._bounce_own(message, error)

    def tick(self, now: float) -> list[Effect]:
        """Time passed."""
        effects = self._settle(self.peers.tick(now), now)
        if self.introductions is not None:
            effects += self._take(self.introductions.tick(now), now)
        for message in self._pending.expired(now):
            effects += self._bounce_own(message, self._no_route(message.target, now))
        return effects

    def deadline(self) -> float | None:
        """When `tick` is wanted next."""
        due = self.peers.deadline()
        first = None if self.introductions is None else self.introductions.deadline()
        if first is not None and (due is None or first < due):
            due = first
        first = self._pending.deadline()
        return first if first is not None and (due is None or first < due) else due

    def close(self, now: float) -> list[Effect]:
        """Goodbye to everybody."""
        self._pending.clear()
        self._interest.clear()
        self._returns.clear()
        return self.peers.close(now)

    def check(self) -> None:
        """All invariants; for simulation."""
        self.peers.check()
        self.routes.check()
        if self.introductions is not None:
            self.introductions.check()
        assert len(self._pending) <= WAITING_MAX
        assert self._interest.links() <= {link.link for link in self.peers.links()}

    # --- inside ---------------------------------------------------------------------------------

    def _on_link(self, link: int, message: LinkMessage, now: float) -> list[Effect]:
        """A message about the link itself."""
        refusal = self._uninvited(link, message, now) if isinstance(message, Hello) else []
        return refusal or self._settle(self.peers.receive(link, message, now), now)

    def _uninvited(self, link: int, hello: Hello, now: float) -> list[Effect]:
        """On the control lane a direct peer has been introduced, or is sent away."""
        if hello.role is not Role.DIRECT or self.introductions is None or self.peers.link(link) is not None:
            return []
        refusal = self.introductions.objection(hello, now)
        return [] if refusal is None else [Send(link, Reject(self._me.fqcn, *refusal)), Hang(link)]

    def _for_us(self, message: Routed, now: float) -> list[Effect]:
        """What arrives and is not, or not always, for the machines behind the switch."""
        match message:
            case Lost():
                above = self._me.fqcn if message.beyond else message.name
                if not is_ancestor(message.origin, above, root=self._me.root):
                    self.counts.refused += 1
                    return []
                if self.introductions is not None and self._interest.is_old(message, now):
                    return []
                return [Unreachable(message.origin, message.name, message.beyond, message.why, message.id,
                                    spared=self._spared(message.name, message.beyond), asked=self._returns.ids())]
            case Introduce() | Introduced() | Bounce(of_kind=Kind.INTRODUCE):
                return [] if self.introductions is None else self._take(self.introductions.receive(message, now), now)
            case Waiting():
                return []
        return [Arrived(message)]

    def _spared(self, name: str, beyond: bool) -> tuple[tuple[str, int], ...]:
        return () if self.introductions is None else self.introductions.spared(name, beyond)

    def _send_far(self, message: Routed, link: int, now: float) -> list[Effect]:
        """A message of ours for a cell that the tree does not link to us; directly, if there is such a link."""
        assert self.introductions is not None
        if self.routes.direct(message.target) == link:
            if message.kind in _ANSWERS:
                return [Send(self.routes.by_tree(message.target) or link, message)]
            self.introductions.used(message.target, now)
            return [Send(link, message)]
        if message.kind not in _COUNTED or not self._options.direct:
            return [Send(link, message)]
        return [Send(link, message), *self._take(self.introductions.sent(message.target, message.id, now), now)]

    def _take(self, steps: list[Step], now: float) -> list[Effect]:
        """What the introductions ask for."""
        effects: list[Effect] = []
        for step in steps:
            match step:
                case Knock(fqcn=fqcn, address=address, token=token):
                    link, more = self.peers.dial(address, expected=fqcn, now=now, token=token)
                    assert self.introductions is not None
                    self.introductions.knocking(fqcn, link)
                    effects += more
                case Idle(fqcn=fqcn):
                    left = self.routes.direct(fqcn)
                    why = f"nothing was sent over the direct link for {self._options.direct_idle_s:.3g} s"
                    effects += [] if left is None else self._settle(self.peers.leave(left, why, now), now)
                case _:
                    effects += self.send(step, now)
        return effects

    def _is_below(self, target: str) -> bool:
        return target.startswith(self._me.fqcn + ".") or self._me.fqcn == self._me.root

    def _refuse_origin(self, link: Link, message: Routed | Transit) -> list[Effect]:
        self.counts.refused += 1
        kind = untraced(message.of_kind) if isinstance(message, Transit) else int(message.kind)
        if kind in _NEVER_BOUNCED:
            return []
        text = f"{link.fqcn} may not speak for {message.origin[:255]}"
        error = Refused(by=self._me.fqcn, reason="not-allowed", text=text)
        return [Send(link.link, Bounce(self._me.fqcn, link.fqcn, message.id, kind, *to_wire(error)))]

    def _pass_on(self, came_by: int, message: Transit, now: float) -> list[Effect]:
        if message.hops >= self._options.hops_max:
            return self._bounce(came_by, message, NoRoute(
                target=message.target, at=self._me.fqcn, why=f"hops_max={self._options.hops_max} is reached"))
        link = self.routes.next_hop(message.target, came_by=came_by)
        if link is None:
            return self._bounce(came_by, message, self._no_route(message.target, now))
        self.counts.forwarded += 1
        self._interest.remember(link, message, came_by)
        header = passed_by(message.header, self._me.fqcn) if message.of_kind & TRACED else message.header
        # Not `replace`, which takes four times as long.
        return [Send(link, Transit(message.of_kind, message.hops + 1, message.origin, message.target, message.id, header,
                                   message.body))]

    def _no_route(self, target: str, now: float) -> NoRoute:
        """With what is known about the way that is missing: what is not below this cell is reached over its parent."""
        return NoRoute(target=target, at=self._me.fqcn, why="" if self._is_below(target) else self.peers.redial.why(now))

    def _way_back(self, origin: str, came_by: int | None) -> int | None:
        """The way it came if that still stands, else whatever way there is."""
        if came_by is not None and self.peers.link(came_by) is not None:
            return came_by
        return self.routes.next_hop(origin)

    def _bounce(self, came_by: int | None, message: Transit, error: ZdlError) -> list[Effect]:
        self.counts.bounced += 1
        kind = untraced(message.of_kind)
        if kind in _NEVER_BOUNCED or message.origin == self._me.fqcn:
            return []
        back = self._way_back(message.origin, came_by)
        if back is None:
            return []
        return [Send(back, Bounce(self._me.fqcn, message.origin, message.id, kind, *to_wire(error)))]

    def _bounce_own(self, message: Routed, error: ZdlError) -> list[Effect]:
        if message.kind in _NEVER_BOUNCED:
            return []
        return [Arrived(Bounce(self._me.fqcn, self._me.fqcn, message.id, int(message.kind), *to_wire(error)))]

    def _settle(self, effects: list[Effect], now: float) -> list[Effect]:
        """Brings the routes up to date with what the peers report, and tells whom it concerns."""
        more: list[Effect] = []
        for effect in effects:
            if isinstance(effect, DialFailed) and self.introductions is not None:
                steps = self.introductions.failed(effect.link, effect.error, now)
                if steps is not None:
                    more += self._take(steps, now)
                    continue
            if isinstance(effect, Unreachable):  # of a link that was left; there may be another one to its peer by now
                effect = replace(effect, spared=self._spared(effect.name, effect.beyond))
            more.append(effect)
            match effect:
                case PeerUp(link=link, fqcn=fqcn, is_parent=is_parent, role=role):
                    is_direct = role is Role.DIRECT
                    self.routes.add(fqcn, link, is_parent=is_parent, is_direct=is_direct)
                    if is_direct and self.introductions is not None:
                        self.introductions.up(fqcn, link, now)
                    if is_parent:
                        for message in self._pending.released(now):
                            more += self.send(message, now)
                case PeerDown():
                    more += self._lose(effect, now)
        return more

    def _lose(self, down: PeerDown, now: float) -> list[Effect]:
        self.routes.remove(down.fqcn, down.link)
        why, is_parent = down.why, down.is_parent
        if down.role is Role.DIRECT:
            if self.introductions is not None:
                self.introductions.down(down.fqcn, down.link, why, now, is_clean=down.is_clean)
            return [] if down.is_clean else [
                Unreachable(self._me.fqcn, down.fqcn, False, why, only=True, asked=self._returns.ids(down.link))]
        name = self._me.fqcn if is_parent else down.fqcn
        effects: list[Effect] = [Unreachable(self._me.fqcn, name, is_parent, why, spared=self._spared(name, is_parent),
                                             asked=self._returns.ids())]
        for origin, came_by, last_id in self._interest.lost(down.link):
            back = self._way_back(origin, came_by)
            if back is not None:
                effects.append(Send(back, Lost(self._me.fqcn, origin, last_id, name, is_parent, why)))
        return effects


def _may_speak(me: Self, link: Link, message: Routed | Transit) -> bool:
    """Whether a message of this origin may come over the link."""
    if link.role is Role.DIRECT:
        return message.origin == link.fqcn and not isinstance(message, Transit)
    if message.origin == me.fqcn and not isinstance(message, Transit):  # only over `SELF`
        return False
    is_above = link.is_parent or is_ancestor(link.fqcn, me.fqcn, root=me.root)
    return is_above or is_within(message.origin, link.fqcn)


def concerns(lost: Unreachable, target: str) -> bool:
    """Whether a loss cuts off this target."""
    return target == lost.name if lost.only else is_within(target, lost.name) != lost.beyond


def _told(me: str, message: Transit, effects: list[Effect]) -> PassedOn:
    """What became of a message for somebody else, as the effects on it show."""
    error: ZdlError | None = NoRoute(target=message.target, at=me)
    for effect in effects:
        sent = effect.message if isinstance(effect, Send) else None
        if isinstance(sent, Transit):
            error = None
        elif isinstance(sent, Bounce):
            error = from_wire(sent.code, dict(sent.facts), at=me)
    return PassedOn(message, error)
