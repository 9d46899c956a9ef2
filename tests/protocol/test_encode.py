"""Encode: one header and the body's own buffers, within the limits."""

from __future__ import annotations

import msgpack
import pytest

from zdl.errors import LocalProtocolError, TooLarge
from zdl.protocol.encode import encode
from zdl.protocol.frames import FRAMES_MAX, HEADER_BYTES_MAX
from zdl.protocol.messages import Chunk, Heartbeat, Hello, Notice, Reply, Request, Role, Transit, Verify


def request(body: tuple[bytes | memoryview, ...] = (), *, headers: dict[str, object] | None = None) -> Request:
    return Request("site-1", "server", 7, "c", "t", 2.5, headers or {}, body)


def test_the_header_comes_first_and_begins_with_the_common_positions() -> None:
    frames = encode(request())
    assert len(frames) == 1
    assert msgpack.unpackb(frames[0]) == [1, 16, 0, "site-1", "server", 7, "c", "t", 2.5, None]


def test_the_buffers_of_the_body_are_passed_through_uncopied() -> None:
    body = (b"first", memoryview(b"second"), memoryview(bytearray(4)))
    frames = encode(request(body))
    assert [id(each) for each in frames[1:]] == [id(each) for each in body]


def test_an_empty_map_travels_as_nil_and_a_full_one_as_it_is() -> None:
    assert msgpack.unpackb(encode(request())[0])[-1] is None
    assert msgpack.unpackb(encode(request(headers={"user": "x"}))[0])[-1] == {"user": "x"}
    assert msgpack.unpackb(encode(Reply("a", "b", 1, "busy", {"value": 3}, {}))[0])[-3:] == ["busy", {"value": 3}, None]


def test_a_link_message_has_no_target_no_id_and_no_hops() -> None:
    assert msgpack.unpackb(encode(Heartbeat("site-1"))[0]) == [1, 4, 0, "site-1", "", 0]


def test_a_hello_carries_the_version_that_it_speaks() -> None:
    hello = Hello("site-1", b"i" * 16, Role.DIRECT, 2.0, ("tcp://h:1",), 9)
    assert msgpack.unpackb(encode(hello)[0]) == [9, 1, 0, "site-1", "", 0, b"i" * 16, 1, 2.0, ["tcp://h:1"]]


def test_a_chunk_says_its_range_and_its_digest_before_its_bytes() -> None:
    chunk = Chunk("a", "b", 5, 1024, 3, Verify.BLAKE3, b"d" * 32, (b"xyz",), 4)
    header, body = encode(chunk)
    assert msgpack.unpackb(header) == [1, 33, 4, "a", "b", 5, 1024, 3, 1, b"d" * 32]
    assert body == b"xyz"


def test_a_header_over_the_limit_is_refused_with_its_name_and_size() -> None:
    with pytest.raises(TooLarge) as caught:
        encode(request(headers={"big": "x" * HEADER_BYTES_MAX}))
    assert (caught.value.limit, caught.value.value) == ("HEADER_BYTES_MAX", HEADER_BYTES_MAX)
    assert caught.value.size > HEADER_BYTES_MAX


def test_as_many_frames_as_allowed_are_encoded_and_one_more_is_refused() -> None:
    most = (b"",) * (FRAMES_MAX - 1)
    assert len(encode(Notice("a", "b", 1, "c", "t", {}, most))) == FRAMES_MAX
    with pytest.raises(TooLarge) as caught:
        encode(Notice("a", "b", 1, "c", "t", {}, (*most, b"")))
    assert (caught.value.size, caught.value.limit) == (FRAMES_MAX + 1, "FRAMES_MAX")


def test_what_is_passed_on_keeps_its_bytes_but_for_the_hop_count() -> None:
    header, part = encode(request((b"opaque" * 100,)))
    assert isinstance(header, bytes)
    passed = encode(Transit(16, 9, "site-1", "server", 7, header, (part,)))
    assert passed == [header[:3] + b"\x09" + header[4:], part]
    assert passed[1] is part
    assert header[3] == 0, "the frame that came is not touched"


@pytest.mark.parametrize("hops", [-1, 128])
def test_a_hop_count_that_does_not_fit_its_byte_is_a_bug_of_ours(hops: int) -> None:
    with pytest.raises(LocalProtocolError, match="hop count"):
        encode(Transit(16, hops, "a", "b", 1, encode(request())[0], ()))  # type: ignore[arg-type]
