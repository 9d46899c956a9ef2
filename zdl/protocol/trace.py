"""Trace: the way of a message, written down by those who pass it on.

A message is traced when the byte of its kind has the flag `TRACED`. Then the last position of its header is a list of
names, to which every relay appends its own; what stands before it is untouched. A reply to a traced request begins
with the names that the request came with and the name of the target. A relay that finds no list there, or a full one,
passes the message on as it is: being traced must not cost a message its way. Names in the list are told by cells on
the way, for people; nothing is decided by them.

What is not traced is not looked at: relays see one bit of a byte that they read anyway.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgpack

from zdl.protocol.frames import HEADER_BYTES_MAX, ROUTE_NAMES_MAX, TRACED

# Of the header's array.
_KIND = 1


def traced(positions: list[object], route: Sequence[str]) -> list[object]:
    """The positions of a header, with the flag and the list."""
    kind = positions[_KIND]
    assert isinstance(kind, int)
    return [*positions[:_KIND], kind | TRACED, *positions[_KIND + 1:], list(route)]


def passed_by(header: bytes, name: str) -> bytes:
    """The header of a traced message that was decoded before, with the name of who passes it on."""
    positions = msgpack.unpackb(header, use_list=True, strict_map_key=True, max_ext_len=0)
    route = positions[-1]
    if not isinstance(route, list) or len(route) >= ROUTE_NAMES_MAX:
        return header
    route.append(name)
    longer = msgpack.packb(positions)
    return longer if len(longer) <= HEADER_BYTES_MAX else header


def untraced(kind: int) -> int:
    """The kind without the flag."""
    return kind & ~TRACED


def split(route: Sequence[str], target: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of a reply's route before and behind that of the target; without it, all of them are on the way there."""
    names = tuple(route)
    at = names.index(target) if target in names else len(names)
    return names[:at], names[at + 1:]
