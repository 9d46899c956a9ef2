"""The messages of streams are values of known kinds."""

from __future__ import annotations

import dataclasses
import typing

import pytest

from zdl.protocol.kinds import Kind
from zdl.protocol.pushing import Items, StreamMessage


def test_there_is_one_class_for_every_kind_of_streams() -> None:
    assert {each.kind for each in typing.get_args(StreamMessage)} == {kind for kind in Kind if kind >= 48}


def test_they_do_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Items("a", "b", 1, 0, 0).first = 1  # type: ignore[misc]
