"""The version of the wire, and its limits; which frame holds what stands in `zdl.protocol`."""

from __future__ import annotations

WIRE_VERSION = 1

# Everything that routing needs fits in far less; a larger header is an error of its sender, and a
# small bound keeps a hostile one cheap to refuse (msgpack takes up to 72 times the bytes it is given).
HEADER_BYTES_MAX = 64 * 1024
FRAMES_MAX = 4096
CHANNEL_BYTES_MAX = 255
HEADERS_MAX = 64
REASON_CHARS_MAX = 2000
DATA_ADDRESSES_MAX = 16
# Two numbers of 9 bytes each, the most of them, still fit into one header.
RANGES_MAX = 3072
# Names in one BELOW: of those that came up, and of those that went down. With so many bytes they fit into a header.
BELOW_NAMES_MAX = 1024
BELOW_BYTES_MAX = 48 * 1024
BELOW_WHY_CHARS_MAX = 255
DIGEST_BYTES = 32
QUICK_DIGEST_BYTES = 16
INCARNATION_BYTES = 16
TOKEN_BYTES = 16
PLACE_CHARS_MAX = 255
ID_MAX = (1 << 64) - 1

# A header is a msgpack array of at most 15 positions, so its first byte is 0x90 + count; version and
# kind are one byte each, and the hop count is byte 3.
POSITIONS_MAX = 15
COMMON_POSITIONS = 6
KIND_AT = 2
HOPS_AT = 3
HOPS_BYTE_MAX = 127
# Set in the byte of the kind: relays append their names to the list in the last position of the header.
TRACED = 0x40
# There and back, with the target, for any `hops_max` that is of use.
ROUTE_NAMES_MAX = 128
# A body of one part and at most so many bytes travels in the last position of the header: a frame of its own costs
# 2 us at each end and as much in libzmq's threads, a copy of so few bytes nothing.
EMBEDDED_BYTES_MAX = 512
# Messages that go together over one link as one (`zdl.protocol.bundle`), and the bytes of each, which has no frame but its header.
BUNDLE_KIND = 9
BUNDLE_MAX = 64
BUNDLE_BYTES_MAX = 1024
