"""Lag: one that is behind paces nobody, then paces by its own moves, and does not hold the others up when it has none."""

from __future__ import annotations

from dataclasses import replace

import pytest
from simbooks import DATA, NEVER, PATIENT, Noise, Push
from simcell import SimCell, Taking
from simworld import World

from zdl.errors import Busy, PeerLost, TimedOut
from zdl.options import StreamOptions
from zdl.protocol import effects as asked
from zdl.protocol.backlog import ITEM_OVERHEAD_BYTES, Backlog
from zdl.protocol.effects import Effect, PushSettled, Unreachable
from zdl.protocol.lag import PATIENCE, WAITING_SHARE, Lag
from zdl.protocol.pushes import Opening, Pushes
from zdl.protocol.pushing import Taken

ITEM_BYTES = 1000 - ITEM_OVERHEAD_BYTES
OPTIONS = StreamOptions(window_bytes=20_000, backlog_bytes_max=100_000, lag_timeout_s=2.0, stall_timeout_s=20.0,
                        silent_timeout_s=100.0, lost_timeout_s=50.0)
BOUND = 60  # items of 1000 bytes are three fifths of the backlog


class Fan:
    """Pushes of one stream to a quick receiver and one that is tested, which say what a test has them say."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pushes = Pushes("server", 1, OPTIONS)
        self.backlog = Backlog()
        self.ids = {each: self.pushes.start(Opening(each, "a", "b", "objects"), 0.0, self.backlog)[0] for each in ("quick", "slow")}
        self.settled: list[PushSettled] = []

    def put(self, count: int) -> None:
        self._act(self.pushes.spread(self.backlog, [((b"x" * ITEM_BYTES,), None)] * count, self.now))

    def consumed(self, target: str, count: int) -> None:
        self._act(self.pushes.receive(Taken(target, "server", self.ids[target], count, count, 1 << 30, 0, False), self.now))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        if (due := self.pushes.deadline()) is not None and due <= self.now:
            self._act(self.pushes.tick(self.now))

    def ended_with(self, target: str) -> object:
        return next((each.error for each in self.settled if each.push_id == self.ids[target]), None)

    def _act(self, effects: list[Effect]) -> None:
        self.settled += [each for each in effects if isinstance(each, PushSettled)]
        self.pushes.check()


def test_the_bound_is_a_share_of_the_backlog_and_room_is_what_the_slowest_leaves_of_it() -> None:
    lag = Lag.of(OPTIONS)
    assert lag.waiting_bytes_max == OPTIONS.backlog_bytes_max * WAITING_SHARE and lag.timeout_s == 2.0
    assert lag.room_bytes([5000, 300, 40_000]) == 60_300
    assert lag.is_pacing(1000, 61_000) and not lag.is_pacing(1001, 61_000)
    assert (lag.due_at(10.0, 0.5), lag.due_at(10.0, 5.0)) == (12.0, 10.0 + PATIENCE * 5.0)


def test_below_the_bound_one_that_does_not_move_has_the_time_of_its_items() -> None:
    fan = Fan()
    fan.put(BOUND - 1)
    fan.consumed("quick", BOUND - 1)
    fan.wait(19.0)
    assert not fan.settled
    fan.wait(1.5)
    assert isinstance(fan.ended_with("slow"), TimedOut) and fan.ended_with("quick") is None


def test_at_the_bound_one_that_does_not_move_holds_the_others_up_for_its_time_and_no_longer() -> None:
    fan = Fan()
    fan.put(BOUND)
    fan.consumed("quick", 1)
    assert fan.pushes.deadline() == OPTIONS.lag_timeout_s
    fan.wait(1.5)
    assert not fan.settled
    fan.wait(1.0)
    error = fan.ended_with("slow")
    assert isinstance(error, Busy) and (error.limit, error.value, error.at) == ("streams.backlog_bytes_max", 100_000, "slow")
    assert len(fan.pushes) == 1


def test_one_that_has_slept_for_its_time_when_the_bound_is_reached_holds_nobody_up() -> None:
    fan = Fan()
    fan.put(BOUND - 1)
    fan.wait(3.0)
    fan.consumed("quick", 1)
    fan.put(1)
    assert not fan.settled
    fan.wait(0.0)
    assert isinstance(fan.ended_with("slow"), Busy)


def test_one_that_moves_is_never_left_behind_however_slow_it_is() -> None:
    fan = Fan()
    fan.put(BOUND)
    for number in range(100):
        fan.consumed("quick", number + 1)
        fan.wait(1.9)
        fan.consumed("slow", number + 1)
        fan.put(1)
    assert not fan.settled


def test_one_that_always_takes_long_has_twice_its_own_time() -> None:
    fan = Fan()
    fan.put(BOUND)
    fan.wait(5.0)
    fan.consumed("slow", 1)
    fan.put(1)
    fan.consumed("quick", 1 + 1)
    fan.wait(9.5)
    assert not fan.settled
    fan.wait(1.0)
    assert isinstance(fan.ended_with("slow"), Busy)


def test_its_time_begins_when_there_is_something_to_consume() -> None:
    fan = Fan()
    fan.put(1)
    for target in ("quick", "slow"):
        fan.consumed(target, 1)
    fan.wait(15.0)
    fan.put(BOUND)
    fan.consumed("quick", 2)
    fan.wait(1.5)
    assert not fan.settled
    fan.wait(1.0)
    assert isinstance(fan.ended_with("slow"), Busy)


def test_where_nobody_is_ahead_nobody_is_left_behind() -> None:
    fan = Fan()
    fan.put(BOUND)
    fan.wait(15.0)
    assert not fan.settled
    fan.consumed("quick", 1)
    fan.wait(0.0)
    assert isinstance(fan.ended_with("slow"), Busy), "now somebody is held up"


def test_when_no_more_will_come_nobody_is_held_up() -> None:
    fan = Fan()
    fan.put(BOUND)
    fan.consumed("quick", BOUND)
    for number in fan.ids.values():
        fan.pushes.finish(number, fan.now)
    fan.wait(19.0)
    assert not fan.settled


def test_one_to_which_there_is_no_way_is_lost_and_not_busy() -> None:
    fan = Fan()
    fan.put(BOUND)
    fan.consumed("quick", 1)
    fan.pushes.receive(Unreachable("server", "slow", False, "cut"), fan.now)
    fan.wait(2.0)
    error = fan.ended_with("slow")
    assert isinstance(error, PeerLost) and error.why == "cut"


class OneToMany(World):
    """A history of one stream to some sites: quick ones, slow ones, and some that sleep; what is put is what there is room for.

    Args:
        seed: of everything that is drawn.
        is_noisy: whether messages meet with accidents.
    """

    def __init__(self, seed: int, *, is_noisy: bool = False) -> None:
        super().__init__(seed, replace(PATIENT, streams=replace(
            PATIENT.streams, window_bytes=20_000, backlog_bytes_max=100_000, lag_timeout_s=2.0)))
        rng = self.rng
        self.lag = Lag.of(self.options.streams)
        self.paces = {f"site-{number}": rng.choice((0.0, 0.0, 0.02, 0.3, 1.5, NEVER)) for number in range(1, rng.choice((3, 4, 6)))}
        self.paces["site-0"] = rng.choice((0.0, 0.3))
        self.free_at = dict.fromkeys(self.paces, 0.0)
        self.items = [bytes([number]) * rng.choice((0, 500, 3000, 9000)) for number in range(rng.choice((30, 60)))]
        self.backlog = Backlog()
        self.sent: dict[str, Push] = {}
        self.waits_for = 0, -1
        self.waits_since = 0.0
        self.waited_s = 0.0
        self.is_noisy = is_noisy

    def run(self) -> OneToMany:
        """To the end of all of them."""
        for name in ("server", *self.paces):
            self.start(name)
        self.run_until(1.0)
        sender = self.cells["server"]
        if self.is_noisy:
            self.noise = Noise(self.now + 3.0, (False, True), lose=0.1, double=0.1)
        for name in self.paces:
            number, effects = sender.pushes.start(Opening(name, "sim", "push", "objects"), self.now, self.backlog)
            self.sent[name] = self.pushes["server", number] = Push(
                sender, name, self.items, self.now, True, "asleep" if self.paces[name] == NEVER else "")
            sender.act(DATA, effects)
        self._feed(sender, 0)
        while not all(push.settled_at for push in self.sent.values()):
            assert self.now < 400, "the history does not end"
            self.run_until(self.now + 0.5)
        return self

    def _feed(self, sender: SimCell, count: int) -> None:
        """What there is room for; soon again."""
        consumed = self.backlog.bytes_consumed()
        while consumed and count < len(self.items) and self._has_room(consumed):
            assert self.backlog.end - min(consumed) < self.lag.waiting_bytes_max
            sender.act(DATA, sender.pushes.spread(self.backlog, [((self.items[count],), None)], self.now))
            consumed, count = self.backlog.bytes_consumed(), count + 1
        if not consumed or count == len(self.items):
            for key in [key for key in self.pushes if self.pushes[key].settled_at is None]:
                sender.act(DATA, sender.pushes.finish(key[1], self.now))
            return
        if self.waits_for != (count, min(consumed)):  # the one that is last has moved, or is no more
            self.waits_for, self.waits_since = (count, min(consumed)), self.now
        self.waited_s = max(self.waited_s, self.now - self.waits_since)
        self.at(self.now + 0.05, self._feed, sender, count)

    def _has_room(self, consumed: list[int]) -> bool:
        room = min(max(consumed) + self.options.streams.window_bytes, self.lag.room_bytes(consumed))
        return self.backlog.end < room

    def take_in(self, cell: SimCell, effect: Taking) -> None:
        """One item after the other, at the pace of this site."""
        if not isinstance(effect, asked.IntakeArrived):
            super().take_in(cell, effect)
            return
        push, pace = self.pushes[effect.key], self.paces[cell.fqcn]
        push.taken += [b"".join(bytes(part) for part in item) for item in effect.items]
        assert push.taken == self.items[:len(push.taken)], "items are lost, doubled or out of order"
        for _ in effect.items if pace < NEVER else ():
            self.free_at[cell.fqcn] = max(self.now, self.free_at[cell.fqcn]) + pace
            self.at(self.free_at[cell.fqcn], self._took, cell, effect.key, 1)


@pytest.mark.parametrize("first", range(0, 24, 12))
def test_in_every_history_those_that_move_get_everything_and_wait_only_for_those_that_move(first: int) -> None:
    for seed in range(first, first + 12):
        history = OneToMany(seed).run()
        story = f"seed {seed}: {history.paces}, {({name: repr(push.error) for name, push in history.sent.items()})}"
        is_over_bound = sum(len(each) + ITEM_OVERHEAD_BYTES for each in history.items[:-1]) >= history.lag.waiting_bytes_max
        for name, push in history.sent.items():
            if history.paces[name] < NEVER:
                assert push.error is None and push.taken == history.items, story
            else:
                assert isinstance(push.error, Busy if is_over_bound else (Busy, TimedOut)), story
        assert history.waited_s <= history.lag.timeout_s + 0.2, story


def test_in_every_history_in_which_messages_are_lost_all_end_and_the_bound_is_kept() -> None:
    for seed in range(10):
        history = OneToMany(seed, is_noisy=True).run()
        ends = [push.error for push in history.sent.values()]
        assert None in ends and all(each is None or isinstance(each, (Busy, TimedOut)) for each in ends), f"seed {seed}: {ends}"
