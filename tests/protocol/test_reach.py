"""Reach: an origin without a way is lost after a time, sooner when two connections have ended; whoever is heard lives."""

from __future__ import annotations

from zdl.options import PullOptions
from zdl.protocol.reach import BOUNCED_S, DEATH_S, SUSPECT_S, Reach

OPTIONS = PullOptions(lost_timeout_s=60.0)


def test_an_origin_counts_as_lost_sooner_when_two_connections_have_ended() -> None:
    reach = Reach()
    assert reach.lost_at(OPTIONS) is None
    reach.lose_way(OPTIONS, "closed", 1.0)
    assert reach.lost_at(OPTIONS) == 61.0 and reach.no_way_why == "closed"
    reach.is_broken = True
    assert not reach.is_dead
    reach.is_told_lost = True
    assert reach.is_dead and reach.lost_at(OPTIONS) == 61.0, "nobody answers: it may be a relay that is silent"
    reach.bounced(1.5)
    reach.bounced(2.5)
    assert reach.lost_at(OPTIONS) == 1.5 + DEATH_S
    reach.bounced(3.6)
    assert reach.lost_at(OPTIONS) == 61.0, "there was a pause: what was asked meanwhile did not come back"
    reach.has_news()
    assert reach.lost_at(OPTIONS) is None and not reach.is_dead


def test_a_way_that_is_lost_again_is_lost_since_the_first_time_unless_there_was_one_between() -> None:
    reach = Reach()
    reach.lose_way(OPTIONS, "closed", 1.0)
    reach.lose_way(OPTIONS, "closed", 30.9)
    assert reach.no_way_since == 1.0 and not reach.has_way_again(OPTIONS, 60.8)
    reach.lose_way(OPTIONS, "closed", 60.9)
    assert reach.no_way_since == 60.9, "nothing came back for half of the time: the origin is only slow"


def test_a_short_time_to_be_lost_leaves_room_for_two_bounces() -> None:
    short = PullOptions(lost_timeout_s=0.2)
    reach = Reach()
    reach.lose_way(short, "closed", 1.0)
    assert not reach.has_way_again(short, 1.0 + 2 * BOUNCED_S - 0.01) and reach.has_way_again(short, 1.0 + 2 * BOUNCED_S)


def test_a_direct_link_is_left_when_nothing_comes_over_it_after_the_tree_has_lost_its_peer() -> None:
    reach = Reach()
    assert reach.detour_at(OPTIONS, 5.0) is None
    reach.suspect_at = 1.0
    assert reach.detour_at(OPTIONS, 0.0) == 1.0 + SUSPECT_S and reach.detour_at(OPTIONS, 5.0) == 5.0 + SUSPECT_S
    assert reach.detour_at(PullOptions(lost_timeout_s=1.0), 0.0) == 1.5
    reach.has_news()
    assert reach.detour_at(OPTIONS, 5.0) is None
