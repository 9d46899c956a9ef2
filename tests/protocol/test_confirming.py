"""Confirming: a pull keeps its lease, and says at its end how it ended, with longer and longer pauses and not for ever."""

from __future__ import annotations

from zdl.options import PullOptions
from zdl.protocol.confirming import CONFIRM_AGAIN_S, DROP_AGAIN_S, Confirming
from zdl.protocol.effects import Effect, Post
from zdl.protocol.frames import RANGES_MAX
from zdl.protocol.messages import Confirm, Drop, Keep
from zdl.refs import Source

SOURCE = Source("site-2", b"o" * 16, b"s" * 16, 200)


def kinds(effects: list[Effect]) -> list[type]:
    return [type(each.message) for each in effects if isinstance(each, Post)]


def test_what_was_pulled_is_confirmed_in_joined_ranges_by_who_has_asked() -> None:
    said = Confirming(100, SOURCE, ((100, 100), (0, 100)), has_asked=True)
    assert said.end("site-1") == [Post(Confirm("site-1", "site-2", 100, b"o" * 16, b"s" * 16, ((0, 200),)))]


def test_who_has_never_asked_speaks_before_each_confirmation_since_either_may_be_lost() -> None:
    said = Confirming(100, SOURCE, ((0, 200),))
    assert kinds(said.end("site-1")) == kinds(said.end("site-1")) == [Keep, Confirm]


def test_who_begins_to_speak_does_so_once() -> None:
    said = Confirming(100, SOURCE, ((0, 200),))
    assert kinds(said.begin("site-1", 1.0)) == [Keep] and said.begin("site-1", 2.0) == []
    assert kinds(said.end("site-1")) == [Confirm]


def test_many_ranges_take_several_confirmations_and_each_is_waited_for() -> None:
    said = Confirming(100, SOURCE, tuple((at * 10, 1) for at in range(RANGES_MAX + 1)), has_asked=True)
    assert kinds(said.end("site-1")) == [Confirm, Confirm] and said.unnoted == 2


def test_why_it_was_given_up_is_what_the_origin_is_told() -> None:
    said = Confirming(100, SOURCE, ((0, 200),), why_dropped="stalled")
    assert said.end("site-1") == [Post(Drop("site-1", "site-2", 100, b"o" * 16, b"s" * 16, "stalled"))]


def test_its_end_is_said_with_longer_and_longer_pauses_and_then_no_more() -> None:
    for why, pauses in ((None, CONFIRM_AGAIN_S), ("cancelled", DROP_AGAIN_S)):
        said = Confirming(100, SOURCE, ((0, 200),), why_dropped=why)
        for pause in (*pauses, pauses[-1]):
            assert not said.is_said and said.pause_s == pause
            said.end("site-1")
        assert said.is_said


def test_the_lease_is_kept_when_nothing_was_said_for_long() -> None:
    said, options = Confirming(100, SOURCE, ((0, 200),), said_at=1.0), PullOptions(keep_alive_s=10.0)
    assert said.keep_alive("site-1", options, 10.9) == []
    assert kinds(said.keep_alive("site-1", options, 11.0)) == [Keep] and said.said_at == 11.0
