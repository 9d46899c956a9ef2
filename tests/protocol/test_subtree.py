"""Subtree: who is below, as children tell; what the parent is told; and that both hold under any order of events."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings, strategies as st
from simbooks import CONTROL
from simworld import World

from zdl.options import LinkOptions
from zdl.protocol.effects import Effect, PeerDown, PeerUp, Send, SubtreeDown, SubtreeFull, SubtreeUp
from zdl.protocol.encode import encode
from zdl.protocol.messages import Below, Kind, Role
from zdl.protocol.subtree import Subtree

OPTIONS = LinkOptions(heartbeat_s=1.0, subtree_batch_s=0.02)
UP, ONE, TWO = 1, 2, 4
PARENT = PeerUp(UP, "server", True, Role.CHILD, ())
ME = "r1"


def child(link: int, name: str) -> PeerUp:
    return PeerUp(link, name, False, Role.CHILD, ())


def gone(link: int, name: str, why: str = "closed") -> PeerDown:
    return PeerDown(link, name, False, why)


def said(effects: Iterable[Effect], link: int = UP) -> list[Below]:
    """What is sent over a link."""
    return [each.message for each in effects if isinstance(each, Send) and each.link == link
            and isinstance(each.message, Below)]


@pytest.fixture
def tree() -> Subtree:
    return Subtree(ME, OPTIONS)


def test_a_child_and_those_it_speaks_of_are_below(tree: Subtree) -> None:
    assert tree.peer_up(child(ONE, "r1.a"), 0.0) == [SubtreeUp("r1.a", "r1.a")]
    told = tree.receive(ONE, Below("r1.a", 0, (), ("r1.a.x", "r1.a.x.y")), 0.1)
    assert told == [SubtreeUp("r1.a.x", "r1.a"), SubtreeUp("r1.a.x.y", "r1.a"), Send(ONE, Below(ME, 0))]
    assert sorted(tree.names()) == ["r1.a", "r1.a.x", "r1.a.x.y"] and len(tree) == 3
    assert tree.receive(ONE, Below("r1.a", 1, (("r1.a.x.y", "closed"),), ()), 0.2) == [
        SubtreeDown("r1.a.x.y", "r1.a", "closed"), Send(ONE, Below(ME, 1))]
    tree.check()


def test_who_is_behind_a_child_goes_down_with_its_link(tree: Subtree) -> None:
    tree.peer_up(child(ONE, "r1.a"), 0.0)
    tree.receive(ONE, Below("r1.a", 0, (), ("r1.a.z", "r1.a.x")), 0.1)
    assert tree.peer_down(gone(ONE, "r1.a", "cut"), 0.2) == [
        SubtreeDown("r1.a", "r1.a", "cut"),
        SubtreeDown("r1.a.x", "r1.a", "it is behind r1.a: cut"),
        SubtreeDown("r1.a.z", "r1.a", "it is behind r1.a: cut")]
    assert len(tree) == 0
    assert tree.receive(ONE, Below("r1.a", 1, (), ("r1.a.x",)), 0.3) == []
    tree.check()


def test_a_child_may_speak_only_of_names_below_its_own(tree: Subtree) -> None:
    tree.peer_up(child(ONE, "r1.a"), 0.0)
    tree.peer_up(child(TWO, "r1.b"), 0.0)
    lies = Below("r1.a", 0, (("r1.b", "a lie"), ("r1.a", "a lie")), ("r1.a", "r1.b.x", "r1.ab", "s", "r1"))
    effects = tree.receive(ONE, lies, 0.1)
    assert effects == [Send(ONE, Below(ME, 0))]
    assert sorted(tree.names()) == ["r1.a", "r1.b"] and tree.refused == 5


def test_direct_links_are_no_part_of_the_tree(tree: Subtree) -> None:
    assert tree.peer_up(PeerUp(ONE, "r1.a", False, Role.DIRECT, ()), 0.0) == []
    assert tree.receive(ONE, Below("r1.a", 0, (), ("r1.a.x",)), 0.0) == []
    assert tree.peer_down(gone(ONE, "r1.a"), 0.1) == [] and tree.names() == ()


def test_the_parent_is_told_all_after_its_welcome_and_changes_in_batches(tree: Subtree) -> None:
    tree.peer_up(child(ONE, "r1.a"), 0.0)
    assert tree.due is None
    first = tree.peer_up(PARENT, 5.0)
    assert said(first) == [Below(ME, 0, (), ("r1.a",))]
    tree.receive(UP, Below("server", 0), 5.1)
    assert tree.due is None
    for number in range(100):
        tree.peer_up(child(100 + 2 * number, f"r1.n{number}"), 6.0 + number / 10_000)
    assert tree.deadline() == pytest.approx(6.02)
    assert tree.tick(6.01) == []
    (batch,) = said(tree.tick(6.02))
    assert (batch.serial, len(batch.up)) == (1, 100)
    tree.check()


def test_nothing_is_said_where_nobody_is_below(tree: Subtree) -> None:
    assert tree.peer_up(PARENT, 0.0) == [] and tree.deadline() is None
    assert tree.tick(9.0) == []


def test_the_next_message_waits_until_the_last_one_is_noted(tree: Subtree) -> None:
    tree.peer_up(PARENT, 0.0)
    tree.peer_up(child(ONE, "r1.a"), 1.0)
    (first,) = said(tree.tick(1.02))
    tree.peer_up(child(TWO, "r1.b"), 1.03)
    assert tree.tick(1.5) == [] and tree.deadline() == pytest.approx(2.02)
    assert said(tree.receive(UP, Below("server", first.serial), 1.6)) == [Below(ME, 1, (), ("r1.b",))]
    assert tree.receive(UP, Below("server", first.serial), 1.7) == []
    assert tree.receive(UP, Below("server", 1), 1.8) == [] and tree.deadline() is None
    tree.check()


def test_what_is_not_noted_is_said_again_unchanged_for_ever(tree: Subtree) -> None:
    tree.peer_up(PARENT, 0.0)
    tree.peer_up(child(ONE, "r1.a"), 1.0)
    (first,) = said(tree.tick(1.02))
    tree.peer_down(gone(ONE, "r1.a"), 1.05)
    for turn in range(1, 5):
        assert tree.deadline() == pytest.approx(1.02 + turn)
        assert tree.tick(1.02 + turn) == [Send(UP, first)]
    assert said(tree.receive(UP, Below("server", 0), 5.5)) == [Below(ME, 1, (("r1.a", "closed"),), ())]


def test_a_message_that_comes_twice_is_noted_twice_and_heeded_once(tree: Subtree) -> None:
    tree.peer_up(child(ONE, "r1.a"), 0.0)
    message = Below("r1.a", 0, (), ("r1.a.x",))
    tree.receive(ONE, message, 0.1)
    tree.receive(ONE, Below("r1.a", 1, (("r1.a.x", "closed"),), ()), 0.2)
    assert tree.receive(ONE, message, 0.3) == [Send(ONE, Below(ME, 0))]
    assert tree.receive(ONE, Below("r1.a", 3, (), ("r1.a.y",)), 0.4) == [], "one before it was never heard"
    assert tree.names() == ("r1.a",)


def test_who_went_and_came_back_meanwhile_is_told_as_both_down_first(tree: Subtree) -> None:
    tree.peer_up(PARENT, 0.0)
    tree.peer_up(child(ONE, "r1.a"), 1.0)
    tree.tick(1.02)
    tree.receive(UP, Below("server", 0), 1.03)
    tree.peer_down(gone(ONE, "r1.a", "killed"), 2.0)
    tree.peer_up(child(TWO, "r1.a"), 2.01)
    assert said(tree.tick(2.02)) == [Below(ME, 1, (("r1.a", "killed"),), ("r1.a",))]
    above = Subtree("server", OPTIONS)
    above.peer_up(child(ONE, "r1"), 0.0)
    above.receive(ONE, Below(ME, 0, (), ("r1.a",)), 1.0)
    assert above.receive(ONE, Below(ME, 1, (("r1.a", "killed"),), ("r1.a",)), 2.0)[:2] == [
        SubtreeDown("r1.a", "r1", "killed"), SubtreeUp("r1.a", "r1")]


def test_who_came_and_went_before_it_was_told_is_not_spoken_of(tree: Subtree) -> None:
    tree.peer_up(PARENT, 0.0)
    tree.peer_up(child(ONE, "r1.a"), 1.0)
    tree.peer_down(gone(ONE, "r1.a"), 1.01)
    assert tree.tick(1.02) == [] and tree.deadline() is None
    tree.check()


def test_a_cell_that_two_children_lead_to_stays_until_both_are_gone(tree: Subtree) -> None:
    """It moved, and its new place speaks before its old one."""
    server = Subtree("server", OPTIONS)
    server.peer_up(child(ONE, "r1"), 0.0)
    server.receive(ONE, Below("r1", 0, (), ("r1.w",)), 0.1)
    assert server.peer_up(child(TWO, "r1.w"), 0.2) == []
    assert server.receive(ONE, Below("r1", 1, (("r1.w", "moved"),), ()), 0.3) == [Send(ONE, Below("server", 1))]
    assert "r1.w" in server.names()
    assert server.peer_down(gone(TWO, "r1.w"), 0.4) == [SubtreeDown("r1.w", "r1.w", "closed")]
    server.check()


def test_a_new_parent_hears_everything_from_the_beginning(tree: Subtree) -> None:
    tree.peer_up(PARENT, 0.0)
    tree.peer_up(child(ONE, "r1.a"), 1.0)
    tree.tick(1.02)
    tree.peer_down(PeerDown(UP, "server", True, "cut"), 1.03)
    assert tree.deadline() is None
    tree.peer_up(child(TWO, "r1.b"), 1.04)
    again = tree.peer_up(PeerUp(3, "server", True, Role.CHILD, ()), 2.0)
    assert said(again, 3) == [Below(ME, 0, (), ("r1.a", "r1.b"))]
    assert tree.receive(UP, Below("server", 0), 2.1) == [], "the old link has nothing to note any more"


def test_a_long_list_goes_in_pieces_that_each_fit_into_a_header() -> None:
    long = [f"r1.{number:0>5}-{'x' * 230}" for number in range(3000)]
    tree, above = Subtree(ME, OPTIONS), Subtree("server", OPTIONS)
    above.peer_up(child(ONE, "r1"), 0.0)
    for number, name in enumerate(long):
        tree.peer_up(child(2 * number + 2, name), 0.0)
    pieces, effects = 0, tree.peer_up(PARENT, 1.0)
    while said(effects):
        (piece,) = said(effects)
        encode(piece)
        pieces += 1
        noted = said(above.receive(ONE, piece, 1.0), ONE)
        effects = tree.receive(UP, Below("server", noted[0].serial), 1.0)
    assert pieces > 3000 * 240 // (48 * 1024) and set(above.names()) == {*long, "r1"}
    for number, name in enumerate(long):
        tree.peer_down(gone(2 * number + 2, name, "é" * 2000), 2.0)
    effects = tree.tick(2.02)
    while said(effects):
        encode(said(effects)[0])
        above.receive(ONE, said(effects)[0], 2.1)
        effects = tree.receive(UP, Below("server", said(effects)[0].serial), 2.1)
    assert above.names() == ("r1",)


def test_beyond_its_limit_names_are_left_out_counted_and_said_once_until_there_is_room() -> None:
    tree = Subtree(ME, LinkOptions(subtree_max=10))
    tree.peer_up(child(ONE, "r1.a"), 0.0)
    names = tuple(f"r1.a.n{number}" for number in range(12))
    effects = tree.receive(ONE, Below("r1.a", 0, (), names), 0.1)
    assert effects.count(SubtreeFull(10)) == 1 and len(tree) == 10 and tree.left_out == 3
    assert tree.peer_up(child(TWO, "r1.b"), 0.2) == [] and tree.left_out == 4
    assert tree.receive(ONE, Below("r1.a", 1, (("r1.a.n11", "closed"),), ()), 0.3) == [Send(ONE, Below(ME, 1))]
    tree.receive(ONE, Below("r1.a", 2, tuple((name, "closed") for name in names[:5]), ()), 0.4)
    full = tree.receive(ONE, Below("r1.a", 3, (), names), 0.5)
    assert full.count(SubtreeFull(10)) == 1
    tree.peer_down(gone(TWO, "r1.b"), 0.6)
    tree.check()


def test_a_storm_of_joins_is_a_few_messages_at_each_level() -> None:
    """Five hundred cells come within half a second, three levels below the root."""
    world = World(7)
    for name in ("server", "r1", "r1.r11"):
        world.start(name)
    world.run_until(1.0)
    begun = len(world.story)
    for number in range(500):
        world.at(1.0 + number / 1000, world.start, f"r1.r11.n{number}")
    world.run_until(2.0)
    told = [what[1].fqcn for _, _, mark, what in world.story[begun:]  # type: ignore[index]
            if mark == "<" and what[2][2] == Kind.BELOW]  # type: ignore[index]
    assert len(world.cells["server"].subtree) == 502
    assert 2 <= told.count("r1") <= 2 * 40 and 2 <= told.count("r1.r11") <= 40, "one said, one noted, every 20 ms"
    world.cut(world.wires_between("r1", "r1.r11", CONTROL)[0])
    world.run_until(2.04)
    assert world.cells["server"].subtree.names() == ("r1",)
    world.run_until(4.0)
    assert len(world.cells["server"].subtree) == 502


# --- any order of events --------------------------------------------------------------------------

STEPS = st.lists(st.tuples(st.sampled_from(("up", "down", "uplink", "cut", "wait", "lose")), st.integers(0, 4)), max_size=60)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_in_the_end_the_parent_knows_the_truth(steps: list[tuple[str, int]]) -> None:
    """Children of ``r1`` come and go, its link to ``server`` too, and messages get lost in between."""
    tree, above = Subtree(ME, OPTIONS), Subtree("server", OPTIONS)
    now, uplink, next_link = 0.0, 0, 10
    children: dict[int, int] = {}

    def carry(effects: list[Effect], *, is_lost: bool = False) -> None:
        for message in said(effects, uplink):
            answers = [] if is_lost else said(above.receive(uplink, message, now), uplink)
            for answer in answers:
                carry(tree.receive(uplink, answer, now))

    for what, number in [*steps, ("cut", 0), ("uplink", 0)]:
        now += 0.005
        if what == "up" and number not in children:
            children[number] = next_link = next_link + 2
            carry(tree.peer_up(child(next_link, f"r1.n{number}"), now))
        elif what == "down" and number in children:
            carry(tree.peer_down(gone(children.pop(number), f"r1.n{number}"), now))
        elif what == "uplink" and not uplink:
            uplink = next_link = next_link + 2
            above.peer_up(child(uplink, "r1"), now)
            carry(tree.peer_up(PeerUp(uplink, "server", True, Role.CHILD, ()), now))
        elif what == "cut" and uplink:
            tree.peer_down(PeerDown(uplink, "server", True, "cut"), now)
            above.peer_down(gone(uplink, "r1"), now)
            uplink = 0
        elif what in ("wait", "lose") and tree.due is not None:
            now = max(now, tree.due)
            carry(tree.tick(now), is_lost=what == "lose")
        tree.check()
        above.check()
    while tree.due is not None:
        now = max(now, tree.due)
        carry(tree.tick(now))
    assert set(above.names()) == {"r1", *(f"r1.n{number}" for number in children)}
