"""Rerouting: what was asked over a link that is gone is asked again over what there is; nobody else's pull is touched."""

from __future__ import annotations

from zdl.options import PullOptions
from zdl.protocol.effects import Effect, Post, Send
from zdl.protocol.messages import Ask
from zdl.protocol.pulls import Pulls
from zdl.protocol.rerouting import Rerouting
from zdl.refs import Source

OPTIONS = PullOptions(chunk_bytes=100, window_bytes_min=200, window_bytes_max=200, verify="none", lanes=2)


def pulling(*origins: str) -> Pulls:
    """One pull of 400 bytes from each, of which the first 200 are asked for."""
    pulls = Pulls("site-1", 100, OPTIONS)
    assert isinstance(pulls.rerouting, Rerouting)
    for at, origin in enumerate(origins):
        pulls.start(Source(origin, bytes([at]) * 16, b"s" * 16, 400), [(0, 400)], 0.0)
        pulls.go(100 + at, 0.0)
    return pulls


def offsets(effects: list[Effect]) -> list[tuple[str, int]]:
    asks = [each.message for each in effects if isinstance(each, (Post, Send)) and isinstance(each.message, Ask)]
    return [(each.target, each.offset) for each in asks]


def test_when_a_way_changes_only_what_is_pulled_over_it_is_asked_again() -> None:
    pulls = pulling("site-2", "site-3")
    assert offsets(pulls.rerouting.changed("site-2", 1.0)) == [("site-2", 0), ("site-2", 100)]
    assert offsets(pulls.rerouting.changed("site-9", 1.0)) == []
    pulls.check()


def test_a_direct_link_that_broke_stays_broken_in_memory_until_its_origin_is_heard() -> None:
    pulls = pulling("site-2")
    pulls.rerouting.changed("site-2", 1.0, is_broken=True)
    pulls.rerouting.changed("site-2", 2.0)
    assert pulls._pulls[100].reach.is_broken


def test_an_origin_is_suspect_since_the_tree_first_said_so() -> None:
    pulls = pulling("site-2", "site-3")
    pulls.rerouting.suspect("site-2", 1.0)
    pulls.rerouting.suspect("site-2", 2.0)
    first, second = (pulls._pulls[number].reach for number in (100, 101))
    assert (first.suspect_at, first.is_told_lost, second.suspect_at) == (1.0, True, None)


def test_a_side_link_that_comes_is_asked_over_and_what_was_asked_over_one_that_goes_is_asked_again() -> None:
    pulls = pulling("site-2")
    assert offsets(pulls.rerouting.side_is_up("site-2", 7, 1.0)) == [], "the window is full"
    again = pulls.rerouting.changed("site-2", 2.0, is_direct=True)
    assert [(type(each), each.link) for each in again if isinstance(each, Send)] == [(Send, 7)]
    assert offsets(again) == [("site-2", 0), ("site-2", 100)]
    lost = pulls._pulls[100]
    over = [offset for offset, each in lost.asked.items() if each.side == 7]
    assert offsets(pulls.rerouting.side_is_down("site-2", 7, 3.0)) == [("site-2", offset) for offset in over]
    assert all(each.side == 0 for each in lost.asked.values())
    pulls.check()
