"""One pull: what is to do, asked for and here; when its origin counts as lost."""

from __future__ import annotations

import pytest

from zdl.options import Pace, PullOptions
from zdl.protocol.confirming import CONFIRM_AGAIN_S, DROP_AGAIN_S
from zdl.protocol.effects import Post
from zdl.protocol.fetching import Pull, State, new_pull
from zdl.protocol.messages import Confirm, Drop
from zdl.refs import Source

OPTIONS = PullOptions(lost_timeout_s=60.0)


def pull() -> Pull:
    source = Source("site-2", b"o" * 16, b"s" * 16, 200)
    options = PullOptions(chunk_bytes=100, window_bytes_min=100, window_bytes_max=1000)
    return new_pull(100, source, [(0, 200)], [], options=options, pace=Pace(), now=0.0)


@pytest.mark.parametrize(("state", "why", "kind", "pauses"), [
    (State.CONFIRMING, None, Confirm, CONFIRM_AGAIN_S), (State.DROPPING, "cancelled", Drop, DROP_AGAIN_S)])
def test_its_end_is_said_again_after_each_pause(state: State, why: str | None, kind: type, pauses: tuple[float, ...]) -> None:
    one = pull()
    one.state, one.confirming.has_asked, one.confirming.why_dropped = state, True, why
    for pause in (*pauses, pauses[-1]):
        (said,) = one.say("site-1", 1.0)
        assert isinstance(said, Post) and isinstance(said.message, kind) and one.retry_at == 1.0 + pause
    assert one.confirming.is_said


def test_its_origin_can_be_lost_only_while_something_of_it_is_wanted() -> None:
    one = pull()
    one.no_way(OPTIONS, "closed", 1.0)
    one.reach.suspect_at = 1.0
    assert one.verdicts_at(OPTIONS) == (61.0, 3.0)
    one.to_do.clear()
    assert one.verdicts_at(OPTIONS) == (None, None)


def test_a_pull_that_is_over_is_not_hurried() -> None:
    one = pull()
    one.state = State.CONFIRMING
    one.no_way(OPTIONS, "closed", 1.0)
    assert one.reach.no_way_since is None and one.retry_at is None
