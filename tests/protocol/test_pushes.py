"""Pushes: credit, order, and every end, as the sender sees it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pushed import OPTIONS, RECEIVER, SENDER, Pair

from zdl.errors import Busy, Cancelled, DecodeError, NoRoute, PeerLost, RemoteProtocolError, StreamError, TimedOut, to_wire
from zdl.protocol.backlog import ITEM_OVERHEAD_BYTES
from zdl.protocol.effects import Unreachable
from zdl.protocol.messages import Bounce, Kind
from zdl.protocol.pushes import BOUNCED_S, FIRST_CREDIT_BYTES, Opening, Pushes
from zdl.protocol.pushing import End, Ended, Halt, Items, Open, Taken


class Cut(Pair):
    """Nothing arrives while time passes."""

    def wire_in_time(self) -> None:
        self.wire.clear()


def test_items_arrive_once_in_order_with_their_replies_and_the_result_comes_back() -> None:
    pair = Pair()
    number = pair.start()
    pair.push(number, b"one", b"two")
    pair.deliver()
    pair.push(number, b"three")
    pair.finish(number)
    pair.deliver()
    assert pair.items == [b"one", b"two", b"three"]
    assert pair.replies == [(b"re one",), (b"re two",), (b"re three",)]
    assert [each.error for each in pair.pushed] == [None] and pair.pushed[0].body == (b"result",)
    assert pair.taken == [None] and not len(pair.pushes) and not len(pair.intakes)


def test_an_empty_stream_ends_normally() -> None:
    pair = Pair()
    pair.finish(pair.start())
    pair.deliver()
    assert pair.taken == [None] and pair.pushed[0].error is None


def test_what_is_not_consumed_holds_the_sender_back_and_credit_lets_it_go_on() -> None:
    pair = Pair()
    pair.consumes = False
    number = pair.start()
    one = FIRST_CREDIT_BYTES // 4
    pair.push(number, *[bytes([index]) * (one - ITEM_OVERHEAD_BYTES) for index in range(9)])
    pair.deliver()
    assert len(pair.items) == 4, "as far as the first credit goes"
    for _ in range(3):
        pair.took(1)
        pair.deliver()
        assert len(pair.items) == 4, "the window is smaller than what is not yet consumed of the first credit"
    pair.took(1)
    pair.deliver()
    assert len(pair.items) == 5, "one that is larger than the window goes when all others are consumed"
    pair.took(1)
    pair.deliver()
    assert len(pair.items) == 6


def test_small_items_are_gathered_into_few_messages() -> None:
    pair = Pair()
    number = pair.start()
    pair.push(number, *[b"x" * 1000] * 200)
    assert [type(each) for each in pair.wire].count(Items) == 4
    pair.deliver()
    assert len(pair.items) == 200


def test_what_is_lost_doubled_or_late_changes_nothing() -> None:
    pair = Pair()
    number = pair.start()
    pair.push(number, b"a" * 70_000, b"b" * 70_000, b"c")
    open_, first, second, third = pair.wire
    pair.wire.clear()
    for message in (open_, open_, third, first, first):
        pair.hand(message)
    assert [each[:1] for each in pair.items] == [b"a"]
    assert any(isinstance(each, Taken) and each.again for each in pair.wire), "the third came before the second"
    pair.deliver()
    assert [each[:1] for each in pair.items] == [b"a", b"b", b"c"]
    pair.hand(second)
    pair.finish(number)
    pair.deliver()
    assert [each[:1] for each in pair.items] == [b"a", b"b", b"c"] and pair.pushed[0].error is None
    pair.hand(open_)
    pair.deliver()
    assert pair.taken == [None], "the first message of a stream that has ended begins no other one"


@pytest.mark.parametrize("kind", [Open, Items, Taken, End, Ended])
def test_one_lost_message_of_any_kind_is_made_up_for(kind: type) -> None:
    pair = Pair()
    lost: list[object] = []

    def keep(message: object) -> bool:
        if isinstance(message, kind) and not lost:
            lost.append(message)
            return False
        return True

    number = pair.start()
    pair.push(number, b"one", b"two")
    pair.deliver(keep=keep)
    pair.push(number, b"three")
    pair.deliver(keep=keep)
    pair.finish(number)
    pair.deliver(keep=keep)
    pair.wait(3 * OPTIONS.keep_alive_s)
    assert lost and pair.items == [b"one", b"two", b"three"]
    assert [each.error for each in pair.pushed] == [None] and pair.taken == [None]
    assert pair.replies == [(b"re one",), (b"re two",), (b"re three",)] or kind is Taken


def test_a_lost_reply_is_said_again_before_the_end() -> None:
    pair = Pair()
    number = pair.start()
    pair.push(number, b"one")
    pair.deliver(keep=lambda message: not isinstance(message, Taken))
    pair.push(number, b"two")
    pair.deliver()
    pair.wait(OPTIONS.keep_alive_s)
    assert pair.replies == [(b"re one",), (b"re two",)]


def test_a_sender_with_nothing_to_say_asks_and_lives_on_for_hours() -> None:
    pair = Pair()
    number = pair.start()
    pair.push(number, b"one")
    pair.deliver()
    pair.wait(7200.0)
    pair.push(number, b"two")
    pair.finish(number)
    pair.deliver()
    assert pair.items == [b"one", b"two"] and pair.pushed[0].error is None


def test_an_item_that_is_not_consumed_in_its_time_ends_the_stream_at_both_ends() -> None:
    pair = Pair()
    pair.consumes = False
    number = pair.start()
    pair.push(number, b"one", b"two", timeout_s=3.0)
    pair.deliver()
    pair.wait(2.0)
    pair.took(1)
    pair.deliver()
    pair.wait(2.5)
    assert not pair.pushed, "the second has its time from when the first was consumed"
    pair.wait(1.0)
    error = pair.pushed[0].error
    assert isinstance(error, TimedOut) and error.what == "progress of stream metrics/round" and error.address == RECEIVER
    assert isinstance(pair.taken[0], TimedOut)


def test_a_receiver_that_says_nothing_is_given_up() -> None:
    pair = Cut()
    pair.start()
    pair.wait(OPTIONS.silent_timeout_s + 0.1)
    assert isinstance(pair.pushed[0].error, TimedOut)


def test_no_way_for_long_ends_it_and_a_way_that_comes_back_does_not() -> None:
    pair = Cut()
    number = pair.start()
    pair.deliver()
    pair.push(number, b"one")
    pair.wire.clear()
    pair.act(pair.pushes.receive(Unreachable(SENDER, RECEIVER, False, "cut"), pair.now))
    pair.wait(BOUNCED_S - 0.01)
    pair.act(pair.pushes.tick(pair.now + 0.02))
    pair.deliver()
    assert pair.items == [b"one"], "it is tried again soon"
    pair.act(pair.pushes.receive(Bounce(SENDER, SENDER, number, int(Kind.ITEMS), *to_wire(
        NoRoute(target=RECEIVER, at=SENDER, why="gone"))), pair.now))
    pair.wait(OPTIONS.lost_timeout_s + 0.1)
    error = pair.pushed[0].error
    assert isinstance(error, PeerLost) and error.target == RECEIVER and "gone" in error.why


def test_where_there_is_no_way_nobody_is_blamed_for_his_silence() -> None:
    pair = Cut(replace(OPTIONS, lost_timeout_s=60.0, stall_timeout_s=100.0))
    number = pair.start()
    pair.deliver()
    pair.push(number, b"one")
    pair.wire.clear()
    pair.act([*pair.pushes.receive(Unreachable(SENDER, RECEIVER, False, "cut"), pair.now),
              *pair.intakes.receive(Unreachable(RECEIVER, SENDER, False, "cut"), pair.now)])
    pair.wait(2 * OPTIONS.silent_timeout_s)
    pair.act(pair.pushes.way_changed(RECEIVER, pair.now))
    pair.deliver()
    assert pair.items == [b"one"] and not pair.pushed and not pair.taken, "a relay may take long to start again"
    pair.wait(OPTIONS.silent_timeout_s + 0.1)
    assert isinstance(pair.pushed[0].error, TimedOut) and isinstance(pair.taken[0], TimedOut), "now there is one"


def test_another_cell_that_cannot_be_reached_does_not_matter() -> None:
    pair = Cut()
    pair.start()
    pair.deliver()
    pair.act(pair.pushes.receive(Unreachable(SENDER, "site-2", False, "cut"), pair.now))
    pair.wait(OPTIONS.lost_timeout_s + 1)
    assert not pair.pushed


def test_what_is_on_its_way_when_the_way_changes_is_sent_again() -> None:
    pair = Pair()
    number = pair.start()
    pair.deliver()
    pair.push(number, b"one")
    pair.wire.clear()
    pair.act(pair.pushes.way_changed(RECEIVER, pair.now))
    pair.deliver()
    assert pair.items == [b"one"]


def test_a_receiver_that_started_anew_says_that_it_knows_nothing() -> None:
    pair = Pair()
    number = pair.start()
    pair.deliver()
    pair.intakes = Pair().intakes
    pair.push(number, b"one")
    pair.deliver()
    error = pair.pushed[0].error
    assert isinstance(error, StreamError) and "start anew" in str(error) and not pair.items


def test_an_old_word_that_there_is_no_such_stream_ends_nothing() -> None:
    pair = Pair()
    number = pair.start()
    opened = pair.wire.pop()
    pair.push(number, b"one")
    pair.hand(pair.wire.pop())
    (no,) = [each for each in pair.wire if isinstance(each, Ended)]
    pair.wire.clear()
    pair.hand(opened)
    pair.deliver()
    pair.hand(no)
    pair.deliver()
    pair.wait(OPTIONS.keep_alive_s)
    assert not pair.pushed and pair.items == [b"one"], "it was said before the stream was opened"


def test_to_cancel_tells_the_receiver_why() -> None:
    pair = Pair()
    number = pair.start()
    pair.deliver()
    pair.act(pair.pushes.cancel(number, Cancelled(what="it", why="no longer wanted")))
    assert isinstance(pair.wire[0], Halt)
    pair.deliver()
    assert isinstance(pair.taken[0], Cancelled) and isinstance(pair.pushed[0].error, Cancelled)
    pair.push(number, b"late")
    pair.finish(number)
    assert not pair.wire and not pair.pushes.cancel(number, Cancelled(what="it"))


def test_what_a_receiver_cannot_mean_ends_the_stream() -> None:
    for taken in (Taken(RECEIVER, SENDER, 7, 5, 0, 0, 0, False), Taken(RECEIVER, SENDER, 7, 0, 1, 0, 0, False)):
        pair = Pair()
        pair.start()
        pair.deliver()
        pair.hand(taken)
        assert isinstance(pair.pushed[0].error, RemoteProtocolError)
    for body in ((b"\xc1",), (b"\x92\x00\x00",)):
        pair = Pair()
        pair.consumes = False
        pair.push(pair.start(), b"one")
        pair.deliver()
        pair.hand(Taken(RECEIVER, SENDER, 7, 1, 1, 0, 0, False, body))
        assert isinstance(pair.pushed[0].error, DecodeError)


def test_what_somebody_else_says_about_a_push_is_passed_over() -> None:
    pair = Pair()
    pair.start()
    pair.deliver()
    assert pair.pushes.receive(Ended("site-9", SENDER, 7, 0, "", {}), 0.0) == []
    assert pair.pushes.receive(Ended(RECEIVER, SENDER, 99, 0, "", {}), 0.0) == []
    assert len(pair.pushes) == 1


def test_there_is_a_limit_to_pushes() -> None:
    pushes = Pushes(SENDER, 0, OPTIONS)
    for _ in range(OPTIONS.pushes_max):
        pushes.start(Opening(RECEIVER, "a", "b", "bytes"), 0.0)
    with pytest.raises(Busy, match="pushes_max=4"):
        pushes.start(Opening(RECEIVER, "a", "b", "bytes"), 0.0)
    assert pushes.targets() == {RECEIVER} and len(pushes.ids()) == 4
