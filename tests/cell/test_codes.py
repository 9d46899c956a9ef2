"""Codes: one table, complete in both directions."""

from __future__ import annotations

import dataclasses

import pytest

from zdl.cell.codes import CODES, REASONS, CodedReply, ReturnCode, code_of, coded
from zdl.cell.messages import Reply
from zdl.errors import WIRE_CLASSES, Cancelled, NoRoute, Refused, TimedOut, ZdlError, from_wire, to_wire
from zdl.options import PackOptions

FOURTEEN = ("ok", "timeout", "invalid_target", "target_unreachable", "comm_error", "msg_too_big", "filter_error",
            "invalid_request", "process_exception", "authentication_error", "service_unavailable", "invalid_session",
            "abort_run", "unauthenticated")


def made(cls: type[ZdlError]) -> ZdlError:
    """An error of the class."""
    values = {"str": "x", "int": 1, "float": 1.0}
    return cls(**{field.name: values[str(field.type)] for field in dataclasses.fields(cls)})


def test_there_are_the_fourteen_codes() -> None:
    assert tuple(code.value for code in ReturnCode) == FOURTEEN


@pytest.mark.parametrize("cls", WIRE_CLASSES)
def test_every_error_with_a_wire_code_stands_in_the_table_and_keeps_its_return_code_over_the_wire(cls: type[ZdlError]) -> None:
    assert cls in CODES
    error = made(cls)
    assert code_of(error) is CODES[cls]
    code, facts = to_wire(error)
    assert code_of(from_wire(code, facts, at="server")) is CODES[cls]


def test_nothing_else_stands_in_the_table_and_wire_codes_are_unique() -> None:
    assert set(CODES) == set(WIRE_CLASSES)
    assert len({cls.code for cls in WIRE_CLASSES}) == len(WIRE_CLASSES)


def test_each_of_the_fourteen_codes_is_the_code_of_something() -> None:
    assert {*CODES.values(), *REASONS.values(), code_of(None)} == set(ReturnCode)


@pytest.mark.parametrize("reason", sorted(REASONS))
def test_a_refusal_has_the_code_of_its_reason(reason: str) -> None:
    assert code_of(Refused(by="server", reason=reason, text="")) is REASONS[reason]


def test_a_reason_of_ones_own_is_an_invalid_request() -> None:
    assert code_of(Refused(by="server", reason="quota", text="")) is ReturnCode.INVALID_REQUEST


def test_a_class_that_came_later_has_the_code_of_its_parent() -> None:
    class Newer(NoRoute):
        """An error of a later version."""

    class Unknown(ZdlError):
        """An error without a parent in the table."""

    assert code_of(Newer(target="a", at="b")) is ReturnCode.TARGET_UNREACHABLE
    assert code_of(Unknown()) is ReturnCode.PROCESS_EXCEPTION


def test_a_reply_is_ok_and_an_error_is_told() -> None:
    reply = Reply.of_body("site-1", {"a": 1}, {"h": 2}, PackOptions())
    assert coded(lambda: reply) == CodedReply(ReturnCode.OK, {"a": 1}, None, "site-1", {"h": 2})
    late = TimedOut(what="the reply", address="site-1", waited_s=1.0)

    def fail() -> Reply:
        raise late

    found = coded(fail)
    assert (found.code, found.body, found.error, found.is_ok) == ("timeout", None, late, False)


def test_an_abort_has_the_ancestors_code_and_is_told_apart_by_its_error() -> None:
    def fail() -> Reply:
        raise Cancelled(what="the reply")

    found = coded(fail)
    assert found.code is ReturnCode.TIMEOUT and isinstance(found.error, Cancelled)
