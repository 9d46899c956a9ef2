"""Sides: further links to an origin, shared by its pulls, and given up when nobody needs them."""

from __future__ import annotations

from hypothesis import given, strategies as st

from zdl.protocol.sides import AGAIN_MAX_S, AGAIN_S, IDLE_S, SideDial, SideHang, Sides

HERE, THERE = "tcp://10.0.0.1:1", "tcp://10.0.0.1:2"


def opened(sides: Sides, count: int, *, pull_id: int = 1, first: int = 101) -> list[int]:
    """Side links of a pull, dialled and up."""
    links = []
    for at, step in enumerate(sides.want(pull_id, "server", count, (HERE, THERE), 0.0)):
        assert isinstance(step, SideDial) and step.address == HERE
        sides.dialled(step, first + 2 * at)
        assert sides.up(first + 2 * at) == "server"
        links.append(first + 2 * at)
    sides.check()
    return links


def test_a_pull_that_is_not_spread_needs_none() -> None:
    sides = Sides()
    assert sides.want(1, "server", 1, (HERE,), 0.0) == [] == sides.want(1, "server", 4, (), 0.0)
    assert (sides.links("server"), sides.deadline()) == ((), None)


def test_one_link_leads_there_and_the_others_are_dialled() -> None:
    sides = Sides()
    assert opened(sides, 4) == [101, 103, 105] == list(sides.links("server"))
    assert sides.want(1, "server", 4, (HERE,), 0.0) == []


def test_pulls_share_them_and_have_as_many_as_the_one_that_needs_most() -> None:
    sides = Sides()
    opened(sides, 4)
    assert sides.want(2, "server", 2, (HERE,), 0.0) == []
    assert sides.want(1, "server", 1, (), 0.0) == [SideHang(103), SideHang(105)]
    assert sides.links("server") == (101, 103, 105), "until they are gone"
    for link in (103, 105):
        assert sides.down(link, 0.0) == "server"
    sides.check()
    (step,) = sides.want(2, "server", 3, (), 0.0)
    assert isinstance(step, SideDial) and step.mark == (2).to_bytes(16, "big")


def test_what_nobody_needs_stays_for_the_next_pull_and_then_is_given_up() -> None:
    sides = Sides()
    opened(sides, 3)
    assert sides.want(1, "server", 1, (), 10.0) == []
    assert sides.deadline() == 10.0 + IDLE_S
    assert sides.want(2, "server", 3, (), 11.0) == [] and sides.deadline() is None
    assert sides.want(2, "server", 1, (), 12.0) == []
    assert sides.tick(12.0 + IDLE_S - 0.1) == []
    assert sides.tick(12.0 + IDLE_S) == [SideHang(101), SideHang(103)]
    assert (sides.down(101, 20.0), sides.up(103), sides.links("server")) == (None, None, ())


def test_an_address_that_does_not_answer_is_followed_by_the_next_and_after_a_pause_by_the_first() -> None:
    sides = Sides()
    steps = sides.want(1, "server", 2, (HERE, THERE), 0.0)
    for pause_s in (AGAIN_S, 2 * AGAIN_S, 4 * AGAIN_S):
        for address in (HERE, THERE):
            (step,) = steps
            assert isinstance(step, SideDial) and step.address == address
            sides.dialled(step, 101)
            assert sides.down(101, 0.0) == "server"
            steps = [*sides.missing("server")]
        assert steps == [] == sides.want(1, "server", 2, (HERE,), 0.0) == sides.missing("site-1")
        assert sides.deadline() == pause_s and sides.tick(pause_s - 0.1) == []
        steps = sides.tick(pause_s)
        sides.check()


def test_what_breaks_is_dialled_again_after_a_pause_that_grows_while_it_goes_on() -> None:
    sides, now = Sides(), 0.0
    opened(sides, 4)
    links, number = [101, 103, 105], 107
    for pause_s in (AGAIN_S, 2 * AGAIN_S, AGAIN_S):
        if pause_s == AGAIN_S:
            now += AGAIN_MAX_S + 1
        for link in links[1:]:
            assert sides.down(link, now) == "server"
            assert sides.missing("server") == []
        assert sides.deadline() == now + pause_s
        now += pause_s
        steps = sides.tick(now)
        assert len(steps) == 2 and sides.deadline() is None
        links[1:] = []
        for step in steps:
            assert isinstance(step, SideDial) and step.address == HERE
            sides.dialled(step, number)
            assert sides.up(number) == "server"
            links.append(number)
            number += 2
        sides.check()
    sides.down(links[-1], now)
    sides.want(1, "server", 1, (), now)
    assert AGAIN_S < IDLE_S and sides.tick(now + IDLE_S - 0.1) == [], "nobody wants it any more"


def test_with_the_link_that_leads_there_all_others_go() -> None:
    sides = Sides()
    opened(sides, 3)
    assert sides.forget("server") == [SideHang(101), SideHang(103)]
    assert sides.forget("server") == [] and sides.down(101, 1.0) is None


@given(st.lists(st.tuples(st.sampled_from(["want", "up", "down", "forget", "tick"]), st.integers(0, 3), st.integers(1, 5))))
def test_in_any_order_of_events_the_invariants_hold(steps: list[tuple[str, int, int]]) -> None:
    sides, now, number = Sides(), 0.0, 1
    dialling: list[int] = []
    up: list[int] = []
    for what, pull_id, count in steps:
        now += 1.0
        asked: list[SideDial | SideHang] = []
        if what == "want":
            asked = sides.want(pull_id, "server", count, (HERE, THERE, HERE), now)
        elif what == "up" and dialling:
            up.append(dialling.pop(0))
            sides.up(up[-1])
        elif what == "down" and (dialling or up):
            sides.down((dialling or up).pop(), now)
        elif what == "forget":
            asked = sides.forget("server")
        elif what == "tick":
            asked = sides.tick(now)
        for step in asked:
            if isinstance(step, SideDial):
                number += 2
                sides.dialled(step, number)
                dialling.append(number)
            else:
                sides.down(step.link, now)
                dialling, up = [each for each in dialling if each != step.link], [each for each in up if each != step.link]
        sides.check()
