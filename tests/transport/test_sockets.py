"""Addresses: which may be bound, which must be refused, and what is said then."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator

import pytest
import zmq

from zdl.errors import OptionError
from zdl.transport.sockets import (
    advertised,
    bind,
    check_listen,
    check_versions,
    forget_ipc,
    is_loopback,
    make_context,
    make_dealer,
    make_router,
)

from trees import Trees


@pytest.fixture
def router() -> Iterator[zmq.Socket[bytes]]:
    context, _ = make_context(())
    made = make_router(context, is_data=False)
    yield made
    made.close(0)
    context.term()


def test_this_libzmq_is_new_enough() -> None:
    check_versions()


@pytest.mark.parametrize(("address", "expected"), [
    ("tcp://127.0.0.1:8800", True), ("tcp://127.8.8.8:0", True), ("tcp://localhost:1", True), ("tcp://[::1]:8800", True),
    ("ipc:///tmp/x", True), ("inproc://x", True),
    ("tcp://0.0.0.0:8800", False), ("tcp://*:8800", False), ("tcp://10.0.0.5:8800", False), ("tcp://[::]:8800", False),
    ("tcp://example.org:8800", False), ("tcp://eth0:8800", False), ("tcp://127.0.0.1.example.org:1", False),
])
def test_only_this_machine_reaches_loopback(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected


@pytest.mark.parametrize("address", ["", "tcp", "tcp://", "127.0.0.1:8800", "udp://127.0.0.1:1", "http://x:1", "tcp://127.0.0.1",
                                     "ipc://", "inproc://"])
def test_what_is_no_address_is_refused_with_the_forms_that_are(address: str) -> None:
    with pytest.raises(OptionError) as caught:
        check_listen(address, is_insecure=True)
    assert caught.value.name == "listen"
    assert "tcp://" in caught.value.allowed


@pytest.mark.parametrize("address", ["tcp://0.0.0.0:8800", "tcp://*:0", "tcp://10.0.0.5:8800", "tcp://[::]:1"])
def test_other_machines_are_let_in_only_when_asked_for(address: str) -> None:
    with pytest.raises(OptionError, match="insecure=True"):
        check_listen(address, is_insecure=False)
    check_listen(address, is_insecure=True)


def test_port_0_becomes_a_real_port(router: zmq.Socket[bytes]) -> None:
    address = bind(router, "tcp://127.0.0.1:0")
    assert address.startswith("tcp://127.0.0.1:") and not address.endswith((":0", ":*"))
    host, _, port = address.removeprefix("tcp://").partition(":")
    socket.create_connection((host, int(port))).close()


def test_a_port_that_is_taken_is_refused_by_name(router: zmq.Socket[bytes]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(OptionError) as caught:
            bind(router, address)
    assert caught.value.value == address
    assert "in use" in caught.value.allowed


def test_an_address_of_another_machine_is_refused(router: zmq.Socket[bytes]) -> None:
    with pytest.raises(OptionError, match="cannot be bound"):
        bind(router, "tcp://192.0.2.1:8800")


def test_an_ipc_socket_is_its_owners_alone_and_is_removed(router: zmq.Socket[bytes], trees: Trees) -> None:
    address = trees.address("ipc")
    assert bind(router, address) == address
    path = address.removeprefix("ipc://")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    forget_ipc(address)
    assert not os.path.exists(path)
    forget_ipc(address)
    forget_ipc("tcp://127.0.0.1:1")


def test_an_ipc_path_of_the_living_is_not_taken_over(router: zmq.Socket[bytes], trees: Trees) -> None:
    path = trees.address("ipc").removeprefix("ipc://")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen()
        with pytest.raises(OptionError, match="process [0-9]+ .* listens there"):
            bind(router, f"ipc://{path}")
    os.unlink(path)


def test_an_ipc_path_of_the_dead_is_used_again(router: zmq.Socket[bytes], trees: Trees) -> None:
    path = trees.address("ipc").removeprefix("ipc://")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
    assert os.path.exists(path)
    bind(router, f"ipc://{path}")
    forget_ipc(f"ipc://{path}")


def test_an_ipc_path_without_a_folder_is_refused(router: zmq.Socket[bytes], trees: Trees) -> None:
    with pytest.raises(OptionError, match="folder cannot be opened"):
        bind(router, f"ipc://{trees.folder}/missing/x")


def test_an_ipc_path_that_is_too_long_is_refused(router: zmq.Socket[bytes], trees: Trees) -> None:
    with pytest.raises(OptionError, match="cannot be bound"):
        bind(router, f"ipc://{trees.folder}/{'x' * 120}")


def test_what_is_bound_to_all_is_told_by_the_name_of_the_machine() -> None:
    assert advertised("tcp://0.0.0.0:8800") == f"tcp://{socket.gethostname()}:8800"
    assert advertised("tcp://[::]:8800") == f"tcp://{socket.gethostname()}:8800"
    assert advertised("tcp://10.0.0.5:8800") == "tcp://10.0.0.5:8800"
    assert advertised("ipc:///tmp/x") == "ipc:///tmp/x"
    assert advertised("tcp://0.0.0.0:8800", "gpu-7") == advertised("tcp://127.0.0.1:8800", "gpu-7") == "tcp://gpu-7:8800"
    assert advertised("tcp://[::]:8800", "fe80::7") == "tcp://[fe80::7]:8800"
    assert advertised("inproc://x", "gpu-7") == "inproc://x"
    with pytest.raises(OptionError, match="option advertise=tcp://gpu-7 is not allowed"):
        advertised("tcp://0.0.0.0:8800", "tcp://gpu-7")


def test_cells_within_one_process_share_a_context_only_for_inproc() -> None:
    own, is_own = make_context(("tcp://127.0.0.1:0", "ipc:///tmp/x"))
    shared, is_shared = make_context(("tcp://127.0.0.1:0", "inproc://x"))
    again, _ = make_context(("inproc://y",))
    assert (is_own, is_shared) == (True, False)
    assert shared is again and own is not shared
    own.term()


def test_a_socket_bounds_what_a_peer_may_claim() -> None:
    context, _ = make_context(())
    for made in (make_router(context, is_data=False), make_dealer(context, is_data=True)):
        assert made.getsockopt(zmq.MAXMSGSIZE) == 16 << 20
        assert made.getsockopt(zmq.LINGER) == 0
        assert made.getsockopt(zmq.HANDSHAKE_IVL) == 3000
        made.close()
    context.term()
