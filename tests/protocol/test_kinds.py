"""Kinds: numbers on the wire, which never change their meaning."""

from __future__ import annotations

from zdl.protocol.kinds import Kind


def test_the_numbers_are_one_byte_with_room_for_the_flag_of_tracing() -> None:
    assert len(set(Kind)) == len(list(Kind)) and max(Kind) < 64


def test_what_belongs_to_streams_is_numbered_from_48() -> None:
    assert [kind.name for kind in Kind if kind >= 48] == ["OPEN", "ITEMS", "TAKEN", "END", "ENDED", "HALT"]
