"""Frames to messages: everything that a peer wrote is checked here, and nowhere later.

A message for somebody else is not decoded: its six common positions are read, and it becomes a
`Transit` with the frames it came in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import msgpack

from zdl.errors import DecodeError, FqcnError
from zdl.fqcn import FQCN_BYTES_MAX, parse
from zdl.protocol.frames import (
    BELOW_NAMES_MAX,
    BELOW_WHY_CHARS_MAX,
    CHANNEL_BYTES_MAX,
    COMMON_POSITIONS,
    DATA_ADDRESSES_MAX,
    DIGEST_BYTES,
    FRAMES_MAX,
    HEADER_BYTES_MAX,
    HEADERS_MAX,
    HOPS_BYTE_MAX,
    ID_MAX,
    INCARNATION_BYTES,
    PLACE_CHARS_MAX,
    POSITIONS_MAX,
    QUICK_DIGEST_BYTES,
    RANGES_MAX,
    REASON_CHARS_MAX,
    ROUTE_NAMES_MAX,
    TOKEN_BYTES,
    TRACED,
    WIRE_VERSION,
)
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
from zdl.protocol.often import SECONDS_MAX, often
from zdl.protocol.pushing import End, Ended, Halt, Items, Open, Taken
from zdl.refs import ITEM_BYTES_MAX, OFFER_ID_BYTES, SECRET_BYTES

_ROUTED_FROM = int(Kind.REQUEST)
_VERIFY_MAX = int(max(Verify))
_NO_FACTS: Mapping[str, object] = MappingProxyType({})


def decode(header: bytes, body: Body, *, me: str) -> Message | Transit:
    """The message in these frames.

    Args:
        header: frame 0.
        body: the frames behind it; kept as they are.
        me: the cell that reads; a routed message for another one is not decoded further.

    Raises:
        DecodeError: it is no message of this protocol; `what` names the part.
    """
    if len(body) >= FRAMES_MAX:
        raise DecodeError(what=f"{len(body) + 1} frames are over FRAMES_MAX={FRAMES_MAX}")
    positions = _unpack(header)
    message = often(positions, header, body, me)
    if message is not None:
        return message
    version, kind, hops, origin, target, number = positions[:COMMON_POSITIONS]
    if type(kind) is not int or not 0 < kind < 128:
        raise DecodeError(what=f"kind {kind!r:.40} is not within 1…127")
    if type(version) is not int or (version != WIRE_VERSION and kind not in (Kind.HELLO, Kind.REJECT)):
        raise DecodeError(what=f"version {version!r:.40} is not {WIRE_VERSION}")
    if type(hops) is not int or not 0 <= hops <= HOPS_BYTE_MAX:
        raise DecodeError(what=f"hops {hops!r:.40} is not within 0…{HOPS_BYTE_MAX}")
    if header[2:4] != bytes((kind, hops)):  # a relay writes the hop count there
        raise DecodeError(what="version, kind and hops are not one byte each")
    if type(number) is not int or not 0 <= number <= ID_MAX:
        raise DecodeError(what=f"id {number!r:.40} is not within 0…{ID_MAX}")
    sender = _fqcn(origin, "origin")
    reader = _Reader(positions)
    if kind < _ROUTED_FROM:
        return _link_message(kind, version, sender, reader)
    if target != me:
        return Transit(kind, hops, sender, _fqcn(target, "target"), number, header, body)
    return _routed_message(kind, (sender, me, number, hops), reader, body)


def _unpack(header: bytes) -> tuple[object, ...]:
    if len(header) > HEADER_BYTES_MAX:
        raise DecodeError(what=f"header of {len(header)} bytes is over HEADER_BYTES_MAX={HEADER_BYTES_MAX}")
    if len(header) < COMMON_POSITIONS + 1 or not 0x90 + COMMON_POSITIONS <= header[0] <= 0x90 + POSITIONS_MAX:
        raise DecodeError(what=f"header is not an array of {COMMON_POSITIONS}…{POSITIONS_MAX} positions")
    try:
        positions = msgpack.unpackb(header, use_list=False, strict_map_key=True, max_ext_len=0)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise DecodeError(what=f"header is not msgpack: {type(error).__name__}") from error
    assert isinstance(positions, tuple)
    return positions


def _fqcn(value: object, what: str) -> str:
    """A name from a header. Its grammar is checked where it becomes a peer or a target; here its size."""
    if type(value) is not str or not value or len(value) > FQCN_BYTES_MAX:
        raise DecodeError(what=f"{what} is not a name of 1…{FQCN_BYTES_MAX} bytes")
    return value


def _strictly(value: object, what: str) -> None:
    """Raises for anything but the name of a cell in its normal form."""
    try:
        is_normal = parse(value) == value
    except FqcnError as error:
        raise DecodeError(what=f"{what}: {error}") from error
    if not is_normal:
        raise DecodeError(what=f"{what} has a name with blanks")


class _Reader:
    """Takes the positions after the common six one by one, each checked."""

    __slots__ = ("_positions", "_at")

    def __init__(self, positions: tuple[object, ...]) -> None:
        self._positions = positions
        self._at = COMMON_POSITIONS

    def _next(self, what: str) -> object:
        if self._at >= len(self._positions):
            raise DecodeError(what=f"{what} is missing")
        value = self._positions[self._at]
        self._at += 1
        return value

    @property
    def last(self) -> object:
        """The last position, whichever comes next."""
        return self._positions[-1]

    @property
    def has_more(self) -> bool:
        """Whether there are positions left: some were added to a kind later."""
        return self._at < len(self._positions)

    def text(self, what: str, most: int = REASON_CHARS_MAX) -> str:
        """The next position, a text."""
        value = self._next(what)
        if type(value) is not str or len(value) > most:
            raise DecodeError(what=f"{what} is not a text of at most {most} characters")
        return value

    def octets(self, what: str, *lengths: int) -> bytes:
        """The next position, so many bytes."""
        value = self._next(what)
        if type(value) is not bytes or len(value) not in lengths:
            raise DecodeError(what=f"{what} is not {' or '.join(map(str, lengths))} bytes")
        return value

    def count(self, what: str, most: int = ITEM_BYTES_MAX) -> int:
        """The next position, a whole number from 0 on."""
        value = self._next(what)
        if type(value) is not int or not 0 <= value <= most:
            raise DecodeError(what=f"{what} is not within 0…{most}")
        return value

    def flag(self, what: str) -> bool:
        """The next position, true or false."""
        value = self._next(what)
        if type(value) is not bool:
            raise DecodeError(what=f"{what} is not true or false")
        return value

    def seconds(self, what: str) -> float:
        """The next position, a time in seconds."""
        value = self._next(what)
        if type(value) not in (int, float) or not 0 <= value <= SECONDS_MAX:  # type: ignore[operator]
            raise DecodeError(what=f"{what} is not a number of seconds")
        return float(value)  # type: ignore[arg-type]

    def maybe_seconds(self, what: str) -> float | None:
        """The next position, a time in seconds, or None for ever."""
        if self._at < len(self._positions) and self._positions[self._at] is None:
            self._at += 1
            return None
        return self.seconds(what)

    def mapping(self, what: str) -> Mapping[str, object]:
        """The next position, plain values by name; nil is none."""
        value = self._next(what)
        if value is None:
            return _NO_FACTS
        if type(value) is not dict or len(value) > HEADERS_MAX or not all(type(key) is str for key in value):
            raise DecodeError(what=f"{what} is not a map of at most {HEADERS_MAX} names")
        return MappingProxyType(value)

    def addresses(self, what: str) -> tuple[str, ...]:
        """The next position, addresses."""
        value = self._next(what)
        if type(value) is not tuple or len(value) > DATA_ADDRESSES_MAX or not all(
                type(each) is str and len(each) <= CHANNEL_BYTES_MAX for each in value):
            raise DecodeError(what=f"{what} is not a list of at most {DATA_ADDRESSES_MAX} addresses")
        return value

    def names(self, what: str) -> tuple[str, ...]:
        """The next position, names of cells in their normal form."""
        value = self._next(what)
        if type(value) is not tuple or len(value) > BELOW_NAMES_MAX:
            raise DecodeError(what=f"{what} is not a list of at most {BELOW_NAMES_MAX} names")
        for each in value:
            _strictly(each, what)
        return value

    def ends(self, what: str) -> tuple[tuple[str, str], ...]:
        """The next position, names of cells, each with a reason."""
        value = self._next(what)
        if type(value) is not tuple or len(value) > BELOW_NAMES_MAX:
            raise DecodeError(what=f"{what} is not a list of at most {BELOW_NAMES_MAX} names")
        for each in value:
            if type(each) is not tuple or len(each) != 2 or type(each[1]) is not str or len(each[1]) > BELOW_WHY_CHARS_MAX:
                raise DecodeError(what=f"{what} has an end that is not (name, reason)")
            _strictly(each[0], what)
        return value

    def embedded(self, body: Body) -> Body:
        """The body: of the frames, or one part in the next position, if there are none."""
        if body or self._at >= len(self._positions) or type(self._positions[self._at]) is not bytes:
            return body
        self._at += 1
        part = self._positions[self._at - 1]
        assert isinstance(part, bytes)
        return (part,)

    def ranges(self, what: str) -> tuple[tuple[int, int], ...]:
        """The next position, byte ranges."""
        value = self._next(what)
        if type(value) is not tuple or len(value) > RANGES_MAX:
            raise DecodeError(what=f"{what} is not a list of at most {RANGES_MAX} ranges")
        for each in value:
            if type(each) is not tuple or len(each) != 2 or not all(
                    type(side) is int and 0 <= side <= ITEM_BYTES_MAX for side in each):
                raise DecodeError(what=f"{what} has a range that is not (offset, length)")
        return value


def _link_message(kind: int, version: object, origin: str, reader: _Reader) -> Message:
    try:
        is_normal = parse(origin) == origin  # a name with blanks around it would be another one that looks the same
    except FqcnError as error:
        raise DecodeError(what=str(error)) from error
    if not is_normal:
        raise DecodeError(what=f"{origin!r} is not a name in its normal form")
    if kind == Kind.HELLO:
        if type(version) is not int or not 0 <= version < 128:
            raise DecodeError(what=f"version {version!r:.40} is not within 0…127")
        if version != WIRE_VERSION:  # the common positions are all that two versions share
            return Hello(origin, b"", Role.CHILD, 1.0, (), version)
        return Hello(origin, reader.octets("incarnation", INCARNATION_BYTES), Role(reader.count("role", 1)),
                     reader.seconds("heartbeat_s"), reader.addresses("data addresses"), version,
                     reader.text("place", PLACE_CHARS_MAX) if reader.has_more else "",
                     reader.octets("token", 0, TOKEN_BYTES) if reader.has_more else b"")
    if kind == Kind.WELCOME:
        return Welcome(origin, reader.octets("incarnation", INCARNATION_BYTES), reader.seconds("heartbeat_s"),
                       reader.addresses("data addresses"))
    if kind == Kind.REJECT:
        return Reject(origin, reader.text("reason", CHANNEL_BYTES_MAX), reader.text("text"))
    if kind == Kind.HEARTBEAT:
        return Heartbeat(origin, reader.flag("asks") if reader.has_more else False)
    if kind == Kind.GOODBYE:
        return Goodbye(origin, reader.text("why"))
    if kind == Kind.LEAVE:
        return Leave(origin, reader.flag("is_done"))
    if kind == Kind.BELOW:
        return Below(origin, reader.count("serial", ID_MAX), reader.ends("down"), reader.names("up"))
    raise DecodeError(what=f"kind {kind} is not known on a link")


_Common = tuple[str, str, int, int]


def _request(common: _Common, reader: _Reader, body: Body) -> Message:
    origin, target, number, hops = common
    return Request(origin, target, number, reader.text("channel", CHANNEL_BYTES_MAX),
                   reader.text("topic", CHANNEL_BYTES_MAX), reader.maybe_seconds("timeout_s"),
                   reader.mapping("headers"), reader.embedded(body), hops)


def _reply(common: _Common, reader: _Reader, body: Body) -> Message:
    origin, target, number, hops = common
    return Reply(origin, target, number, reader.text("code", CHANNEL_BYTES_MAX), reader.mapping("facts"),
                 reader.mapping("headers"), reader.embedded(body), hops)


def _notice(common: _Common, reader: _Reader, body: Body) -> Message:
    origin, target, number, hops = common
    return Notice(origin, target, number, reader.text("channel", CHANNEL_BYTES_MAX),
                  reader.text("topic", CHANNEL_BYTES_MAX), reader.mapping("headers"), reader.embedded(body), hops)


def _progress(common: _Common, reader: _Reader, body: Body) -> Message:
    origin, target, number, hops = common
    return Progress(origin, target, number, reader.mapping("facts"), hops)


def _cancel(common: _Common, reader: _Reader, body: Body) -> Message:
    return Cancel(*common)


def _bounce(common: _Common, reader: _Reader, body: Body) -> Message:
    origin, target, number, hops = common
    return Bounce(origin, target, number, reader.count("kind", 127), reader.text("code", CHANNEL_BYTES_MAX),
                  reader.mapping("facts"), hops)


def _lost(common: _Common, reader: _Reader, body: Body) -> Message:
    origin, target, number, hops = common
    return Lost(origin, target, number, _fqcn(reader.text("name", FQCN_BYTES_MAX), "name"), reader.flag("beyond"),
                reader.text("why"), hops)


def _introduce(common: _Common, reader: _Reader, body: Body) -> Message:
    origin, target, number, hops = common
    return Introduce(origin, target, number, reader.text("host", CHANNEL_BYTES_MAX),
                     reader.octets("token", 0, TOKEN_BYTES), reader.addresses("addresses"), hops)


def _introduced(common: _Common, reader: _Reader, body: Body) -> Message:
    origin, target, number, hops = common
    return Introduced(origin, target, number, reader.octets("token", 0, TOKEN_BYTES), reader.addresses("addresses"),
                      reader.text("why"), hops)


def _waiting(common: _Common, reader: _Reader, body: Body) -> Message:
    return Waiting(*common)


def _ask(common: _Common, reader: _Reader, body: Body) -> Message:
    origin, target, number, hops = common
    return Ask(origin, target, number, reader.octets("offer id", OFFER_ID_BYTES), reader.octets("secret", SECRET_BYTES),
               reader.count("offset"), reader.count("length"), Verify(reader.count("verify", _VERIFY_MAX)), hops,
               Priority(reader.count("priority", len(Priority) - 1)) if reader.has_more else Priority.NORMAL)


def _chunk(common: _Common, reader: _Reader, body: Body) -> Message:
    origin, target, number, hops = common
    return Chunk(origin, target, number, reader.count("offset"), reader.count("length"),
                 Verify(reader.count("verify", _VERIFY_MAX)), reader.octets("digest", 0, QUICK_DIGEST_BYTES, DIGEST_BYTES), body,
                 hops)


def _denial(common: _Common, reader: _Reader, body: Body) -> Message:
    origin, target, number, hops = common
    return Denial(origin, target, number, reader.text("code", CHANNEL_BYTES_MAX), reader.mapping("facts"), hops)


def _confirm(common: _Common, reader: _Reader, body: Body) -> Message:
    origin, target, number, hops = common
    return Confirm(origin, target, number, reader.octets("offer id", OFFER_ID_BYTES),
                   reader.octets("secret", SECRET_BYTES), reader.ranges("ranges"), hops)


def _confirmed(common: _Common, reader: _Reader, body: Body) -> Message:
    return Confirmed(*common)


def _keep(common: _Common, reader: _Reader, body: Body) -> Message:
    origin, target, number, hops = common
    return Keep(origin, target, number, reader.octets("offer id", OFFER_ID_BYTES),
                reader.octets("secret", SECRET_BYTES), hops)


def _drop(common: _Common, reader: _Reader, body: Body) -> Message:
    origin, target, number, hops = common
    return Drop(origin, target, number, reader.octets("offer id", OFFER_ID_BYTES),
                reader.octets("secret", SECRET_BYTES), reader.text("why"), hops)


def _withdrawn(common: _Common, reader: _Reader, body: Body) -> Message:
    origin, target, number, hops = common
    return Withdrawn(origin, target, number, reader.octets("offer id", OFFER_ID_BYTES),
                     reader.text("how", CHANNEL_BYTES_MAX), hops)


def _open(common: _Common, reader: _Reader, body: Body) -> Message:
    origin, target, number, hops = common
    return Open(origin, target, number, reader.text("channel", CHANNEL_BYTES_MAX), reader.text("topic", CHANNEL_BYTES_MAX),
                reader.text("form", CHANNEL_BYTES_MAX), reader.count("bytes in all"), reader.mapping("headers"),
                reader.embedded(body), hops)


def _items(common: _Common, reader: _Reader, body: Body) -> Message:
    origin, target, number, hops = common
    return Items(origin, target, number, reader.count("first"), reader.count("heard"), reader.embedded(body), hops)


def _taken(common: _Common, reader: _Reader, body: Body) -> Message:
    origin, target, number, hops = common
    return Taken(origin, target, number, reader.count("received"), reader.count("consumed"), reader.count("credit"),
                 reader.count("first"), reader.flag("again"), reader.embedded(body), hops)


def _end(common: _Common, reader: _Reader, body: Body) -> Message:
    origin, target, number, hops = common
    return End(origin, target, number, reader.count("count"), hops)


def _ended(common: _Common, reader: _Reader, body: Body) -> Message:
    origin, target, number, hops = common
    return Ended(origin, target, number, reader.count("consumed"), reader.text("code", CHANNEL_BYTES_MAX),
                 reader.mapping("facts"), reader.embedded(body), hops)


def _halt(common: _Common, reader: _Reader, body: Body) -> Message:
    origin, target, number, hops = common
    return Halt(origin, target, number, reader.text("code", CHANNEL_BYTES_MAX), reader.mapping("facts"), hops)


_READERS: Mapping[int, Callable[[_Common, _Reader, Body], Message]] = MappingProxyType({
    Kind.REQUEST: _request, Kind.REPLY: _reply, Kind.NOTICE: _notice, Kind.CANCEL: _cancel, Kind.BOUNCE: _bounce,
    Kind.LOST: _lost, Kind.INTRODUCE: _introduce, Kind.INTRODUCED: _introduced, Kind.WAITING: _waiting,
    Kind.PROGRESS: _progress, Kind.ASK: _ask, Kind.CHUNK: _chunk, Kind.DENIAL: _denial, Kind.CONFIRM: _confirm,
    Kind.CONFIRMED: _confirmed, Kind.KEEP: _keep, Kind.DROP: _drop, Kind.WITHDRAWN: _withdrawn,
    Kind.OPEN: _open, Kind.ITEMS: _items, Kind.TAKEN: _taken, Kind.END: _end, Kind.ENDED: _ended, Kind.HALT: _halt,
})


_TRACED = MappingProxyType({kind | TRACED: _READERS[kind] for kind in (Kind.REQUEST, Kind.REPLY)})


def _routed_message(kind: int, common: _Common, reader: _Reader, body: Body) -> Message:
    read = _READERS.get(kind)
    if read is None:
        return _traced_message(kind, common, reader, body)
    return read(common, reader, body)


def _traced_message(kind: int, common: _Common, reader: _Reader, body: Body) -> Message:
    """A message that says which way it came; see `zdl.protocol.trace`."""
    read = _TRACED.get(kind)
    if read is None:
        raise DecodeError(what=f"kind {kind} is not known")
    message = read(common, reader, body)
    assert isinstance(message, (Request, Reply))
    value = reader.last
    if not reader.has_more or type(value) is not tuple or len(value) > ROUTE_NAMES_MAX:
        raise DecodeError(what=f"the route is not a list of at most {ROUTE_NAMES_MAX} names")
    return replace(message, route=tuple(_fqcn(each, "a cell of the route") for each in value))
