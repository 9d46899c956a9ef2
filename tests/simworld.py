"""The world of the simulation: cells that live and die, what their users do, and the books about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import msgpack
from simbooks import CONTROL, DATA, NEVER, PATIENT, Call, Lending, Pull, Push, SimOptions, Transaction, Wire
from simcell import Ended, SimCell, Taking
from simnet import Network
from simwatch import Watch

from zdl.errors import Cancelled, Closed, RemoteError, TooLarge, to_wire
from zdl.fqcn import ROOT, ancestors, common_ancestor, is_within, parent
from zdl.protocol import effects as asked
from zdl.protocol.audiences import UNLIMITED, Budgets
from zdl.protocol.backlog import Backlog
from zdl.protocol.calls import Question
from zdl.protocol.effects import Outcome
from zdl.protocol.frames import TRACED
from zdl.protocol.messages import Kind, Notice, Progress, Reply, Request
from zdl.protocol.offers import Audience, Offer
from zdl.protocol.pushes import Opening
from zdl.protocol.trace import split, untraced
from zdl.refs import Source

# How long a LOST is on its way at most, where messages meet with no accident.
NEWS_S = 0.05
# A handler that toils works for so many parts of its caller's timeout, and reports after each.
TOIL_STEPS, TOIL_STEP = 5, 0.4


class World(Network):
    """The network, the cells in it, and what has become of all that they were asked to do.

    Args:
        seed: of everything that is drawn.
        options: of every cell.
    """

    is_thorough = False

    def __init__(self, seed: int, options: SimOptions = PATIENT) -> None:
        super().__init__(seed)
        self.options = options
        self.cells: dict[str, SimCell] = {}
        self.starts: Counter[str] = Counter()
        self.calls: dict[tuple[str, int], Call] = {}
        self.runs: Counter[tuple[SimCell, str, int]] = Counter()
        self.pulls: dict[tuple[SimCell, int], Pull] = {}
        self.lendings: dict[bytes, Lending] = {}
        self.transactions: dict[bytes, Transaction] = {}
        self.died_at: dict[SimCell, float] = {}
        self.silenced_at: dict[str, float] = {}
        self.pushes: dict[tuple[str, int], Push] = {}
        self.noticed_at = [-NEVER, -NEVER]
        self.watch = Watch(self)

    def draw_bytes(self, length: int) -> bytes:
        """Random bytes, for ids."""
        return self.rng.randbytes(length)

    def draw_id(self) -> int:
        """A random number of 62 bits, where ids begin."""
        return self.rng.getrandbits(62)

    def direct_addresses(self, fqcn: str) -> tuple[str, ...]:
        """Where a cell can be dialled directly, on its control lane."""
        return (f"tcp://{fqcn}:1",)

    def reading_s(self) -> float:
        """How long reading a chunk takes; 0: it is at hand."""
        return self.rng.random() * 0.02 if self.rng.random() < 0.3 else 0.0

    def storing_s(self) -> float:
        """How long storing a chunk takes; 0: nothing."""
        return self.rng.random() * 0.3 if self.rng.random() < 0.2 else 0.0

    # --- the cells --------------------------------------------------------------------------------

    def start(self, fqcn: str) -> SimCell:
        """A cell starts, and dials its parent."""
        cell = SimCell(self, fqcn)
        self.cells[fqcn] = cell
        for address in cell.listens_at:
            self.listening[address] = cell
        self.tell(fqcn, "=", "starts")
        above = parent(fqcn)
        if above is not None:
            cell.act(CONTROL, cell.control.dial_parent(f"control:{above}", self.now))
        return cell

    def kill(self, cell: SimCell, *, is_silent: bool) -> None:
        """A cell is no more; its peers see broken connections, or hear nothing."""
        if not cell.is_alive:
            return
        self.tell(cell.fqcn, "=", "is killed in silence" if is_silent else "is killed")
        self._bury(cell)
        if is_silent:
            self.silenced_at[cell.fqcn] = self.now
        for wire in cell.all_wires:
            if is_silent:
                self.mute(wire)
            else:
                self.cut(wire)

    def close(self, cell: SimCell) -> None:
        """A cell says goodbye, and is no more."""
        if not cell.is_alive:
            return
        self.tell(cell.fqcn, "=", "closes")
        closed = Closed(fqcn=cell.fqcn)
        cell.perform(CONTROL, cell.calls.close(closed))
        for number in list(cell.fetching):
            cell.perform(DATA, cell.pulls.cancel(number, closed, self.now))
        cell.perform(DATA, cell.offers.close(self.now))
        for number in cell.pushes.ids():
            cell.perform(DATA, cell.pushes.cancel(number, closed))
        for key in cell.intakes.keys():
            cell.perform(DATA, cell.intakes.finish(key, closed))
        cell.is_alive = False
        for lane in (DATA, CONTROL):
            cell.perform(lane, cell.switches[lane].close(self.now))
        self._bury(cell)
        for wire in cell.all_wires:
            self.hurt(wire)
            wire.hung_by = 0
            if wire.is_open and not wire.is_mute and wire.held is None:
                self.at(max(self.now + self.latency_s[0], *wire.clear_at), self.hung, wire)

    def _bury(self, cell: SimCell) -> None:
        cell.is_alive = False
        self.died_at[cell] = self.now
        del self.cells[cell.fqcn]
        for address in cell.listens_at:
            del self.listening[address]

    def wires_between(self, one: str, other: str, lane: int) -> list[Wire]:
        """The open connections between two cells."""
        return [wire for wire in self.open_wires() if wire.lane == lane and {one, other} == {
            end.fqcn for end in wire.ends if end is not None}]

    def sound_path(self, one: str, other: str, lane: int = CONTROL) -> tuple[Wire, ...] | None:
        """The links between two cells along the tree, if each is up, agreed upon and never was hurt."""
        if lane == DATA and self.now < self.noticed_at[lane] + NEWS_S:  # the news of a loss is taken for a new one
            return None
        top = common_ancestor(one, other)
        wires = []
        for below in (*_line(one, top), *_line(other, top)):
            above = parent(below)
            wire = None if above is None else self._uplink(below, above, lane)
            if wire is None:
                return None
            wires.append(wire)
        return tuple(wires)

    def _uplink(self, below: str, above: str, lane: int) -> Wire | None:
        child, over = self.cells.get(below), self.cells.get(above)
        if child is None or over is None:
            return None
        up, down = child.switches[lane].peers.up(above), over.switches[lane].peers.up(below)
        if up is None or down is None:
            return None
        wire = child.wires[lane].get(up.link)
        is_sound = wire is not None and wire.is_open and not wire.is_hurt and over.wires[lane].get(down.link) is wire
        return wire if is_sound else None

    # --- calls ------------------------------------------------------------------------------------

    def call(self, caller: SimCell, target: str, *, does: str = "reply", delay_s: float = 0.0,
             timeout_s: float = 5.0, trace: bool = False) -> int:
        """A call; its handler does: ``reply``, ``raise``, ``sleep``, or ``toil``: long, and tells that it still does."""
        nearest = target
        while nearest not in self.starts:
            nearest = parent(nearest) or ROOT
        call = Call(caller, target, does, delay_s, timeout_s, self.now, self.sound_path(caller.fqcn, nearest),
                    caller.fqcn == ROOT or caller.control.routes.parent is not None)
        body = (b"packed \xff object", b"\x00" * 8)
        question = Question(target, "sim", does, body, timeout_s, {"delay_s": delay_s}, trace)
        number, effects = caller.calls.start(question, self.now)
        self.calls[caller.fqcn, number] = call
        self.tell(caller.fqcn, "=", ("calls", target, does, number, f"timeout_s={timeout_s}"))
        caller.act(CONTROL, effects)
        return number

    def cancel_call(self, caller: SimCell, number: int) -> None:
        """The caller loses interest."""
        call = self.calls[caller.fqcn, number]
        if caller.is_alive and call.settled_at is None:
            call.is_cancelled = True
            self.tell(caller.fqcn, "=", ("cancels call", number))
            caller.act(CONTROL, caller.calls.cancel(number, "no longer wanted", self.now))

    def handle(self, cell: SimCell, message: Request | Notice) -> None:
        """A handler runs."""
        key = (cell, message.origin, message.id)
        self.runs[key] += 1
        assert self.runs[key] == 1, f"{cell.fqcn}: the handler runs twice for {message.origin} {message.id}"
        if isinstance(message, Notice):
            return
        assert message.timeout_s is not None
        delay_s = message.headers["delay_s"] if message.topic != "sleep" else message.timeout_s + 0.1
        assert isinstance(delay_s, float)
        cell.handlers[message.origin, message.id] = self.now
        if message.topic == "toil":
            delay_s = TOIL_STEPS * TOIL_STEP * message.timeout_s
            for step in range(1, TOIL_STEPS):
                self.at(self.now + step * TOIL_STEP * message.timeout_s, self._report, cell, message, step)
        self.at(self.now + delay_s, self._answer, cell, message)

    def _report(self, cell: SimCell, request: Request, step: int) -> None:
        if cell.is_alive and (request.origin, request.id) in cell.handlers:
            cell.act(CONTROL, [asked.Post(Progress(cell.fqcn, request.origin, request.id, {"step": step}))])

    def progressed(self, cell: SimCell, effect: asked.CallProgressed) -> None:
        """The callee has said how far it is: the caller waits anew."""
        call = self.calls[cell.fqcn, effect.id]
        assert call.settled_at is None and call.does == "toil", f"call {effect.id} of {cell.fqcn} makes no progress"
        call.renewed_at = self.now

    def _answer(self, cell: SimCell, request: Request) -> None:
        if not cell.is_alive or cell.handlers.pop((request.origin, request.id), None) is None:
            return
        assert cell.serving.answered(request.origin, request.id)
        if request.topic == "raise":
            wire = to_wire(RemoteError(fqcn=cell.fqcn, channel="sim", topic="raise", kind="ValueError", text="no"))
            reply = Reply(cell.fqcn, request.origin, request.id, *wire, {})
        else:
            route = None if request.route is None else (*request.route, cell.fqcn)
            reply = Reply(cell.fqcn, request.origin, request.id, "", {}, {}, request.body, route=route)
        cell.serving.keep(reply)
        cell.act(CONTROL, [asked.Post(reply)])

    # --- objects ----------------------------------------------------------------------------------

    def lend(self, origin: SimCell, sizes: Iterable[int], audience: Audience, *, lease_s: float = 40.0, breaks: bool = False,
             budgets: Budgets = UNLIMITED, is_held: bool = False, is_told: bool = False) -> Transaction:
        """Offers that end together."""
        transaction = Transaction(self.draw_bytes(16), origin, audience, lease_s, budgets, waits_since=self.now)
        offers = [Offer(self.draw_bytes(16), self.draw_bytes(16), size, is_told=is_told) for size in sizes]
        self.transactions[transaction.id] = transaction
        transaction.sources = tuple([self._note_offer(transaction, each, breaks=breaks) for each in offers])
        transaction.is_held = is_held
        self.watch.lends(transaction)
        origin.offers.lend(transaction.id, offers, audience, lease_s, self.now, budgets=budgets, is_held=is_held)
        audience_told = sorted(audience.names) or audience.count
        self.tell(origin.fqcn, "=", ("lends", [each.bytes_total for each in offers], audience_told))
        origin.act(DATA, ())
        return transaction

    def _note_offer(self, transaction: Transaction, offer: Offer, *, breaks: bool = False) -> Source:
        """In the books, before the machine knows of it."""
        origin = transaction.origin
        assert isinstance(origin, SimCell)
        lending = Lending(self.rng.randbytes(offer.bytes_total), transaction, breaks=breaks, is_counted=offer.is_counted)
        origin.lent[offer.offer_id] = self.lendings[offer.offer_id] = lending
        return Source(origin.fqcn, offer.offer_id, offer.secret, offer.bytes_total)

    def add(self, transaction: Transaction, size: int, *, is_counted: bool = True) -> Source:
        """One more offer of a transaction that is open."""
        origin = transaction.origin
        assert isinstance(origin, SimCell)
        offer = Offer(self.draw_bytes(16), self.draw_bytes(16), size, is_counted=is_counted)
        source = self._note_offer(transaction, offer)
        if is_counted:
            transaction.sources += (source,)
        else:
            transaction.leaves.append(source)
        self.tell(origin.fqcn, "=", ("adds", size, f"is_counted={is_counted}"))
        origin.offers.add(transaction.id, offer, self.now)
        origin.act(DATA, ())
        return source

    def seal(self, transaction: Transaction) -> None:
        """All offers of a transaction are there."""
        origin = transaction.origin
        assert isinstance(origin, SimCell)
        if origin.is_alive and transaction.settled is None:
            transaction.is_held, transaction.waits_since = False, self.now
            self.tell(origin.fqcn, "=", "seals a transaction")
            self.watch.moves(transaction)
            origin.act(DATA, origin.offers.expecting.hold(transaction.id, False, self.now))

    def had(self, effect: asked.OfferHad) -> None:
        """A receiver has all of an offer whose lender wants to know: told once, and true."""
        lending = self.lendings[effect.offer_id]
        assert effect.receiver not in lending.had_by, "it is told twice that a receiver has an offer"
        lending.had_by.add(effect.receiver)
        source = next(each for each in lending.transaction.sources if each.offer_id == effect.offer_id)
        assert self.holds(effect.receiver, source), f"{effect.receiver} is said to have {source.label}"

    def end(self, transaction: Transaction, outcome: Outcome = Outcome.DELETED) -> None:
        """The lender ends a transaction."""
        if transaction.origin.is_alive and transaction.settled is None:
            transaction.ended_at = self.now
            self.tell(transaction.origin.fqcn, "=", ("ends a transaction", outcome.value))
            transaction.origin.act(DATA, transaction.origin.offers.end(transaction.id, outcome, self.now))

    def pull(self, receiver: SimCell, source: Source, ranges: Iterable[tuple[int, int]] | None = None, *,
             is_direct: bool = False, finishes: bool = False, is_slow: bool = False) -> int:
        """D23: whoever has a source pulls from the origin, wherever he has it from; straight from its data lane if that works."""
        wanted = ((0, source.bytes_total),) if ranges is None else tuple(ranges)
        number, effects = receiver.pulls.start(source, wanted, self.now, finishes=finishes)
        pull = Pull(receiver, source, wanted, self.now, bytearray(source.bytes_total),
                    self.sound_path(receiver.fqcn, source.origin, DATA) is not None,
                    is_finished=not finishes, is_slow=is_slow)
        self.pulls[receiver, number] = receiver.fetching[number] = pull
        self.tell(receiver.fqcn, "=", ("pulls", source.label, wanted, number, f"is_direct={is_direct}"))
        receiver.perform(DATA, effects)
        origin = self.cells.get(source.origin)
        addresses = (origin.data_address,) if origin is not None and is_direct else ()
        is_linked = source.origin == receiver.fqcn or receiver.data.routes.is_direct(source.origin)
        receiver.take_ways(receiver.dialling.choose(number, source.origin, addresses, is_linked=is_linked, now=self.now))
        receiver.act(DATA, ())
        return number

    def cancel_pull(self, receiver: SimCell, number: int) -> None:
        """The receiver loses interest."""
        pull = self.pulls[receiver, number]
        if receiver.is_alive and not pull.is_settled:
            pull.is_cancelled = True
            self.tell(receiver.fqcn, "=", ("cancels pull", number))
            receiver.act(DATA, receiver.pulls.cancel(number, "no longer wanted", self.now))

    def forgotten(self, receiver: SimCell, number: int) -> None:
        """A pull is remembered no more."""
        pull = self.pulls[receiver, number]
        assert pull.forgotten_at is None, "a pull is forgotten twice"
        pull.forgotten_at = self.now

    # --- streams ----------------------------------------------------------------------------------

    def push(self, sender: SimCell, targets: Sequence[str], items: list[bytes], *, gap_s: float = 0.0,
             how: str = "") -> tuple[str, int]:
        """A stream of these items to these cells, the gap between each two, and its end; `how` it is taken in stands in `Push`."""
        backlog, numbers = Backlog(), []
        for target in targets:
            number, effects = sender.pushes.start(Opening(target, "sim", "push", "objects", body=(b"context",)), self.now, backlog)
            has_way = self.sound_path(sender.fqcn, target, DATA) is not None
            self.pushes[sender.fqcn, number] = Push(sender, target, items, self.now, has_way, how)
            self.tell(sender.fqcn, "=", ("pushes", target, len(items), number))
            numbers.append(number)
            sender.act(DATA, effects)
        for index, item in enumerate(items):
            self.at(self.now + index * gap_s, self._push_item, sender, backlog, item)
        self.at(self.now + len(items) * gap_s, self._push_end, sender, numbers)
        return sender.fqcn, numbers[0]

    def _push_item(self, sender: SimCell, backlog: Backlog, item: bytes) -> None:
        if sender.is_alive:
            sender.act(DATA, sender.pushes.spread(backlog, [((item,), None)], self.now))

    def _push_end(self, sender: SimCell, numbers: list[int]) -> None:
        for number in numbers:
            if sender.is_alive:
                sender.act(DATA, sender.pushes.finish(number, self.now))

    def cancel_push(self, key: tuple[str, int]) -> None:
        """The sender breaks off."""
        push = self.pushes[key]
        if push.sender.is_alive and push.settled_at is None:
            push.is_cancelled = True
            assert isinstance(push.sender, SimCell)
            push.sender.act(DATA, push.sender.pushes.cancel(key[1], Cancelled(what="the push", why="no longer wanted")))

    def pushed(self, cell: SimCell, effect: asked.PushSettled) -> None:
        """A push has come to its end; each does once."""
        push = self.pushes[cell.fqcn, effect.push_id]
        assert push.settled_at is None, f"push {effect.push_id} of {cell.fqcn} settles twice"
        push.settled_at, push.error = self.now, effect.error
        assert effect.error is not None or push.is_taken_whole, "a push is said to be consumed and is not"

    def take_in(self, cell: SimCell, effect: Taking) -> None:
        """What a receiver is told; it consumes what it gets, sooner or later."""
        if isinstance(effect, asked.IntakeOpened):
            push = self.pushes[effect.message.origin, effect.message.id]
            assert push.receiver is None or not push.receiver.is_alive, "a stream is opened twice"
            # A life that died before the sender heard of it: the next one is told the stream from its beginning.
            push.receiver, push.taken, push.is_taken_whole, push.taking_ended_at = cell, [], False, None
            key = effect.message.origin, effect.message.id
            if push.how == "refused":
                push.taking_ended_at = self.now
                cell.perform(DATA, cell.intakes.finish(key, TooLarge(what="the blob", size=2, limit="blob_bytes_max", value=1)))
            else:
                cell.perform(DATA, cell.intakes.accept(key, None, self.now))
            return
        push = self.pushes[effect.key]
        assert push.receiver is cell, "a stream goes on in another life"
        assert push.taking_ended_at is None, "something comes after the end"
        if isinstance(effect, asked.IntakeArrived):
            push.taken += [bytes(part) for item in effect.items for part in item]
            assert push.taken == push.items[:len(push.taken)], "items are lost, doubled or out of order"
            if push.how != "asleep":
                self.at(self.now + self.storing_s(), self._took, cell, effect.key, len(effect.items))
        elif isinstance(effect, asked.IntakeComplete):
            assert not push.is_taken_whole and push.taken == push.items, "a stream is said to be complete and is not"
            push.is_taken_whole = True
            if push.how != "asleep":
                self.at(self.now + self.storing_s(), self._finish_intake, cell, effect.key)
        else:
            push.taking_ended_at = self.now

    def _took(self, cell: SimCell, key: tuple[str, int], count: int) -> None:
        if cell.is_alive and key in cell.intakes.keys():
            cell.act(DATA, cell.intakes.took(key, [(b"reply",)] * count, self.now))

    def _finish_intake(self, cell: SimCell, key: tuple[str, int]) -> None:
        if cell.is_alive and key in cell.intakes.keys():
            push = self.pushes[key]
            push.taking_ended_at = self.now
            failed = None if push.how != "failing" else RemoteError(
                fqcn=cell.fqcn, channel="sim", topic="push", kind="OSError", text="no room")
            cell.act(DATA, cell.intakes.finish(key, failed, () if failed else (b"result",)))

    def holds(self, receiver: str, source: Source) -> bool:
        """Whether lives of this cell have got all bytes of an offer."""
        have = bytearray(source.bytes_total)
        for (cell, _), pull in self.pulls.items():
            if cell.fqcn == receiver and pull.source is source:
                for offset, length in pull.stored.items():
                    have[offset:offset + length] = b"\1" * length
        return all(have)

    def note_ends(self, cell: SimCell) -> None:
        """When transactions of a cell end; they settle later, if something is still being read."""
        for transaction in self.transactions.values():
            is_open = cell.offers.transactions.get(transaction.id) is not None
            if transaction.origin is cell and transaction.ended_at is None and not is_open:
                transaction.ended_at = self.now

    def must_hold(self, receiver: str, transaction: Transaction) -> None:
        """D13: a receiver is counted: it really has everything, verified and stored."""
        for source in transaction.sources:
            assert self.holds(receiver, source), f"{receiver} counts as finished and does not have {source.label}"

    def settled(self, cell: SimCell, effect: Ended) -> None:
        """D2, D3: something has come to its end; each does once, and who was counted, by name or by number, has it all."""
        if isinstance(effect, asked.CallSettled):
            call = self.calls[cell.fqcn, effect.id]
            assert call.settled_at is None, f"call {effect.id} of {cell.fqcn} settles twice"
            until = max(call.started_at, call.renewed_at) + call.timeout_s
            assert self.now <= until + 1e-9, f"call {effect.id} of {cell.fqcn} settles late"
            assert (effect.reply is None) != (effect.error is None)
            call.settled_at, call.reply, call.error = self.now, effect.reply, effect.error
            if effect.reply is not None and effect.reply.route is not None:
                self._was_traced(effect.reply, effect.reply.route)
            if call.is_sound:
                self.at(self.now + 0.1, self._is_aborted, call, effect.id)
            return
        if isinstance(effect, asked.PullSettled):
            pull = self.pulls[cell, effect.pull_id]
            assert not pull.is_settled, f"pull {effect.pull_id} of {cell.fqcn} settles twice"
            assert pull.is_finished or effect.error is not None, "a pull ends well before what it has is made to last"
            pull.is_settled, pull.settled_at, pull.error = True, self.now, effect.error
            self.watch.arrived(pull)
            truth = self.lendings[pull.source.offer_id].data
            for offset, length in pull.ranges if effect.error is None else ():
                is_right = pull.place[offset:offset + length] == truth[offset:offset + length]
                assert is_right, "a pull ended well with wrong bytes"
            return
        transaction = self.transactions[effect.transaction_id]
        assert transaction.settled is None, "a transaction settles twice"
        # A cell that closes waits for no reading: what is being read then is let go with the end of that.
        is_released = all(cell.lent[each.offer_id].is_released for each in (*transaction.sources, *transaction.leaves))
        assert is_released or effect.outcome is Outcome.CLOSED, "a transaction settles before all of it was released"
        transaction.settled = effect
        is_by_receivers = effect.outcome in (Outcome.FINISHED, Outcome.PARTIAL, Outcome.FAILED) and not effect.why
        assert not (transaction.is_held and is_by_receivers), "it is complete before all of it is there"
        transaction.ended_at = self.now if transaction.ended_at is None else transaction.ended_at
        self.watch.ended(transaction, effect)
        finished = [name for name, outcome in effect.receivers if outcome is Outcome.FINISHED]
        for name in finished:
            self.must_hold(name, transaction)
        if effect.outcome is Outcome.FINISHED:
            names, count = transaction.audience.names, transaction.audience.count
            assert names <= set(finished) if names else len(finished) >= count > 0, "finished without its receivers"

    def _was_traced(self, reply: Reply, route: tuple[str, ...]) -> None:
        """Everybody on the way is named once in each direction."""
        there, back = split(route, reply.origin)
        assert route[len(there)] == reply.origin and len(back) == reply.hops, f"{route} is not the way of {reply.hops} hops"
        for way in ((reply.target, *there, reply.origin), (reply.origin, *back, reply.target)):
            assert reply.origin == reply.target or len(set(way)) == len(way), f"{way} goes in a circle"

    def _is_aborted(self, call: Call, number: int) -> None:
        """Nobody waits for a call any more: its handler knows soon."""
        callee = self.cells.get(call.target)
        if call.is_sound and callee is not None:
            assert (call.caller.fqcn, number) not in callee.handlers, f"{call.target} works for nobody"

    # --- the story --------------------------------------------------------------------------------

    def lines(self) -> Iterable[str]:
        """The story, line by line, without the heartbeats."""
        for when, who, mark, what in self.story:
            if mark == "<" and what[2][2] == Kind.HEARTBEAT:  # type: ignore[index]
                continue
            yield f"{when:9.4f} {who} {mark} {describe(what)}"

    @property
    def transcript(self) -> str:
        """The whole story."""
        return "\n".join(self.lines())


def _line(below: str, top: str) -> list[str]:
    """The cells from `below` up to just under `top`."""
    return [] if below == top else [each for each in (below, *ancestors(below)) if each != top and (
        top == ROOT or is_within(each, top)) and each != ROOT]


def describe(what: object) -> str:
    """Something that happened, in words."""
    if isinstance(what, bytes):
        _, kind, hops, origin, target, number, *rest = msgpack.unpackb(what)
        shown = ", ".join(each.hex()[:8] if isinstance(each, bytes) else repr(each) for each in rest)
        mark = "traced " if kind & TRACED else ""
        return f"{mark}{Kind(untraced(kind)).name} {origin} → {target or 'peer'} id={number} hops={hops} ({shown})"
    if isinstance(what, tuple) and len(what) == 4 and isinstance(what[2], bytes):
        lane, cell, header, body = what
        return f"{lane} {cell.fqcn}: {describe(header)} + {sum(map(len, body))} bytes"
    return what if isinstance(what, str) else repr(what)
