"""The short way of decoding: the kinds that nearly all messages are, checked in one place.

All that `zdl.protocol.decode` checks about them is checked here, without words for what is wrong: 2–3 us instead of 9–12. Whatever
is not quite as it should be, or of another kind, or has positions that a later version added, goes the long way.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from zdl.fqcn import FQCN_BYTES_MAX
from zdl.protocol.frames import (
    CHANNEL_BYTES_MAX,
    COMMON_POSITIONS,
    DIGEST_BYTES,
    HOPS_AT,
    ID_MAX,
    KIND_AT,
    QUICK_DIGEST_BYTES,
    WIRE_VERSION,
)
from zdl.protocol.messages import Ask, Body, Chunk, Kind, Message, Reply, Request, Transit, Verify
from zdl.refs import ITEM_BYTES_MAX, OFFER_ID_BYTES, SECRET_BYTES

_ROUTED_FROM = int(Kind.REQUEST)
_ONE_BYTE = 0x80  # a number below is its own byte of msgpack
SECONDS_MAX = 10.0 * 365 * 86400  # a time in seconds from a peer: ten years are for ever
_REQUEST, _REQUEST_POSITIONS = int(Kind.REQUEST), 10
_REPLY, _REPLY_POSITIONS = int(Kind.REPLY), 9
_CHUNK, _CHUNK_POSITIONS = int(Kind.CHUNK), 10
_ASK, _ASK_POSITIONS = int(Kind.ASK), 11
# By their number on the wire: calling an enum costs 0.5 us.
_VERIFIES = tuple(sorted(Verify))
_DIGEST_LENGTHS = (0, QUICK_DIGEST_BYTES, DIGEST_BYTES)
_NO_FACTS: Mapping[str, object] = MappingProxyType({})


def often(positions: tuple[Any, ...], header: bytes, body: Body, me: str) -> Message | Transit | None:
    """A message to pass on; a request, reply, chunk or question for a chunk to us; None if it is anything else, or not quite right.

    Args:
        positions: of the header, unpacked; the first six are there.
        header: frame 0 itself.
        body: the frames behind it.
        me: the cell that reads.
    """
    kind, hops = header[KIND_AT], header[HOPS_AT]
    if header[1] != WIRE_VERSION or not _ROUTED_FROM <= kind < _ONE_BYTE or hops >= _ONE_BYTE:
        return None
    # Each is one byte of msgpack, and so is what stands in the first three positions.
    origin, target, number = positions[3:COMMON_POSITIONS]
    if not (type(number) is int and 0 <= number <= ID_MAX and type(origin) is str and 0 < len(origin) <= FQCN_BYTES_MAX):
        return None
    if target != me:
        if type(target) is not str or not 0 < len(target) <= FQCN_BYTES_MAX:
            return None
        return Transit(kind, hops, origin, target, number, header, body)
    if kind == _REPLY:
        return _often_reply(positions, body)
    if kind == _REQUEST:
        return _often_request(positions, body)
    if kind == _CHUNK:
        return _often_chunk(positions, body)
    if kind == _ASK:
        return None if body else _often_ask(positions)
    return None


def _often_reply(positions: tuple[Any, ...], body: Body) -> Reply | None:
    """A reply to us that is no error and has no headers, its first six positions checked; None if it is any other."""
    if len(positions) == _REPLY_POSITIONS + 1:
        _, _, hops, origin, target, number, code, facts, headers, part = positions
        if body or type(part) is not bytes:
            return None
        body = (part,)
    elif len(positions) == _REPLY_POSITIONS:
        _, _, hops, origin, target, number, code, facts, headers = positions
    else:
        return None
    if type(code) is not str or len(code) > CHANNEL_BYTES_MAX or facts is not None or headers is not None:
        return None
    return Reply(origin, target, number, code, _NO_FACTS, _NO_FACTS, body, hops)


def _often_request(positions: tuple[Any, ...], body: Body) -> Request | None:
    """A request to us without headers, its first six positions checked; None if it is any other."""
    if len(positions) == _REQUEST_POSITIONS + 1:
        _, _, hops, origin, target, number, channel, topic, timeout_s, headers, part = positions
        if body or type(part) is not bytes:
            return None
        body = (part,)
    elif len(positions) == _REQUEST_POSITIONS:
        _, _, hops, origin, target, number, channel, topic, timeout_s, headers = positions
    else:
        return None
    is_right = (headers is None and type(channel) is str and len(channel) <= CHANNEL_BYTES_MAX
                and type(topic) is str and len(topic) <= CHANNEL_BYTES_MAX
                and (timeout_s is None or type(timeout_s) is float and 0 <= timeout_s <= SECONDS_MAX))
    return Request(origin, target, number, channel, topic, timeout_s, _NO_FACTS, body, hops) if is_right else None


def _often_chunk(positions: tuple[Any, ...], body: Body) -> Chunk | None:
    """A chunk for us, its first six positions checked; None if anything is wrong. 3 us instead of 12."""
    if len(positions) != _CHUNK_POSITIONS:
        return None
    _, _, hops, origin, target, number, offset, length, verify, digest = positions
    if not (type(offset) is int and type(length) is int and 0 <= offset <= ITEM_BYTES_MAX and 0 <= length <= ITEM_BYTES_MAX
            and type(verify) is int and 0 <= verify < len(_VERIFIES)
            and type(digest) is bytes and len(digest) in _DIGEST_LENGTHS):
        return None
    return Chunk(origin, target, number, offset, length, _VERIFIES[verify], digest, body, hops)


def _often_ask(positions: tuple[Any, ...]) -> Ask | None:
    """A question for a chunk of ours, its first six positions checked; None if anything is wrong."""
    if len(positions) != _ASK_POSITIONS:
        return None
    _, _, hops, origin, target, number, offer_id, secret, offset, length, verify = positions
    if not (type(offer_id) is bytes and len(offer_id) == OFFER_ID_BYTES and type(secret) is bytes and len(secret) == SECRET_BYTES
            and type(offset) is int and type(length) is int and 0 <= offset <= ITEM_BYTES_MAX and 0 <= length <= ITEM_BYTES_MAX
            and type(verify) is int and 0 <= verify < len(_VERIFIES)):
        return None
    return Ask(origin, target, number, offer_id, secret, offset, length, _VERIFIES[verify], hops)
