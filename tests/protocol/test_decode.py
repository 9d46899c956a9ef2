"""Decode: any bytes at all become a message or a `DecodeError`; a relay reads six positions and nothing else."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping

import msgpack
import pytest
from hypothesis import example, given, settings, strategies as st

from zdl.errors import DecodeError
from zdl.protocol.decode import decode
from zdl.protocol.encode import encode
from zdl.protocol.frames import (
    BELOW_NAMES_MAX,
    BELOW_WHY_CHARS_MAX,
    EMBEDDED_BYTES_MAX,
    FRAMES_MAX,
    HEADER_BYTES_MAX,
    HEADERS_MAX,
    HOPS_AT,
    ID_MAX,
    RANGES_MAX,
    WIRE_VERSION,
)
from zdl.protocol.messages import (
    Ask,
    Below,
    Bounce,
    Cancel,
    Chunk,
    Confirm,
    Confirmed,
    Denial,
    Drop,
    Goodbye,
    Heartbeat,
    Hello,
    Introduce,
    Introduced,
    Keep,
    Kind,
    Leave,
    Lost,
    Message,
    Notice,
    Priority,
    Progress,
    Reject,
    Reply,
    Request,
    Role,
    Transit,
    Verify,
    Waiting,
    Welcome,
    Withdrawn,
)
from zdl.protocol.pushing import End, Ended, Halt, Items, Open, Taken
from zdl.refs import ITEM_BYTES_MAX

ME, PEER = "server", "site-1"
SOME, SECRET = b"o" * 16, b"s" * 16
BELOW = Below(PEER, 3, (("site-1.a", "closed"),), ("site-1.b", "site-1.b.c"))
EXAMPLES: tuple[Message, ...] = (
    Hello(PEER, SOME, Role.CHILD, 2.0, ("tcp://h:1", "ipc:///x"), WIRE_VERSION, "pid 7 on h", SECRET),
    Welcome(PEER, SOME, 2.5, ()),
    Reject(PEER, "name-taken", "another site-1"),
    Heartbeat(PEER, True),
    Goodbye(PEER, "closed"),
    Request(PEER, ME, 1, "c", "t", 2.5, {"a": 1}, (b"x", b"")),
    Request(PEER, ME, ID_MAX, "", "", None, {}),
    Reply(PEER, ME, 2, "", {}, {"b": [1, "x"]}, (b"y",)),
    Reply(PEER, ME, 2, "busy", {"limit": "x", "value": 1, "at": "y"}, {}),
    Notice(PEER, ME, 3, "c", "t", {}, (b"z",)),
    Cancel(PEER, ME, 4),
    Bounce(PEER, ME, 5, 16, "no-route", {"target": "a", "at": "b", "why": ""}),
    Lost(PEER, ME, 0, "site-2", True, "closed"),
    Ask(PEER, ME, 6, SOME, SECRET, ITEM_BYTES_MAX, 0, Verify.BLAKE3, 0, Priority.BACKGROUND),
    Chunk(PEER, ME, 7, 0, 3, Verify.BLAKE3, b"d" * 32, (b"ab", b"c")),
    Chunk(PEER, ME, 7, 0, 0, Verify.NONE, b""),
    Denial(PEER, ME, 8, "unknown-ref", {"ref": "r", "origin": "o"}),
    Confirm(PEER, ME, 9, SOME, SECRET, ((0, 10), (20, 5))),
    Confirmed(PEER, ME, 10),
    Keep(PEER, ME, 11, SOME, SECRET),
    Drop(PEER, ME, 12, SOME, SECRET, "cancelled"),
    Withdrawn(PEER, ME, 13, SOME, "deleted"),
    BELOW,
    Leave(PEER, True),
    Introduce(PEER, ME, 14, "machine/7", SECRET, ("tcp://h:1",)),
    Introduced(PEER, ME, 15, SECRET, ("tcp://h:1",), "why not"),
    Waiting(PEER, ME, 16),
    Progress(PEER, ME, 17, {"step": 3}),
    Progress(PEER, ME, 18, {}),
    Open(PEER, ME, 19, "c", "t", "bytes", 5, {"a": 1}, (b"x", b"y")),
    Open(PEER, ME, 19, "c", "t", "objects", 0, {}),
    Items(PEER, ME, 19, 3, 2, (b"\x91\x01", b"z")),
    Taken(PEER, ME, 19, 3, 2, 1000, 1, False, (b"\x91\x00",)),
    End(PEER, ME, 19, 4),
    Ended(PEER, ME, 19, 4, "", {}, (b"x",)),
    Halt(PEER, ME, 19, "closed", {"fqcn": "a"}),
)


# How many positions were added to a kind later: a message without them is a good one.
LATER = {Kind.HELLO: 2, Kind.HEARTBEAT: 1, Kind.ASK: 1}


def sent(message: Message) -> tuple[bytes, tuple[bytes | memoryview, ...]]:
    """The frames of a message."""
    header, *body = encode(message)
    assert isinstance(header, bytes)
    return header, tuple(body)


def positions(message: Message) -> list[object]:
    """The header of a message, taken apart."""
    found = msgpack.unpackb(sent(message)[0])
    assert isinstance(found, list)
    return found


def plain(message: object) -> Mapping[str, object]:
    """The fields of a message, with maps and lists as they compare equal."""
    assert dataclasses.is_dataclass(message) and not isinstance(message, type)
    found = {field.name: getattr(message, field.name) for field in dataclasses.fields(message)}
    return {name: repr(dict(each)) if isinstance(each, Mapping) else each for name, each in found.items()}


def refusal(header: bytes, body: tuple[bytes, ...] = ()) -> str:
    """Why a header is refused."""
    with pytest.raises(DecodeError) as caught:
        decode(header, body, me=ME)
    return caught.value.what


# --- there and back -----------------------------------------------------------------------------


def test_there_is_an_example_of_every_kind() -> None:
    assert {each.kind for each in EXAMPLES} == set(Kind)


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda each: type(each).__name__)
def test_what_was_encoded_is_decoded(message: Message) -> None:
    header, body = sent(message)
    seen = decode(header, body, me=ME)
    assert type(seen) is type(message)
    assert str(plain(seen)).replace("(1, 'x')", "[1, 'x']") == str(plain(message))


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda each: type(each).__name__)
def test_positions_that_a_later_version_adds_are_ignored(message: Message) -> None:
    more = positions(message)
    if len(more) < 15:
        assert plain(decode(msgpack.packb([*more, {"new": 1}]), sent(message)[1], me=ME)) == plain(
            decode(*sent(message), me=ME))


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda each: type(each).__name__)
def test_a_header_that_ends_too_early_names_what_is_missing(message: Message) -> None:
    whole = positions(dataclasses.replace(message, body=()) if getattr(message, "body", ()) else message)  # type: ignore[call-arg]
    for count in range(6, len(whole) - LATER.get(message.kind, 0)):
        assert "is missing" in refusal(msgpack.packb(whole[:count]))


def test_a_cell_that_does_not_say_what_was_added_later_is_understood() -> None:
    old = Hello(PEER, SOME, Role.CHILD, 2.0, (), WIRE_VERSION)
    assert len(positions(old)) == 10 and decode(*sent(old), me=ME) == old
    assert len(positions(Heartbeat(PEER))) == 6 and decode(*sent(Heartbeat(PEER)), me=ME) == Heartbeat(PEER)


@pytest.mark.parametrize("size", [0, 1, EMBEDDED_BYTES_MAX, EMBEDDED_BYTES_MAX + 1])
def test_a_small_body_of_one_part_travels_in_the_header(size: int) -> None:
    part = bytes(size)
    for message in (Request(PEER, ME, 1, "c", "t", 1.5, {}, (part,)), Request(PEER, ME, 1, "c", "t", None, {"h": 1}, (part,)),
                    Reply(PEER, ME, 1, "", {}, {}, (part,)), Reply(PEER, ME, 1, "busy", {"a": 1}, {}, (part,)),
                    Notice(PEER, ME, 1, "c", "t", {}, (part,))):
        header, *frames = encode(message)
        assert len(frames) == (size > EMBEDDED_BYTES_MAX)
        assert decode(bytes(header), tuple(frames), me=ME) == message


def test_what_stands_where_a_small_body_would_is_ignored_when_there_are_frames_or_it_is_no_body() -> None:
    bare = positions(Request(PEER, ME, 1, "c", "t", 1.5, {}))
    assert decode(msgpack.packb([*bare, b"small"]), (b"frame",), me=ME) == Request(PEER, ME, 1, "c", "t", 1.5, {}, (b"frame",))
    assert decode(msgpack.packb([*bare, "text"]), (), me=ME) == Request(PEER, ME, 1, "c", "t", 1.5, {})


def test_what_was_passed_on_is_decoded_with_its_hops() -> None:
    header, body = sent(Cancel(PEER, ME, 4))
    relayed = decode(header, body, me="site-9")
    assert isinstance(relayed, Transit)
    passed, *rest = encode(dataclasses.replace(relayed, hops=3))
    assert decode(bytes(passed), tuple(rest), me=ME) == Cancel(PEER, ME, 4, 3)


# --- a relay ------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", [each for each in EXAMPLES if each.kind >= 16],
                         ids=lambda each: type(each).__name__)
def test_a_message_for_somebody_else_is_not_decoded(message: Message) -> None:
    header, body = sent(message)
    seen = decode(header, body, me="site-9")
    assert seen == Transit(int(message.kind), 0, PEER, ME, message.id, header, body)  # type: ignore[union-attr]
    assert seen.header is header and seen.body is body


@pytest.mark.parametrize("kind", [16, 33, 40, 99, 127])
def test_a_relay_passes_on_what_only_the_target_can_judge(kind: int) -> None:
    header = msgpack.packb([WIRE_VERSION, kind, 0, PEER, ME, 1, "not", "what", b"this", "kind", {"says": []}])
    body = (b"\xc1 no msgpack at all", memoryview(b"\xff" * 100))
    seen = decode(header, body, me="site-9")
    assert isinstance(seen, Transit)
    passed = encode(dataclasses.replace(seen, hops=1))
    assert bytes(passed[0]) == header[:HOPS_AT] + b"\x01" + header[HOPS_AT + 1:]
    assert [id(each) for each in passed[1:]] == [id(each) for each in body]


def test_the_target_refuses_a_kind_that_it_does_not_know() -> None:
    assert refusal(msgpack.packb([WIRE_VERSION, 99, 0, PEER, ME, 1])) == "kind 99 is not known"
    assert refusal(msgpack.packb([WIRE_VERSION, 9, 0, PEER, "", 0])) == "kind 9 is not known on a link"


# --- the common positions -----------------------------------------------------------------------


@pytest.mark.parametrize(("at", "value", "why"), [
    (0, 2, "version 2 is not 1"), (0, "1", "version '1' is not 1"), (0, True, "version True is not 1"),
    (0, None, "version None is not 1"),
    (1, 0, "kind 0 "), (1, 128, "kind 128 "), (1, "16", "kind '16' "), (1, -1, "kind -1 "), (1, True, "kind True "),
    (2, 128, "hops 128 "), (2, -1, "hops -1 "), (2, None, "hops None "), (2, False, "hops False "),
    (3, "", "origin is not a name"), (3, 7, "origin is not a name"), (3, "x" * 256, "origin is not a name"),
    (3, b"x", "origin is not a name"),
    (5, -1, "id -1 "), (5, "x", "id 'x' "), (5, 1.0, "id 1.0 "), (5, True, "id True ")])
def test_a_common_position_that_is_not_right_is_named(at: int, value: object, why: str) -> None:
    wrong = positions(Cancel(PEER, ME, 4))
    wrong[at] = value
    assert refusal(msgpack.packb(wrong)).startswith(why)


def test_a_target_that_is_no_name_is_refused_even_by_a_relay() -> None:
    for target in ("", "x" * 256, 7, None):
        wrong = positions(Cancel(PEER, ME, 4))
        wrong[4] = target
        with pytest.raises(DecodeError, match="target is not a name"):
            decode(msgpack.packb(wrong), (), me="site-9")


@pytest.mark.parametrize("version", [
    b"\xcd\x00\x01", b"\xcc\x01", b"\xd3" + b"\x00" * 7 + b"\x01", b"\xca\x3f\x80\x00\x00"])
def test_numbers_written_longer_than_they_need_be_do_not_shift_the_hop_count(version: bytes) -> None:
    tail = msgpack.packb([PEER, "site-2", 1])[1:]
    for hops in range(128):
        header = b"\x96" + version + b"\x10" + bytes((hops,)) + tail
        assert refusal(header)
    assert refusal(b"\x96\x01\xcc\x10\x10" + tail)
    assert refusal(b"\x96\x01\x10\xcc\x10" + tail)


def test_a_name_on_a_link_must_be_well_formed() -> None:
    for name in ("a b", "a..b", "a.b.a", "-\x00"):
        assert "is not a cell name" in refusal(msgpack.packb([WIRE_VERSION, 4, 0, name, "", 0]))


# --- versions -----------------------------------------------------------------------------------


def test_a_hello_of_another_version_tells_its_version_and_nothing_else_is_read() -> None:
    strange = msgpack.packb([9, 1, 0, PEER, "", 0, {"all": "different"}])
    assert decode(strange, (), me=ME) == Hello(PEER, b"", Role.CHILD, 1.0, (), 9)
    assert decode(msgpack.packb([0, 1, 0, PEER, "", 0]), (), me=ME) == Hello(PEER, b"", Role.CHILD, 1.0, (), 0)


@pytest.mark.parametrize("version", [-1, "1", None, True])
def test_a_hello_with_a_version_that_is_no_version_is_refused(version: object) -> None:
    assert "version" in refusal(msgpack.packb([version, 1, 0, PEER, "", 0]))


# --- each position ------------------------------------------------------------------------------


BIG_MAP = {str(index): 0 for index in range(HEADERS_MAX + 1)}


@pytest.mark.parametrize(("message", "at", "values"), [
    (EXAMPLES[0], 6, [b"x" * 15, "x" * 16, None]),
    (EXAMPLES[0], 7, [2, -1, "0", None]),
    (EXAMPLES[0], 8, [-1.0, float("nan"), float("inf"), 4e8, "2", None, True]),
    (EXAMPLES[0], 9, ["tcp://h:1", [1], ["x" * 256], ["a"] * 17, None]),
    (EXAMPLES[2], 6, [1, "x" * 256, None]),
    (EXAMPLES[4], 6, ["x" * 2001, b"closed"]),
    (EXAMPLES[5], 6, ["x" * 256, None]),
    (EXAMPLES[5], 8, [-1, "5", float("nan")]),
    (EXAMPLES[5], 9, [[], 1, BIG_MAP]),
    (EXAMPLES[7], 6, [None, 7]),
    (EXAMPLES[11], 6, [128, -1, "16"]),
    (EXAMPLES[12], 6, ["", 1, "x" * 256]),
    (EXAMPLES[12], 7, [1, None]),
    (EXAMPLES[13], 6, [b"x" * 17]),
    (EXAMPLES[13], 8, [-1, ITEM_BYTES_MAX + 1, 1.0]),
    (EXAMPLES[13], 10, [3, -1]),
    (EXAMPLES[14], 9, [b"x" * 31, b"x", "x" * 32]),
    (EXAMPLES[17], 8, [5, [1], [[1]], [[1, 2, 3]], [["a", 1]], [[-1, 1]], [[0, 0]] * (RANGES_MAX + 1), None]),
    (EXAMPLES[21], 7, ["x" * 256]),
    (EXAMPLES[-1], 6, [5, [1], {1: 2}, BIG_MAP]),
    (BELOW, 6, [-1, "3", None]),
    (BELOW, 7, [5, ["a"], [["a"]], [["a", 1]], [["a", "b", "c"]], [["a", "x" * (BELOW_WHY_CHARS_MAX + 1)]], [["a..b", ""]],
                [[" a", ""]], [["a", ""]] * (BELOW_NAMES_MAX + 1), None]),
    (BELOW, 8, [5, [1], ["a b"], ["a."], [" a"], ["x" * 256], [["a", ""]], ["a"] * (BELOW_NAMES_MAX + 1), None]),
])
def test_a_position_that_is_not_right_is_refused(message: Message, at: int, values: list[object]) -> None:
    for value in values:
        wrong = positions(message)
        wrong[at] = value
        header = msgpack.packb(wrong)
        assert len(header) <= HEADER_BYTES_MAX
        assert refusal(header)


def test_maps_with_keys_that_are_no_names_are_refused() -> None:
    for key in (1, b"x", None, 1.5):
        wrong = positions(EXAMPLES[5])
        wrong[9] = {key: 1}
        assert refusal(msgpack.packb(wrong))


def test_facts_and_headers_can_not_be_changed() -> None:
    seen = decode(*sent(EXAMPLES[5]), me=ME)
    assert isinstance(seen, Request)
    with pytest.raises(TypeError):
        seen.headers["a"] = 2  # type: ignore[index]


# --- limits -------------------------------------------------------------------------------------


def test_a_header_over_its_limit_is_refused_unread() -> None:
    header = msgpack.packb([WIRE_VERSION, 16, 0, PEER, ME, 1, "x" * HEADER_BYTES_MAX])
    assert refusal(header) == f"header of {len(header)} bytes is over HEADER_BYTES_MAX={HEADER_BYTES_MAX}"


def test_as_many_frames_as_allowed_are_taken_and_one_more_is_refused() -> None:
    header, _ = sent(Notice(PEER, ME, 3, "c", "t", {}))
    assert isinstance(decode(header, (b"",) * (FRAMES_MAX - 1), me=ME), Notice)
    assert refusal(header, (b"",) * FRAMES_MAX) == f"{FRAMES_MAX + 1} frames are over FRAMES_MAX={FRAMES_MAX}"


@pytest.mark.parametrize("header", [
    b"", b"\x96", b"\x95\x01\x04\x00\x00\x00", b"\x9f", b"\x80" * 10, b"\xdc\x00\x06" + b"\x00" * 6,
    b"\x96" + b"\xdd\xff\xff\xff\xff" * 6, b"\x96\x01\x04\x00" + b"\x91" * 60000,
    b"\x96\x01\x04\x00" + b"\x81\xa0" * 1000, b"\x96\x01\x04\x00\xdb\xff\xff\xff\xff",
    b"\x96\x01\x04\x00" + b"\xc7\xff\x05", b"\x96\x01\x04\x00\xd6\xff\x00\x00\x00\x00\xa0\x00",
    b"\x96\x01\x04\x00\xa2\xff\xfe\xa0\x00", b"\x96\x01\x04\x00\xa1a\xa0\x00trailing",
    b"\x9f" + b"\x90" * 60000, b"\x96\x01\x10\x00\xa1a\xa1b" + b"\xdf\xff\xff\xff\xff",
])
def test_bombs_and_broken_msgpack_are_refused(header: bytes) -> None:
    assert refusal(header)


# --- anything at all ----------------------------------------------------------------------------


def is_seen_or_refused(header: bytes, body: tuple[bytes, ...] = ()) -> bool:
    """Whatever it is, it is a message, or refused with a reason that can be shown."""
    for me in (ME, PEER, "site-9"):
        try:
            seen = decode(header, body, me=me)
        except DecodeError as error:
            assert str(error) and len(str(error)) < 1000
            continue
        assert isinstance(seen, (Transit, *typing.get_args(Message)))
        again = encode(seen)
        if isinstance(seen, Transit):
            assert bytes(again[0]) == header, "what is passed on is not changed"
    return True


@given(st.binary(max_size=200), st.lists(st.binary(max_size=8), max_size=3))
@example(b"\x96\x01\x10\x00\xa1a\xa1b\x01", [])
@example(b"\x96\xcd\x00\x01\x10\x01\xa1a\xa1b", [])
def test_arbitrary_bytes_are_decoded_or_refused(header: bytes, body: list[bytes]) -> None:
    assert is_seen_or_refused(header, tuple(body))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-1 << 63, (1 << 64) - 1) | st.floats() | st.text(max_size=20)
    | st.binary(max_size=40) | st.sampled_from([PEER, ME, SOME, WIRE_VERSION, 0, 1]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.text(max_size=3) | st.integers(0, 9), inner, max_size=3),
    max_leaves=8)


@settings(max_examples=300)
@given(st.sampled_from(EXAMPLES), st.lists(st.tuples(st.integers(0, 14), VALUES), min_size=1, max_size=3))
def test_headers_with_other_values_in_some_positions_are_decoded_or_refused(
        message: Message, changes: list[tuple[int, object]]) -> None:
    changed = positions(message)
    for at, value in changes:
        changed[at:at + 1] = [value]
    assert is_seen_or_refused(msgpack.packb(changed))


@settings(max_examples=300)
@given(st.sampled_from(EXAMPLES),
       st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4))
def test_headers_with_flipped_bytes_are_decoded_or_refused(message: Message, flips: list[tuple[int, int]]) -> None:
    header = bytearray(sent(message)[0])
    for at, value in flips:
        header[at % len(header)] ^= value
    assert is_seen_or_refused(bytes(header), (b"body",))


@given(st.sampled_from(EXAMPLES), st.integers(0, 10_000))
def test_headers_that_are_cut_off_are_refused(message: Message, at: int) -> None:
    header = sent(message)[0]
    assert refusal(header[:at % len(header)])


def test_a_rejection_is_read_whatever_its_version() -> None:
    header = bytearray(bytes(encode(Reject("server", "version", "server speaks version 2, site-1 speaks version 1"))[0]))
    header[1] = 2
    assert decode(bytes(header), (), me="site-1") == Reject(
        "server", "version", "server speaks version 2, site-1 speaks version 1")
