"""Intakes: each item once and in order, and every end, as the receiver sees it."""

from __future__ import annotations

from pushed import OPTIONS, RECEIVER, SENDER, Pair

from zdl.errors import Busy, DecodeError, NoRoute, PeerLost, Refused, RemoteProtocolError, StreamError, TimedOut, from_wire, to_wire
from zdl.protocol.effects import IntakeArrived, IntakeOpened, IntakeSettled, Post, Unreachable
from zdl.protocol.intakes import Intakes
from zdl.protocol.items import gather
from zdl.protocol.messages import Bounce, Kind
from zdl.protocol.pushing import End, Ended, Halt, Items, Open, Taken

KEY = (SENDER, 7)


def opened() -> Intakes:
    """With one stream that is being taken in."""
    intakes = Intakes(RECEIVER, OPTIONS)
    assert [type(each) for each in intakes.receive(Open(SENDER, RECEIVER, 7, "c", "t", "bytes", 0, {}), 0.0)] == [IntakeOpened]
    intakes.accept(KEY, None, 0.0)
    return intakes


def items(first: int, *parts: bytes, heard: int = 0) -> Items:
    """A message with items."""
    return Items(SENDER, RECEIVER, 7, first, heard, gather([(each,) for each in parts]))


def arrived(effects: list[object]) -> list[bytes]:
    """The items that are handed on."""
    found = [effect.items for effect in effects if isinstance(effect, IntakeArrived)]
    return [bytes(part) for items_ in found for item in items_ for part in item]


def said(effects: list[object]) -> list[object]:
    """What is posted."""
    return [effect.message for effect in effects if isinstance(effect, Post)]


def test_doubled_stale_overlapping_and_early_items_are_told_apart() -> None:
    intakes = opened()
    assert arrived(intakes.receive(items(0, b"0", b"1"), 0.0)) == [b"0", b"1"]
    assert arrived(intakes.receive(items(0, b"0", b"1"), 0.0)) == []
    assert arrived(intakes.receive(items(1, b"1", b"2"), 0.0)) == [b"2"]
    early = intakes.receive(items(5, b"5"), 0.0)
    answer, = said(early)
    assert arrived(early) == [] and isinstance(answer, Taken) and answer.again and answer.received == 3
    assert said(intakes.receive(items(6, b"6"), 0.0)) == [], "it is said once"
    asked, = said(intakes.receive(Items(SENDER, RECEIVER, 7, 7, 0), 0.0))
    assert isinstance(asked, Taken) and asked.again, "but to who asks"
    intakes.check()


def test_a_doubled_first_message_begins_one_stream() -> None:
    intakes = opened()
    again = intakes.receive(Open(SENDER, RECEIVER, 7, "c", "t", "bytes", 0, {}), 0.0)
    assert [type(each) for each in said(again)] == [Taken] and len(intakes) == 1


def test_items_of_a_stream_that_was_never_opened_are_refused() -> None:
    answer, = said(Intakes(RECEIVER, OPTIONS).receive(items(0, b"0"), 0.0))
    assert isinstance(answer, Ended)
    error = from_wire(answer.code, dict(answer.facts), at=RECEIVER)
    assert isinstance(error, Refused) and error.reason == "not-open"


def test_an_end_that_comes_too_early_has_what_is_missing_sent_again() -> None:
    intakes = opened()
    answer, = said(intakes.receive(End(SENDER, RECEIVER, 7, 3), 0.0))
    assert isinstance(answer, Taken) and answer.again and len(intakes) == 1


def test_who_has_ended_says_so_again_to_whoever_asks() -> None:
    intakes = opened()
    ended = said(intakes.finish(KEY, StreamError(what="I have enough")))[-1]
    assert isinstance(ended, Ended) and ended.code == "stream"
    for message in (items(0, b"0"), End(SENDER, RECEIVER, 7, 0), Open(SENDER, RECEIVER, 7, "c", "t", "bytes", 0, {})):
        assert said(intakes.receive(message, 0.0)) == [ended]
    for number in range(100, 100 + OPTIONS.tombstones_max):
        intakes.receive(Halt(SENDER, RECEIVER, number, "closed", {}), 0.0)
    intakes.check()
    assert said(intakes.receive(items(0, b"0"), 0.0)) != [ended], "not for ever"
    assert intakes.finish(KEY, None) == [] and intakes.took(KEY, [()], 0.0) == [] and intakes.accept(KEY, None, 0.0) == []


def test_a_halt_that_comes_before_the_beginning_is_remembered() -> None:
    intakes = Intakes(RECEIVER, OPTIONS)
    intakes.receive(Halt(SENDER, RECEIVER, 7, "closed", {"fqcn": SENDER}), 0.0)
    assert intakes.receive(Open(SENDER, RECEIVER, 7, "c", "t", "bytes", 0, {}), 0.0) == []


def test_more_streams_than_the_limit_are_refused_by_its_name() -> None:
    intakes = Intakes(RECEIVER, OPTIONS)
    for number in range(OPTIONS.intakes_max):
        intakes.receive(Open(SENDER, RECEIVER, number, "c", "t", "bytes", 0, {}), 0.0)
    answer, = said(intakes.receive(Open(SENDER, RECEIVER, 99, "c", "t", "bytes", 0, {}), 0.0))
    assert isinstance(answer, Ended)
    assert isinstance(from_wire(answer.code, dict(answer.facts), at=RECEIVER), Busy)
    assert len(intakes.keys()) == OPTIONS.intakes_max and intakes.origins() == {SENDER}


def test_a_sender_that_is_silent_or_cut_off_ends_its_stream_here() -> None:
    intakes = opened()
    assert intakes.deadline() == OPTIONS.silent_timeout_s
    settled = intakes.tick(OPTIONS.silent_timeout_s)[-1]
    assert isinstance(settled, IntakeSettled) and isinstance(settled.error, TimedOut)
    for news in (Unreachable(RECEIVER, SENDER, False, "cut"),
                 Bounce(RECEIVER, RECEIVER, 7, int(Kind.TAKEN), *to_wire(NoRoute(target=SENDER, at=RECEIVER, why="cut")))):
        intakes = opened()
        intakes.receive(news, 1.0)
        intakes.receive(items(0, b"0"), 2.0)
        assert intakes.tick(1.0 + OPTIONS.lost_timeout_s) == [], "it was heard again"
        intakes.receive(news, 3.0)
        settled = intakes.tick(3.0 + OPTIONS.lost_timeout_s)[-1]
        assert isinstance(settled, IntakeSettled) and isinstance(settled.error, PeerLost) and "cut" in settled.error.why


def test_no_item_for_as_long_as_the_receiver_allows_ends_it_and_questions_are_no_items() -> None:
    intakes = Intakes(RECEIVER, OPTIONS)
    intakes.receive(Open(SENDER, RECEIVER, 7, "c", "t", "bytes", 0, {}), 0.0)
    intakes.accept(KEY, 5.0, 0.0)
    intakes.receive(items(0, b"0"), 4.0)
    assert intakes.tick(9.5) == [], "what is here and not consumed is not waited for"
    intakes.took(KEY, [()], 10.0)
    intakes.receive(Items(SENDER, RECEIVER, 7, 1, 1), 14.0)
    told, settled = intakes.tick(15.0)
    assert isinstance(settled, IntakeSettled) and isinstance(settled.error, TimedOut) and "the next item" in str(settled.error)
    assert isinstance(told, Post) and isinstance(told.message, Ended)


def test_more_than_there_is_credit_for_is_not_taken() -> None:
    intakes = opened()
    settled: list[object] = []
    for number in range(12):
        settled += intakes.receive(items(number, b"x" * 60_000), 0.0)
    ends = [each.error for each in settled if isinstance(each, IntakeSettled)]
    assert len(ends) == 1 and isinstance(ends[0], RemoteProtocolError)


def test_a_body_that_is_none_ends_the_stream_and_the_sender_hears_of_it() -> None:
    intakes = opened()
    told, settled = intakes.receive(Items(SENDER, RECEIVER, 7, 0, 0, (b"\xc1",)), 0.0)
    assert isinstance(settled, IntakeSettled) and isinstance(settled.error, DecodeError)
    assert isinstance(told, Post) and isinstance(told.message, Ended)


def test_many_replies_go_in_several_messages() -> None:
    pair = Pair()
    pair.consumes = False
    number = pair.start()
    pair.push(number, *[b"x"] * 100)
    pair.deliver()
    pair.took(100, reply=(b"r" * 10_000,))
    assert len([each for each in pair.wire if isinstance(each, Taken)]) > 10
    pair.deliver()
    assert len(pair.replies) == 100
