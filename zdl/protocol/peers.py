"""Peers: whom this cell is linked to, on one lane.

A link is one connection. It has a number: odd where this side dialled, even where it accepted (the
shell numbers those). Dialled and accepted links go through the same few states::

    dialled   ──Dial, HELLO──▶ GREETING ──WELCOME──▶ UP ◀──any frame── STALLED
    accepted  ──HELLO, free──────────────────────────▶ UP ──silence──────▶ STALLED
    any state ──silence, broken, REJECT, GOODBYE, replaced──▶ gone (forgotten)

A lost parent is dialled again, for ever, with a growing pause. A name has one link: the same
incarnation on a new link replaces the old one; another incarnation replaces one that is STALLED, and
challenges one that is UP (`zdl.protocol.challenges`), so that a restarted cell gets its place back at once.

A **direct** link (of role DIRECT) is for its two cells alone. On the control lane it has been introduced
(`zdl.protocol.introductions`), has the name like any other, and gives way to a link of the tree; where two cells dial
each other at the same time, the link that the lesser name dialled stays. It can be left without losing a word::

    leave() ──LEAVE──▶  the other side says nothing more over it either  ──LEAVE──▶  LEAVE, is_done ──▶ gone

On the data lane nobody has introduced who dials directly: it is a **guest**, which has no name here. It is not in
the way of whoever has that name, and gets nothing but the answers to what it has asked over this very link. It may have
several links, told apart by the token in its HELLO; who has dialled them calls those **side links** (`zdl.protocol.sides`).
"""

from __future__ import annotations

from zdl.errors import PeerLost, Refused, TimedOut, ZdlError
from zdl.options import LinkOptions
from zdl.protocol.challenges import Challenges
from zdl.protocol.effects import Dial, DialFailed, Effect, Hang, PeerDown, PeerUp, Send, SideDown, SideUp, Told, Unreachable
from zdl.protocol.greeting import hello_of, is_rival, objection, regret, welcome_of
from zdl.protocol.leaving import leave, left
from zdl.protocol.link import Link, LinkTable, Self, State, accepted, believed
from zdl.protocol.messages import Below, Goodbye, Heartbeat, Hello, Leave, LinkMessage, Reject, Role, Welcome
from zdl.protocol.redial import CLOSED, SAID_GOODBYE, Redial
from zdl.protocol.silence import Silence


class Peers:
    """The links of one lane.

    Args:
        me: who we are.
        options: intervals and limits.
        watches: whether silence ends a link: true on the control lane, false on the data lane, where a
            chunk may take long on a slow line.

    Attributes:
        table: the links there are.
        redial: the tries to reach the parent, and why it is not there.
    """

    def __init__(self, me: Self, options: LinkOptions, *, watches: bool) -> None:
        self._me = me
        self._options = options
        self._watches = watches
        self.table = LinkTable()
        self._next_link = 1
        self._due: float | None = None
        self.redial = Redial(me.incarnation, options)
        self._challenges = Challenges(me.fqcn, options)
        self._silence = Silence(me.fqcn, options)
        self._is_closing = False

    # --- what is asked of us --------------------------------------------------------------------

    def up(self, fqcn: str) -> Link | None:
        """The link to this cell, if it is up."""
        return self.table.up(fqcn)

    def link(self, number: int) -> Link | None:
        """What is known about a link, if it exists."""
        return self.table.get(number)

    def links(self) -> tuple[Link, ...]:
        """All links, those still greeting included."""
        return tuple(self.table)

    @property
    def has_parent(self) -> bool:
        """Whether this cell was told to have a parent, connected or not."""
        return bool(self.redial.address)

    def deadline(self) -> float | None:
        """When `tick` is wanted next."""
        return self._due

    # --- commands -------------------------------------------------------------------------------

    def dial_parent(self, address: str, now: float) -> list[Effect]:
        """Connect to the parent, and again whenever it is lost. A link to a former address is dropped."""
        old = [link.link for link in self.table if link.is_parent]
        effects = [each for link in old for each in self.hang(link, "the parent has a new address", now)]
        self.redial.dialled(address, now)
        return effects + self._dial(address, now, is_parent=True, expected="")[1]

    def dial(self, address: str, *, expected: str, now: float, token: bytes = b"",
             is_side: bool = False) -> tuple[int, list[Effect]]:
        """Connect directly to a cell that must turn out to be `expected`, maybe beside a link that leads there; not repeated."""
        return self._dial(address, now, is_parent=False, expected=expected, token=token, is_side=is_side)

    def hang(self, number: int, why: str, now: float) -> list[Effect]:
        """End a link with a goodbye: a shell can but forget a link that it accepted, so the other side must be told."""
        known = self.table.get(number)
        if known is None:
            return []
        return [Send(number, Goodbye(self._me.fqcn, why)), Hang(number), *self._gone(known, why, now)]

    def leave(self, number: int, why: str, now: float) -> list[Effect]:
        """End a direct link without losing a word that is on its way; see above."""
        known = self.table.get(number)
        effects = [] if known is None else leave(self._me.fqcn, self.table, known, why, now)
        self._schedule(now)
        return effects

    def close(self, now: float) -> list[Effect]:
        """Say goodbye on every link, and dial no more."""
        self._is_closing = True
        self.redial.at = None
        effects: list[Effect] = []
        for link in self.table:
            if link.state is not State.GREETING:
                effects.append(Send(link.link, Goodbye(self._me.fqcn, CLOSED)))
            effects.append(Hang(link.link))
        effects += self._challenges.close()
        self.table.clear()
        self._due = None
        return effects

    # --- the world ------------------------------------------------------------------------------

    def heard(self, number: int, now: float) -> Link | None:
        """Any frame is a sign of life. Returns the link, or None if it is not welcomed."""
        link = self.table.get(number)
        if link is None or link.state is State.GREETING:
            return None
        link.heard_at = now
        if link.state is not State.UP:
            self._is_back(link, now)
        return link

    def said(self, number: int, now: float) -> None:
        """Something was sent on this link: no heartbeat is needed for a while."""
        link = self.table.get(number)
        if link is not None:
            link.said_at = now

    def broken(self, number: int, why: str, now: float) -> list[Effect]:
        """The connection has ended."""
        link = self.table.get(number)
        if link is None:
            self._challenges.withdrawn(number, self.table)
            return []
        if link.state is State.GREETING:
            cause = PeerLost(target=link.expected or link.address, lost=link.address, at=self._me.fqcn, why=why)
            return [Hang(number), *self._failed(link, cause, now)]
        return [Hang(number), *self._gone(link, why, now)]

    def receive(self, number: int, message: LinkMessage, now: float) -> list[Effect]:
        """A message that concerns the link itself."""
        self.heard(number, now)
        known = self.table.get(number)
        match message:
            case Hello():
                return self._hello(number, message, now)
            case Welcome():
                return self._welcome(number, message, now)
            case Reject():
                error = Refused(by=message.origin, reason=message.reason, text=message.text)
                return [] if known is None else self._refused(known, error, now)
            case Goodbye():
                return self.broken(number, f"{SAID_GOODBYE}: {message.why}", now)
            case Leave():
                effects = [] if known is None else left(self._me.fqcn, self.table, known, message, now)
                self._schedule(now)
                return effects
            case Below():
                known = self.table.get(number)
                return [] if known is None or not known.has_name else [Told(number, message)]
            case Heartbeat():
                is_asked = message.asks and known is not None and known.state is not State.GREETING
                return [Send(number, Heartbeat(self._me.fqcn))] if is_asked else []

    def tick(self, now: float) -> list[Effect]:
        """Beat, suspect, bury, give up, dial again: whatever is due."""
        effects = self._silence.returned(self.table)
        for incumbent, is_alive in self._challenges.due(self.table, now):
            effects += self._challenges.won(incumbent) if is_alive else self.hang(
                incumbent.link, "it was silent when another cell came with its name", now)
        if self.redial.is_due(now):
            effects += self.dial_parent(self.redial.address, now)
        for link in self.table:
            effects += self._look_at(link, now)
        self._due = None
        self._schedule(now)
        return effects

    def check(self) -> None:
        """All invariants; for simulation."""
        self.table.check()
        for link in self.table:
            is_asked = self._challenges.against(link.link) is not None
            assert link.state is not State.CHALLENGED or is_asked, "nobody challenges it"
        if self.redial.address and not self._is_closing:
            dialled = any(link.is_parent for link in self.table)
            assert dialled or self.redial.at is not None or self.redial.is_resting, "the parent is neither dialled nor waited for"

    # --- inside ---------------------------------------------------------------------------------

    def _dial(self, address: str, now: float, *, is_parent: bool, expected: str,
              token: bytes = b"", is_side: bool = False) -> tuple[int, list[Effect]]:
        number = self._next_link
        self._next_link += 2
        role = Role.CHILD if is_parent else Role.DIRECT
        self.table.add(Link(number, State.GREETING, address, is_parent, role, now, now, now, expected=expected, is_side=is_side))
        self._schedule(now)
        return number, [Dial(number, address), Send(number, hello_of(self._me, self._options, role, token))]

    def _look_at(self, link: Link, now: float) -> list[Effect]:
        """Whether a link is late, silent, or has to hear from us."""
        if link.state is State.GREETING:
            if now < link.since + self._options.hello_timeout_s:
                return []
            late = TimedOut(what="the welcome", address=link.address, waited_s=now - link.since)
            return [Hang(link.link), *self._failed(link, late, now)]
        if link.left_at is not None and now >= link.left_at + self._options.hello_timeout_s:
            return self.hang(link.link, "the end of the direct link was not confirmed", now)
        if not self._watches:
            return []
        if self._silence.is_too_long(link, now):
            return self.hang(link.link, f"silent for {now - link.heard_at:.1f} s", now)
        return self._silence.look_at(link, now)

    def _is_back(self, link: Link, now: float) -> None:
        """A peer that was silent, or is challenged, is heard; the next tick, at once, says so."""
        if link.state is State.STALLED:
            self._silence.ended(link)
        self._challenges.answered(link.link)
        link.state = State.UP
        self._due = now

    # --- greeting -------------------------------------------------------------------------------

    def _hello(self, number: int, hello: Hello, now: float) -> list[Effect]:
        known = self.table.get(number)
        is_guest = hello.role is Role.DIRECT and not self._watches
        old = None if is_guest else self.up(hello.origin)
        refusal = objection(self._me, self._options, self.table, hello, known=known, old=old, watches=self._watches)
        if refusal is not None:
            reject = Send(number, Reject(self._me.fqcn, *refusal))
            if known is None:
                return [reject, Hang(number)]
            reason, text = refusal
            return [reject, *self._refused(known, Refused(by=self._me.fqcn, reason=reason, text=text), now)]
        if known is not None:  # a doubled HELLO: say it again
            return [Send(number, welcome_of(self._me, self._options))]
        if old is None:
            return self._accept(number, hello, now, is_guest=is_guest)
        if is_rival(old, hello) and old.state is not State.STALLED:
            effects = self._challenges.challenge(old, number, hello, now)
            self._schedule(now)
            return effects
        return [*self._challenges.won(old),  # who was challenged is alive, and comes again by himself
                *self.hang(old.link, "it connected again", now), *self._accept(number, hello, now, is_guest=False)]

    def _accept(self, number: int, hello: Hello, now: float, *, is_guest: bool) -> list[Effect]:
        """The link is welcome."""
        link = accepted(number, hello, now, is_guest=is_guest)
        self.table.add(link)
        old = self.table.name(link)
        self._schedule(now)
        welcome = Send(number, welcome_of(self._me, self._options))
        if not is_guest:
            return [welcome, PeerUp(number, hello.origin, False, hello.role, hello.data_addresses)]
        return [welcome] if old is None else [Send(old, Goodbye(self._me.fqcn, "it connected again")), Hang(old), welcome]

    def _welcome(self, number: int, welcome: Welcome, now: float) -> list[Effect]:
        link = self.table.get(number)
        if link is None or link.state is not State.GREETING:
            return []
        old = None if link.is_side else self.up(welcome.origin)
        wrong = regret(self._me.fqcn, link, old, welcome)
        if wrong is not None:
            return [Send(number, Goodbye(self._me.fqcn, wrong.reason)), Hang(number), *self._failed(link, wrong, now)]
        effects = [] if old is None else self.hang(old.link, "another link took its place", now)
        link.state, link.heard_at = State.UP, now
        link.fqcn, link.incarnation = welcome.origin, welcome.incarnation
        link.heartbeat_s = believed(welcome.heartbeat_s)
        self.table.name(link)
        if link.is_parent:
            self.redial.succeeded()
        self._schedule(now)
        up = PeerUp(number, welcome.origin, link.is_parent, link.role, welcome.data_addresses)
        return [*effects, SideUp(number, welcome.origin) if link.is_side else up]

    # --- the end --------------------------------------------------------------------------------

    def _refused(self, link: Link, error: Refused, now: float) -> list[Effect]:
        """One side does not want the link."""
        if link.state is State.GREETING:
            return [Hang(link.link), *self._failed(link, error, now)]
        return [Hang(link.link), *self._gone(link, str(error), now)]

    def _failed(self, link: Link, error: ZdlError, now: float) -> list[Effect]:
        """A link that never came up."""
        self.table.remove(link)
        if link.is_parent:
            self._plan_redial(error, now)
        return [DialFailed(link.link, link.address, error)]

    def _gone(self, link: Link, why: str, now: float) -> list[Effect]:
        """A link that was up, or is replaced."""
        self.table.remove(link)
        if link.is_parent:
            self._plan_redial(PeerLost(target=link.fqcn, lost=link.fqcn, at=self._me.fqcn, why=why), now)
        if link.state is State.GREETING:
            return []
        if not link.has_name:  # what was on its way may be lost, and nobody else is concerned
            return [SideDown(link.link, link.fqcn, why) if link.is_side else Unreachable(
                self._me.fqcn, link.fqcn, False, why, only=True)]
        down = PeerDown(link.link, link.fqcn, link.is_parent, why, link.role)
        challenge = self._challenges.end(link.link)
        return [down] if challenge is None else [
            down, *self._accept(challenge.newcomer, challenge.hello, now, is_guest=False)]

    def _plan_redial(self, error: ZdlError, now: float) -> None:
        if not self._is_closing:
            self.redial.failed(error, now)
            self._schedule(now)

    def _schedule(self, now: float) -> None:
        """Sets `_due`: a redial, a late welcome, a challenge, or the next look at the heartbeats.

        Only `tick` moves it away from now: links that come and go all the time must not put off the heartbeats.
        """
        times = (self._due, self.redial.at, self._challenges.deadline(),
                 self.table.deadline(self._options, now, watches=self._watches))
        self._due = min((each for each in times if each is not None), default=None)
