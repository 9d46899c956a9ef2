"""The network of the simulation: a virtual clock, connections, and what can befall them and their messages."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

from simbooks import CONTROL, DATA, KEEPALIVE_S, LANES, NEVER, Life, Noise, Wire

from zdl.protocol.messages import Kind, Part


class Network:
    """The clock, the connections, and the faults of both.

    Accepted links behave as those of a ROUTER where `is_router_like` says so: hanging one up only forgets it, and the
    other side learns of it from the answer to its next message.

    Args:
        seed: of everything that is drawn.
    """

    latency_s = (0.0005, 0.004)

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.story: list[tuple[float, str, str, object]] = []
        self.noise = Noise()
        self.is_router_like = False
        self.partition: frozenset[str] = frozenset()
        self.is_blurred = False
        self.hurt_at = NEVER
        self.harmed_at = 0.0
        self.listening: dict[str, Life] = {}
        self._wires: list[Wire] = []
        self._queue: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._count = 0

    # --- the clock --------------------------------------------------------------------------------

    def at(self, when: float, do: Callable[..., None], *arguments: object) -> None:
        """Have something happen at a time."""
        self._count += 1
        heapq.heappush(self._queue, (when, self._count, do, arguments))

    def run_until(self, until: float) -> None:
        """Let time pass."""
        queue = self._queue
        while queue and queue[0][0] <= until:
            self.now, _, do, arguments = heapq.heappop(queue)
            do(*arguments)
        self.now = max(self.now, until)

    def tell(self, who: str, mark: str, what: object) -> None:
        """One line of the story; it is written out only when somebody reads it."""
        self.story.append((self.now, who, mark, what))

    def open_wires(self) -> list[Wire]:
        """All connections that there are, the oldest first."""
        self._wires = [wire for wire in self._wires if wire.is_open]
        return self._wires

    # --- the network ------------------------------------------------------------------------------

    def dial(self, cell: Life, lane: int, link: int, address: str) -> None:
        """A connection to whoever listens there."""
        peer = self.listening.get(address)
        if peer is not None and (cell.fqcn in self.partition) != (peer.fqcn in self.partition):
            peer = None
        wire = Wire(lane, (cell, peer), [link, None])
        cell.wires[lane][link] = wire
        cell.all_wires.append(wire)
        self._wires.append(wire)
        if peer is None:
            self.at(self.now + 0.01 + self.rng.random() * 0.1, self.cut, wire, f"nobody answers at {address}")
        else:
            peer.all_wires.append(wire)

    def hang(self, cell: Life, lane: int, link: int) -> None:
        """One end of a connection goes away, after what was sent on it."""
        wire = cell.wires[lane].pop(link, None)
        if wire is None:
            return
        side = 0 if wire.ends[0] is cell else 1
        if side == 1 and self.is_router_like and cell.is_alive:
            wire.links[1] = None
            return
        wire.hung_by = side
        if wire.is_open and not wire.is_mute and wire.held is None:
            self.at(max(self.now + self.latency_s[0], wire.clear_at[1 - side]), self.hung, wire)

    def hung(self, wire: Wire) -> None:
        """The other end notices that a connection was closed."""
        if wire.is_open:
            wire.is_open = False
            self._tell_broken(wire, "the connection was closed")

    def _tell_broken(self, wire: Wire, why: str) -> None:
        for end, link in zip(wire.ends, wire.links, strict=True):
            if end is not None and link is not None:
                end.broken(wire.lane, link, why)

    def transmit(self, wire: Wire, to: int, header: bytes, body: tuple[Part, ...]) -> None:
        """A message sets out; accidents happen here."""
        if not wire.is_open or wire.is_mute or wire.ends[to] is None:
            return
        base, spread = self.latency_s
        when = self.now + base + self.rng.random() * spread
        if self.now < self.noise.until and self.noise.lanes[wire.lane]:
            disturbed = self._disturb(wire, to, header, body, when)
            if disturbed is None:
                return
            when, body = disturbed
        if when < wire.clear_at[to]:
            when = wire.clear_at[to]
        wire.clear_at[to] = when
        self.at(when, self.deliver, wire, to, header, body)

    def _disturb(self, wire: Wire, to: int, header: bytes, body: tuple[Part, ...],
                 when: float) -> tuple[float, tuple[Part, ...]] | None:
        """What the noise does to a message: when it comes and with which body, or None: not in the usual way."""
        noise, draw = self.noise, self.rng.random()
        if draw < noise.double:
            self.tell("network", "doubles", header)
            self.at(when + self.rng.random() * 0.1, self.deliver, wire, to, header, body)
            return when, body
        draw -= noise.double
        if draw < noise.corrupt:
            if header[2] == Kind.CHUNK:
                data = bytearray(body[0])
                if data:
                    data[self.rng.randrange(len(data))] ^= 1 << self.rng.randrange(8)
                    self.tell("network", "corrupts", header)
                    body = (bytes(data), *body[1:])
            return when, body
        draw -= noise.corrupt
        # A link that stands loses nothing. On the data lane, where silence means nothing, a goodbye lost all the same
        # would leave one end with a link that the other has forgotten, until it has something to say.
        is_kept = wire.lane == DATA and header[2] == Kind.GOODBYE
        if draw >= noise.lose + noise.delay + noise.reorder or is_kept:
            return when, body
        self.hurt(wire)
        self.is_blurred |= wire.lane == CONTROL
        if draw < noise.lose:
            self.tell("network", "loses", header)
            return None
        if draw < noise.lose + noise.delay:
            self.tell("network", "delays", header)
            return when + self.rng.random() * 0.3, body
        self.tell("network", "reorders", header)
        self.at(when + self.rng.random() * 0.05, self.deliver, wire, to, header, body)
        return None

    def deliver(self, wire: Wire, to: int, header: bytes, body: tuple[Part, ...]) -> None:
        """A message is there, if the connection still is."""
        cell = wire.ends[to]
        if not wire.is_open or wire.is_mute or cell is None or not cell.is_alive:
            return
        if wire.held is not None:
            wire.held.append((to, header, body))
            return
        link = wire.links[to]
        if link is None:  # the first frame that a ROUTER sees of a connection, or the first after it was forgotten
            link = wire.links[to] = cell.next_accepted[wire.lane]
            cell.next_accepted[wire.lane] += 2
            cell.wires[wire.lane][link] = wire
        elif cell.wires[wire.lane].get(link) is not wire:
            return
        self.tell(cell.fqcn, "<", (LANES[wire.lane], wire.ends[1 - to], header, body))
        cell.receive(wire.lane, link, header, body)

    def hurt(self, wire: Wire) -> None:
        """Something has happened to a connection that may cost a message."""
        wire.is_hurt = True
        self.hurt_at = min(self.hurt_at, self.now)
        self.harmed_at = self.now

    def cut(self, wire: Wire, why: str = "the connection was cut") -> None:
        """A connection breaks, and both ends notice."""
        if not wire.is_open:
            return
        if wire.ends[1] is not None and not wire.is_mute:
            self.hurt(wire)
        wire.is_open = False
        self._tell_broken(wire, why)

    def mute(self, wire: Wire) -> None:
        """A connection carries nothing any more, and nobody is told; on the data lane the transport notices in time."""
        if wire.is_open and not wire.is_mute:
            self.hurt(wire)
            wire.is_mute = True
            if wire.lane == DATA:
                self.at(self.now + KEEPALIVE_S, self.cut, wire, "nothing is acknowledged")

    def part(self, names: frozenset[str]) -> None:
        """These cells and the others hear nothing of each other; what they say waits on the way."""
        self.partition = names
        self.hurt_at = min(self.hurt_at, self.now)  # also where there is no link yet: none comes up
        for wire in self.open_wires():
            one, other = wire.ends
            if other is not None and wire.held is None and (one.fqcn in names) != (other.fqcn in names):
                self.hurt(wire)
                self.is_blurred |= wire.lane == CONTROL
                wire.held = []

    def heal(self, *, is_broken: bool) -> None:
        """The partition ends; what was said in it arrives now, or the connections are broken."""
        self.partition = frozenset()
        for wire in self.open_wires():
            held, wire.held = wire.held, None
            if held is None:
                continue
            if is_broken:
                self.cut(wire, "the connection timed out")
                continue
            for to, header, body in held:
                self.transmit(wire, to, header, body)
            if wire.hung_by is not None:
                self.at(max(self.now, *wire.clear_at), self.hung, wire)
