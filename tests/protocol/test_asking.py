"""Asking: as many chunks as the window has room for, when it is their turn."""

from __future__ import annotations

from dataclasses import replace

import pytest

from zdl.options import Pace, PullOptions
from zdl.protocol.asking import Asking
from zdl.protocol.effects import Effect, Post, Send, SpreadOver
from zdl.protocol.fetching import Pull, State, new_pull
from zdl.protocol.messages import Ask, Chunk, Priority, Verify
from zdl.protocol.pacing import UNDER_WAY_S, YIELD_S
from zdl.protocol.pulls import Pulls
from zdl.refs import Source

OPTIONS = PullOptions(chunk_bytes=1000, window_bytes_min=4000, window_bytes_max=4000, verify="none")
SOURCE = Source("site-2", b"o" * 16, b"s" * 16, 1 << 30)


def new(number: int, pace: Pace = Pace(), *, options: PullOptions = OPTIONS) -> Pull:
    pull = new_pull(number, SOURCE, [(0, 1 << 30)], [], options=options, pace=pace, now=0.0)
    pull.state = State.PULLING
    return pull


def asked(asking: Asking, pull: Pull, now: float) -> list[Ask]:
    """What it asks for, which comes and is stored at once."""
    found = []
    for effect in asking.fill(pull, now):
        assert isinstance(effect, Post) and isinstance(effect.message, Ask)
        found.append(effect.message)
    for each in list(pull.asked):
        gone = pull.asked.pop(each)
        pull.window.landed(gone.length, mark=gone.mark, took_s=0.0)
        pull.bytes_done += gone.length
    pull.check()
    return found


def served(asking: Asking, pulls: list[Pull], seconds: float) -> dict[int, int]:
    """How much each of them asks for when all of it comes at once, looked at every millisecond."""
    bytes_of = {pull.id: 0 for pull in pulls}
    for step in range(int(seconds * 1000)):
        for pull in asking.in_turn(pulls):
            bytes_of[pull.id] += sum(each.length for each in asked(asking, pull, step / 1000))
    return bytes_of


def test_a_pull_without_a_pace_asks_for_its_window_at_once() -> None:
    pull = new(1)
    assert [(each.offset, each.length, each.priority) for each in asked(Asking("site-1", OPTIONS), pull, 0.0)] == [
        (offset, 1000, Priority.NORMAL) for offset in range(0, 4000, 1000)]
    assert pull.paced_until is None


def test_a_pull_asks_for_no_more_than_its_limit() -> None:
    pull = new(1, Pace(bwlimit_bytes_per_s=50_000.0))
    assert served(Asking("site-1", OPTIONS), [pull], 10.0)[1] == pytest.approx(500_000, rel=0.02)
    assert pull.paced_until is not None


def test_a_pull_with_a_limit_asks_for_short_chunks() -> None:
    options = PullOptions()
    assert new(1, Pace(bwlimit_bytes_per_s=1e6), options=options).window.chunk_bytes == options.chunk_bytes_min
    assert new(1, options=replace(options, bwlimit_bytes_per_s=2e7)).window.cut(1 << 30, since=0) == 200_000
    assert new(1, Pace(bwlimit_bytes_per_s=1e12), options=options).window.chunk_bytes == new(2, options=options).window.chunk_bytes


def test_the_pulls_of_a_cell_share_its_limit_and_take_turns() -> None:
    options = replace(OPTIONS, bwlimit_bytes_per_s=60_000.0)
    pulls = [new(number, options=options) for number in range(3)]
    found = served(Asking("site-1", options), pulls, 10.0)
    assert sum(found.values()) == pytest.approx(600_000, rel=0.02)
    assert max(found.values()) - min(found.values()) <= 2000


def test_where_all_have_a_limit_the_better_priority_comes_first() -> None:
    options = replace(OPTIONS, bwlimit_bytes_per_s=60_000.0)
    lazy, urgent = new(1, Pace(priority="background"), options=options), new(2, Pace(priority="interactive"), options=options)
    found = served(Asking("site-1", options), [lazy, urgent], 10.0)
    assert found[2] > 10 * found[1] and sum(found.values()) == pytest.approx(600_000, rel=0.02)


def test_a_pull_in_the_background_yields_while_others_are_under_way_and_no_longer() -> None:
    asking = Asking("site-1", OPTIONS)
    lazy, normal = new(1, Pace(priority="background")), new(2)
    alone = served(asking, [lazy], 1.0)[1]
    assert alone == 4_000_000, "alone it asks for its window each time"
    found = served(asking, [lazy, normal], 10.0)
    assert found[2] == 10 * alone
    assert found[1] <= (10 / YIELD_S + 1) * 1000 + 4000
    assert asked(asking, lazy, 10.0 + UNDER_WAY_S)


def test_the_options_of_a_cell_say_which_priority_its_pulls_have_and_one_pull_may_say_otherwise() -> None:
    options = replace(OPTIONS, priority="background")
    assert new(1, options=options).pacer.priority == Priority.BACKGROUND
    assert new(1, Pace(priority="interactive"), options=options).pacer.priority == Priority.INTERACTIVE


def test_what_waits_for_its_turn_is_asked_for_in_time_and_does_not_stall() -> None:
    options = PullOptions(chunk_bytes=1 << 20, chunk_bytes_min=1 << 20, window_bytes_min=1 << 20, stall_timeout_s=30.0,
                          bwlimit_bytes_per_s=16_384.0, verify="none", keep_alive_s=100.0)
    pulls = Pulls("site-1", 100, options)
    pulls.start(SOURCE, [(0, 2 << 20)], 0.0)
    (first,) = pulls.go(100, 0.0)
    assert isinstance(first, Post) and isinstance(first.message, Ask)
    pull = pulls._pulls[100]
    pull.asked.pop(0)
    pull.window.given_up(1 << 20)
    pull.bytes_done = 1 << 20
    assert pulls._asking.fill(pull, 1.0) == []
    found = []
    for _ in range(20):
        deadline = pulls.deadline()
        assert deadline is not None
        found += pulls.tick(deadline)
        if any(isinstance(each, Post) and isinstance(each.message, Ask) for each in found):
            break
    (second,) = [each.message for each in found if isinstance(each, Post) and isinstance(each.message, Ask)]
    assert second.offset == 1 << 20 and deadline == pytest.approx(64.0, abs=0.1)


# --- over several links -------------------------------------------------------------------------


def sent(effects: list[Effect]) -> list[tuple[int, int]]:
    """Which chunk is asked for over which link; 0: the way that leads there."""
    found = []
    for each in effects:
        assert isinstance(each, (Post, Send)) and isinstance(each.message, Ask)
        found.append((each.link if isinstance(each, Send) else 0, each.message.offset))
    return found


def test_a_pull_that_is_spread_asks_where_least_is_on_its_way() -> None:
    asking, pull = Asking("site-1", OPTIONS), new(1, options=replace(OPTIONS, lanes=3))
    asking.sides["site-2"] = [101, 103, 105]
    assert sent(asking.fill(pull, 0.0)) == [(0, 0), (101, 1000), (103, 2000), (0, 3000)], "three of the four that there are"
    gone = pull.asked.pop(1000)
    pull.window.landed(gone.length, mark=gone.mark, took_s=0.0)
    pull.bytes_done += gone.length
    assert sent(asking.fill(pull, 0.0)) == [(101, 4000)]


def test_what_is_not_pulled_directly_has_one_way() -> None:
    asking, pull = Asking("site-1", OPTIONS), new(1, options=replace(OPTIONS, lanes=3))
    asking.sides["site-2"], pull.is_direct = [101, 103], False
    assert {link for link, _ in sent(asking.fill(pull, 0.0))} == {0}


def test_side_links_are_used_when_they_are_up_and_what_was_asked_over_them_is_asked_again_when_they_are_gone() -> None:
    options = replace(OPTIONS, lanes=2, window_bytes_min=1000, window_bytes_max=3000)
    pulls = Pulls("site-1", 100, options)
    pulls.start(SOURCE, [(0, 1 << 20)], 0.0)
    first = pulls.go(100, 0.0)
    assert first[-1] == SpreadOver(100, "site-2", 2) and sent(first[:-1]) == [(0, 0)]
    assert pulls.rerouting.side_is_up("site-2", 101, 0.0) == [], "the window is full"
    pulls.rerouting.changed("site-1", 0.0)
    chunk = Chunk("site-2", "site-1", 100, 0, 1000, Verify.NONE, b"", (bytes(1000),))
    assert pulls.landed(chunk, True, 0.1) == []
    over = sent(pulls.stored(100, 0, 0.1)[1:])
    assert over == [(0, 1000), (101, 2000), (0, 3000)]
    assert sent(pulls.rerouting.side_is_down("site-2", 101, 0.2)) == [(0, 2000)]
    assert pulls.rerouting.side_is_down("site-2", 101, 0.2) == []
    pulls.check()
