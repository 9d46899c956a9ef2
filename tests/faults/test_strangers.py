"""Who has no business at the port: noise, other protocols, lies about lengths, and connections that never speak."""

from __future__ import annotations

import os
import random
import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from zdl.assembly import Cell, process_facts
from zdl.options import Options
from zdl.protocol.frames import FRAMES_MAX
from zdl.protocol.messages import Reply, Request

from rawpeer import RawPeer
from trees import Trees
from waiting import PATIENCE_S, eventually

# A greeting of ZMTP 3.1 for a link without keys, and the command that ends the handshake.
GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x01" + b"NULL".ljust(20, b"\0") + b"\0" + bytes(31)
_READY = b"\x05READY" + b"\x0bSocket-Type" + (6).to_bytes(4, "big") + b"DEALER"
READY = b"\x04" + bytes([len(_READY)]) + _READY
OTHER_PROTOCOLS = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: nmap\r\n\r\n" + b"X-Filler: " + b"x" * 300 + b"\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 2,  # the hello of a TLS client
    b"SSH-2.0-OpenSSH_9.6\r\n" + b"\0" * 400,
    b"\x00\x00\x00\x71\x6a\x81\x6e\x30\x81\x6b\xa1\x03\x02\x01\x05" + bytes(300),  # a probe for Kerberos
    b"\x80\x02}q\x01(X\x03\x00\x00\x00cmdq\x02X\x04\x00\x00\x00exitq\x03u." * 20,  # a pickle
    bytes(1000), b"\xff" * 1000, b"A" * 5000,
)


@contextmanager
def dialled(address: str, say: bytes = b"") -> Iterator[socket.socket]:
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    with socket.create_connection((host, int(port)), PATIENCE_S) as connection:
        if say:
            connection.sendall(say)
        yield connection


def is_closed_by_the_other_side(connection: socket.socket) -> bool:
    """Reads to the end of the connection; False when that does not come."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


def sockets_count() -> int:
    """Of this process."""
    found = 0
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the one that lists them
            found += os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:")
    return found


@pytest.fixture
def server(trees: Trees) -> Cell:
    """A server with one honest child, which the fixture `honest` gives."""
    server, _ = trees.grow("server", "site-1", options=Options())
    server.handler("task", "echo")(lambda request: request.body)
    return server


@pytest.fixture
def honest(trees: Trees, server: Cell) -> Cell:
    made = trees.add(Cell("site-2", parent=server.addresses[0]))
    eventually(lambda: len(server.peers) == 4, what="both lanes of both links")
    return made


@pytest.mark.fault("H1")
def test_h1_noise_and_other_protocols_are_hung_up_on_and_hurt_nobody(server: Cell, honest: Cell) -> None:
    before = sockets_count()
    noise = random.Random(1)
    with ExitStack() as stack:
        everything = (*OTHER_PROTOCOLS, *(b"\xfe" + noise.randbytes(noise.randrange(64, 3000)) for _ in range(40)))
        connections = []
        for address in (server.addresses[0], server.data_addresses[0]):
            for say in everything:
                connections.append(stack.enter_context(dialled(address)))
                with suppress(ConnectionError):  # it was hung up on before it had finished
                    connections[-1].sendall(say)
        assert honest.request("server", "task", "echo", 1).body == 1
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
        assert honest.request("server", "task", "echo", {"x": b"x" * 100_000}).body == {"x": b"x" * 100_000}
    eventually(lambda: sockets_count() <= before, what="the end of the strangers' connections")
    assert {peer.fqcn for peer in server.peers} == {"site-1", "site-2"}


@pytest.mark.fault("H2")
@pytest.mark.parametrize("claim", [(1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 30, (16 << 20) + 1])
def test_h2_a_frame_that_claims_too_much_ends_its_connection_and_costs_no_memory(
        server: Cell, honest: Cell, claim: int) -> None:
    before = process_facts().rss_bytes
    with dialled(server.addresses[0], GREETING + READY + b"\x02" + claim.to_bytes(8, "big") + b"x" * 100) as liar:
        assert is_closed_by_the_other_side(liar)
    assert honest.request("server", "task", "echo", 1).body == 1
    assert process_facts().rss_bytes < before + (64 << 20)


@pytest.mark.fault("H3")
def test_h3_a_message_of_too_many_frames_is_refused_counted_and_ends_nothing(
        server: Cell, honest: Cell, caplog: pytest.LogCaptureFixture) -> None:
    loop = server._open_lanes().control_loop
    with RawPeer(server.addresses[0], "site-9") as peer:
        peer.join()
        before = loop.undecoded
        caplog.clear()
        for count in (FRAMES_MAX + 1, *[3 * FRAMES_MAX] * 50):
            peer.send_frames(*([b"x"] * count))
        eventually(lambda: loop.undecoded == before + 51)
        told = [record.getMessage() for record in caplog.records if "undecodable" in record.getMessage()]
        assert len(told) == 1 and "from=site-9" in told[0] and f"FRAMES_MAX={FRAMES_MAX}" in told[0], told
        peer.send(Request("site-9", "server", 3, "task", "echo", 30.0, {}, (b"\x92\x90\x07",)))
        assert isinstance(peer.receive(), Reply), "its link stands"
    assert honest.request("server", "task", "echo", 1).body == 1


@pytest.mark.fault("H4")
def test_h4_connections_that_never_speak_are_closed_and_hold_nobody_up(server: Cell, honest: Cell) -> None:
    count = 200
    with ExitStack() as stack:
        idle = selectors.DefaultSelector()
        stack.callback(idle.close)
        for number in range(count):  # some say nothing at all, some half a greeting
            idle.register(stack.enter_context(dialled(server.addresses[0], GREETING[:number % 40])), selectors.EVENT_READ)
        closed: set[socket.socket] = set()

        def all_are_closed() -> bool:
            assert honest.request("server", "task", "echo", 1).body == 1
            for key, _ in idle.select(0.01):
                connection = key.fileobj
                assert isinstance(connection, socket.socket)
                try:
                    is_open = bool(connection.recv(4096))
                except ConnectionError:
                    is_open = False
                if not is_open:
                    idle.unregister(connection)
                    closed.add(connection)
            return len(closed) == count

        eventually(all_are_closed, what="the end of all idle connections")


@pytest.mark.fault("H5")
def test_h5_broken_handshakes_by_the_hundred_leave_the_honest_answered(server: Cell, honest: Cell) -> None:
    before = sockets_count()
    stop = threading.Event()
    made = [0, 0, 0]

    def storm(number: int) -> None:
        rng = random.Random(number)
        while not stop.is_set():
            hello = bytearray(GREETING + READY)
            for _ in range(rng.randrange(1, 6)):
                hello[rng.randrange(len(hello))] = rng.randrange(256)
            try:
                with dialled(server.addresses[0], bytes(hello[:rng.randrange(1, len(hello))])):
                    made[number] += 1
            except ConnectionError:
                continue

    threads = [threading.Thread(target=storm, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        asked = 0
        while sum(made) < 600 or asked < 100:
            assert honest.request("server", "task", "echo", asked).body == asked
            asked += 1
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE_S)
    eventually(lambda: sockets_count() <= before, what="the end of the broken connections")
    assert {peer.fqcn for peer in server.peers} == {"site-1", "site-2"}
