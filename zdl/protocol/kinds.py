"""The numbers of the kinds of messages on the wire, and what a body is."""

from __future__ import annotations

from enum import IntEnum

Part = bytes | memoryview
Body = tuple[Part, ...]


class Kind(IntEnum):
    """The numbers of the kinds on the wire; from 16 on they are routed. 9 is the bundle, which is no message itself."""

    HELLO = 1
    WELCOME = 2
    REJECT = 3
    HEARTBEAT = 4
    GOODBYE = 5
    LEAVE = 6
    BELOW = 8
    REQUEST = 16
    REPLY = 17
    NOTICE = 18
    CANCEL = 19
    BOUNCE = 20
    LOST = 21
    INTRODUCE = 22
    INTRODUCED = 23
    WAITING = 24
    PROGRESS = 28
    ASK = 32
    CHUNK = 33
    DENIAL = 34
    CONFIRM = 35
    CONFIRMED = 36
    KEEP = 37
    DROP = 38
    WITHDRAWN = 39
    OPEN = 48
    ITEMS = 49
    TAKEN = 50
    END = 51
    ENDED = 52
    HALT = 53
