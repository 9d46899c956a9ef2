"""Golden: the bytes of one header per kind. Peers of this version are in use: these bytes may not change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zdl.protocol.bundle import bundled
from zdl.protocol.decode import decode
from zdl.protocol.encode import encode
from zdl.protocol.frames import WIRE_VERSION
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
    Verify,
    Waiting,
    Welcome,
    Withdrawn,
)
from zdl.protocol.pushing import End, Ended, Halt, Items, Open, Taken

FILE = Path(__file__).with_name("frames.txt")
ONE, OTHER = bytes(range(16)), bytes(range(16, 32))
TO = "site-1.job-7"
MESSAGES: tuple[Message, ...] = (
    Hello("site-1", ONE, Role.DIRECT, 2.0, ("tcp://10.0.0.1:7001",), 1),
    Welcome("server", OTHER, 0.5, ()),
    Reject("server", "name-taken", "another site-1 is connected"),
    Heartbeat("site-1"),
    Goodbye("site-1", "closed"),
    Leave("site-1", False),
    Below("site-1", 3, (("site-1.job-7", "it said goodbye: closed"),), ("site-1.job-8", "site-1.job-8.w0")),
    Request("server", TO, (1 << 62) + 5, "train", "round", 29.5, {"trace": "abc", "round": 3}),
    Reply("server", TO, 300, "timed-out", {"what": "x", "waited_s": 1.5}, {}),
    Notice("server", TO, 70_000, "log", "line", {}),
    Cancel("server", TO, 7),
    Bounce("server", TO, 8, 16, "no-route", {"target": "site-2", "at": "server", "why": ""}),
    Lost("server", TO, 0, "site-2", False, "silent for 6.0 s"),
    Introduce("server", TO, 10, "0a1b2c3d/4711", ONE, ("ipc:///run/x", "tcp://10.0.0.1:7000")),
    Introduced("server", TO, 10, b"", (), "direct links are off in server"),
    Waiting("server", TO, 11),
    Progress("server", TO, 12, {"step": 3}),
    Ask("server", TO, 9, ONE, OTHER, 1 << 40, 1 << 20, Verify.BLAKE3),
    Chunk("server", TO, 9, 1 << 40, 1 << 20, Verify.BLAKE3, ONE + OTHER),
    Denial("server", TO, 9, "unknown-ref", {"ref": "ref:00010203…", "origin": "server"}),
    Confirm("server", TO, 9, ONE, OTHER, ((0, 1 << 20), (1 << 32, 5))),
    Confirmed("server", TO, 9),
    Keep("server", TO, 9, ONE, OTHER),
    Drop("server", TO, 9, ONE, OTHER, "cancelled"),
    Withdrawn("server", TO, 9, ONE, "deleted"),
    Open("server", TO, 13, "metrics", "round", "objects", 0, {"round": 3}),
    Items("server", TO, 13, 1000, 990),
    Taken("server", TO, 13, 1000, 995, 1 << 33, 990, True),
    End("server", TO, 13, 1001),
    Ended("server", TO, 13, 1001, "stream", {"what": "too long"}),
    Halt("server", TO, 13, "cancelled", {"what": "the stream", "why": "no longer wanted"}),
)
# A message that writes down its way has a flag in its kind, and one position more.
TRACED: tuple[Message, ...] = (
    Request("server", TO, 9, "train", "round", None, {}, route=("site-1",)),
    Reply("server", TO, 9, "", {}, {"h": 1}, route=()),
)
# Positions that were added to a kind: they are left out where they say nothing.
LATER: tuple[Message, ...] = (
    Hello("site-1", ONE, Role.DIRECT, 2.0, (), 1, "pid 4711 on gpu-7", OTHER),
    Heartbeat("site-1", True),
    Ask("server", TO, 9, ONE, OTHER, 0, 1 << 16, Verify.XXH3, 0, Priority.BACKGROUND),
)
ALL = (*MESSAGES, *TRACED, *LATER)
CHANGED = "the wire changed, so WIRE_VERSION must (and then ZDL_REWRITE=1 writes the new bytes down)"


def name_of(message: Message) -> str:
    """The word before its header."""
    mark = "TRACED_" if getattr(message, "route", None) is not None else "LATER_" if message in LATER else ""
    return f"{mark}{message.kind.name}"


def golden() -> dict[str, str]:
    """The headers as they were written down, by kind."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    return {kind: header for kind, header in (line.split() for line in lines)}


def test_the_bytes_are_those_of_this_version() -> None:
    if os.environ.get("ZDL_REWRITE"):
        lines = [f"version {WIRE_VERSION}", *(f"{name_of(each)} {bytes(encode(each)[0]).hex()}" for each in ALL)]
        FILE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert golden()["version"] == str(WIRE_VERSION), CHANGED
    assert set(golden()) - {"version"} == {*(kind.name for kind in Kind), *map(name_of, (*TRACED, *LATER))}


def test_a_bundle_is_what_it_was() -> None:
    first, second = (bytes(encode(each)[0]) for each in MESSAGES[-2:])
    told = b"".join(b"\xc4" + bytes((len(each),)) + each for each in (first, second))
    assert [bytes(frame) for frame in bundled([first, second])] == [bytes.fromhex("97010900a0a00292") + told], CHANGED


@pytest.mark.parametrize("message", ALL, ids=lambda each: name_of(each))
def test_the_wire_is_what_it_was(message: Message) -> None:
    header = bytes.fromhex(golden()[name_of(message)])
    assert bytes(encode(message)[0]) == header, CHANGED
    assert decode(header, (), me=TO) == message, CHANGED
