"""A link with a round trip and a rate."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from zdl_bench.shaped import Shape, ShapedLink, Shaper

from waiting import eventually

MIB = 1 << 20


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def address_of(listener: socket.socket) -> str:
    return f"tcp://127.0.0.1:{listener.getsockname()[1]}"


def dialled(address: str) -> socket.socket:
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    return socket.create_connection((host, int(port)))


def whole(connection: socket.socket, length: int) -> bytes:
    found = b""
    while len(found) < length and (data := connection.recv(1 << 16)):
        found += data
    return found


def test_bytes_pass_both_ways_unchanged_and_in_order(listener: socket.socket) -> None:
    sent = bytes(range(256)) * 2048
    with ShapedLink(Shape(0.0, 1e9)) as link, dialled(link.open(address_of(listener))) as near:
        far, _ = listener.accept()
        with far:
            for source, sink in ((near, far), (far, near)):
                sender = threading.Thread(target=source.sendall, args=(sent,))
                sender.start()
                assert whole(sink, len(sent)) == sent
                sender.join()


def test_a_round_trip_takes_no_less_than_it_should(listener: socket.socket) -> None:
    with ShapedLink(Shape(0.04, 1e9)) as link, dialled(link.open(address_of(listener))) as near:
        far, _ = listener.accept()
        with far:
            began = time.monotonic()
            near.sendall(b"ping")
            far.sendall(whole(far, 4))
            assert whole(near, 4) == b"ping"
            assert time.monotonic() - began >= 0.04


def test_connections_share_the_rate(listener: socket.socket) -> None:
    size, rate = MIB // 4, 4 * MIB
    with ShapedLink(Shape(0.0, rate)) as link, dialled(address := link.open(address_of(listener))) as one, \
            dialled(address) as other:
        ends = [listener.accept()[0] for _ in range(2)]
        began = time.monotonic()
        senders = [threading.Thread(target=each.sendall, args=(bytes(size),)) for each in (one, other)]
        for each in senders:
            each.start()
        for end in ends:
            assert len(whole(end, size)) == size
        assert time.monotonic() - began >= 2 * size / rate
        for each in senders:
            each.join()
        for end in ends:
            end.close()


def test_a_connection_has_no_more_on_the_way_than_its_pipe_holds(listener: socket.socket) -> None:
    with ShapedLink(Shape(3600.0, 1e9, pipe_bytes=MIB)) as link, dialled(link.open(address_of(listener))) as near:
        far, _ = listener.accept()
        near.setblocking(False)
        with far, suppress(BlockingIOError):
            while True:
                near.send(bytes(MIB))
        half = next(half for half in link._halves if half.direction == 0)
        eventually(lambda: half.held >= MIB)
        assert half.held <= MIB + 64 * 1024


def test_the_end_of_a_connection_passes(listener: socket.socket) -> None:
    with ShapedLink(Shape(0.002, 1e9)) as link, dialled(link.open(address_of(listener))) as near:
        far, _ = listener.accept()
        with far:
            near.sendall(b"last words")
            near.shutdown(socket.SHUT_WR)
            assert whole(far, 1 << 16) == b"last words"
        assert near.recv(1) == b""
        eventually(lambda: not link._halves)


def test_who_listens_no_more_ends_the_connection_of_who_dials(listener: socket.socket) -> None:
    with ShapedLink(Shape(0.0, 1e9)) as link:
        address = link.open(address_of(listener))
        listener.close()
        with dialled(address) as near, suppress(ConnectionResetError):
            assert near.recv(1) == b""


def test_a_link_can_become_another_one(listener: socket.socket) -> None:
    with ShapedLink(Shape(3600.0, 1e9)) as link, dialled(link.open(address_of(listener))) as near:
        far, _ = listener.accept()
        with far:
            link.reshape(Shape(0.0, 1e9))
            near.sendall(b"quick")
            assert whole(far, 5) == b"quick"


@pytest.mark.parametrize("wrong", [{"rtt_s": -1.0, "bytes_per_s": 1.0}, {"rtt_s": 0.0, "bytes_per_s": 0.0}])
def test_a_shape_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        Shape(**wrong)


def test_it_can_be_a_role_of_a_process(listener: socket.socket) -> None:
    shaper = Shaper()
    assert shaper.start(rtt_ms=0.0, bytes_per_s=1e9) == {"host": "127.0.0.2"}
    with dialled(shaper.open(address=address_of(listener))["address"]) as near:
        far, _ = listener.accept()
        with far:
            near.sendall(b"hello")
            assert whole(far, 5) == b"hello"
    shaper.stop()
