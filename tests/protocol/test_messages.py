"""Messages: numbers of kinds that never change, and values that never change."""

from __future__ import annotations

import dataclasses
import typing

import pytest

from zdl.protocol.messages import (
    Confirm,
    ControlMessage,
    DataMessage,
    Heartbeat,
    Kind,
    LinkMessage,
    Message,
    Notice,
    Role,
    Transit,
    Verify,
)

CLASSES = typing.get_args(Message)


def test_every_kind_has_exactly_one_class() -> None:
    assert sorted(cls.kind for cls in CLASSES) == sorted(Kind)


def test_the_numbers_of_the_kinds_are_those_of_the_specification() -> None:
    assert {kind.name: int(kind) for kind in Kind} == {
        "HELLO": 1, "WELCOME": 2, "REJECT": 3, "HEARTBEAT": 4, "GOODBYE": 5, "LEAVE": 6, "BELOW": 8,
        "REQUEST": 16, "REPLY": 17, "NOTICE": 18, "CANCEL": 19, "BOUNCE": 20, "LOST": 21,
        "INTRODUCE": 22, "INTRODUCED": 23, "WAITING": 24, "PROGRESS": 28,
        "ASK": 32, "CHUNK": 33, "DENIAL": 34, "CONFIRM": 35, "CONFIRMED": 36, "KEEP": 37, "DROP": 38, "WITHDRAWN": 39,
        "OPEN": 48, "ITEMS": 49, "TAKEN": 50, "END": 51, "ENDED": 52, "HALT": 53}
    assert {role.name: int(role) for role in Role} == {"CHILD": 0, "DIRECT": 1}
    assert {verify.name: int(verify) for verify in Verify} == {"NONE": 0, "BLAKE3": 1, "XXH3": 2}


def test_kinds_tell_which_lane_and_whether_they_are_routed() -> None:
    assert all(cls.kind < 16 for cls in typing.get_args(LinkMessage))
    assert all(16 <= cls.kind < 32 for cls in typing.get_args(ControlMessage))
    assert all(32 <= cls.kind for cls in typing.get_args(DataMessage))


@pytest.mark.parametrize("cls", [*CLASSES, Transit])
def test_messages_are_frozen_and_have_slots(cls: type) -> None:
    parameters = cls.__dataclass_params__  # type: ignore[attr-defined]
    assert parameters.frozen or parameters.unsafe_hash, "a hot value is frozen for the type checker: see zdl.protocol.hot"
    assert not hasattr(cls, "__dict__") or "__dict__" not in cls.__slots__  # type: ignore[attr-defined]


@pytest.mark.parametrize("cls", [cls for cls in CLASSES if cls.kind >= 16])
def test_routed_messages_begin_with_origin_target_and_id_and_start_with_no_hops(cls: type) -> None:
    fields = dataclasses.fields(cls)
    assert [field.name for field in fields[:3]] == ["origin", "target", "id"]
    hops = next(field for field in fields if field.name == "hops")
    assert hops.default == 0


def test_messages_with_the_same_content_are_equal() -> None:
    assert Heartbeat("site-1") == Heartbeat("site-1") != Heartbeat("site-2")
    notice = Notice("a", "b", 1, "c", "t", {}, (b"x",))
    assert notice == Notice("a", "b", 1, "c", "t", {}, (b"x",))
    assert dataclasses.replace(notice, hops=1) != notice


def test_a_confirm_cannot_be_changed() -> None:
    confirm = Confirm("a", "b", 1, b"o" * 16, b"s" * 16, ((0, 1),))
    with pytest.raises(dataclasses.FrozenInstanceError):
        confirm.ranges = ()  # type: ignore[misc]
