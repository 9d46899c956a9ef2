"""The shell of a simulated cell: it performs effects in list order, as ``zdl.transport`` does for real cells.

Every message really is encoded and decoded, all machines are checked after every step, and what must never happen is
asserted where it would: a chunk exposed that is not intact, an offer served after its release.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from blake3 import blake3
from simbooks import CONTROL, DATA, LANES, NEVER, Lending, Pull, SimOptions, Transaction, Wire
from simwatch import Watch

from zdl.errors import OriginFailed, PeerLost, SourceChanged
from zdl.fqcn import is_within
from zdl.protocol import effects as asked
from zdl.protocol.calls import Calls, Serving
from zdl.protocol.decode import decode
from zdl.protocol.dialling import Chosen, Dialling, Try
from zdl.protocol.effects import SELF, Effect, Outcome
from zdl.protocol.encode import encode
from zdl.protocol.frames import DIGEST_BYTES, QUICK_DIGEST_BYTES
from zdl.protocol.intakes import Intakes
from zdl.protocol.link import Self
from zdl.protocol.messages import (
    Ask,
    Bounce,
    Cancel,
    Chunk,
    Confirm,
    Confirmed,
    Denial,
    Drop,
    Keep,
    Kind,
    Message,
    Notice,
    Part,
    Progress,
    Reply,
    Request,
    Role,
    Routed,
    Transit,
    Verify,
    Withdrawn,
)
from zdl.protocol.offers import Offers
from zdl.protocol.pulls import Pulls
from zdl.protocol.pushes import Pushes
from zdl.protocol.pushing import End, Ended as EndedMessage, Halt, Items, Open, Taken
from zdl.protocol.subtree import Subtree
from zdl.protocol.switch import Switch, concerns

Ended = asked.CallSettled | asked.PullSettled | asked.TransactionSettled
Taking = asked.IntakeOpened | asked.IntakeArrived | asked.IntakeComplete | asked.IntakeSettled


def digest_of(verify: Verify, data: bytes) -> bytes:
    """The digest of a chunk; the quick one is a short one here."""
    length = {Verify.NONE: 0, Verify.BLAKE3: DIGEST_BYTES, Verify.XXH3: QUICK_DIGEST_BYTES}[verify]
    return blake3(data).digest(length) if length else b""


class Surroundings(Protocol):
    """What a cell needs of the world around it."""

    options: SimOptions
    now: float
    is_thorough: bool
    starts: Counter[str]
    lendings: dict[bytes, Lending]
    transactions: dict[bytes, Transaction]
    noticed_at: list[float]
    watch: Watch

    def draw_bytes(self, length: int) -> bytes: ...
    def draw_id(self) -> int: ...
    def direct_addresses(self, fqcn: str) -> tuple[str, ...]: ...
    def reading_s(self) -> float: ...
    def storing_s(self) -> float: ...
    def at(self, when: float, do: Callable[..., None], *arguments: object) -> None: ...
    def tell(self, who: str, mark: str, what: object) -> None: ...
    def dial(self, cell: SimCell, lane: int, link: int, address: str) -> None: ...
    def hang(self, cell: SimCell, lane: int, link: int) -> None: ...
    def transmit(self, wire: Wire, to: int, header: bytes, body: tuple[Part, ...]) -> None: ...
    def handle(self, cell: SimCell, message: Request | Notice) -> None: ...
    def progressed(self, cell: SimCell, effect: asked.CallProgressed) -> None: ...
    def settled(self, cell: SimCell, effect: Ended) -> None: ...
    def forgotten(self, receiver: SimCell, number: int) -> None: ...
    def must_hold(self, receiver: str, transaction: Transaction) -> None: ...
    def had(self, effect: asked.OfferHad) -> None: ...
    def pushed(self, cell: SimCell, effect: asked.PushSettled) -> None: ...
    def take_in(self, cell: SimCell, effect: Taking) -> None: ...
    def note_ends(self, cell: SimCell) -> None: ...


class SimCell:
    """One life of one cell: its machines, and the shell around them."""

    def __init__(self, world: Surroundings, fqcn: str) -> None:
        self.world = world
        self.fqcn = fqcn
        self.options = options = world.options
        world.starts[fqcn] += 1
        self.control_address = f"control:{fqcn}"
        self.data_address = f"data:{fqcn}:{world.starts[fqcn]}"
        self.direct_addresses = world.direct_addresses(fqcn)
        secret = f"{fqcn} {world.starts[fqcn]}".encode()
        self.me = Self(fqcn, world.draw_bytes(16), (self.data_address,), addresses=self.direct_addresses, secret=secret)
        self.switches = (Switch(self.me, options.links, watches=True), Switch(self.me, options.links, watches=False))
        self.calls = Calls(fqcn, world.draw_id(), options.calls)
        self.serving = Serving(fqcn, options.calls)
        self.subtree = Subtree(fqcn, options.links)
        self.offers = Offers(fqcn, options.offers)
        first_id = world.draw_id()
        self.pulls = Pulls(fqcn, first_id, options.pulls)
        self.dialling = Dialling(options.pulls.direct_timeout_s)
        self.pushes = Pushes(fqcn, first_id + 50, options.streams)
        self.intakes = Intakes(fqcn, options.streams)
        self.machines = ((self.control, self.calls, self.subtree),
                         (self.data, self.offers, self.pulls, self.dialling, self.pushes, self.intakes))
        self.is_alive = True
        self.wires: tuple[dict[int, Wire], dict[int, Wire]] = ({}, {})
        self.all_wires: list[Wire] = []
        self.next_accepted = [2, 2]
        self.handlers: dict[tuple[str, int], float] = {}
        self.lent: dict[bytes, Lending] = {}
        self.fetching: dict[int, Pull] = {}
        self.dialled: dict[int, str] = {}
        self.parent_data_address = ""
        self.hanging = ""
        self.wake_at = [NEVER, NEVER]

    @property
    def listens_at(self) -> tuple[str, ...]:
        """All addresses of this cell."""
        return self.control_address, self.data_address, *self.direct_addresses

    @property
    def control(self) -> Switch:
        """The switch of the control lane."""
        return self.switches[CONTROL]

    @property
    def data(self) -> Switch:
        """The switch of the data lane."""
        return self.switches[DATA]

    # --- what happens to it -----------------------------------------------------------------------

    def receive(self, lane: int, link: int, header: bytes, body: tuple[Part, ...]) -> None:
        """A message came over a link."""
        message = decode(header, body, me=self.fqcn)
        self.act(lane, self.switches[lane].receive(link, message, self.world.now))

    def broken(self, lane: int, link: int, why: str) -> None:
        """A connection has ended."""
        if self.is_alive and self.wires[lane].pop(link, None) is not None:
            self.world.tell(self.fqcn, "broken", (LANES[lane], link, why))
            self.act(lane, self.switches[lane].broken(link, why, self.world.now))

    def act(self, lane: int, effects: Iterable[Effect]) -> None:
        """Perform what a machine asks for, check all that may have changed, and see when to wake."""
        self.perform(lane, effects)
        if lane == CONTROL:
            self.control.check()
            self.calls.check()
            self.serving.check()
            self.subtree.check()
        if lane == DATA or self.world.is_thorough:
            self.data.check()
            self.offers.check()
            self.pulls.check()
            self.check_windows()
            self.pushes.check()
            self.intakes.check()
            self.world.note_ends(self)
        self.rest()

    def check_windows(self) -> None:
        """D21: no more is under way than the largest window allows."""
        most = self.options.pulls.window_bytes_max
        assert all(each.window.in_flight <= most for each in self.pulls._pulls.values()), "more is asked for than its window allows"

    def rest(self) -> None:
        """Sleep until the next deadline of each lane."""
        if not self.is_alive:
            return
        world = self.world
        for lane in (CONTROL, DATA):
            due = NEVER
            for machine in self.machines[lane]:
                when = machine.deadline()
                if when is not None and when < due:
                    due = when
            if due < self.wake_at[lane]:
                self.wake_at[lane] = due
                world.at(max(due, world.now), self.wake, lane)

    def wake(self, lane: int) -> None:
        """A deadline has come."""
        now = self.world.now
        if not self.is_alive or now < self.wake_at[lane]:
            return
        self.wake_at[lane] = NEVER
        if lane == CONTROL:
            self.perform(lane, self.control.tick(now))
            self.perform(lane, self.calls.tick(now))
            self.perform(lane, self.subtree.tick(now))
        else:
            self.perform(lane, self.data.tick(now))
            self.perform(lane, self.offers.tick(now))
            self.perform(lane, self.pulls.tick(now))
            self.perform(lane, self.pushes.tick(now))
            self.perform(lane, self.intakes.tick(now))
            self.take_ways(self.dialling.tick(now))
        for machine in self.machines[lane]:
            when = machine.deadline()
            is_right = when is None or when > now
            assert is_right, f"{self.fqcn}: {type(machine).__name__} wants a tick at {when}, it is {now}"
        self.act(lane, ())

    def perform(self, lane: int, effects: Iterable[Effect]) -> None:
        """Effects in list order."""
        for effect in effects:
            kind = type(effect)
            if kind is asked.Send:
                self._send(lane, effect.link, effect.message)  # type: ignore[union-attr]
            else:
                _PERFORM[kind](self, lane, effect)

    # --- effects ----------------------------------------------------------------------------------

    def _send(self, lane: int, link: int, message: Message | Transit) -> None:
        world = self.world
        frames = encode(message)
        header, body = frames[0], tuple(frames[1:])
        assert isinstance(header, bytes)
        switch = self.switches[lane]
        if link == SELF:
            own = decode(header, body, me=self.fqcn)
            assert not isinstance(own, Transit)
            self.perform(lane, switch.receive(SELF, own, world.now))
            return
        wire = self.wires[lane].get(link)
        if wire is None:
            lost = PeerLost(target=getattr(message, "target", ""), lost="", at=self.fqcn, why="the link is closed")
            self.perform(lane, switch.undelivered(link, message, lost))
            return
        switch.peers.said(link, world.now)
        world.transmit(wire, 1 if wire.ends[0] is self else 0, header, body)

    def _dial(self, lane: int, effect: asked.Dial) -> None:
        self.world.dial(self, lane, effect.link, effect.address)

    def _hang(self, lane: int, effect: asked.Hang) -> None:
        self.world.hang(self, lane, effect.link)

    def _post(self, lane: int, effect: asked.Post) -> None:
        self.post(effect.message)

    def post(self, message: Routed) -> None:
        """Hand a message of ours to the switch of its lane."""
        if isinstance(message, Ask):
            self.world.watch.asks(self, message, self.options.pulls)
        lane = DATA if message.kind >= Kind.ASK else CONTROL
        self.perform(lane, self.switches[lane].send(message, self.world.now))

    def _arrived(self, lane: int, effect: asked.Arrived) -> None:
        message, now = effect.message, self.world.now
        assert message.target == self.fqcn
        match message:
            case Chunk():
                self._chunk(message)
            case Reply() | Progress():
                self.perform(lane, self.calls.receive(message, now))
            case Request() | Notice() | Cancel():
                self.perform(lane, self.serving.receive(message, now))
            case Ask() | Confirm() | Keep() | Drop():
                effects = self.offers.receive(message, now)
                self.world.note_ends(self)
                self.world.watch.hears(self, message, effects)
                self.perform(lane, effects)
            case Denial() | Withdrawn() | Confirmed():
                self.perform(lane, self.pulls.receive(message, now))
            case Bounce() if lane == CONTROL:
                self.perform(lane, self.calls.receive(message, now))
            case Taken() | EndedMessage():
                self.perform(lane, self.pushes.receive(message, now))
            case Open() | Items() | End() | Halt():
                self.perform(lane, self.intakes.receive(message, now))
            case Bounce():
                self.world.watch.doubts(self, [message.id])
                self.perform(lane, self.offers.receive(message, now))
                self.perform(lane, self.pulls.receive(message, now))
                self.perform(lane, self.pushes.receive(message, now))
                self.perform(lane, self.intakes.receive(message, now))

    def _unreachable(self, lane: int, effect: asked.Unreachable) -> None:
        now = self.world.now
        self.world.tell(self.fqcn, LANES[lane], effect)
        if lane == CONTROL:
            self.perform(lane, self.calls.receive(effect, now))
            self.perform(lane, self.serving.receive_loss(effect))
        self.perform(DATA, self.offers.receive(effect, now))
        for origin in self._origins():
            if concerns(effect, origin) and self.data.routes.is_direct(origin):
                self.pulls.rerouting.suspect(origin, now)
        for origin in self._cut_off(effect):
            lost = asked.Unreachable(effect.at, origin, False, effect.why)
            for other in self._origins():  # those below it are lost with it
                if concerns(lost, other):
                    self.world.watch.doubts(self, self._pulls_from(other))
            self.perform(DATA, self.pulls.receive(lost, now))
        self.perform(DATA, self.pushes.receive(effect, now))
        self.perform(DATA, self.intakes.receive(effect, now))

    def _origins(self) -> list[str]:
        return sorted({each.source.origin for each in self.fetching.values() if not each.is_settled} - {self.fqcn})

    def _pulls_from(self, origin: str) -> list[int]:
        return [number for number, each in self.fetching.items() if each.source.origin == origin]

    def _led_by(self, fqcn: str, is_parent: bool) -> list[str]:
        """The origins of pulls whose chunks came over a link that is gone now."""
        return [each for each in self._origins() if not self.data.routes.is_direct(each) and (
            not is_within(each, self.fqcn) if is_parent else is_within(each, fqcn))]

    def _pushed_over(self, fqcn: str, is_parent: bool) -> list[str]:
        """The receivers of pushes whose items went over a link that is gone now."""
        return [each for each in sorted(self.pushes.targets() - {self.fqcn}) if (
            not is_within(each, self.fqcn) if is_parent else is_within(each, fqcn))]

    def _cut_off(self, lost: asked.Unreachable) -> list[str]:
        """The origins of pulls that a loss cuts off: not those linked directly, but for a silence of their own."""
        is_own = lost.at == self.fqcn and not lost.beyond
        return [each for each in self._origins() if concerns(lost, each) and (
            not self.data.routes.is_direct(each) or (is_own and each == lost.name))]

    def _peer_up(self, lane: int, effect: asked.PeerUp) -> None:
        self.world.tell(self.fqcn, LANES[lane], effect)
        if lane == CONTROL:
            self.perform(lane, self.subtree.peer_up(effect, self.world.now))
        if lane == DATA:
            self.dialled.pop(effect.link, None)
            self.take_ways(self.dialling.linked(effect.fqcn))
        elif effect.is_parent and effect.data_addresses:
            self._set_parent(effect.data_addresses[0])

    def _set_parent(self, address: str) -> None:
        if address == self.parent_data_address and self.data.routes.parent is not None:
            self.data.peers.redial.wake()
            return
        self.parent_data_address = address
        self.perform(DATA, self.data.dial_parent(address, self.world.now))

    def _peer_down(self, lane: int, effect: asked.PeerDown) -> None:
        self.world.noticed_at[lane] = self.world.now
        self.world.tell(self.fqcn, LANES[lane], effect)
        if lane == CONTROL:
            self.perform(lane, self.calls.watch(effect, self.world.now))
            self.perform(lane, self.subtree.peer_down(effect, self.world.now))
        if effect.role is Role.DIRECT and lane == CONTROL:
            return
        if lane == DATA:
            for origin in self._led_by(effect.fqcn, effect.is_parent):
                is_broken = origin == effect.fqcn and origin != self.hanging
                self.world.watch.doubts(self, self._pulls_from(origin))
                self.perform(DATA, self.pulls.rerouting.changed(origin, self.world.now, is_broken=is_broken))
            for target in self._pushed_over(effect.fqcn, effect.is_parent):
                self.perform(DATA, self.pushes.way_changed(target, self.world.now))
            return
        if effect.is_parent:
            self.data.peers.redial.rest()
        same = self.data.peers.up(effect.fqcn)  # silence ends control links only: the data link goes with it
        if same is not None:
            self._leave_link(effect.fqcn, effect.why)

    def _leave_link(self, fqcn: str, why: str) -> None:
        link = self.data.peers.up(fqcn)
        if link is not None:
            self.hanging = fqcn
            self.perform(DATA, self.data.hang(link.link, why, self.world.now))
            self.hanging = ""

    def _detour(self, lane: int, effect: asked.Detour) -> None:
        self.world.tell(self.fqcn, "=", effect)
        self._leave_link(effect.origin, "nothing comes over it")

    def _told(self, lane: int, effect: asked.Told) -> None:
        assert lane == CONTROL, "who is below is told on the control lane"
        self.perform(lane, self.subtree.receive(effect.link, effect.message, self.world.now))

    def _watch(self, lane: int, effect: asked.PeerStalled | asked.PeerBack) -> None:
        assert lane == CONTROL, "silence means nothing on the data lane"
        self.world.tell(self.fqcn, LANES[lane], effect)
        self.perform(lane, self.calls.watch(effect, self.world.now))

    def _dial_failed(self, lane: int, effect: asked.DialFailed) -> None:
        self.world.tell(self.fqcn, LANES[lane], effect)
        if lane == DATA:
            self.take_ways(self.dialling.failed(self.dialled.pop(effect.link, ""), effect.error))

    def take_ways(self, steps: Iterable[Try | Chosen]) -> None:
        """What has been decided about the ways of pulls."""
        for step in steps:
            if isinstance(step, Try):
                link, effects = self.data.peers.dial(step.address, expected=step.origin, now=self.world.now)
                self.dialled[link] = step.origin
                self.perform(DATA, effects)
            else:
                self.world.tell(self.fqcn, "=", step)
                self.perform(DATA, self.pulls.go(step.pull_id, self.world.now, is_direct=step.is_direct))

    def _handle(self, lane: int, effect: asked.Handle) -> None:
        self.world.tell(self.fqcn, "=", effect)
        self.world.handle(self, effect.message)

    def _abort(self, lane: int, effect: asked.Abort) -> None:
        self.world.tell(self.fqcn, "=", effect)
        if self.handlers.pop((effect.origin, effect.id), None) is not None:
            assert self.serving.answered(effect.origin, effect.id)

    def _serve(self, lane: int, effect: asked.Serve) -> None:
        lending = self.lent[effect.ask.offer_id]
        assert not lending.is_released, "an offer is served after its release"
        delay_s = self.world.reading_s()
        if delay_s:
            self.world.at(self.world.now + delay_s, self.read, effect.ask)
        else:
            self.read(effect.ask, is_inside=True)

    def read(self, ask: Ask, *, is_inside: bool = False) -> None:
        """D19: the bytes that were asked for have been read, or can not be; nothing is released before."""
        if not self.is_alive:
            return
        lending = self.lent[ask.offer_id]
        effects: list[Effect]
        assert not lending.is_released, "an offer is released while it is read"
        if lending.changes_at <= self.world.now:
            label = f"ref:{ask.offer_id[:4].hex()}…"
            effects = self.offers.made(ask, SourceChanged(ref=label, origin=self.fqcn, why="it was cut off"), self.world.now)
            assert self.offers.transactions.holding(ask.offer_id) is None, "what has changed is still lent"
        elif lending.breaks:
            label = f"ref:{ask.offer_id[:4].hex()}…"
            effects = self.offers.made(ask, OriginFailed(ref=label, origin=self.fqcn, why="the disk is broken"), self.world.now)
        else:
            data = lending.data[ask.offset:ask.offset + ask.length]
            half = len(data) // 2
            effects = [asked.Post(Chunk(self.fqcn, ask.origin, ask.id, ask.offset, ask.length, ask.verify,
                                        digest_of(ask.verify, data), (data[:half], memoryview(data)[half:]))),
                       *self.offers.made(ask, None, self.world.now)]
            self.world.watch.serves(lending.transaction, ask)
        if is_inside:
            self.perform(DATA, effects)
        else:
            self.act(DATA, effects)

    def _chunk(self, chunk: Chunk) -> None:
        if not self.pulls.expects(chunk):
            return
        pull = self.fetching[chunk.id]
        data = b"".join(chunk.body)
        is_whole = len(data) == chunk.length
        if is_whole:
            pull.place[chunk.offset:chunk.offset + chunk.length] = data
        is_intact = is_whole and digest_of(chunk.verify, data) == chunk.digest
        self.world.watch.lands(self, chunk.id, chunk.offset, is_intact=is_intact)
        self.perform(DATA, self.pulls.landed(chunk, is_intact, self.world.now))
        if not is_intact:
            self.world.tell(self.fqcn, "!", f"the chunk at byte {chunk.offset} has a wrong digest")
            return
        delay_s = 0.7 if pull.is_slow else self.world.storing_s()
        if delay_s:
            self.world.at(self.world.now + delay_s, self.store, chunk)
        else:
            self.store(chunk, is_inside=True)

    def store(self, chunk: Chunk, *, is_inside: bool = False) -> None:
        """A verified chunk has been put away."""
        if not self.is_alive:
            return
        pull = self.fetching[chunk.id]
        effects = self.pulls.stored(chunk.id, chunk.offset, self.world.now)
        if effects:
            truth = self.world.lendings[pull.source.offer_id].data[chunk.offset:chunk.offset + chunk.length]
            is_intact = pull.place[chunk.offset:chunk.offset + chunk.length] == truth
            assert is_intact, "a chunk is exposed that is not intact"
            assert chunk.offset not in pull.stored, "a chunk is counted twice"
            pull.stored[chunk.offset] = chunk.length
        if is_inside:
            self.perform(DATA, effects)
        else:
            self.act(DATA, effects)

    def _finish(self, lane: int, effect: asked.Finish) -> None:
        self.world.at(self.world.now + (0.7 if self.fetching[effect.pull_id].is_slow else 0.01), self.finish, effect.pull_id)

    def finish(self, number: int) -> None:
        """What is stored has been made to last."""
        if self.is_alive:
            self.fetching[number].is_finished = True
            self.act(DATA, self.pulls.finished(number, self.world.now))

    def _tell(self, lane: int, effect: Effect) -> None:
        self.world.tell(self.fqcn, "=", effect)

    def _pull_progressed(self, lane: int, effect: asked.Progressed) -> None:
        pull = self.fetching[effect.pull_id]
        assert pull.told < effect.bytes_done <= effect.bytes_total, "what is told of a pull goes back"
        pull.told = effect.bytes_done
        self.world.tell(self.fqcn, "=", effect)

    def _progressed(self, lane: int, effect: asked.CallProgressed) -> None:
        self.world.tell(self.fqcn, "=", effect)
        self.world.progressed(self, effect)

    def _release(self, lane: int, effect: asked.Release) -> None:
        lending = self.lent[effect.offer_id]
        assert not lending.is_released, "an offer is released twice"
        lending.is_released = True

    def _receiver_settled(self, lane: int, effect: asked.ReceiverSettled) -> None:
        self.world.tell(self.fqcn, "=", effect)
        transaction = self.world.transactions[effect.transaction_id]
        transaction.told.append((effect.receiver, effect.outcome, effect.why, self.world.now))
        if effect.outcome is Outcome.FINISHED:
            self.world.must_hold(effect.receiver, transaction)
            self.world.watch.finished(transaction, effect.receiver)

    def _had(self, lane: int, effect: asked.OfferHad) -> None:
        self.world.tell(self.fqcn, "=", effect)
        self.world.had(effect)

    def _settled(self, lane: int, effect: Ended) -> None:
        self.world.tell(self.fqcn, "=", effect)
        self.world.settled(self, effect)

    def _push_moved(self, lane: int, effect: asked.PushMoved) -> None:
        """Nobody waits for credit here."""

    def _pushed(self, lane: int, effect: asked.PushSettled) -> None:
        self.world.tell(self.fqcn, "=", effect)
        self.world.pushed(self, effect)

    def _intake(self, lane: int, effect: Taking) -> None:
        self.world.tell(self.fqcn, "=", effect)
        self.world.take_in(self, effect)

    def _pull_forgotten(self, lane: int, effect: asked.PullForgotten) -> None:
        self.world.forgotten(self, effect.pull_id)


_PERFORM: Mapping[type, Callable[[SimCell, int, Effect], None]] = {  # type: ignore[assignment]
    asked.Dial: SimCell._dial, asked.Hang: SimCell._hang, asked.Post: SimCell._post, asked.Arrived: SimCell._arrived,
    asked.Unreachable: SimCell._unreachable, asked.PeerUp: SimCell._peer_up, asked.PeerDown: SimCell._peer_down,
    asked.Told: SimCell._told, asked.SubtreeUp: SimCell._tell, asked.SubtreeDown: SimCell._tell,
    asked.PeerStalled: SimCell._watch, asked.PeerBack: SimCell._watch, asked.DialFailed: SimCell._dial_failed,
    asked.Handle: SimCell._handle, asked.Abort: SimCell._abort,
    asked.Serve: SimCell._serve, asked.Release: SimCell._release, asked.Progressed: SimCell._pull_progressed,
    asked.Finish: SimCell._finish, asked.Detour: SimCell._detour,
    asked.CallProgressed: SimCell._progressed, asked.OfferHad: SimCell._had, asked.ReceiverSettled: SimCell._receiver_settled,
    asked.CallSettled: SimCell._settled, asked.PullSettled: SimCell._settled, asked.TransactionSettled: SimCell._settled,
    asked.PullForgotten: SimCell._pull_forgotten, asked.PushMoved: SimCell._push_moved, asked.PushSettled: SimCell._pushed,
    asked.IntakeOpened: SimCell._intake, asked.IntakeArrived: SimCell._intake, asked.IntakeComplete: SimCell._intake,
    asked.IntakeSettled: SimCell._intake,
}
