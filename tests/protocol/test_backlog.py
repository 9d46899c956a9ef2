"""Backlog: one stream's items, held once for all its receivers."""

from __future__ import annotations

import random

import pytest
from pushed import OPTIONS, Pair

from zdl.errors import Cancelled
from zdl.protocol.backlog import BLOCK_BYTES_MAX, ITEM_OVERHEAD_BYTES, Backlog, Queue
from zdl.protocol.effects import Effect, Post, PushSettled
from zdl.protocol.items import BATCH_BYTES, BATCH_ITEMS_MAX, scatter
from zdl.protocol.messages import Body
from zdl.protocol.pushes import Opening, Pushes
from zdl.protocol.pushing import End, Items, Taken

FULL = BATCH_BYTES // 1000 + 1
MIB = 1 << 20


def posted(effects: list[Effect], target: str) -> list[Items]:
    """The items that were sent to one."""
    return [each.message for each in effects if isinstance(each, Post) and isinstance(each.message, Items)
            and each.message.target == target]


class Fan:
    """Pushes to several, whose receivers say what a test has them say."""

    def __init__(self, *targets: str) -> None:
        self.pushes = Pushes("server", 1, OPTIONS)
        self.backlog = Backlog()
        self.ids = {each: self.pushes.start(Opening(each, "a", "b", "objects"), 0.0, self.backlog)[0] for each in targets}

    def put(self, *items: bytes, timeout_s: float | None = None) -> list[Effect]:
        found = self.pushes.spread(self.backlog, [((each,), timeout_s) for each in items], 0.0)
        self.pushes.check()
        return found

    def taken(self, target: str, received: int, consumed: int, credit: int = MIB) -> list[Effect]:
        found = self.pushes.receive(Taken(target, "server", self.ids[target], received, consumed, credit, 0, False), 0.0)
        self.pushes.check()
        return found


def body_of(message: Items) -> list[bytes]:
    return [b"".join(parts) for parts in scatter(message.body)]


def test_a_full_block_goes_to_all_as_the_same_bytes() -> None:
    fan = Fan("site-1", "site-2")
    effects = fan.put(*[b"x" * 1000] * FULL)
    one, two = posted(effects, "site-1"), posted(effects, "site-2")
    assert len(one) == len(two) == 1 and one[0].body[0] is two[0].body[0] and len(body_of(one[0])) == FULL


def test_one_that_lags_gets_whole_blocks_and_one_that_keeps_up_gets_what_there_is() -> None:
    fan = Fan("quick", "slow")
    effects = fan.put(b"0")
    assert body_of(posted(effects, "quick")[0]) == body_of(posted(effects, "slow")[0]) == [b"0"]
    fan.taken("quick", 1, 1)
    effects = fan.put(b"1", b"2")
    assert body_of(posted(effects, "quick")[0]) == [b"1", b"2"] and not posted(effects, "slow"), "the slow one's block may grow"
    effects = fan.put(*[b"x" * 1000] * FULL)
    assert len(body_of(posted(effects, "quick")[0])) == FULL and len(body_of(posted(effects, "slow")[0])) == FULL + 2


def test_what_is_on_its_way_to_one_alone_leaves_at_once() -> None:
    fan = Fan("site-1")
    assert [body_of(each) for item in (b"1", b"2") for each in posted(fan.put(item), "site-1")] == [[b"1"], [b"2"]]


def test_an_item_of_another_timeout_or_that_does_not_fit_begins_another_block() -> None:
    fan = Fan("site-1", "site-2")
    fan.put(b"a")
    fan.put(b"b")
    effects = [*fan.put(b"c", timeout_s=3.0), *fan.put(b"x" * BLOCK_BYTES_MAX), *fan.taken("site-2", 1, 1)]
    assert [body_of(each)[0][:1] for each in posted(effects, "site-2")] == [b"b", b"c", b"x"]


def test_many_empty_items_are_several_blocks() -> None:
    fan = Fan("site-1", "site-2")
    sent = posted(fan.put(*[b""] * (2 * BATCH_ITEMS_MAX)), "site-1")
    assert [len(body_of(each)) for each in sent] == [BATCH_ITEMS_MAX] * 2


def test_without_credit_for_all_of_a_block_goes_what_there_is_credit_for() -> None:
    fan = Fan("site-1", "site-2")
    for name in ("site-1", "site-2"):
        fan.taken(name, 0, 0, 0)
    one = 1000 + ITEM_OVERHEAD_BYTES
    first = 256 * 1024 // one
    sent = posted(fan.put(*[b"x" * 1000] * (first + 100)), "site-1")
    assert [len(body_of(each)) for each in sent] == [FULL] * 3, "the rest of the credit is for a part of the next"
    sent = posted(fan.taken("site-1", 3 * FULL, 0, 0), "site-1")
    assert [len(body_of(each)) for each in sent] == [first - 3 * FULL], "nothing is on its way: what there is credit for may go"
    more = posted(fan.taken("site-1", first, first - 1, (first + 3) * one), "site-1")
    assert sum(len(body_of(each)) for each in more) == 3
    last = posted(fan.taken("site-1", first + 3, first + 3, 0), "site-1")
    assert [len(body_of(each)) for each in last] == [1], "one may always go when all others are consumed"


def test_what_all_have_is_not_held_and_bytes_are_counted_until_they_are_consumed() -> None:
    backlog = Backlog()
    one, two = backlog.join(1), backlog.join(2)
    backlog.add(((b"x" * 1000,), 1.0) for _ in range(2 * FULL))
    for queue in (one, two):
        queue.sent = queue.pushed
    one.received(2 * FULL)
    assert not one.blocks and len(two.blocks) == 2
    size = 1000 + ITEM_OVERHEAD_BYTES
    for number in (1, FULL, FULL + 1, 2 * FULL):
        one.consumed(number)
        assert one.bytes_consumed == number * size
    assert backlog.bytes_consumed() == [2 * FULL * size, 0] and backlog.end == 2 * FULL * size
    assert not one.marks and two.marks and two.timeout_s(FULL) == 1.0
    one.check(2 * FULL, 2 * FULL)


def test_one_that_ends_gets_what_was_put_until_then_and_the_others_go_on() -> None:
    fan = Fan("site-1", "site-2")
    fan.put(b"0")
    fan.put(b"1")
    ended = fan.pushes.finish(fan.ids["site-1"], 0.0)
    assert [body_of(each) for each in posted(ended, "site-1")] == [[b"1"]]
    assert [each.message.count for each in ended if isinstance(each, Post) and isinstance(each.message, End)] == [2]
    effects = [*fan.put(b"2"), *fan.taken("site-2", 1, 1)]
    assert not posted(effects, "site-1") and [body_of(each) for each in posted(effects, "site-2")] == [[b"1"], [b"2"]]
    cancelled = fan.pushes.cancel(fan.ids["site-2"], Cancelled(what="it"))
    assert isinstance(cancelled[-1], PushSettled) and not fan.put(b"3"), "nobody is left"


def test_nobody_joins_a_stream_that_has_begun() -> None:
    backlog = Backlog()
    backlog.join(1)
    backlog.add([((b"x",), 1.0)])
    with pytest.raises(AssertionError, match="has begun"):
        backlog.join(2)


def test_parts_of_all_kinds_come_out_as_they_went_in_however_they_are_cut() -> None:
    rng = random.Random(5)
    items: list[Body] = [tuple(bytes([number]) * rng.choice((0, 5, 3000, 20_000)) for _ in range(rng.choice((0, 1, 1, 3))))
                         for number in range(200)]
    backlog = Backlog()
    queue: Queue = backlog.join(1)
    backlog.join(2)
    backlog.add((parts, 1.0) for parts in items)
    found: list[Body] = []
    while queue.sent < queue.pushed:
        block = queue.next_block()
        after = rng.randint(queue.sent + 1, block.marks.after)
        found += [tuple(each) for each in scatter(block.body(queue.sent, after))]
        queue.sent = after
        queue.received(after)
    assert found == items and len(queue.blocks) <= 1


def test_a_pair_with_losses_sends_the_same_blocks_again() -> None:
    pair = Pair()
    number = pair.start()
    pair.push(number, *[b"x" * 1000] * 200)
    pair.deliver(keep=lambda message: not isinstance(message, Items) or message.first == 0)
    pair.finish(number)
    pair.deliver()
    assert len(pair.items) == 200 and pair.pushed[0].error is None
