"""Bundle: small messages as one: the position behind the common six holds the headers of messages that are nothing else.

To hand a message over to libzmq's thread costs a wake-up and two system calls on each side, 10–14 us (measured with 64 requests in
flight), and each further frame 0.7 us, where one more header in a frame costs 0.1. So what is sent over one link at once goes as
one message of one frame, and it is taken apart before anything else is done with it. Bundles are of one link: who passes a message
on may put it into another bundle.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgpack

from zdl.errors import DecodeError
from zdl.protocol.frames import BUNDLE_BYTES_MAX, BUNDLE_KIND, BUNDLE_MAX, COMMON_POSITIONS, KIND_AT, WIRE_VERSION
from zdl.protocol.kinds import Part

# The six positions that all headers begin with: no hops, no names; the id, which comes next, is the count.
_HEAD = bytes((0x90 + COMMON_POSITIONS + 1, WIRE_VERSION, BUNDLE_KIND, 0, 0xa0, 0xa0))
_COUNT_AT = len(_HEAD)
_HEADERS_AT = _COUNT_AT + 1
_BYTES = frozenset({bytes})


def bundled(headers: Sequence[Part]) -> list[Part]:
    """The one frame of one message for several that have no frame but their header: 2 to `BUNDLE_MAX` of them."""
    return [_HEAD + bytes((len(headers),)) + msgpack.packb(headers)]


def is_bundle(header: bytes) -> bool:
    """Whether it holds messages of their own."""
    return len(header) > KIND_AT and header[KIND_AT] == BUNDLE_KIND


def unbundled(header: bytes, frames: Sequence[Part]) -> list[bytes]:
    """The headers of the messages, of whatever kind; a bundle among them is no message.

    Raises:
        DecodeError: it is no bundle of this protocol.
    """
    if frames or header[:_COUNT_AT] != _HEAD:
        raise DecodeError(what="a bundle does not begin like one, or has more than one frame")
    try:
        headers = msgpack.unpackb(memoryview(header)[_HEADERS_AT:], max_array_len=BUNDLE_MAX, max_bin_len=BUNDLE_BYTES_MAX,
                                  max_str_len=0, max_map_len=0, max_ext_len=0)
    except (ValueError, RecursionError, msgpack.UnpackException) as error:
        raise DecodeError(what=f"a bundle is not within BUNDLE_MAX={BUNDLE_MAX} messages of BUNDLE_BYTES_MAX={BUNDLE_BYTES_MAX}, "
                               f"or none at all: {str(error)[:80] or type(error).__name__}") from error
    if type(headers) is not list or len(headers) < 2 or header[_COUNT_AT] != len(headers) or {*map(type, headers)} != _BYTES:
        raise DecodeError(what=f"a bundle of fewer than 2 messages, or of another number than it says: {header[_COUNT_AT]}")
    return headers
