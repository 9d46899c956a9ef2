"""Returns: answers go over the direct link that the question came by. The whole is in ``test_switch.py``."""

from __future__ import annotations

from zdl.protocol.link import Link, LinkTable, accepted
from zdl.protocol.messages import Ask, Cancel, Chunk, Hello, Reply, Request, Role, Transit, Verify
from zdl.protocol.returns import Returns


def table_with(*links: Link) -> LinkTable:
    table = LinkTable()
    for link in links:
        table.add(link)
        table.name(link)
    return table


def link(number: int, role: Role = Role.DIRECT, *, is_guest: bool = False) -> Link:
    return accepted(number, Hello("site-2", b"1" * 16, role, 2.0, (), 1), 0.0, is_guest=is_guest)


def request(number: int) -> Request:
    return Request("site-2", "site-1", number, "c", "t", None, {})


def reply(number: int) -> Reply:
    return Reply("site-1", "site-2", number, "", {}, {})


def test_a_request_over_a_direct_link_is_answered_over_it_until_it_is_left() -> None:
    made, one = Returns(10), link(3)
    table = table_with(one)
    made.note(one, request(7))
    made.note(one, Cancel("site-2", "site-1", 8))
    assert (made.link_for(reply(7), table), made.link_for(reply(8), table)) == (3, None)
    assert made.ids(3) == (7,) and made.ids(5) == ()
    one.left_at = 1.0
    assert made.link_for(reply(7), table) is None and not made.links
    made.note(one, request(9))
    assert not made.links


def test_the_same_question_along_the_tree_is_answered_there() -> None:
    made, one, tree = Returns(10), link(3), link(1, Role.CHILD)
    made.note(one, request(7))
    made.note(tree, Transit(16, 0, "site-2", "x", 7, b""))
    assert made.link_for(reply(7), table_with(one)) == 3
    made.note(tree, request(7))
    assert made.link_for(reply(7), table_with(one)) is None


def test_all_that_a_guest_asks_is_answered_over_its_link_while_that_is_there() -> None:
    made, one = Returns(10), link(4, is_guest=True)
    ask = Ask("site-2", "site-1", 7, b"o" * 16, b"s" * 16, 0, 1, Verify.NONE)
    chunk = Chunk("site-1", "site-2", 7, 0, 1, Verify.NONE, b"")
    made.note(one, ask)
    assert made.link_for(chunk, table_with(one)) == 4
    assert made.link_for(chunk, LinkTable()) is None and not made.links


def test_the_oldest_is_forgotten_first() -> None:
    made, one = Returns(2), link(3)
    for number in (7, 8, 9):
        made.note(one, request(number))
    assert made.ids(3) == (8, 9)
    made.clear()
    assert not made.links
