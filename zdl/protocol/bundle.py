"""Bundle: small messages as one: frame 0 says how many, and each further frame is the header of a message that is nothing else.

To hand a message over to libzmq's thread costs a wake-up and two system calls on each side, 10–14 us (measured with 64 requests in
flight); a frame of a message costs 1 us. So what is sent over one link at once goes as one message, and it is taken apart before
anything else is done with it. Bundles are of one link: who passes a message on may put it into another bundle.
"""

from __future__ import annotations

from collections.abc import Sequence

from zdl.errors import DecodeError
from zdl.protocol.frames import BUNDLE_BYTES_MAX, BUNDLE_KIND, BUNDLE_MAX, COMMON_POSITIONS, KIND_AT, WIRE_VERSION
from zdl.protocol.kinds import Part

# The six positions that all headers begin with: no hops, no names; the id is the count.
_HEAD = bytes((0x90 + COMMON_POSITIONS, WIRE_VERSION, BUNDLE_KIND, 0, 0xa0, 0xa0))


def bundled(headers: Sequence[Part]) -> list[Part]:
    """The frames of one message for several that have no frame but their header: 2 to `BUNDLE_MAX` of them."""
    return [_HEAD + bytes((len(headers),)), *headers]


def is_bundle(header: bytes) -> bool:
    """Whether further frames are messages of their own."""
    return len(header) > KIND_AT and header[KIND_AT] == BUNDLE_KIND


def unbundled(header: bytes, frames: Sequence[Part]) -> list[bytes]:
    """The headers of the messages.

    Raises:
        DecodeError: it is no bundle of this protocol, or holds another one.
    """
    if header[:-1] != _HEAD or header[-1] != len(frames) or not 1 < len(frames) <= BUNDLE_MAX:
        raise DecodeError(what=f"a bundle of {len(frames)} messages does not say so, or is not within 2…{BUNDLE_MAX}")
    headers = [frame if type(frame) is bytes else bytes(frame) for frame in frames]
    if any(len(each) > BUNDLE_BYTES_MAX or is_bundle(each) for each in headers):
        raise DecodeError(what=f"a message in a bundle is over BUNDLE_BYTES_MAX={BUNDLE_BYTES_MAX}, or a bundle itself")
    return headers
