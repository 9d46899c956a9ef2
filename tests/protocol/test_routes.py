"""Routes: which link leads to a cell. The scenarios are those of the ancestor's routing, as far as zdl keeps them."""

from __future__ import annotations

from hypothesis import given, strategies as st

from zdl.fqcn import ROOT, ancestors, is_ancestor, parent
from zdl.protocol.routes import Routes

PARENT = 1


def routes(me: str, *, above: str = "", linked: dict[str, int] | None = None, root: str = ROOT) -> Routes:
    """The routes of a cell with a link 1 to `above`, and these other links."""
    table = Routes(me, root=root)
    if above:
        table.add(above, PARENT, is_parent=True)
    for fqcn, link in (linked or {}).items():
        table.add(fqcn, link, is_parent=False)
    table.check()
    return table


# --- the order of the search --------------------------------------------------------------------


def test_a_linked_target_is_reached_directly() -> None:
    table = routes("site-1", above="server", linked={"site-1.job": 2, "site-2": 4})
    assert table.next_hop("site-2") == 4
    assert table.next_hop("server") == PARENT
    assert table.is_direct("site-2") and not table.is_direct("site-3")


def test_the_root_sends_down_over_the_longest_linked_prefix() -> None:
    table = routes("server", linked={"site-1": 2, "site-1.job": 4, "site-2": 6})
    assert table.next_hop("site-1.job.w0") == 4
    assert table.next_hop("site-1.other") == 2
    assert table.next_hop("site-2.job.w0") == 6


def test_a_relay_sends_down_over_the_longest_linked_prefix_below_itself() -> None:
    table = routes("site-1", above="server", linked={"site-1.job": 2, "site-1.job.w0": 4})
    assert table.next_hop("site-1.job.w0.x") == 4
    assert table.next_hop("site-1.job.w1") == 2


def test_a_cell_that_has_no_better_way_sends_to_its_parent() -> None:
    table = routes("site-1.job", above="site-1")
    assert table.next_hop("site-2") == table.next_hop("server") == table.next_hop("site-1.other") == PARENT


def test_a_link_to_an_ancestor_of_the_target_is_a_shortcut_across_the_tree() -> None:
    table = routes("site-1", above="server", linked={"site-2": 4})
    assert table.next_hop("site-2.job.w0") == 4


def test_a_link_to_the_root_is_preferred_to_the_parent() -> None:
    table = routes("site-1.job", above="site-1", linked={"server": 2})
    assert table.next_hop("site-2") == 2
    assert table.next_hop("site-1.other") == PARENT, "the parent is a linked prefix of this one"


# --- what must not happen -----------------------------------------------------------------------


def test_an_ancestor_without_a_way_down_does_not_fall_back_to_the_root() -> None:
    table = routes("site-1", above="server", linked={"site-1.other": 2})
    assert table.next_hop("site-1.job.w0") is None


def test_a_direct_parent_without_its_child_says_that_there_is_no_way() -> None:
    assert routes("site-1.job", above="site-1").next_hop("site-1.job.w0") is None
    assert routes("server", linked={"site-2": 2}).next_hop("site-1") is None


def test_a_cell_without_its_parent_sends_to_the_nearest_cell_above_that_it_is_linked_to() -> None:
    table = routes("site-1.job.w0.x", linked={"site-1": 2, "site-1.job": 4, "site-9": 6})
    assert table.next_hop("site-2") == 4
    assert table.next_hop("site-2", came_by=4) == 2
    assert table.next_hop("site-1.job.w0.x.y") is None


def test_a_cell_above_the_target_does_not_use_a_link_to_a_prefix_above_itself() -> None:
    table = routes("site-1.job", above="site-1", linked={"server": 2})
    assert table.next_hop("site-1.job.w0.x") is None


def test_a_message_never_goes_back_over_the_link_it_came_by() -> None:
    table = routes("site-1", above="server", linked={"site-1.job": 2})
    assert table.next_hop("site-2", came_by=PARENT) is None
    assert table.next_hop("site-1.job.w0", came_by=2) is None
    assert table.next_hop("site-1.job", came_by=2) is None


def test_a_message_that_came_from_the_root_link_may_still_go_to_the_parent() -> None:
    table = routes("site-1.job", above="site-1", linked={"server": 2})
    assert table.next_hop("site-2", came_by=2) == PARENT


def test_a_message_that_came_over_the_direct_link_of_its_target_looks_for_another_way() -> None:
    table = routes("site-1", above="server", linked={"site-2": 4})
    assert table.next_hop("site-2", came_by=4) == PARENT


# --- direct links -------------------------------------------------------------------------------


def test_a_direct_link_leads_messages_of_this_cell_to_its_peer_alone() -> None:
    table = routes("site-1", above="server")
    table.add("site-2", 3, is_parent=False, is_direct=True)
    table.add("server", 5, is_parent=False, is_direct=True)
    table.check()
    assert table.next_hop("site-2") == table.direct("site-2") == 3
    assert table.is_direct("site-2") and not table.is_direct("site-2.w0")
    assert table.next_hop("site-2.w0") == table.next_hop("site-3") == PARENT, "it is no way to anybody else"
    assert table.next_hop("site-2", came_by=7) == PARENT, "nor for messages of others"
    assert table.by_tree("site-2") == PARENT and table.neighbour("site-2") is None
    assert table.neighbour("server") == PARENT and table.next_hop("server") == 5


def test_a_direct_link_that_is_down_leaves_the_tree() -> None:
    table = routes("site-1", above="server")
    table.add("site-2", 3, is_parent=False, is_direct=True)
    table.add("site-2", 5, is_parent=False, is_direct=True)
    assert table.next_hop("site-2") == 5
    table.remove("site-2", 3)
    assert table.next_hop("site-2") == 5, "the end of the one that was replaced"
    table.remove("site-2", 5)
    assert table.next_hop("site-2") == PARENT and table.direct("site-2") is None


# --- families and the name of the root ----------------------------------------------------------


def test_a_name_with_the_same_letters_in_front_is_not_below() -> None:
    table = routes("server", linked={"site-1": 2})
    assert table.next_hop("site-11") is None


def test_cells_below_the_root_by_name_and_by_family_are_alike() -> None:
    table = routes("server", linked={"server.job": 2, "site-1": 4})
    assert table.next_hop("server.job.w0") == 2
    assert table.next_hop("server.other") is None


def test_the_root_may_have_another_name() -> None:
    table = routes("hub", linked={"site-1": 2}, root="hub")
    assert table.next_hop("site-1.job") == 2
    assert table.next_hop("server") is None
    assert routes("site-1", above="hub", root="hub").next_hop("site-2") == PARENT


# --- coming and going ---------------------------------------------------------------------------


def test_a_link_that_is_down_leads_nowhere() -> None:
    table = routes("site-1", above="server", linked={"site-1.job": 2})
    table.remove("site-1.job", 2)
    table.remove("server", PARENT)
    table.check()
    assert (table.next_hop("site-1.job"), table.next_hop("site-2"), table.parent) == (None, None, None)


def test_the_end_of_a_replaced_link_does_not_remove_the_one_that_took_its_place() -> None:
    table = routes("server", linked={"site-1": 2})
    table.add("site-1", 4, is_parent=False)
    table.remove("site-1", 2)
    assert table.next_hop("site-1") == 4


def test_the_parent_may_come_back_over_another_link() -> None:
    table = routes("site-1", above="server")
    table.remove("server", PARENT)
    table.add("server", 3, is_parent=True)
    assert (table.parent, table.next_hop("site-2")) == (3, 3)


PARTS = st.lists(st.sampled_from("abcd"), min_size=1, max_size=4, unique=True).map(".".join)


@given(st.sets(PARTS, min_size=1, max_size=8), PARTS)
def test_along_a_whole_tree_every_message_arrives_by_the_shortest_way(names: set[str], target: str) -> None:
    tree = {ROOT, *names, *(above for name in names for above in ancestors(name))}
    tables: dict[str, Routes] = {}
    numbers: dict[tuple[str, int], str] = {}
    for name in sorted(tree):
        table = tables[name] = Routes(name)
        for link, other in enumerate(sorted(each for each in tree if parent(each) == name or parent(name) == each), 1):
            table.add(other, link, is_parent=parent(name) == other)
            numbers[name, link] = other
    for start in tree - {target}:
        at, came_from, steps = start, "", 0
        while at != target:
            back = next((link for (name, link), other in numbers.items() if name == at and other == came_from), None)
            link = tables[at].next_hop(target, came_by=back)
            if link is None:
                assert target not in tree and is_ancestor(at, target)
                break
            came_from, at, steps = at, numbers[at, link], steps + 1
            assert steps <= 2 * 5
