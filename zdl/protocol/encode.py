"""Messages to frames."""

from __future__ import annotations

from collections.abc import Mapping

import msgpack

from zdl.errors import LocalProtocolError, TooLarge
from zdl.protocol.frames import EMBEDDED_BYTES_MAX, FRAMES_MAX, HEADER_BYTES_MAX, HOPS_AT, HOPS_BYTE_MAX, WIRE_VERSION
from zdl.protocol.messages import (
    Ask,
    Below,
    Body,
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
    LinkMessage,
    Lost,
    Message,
    Notice,
    Part,
    Priority,
    Progress,
    Reject,
    Reply,
    Request,
    Routed,
    Transit,
    Waiting,
    Welcome,
    Withdrawn,
)
from zdl.protocol.pushing import End, Ended, Halt, Items, Open, Taken
from zdl.protocol.trace import traced

_REQUEST, _REPLY, _CHUNK, _ASK = int(Kind.REQUEST), int(Kind.REPLY), int(Kind.CHUNK), int(Kind.ASK)
# Of the kinds that are not many.
_WITH_BODY = (Notice, Open, Items, Taken, Ended)
_BYTES = tuple(bytes((number,)) for number in range(HOPS_BYTE_MAX + 1))


def encode(message: Message | Transit) -> list[Part]:
    """The frames of a message, the header first; the body's buffers are passed through uncopied.

    Raises:
        TooLarge: the header or the number of frames is over its limit; the message names which.
    """
    body: Body = ()
    route = None
    if type(message) is Request:  # the kinds that nearly all messages are come before all others
        positions: list[object] = [WIRE_VERSION, _REQUEST, message.hops, message.origin, message.target, message.id,
                                   message.channel, message.topic, message.timeout_s,
                                   dict(message.headers) if message.headers else None]
        body, route = message.body, message.route
    elif type(message) is Reply:
        positions = [WIRE_VERSION, _REPLY, message.hops, message.origin, message.target, message.id,
                     message.code, dict(message.facts) if message.facts else None,
                     dict(message.headers) if message.headers else None]
        body, route = message.body, message.route
    elif isinstance(message, Transit):
        return [_hopped(message), *message.body]
    elif isinstance(message, Chunk):
        positions = [WIRE_VERSION, _CHUNK, message.hops, message.origin, message.target, message.id,
                     message.offset, message.length, message.verify, message.digest]
        body = message.body
    elif isinstance(message, Ask):
        positions = [WIRE_VERSION, _ASK, message.hops, message.origin, message.target, message.id,
                     message.offer_id, message.secret, message.offset, message.length, message.verify]
        if message.priority != Priority.NORMAL:  # a position added later
            positions.append(int(message.priority))
    else:
        positions = _positions(message)
        if isinstance(message, _WITH_BODY):
            body = message.body
    if route is not None:
        positions = traced(positions, route)
    elif len(body) == 1 and type(body[0]) is bytes and len(body[0]) <= EMBEDDED_BYTES_MAX and type(message) is not Chunk:
        positions.append(body[0])
        body = ()
    header = msgpack.packb(positions)
    if len(header) > HEADER_BYTES_MAX:
        raise TooLarge(what="the header of the message", size=len(header), limit="HEADER_BYTES_MAX",
                       value=HEADER_BYTES_MAX)
    if len(body) >= FRAMES_MAX:
        raise TooLarge(what="the number of frames of the message", size=len(body) + 1, limit="FRAMES_MAX",
                       value=FRAMES_MAX)
    return [header, *body]


def _hopped(message: Transit) -> bytes:
    """The header of a message that is passed on: the same bytes with the hop count written in."""
    if not 0 <= message.hops <= HOPS_BYTE_MAX:
        raise LocalProtocolError(what=f"hop count {message.hops} does not fit its byte")
    header = message.header
    return header[:HOPS_AT] + _BYTES[message.hops] + header[HOPS_AT + 1:]


def _routed(message: Routed) -> list[object]:
    return [WIRE_VERSION, int(message.kind), message.hops, message.origin, message.target, message.id]


def _on_link(message: LinkMessage) -> list[object]:
    return [WIRE_VERSION, int(message.kind), 0, message.origin, "", 0]


def _map(values: Mapping[str, object]) -> dict[str, object] | None:
    return dict(values) if values else None


def _positions(message: Message) -> list[object]:
    """Of all kinds but requests, replies, chunks and questions for them."""
    match message:
        case Notice():
            return [*_routed(message), message.channel, message.topic, _map(message.headers)]
        case Cancel() | Confirmed() | Waiting():
            return _routed(message)
        case Bounce():
            return [*_routed(message), message.of_kind, message.code, _map(message.facts)]
        case Progress():
            return [*_routed(message), _map(message.facts)]
        case Lost():
            return [*_routed(message), message.name, message.beyond, message.why]
        case Introduce():
            return [*_routed(message), message.host, message.token, message.addresses]
        case Introduced():
            return [*_routed(message), message.token, message.addresses, message.why]
        case Denial():
            return [*_routed(message), message.code, _map(message.facts)]
        case Confirm():
            return [*_routed(message), message.offer_id, message.secret, message.ranges]
        case Keep():
            return [*_routed(message), message.offer_id, message.secret]
        case Drop():
            return [*_routed(message), message.offer_id, message.secret, message.why]
        case Items():
            return [*_routed(message), message.first, message.heard]
        case Taken():
            return [*_routed(message), message.received, message.consumed, message.credit, message.first, message.again]
        case Open():
            return [*_routed(message), message.channel, message.topic, message.form, message.bytes_total, _map(message.headers)]
        case End():
            return [*_routed(message), message.count]
        case Ended():
            return [*_routed(message), message.consumed, message.code, _map(message.facts)]
        case Halt():
            return [*_routed(message), message.code, _map(message.facts)]
        case Withdrawn():
            return [*_routed(message), message.offer_id, message.how]
        case Request() | Reply() | Chunk() | Ask():
            raise AssertionError("`encode` takes these apart itself")
        case _:
            return _link_positions(message)


def _link_positions(message: LinkMessage) -> list[object]:
    match message:
        case Hello():
            head = [message.version, *_on_link(message)[1:]]
            told = [message.place, message.token] if message.place or message.token else []  # positions added later
            return [*head, message.incarnation, int(message.role), message.heartbeat_s, message.data_addresses, *told]
        case Welcome():
            return [*_on_link(message), message.incarnation, message.heartbeat_s, message.data_addresses]
        case Reject():
            return [*_on_link(message), message.reason, message.text]
        case Goodbye():
            return [*_on_link(message), message.why]
        case Leave():
            return [*_on_link(message), message.is_done]
        case Below():
            return [*_on_link(message), message.serial, message.down, message.up]
        case Heartbeat():
            return [*_on_link(message), *([True] if message.asks else [])]
