"""Greeting: who is welcome, and in which words others are not."""

from __future__ import annotations

import pytest

from zdl.errors import Refused
from zdl.options import LinkOptions
from zdl.protocol.frames import PLACE_CHARS_MAX, WIRE_VERSION
from zdl.protocol.greeting import hello_of, is_rival, objection, regret, taken, welcome_of
from zdl.protocol.link import Link, LinkTable, Self, State, accepted
from zdl.protocol.messages import Hello, Role, Welcome

ME = Self("site-1", b"0" * 16, ("tcp://h:2",), place="pid 7 on h")
OPTIONS = LinkOptions(peers_max=2)


def hello(origin: str = "site-1.w0", incarnation: bytes = b"1", role: Role = Role.CHILD, *, version: int = WIRE_VERSION,
          place: str = "") -> Hello:
    return Hello(origin, incarnation * 16, role, 2.0, (), version, place)


def link_of(said: Hello, number: int = 2) -> Link:
    return accepted(number, said, 0.0, is_guest=False)


def why(said: Hello, *, known: Link | None = None, old: Link | None = None, watches: bool = True, links: int = 0) -> str:
    """The reason why this HELLO is not welcome; empty where it is."""
    table = LinkTable()
    for index in range(links):
        table.add(link_of(hello(f"site-1.x{index}"), 10 + index))
    found = objection(ME, OPTIONS, table, said, known=known, old=old, watches=watches)
    return "" if found is None else found[0]


@pytest.mark.parametrize(("said", "reason"), [
    (hello(), ""), (hello("site-1.w0.x"), ""), (hello("site-2", role=Role.DIRECT), ""),
    (hello(version=9), "version"), (hello("site-1"), "name-taken"), (hello("site-2"), "not-below"), (hello("server"), "not-below")])
def test_a_hello_is_welcome_below_this_cell_or_as_a_direct_peer(said: Hello, reason: str) -> None:
    assert why(said) == reason


def test_a_link_stays_with_its_owner() -> None:
    assert why(hello(incarnation=b"2"), known=link_of(hello())) == "not-allowed"
    assert why(hello(), known=link_of(hello()), links=2) == ""


def test_a_direct_link_gives_way_to_the_tree_and_to_the_one_that_the_lesser_name_dialled() -> None:
    direct = hello("site-2", role=Role.DIRECT)
    ours = Link(1, State.UP, "tcp://x:1", False, Role.DIRECT, 0.0, 0.0, 0.0, "site-2", b"1" * 16)
    assert why(direct, old=ours) == "crossed"
    assert why(hello("site-2", b"2", Role.DIRECT), old=ours) == "", "another life: the link that stands is of the former one"
    assert why(direct, old=link_of(hello("site-2"))) == "crossed"
    assert why(hello("site-0", role=Role.DIRECT), old=Link(
        1, State.UP, "tcp://x:1", False, Role.DIRECT, 0.0, 0.0, 0.0, "site-0", b"1" * 16)) == ""


def test_the_limits_on_links() -> None:
    assert why(hello(), links=2) == "busy"
    assert why(hello(), links=2, old=link_of(hello())) == ""


def test_a_rival_is_another_life_of_a_cell_in_the_tree() -> None:
    assert is_rival(link_of(hello()), hello(incarnation=b"2"))
    assert not is_rival(link_of(hello()), hello())
    assert not is_rival(link_of(hello(role=Role.DIRECT)), hello(incarnation=b"2"))
    assert why(hello(incarnation=b"2"), old=link_of(hello()), watches=False) == "name-taken"


def test_both_lives_are_named_with_where_they_run() -> None:
    old, new = link_of(hello(place="pid 1 on a")), hello(incarnation=b"2", place="pid 2 on b")
    assert taken("site-1", old, new) == (
        "another site-1.w0 (incarnation 31313131, pid 1 on a) is connected to site-1; yours is incarnation 32323232, pid 2 on b")


def test_the_wrong_cell_and_a_second_link_are_not_wanted() -> None:
    dialled = Link(1, State.GREETING, "tcp://x:1", False, Role.DIRECT, 0.0, 0.0, 0.0, expected="site-2")
    right = Welcome("site-2", b"1" * 16, 2.0, ())
    assert regret("site-1", dialled, None, right) is None
    wrong = regret("site-1", dialled, None, Welcome("site-3", b"1" * 16, 2.0, ()))
    assert isinstance(wrong, Refused) and wrong.reason == "wrong-cell"
    crossed = regret("site-1", dialled, link_of(hello("site-2")), right)
    assert isinstance(crossed, Refused) and crossed.reason == "crossed"
    assert regret("site-1", dialled, link_of(hello("site-2", b"2", Role.DIRECT)), right) is None


def test_what_this_cell_says_about_itself() -> None:
    assert hello_of(ME, OPTIONS, Role.DIRECT, b"t" * 16) == Hello(
        "site-1", b"0" * 16, Role.DIRECT, 2.0, ("tcp://h:2",), WIRE_VERSION, "pid 7 on h", b"t" * 16)
    assert welcome_of(ME, OPTIONS) == Welcome("site-1", b"0" * 16, 2.0, ("tcp://h:2",))
    long = Self("site-1", b"0" * 16, place="x" * 1000)
    assert len(hello_of(long, OPTIONS, Role.CHILD, b"").place) == PLACE_CHARS_MAX
