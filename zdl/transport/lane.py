"""Lane: the desk of the data lane: chunks out of lent objects, chunks into place.

What a byte costs here. At the origin: nothing is copied in user space but pieces below 64 KiB, which
are gathered into one frame (a copy of 1 MiB takes 50 us, a frame of its own 2.5 us); larger ones are
handed to libzmq as views of the object. The kernel copies once. At the receiver: the kernel copies into
libzmq's buffer, libzmq copies from there into place (`recv_into`): one copy in user space, which is
libzmq's own. What hashing costs stands in `zdl.transport.chunks`.

A source that may block (a file, a user's producer) is read on the broker's threads; a landing that may
block (a file) is written there.

Threads: `Lane` methods are called from any thread and go through the loop; what begins with ``_`` runs on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from zdl.errors import Closed, DiskFailed, ZdlError
from zdl.fqcn import is_within
from zdl.options import Options, Pace
from zdl.protocol.dialling import Chosen, Dialling, Try
from zdl.protocol.effects import (
    Arrived,
    Detour,
    DialFailed,
    Effect,
    Finish,
    OfferHad,
    PeerDown,
    PeerUp,
    Progressed,
    PullForgotten,
    PullSettled,
    ReceiverSettled,
    Release,
    Serve,
    SideDown,
    SideUp,
    SpreadOver,
    TransactionSettled,
    Unreachable,
)
from zdl.protocol.messages import Ask, Bounce, Chunk, Confirm, Confirmed, Denial, Drop, Keep, Kind, Withdrawn
from zdl.protocol.pulls import Pulls
from zdl.protocol.ranges import Range
from zdl.protocol.routes import Routes
from zdl.protocol.switch import concerns
from zdl.refs import Source
from zdl.transport.chunks import landed
from zdl.transport.lent import Lent
from zdl.transport.links import Incoming
from zdl.transport.loop import Loop
from zdl.transport.parting import Parting
from zdl.transport.segments import Segments
from zdl.transport.sidelinks import SideLinks

DRAIN_STEP_S = 0.005
Job = Callable[[], None]
# Has a job run on some thread.
Run = Callable[[Job], None]
_CHUNK = int(Kind.CHUNK)


class Landing(Protocol):
    """Where the chunks of a pull go."""

    @property
    def may_block(self) -> bool:
        """Whether `keep` and `finish` may wait for a disk."""

    def view(self, offset: int, length: int) -> memoryview:
        """Writable memory for a chunk, which lies within one of the ranges of the pull."""

    def keep(self, offset: int, view: memoryview) -> None:
        """The bytes in the view are verified."""

    def finish(self) -> None:
        """All bytes are kept: make them last; then the origin is told. Only asked of what may block."""


@dataclass(frozen=True, slots=True)
class _Events:
    """Whom to tell about a pull."""

    progressed: Callable[[int, int], None]
    settled: Callable[[ZdlError | None], None]
    chosen: Callable[[bool, str], None]


@dataclass(slots=True)
class _Fetching:
    """One pull's ends in the shell."""

    origin: str
    secret: bytes
    landing: Landing
    events: _Events
    put_away: Run | None
    addresses: Sequence[str]


class Lane:
    """The data lane of a cell: what services lend and pull through.

    Args:
        fqcn: the cell.
        first_id: where pull ids begin: a random number of 62 bits.
        options: of the cell.
        loop: the thread that runs this desk.
        segments: memory that cells of this machine share.

    Attributes:
        lent: what is lent through it.
        segments: as given.
    """

    def __init__(self, fqcn: str, first_id: int, options: Options, loop: Loop, segments: Segments) -> None:
        self._fqcn = fqcn
        self._options = options
        self._loop = loop
        self.lent = Lent(fqcn, options.offers, loop)
        self.segments = segments
        self._offers = self.lent.offers
        self._pulls = Pulls(fqcn, first_id, options.pulls)
        self._dialling = Dialling(options.pulls.direct_timeout_s)
        self._sides = SideLinks(loop.switch, self._pulls)
        self._fetchings: dict[int, _Fetching] = {}
        self._dialled: dict[int, str] = {}
        self._replaced: set[str] = set()
        self._parent_address = ""
        self._hanging = ""
        self._parting = Parting()
        self._incoming: Incoming | None = None
        self._background: Run | None = None

    def __repr__(self) -> str:
        return f"<Lane of {self._fqcn}: {len(self._offers)} transactions, {len(self._pulls)} pulls>"

    # --- from any thread ------------------------------------------------------------------------

    def use_background(self, run: Run) -> None:
        """Who runs what may block."""
        self._background = run
        self.lent.use_background(run)

    def pull(self, source: Source, ranges: Sequence[tuple[int, int]], landing: Landing, addresses: Sequence[str], *,
             have: Sequence[Range] = (), progressed: Callable[[int, int], None], settled: Callable[[ZdlError | None], None],
             chosen: Callable[[bool, str], None], put_away: Run | None = None,
             pace: Pace = Pace()) -> Callable[[str | ZdlError], None]:
        """Begin a pull of an offer; returns what ends it, with a reason why it is not wanted any more, or with an error.

        The callbacks run on the lane: they only hand over.

        Args:
            source: which offer.
            ranges: which bytes of it; no chunk crosses the end of one.
            landing: where they go.
            addresses: of the origin's data lane; empty: along the tree.
            have: ranges that are there already, and are confirmed with the others.
            progressed: gets bytes done and bytes in all.
            settled: gets None, or the error; once.
            chosen: gets whether the way is direct, and why not; again when it changes.
            put_away: runs what stores chunks that may block, with nothing to finish; by default the broker's threads do.
            pace: its limit and its priority.
        """
        pull_id: list[int] = []
        fetching = _Fetching(source.origin, source.secret, landing, _Events(progressed, settled, chosen), put_away, addresses)

        def begin() -> None:
            """On the lane: the machine first; it may refuse."""
            now = time.monotonic()
            try:
                number, _ = self._pulls.start(source, ranges, now, have=have, finishes=landing.may_block and put_away is None,
                                              is_kept=landing.may_block, pace=pace)
            except ZdlError as error:
                settled(error)
                return
            pull_id.append(number)
            self._fetchings[number] = fetching
            self._choose_way(number, addresses, now)

        def end(why: str | ZdlError, now: float) -> list[Effect]:
            """On the lane."""
            return self._pulls.cancel(pull_id[0], why, now) if pull_id else []

        self._loop.submit(begin)
        return lambda why: self._loop.submit(self._loop.do, lambda now: end(why, now))

    def unreachable(self, effect: Unreachable) -> None:
        """The control lane has learnt that some cells cannot be reached."""
        with suppress(Closed):  # a cell that ends stops this lane first: nobody is left to whom it matters
            self._loop.submit(self._loop.act, [effect], time.monotonic())

    def peer_is_gone(self, fqcn: str, why: str, *, is_parent: bool = False) -> None:
        """The control lane has lost this peer: its data link, which silence does not end, ends too; see `Parting`."""
        def part(now: float) -> list[Effect]:
            """On the loop."""
            if is_parent:  # the control lane tells when it is back: before that no try to dial it here is worth it
                self._loop.switch.peers.redial.rest()
            link = self._loop.switch.peers.up(fqcn)
            if link is None or self._parting.is_awaited(link.link, why, now):
                return []
            return self._loop.switch.hang(link.link, why, now)

        with suppress(Closed):
            self._loop.submit(self._loop.do, part)

    def parent_is_at(self, address: str) -> None:
        """The control lane has learnt where the parent's data lane listens."""
        with suppress(Closed):
            self._loop.submit(self._set_parent, address)

    def drain(self, timeout_s: float) -> list[str]:
        """End: cancel what is pulled, let receivers finish, end what is lent. Returns what did not finish in time."""
        self._loop.submit(self._loop.do, self._cancel_pulls)
        until = time.monotonic() + timeout_s
        while not (is_quiet := self._loop.ask(self._is_quiet)) and time.monotonic() < until:
            time.sleep(DRAIN_STEP_S)
        self._loop.ask(lambda: self._loop.do(self._offers.close))
        return [] if is_quiet else [f"{self._fqcn}: receivers were still pulling, or origins had not noted the end of a pull"]

    # --- the desk -------------------------------------------------------------------------------

    def takes(self, header: bytes) -> bool:
        """Chunks are received into place."""
        return len(header) > 2 and header[2] == _CHUNK

    def incoming(self, message: Incoming | None) -> None:
        """The chunk that is being received."""
        self._incoming = message

    def tick(self, now: float) -> Iterable[Effect]:
        """Time passed."""
        chosen = [effect for step in self._dialling.tick(now) for effect in self._take_way(step, now)]
        parted = [effect for link, why in self._parting.due(now) for effect in self._loop.switch.hang(link, why, now)]
        return [*self._offers.tick(now), *self._pulls.tick(now), *self._sides.tick(now), *chosen, *parted]

    def deadline(self) -> float | None:
        """When `tick` is wanted next."""
        machines = (self._offers, self._pulls, self._dialling, self._sides, self._parting)
        times = [each.deadline() for each in machines]
        return min((each for each in times if each is not None), default=None)

    def is_pipelined(self) -> bool:
        """Whoever says something on this lane says all of it at once."""
        return False

    def perform(self, effect: Effect, now: float) -> Iterable[Effect]:
        """The effects that are not about links."""
        match effect:
            case Arrived(message=Chunk() as chunk):
                return self._chunk(chunk, now)
            case Arrived(message=Ask() | Confirm() | Keep() | Drop() as message):
                return self._offers.receive(message, now)
            case Arrived(message=Denial() | Withdrawn() | Confirmed() as message):
                return self._pulls.receive(message, now)
            case Arrived(message=Bounce() as bounce):
                return [*self._offers.receive(bounce, now), *self._pulls.receive(bounce, now)]
            case Serve(ask=ask):
                return self.lent.serve(ask, now)
            case Finish(pull_id=pull_id):
                self._do_later(pull_id, self._fetchings[pull_id].landing.finish, lambda now: self._pulls.finished(pull_id, now))
            case PullSettled() | PullForgotten() | Progressed() | SpreadOver():
                return self._pull_effect(effect, now)
            case Detour(origin=origin):
                return self._hang(origin, "nothing comes over it, and the tree has lost its peer", now)
            case TransactionSettled() | ReceiverSettled() | OfferHad():
                self.lent.tell(effect)
            case Release(offer_id=offer_id):
                self.lent.release(offer_id)
            case _:
                return self._link_effect(effect, now)
        return []

    def _link_effect(self, effect: Effect, now: float) -> Iterable[Effect]:
        """What the switch reports about this lane's links."""
        effects: list[Effect] = []
        match effect:
            case PeerUp(link=link, fqcn=fqcn):
                self._dialled.pop(link, None)
                if fqcn in self._replaced:
                    self._replaced.discard(fqcn)
                    effects += self._pulls.rerouting.changed(fqcn, now, is_direct=True)
                for step in self._dialling.linked(fqcn):
                    effects += self._take_way(step, now)
            case SideUp() | SideDown():
                return self._sides.perform(effect, now)
            case DialFailed(link=link, error=error):
                effects += self._sides.failed(link, now)
                for step in self._dialling.failed(self._dialled.pop(link, ""), error):
                    effects += self._take_way(step, now)
            case PeerDown(fqcn=fqcn, is_parent=is_parent, why=why):
                if self._loop.switch.routes.is_direct(fqcn):
                    self._replaced.add(fqcn)  # by a link that is about to be welcomed: then all is asked again
                effects += self._sides.forget(fqcn, now)
                for origin in _led_by(self._others(), self._fqcn, self._loop.switch.routes, fqcn=fqcn, is_parent=is_parent):
                    for fetching in self._fetchings.values():
                        if fetching.origin == origin:
                            fetching.events.chosen(False, f"the link to {fqcn} was lost: {why}")
                    is_broken = origin == fqcn and fqcn != self._hanging
                    effects += self._pulls.rerouting.changed(origin, now, is_broken=is_broken)
            case Unreachable(at=at):
                effects += self._offers.receive(effect, now)
                if at != self._fqcn:  # what this lane has lost itself may be reached another way: see `PeerDown`
                    effects += _lose_ways(self._pulls, effect, self._others(), self._loop.switch.routes, now)
        return effects

    def _others(self) -> set[str]:
        """The origins of pulls."""
        return {each.origin for each in self._fetchings.values()} - {self._fqcn}

    def _hang(self, fqcn: str, why: str, now: float) -> list[Effect]:
        """End the link to a peer, if there is one."""
        link = self._loop.switch.peers.up(fqcn)
        if link is None:
            return []
        self._hanging = fqcn  # what is told of it now is our own doing, and says nothing about the peer
        self._loop.act(self._loop.switch.hang(link.link, why, now), now)
        self._hanging = ""
        return []

    # --- pulling --------------------------------------------------------------------------------

    def _choose_way(self, pull_id: int, addresses: Sequence[str], now: float) -> None:
        origin = self._fetchings[pull_id].origin
        is_linked = origin == self._fqcn or self._loop.switch.routes.is_direct(origin)
        for step in self._dialling.choose(pull_id, origin, addresses, is_linked=is_linked, now=now):
            self._loop.act(self._take_way(step, now), now)

    def _take_way(self, step: Try | Chosen, now: float) -> list[Effect]:
        if isinstance(step, Try):
            link, effects = self._loop.switch.peers.dial(step.address, expected=step.origin, now=now)
            self._dialled[link] = step.origin
            return effects
        fetching = self._fetchings.get(step.pull_id)
        if fetching is None:
            return []
        fetching.events.chosen(step.is_direct, step.why)
        return self._pulls.go(step.pull_id, now, is_direct=step.is_direct)

    def _chunk(self, chunk: Chunk, now: float) -> list[Effect]:
        fetching = self._fetchings.get(chunk.id)
        if fetching is None or not self._pulls.expects(chunk):
            return []
        view = fetching.landing.view(chunk.offset, chunk.length)
        is_good = landed(chunk, view, self._incoming, fetching.secret)
        if self._incoming is not None:
            self._loop.count_in(self._incoming.link, chunk.length)
        effects = self._pulls.landed(chunk, is_good, time.monotonic())
        if not is_good:
            return effects
        if fetching.landing.may_block:
            self._do_later(chunk.id, lambda: fetching.landing.keep(chunk.offset, view),
                           lambda now: self._pulls.stored(chunk.id, chunk.offset, now), fetching.put_away)
            return effects
        fetching.landing.keep(chunk.offset, view)
        return [*effects, *self._pulls.stored(chunk.id, chunk.offset, now)]

    def _do_later(self, pull_id: int, job: Job, then: Callable[[float], list[Effect]], run: Run | None = None) -> None:
        """Have a broker's thread do for a pull what may block; then the machine hears of it, or the pull ends."""
        origin = self._fetchings[pull_id].origin

        def do() -> None:
            error = _failed(job, origin)
            self._loop.submit(self._loop.do, then if error is None else lambda now: self._pulls.cancel(pull_id, error, now))

        assert self._background is not None
        (run or self._background)(do)

    def _pull_effect(self, effect: PullSettled | PullForgotten | Progressed | SpreadOver, now: float) -> list[Effect]:
        fetching = self._fetchings.get(effect.pull_id)
        if fetching is None:
            return []
        if isinstance(effect, SpreadOver):
            return self._sides.spread(effect, fetching.addresses, now)
        if isinstance(effect, Progressed):
            fetching.events.progressed(effect.bytes_done, effect.bytes_total)
        elif isinstance(effect, PullSettled):
            del self._fetchings[effect.pull_id]
            self._loop.afterwards(self._tell_settled, fetching.events, effect.error)
            return self._sides.settled(effect.pull_id, fetching.origin, now)
        return []

    def _tell_settled(self, events: _Events, error: ZdlError | None) -> None:
        """The origin hears of the end before who waits here: he is woken, and then this thread waits for the interpreter."""
        self._loop.flush()
        events.settled(error)

    def _set_parent(self, address: str) -> None:
        if address != self._parent_address or self._loop.switch.routes.parent is None:
            self._parent_address = address
            self._loop.do(lambda now: self._loop.switch.dial_parent(address, now))
        else:
            self._loop.switch.peers.redial.wake()

    def _cancel_pulls(self, now: float) -> list[Effect]:
        return [each for number in list(self._fetchings) for each in self._pulls.cancel(number, "the cell is closed", now)]

    def _is_quiet(self) -> bool:
        return len(self._pulls) == self._pulls.dropping and not self._offers.transactions.is_pulled_from


def _led_by(origins: set[str], me: str, routes: Routes, *, fqcn: str, is_parent: bool) -> set[str]:
    """Those whose questions may have gone with the link to `fqcn`, which is gone now."""
    return {each for each in origins if not routes.is_direct(each) and (
        not is_within(each, me) if is_parent else is_within(each, fqcn))}


def _lose_ways(pulls: Pulls, lost: Unreachable, origins: set[str], routes: Routes, now: float) -> list[Effect]:
    """Some cells are cut off: pulls from them have no way; those that are linked directly are suspect."""
    concerned = [origin for origin in origins if concerns(lost, origin)]
    for origin in filter(routes.is_direct, concerned):
        pulls.rerouting.suspect(origin, now)
    return [effect for origin in concerned if not routes.is_direct(origin)
            for effect in pulls.receive(Unreachable(lost.at, origin, False, lost.why), now)]


def _failed(job: Callable[[], None], origin: str) -> ZdlError | None:
    """Why a job failed; None when it did not."""
    try:
        job()
    except ZdlError as error:
        return error
    except (OSError, ValueError) as error:
        return DiskFailed(ref="a pull", origin=origin, path="its place", why=f"{type(error).__name__}: {error}")
    return None
