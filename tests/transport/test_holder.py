"""Holder: whoever listens at an address is found by it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from zdl.transport.holder import holder_of


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_who_listens_at_a_port_is_found_by_any_of_the_machines_addresses(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        port = listener.getsockname()[1]
        for address in (f"tcp://{host}:{port}", f"tcp://*:{port}"):
            assert holder_of(address).startswith(f"process {os.getpid()} (")


def test_who_listens_at_a_path_is_found(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        assert holder_of(f"ipc://{path}") == "", "it does not listen yet"
        listener.listen()
        assert holder_of(f"ipc://{path}").startswith(f"process {os.getpid()} (")
    os.unlink(path)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "ipc:///no/such/path", "inproc://x", "nonsense", ""])
def test_where_nobody_listens_nobody_is_named(address: str) -> None:
    assert holder_of(address) == ""
