"""Shell: decode, feed, act: what one lane does with the messages of its sockets and the effects of its machines.

The **desk** is what differs between lanes: it feeds the machines that stand behind the switch, and
performs the effects that are not about links. Which thread does all this, and when, is the loop's business
(`zdl.transport.loop`).

Threads: one at a time, whoever holds the loop's lock.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Protocol

from zdl.errors import DecodeError, NoRoute, TooLarge, ZdlError
from zdl.protocol.bundle import bundled, is_bundle, unbundled
from zdl.protocol.decode import decode
from zdl.protocol.effects import SELF, Dial, Effect, Hang, Post, Send
from zdl.protocol.encode import encode
from zdl.protocol.frames import BUNDLE_BYTES_MAX, KIND_AT
from zdl.protocol.messages import Kind, Message, Part, Transit
from zdl.protocol.switch import Switch
from zdl.transport.complaints import Complaints
from zdl.transport.lead import FOREVER
from zdl.transport.links import Broken, Incoming, Links
from zdl.transport.traffic import TrafficBook

_LOG = logging.getLogger("zdl.transport")
_ROUTED_FROM = int(Kind.REQUEST)
# So many wait for one link, and they are sent: enough to share the cost of a message of libzmq's, few enough that both sides work
# at once. With 64 requests in flight: 30,000 to 40,000 requests/s with 16, which splits what came together, 40,000 to 50,000 with
# 32; with 64 both sides may come to take turns, each idle while the other works.
OUTBOX_MAX = 32


class Desk(Protocol):
    """What stands behind the switch of one lane."""

    def takes(self, header: bytes) -> bool:
        """Whether the desk wants to receive the body of this message into place itself."""

    def incoming(self, message: Incoming | None) -> None:
        """The message that is being received, for as long as its effects are performed."""

    def perform(self, effect: Effect, now: float) -> Iterable[Effect]:
        """An effect that is not about links."""

    def tick(self, now: float) -> Iterable[Effect]:
        """Time passed."""

    def deadline(self) -> float | None:
        """When `tick` is wanted next."""

    def is_pipelined(self) -> bool:
        """Whether so much is under way that more is about to be sent, and what is small had better go together."""


class Shell:
    """The shell around the machines of one lane.

    Small messages wait in the **outbox** until `flush`, and what waits for one link goes as one (`zdl.protocol.bundle`). Who
    holds the loop's lock calls that before he sleeps, or lets go of it.

    Attributes:
        outbox: by link, the headers of what waits, and the messages they are of, in order.
        is_holding: whether small messages wait; set by who holds the loop's lock, and true between two of them.

    Args:
        switch: the brain of its links.
        links: its sockets.
        later: has a connection that was found broken reported when all effects are performed, and all that came over it is
            heard.
    """

    def __init__(self, switch: Switch, links: Links, later: Callable[[Broken], None]) -> None:
        self._switch = switch
        self._links = links
        self._later = later
        self._me = switch.fqcn
        self.traffic = TrafficBook(self._name_of)
        self.undecoded = 0
        self._complaints = Complaints()
        self.desk: Desk | None = None
        self.outbox: dict[int, list[tuple[Part, Message | Transit]]] = {}
        self.is_holding = True

    def __repr__(self) -> str:
        return f"<Shell of {self._me}: {self._links!r}, {self.undecoded} undecodable>"

    def act(self, effects: Iterable[Effect], now: float) -> None:
        """Perform effects in order."""
        assert self.desk is not None
        for effect in effects:
            if type(effect) is Send:
                self._send(effect, now)
            elif type(effect) is Post:
                self.act(self._switch.send(effect.message, now), now)
            elif type(effect) is Dial:
                problem = self._links.dial(effect.link, effect.address)
                if problem is not None:
                    self._later(problem)
            elif type(effect) is Hang:
                self._flush(effect.link, now)
                self._links.hang(effect.link)
                self._ended(effect.link)
            elif more := self.desk.perform(effect, now):
                self.act(more, now)

    def flush(self) -> None:
        """Send what waits."""
        while self.outbox:
            self._flush(next(iter(self.outbox)), time.monotonic())

    def take(self, incoming: Incoming, guard: Callable[..., None]) -> None:
        """What has come is received: a message, or each of a bundle; `guard` calls what it is given and lets no error out."""
        if not is_bundle(incoming.header):
            guard(self.receive, incoming)
            return
        now, link = time.monotonic(), incoming.link
        try:
            headers = unbundled(incoming.header, incoming.rest())
        except DecodeError as error:
            self._complain(link, error, now)
            return
        self.traffic.count_in(link, (), count=len(headers))
        receive = self._receive_small
        for header in headers:
            guard(receive, link, header, now)

    def receive(self, incoming: Incoming) -> None:
        """A message has come: its frames to a message, the message to the machines."""
        assert self.desk is not None
        now = time.monotonic()
        header, link = incoming.header, incoming.link
        is_taken = self.desk.takes(header)
        body = () if is_taken else incoming.rest()
        try:
            message = decode(header, body, me=self._me)
        except DecodeError as error:
            incoming.discard()
            self._complain(link, error, now)
            return
        if is_taken and isinstance(message, Transit):
            message = replace(message, body=incoming.rest())
            is_taken = False
            body = message.body
        self.traffic.count_in(link, body)
        if not is_taken:
            self.act(self._switch.receive(link, message, now), now)
            return
        self.desk.incoming(incoming)
        try:
            self.act(self._switch.receive(link, message, now), now)
        finally:
            self.desk.incoming(None)
            incoming.discard()

    def broken(self, broken: Broken) -> None:
        """A connection has ended."""
        now = time.monotonic()
        lost = NoRoute(target="", at=self._me, why=broken.why)
        self.act(self._switch.broken(broken.link, broken.why, now), now)
        for _, message in self.outbox.pop(broken.link, ()):
            self._undelivered(broken.link, message, lost, now)
        self._links.hang(broken.link)  # the switch never knew a link on which nobody said HELLO
        self._ended(broken.link)

    def tick(self) -> None:
        """Time has passed."""
        assert self.desk is not None
        now = time.monotonic()
        self.act(self._switch.tick(now), now)
        self.act(self.desk.tick(now), now)
        if self._complaints.left_out_count:
            self._tell_left_out(now)

    def deadline(self) -> float:
        """When `tick` is wanted next."""
        assert self.desk is not None
        one, other = self._switch.deadline(), self.desk.deadline()
        if one is None or (other is not None and other < one):
            one = other
        return FOREVER if one is None else one

    # --- inside ---------------------------------------------------------------------------------

    def _receive_small(self, link: int, header: bytes, now: float) -> None:
        """A message of a bundle: there is nothing of it but its header."""
        try:
            message = decode(header, (), me=self._me)
        except DecodeError as error:
            self._complain(link, error, now)
            return
        self.act(self._switch.receive(link, message, now), now)

    def _send(self, effect: Send, now: float) -> None:
        try:
            parts = encode(effect.message)
        except TooLarge as error:
            self.act(self._switch.undelivered(effect.link, effect.message, error), now)
            return
        if effect.link == SELF:
            header = parts[0]
            assert isinstance(header, bytes)
            self.act(self._switch.receive(SELF, decode(header, tuple(parts[1:]), me=self._me), now), now)
            return
        if self.is_holding and len(parts) == 1 and parts[0][KIND_AT] >= _ROUTED_FROM and len(parts[0]) <= BUNDLE_BYTES_MAX:
            waiting = self.outbox.get(effect.link)
            if waiting is None:
                self.outbox[effect.link] = [(parts[0], effect.message)]
            else:
                waiting.append((parts[0], effect.message))
                if len(waiting) == OUTBOX_MAX:
                    self._flush(effect.link, now)
            return
        if effect.link in self.outbox:  # what was said before comes before
            self._flush(effect.link, now)
        self._hand_over(effect.link, [(parts[0], effect.message)], parts, now)

    def _flush(self, link: int, now: float) -> None:
        waiting = self.outbox.pop(link, None)
        if waiting is not None:
            headers = [header for header, _ in waiting]
            self._hand_over(link, waiting, headers if len(headers) == 1 else bundled(headers), now)

    def _hand_over(self, link: int, messages: list[tuple[Part, Message | Transit]], parts: list[Part], now: float) -> None:
        """To libzmq; messages that cannot leave come back to their origins."""
        problem = self._links.send(link, parts)
        if problem is None:
            self._switch.peers.said(link, now)
            self.traffic.count_out(link, parts if len(messages) == 1 else (), count=len(messages))
            return
        for _, message in messages:
            self._undelivered(link, message, problem, now)
        if isinstance(problem, NoRoute):  # last: where no more work is taken, the messages have come back all the same
            self._later(Broken(link, problem.why))  # when what had come over it before has been heard

    def _undelivered(self, link: int, message: Message | Transit, problem: ZdlError, now: float) -> None:
        if isinstance(problem, NoRoute):
            problem = replace(problem, target=getattr(message, "target", ""))
        self.act(self._switch.undelivered(link, message, problem), now)

    def _ended(self, link: int) -> None:
        """There is no such link any more."""
        self.traffic.fold(link)
        self._complaints.ended(link)

    def _complain(self, link: int, error: DecodeError, now: float) -> None:
        """A message was none."""
        self.undecoded += 1
        if self._complaints.is_worth(link, now):
            _LOG.warning("! %s: undecodable message from=%s link=%d why=%s", self._me, self._name_of(link) or "nobody known",
                         link, error)
        else:
            self._tell_left_out(now)

    def _tell_left_out(self, now: float) -> None:
        count = self._complaints.left_out(now)
        if count:
            _LOG.warning("! %s: undecodable messages, not told one by one: %d more, %d in all", self._me, count, self.undecoded)

    def _name_of(self, link: int) -> str:
        known = self._switch.peers.link(link)
        return known.fqcn if known is not None else ""
