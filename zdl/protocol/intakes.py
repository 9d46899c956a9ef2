"""Intakes: what others stream to this cell.

::

    OPEN ──▶ OFFERED ──accept()──▶ TAKING ──END, and all items are here──▶ COMPLETE ──finish()──▶ ENDED is said, and kept
                │                    │                                        │
                │                    ├── finish(): the consumer wants no more, or failed ──▶ ENDED is said, and kept
                └── finish(): no     └── HALT; nothing heard; no way; no item for too long ──▶ settled with an error

An item that comes a second time is passed over, one that comes too early is not taken, and the sender is told to send again
from the first that is missing. So each is handed on once, in order. Credit is given back as items are consumed (`took`). Who
says something about a stream that has ended is told its end again; about one that never was, that it is not open.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from zdl.errors import Busy, DecodeError, PeerLost, Refused, RemoteProtocolError, TimedOut, ZdlError, from_wire, to_wire
from zdl.options import StreamOptions
from zdl.protocol.backlog import ITEM_OVERHEAD_BYTES
from zdl.protocol.effects import Effect, IntakeArrived, IntakeComplete, IntakeOpened, IntakeSettled, Post, Unreachable
from zdl.protocol.items import BATCH_BYTES, BATCH_ITEMS_MAX, gather, scatter, size_of
from zdl.protocol.messages import Body, Bounce, Kind
from zdl.protocol.pushes import FIRST_CREDIT_BYTES, NOT_OPEN
from zdl.protocol.pushing import End, Ended, Halt, Items, Open, Taken
from zdl.protocol.switch import concerns

Key = tuple[str, int]
# Messages of at most so many bytes are acknowledged at once: their sender gathers small items until then. A full one is not,
# for what comes after it is sent without waiting.
PROMPT_BYTES_MAX = BATCH_BYTES - 4096


class State(Enum):
    """Where an intake stands."""

    OFFERED = "offered"
    TAKING = "taking"
    COMPLETE = "complete"


@dataclass(slots=True)
class Intake:
    """One stream in."""

    opening: Open
    heard_at: float
    item_at: float
    state: State = State.OFFERED
    idle_timeout_s: float | None = None
    received: int = 0
    bytes_received: int = 0
    consumed: int = 0
    bytes_consumed: int = 0
    granted: int = FIRST_CREDIT_BYTES
    sizes: deque[int] = field(default_factory=deque)
    replies: deque[Body] = field(default_factory=deque)
    heard: int = 0
    told: int = 0
    missed: int = -1
    cut_off_at: float | None = None
    cut_off_why: str = ""

    @property
    def key(self) -> Key:
        """Its name."""
        return self.opening.origin, self.opening.id

    def check(self) -> None:
        """All invariants; for simulation."""
        assert self.heard <= self.told <= self.consumed <= self.received
        assert len(self.sizes) == self.received - self.consumed
        assert len(self.replies) == self.consumed - self.heard
        assert sum(self.sizes) == self.bytes_received - self.bytes_consumed


class Intakes:
    """The streams in of one cell.

    Args:
        me: our FQCN.
        options: sizes, times and limits.
    """

    def __init__(self, me: str, options: StreamOptions) -> None:
        self._me = me
        self._options = options
        self._intakes: dict[Key, Intake] = {}
        self._tombstones: OrderedDict[Key, Ended | None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._intakes)

    def origins(self) -> set[str]:
        """The cells that push to us."""
        return {origin for origin, _ in self._intakes}

    def keys(self) -> list[Key]:
        """All that have not ended."""
        return list(self._intakes)

    # --- commands -------------------------------------------------------------------------------

    def accept(self, key: Key, idle_timeout_s: float | None, now: float) -> list[Effect]:
        """Somebody will consume the items; if none comes for so long, the stream ends."""
        intake = self._intakes.get(key)
        if intake is None or intake.state is not State.OFFERED:
            return []
        intake.state, intake.idle_timeout_s, intake.item_at = State.TAKING, idle_timeout_s, now
        return self._tell(intake)

    def took(self, key: Key, replies: Sequence[Body], now: float) -> list[Effect]:
        """The next items are consumed, one for each reply."""
        intake = self._intakes.get(key)
        if intake is None:
            return []
        for reply in replies:
            intake.bytes_consumed += intake.sizes.popleft()
            intake.replies.append(reply)
        intake.consumed += len(replies)
        intake.item_at = now
        return self._tell(intake)

    def finish(self, key: Key, error: ZdlError | None, body: Body = ()) -> list[Effect]:
        """The stream has ended here: with its result, or an error, of which the sender hears."""
        intake = self._intakes.pop(key, None)
        if intake is None:
            return []
        code, facts = ("", {}) if error is None else to_wire(error)
        ended = Ended(self._me, key[0], key[1], intake.consumed, code, facts, body)
        self._bury(key, ended)
        return [*(self._tell(intake) if intake.told < intake.consumed else []), Post(ended)]

    # --- the world ------------------------------------------------------------------------------

    def receive(self, message: Open | Items | End | Halt | Bounce | Unreachable, now: float) -> list[Effect]:
        """What a sender, or a cell on the way to it, has to say."""
        if isinstance(message, Unreachable):
            self._cut_off([each for each in self._intakes.values() if each.opening.origin != self._me and concerns(
                message, each.opening.origin)], message.why, now)
            return []
        if isinstance(message, Bounce):
            if message.of_kind in (Kind.TAKEN, Kind.ENDED):
                why = str(from_wire(message.code, dict(message.facts), at=message.origin))
                self._cut_off([each for each in self._intakes.values() if each.opening.id == message.id], why, now)
            return []
        key = message.origin, message.id
        intake = self._intakes.get(key)
        if intake is None:
            return self._unknown(key, message, now)
        intake.heard_at, intake.cut_off_at = now, None
        if isinstance(message, Items):
            return self._items(intake, message, now)
        if isinstance(message, Open):
            return [] if intake.state is State.OFFERED else self._tell(intake)
        if isinstance(message, Halt):
            return self._settle(intake, from_wire(message.code, dict(message.facts), at=message.origin), tell=False)
        return self._end(intake, message)

    def tick(self, now: float) -> list[Effect]:
        """Gives up whom nothing is heard of."""
        effects: list[Effect] = []
        for intake in list(self._intakes.values()):
            error = self._overdue(intake, now)
            if error is not None:
                effects += self._settle(intake, error, tell=True)
        return effects

    def deadline(self) -> float | None:
        """When `tick` is wanted next."""
        return min(map(self._wants_tick, self._intakes.values()), default=None)

    def check(self) -> None:
        """All invariants; for simulation."""
        for intake in self._intakes.values():
            intake.check()
        assert len(self._tombstones) <= self._options.tombstones_max
        assert not self._tombstones.keys() & self._intakes.keys()

    # --- inside ---------------------------------------------------------------------------------

    def _unknown(self, key: Key, message: Open | Items | End | Halt, now: float) -> list[Effect]:
        if isinstance(message, Halt):
            self._bury(key, None)  # what it is about may come yet
            return []
        if key in self._tombstones:
            ended = self._tombstones[key]
            return [] if ended is None else [Post(ended)]
        if not isinstance(message, Open):
            return [self._no(key, Refused(by=self._me, reason=NOT_OPEN, text="there is no such stream"))]
        if len(self._intakes) >= self._options.intakes_max:
            return [self._no(key, Busy(limit="intakes_max", value=self._options.intakes_max, at=self._me))]
        self._intakes[key] = Intake(message, now, now)
        return [IntakeOpened(message)]

    def _no(self, key: Key, error: ZdlError) -> Post:
        return Post(Ended(self._me, key[0], key[1], 0, *to_wire(error)))

    def _items(self, intake: Intake, message: Items, now: float) -> list[Effect]:
        self._forget_replies(intake, message)
        if message.first > intake.received:
            if message.body and intake.missed == intake.received:  # it was said, and what was on its way comes after it
                return []
            intake.missed = intake.received
            return self._tell(intake, again=True)
        if not message.body:
            return self._tell(intake)
        try:
            items = scatter(message.body)
        except DecodeError as error:
            return self._settle(intake, error, tell=True)
        fresh = tuple(items[intake.received - message.first:])
        if not fresh or intake.state is State.COMPLETE:
            return self._tell(intake)
        size = 0
        for item in fresh:
            one = size_of(item) + ITEM_OVERHEAD_BYTES
            size += one
            intake.sizes.append(one)
        intake.received += len(fresh)
        intake.bytes_received += size
        intake.item_at = now
        if intake.bytes_received > intake.granted and intake.consumed + 1 < intake.received:
            return self._settle(intake, RemoteProtocolError(what=f"{intake.opening.origin} sent more than it had credit for"),
                                tell=True)
        arrived: list[Effect] = [IntakeArrived(intake.key, fresh)]
        return arrived if size > PROMPT_BYTES_MAX else [*self._tell(intake), *arrived]

    def _forget_replies(self, intake: Intake, message: Items) -> None:
        """The sender has these; what it has not is said again."""
        while intake.heard < min(message.heard, intake.told):
            intake.heard += 1
            intake.replies.popleft()
        if not message.body:
            intake.told = intake.heard

    def _end(self, intake: Intake, message: End) -> list[Effect]:
        if message.count != intake.received:
            intake.told = intake.heard
            return self._tell(intake, again=True)
        if intake.state is State.TAKING:
            intake.state = State.COMPLETE
            return [*self._tell(intake), IntakeComplete(intake.key)]
        if intake.state is State.COMPLETE:
            intake.told = intake.heard
        return self._tell(intake)

    def _tell(self, intake: Intake, *, again: bool = False) -> list[Effect]:
        """How far we are; in several messages where there are many replies."""
        if intake.state is State.OFFERED:
            return []
        intake.granted = max(intake.granted, intake.bytes_consumed + self._options.window_bytes)
        origin, number = intake.key
        effects: list[Effect] = []
        while True:
            first, body = intake.told, self._replies(intake)
            effects.append(Post(Taken(self._me, origin, number, intake.received, intake.told, intake.granted, first,
                                      again and not effects, body)))
            if intake.told == intake.consumed:
                return effects

    def _replies(self, intake: Intake) -> Body:
        """The replies that go in one message; `told` is behind them."""
        taken: list[Body] = []
        size = 0
        offset = intake.told - intake.heard
        for index in range(offset, min(len(intake.replies), offset + BATCH_ITEMS_MAX)):
            size += size_of(intake.replies[index])
            if taken and size > BATCH_BYTES:
                break
            taken.append(intake.replies[index])
        intake.told += len(taken)
        return gather(taken) if size else ()

    def _cut_off(self, concerned: Sequence[Intake], why: str, now: float) -> None:
        for intake in concerned:
            if intake.cut_off_at is None:
                intake.cut_off_at, intake.cut_off_why = now, why

    def _overdue(self, intake: Intake, now: float) -> ZdlError | None:
        options, origin = self._options, intake.opening.origin
        name = f"stream {intake.opening.channel}/{intake.opening.topic}"
        if intake.cut_off_at is not None and now >= intake.cut_off_at + options.lost_timeout_s:
            return PeerLost(target=origin, lost=origin, at=self._me, why=intake.cut_off_why)
        if intake.cut_off_at is None and now >= intake.heard_at + options.silent_timeout_s:  # else why it is silent is known
            return TimedOut(what=f"any word about {name}", address=origin, waited_s=now - intake.heard_at)
        if self._is_idle(intake) and now >= intake.item_at + (intake.idle_timeout_s or 0):
            return TimedOut(what=f"the next item of {name}", address=origin, waited_s=now - intake.item_at)
        return None

    def _is_idle(self, intake: Intake) -> bool:
        """Whether it is the sender's turn, and only for so long."""
        return intake.idle_timeout_s is not None and intake.state is State.TAKING and intake.consumed == intake.received

    def _wants_tick(self, intake: Intake) -> float:
        options = self._options
        times = [intake.heard_at + options.silent_timeout_s if intake.cut_off_at is None
                 else intake.cut_off_at + options.lost_timeout_s]
        if self._is_idle(intake):
            times.append(intake.item_at + (intake.idle_timeout_s or 0))
        return min(times)

    def _settle(self, intake: Intake, error: ZdlError, *, tell: bool) -> list[Effect]:
        ended = Ended(self._me, *intake.key, intake.consumed, *to_wire(error))
        del self._intakes[intake.key]
        self._bury(intake.key, ended if tell else None)
        told: list[Effect] = [Post(ended)] if tell else []
        return [*told, IntakeSettled(intake.key, error)]

    def _bury(self, key: Key, ended: Ended | None) -> None:
        self._tombstones[key] = ended
        while len(self._tombstones) > self._options.tombstones_max:
            self._tombstones.popitem(last=False)
