"""Link: the table of links by number, by name, and the guests."""

from __future__ import annotations

import pytest

from zdl.options import LinkOptions
from zdl.protocol.link import Link, LinkTable, Self, State, accepted
from zdl.protocol.messages import Hello, Role

OPTIONS = LinkOptions(heartbeat_s=2.0, hello_timeout_s=3.0)


def link(number: int, origin: str = "site-1", incarnation: bytes = b"1", *, is_guest: bool = False) -> Link:
    said = Hello(origin, incarnation * 16, Role.DIRECT if is_guest else Role.CHILD, 2.0, (), 1, "pid 1 on a")
    return accepted(number, said, 1.0, is_guest=is_guest)


def test_a_welcomed_link_is_found_by_number_and_name_until_it_is_removed() -> None:
    table, made = LinkTable(), link(2)
    table.add(made)
    assert table.name(made) is None and made.place == "pid 1 on a"
    assert table.get(2) is table.up("site-1") is made and list(table) == [made] and len(table) == 1
    table.check()
    table.remove(made)
    assert (table.get(2), table.up("site-1"), len(table)) == (None, None, 0)


def test_a_guest_has_no_name_and_one_place() -> None:
    table, first, again = LinkTable(), link(2, is_guest=True), link(4, is_guest=True)
    table.add(first)
    table.name(first)
    assert table.up("site-1") is None and table.guests_count == 1 and table.has_guest("site-1", b"1" * 16)
    table.add(again)
    assert table.name(again) == 2
    assert table.guests_count == 1 and table.get(2) is None
    table.check()
    table.remove(again)
    assert table.guests_count == 0 and not table.has_guest("site-1", b"1" * 16)


def test_a_link_that_is_being_left_has_no_name_but_is_still_there() -> None:
    table, made = LinkTable(), link(2)
    table.add(made)
    table.name(made)
    made.left_at = 3.0
    table.forget_name(made)
    assert table.up("site-1") is None and table.get(2) is made and not made.has_name
    table.check()


def test_the_table_can_be_changed_while_it_is_read() -> None:
    table = LinkTable()
    for number in (2, 4, 6):
        table.add(link(number, f"site-{number}"))
    seen = []
    for each in table:
        seen.append(each.link)
        if each.link == 2:
            other = table.get(4)
            assert other is not None
            table.remove(other)
    assert seen == [2, 6]


@pytest.mark.parametrize("watches", [True, False])
def test_the_next_look_is_for_a_welcome_that_is_late_or_a_heartbeat(watches: bool) -> None:
    table = LinkTable()
    assert table.deadline(OPTIONS, 1.0, watches=watches) is None
    table.add(Link(1, State.GREETING, "tcp://x:1", True, Role.CHILD, 1.0, 1.0, 1.0))
    assert table.deadline(OPTIONS, 1.0, watches=watches) == 4.0
    table.add(link(2))
    assert table.deadline(OPTIONS, 1.0, watches=watches) == (1.5 if watches else 4.0)
    table.clear()
    assert table.deadline(OPTIONS, 1.0, watches=watches) is None


def test_a_secret_is_not_shown() -> None:
    assert "hidden" not in repr(Self("site-1", b"", secret=b"hidden"))
