"""Frames: the limits of the wire agree with each other."""

from __future__ import annotations

from zdl.options import CHUNK_BYTES_MAX, FRAME_BYTES_MAX
from zdl.protocol import frames
from zdl.protocol.encode import encode
from zdl.protocol.messages import Confirm, Kind
from zdl.refs import ITEM_BYTES_MAX


def test_a_header_is_a_short_msgpack_array_with_version_kind_and_hops_in_one_byte_each() -> None:
    header = encode(Confirm("a", "b", 1, b"o" * 16, b"s" * 16, ()))[0]
    assert header[0] == 0x90 + frames.COMMON_POSITIONS + 3
    assert header[1] == frames.WIRE_VERSION
    assert header[2] == Kind.CONFIRM
    assert header[frames.HOPS_AT] == 0
    assert frames.POSITIONS_MAX == 15
    assert frames.WIRE_VERSION < 128 and max(Kind) < 128 and frames.HOPS_BYTE_MAX == 127


def test_a_confirm_of_the_most_ranges_fits_into_a_header() -> None:
    name = "n" * 255
    widest = tuple((ITEM_BYTES_MAX - at, ITEM_BYTES_MAX) for at in range(frames.RANGES_MAX))
    header = encode(Confirm(name, name, frames.ID_MAX, b"o" * 16, b"s" * 16, widest))[0]
    assert len(header) <= frames.HEADER_BYTES_MAX


def test_a_chunk_fits_into_a_frame() -> None:
    assert CHUNK_BYTES_MAX < FRAME_BYTES_MAX
