"""Trace: the way of a message, written down by who passes it on; a message that is not traced is not touched."""

from __future__ import annotations

import msgpack
import pytest

from zdl.errors import DecodeError
from zdl.protocol.decode import decode
from zdl.protocol.encode import encode
from zdl.protocol.frames import HEADER_BYTES_MAX, ROUTE_NAMES_MAX, TRACED
from zdl.protocol.messages import Kind, Reply, Request, Transit
from zdl.protocol.trace import passed_by, split, traced, untraced

REQUEST = Request("site-1.a", "site-2", 7, "c", "t", 1.5, {"h": 1}, (bytes(600),), 0, ())
REPLY = Reply("site-2", "site-1.a", 7, "", {}, {}, (), 0, ("site-1", "server", "site-2"))


def header_of(message: Request | Reply) -> bytes:
    header = encode(message)[0]
    assert isinstance(header, bytes)
    return header


@pytest.mark.parametrize("message", [REQUEST, REPLY])
def test_a_traced_message_is_the_same_message_with_a_flag_and_a_list_at_the_end(message: Request | Reply) -> None:
    plain = msgpack.unpackb(encode(type(message)(*(getattr(message, each) for each in message.__slots__[:-1])))[0])
    with_route = msgpack.unpackb(header_of(message))
    assert with_route == [plain[0], plain[1] | TRACED, *plain[2:], list(message.route or ())]
    assert decode(header_of(message), message.body, me=message.target) == message


def test_every_relay_appends_its_name_and_changes_nothing_else() -> None:
    header = passed_by(passed_by(header_of(REQUEST), "site-1"), "server")
    transit = decode(header, (), me="elsewhere")
    assert isinstance(transit, Transit) and transit.of_kind == Kind.REQUEST | TRACED
    arrived = decode(header, (b"x",), me="site-2")
    assert isinstance(arrived, Request)
    assert arrived.route == ("site-1", "server")
    assert msgpack.unpackb(header)[:-1] == msgpack.unpackb(header_of(REQUEST))[:-1]


def test_the_hops_of_a_traced_message_are_still_written_in_place() -> None:
    transit = decode(passed_by(header_of(REQUEST), "site-1"), (), me="site-1")
    assert isinstance(transit, Transit)
    hopped = encode(Transit(transit.of_kind, 1, *(getattr(transit, each) for each in transit.__slots__[2:])))[0]
    arrived = decode(bytes(hopped), (), me="site-2")
    assert isinstance(arrived, Request) and (arrived.hops, arrived.route) == (1, ("site-1",))


def test_a_list_that_is_full_or_none_at_all_goes_on_as_it_is() -> None:
    full = header_of(Request("a", "b", 1, "c", "t", None, {}, route=("n",) * ROUTE_NAMES_MAX))
    assert passed_by(full, "site-1") == full
    none = msgpack.packb([1, Kind.REQUEST | TRACED, 0, "a", "b", 1, "c", "t", None, None])
    assert passed_by(none, "site-1") == none
    large = header_of(Request("a", "b", 1, "c", "t", None, {"h": b"x" * (HEADER_BYTES_MAX - 60)}, route=()))
    assert passed_by(large, "n" * 255) == large


@pytest.mark.parametrize("tail", [[], [None, None], [None, None, "a"], [None, None, [1]], [None, None, [""]],
                                  [None, None, ["n"] * (ROUTE_NAMES_MAX + 1)], [None, None, ["n" * 256]]])
def test_a_route_that_is_none_makes_the_message_undecodable(tail: list[object]) -> None:
    header = msgpack.packb([1, Kind.REQUEST | TRACED, 0, "a", "b", 1, "c", "t", *tail])
    with pytest.raises(DecodeError):
        decode(header, (), me="b")


@pytest.mark.parametrize("kind", [Kind.NOTICE, Kind.CANCEL, Kind.BOUNCE])
def test_other_kinds_are_not_traced(kind: Kind) -> None:
    header = msgpack.packb([1, kind | TRACED, 0, "a", "b", 1, "c", "t", None, ["n"]])
    with pytest.raises(DecodeError, match="is not known"):
        decode(header, (), me="b")


def test_the_flag_belongs_to_no_kind() -> None:
    assert not any(kind & TRACED for kind in Kind)
    assert {untraced(kind | TRACED) for kind in Kind} == {untraced(kind) for kind in Kind} == set(Kind)
    assert traced([1, 16, 0], ("a",)) == [1, 16 | TRACED, 0, ["a"]]


def test_the_way_there_and_back_are_told_apart_by_the_name_of_the_target() -> None:
    assert split(("r", "s", "t", "s", "r"), "t") == (("r", "s"), ("s", "r"))
    assert split(("t",), "t") == ((), ())
    assert split(("r",), "t") == (("r",), ())
