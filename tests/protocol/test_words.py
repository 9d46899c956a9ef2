"""Words: a pull keeps its lease, and says at its end how it ended, with longer and longer pauses and not for ever."""

from __future__ import annotations

from zdl.options import PullOptions
from zdl.protocol.effects import Effect, Post
from zdl.protocol.frames import RANGES_MAX
from zdl.protocol.messages import Confirm, Drop, Keep
from zdl.protocol.words import CONFIRM_AGAIN_S, DROP_AGAIN_S, Words
from zdl.refs import Source

SOURCE = Source("site-2", b"o" * 16, b"s" * 16, 200)


def kinds(effects: list[Effect]) -> list[type]:
    return [type(each.message) for each in effects if isinstance(each, Post)]


def test_what_was_pulled_is_confirmed_in_joined_ranges_by_who_has_asked() -> None:
    words = Words(100, SOURCE, ((100, 100), (0, 100)), has_asked=True)
    assert words.end("site-1") == [Post(Confirm("site-1", "site-2", 100, b"o" * 16, b"s" * 16, ((0, 200),)))]


def test_who_has_never_asked_speaks_before_each_confirmation_since_either_may_be_lost() -> None:
    words = Words(100, SOURCE, ((0, 200),))
    assert kinds(words.end("site-1")) == kinds(words.end("site-1")) == [Keep, Confirm]


def test_who_begins_to_speak_does_so_once() -> None:
    words = Words(100, SOURCE, ((0, 200),))
    assert kinds(words.begin("site-1", 1.0)) == [Keep] and words.begin("site-1", 2.0) == []
    assert kinds(words.end("site-1")) == [Confirm]


def test_many_ranges_take_several_confirmations_and_each_is_waited_for() -> None:
    words = Words(100, SOURCE, tuple((at * 10, 1) for at in range(RANGES_MAX + 1)), has_asked=True)
    assert kinds(words.end("site-1")) == [Confirm, Confirm] and words.unnoted == 2


def test_why_it_was_given_up_is_what_the_origin_is_told() -> None:
    words = Words(100, SOURCE, ((0, 200),), why_dropped="stalled")
    assert words.end("site-1") == [Post(Drop("site-1", "site-2", 100, b"o" * 16, b"s" * 16, "stalled"))]


def test_its_end_is_said_with_longer_and_longer_pauses_and_then_no_more() -> None:
    for why, pauses in ((None, CONFIRM_AGAIN_S), ("cancelled", DROP_AGAIN_S)):
        words = Words(100, SOURCE, ((0, 200),), why_dropped=why)
        for pause in (*pauses, pauses[-1]):
            assert not words.is_said and words.pause_s == pause
            words.end("site-1")
        assert words.is_said


def test_the_lease_is_kept_when_nothing_was_said_for_long() -> None:
    words, options = Words(100, SOURCE, ((0, 200),), said_at=1.0), PullOptions(keep_alive_s=10.0)
    assert words.keep_alive("site-1", options, 10.9) == []
    assert kinds(words.keep_alive("site-1", options, 11.0)) == [Keep] and words.said_at == 11.0
