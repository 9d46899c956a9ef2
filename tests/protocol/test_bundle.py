"""Bundles: several small messages as one, and nothing that is not quite one."""

from __future__ import annotations

import msgpack
import pytest

from zdl.errors import DecodeError
from zdl.protocol.bundle import bundled, is_bundle, unbundled
from zdl.protocol.decode import decode
from zdl.protocol.encode import encode
from zdl.protocol.frames import BUNDLE_BYTES_MAX, BUNDLE_MAX
from zdl.protocol.messages import Part, Request


def request(number: int) -> Request:
    """A request with a small body."""
    return Request("site-1", "server", number, "task", "run", 3.0, {}, (b"body",))


def headers_of(count: int) -> list[Part]:
    """So many messages that are one frame each."""
    return [encode(request(number))[0] for number in range(count)]


def frame(headers: object, *, count: int = 2) -> bytes:
    """The frame of a bundle of whatever is wanted."""
    return bytes(bundled(headers_of(2))[0])[:6] + bytes((count,)) + msgpack.packb(headers)


@pytest.mark.parametrize("count", [2, 3, BUNDLE_MAX])
def test_messages_come_out_of_a_bundle_as_they_went_in(count: int) -> None:
    (head,) = bundled(headers_of(count))
    assert isinstance(head, bytes) and is_bundle(head)
    assert [decode(each, (), me="server") for each in unbundled(head, ())] == [request(number) for number in range(count)]


def test_headers_may_be_buffers() -> None:
    headers = headers_of(2)
    (head,) = bundled([memoryview(each) for each in headers])
    assert unbundled(bytes(head), ()) == headers


def test_other_messages_are_no_bundles() -> None:
    assert not any(is_bundle(bytes(each)) for each in (*headers_of(1), b"", b"\x96\x01"))


def test_a_bundle_is_no_message_itself_and_goes_into_no_other() -> None:
    (head,) = bundled(headers_of(2))
    (outer,) = bundled([head, *headers_of(1)])
    inner, _ = unbundled(bytes(outer), ())
    for each in (head, inner):
        with pytest.raises(DecodeError):
            decode(bytes(each), (), me="server")


def test_what_says_another_number_or_holds_too_few_or_too_many_is_refused() -> None:
    headers = headers_of(3)
    head = bytes(bundled(headers)[0])
    for wrong in (frame(headers), frame(headers[:1], count=1), frame([], count=0), head[:-1], head + b"\x00", head[:7], head[:6],
                  b"",
                  b"\x96" + head[1:], head[:3] + b"\x01" + head[4:], bytes(bundled(headers_of(BUNDLE_MAX + 1))[0])):
        with pytest.raises(DecodeError, match="bundle"):
            unbundled(wrong, ())


def test_a_bundle_with_frames_beside_it_is_refused() -> None:
    with pytest.raises(DecodeError, match="more than one frame"):
        unbundled(bytes(bundled(headers_of(2))[0]), [b""])


@pytest.mark.parametrize("wrong", [[b"", "text"], [b"", 1], [b"", [b""]], [b"", {}], [b"", None], {b"": b""}, b"bytes", 2, None,
                                   [b"", bytes(BUNDLE_BYTES_MAX + 1)], [b"", msgpack.ExtType(1, b"")]],
                         ids=lambda each: f"{each!r:.20}")
def test_what_is_no_list_of_small_headers_is_refused(wrong: object) -> None:
    with pytest.raises(DecodeError, match="bundle"):
        unbundled(frame(wrong), ())


def test_a_bundle_that_nests_for_ever_is_refused() -> None:
    with pytest.raises(DecodeError, match="bundle"):
        unbundled(frame([]) + b"\x91" * 100_000, ())
    with pytest.raises(DecodeError, match="bundle"):
        unbundled(frame([])[:-1] + b"\x91" * 100_000, ())
