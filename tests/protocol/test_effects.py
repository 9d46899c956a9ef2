"""Effects: frozen values, compared with ``==``; and the one list of outcomes."""

from __future__ import annotations

import typing

import pytest

from zdl.protocol import effects
from zdl.protocol.effects import SELF, Dial, Effect, Hang, Outcome, Progressed, Release, Send
from zdl.protocol.messages import Heartbeat


@pytest.mark.parametrize("cls", typing.get_args(Effect))
def test_effects_are_frozen_values_with_a_docstring(cls: type) -> None:
    parameters = cls.__dataclass_params__  # type: ignore[attr-defined]
    assert parameters.eq and (parameters.frozen or parameters.unsafe_hash)
    assert cls.__doc__


def test_every_effect_of_the_module_is_in_the_union() -> None:
    classes = {each for each in vars(effects).values() if isinstance(each, type)}
    ours = {each for each in classes if each.__module__ == effects.__name__}
    assert ours - {Outcome} == set(typing.get_args(Effect))


def test_effects_with_the_same_content_are_equal() -> None:
    assert Dial(1, "tcp://h:1") == Dial(1, "tcp://h:1") != Dial(3, "tcp://h:1")
    assert [Send(2, Heartbeat("a")), Hang(2)] == [Send(2, Heartbeat("a")), Hang(2)]
    assert Progressed(1, 2, 3) != Release(b"x")


def test_the_link_of_a_cell_to_itself_is_neither_dialled_nor_accepted() -> None:
    assert SELF == 0


def test_outcomes_are_the_words_that_users_and_the_wire_see() -> None:
    assert [each.value for each in Outcome] == [
        "finished", "partial", "failed", "expired", "deleted", "undeliverable", "cancelled", "lost", "closed"]
