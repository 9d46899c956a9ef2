"""Dialling: straight from the origin where that works in time, else along the tree, and always with the reason."""

from __future__ import annotations

from zdl.errors import Refused
from zdl.protocol.dialling import Chosen, Dialling, Try

REFUSED = Refused(by="site-3", reason="wrong-cell", text="tcp://h:1 is not site-2")


def test_an_origin_that_is_linked_is_pulled_from_directly_at_once() -> None:
    dialling = Dialling(1.0)
    assert dialling.choose(7, "site-2", (), is_linked=True, now=0.0) == [Chosen(7, True, "")]
    assert dialling.deadline() is None


def test_an_origin_without_an_address_is_pulled_from_along_the_tree() -> None:
    dialling = Dialling(1.0)
    assert dialling.choose(7, "site-2", (), is_linked=False, now=0.0) == [
        Chosen(7, False, "site-2 has no address that could be dialled from here")]


def test_an_address_is_dialled_and_the_pull_waits_for_the_link() -> None:
    dialling = Dialling(1.0)
    assert dialling.choose(7, "site-2", ("tcp://h:1",), is_linked=False, now=10.0) == [Try("site-2", "tcp://h:1")]
    assert dialling.deadline() == 11.0
    assert dialling.linked("site-2") == [Chosen(7, True, "")]
    assert dialling.deadline() is None
    assert dialling.linked("site-2") == []


def test_two_pulls_from_one_origin_dial_once_and_begin_together() -> None:
    dialling = Dialling(1.0)
    assert dialling.choose(7, "site-2", ("tcp://h:1",), is_linked=False, now=10.0) == [Try("site-2", "tcp://h:1")]
    assert dialling.choose(8, "site-2", ("tcp://h:1",), is_linked=False, now=10.5) == []
    assert dialling.linked("site-2") == [Chosen(7, True, ""), Chosen(8, True, "")]


def test_addresses_are_tried_one_after_the_other_and_then_the_tree_with_the_last_reason() -> None:
    dialling = Dialling(1.0)
    addresses = ("tcp://h:1", "tcp://h:2")
    assert dialling.choose(7, "site-2", addresses, is_linked=False, now=0.0) == [Try("site-2", "tcp://h:1")]
    assert dialling.failed("site-2", REFUSED) == [Try("site-2", "tcp://h:2")]
    assert dialling.failed("site-2", REFUSED) == [Chosen(7, False, str(REFUSED))]
    assert dialling.failed("site-2", REFUSED) == []


def test_a_pull_that_has_waited_long_enough_goes_along_the_tree_while_the_dialling_goes_on() -> None:
    dialling = Dialling(1.0)
    dialling.choose(7, "site-2", ("tcp://h:1",), is_linked=False, now=0.0)
    dialling.choose(8, "site-2", ("tcp://h:1",), is_linked=False, now=0.5)
    assert dialling.tick(0.9) == []
    assert dialling.tick(1.0) == [Chosen(7, False, "no direct link to site-2 within 1 s")]
    assert dialling.deadline() == 1.5
    assert dialling.linked("site-2") == [Chosen(8, True, "")]


def test_a_pull_that_has_waited_long_enough_tells_the_failure_of_the_first_address() -> None:
    dialling = Dialling(1.0)
    dialling.choose(7, "site-2", ("tcp://h:1", "tcp://h:2"), is_linked=False, now=0.0)
    dialling.failed("site-2", REFUSED)
    assert dialling.tick(1.0) == [Chosen(7, False, str(REFUSED))]
    assert dialling.tick(2.0) == []
