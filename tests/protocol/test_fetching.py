"""One pull: what it says to its origin at its end, and how soon it thinks that one lost."""

from __future__ import annotations

import pytest

from zdl.options import Pace, PullOptions
from zdl.protocol.effects import Post
from zdl.protocol.fetching import CONFIRM_AGAIN_S, DEATH_S, DROP_AGAIN_S, Pull, State, new_pull
from zdl.protocol.messages import Confirm, Drop, Keep
from zdl.refs import Source

OPTIONS = PullOptions(lost_timeout_s=60.0)


def pull() -> Pull:
    source = Source("site-2", b"o" * 16, b"s" * 16, 200)
    options = PullOptions(chunk_bytes=100, window_bytes_min=100, window_bytes_max=1000)
    return new_pull(100, source, [(0, 200)], [], options=options, pace=Pace(), now=0.0)


@pytest.mark.parametrize(("state", "kind", "pauses"), [
    (State.CONFIRMING, Confirm, CONFIRM_AGAIN_S), (State.DROPPING, Drop, DROP_AGAIN_S)])
def test_its_end_is_said_with_longer_and_longer_pauses_and_then_no_more(
        state: State, kind: type, pauses: tuple[float, ...]) -> None:
    one = pull()
    one.state, one.has_asked = state, True
    for pause in (*pauses, pauses[-1]):
        assert not one.is_said
        (said,) = one.say("site-1", 1.0)
        assert isinstance(said, Post) and isinstance(said.message, kind) and one.retry_at == 1.0 + pause
    assert one.is_said


def test_who_has_never_asked_speaks_before_he_confirms() -> None:
    assert [type(each.message) for each in pull().confirmation("site-1") if isinstance(each, Post)] == [Keep, Confirm]


def test_an_origin_counts_as_lost_sooner_when_two_connections_have_ended() -> None:
    one = pull()
    assert one.lost_at(OPTIONS) is None
    one.no_way(OPTIONS, "closed", 1.0)
    assert one.lost_at(OPTIONS) == 61.0
    one.is_broken = one.is_told_lost = True
    assert one.lost_at(OPTIONS) == 61.0, "nobody answers: it may be a relay that is silent"
    one.bounced(1.5)
    one.bounced(2.5)
    assert one.lost_at(OPTIONS) == 1.5 + DEATH_S
    one.bounced(3.6)
    assert one.lost_at(OPTIONS) == 61.0, "there was a pause: what was asked meanwhile did not come back"
    one.has_news()
    assert one.lost_at(OPTIONS) is None


def test_a_pull_that_is_over_is_not_hurried() -> None:
    one = pull()
    one.state = State.CONFIRMING
    one.no_way(OPTIONS, "closed", 1.0)
    assert one.no_way_since is None and one.retry_at is None
