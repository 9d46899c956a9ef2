"""The simulation of what is lent piece by piece: one origin's productions and hooks, some receivers, a bad network. One seed is
one history.

::

    python -m simpieces --seeds 100000 --processes 2    # from tests/
    python -m simpieces --story --from 4711             # one history, to be read

The origin is the real one (`Production`, `Produced`, `Hooks`, `Meters`, `CacheableObject`) on a virtual clock: its jobs run when
the seed says so, and while a user's ``produce`` runs, everything else goes on inside it. Questions and answers are lost,
doubled and reordered; receivers die, in silence or not, and come again; ``produce`` and hooks raise; the transaction is
finished, or deleted or expires at any moment. What the receivers do is drawn with `Retries` and `ProgressMeter`, which the real
ones use too. Threads that wait for each other inside one production are beyond it: `tests/download/test_production.py`.
"""

from __future__ import annotations

import argparse
import heapq
import logging
import multiprocessing
import random
import sys
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

try:
    import zdl  # noqa: F401
except ImportError:  # run from tests/ of a checkout that is not installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from simwatch import INTERVAL_S, must_follow

from zdl.download.cacheable import CacheableObject
from zdl.download.consuming import DEPTH, RETRIES
from zdl.download.downloadable import Downloadable, DownloadStatus, ProduceRC, State, TransactionDoneStatus
from zdl.download.hooks import Produced, done_status
from zdl.download.making import Answer, Maker
from zdl.download.meters import Meters
from zdl.download.pieces import Piece, Question, pieces_of
from zdl.download.production import AHEAD, Production
from zdl.download.retries import Retries
from zdl.errors import Cancelled, TimedOut, ZdlError
from zdl.objects.unpack import unpack
from zdl.observe.progress import COMPLETED, FAILED, ProgressMeter, TransferProgress, TransferProgressTracker
from zdl.options import PackOptions
from zdl.protocol.audiences import Audience
from zdl.protocol.effects import Outcome

ORIGIN, SECRET = "server", b"s" * 16
LATENCY_S, LATE_S, GRACE_S = 0.02, 1.0, 3.0
# How often the last word of a download is said, where it is not noted.
LAST_WORDS = 4
HISTORY_S = 300.0
DRAIN = "the drain of productions"


class UserError(Exception):
    """What simulated users' code raises."""


class Items(CacheableObject):
    """Items that are the same for all."""

    def __init__(self, world: PieceWorld, number: int, count: int) -> None:
        super().__init__(f"object {number}", world.rng.choice((0, 0, 3)))
        self.world, self.number, self.count = world, number, count

    def get_item_count(self) -> int:
        return self.count

    def produce_item(self, index: int) -> Any:
        self.world.produces_item(self, index)
        return bytes([index])

    def set_transaction(self, tx_id: str, ref_id: str) -> None:
        self.world.hook(self, "set_transaction")
        super().set_transaction(tx_id, ref_id)

    def downloaded_to_one(self, to_receiver: str, status: str) -> None:
        self.world.hook(self, "downloaded_to_one", to_receiver, status)

    def downloaded_to_all(self) -> None:
        super().downloaded_to_all()
        self.world.hook(self, "downloaded_to_all")

    def transaction_done(self, transaction_id: str, status: str) -> None:
        super().transaction_done(transaction_id, status)
        self.world.hook(self, "transaction_done", status)

    def release(self) -> None:
        super().release()
        self.world.hook(self, "release")


class Row(Downloadable):
    """Pieces that are made for each receiver, by states of its own."""

    def __init__(self, world: PieceWorld, number: int, count: int) -> None:
        super().__init__(f"object {number}")
        self.world, self.number, self.count = world, number, count

    def produce(self, state: State, requester: str) -> tuple[str, Any, State]:
        index = state.get("index", 0)
        if index == self.count:
            return ProduceRC.EOF, None, {}
        self.world.produces(self, index)
        return ProduceRC.OK, [bytes([index])], {"index": index + 1}

    def set_transaction(self, tx_id: str, ref_id: str) -> None:
        self.world.hook(self, "set_transaction")

    def downloaded_to_one(self, to_receiver: str, status: str) -> None:
        self.world.hook(self, "downloaded_to_one", to_receiver, status)

    def downloaded_to_all(self) -> None:
        self.world.hook(self, "downloaded_to_all")

    def transaction_done(self, transaction_id: str, status: str) -> None:
        self.world.hook(self, "transaction_done", status)

    def release(self) -> None:
        super().release()
        self.world.hook(self, "release")


Thing = Items | Row


class SimMaker(Maker):
    """Fills answers by number, and not by the clock."""

    def make(self, requester: str, state: State, pieces_max: int, is_over: Callable[[], bool]) -> Answer:
        """As the real one: what is equal for equal states is made in equal answers."""
        most = min(pieces_max, 1 + sum(self.key_of(state)) % 3)
        pieces: list[Piece] = []
        while True:
            code, _, after = piece = self._piece(requester, state)
            pieces.append(piece)
            if code != ProduceRC.OK or len(pieces) >= most or is_over():
                return self._packed(pieces, len(pieces))
            state = after


class Clock:
    """Virtual time. What waits for a production to end does not happen inside one."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.story: list[str] = []
        self.wrong: list[AssertionError] = []
        self.depth = 0
        self._queue: list[tuple[float, int, Callable[[], bool], Callable[[], None]]] = []
        self._count = 0

    def at(self, when: float, do: Callable[[], None], may: Callable[[], bool] = lambda: True) -> None:
        """Have something happen then, or as soon as it may."""
        self._count += 1
        heapq.heappush(self._queue, (max(when, self.now), self._count, may, do))

    def run(self, until: float) -> None:
        """Let time pass; called again from inside of what happens."""
        left = []
        while self._queue and self._queue[0][0] <= until:
            when, number, may, do = heapq.heappop(self._queue)
            self.now = max(self.now, when)
            if may():
                do()
                self.after()
            else:
                left.append((when, number, may, do))
        for each in left:
            heapq.heappush(self._queue, each)
        self.now = max(self.now, until)

    @property
    def is_empty(self) -> bool:
        """Whether nothing will happen any more."""
        return not self._queue

    def after(self) -> None:
        """Something has happened."""

    @contextmanager
    def noting(self) -> Iterator[None]:
        """What is found wrong where users' code runs is noted: what is raised there is swallowed, as it should be."""
        try:
            yield
        except AssertionError as error:
            self.wrong.append(error)
            raise

    def tell(self, *what: object) -> None:
        """One line of the story."""
        self.story.append(f"{self.now:8.4f} {'  ' * self.depth}{' '.join(map(str, what))}")


class Life:
    """One download of one object by one receiver, as `zdl.download.consuming` does it."""

    def __init__(self, world: PieceWorld, name: str, number: int) -> None:
        self.world, self.name, self.number = world, name, number
        self.production = world.productions[number]
        self.token = world.rng.randbytes(16)
        self.consumed = self.asked = self.items = 0
        self.is_alive, self.is_over, self.has_it, self.is_noted, self.is_done = True, False, False, False, False
        self.slots: dict[int, list[Piece] | ZdlError] = {}
        self.attempts: Counter[int] = Counter()
        self.retries = Retries(RETRIES)
        self.failures_at: list[float] = []
        self.last_words = 0
        self.told: list[TransferProgress] = []
        self._tracker = TransferProgressTracker(HISTORY_S)
        self._meter = ProgressMeter(self._progressed, tx_id="", ref_id=str(number), receiver_id=name, interval_s=INTERVAL_S)

    def begin(self) -> None:
        """It asks for the first answers."""
        self._meter.advance(0, 0, self.world.now)
        self._ask_ahead()

    def end(self, why: str) -> None:
        """It gives up."""
        if not self.is_alive or self.is_over:
            return
        self.is_over = self.is_done = True
        self.world.tell(self.name, "gives up", why)
        self._meter.end(FAILED, self.world.now)
        self.world.send(lambda: self.production.ask(self.name, self._question(self.consumed, is_over=True), lambda answer: None))
        self.world.gave_up(self.name)

    def _question(self, number: int, *, is_over: bool = False) -> Question:
        return Question(bytes([self.number]) * 16, SECRET, self.token, number, self.consumed, None, is_over)

    def _ask_ahead(self) -> None:
        while not self.is_over and self.asked < self.consumed + DEPTH:
            self.asked += 1
            self._ask(self.asked - 1)

    def _ask(self, number: int) -> None:
        if not self.is_alive or self.is_over:
            return
        self.attempts[number] += 1
        attempt, question, world = self.attempts[number], self._question(number), self.world
        world.tell(self.name, "asks for answer", number, "of object", self.number)

        def answered(answer: Answer | ZdlError) -> None:
            """At the origin."""
            world.send(lambda: self._arrives(number, answer))

        world.send(lambda: self.production.ask(self.name, question, answered))
        world.at(world.now + LATE_S, lambda: self._is_late(number, attempt))

    def _is_late(self, number: int, attempt: int) -> None:
        if number not in self.slots and self.attempts[number] == attempt and number >= self.consumed:
            self._arrives(number, TimedOut(what="an answer", address=ORIGIN, waited_s=LATE_S))

    def _arrives(self, number: int, answer: Answer | ZdlError) -> None:
        if not self.is_alive or self.is_over or number < self.consumed or isinstance(self.slots.get(number), list):
            return
        self.slots[number] = answer if isinstance(answer, ZdlError) else pieces_of(unpack(
            [bytes(part) for part in answer.frames], options=PackOptions()), ORIGIN)
        self._go_on()

    def _go_on(self) -> None:
        while not self.is_over and self.consumed in self.slots:
            found = self.slots[self.consumed]
            if isinstance(found, ZdlError):
                self._failed(found)
                return
            self.retries, self.failures_at = Retries(RETRIES), []
            is_last = not found or found[-1][0] != ProduceRC.OK
            for code, data, _ in found:
                if code == ProduceRC.ERROR:
                    assert self.world.has_raised, f"{self.name} gets an error, and nothing has failed"
                    self.end(str(data))
                    return
                if code == ProduceRC.OK:
                    self._consume(data)
            self.consumed += 1
            if is_last:
                self._has_all()
            else:
                self._ask_ahead()

    def _consume(self, data: object) -> None:
        """D4: each item once, in order, whatever was lost or doubled on the way."""
        assert isinstance(data, list)
        for item in data:
            assert item == bytes([self.items]), f"{self.name} gets item {item!r}, and wants item {self.items}"
            self.items += 1
        self._meter.advance(len(data), 1, self.world.now)

    def _failed(self, error: ZdlError) -> None:
        """D7: asked for again as configured, later and later; the count begins anew with each answer that came."""
        pause_s = self.retries.failed(error)
        before, self.failures_at = self.failures_at, [*self.failures_at, self.world.now]
        assert len(before) <= RETRIES, f"{self.name} has tried {len(before)} times in vain"
        gaps = [later - earlier for earlier, later in zip(self.failures_at, self.failures_at[1:])]
        assert not isinstance(error, TimedOut) or gaps == sorted(gaps) or len(gaps) < 2 or min(gaps) >= LATE_S, gaps
        if pause_s is None:
            self.end(str(error))
            return
        number = self.consumed
        self.slots.pop(number, None)
        self.attempts[number] += 1  # what comes of the last try is still taken; that it is late means nothing
        self.world.at(self.world.now + pause_s, lambda: self._ask(number) if number not in self.slots else self._go_on())

    def _has_all(self) -> None:
        assert self.items == self.world.things[self.number].count, f"{self.name} has {self.items} items"
        self.has_it = self.is_over = True
        self._say_over()

    def _say_over(self) -> None:
        """Before the end is confirmed, over another lane, so that what is told of the end is all of it."""
        if not self.is_alive:
            return
        self.last_words += 1
        if self.is_noted or self.last_words > LAST_WORDS:
            self._meter.end(COMPLETED, self.world.now)
            self.is_done = True
            self.world.confirms(self)
            return

        def noted(answer: Answer | ZdlError) -> None:
            """At the origin."""
            self.world.send(note)

        def note() -> None:
            """Here."""
            self.is_noted = True

        self.world.send(lambda: self.production.ask(self.name, self._question(self.consumed, is_over=True), noted))
        self.world.at(self.world.now + LATE_S / 2, self._say_over)

    def _progressed(self, event: TransferProgress) -> None:
        """D10: events of the same shape as at the origin, one after the other, true to what was consumed."""
        must_follow(event, self.told, self._tracker, self.world.now)
        assert event.bytes_done <= self.items and (not event.is_end or event.bytes_done == self.items), f"{event}, of {self.items}"


class SimWorkers:
    """Threads for users' code: a job begins when the seed says so."""

    def __init__(self, world: PieceWorld) -> None:
        self._world = world

    def submit(self, what: str, job: Callable[[], None]) -> None:
        """Soon; what waits for productions, when none is under way."""
        world = self._world
        if what.startswith("production of"):
            world.under_way += 1
            world.at(world.now + world.rng.random() * 0.1, lambda: world.works(job))
        else:
            world.at(world.now + world.rng.random() * 0.1, job, world.may_call)


class PieceWorld(Clock):
    """The history of one seed.

    Args:
        seed: of everything that is drawn.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        rng = self.rng
        self.names = [f"site-{number}" for number in range(rng.choice((1, 2, 2, 3, 4)))]
        is_named = rng.random() < 0.7
        self.audience = Audience(names=frozenset(self.names)) if is_named else Audience(count=len(self.names))
        self.loss, self.doubling = rng.choice((0.0, 0.0, 0.05, 0.2)), rng.choice((0.0, 0.1, 0.3))
        self.raises = rng.choice((0.0, 0.0, 0.0, 0.03))
        self.under_way = 0
        self.has_raised = False
        self.lives: list[Life] = []
        self.outcomes: dict[str, Outcome] = {}
        self.gone: set[str] = set()
        self.had: defaultdict[str, set[int]] = defaultdict(set)
        self.calls: list[tuple[str, int, tuple[object, ...]]] = []
        self.made: defaultdict[int, set[int]] = defaultdict(set)
        self.making: Counter[tuple[int, int]] = Counter()
        self.made_count: Counter[tuple[int, int]] = Counter()
        self.ended_as: Outcome | None = None
        self.told_end = 0
        self.told: defaultdict[tuple[str, str], list[TransferProgress]] = defaultdict(list)
        self._tracker = TransferProgressTracker(HISTORY_S)
        self.produced = Produced(self.audience, SimWorkers(self), lambda produced, *, is_done: None)  # type: ignore[arg-type]
        self.produced.transaction_id = "ab" * 16
        self.produced.meters = Meters(self._progressed, INTERVAL_S, clock=lambda: self.now)
        self.produced.meters.transaction_id = self.produced.transaction_id
        self.produced.on_done = lambda status: self.hook(None, "on_done", status)
        self.things: list[Thing] = []
        self.productions: list[Production] = []
        for number in range(rng.choice((1, 1, 2))):
            self._add(number)

    def _add(self, number: int) -> None:
        count = self.rng.choice((0, 1, 3, 7))
        thing: Thing = Items(self, number, count) if self.rng.random() < 0.7 else Row(self, number, count)
        ref_id = (bytes([number]) * 16).hex()

        def lend(manifest: object, lent: object) -> Any:
            """Nothing here is large."""
            raise AssertionError("a small piece is lent")

        production = Production(
            thing, f"ref:{number}", ORIGIN, maker=SimMaker(thing, packing=PackOptions(), bytes_max=1 << 20, lend=lend),
            submit=SimWorkers(self).submit,
            consumed=lambda name, nbytes, items: self.produced.consumed(name, ref_id, nbytes, items))
        self.things.append(thing)
        self.productions.append(production)
        self.produced.add(production, bytes([number]) * 16)

    # --- the history ------------------------------------------------------------------------------

    def run_all(self) -> PieceWorld:
        """Run it to its end, and hold it against the promises.

        Raises:
            AssertionError: one was broken; the story tells how.
        """
        rng = self.rng
        for name in self.names:
            for _ in range(1 + (rng.random() < 0.2)):
                self.at(rng.random() * 0.5, lambda name=name: self._starts(name))  # type: ignore[misc]
            if rng.random() < 0.25:
                self.at(rng.random() * 2.0, lambda name=name: self._dies(name))  # type: ignore[misc]
            elif rng.random() < 0.1:
                self.at(rng.random() * 2.0, lambda name=name: self._cancels(name))  # type: ignore[misc]
        if rng.random() < 0.25:
            how = rng.choice((Outcome.DELETED, Outcome.EXPIRED, Outcome.CLOSED))
            self.at(rng.random() * 2.5, lambda: self._ends(how))
        while not self.is_empty and self.now < HISTORY_S:
            self.run(self.now + 1.0)
            if self.now > 60.0 and self.ended_as is None:
                self._ends(Outcome.EXPIRED)
        assert self.is_empty, "the history does not end"
        self._verify()
        return self

    def send(self, does: Callable[[], object]) -> None:
        """A message, which may be lost, doubled, and overtaken."""
        for _ in range((self.rng.random() >= self.loss) + (self.rng.random() < self.doubling)):
            self.at(self.now + self.rng.random() * LATENCY_S, lambda: does() and None)

    def _starts(self, name: str) -> None:
        if self.ended_as is not None:
            return
        self.tell(name, "starts")
        for number in range(len(self.things)):
            life = Life(self, name, number)
            self.lives.append(life)
            life.begin()

    def _dies(self, name: str) -> None:
        self.tell(name, "dies")
        for life in self.lives:
            life.is_alive = life.is_alive and life.name != name
        self.at(self.now + GRACE_S, lambda: self._settles(name, Outcome.LOST) if not self._is_at_it(name) else None)
        if self.rng.random() < 0.6:
            self.at(self.now + self.rng.random() * 2 * GRACE_S, lambda: self._starts(name))

    def _cancels(self, name: str) -> None:
        for life in self.lives:
            if life.name == name:
                life.end(str(Cancelled(what="the pull", why="no longer wanted")))

    def _is_at_it(self, name: str) -> bool:
        return any(life.name == name and life.is_alive and not life.is_done for life in self.lives)

    def gave_up(self, name: str) -> None:
        """A receiver says that it does not go on."""
        self.at(self.now + LATENCY_S, lambda: None if self._is_at_it(name) else self._settles(name, Outcome.FAILED))

    def confirms(self, life: Life) -> None:
        """A receiver has consumed all of one object: the data lane tells the origin, surely and once."""
        def had() -> None:
            """On the origin's data lane."""
            if self.ended_as is None and life.number not in self.had[life.name]:
                self.had[life.name].add(life.number)
                self.tell("the origin notes", life.name, "has object", life.number)
                self.produced.had(bytes([life.number]) * 16, life.name)
                if len(self.had[life.name]) == len(self.things):
                    self._settles(life.name, Outcome.FINISHED)

        self.at(self.now + self.rng.random() * LATENCY_S, had)

    def _settles(self, name: str, outcome: Outcome) -> None:
        """What `zdl.protocol.offers` would say of one receiver, and of all."""
        if self.ended_as is not None or self.outcomes.get(name) is Outcome.FINISHED:
            return
        self.outcomes[name] = outcome
        if outcome is Outcome.LOST:
            self.gone.add(name)
        self.tell(name, "is", outcome.value)
        self.produced.receiver_settled(name, outcome)
        if all(self.outcomes.get(each) is Outcome.FINISHED for each in self.names):
            self._ends(Outcome.FINISHED)

    def _ends(self, outcome: Outcome) -> None:
        if self.ended_as is not None:
            return
        self.ended_as = outcome
        self.tell("the transaction is", outcome.value)
        begun = {life.name for life in self.lives}
        told = {name: each for name, each in self.outcomes.items() if name in begun}
        receivers = {name: told.get(name, outcome) for name in sorted(begun | self.audience.names)}
        self.produced.ended(outcome, receivers, self._end_is_told)

    def _end_is_told(self) -> None:
        self.told_end += 1
        self.hook(None, "waiters told")

    # --- the origin's threads ---------------------------------------------------------------------

    def works(self, job: Callable[[], None]) -> None:
        """A thread for users' code."""
        job()
        self.under_way -= 1

    def may_call(self) -> bool:
        """Whether what waits for productions need not wait now."""
        hooks = self.produced._hooks
        return self.under_way == 0 or not any(what == DRAIN for what, _ in hooks._calls)

    def after(self) -> None:
        """D22: what is prepared ahead is within its bound, always; and is there when nobody works any more."""
        if self.wrong:
            raise self.wrong[0]
        for production in self.productions:
            for serving in production._servings.values():
                asked = serving.asked
                assert serving.next <= asked + AHEAD, f"{serving.next} answers are made, {asked} were asked for"
                is_idle = self.under_way == 0 and not (serving.is_at_end or serving.is_over)
                assert not is_idle or production._why_closed is not None or serving.next >= asked + AHEAD, (
                    f"nobody prepares answer {serving.next} for {serving.requester}, who has asked for {asked}")

    def meanwhile(self) -> None:
        """What goes on while a user's code runs."""
        self.depth += 1
        self.run(self.now + self.rng.choice((0.0, 0.01, 0.2)))
        self.depth -= 1

    def produces(self, thing: Thing, index: int) -> None:
        """D11: users' code runs, and may raise, while all else goes on."""
        self.tell("produces item", index, "of object", thing.number)
        with self.noting():
            self._must_not_be_released(thing)
            self.meanwhile()
            self._must_not_be_released(thing)
        if self.rng.random() < self.raises:
            self.has_raised = True
            raise UserError(f"item {index}")

    def produces_item(self, thing: Items, index: int) -> None:
        """D25: an item that several want is produced once, until all who are counted have it, or who had begun is gone."""
        key = thing.number, index
        wanted = self._waits_for(thing, index)
        with self.noting():
            assert not self.making[key], f"item {index} is produced twice at once"
            assert index not in self.made[thing.number] or not wanted, f"item {index} is produced again, and {wanted} still want it"
        self.making[key] += 1
        try:
            self.produces(thing, index)
        finally:
            self.making[key] -= 1
        self.made[thing.number].add(index)
        self.made_count[key] += 1

    def _waits_for(self, thing: Items, index: int) -> set[str]:
        """Those who are counted and have not consumed an item that is kept for them."""
        if self.ended_as is not None or self.calls and ("downloaded_to_all", thing.number, ()) in self.calls:
            return set()
        consumed = thing._consumed.get(index, set())
        if self.audience.names:
            return set(self.names) - self.gone - consumed
        return set(self.names) - consumed if len(consumed) < len(self.names) - len(self.gone) else set()

    def _must_not_be_released(self, thing: Thing) -> None:
        """D19: what is produced from is there."""
        assert thing.base_obj is not None, f"object {thing.number} is released while it produces"

    # --- the hooks --------------------------------------------------------------------------------

    def hook(self, thing: Thing | None, name: str, *arguments: object) -> None:
        """A hook is called; it may raise."""
        number = -1 if thing is None else thing.number
        self.tell("calls", name, number, *arguments)
        self.calls.append((name, number, arguments))
        if name != "set_transaction" and thing is not None and self.rng.random() < self.raises:
            raise UserError(name)

    def _progressed(self, event: TransferProgress) -> None:
        """D9: at the origin, per receiver and object: each event follows the one before, and its end is its last."""
        with self.noting():
            must_follow(event, self.told[event.receiver_id, event.ref_id], self._tracker, self.now)
            assert event.tx_id == self.produced.transaction_id

    # --- what has become of it --------------------------------------------------------------------

    def _verify(self) -> None:
        """D17: whoever has gone, or given up, nothing is kept for him in the end, and nobody waits for ever."""
        if self.ended_as is None:
            self._ends(Outcome.EXPIRED)
            self.run(self.now + 10.0)
        assert self.is_empty and self.under_way == 0
        for life in self.lives:
            assert not life.is_alive or life.is_over, f"{life.name} waits for ever"
            assert not life.is_alive or life.told[-1].is_end, f"{life.name} is left in the middle"
        for production in self.productions:
            assert not production._servings and not production._shared, "something is kept for somebody"
            assert production._threads == 0 and not production._ready
        for thing in self.things:
            self._verify_hooks(thing)
        self._verify_order()
        self._verify_progress()

    def _verify_hooks(self, thing: Thing) -> None:
        """D1, D4: each hook as often as it should be, for each receiver once, in its order."""
        mine = [(name, arguments) for name, number, arguments in self.calls if number == thing.number]
        names = [name for name, _ in mine]
        count = Counter(names)
        assert names[0] == "set_transaction" and names[-1] == "release" and names[-2] == "transaction_done", names
        assert count["set_transaction"] == count["transaction_done"] == count["release"] == 1, names
        ones = [arguments for name, arguments in mine if name == "downloaded_to_one"]
        told: Mapping[object, object] = dict(ones)  # type: ignore[arg-type]
        assert len(told) == len(ones), f"{ones}: told twice"
        begun = {life.name for life in self.lives if self.productions[thing.number].has_begun(life.name)}
        have = {name for name in begun if thing.number in self.had[name]}
        assert set(told) == begun | self.audience.names, f"{set(told)} are told of, {begun} had begun"
        assert {name for name, status in told.items() if status == DownloadStatus.SUCCESS} == have
        is_all = have >= set(self.names)
        times = count["downloaded_to_all"]
        assert times == is_all, f"{have} have it, and downloaded_to_all was called {times} times"
        if is_all:
            last = max(index for index, name in enumerate(names) if name == "downloaded_to_one")
            assert names.index("downloaded_to_all") > last, names

    def _verify_order(self) -> None:
        """D3, D5: how it ended is told in one word, after that who waits, and then the objects are let go, which were there."""
        assert self.ended_as is not None
        names = [name for name, _, _ in self.calls]
        assert self.told_end == 1 and names.count("on_done") == 1
        assert max(at for at, name in enumerate(names) if name == "transaction_done") < names.index("on_done"), names
        assert names.index("on_done") < names.index("waiters told") < names.index("release"), names
        status = {name: arguments[-1] for name, _, arguments in self.calls if name in ("transaction_done", "on_done")}
        assert set(status.values()) == {done_status(self.ended_as)}, f"{self.ended_as} is told as {status}"
        assert (done_status(self.ended_as) == TransactionDoneStatus.FINISHED) == (self.ended_as is Outcome.FINISHED)

    def _verify_progress(self) -> None:
        """D9: who has it all is told as complete, with all that it has consumed, and nobody is left in the middle."""
        for (name, ref_id), told in self.told.items():
            assert told[-1].is_end, f"{name} is left as {told[-1].state}"
            is_well = self.outcomes.get(name) is Outcome.FINISHED
            assert (told[-1].state == COMPLETED) == is_well, f"{name} is {self.outcomes.get(name)}, and told as {told[-1].state}"
            number = int(ref_id[:2], 16)
            lives = [life for life in self.lives if life.name == name and life.number == number and life.has_it and life.is_noted]
            if is_well and lives:
                assert told[-1].items_done >= lives[0].told[-1].items_done, f"{name} has consumed more than is told of it"


# --- the command ----------------------------------------------------------------------------------


def trouble(seed: int) -> str:
    """What is wrong with the history of this seed, with its story; empty when nothing is."""
    world = PieceWorld(seed)
    try:
        world.run_all()
    except Exception as error:  # whatever is raised is a finding
        where = "".join(traceback.format_tb(error.__traceback__)[-3:])
        return "\n".join([*world.story[-400:], where, f"seed {seed}: {type(error).__name__}: {error}"])
    return ""


def main(arguments: list[str] | None = None) -> int:
    """Run many seeds; the exit status tells whether one failed."""
    parser = argparse.ArgumentParser(prog="python -m simpieces", description="Simulate many histories of pieces.")
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--story", action="store_true", help="print the story of the first seed, and stop")
    given = parser.parse_args(arguments)
    if given.story:
        wrong = trouble(given.first)
        print(wrong or "\n".join(PieceWorld(given.first).run_all().story))
        return int(bool(wrong))
    began, passed = time.monotonic(), 0
    with multiprocessing.Pool(given.processes, logging.disable) as pool:  # who breaks things on purpose need not read of it
        for wrong in pool.imap(trouble, range(given.first, given.first + given.seeds), chunksize=50):
            if wrong:
                print(f"{wrong}\n{passed} passed, 1 failed")
                return 1
            passed += 1
    print(f"{passed} passed, 0 failed, {passed / (time.monotonic() - began):.0f} seeds/s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
