"""Bundles: several small messages as one, and nothing that is not quite one."""

from __future__ import annotations

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


def headers(count: int) -> list[Part]:
    """So many messages that are one frame each."""
    return [encode(request(number))[0] for number in range(count)]


@pytest.mark.parametrize("count", [2, 3, BUNDLE_MAX])
def test_messages_come_out_of_a_bundle_as_they_went_in(count: int) -> None:
    head, *frames = bundled(headers(count))
    assert isinstance(head, bytes) and is_bundle(head)
    opened = unbundled(head, frames)
    assert [decode(each, (), me="server") for each in opened] == [request(number) for number in range(count)]


def test_frames_may_be_buffers() -> None:
    head, *frames = bundled(headers(2))
    assert isinstance(head, bytes)
    assert unbundled(head, [memoryview(frame) for frame in frames]) == frames


def test_other_messages_are_no_bundles() -> None:
    assert not any(is_bundle(bytes(each)) for each in (*headers(1), b"", b"\x96\x01"))


def test_a_bundle_is_no_message_itself() -> None:
    head, *frames = bundled(headers(2))
    assert isinstance(head, bytes)
    with pytest.raises(DecodeError):
        decode(head, tuple(frames), me="server")


def test_what_says_another_number_or_holds_too_few_is_refused() -> None:
    head, *frames = bundled(headers(3))
    assert isinstance(head, bytes)
    single = bundled(headers(1))
    many = bundled(headers(BUNDLE_MAX + 1))
    for wrong, rest in ((head, frames[:2]), (head, [*frames, frames[0]]), (head[:-1], frames), (head + b"\x00", frames),
                        (b"\x95" + head[1:], frames), (head[:3] + b"\x01" + head[4:], frames), (single[0], single[1:]),
                        (many[0], many[1:]), (head, [])):
        with pytest.raises(DecodeError, match="bundle"):
            unbundled(bytes(wrong), rest)


def test_a_bundle_in_a_bundle_and_a_message_that_is_too_large_are_refused() -> None:
    inner, *_ = bundled(headers(2))
    head, *frames = bundled([*headers(1), inner])
    with pytest.raises(DecodeError, match="bundle itself"):
        unbundled(bytes(head), frames)
    head, *frames = bundled([*headers(1), bytes(BUNDLE_BYTES_MAX + 1)])
    with pytest.raises(DecodeError, match="BUNDLE_BYTES_MAX"):
        unbundled(bytes(head), frames)
